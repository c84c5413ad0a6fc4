"""Patterns of what is found indoors: paint, cloth, wood, tiles, books, images."""

import numpy as np

from cka_probe.lab.scenes.surface import Array, Surface, noise, scatter, smooth


def plain(s: Surface) -> Array:
    """Paint or plaster: broad, faint unevenness."""
    return s.mix(np.clip(0.3 + 0.45 * noise(s.xyz * 7), 0, 1))


def plaster(s: Surface) -> Array:
    """Plaster drawn by hand: broad unevenness, and the grain of the trowel."""
    grain = noise(np.stack([s.xyz[0] * 21, s.xyz[1] * 21, s.xyz[2] * 47]))
    return s.mix(np.clip(0.32 + 0.4 * noise(s.xyz * 5) + 0.38 * grain, 0, 1))


def wallpaper(s: Surface) -> Array:
    """Printed flowers, every other column half a period lower, faded here and there."""
    column = np.floor(s.u / s.size)
    x, y = s.u / s.size - column - 0.5, s.v / s.size + 0.5 * (column % 2)
    y = y - np.floor(y) - 0.5
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    petals = 0.27 + 0.1 * np.cos(5 * angle + 2 * scatter(column, column + 2))
    flower = smooth(petals - radius, -0.03, 0.03) * (1 - 0.7 * smooth(0.1 - radius, -0.02, 0.02))
    stem = smooth(0.035 - np.abs(x - 0.08 * np.sin(2 * np.pi * y)), -0.012, 0.012)
    return s.mix(np.clip(np.maximum(flower, 0.55 * stem) + 0.16 * noise(s.xyz * 9), 0, 1))


def fabric(s: Surface) -> Array:
    """A weave with folds."""
    weave = np.sin(s.u * (2 * np.pi) / s.size) * np.sin(s.v * (2 * np.pi) / s.size)
    return s.mix(np.clip(0.4 + 0.15 * weave + 0.5 * noise(s.xyz * 11), 0, 1))


def stripes(s: Surface) -> Array:
    """Upright stripes: wallpaper, curtains."""
    return s.mix(np.clip(smooth(np.sin(s.u * (2 * np.pi) / s.size), -0.35, 0.35) + 0.15 * noise(s.xyz * 12), 0, 1))


def checks(s: Surface) -> Array:
    """A chequered cloth or floor."""
    wave = np.sin(s.u * (np.pi / s.size)) * np.sin(s.v * (np.pi / s.size))
    return s.mix(np.clip(smooth(wave, -0.15, 0.15) + 0.15 * noise(s.xyz * 12), 0, 1))


def tiles(s: Surface) -> Array:
    """Tiles of slightly different shades with grout between them."""
    a, b = s.u / s.size, s.v / s.size
    shade = 0.75 + 0.35 * scatter(np.floor(a), np.floor(b)) + 0.12 * noise(s.xyz * 14)
    joint = np.minimum(np.abs(a - np.round(a)), np.abs(b - np.round(b)))
    return s.mix(1 - smooth(joint, 0.02, 0.07)) * shade[:, None]


def planks(s: Surface) -> Array:
    """Floor boards, each with its own tone and grain along it."""
    row = np.floor(s.v / s.size)
    along = s.u / 1.3 + scatter(row, row * 3 + 1)
    tone = scatter(row, np.floor(along))
    grain = noise(np.stack([s.u * 5, s.v * 70, row * 5.3 + tone * 40]))
    joint = np.minimum(np.abs(s.v / s.size - np.round(s.v / s.size)), np.abs(along - np.round(along)) * 8)
    return s.mix(np.clip(0.75 * tone + 0.3 * grain, 0, 1)) * (0.55 + 0.45 * smooth(joint, 0.0, 0.1))[:, None]


def wood(s: Surface) -> Array:
    """Boards of furniture: long grain."""
    grain = noise(np.stack([s.u * 4 + s.xyz[0], s.v * 28 + s.xyz[2] * 3, s.xyz[1] * 4]))
    return s.mix(np.clip(0.4 + 0.5 * grain, 0, 1))


def panels(s: Surface) -> Array:
    """Doors of a cupboard, a dark gap between them and a knob on each."""
    half = np.abs(s.u) / np.maximum(np.abs(s.edge[0]), 1e-6)  # doors are counted from the face's left side
    a = (s.u + half) / s.size
    gap = np.minimum(np.abs(a - np.round(a)) * s.size, (1 - np.abs(s.edge[1])) * 0.4)
    knob = np.hypot((np.abs(a - np.floor(a) - 0.5) - 0.36) * s.size, s.edge[1] * 0.35 - 0.03)
    shade = 0.35 + 0.65 * smooth(gap, 0.004, 0.03)
    shade = shade * (0.4 + 0.6 * smooth(knob, 0.02, 0.035))
    return wood(s) * shade[:, None]


def books(s: Surface) -> Array:
    """Backs of books: a colour, a height and a shadow each."""
    column = np.floor(s.u / s.size)
    pick, level = scatter(column, column + 11), scatter(column, column * 5 + 2)
    hue = np.stack([pick, scatter(column, column + 3), scatter(column, column + 7)], axis=1)
    back = 0.05 + 0.55 * hue * s.mix(level) + 0.25 * s.mix(pick)
    gap = smooth(np.abs(s.u / s.size - np.round(s.u / s.size)), 0.03, 0.15)
    above = smooth(s.edge[1], 0.45 + 0.5 * level, 0.5 + 0.5 * level)
    return back * (gap * (1 - 0.9 * above) * (0.9 + 0.25 * noise(s.xyz * 15)))[:, None]


def painting(s: Surface) -> Array:
    """An image on the wall: blots of two colours and their opposites, a mount and a frame."""
    blots = np.stack([noise(s.xyz * 5 + 9 * k) for k in range(3)], axis=1)
    canvas = np.clip(s.mix(smooth(blots[:, 0], -0.2, 0.3)) + 0.22 * blots, 0.02, 1)
    rim = np.abs(s.edge).max(axis=0)
    canvas = np.where(rim[:, None] > 0.78, np.float32(0.75), canvas)
    return np.where(rim[:, None] > 0.9, 0.06 + 0.3 * s.second, canvas)


def panes(s: Surface) -> Array:
    """A window: sky, trees below, a frame with bars."""
    trees = _trees(s)
    leaves = np.array([0.12, 0.22, 0.08], np.float32) * (1 + 0.8 * noise(s.xyz * 22))[:, None]
    sky = s.mix(np.clip(0.4 + 0.5 * s.edge[1] + 0.4 * noise(s.xyz * 4), 0, 1))
    return _barred(s, sky * (1 - trees) + leaves * trees)


def night(s: Surface) -> Array:
    """A window at night: the glow of a town, black trees, some lit windows far off."""
    trees = _trees(s)
    column, row = np.floor(s.u / 0.1), np.floor(s.v / 0.12)
    off = np.maximum(np.abs(s.u / 0.1 - column - 0.5) * 1.6, np.abs(s.v / 0.12 - row - 0.5))
    lit = (scatter(column, row) > 0.8) & (off < 0.25) & (s.edge[1] < 0.1)
    sky = s.mix(smooth(-s.edge[1] + 0.3 * noise(s.xyz * 4), -0.3, 0.9)) * (1 - 0.9 * trees)
    return _barred(s, np.where(lit[:, None], np.array([1.0, 0.72, 0.38], np.float32), sky))


def _trees(s: Surface) -> Array:
    """Return (n, 1) where trees stand before a window, 0 to 1."""
    return smooth(0.5 * noise(s.xyz * 6) - s.edge[1] * 1.4, 0.1, 0.6)[:, None]


def _barred(s: Surface, seen: Array) -> Array:
    """Return what is seen through a window, with its frame and bars before it."""
    bars = np.minimum(np.minimum(np.abs(s.edge[0]), np.abs(s.edge[1] - 0.2)) + 0.05, 1 - np.abs(s.edge).max(axis=0))
    return np.where(bars[:, None] < 0.09, np.float32(0.5), seen)


def rug(s: Surface) -> Array:
    """A carpet: border, field, a medallion pattern."""
    rim = np.abs(s.edge).max(axis=0)
    rings = np.sin(12 * np.hypot(s.edge[0], s.edge[1]) + 1.5 * np.sin(5 * np.arctan2(s.edge[1], s.edge[0])))
    share = np.where((rim > 0.72) & (rim < 0.9), 0.9, smooth(rings, -0.3, 0.3) * 0.7)
    return s.mix(np.clip(share + 0.25 * noise(s.xyz * 16), 0, 1))


def leaves(s: Surface) -> Array:
    """Foliage: strong, fine light and dark."""
    return s.mix(np.clip(0.5 + 1.1 * noise(s.xyz * 15), 0, 1))
