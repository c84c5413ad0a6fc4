"""Patterns of rooms and objects: paint, cloth, wood, tiles, books, paintings, vehicles, toys."""

import numpy as np

from cka_probe.lab.scenes.surface import Array, Surface, half_extent, noise, scatter, smooth


def plain(s: Surface) -> Array:
    """Paint or plaster: broad, faint unevenness."""
    return s.mix(np.clip(0.3 + 0.45 * noise(s.xyz * 7), 0, 1))


def plaster(s: Surface) -> Array:
    """Hand-applied plaster: broad unevenness, and the grain of the trowel."""
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
    half = half_extent(s.u, s.edge[0])  # doors are counted from the face's left side
    a = (s.u + half) / s.size
    gap = np.minimum(np.abs(a - np.round(a)) * s.size, (1 - np.abs(s.edge[1])) * 0.4)
    knob = np.hypot((np.abs(a - np.floor(a) - 0.5) - 0.36) * s.size, s.edge[1] * 0.35 - 0.03)
    shade = 0.35 + 0.65 * smooth(gap, 0.004, 0.03)
    shade = shade * (0.4 + 0.6 * smooth(knob, 0.02, 0.035))
    return wood(s) * shade[:, None]


def books(s: Surface) -> Array:
    """Spines of books, each with its own colour, height and shadow."""
    column = np.floor(s.u / s.size)
    pick, level = scatter(column, column + 11), scatter(column, column * 5 + 2)
    hue = np.stack([pick, scatter(column, column + 3), scatter(column, column + 7)], axis=1)
    back = 0.05 + 0.55 * hue * s.mix(level) + 0.25 * s.mix(pick)
    gap = smooth(np.abs(s.u / s.size - np.round(s.u / s.size)), 0.03, 0.15)
    above = smooth(s.edge[1], 0.45 + 0.5 * level, 0.5 + 0.5 * level)
    return back * (gap * (1 - 0.9 * above) * (0.9 + 0.25 * noise(s.xyz * 15)))[:, None]


def painting(s: Surface) -> Array:
    """A painting: blots of two colours and their opposites, a mount and a frame."""
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
    """A window at night: the glow of a town, black trees, some distant lit windows."""
    trees = _trees(s)
    column, row = np.floor(s.u / 0.1), np.floor(s.v / 0.12)
    off = np.maximum(np.abs(s.u / 0.1 - column - 0.5) * 1.6, np.abs(s.v / 0.12 - row - 0.5))
    lit = (scatter(column, row) > 0.8) & (off < 0.25) & (s.edge[1] < 0.1)
    sky = s.mix(smooth(-s.edge[1] + 0.3 * noise(s.xyz * 4), -0.3, 0.9)) * (1 - 0.9 * trees)
    return _barred(s, np.where(lit[:, None], np.array([1.0, 0.72, 0.38], np.float32), sky))


def _trees(s: Surface) -> Array:
    """Return (n, 1) coverage by trees outside a window, 0 to 1."""
    return smooth(0.5 * noise(s.xyz * 6) - s.edge[1] * 1.4, 0.1, 0.6)[:, None]


def _barred(s: Surface, view: Array) -> Array:
    """Return a view through a window, with its frame and bars in front."""
    bars = np.minimum(np.minimum(np.abs(s.edge[0]), np.abs(s.edge[1] - 0.2)) + 0.05, 1 - np.abs(s.edge).max(axis=0))
    return np.where(bars[:, None] < 0.09, np.float32(0.5), view)


def rug(s: Surface) -> Array:
    """A carpet: border, field, a medallion pattern."""
    rim = np.abs(s.edge).max(axis=0)
    rings = np.sin(12 * np.hypot(s.edge[0], s.edge[1]) + 1.5 * np.sin(5 * np.arctan2(s.edge[1], s.edge[0])))
    share = np.where((rim > 0.72) & (rim < 0.9), 0.9, smooth(rings, -0.3, 0.3) * 0.7)
    return s.mix(np.clip(share + 0.25 * noise(s.xyz * 16), 0, 1))


def leaves(s: Surface) -> Array:
    """Foliage: strong, fine contrast."""
    return s.mix(np.clip(0.5 + 1.1 * noise(s.xyz * 15), 0, 1))


_GLASS = np.array([0.03, 0.04, 0.05], np.float32)
_MIRRORED = np.array([0.20, 0.24, 0.29], np.float32)
_TYRE = np.array([0.015, 0.015, 0.017], np.float32)
_REAR = np.array([0.55, 0.02, 0.02], np.float32)
_LAMP = np.array([0.85, 0.85, 0.80], np.float32)
_CAR = 4.3  # metres: length of the car that sizes of its parts refer to


def _shine(s: Surface) -> Array:
    """Return glossy paint of `first` with faint reflections, (n, 3)."""
    return s.first * (0.8 + 0.25 * noise(s.xyz * np.float32(1.7)) + 0.25 * smooth(s.edge[1], -0.3, 0.9))[:, None]


def bodywork(s: Surface) -> Array:
    """The body of a car of length `size`: doors and dark arches on its sides, lamps, grille and plate at its ends."""
    u, metre = s.u * (_CAR / s.size), s.size / _CAR
    x, z = half_extent(s.u, s.edge[0]) / metre, half_extent(s.v, s.edge[1]) / metre
    side, top = x > 1.3, z > 0.9
    doors = np.abs(u + 0.1)
    seams = (doors < 1.1) & ((doors > 1.08) | (doors < 0.02)) & (s.edge[1] > -0.7)
    arch = np.hypot(np.abs(u) - 0.62 * x, s.v / metre + z) < 0.37
    end, across, up = ~side & ~top, np.abs(s.edge[0]), s.edge[1]
    lamps = end & (across > 0.6) & (np.abs(up - 0.3) < 0.24)
    plate = end & (across < 0.28) & (np.abs(up + 0.3) < 0.17)
    grille = end & (across < 0.55) & (np.abs(up - 0.25) < 0.16)
    dark = (side & ~top & (seams | arch)) | grille | (~top & (up < -0.86))
    colours = np.where(dark[:, None], 0.25 * s.second, _shine(s))
    rear = s.xyz[1] - s.xyz[2] + s.v < 0  # y in the solid's own axes: the offset of xyz is one for all three
    colours = np.where((lamps & rear)[:, None], _REAR, colours)
    return np.where((lamps & ~rear | plate)[:, None], _LAMP, colours)


def cabin(s: Surface) -> Array:
    """The cabin of a car of length `size`: glass between pillars of `first`, which is also the roof."""
    metre = s.size / _CAR
    x, z = half_extent(s.u, s.edge[0]) / metre, half_extent(s.v, s.edge[1]) / metre
    top, side = z > 0.65, x > 0.95
    frame = (np.abs(s.edge[0]) > 0.94) | (side & (np.abs(s.edge[0] + 0.08) < 0.045)) | (s.edge[1] < -0.9)
    mirrored = smooth(s.edge[1] + 0.8 * noise(s.xyz * np.float32(1.9)), -0.5, 1.0)[:, None]
    glass = _GLASS + mirrored * (_MIRRORED - _GLASS)
    return np.where((top | frame)[:, None], _shine(s), glass)


def paint(s: Surface) -> Array:
    """Glossy paint of `first`."""
    return _shine(s)


def coach(s: Surface) -> Array:
    """The body of a bus, tram or train: a band of windows `size` wide, doors and a stripe of `second`."""
    x, z = half_extent(s.u, s.edge[0]), half_extent(s.v, s.edge[1])
    a = (s.u + x) / s.size
    across, top, up = np.abs(a - np.floor(a) - 0.5), z > 2.2 * s.size, s.edge[1]
    door = (np.floor(a) % 4 == 1) & (across < 0.42) & (up > -0.8) & (up < 0.7)
    pane = (up > 0.0) & (up < 0.62) & (across < 0.46)
    mirrored = smooth(up + 0.7 * noise(s.xyz * np.float32(0.9)), -0.2, 1.2)[:, None]
    glass = _GLASS + mirrored * (_MIRRORED - _GLASS)
    stripe = (up < -0.25) & (up > -0.5)
    body = np.where(stripe[:, None], s.second, _shine(s))
    body = np.where((up < -0.88)[:, None], _TYRE, body)
    return np.where((~top & (pane | door))[:, None], glass, body)


def wheel(s: Surface) -> Array:
    """A tyre around a rim with spokes, on a flat ellipsoid that is thin along x."""
    r, angle = np.hypot(s.edge[0], s.edge[1]), np.arctan2(s.edge[1], s.edge[0])
    spokes = 0.35 + 0.3 * smooth(np.sin(5 * angle), -0.4, 0.4) + 0.1 * noise(s.xyz * 20)
    return np.where((r < 0.6)[:, None], s.first * spokes[:, None], _TYRE + 0.02 * (r[:, None] > 0.9))


def roundel(s: Surface) -> Array:
    """A round sign on a flat ellipsoid that is thin along x: a ring of `first`, a field of `second`, figures."""
    r = np.hypot(s.edge[0], s.edge[1])
    figure = (np.abs(np.abs(s.edge[0]) - 0.22) < 0.13) & (np.abs(s.edge[1]) < 0.34)
    figure &= ~((np.abs(np.abs(s.edge[0]) - 0.22) < 0.05) & (np.abs(np.abs(s.edge[1]) - 0.14) < 0.08))
    share = np.where(r < 0.7, np.where(figure, 0.1, 1.0), 0.0)
    return s.mix(share) * (0.92 + 0.1 * noise(s.xyz * 9))[:, None]


def signal(s: Surface) -> Array:
    """The box of a traffic light: three dim lenses one above the other on black."""
    y = s.edge[1] * 1.5
    lens = np.hypot(s.edge[0], (y - np.round(np.clip(y, -1, 1))) * 2) < 0.66
    return np.where(lens[:, None], 0.10 + 0.08 * s.second, s.first * (0.8 + 0.4 * noise(s.xyz * 9))[:, None])


def football(s: Surface) -> Array:
    """White leather with twelve dark patches, on a ball whose radius is `size`."""
    azimuth, z = s.u / s.size, np.clip(s.edge[1], -1, 1)
    level = np.sqrt(np.maximum(1 - z * z, 0))
    ways = np.stack([np.cos(azimuth) * level, np.sin(azimuth) * level, z])
    close = np.sort(_TWELVE @ ways, axis=0)
    seam = smooth(close[-1] - close[-2], 0.02, 0.06) * smooth(np.abs(close[-1] - 0.93), 0.006, 0.016)
    dark = smooth(close[-1], 0.925, 0.935)
    return s.mix(dark) * (0.35 + 0.65 * seam * (0.95 + 0.2 * noise(s.xyz * 12)))[:, None]


_GOLD = (1 + 5**0.5) / 2
_TWELVE = np.array(
    [p for a in (-1, 1) for b in (-_GOLD, _GOLD) for p in ((0, a, b), (a, b, 0), (b, 0, a))], np.float32
) / np.float32((1 + _GOLD**2) ** 0.5)


def segments(s: Surface) -> Array:
    """Six segments from pole to pole, `first`, white and `second` alternating, on a ball whose radius is `size`."""
    turn = np.floor((s.u / s.size + np.pi) * (3 / np.pi)) % 6
    share = np.array([0, 2, 1, 0, 2, 1])[turn.astype(int)]
    cap = np.abs(s.edge[1]) > 0.97
    colours = np.where((share == 2)[:, None] | cap[:, None], np.float32(0.85), s.mix((share == 1).astype(np.float32)))
    return colours * (0.93 + 0.12 * noise(s.xyz * 12))[:, None]


def ribs(s: Surface) -> Array:
    """Upright ribs `size` apart with pale dots along them: a cactus, a fluted vase."""
    a, b = s.u / s.size, s.v / s.size
    rib = 0.5 + 0.5 * np.cos(2 * np.pi * a)
    dots = np.hypot(a - np.round(a), b * 0.8 - np.round(b * 0.8)) < 0.2
    skin = s.mix(np.clip(0.75 * rib + 0.3 * noise(s.xyz * 14), 0, 1))
    return np.where(dots[:, None], 0.45 + 0.4 * s.second, skin)


def dial(s: Surface) -> Array:
    """A clock on a flat ellipsoid or box thin along x: twelve marks, two hands, a rim of `second`."""
    y, z = s.edge
    r, angle = np.hypot(y, z), np.arctan2(y, z)
    hour = angle * (6 / np.pi)
    marks = (np.abs(hour - np.round(hour)) < 0.14) & (np.abs(r - 0.68) < 0.09)
    short, long = s.size * 37.0 % 6.28, s.size * 91.0 % 6.28
    hands = np.zeros(len(r), bool)
    for way, reach, wide in ((short, 0.4, 0.06), (long, 0.62, 0.04)):
        along, across = y * np.sin(way) + z * np.cos(way), y * np.cos(way) - z * np.sin(way)
        hands |= (along > -0.08) & (along < reach) & (np.abs(across) < wide)
    face = s.first * (0.93 + 0.12 * noise(s.xyz * 12))[:, None]
    face = np.where((marks | hands | (r < 0.07))[:, None], np.float32(0.03), face)
    return np.where((r > 0.84)[:, None], s.second, face)


def spots(s: Surface) -> Array:
    """Blots of `second`, of about `size`, on `first`."""
    fine = noise(s.xyz * (9 / s.size))
    return s.mix(smooth(noise(s.xyz * (1.6 / s.size)) + 0.15 * fine, 0.22, 0.32)) * (0.94 + 0.12 * fine)[:, None]


def blush(s: Surface) -> Array:
    """The skin of a fruit: streaks of `second` from the stem down over `first`."""
    streaks = noise(np.stack([s.u * (8 / s.size), s.v * (1 / s.size), s.xyz[2] * 0 + 3]))
    return s.mix(np.clip(0.45 + 0.5 * s.edge[1] * 0.6 + 0.6 * streaks, 0, 1))


def glaze(s: Surface) -> Array:
    """Glazed ware: two bands of `second` and an unevenness of firing."""
    band = (np.abs(np.abs(s.edge[1] - 0.05) - 0.45) < 0.1) | (np.abs(s.edge[1] - 0.05) < 0.05)
    return s.mix(np.where(band, 0.9, 0.0).astype(np.float32)) * (0.88 + 0.25 * noise(s.xyz * 17))[:, None]


def icing(s: Surface) -> Array:
    """A cake: `second` runs down over `first` in drops."""
    drops = 0.35 * np.sin(s.u * (2 * np.pi) / s.size) + 0.25 * np.sin(s.u * (4.3 * np.pi) / s.size + 1)
    share = smooth(s.edge[1] - 0.15 + drops, -0.06, 0.06)
    return s.mix(share) * (0.85 + 0.3 * noise(s.xyz * 30))[:, None]


def planking(s: Surface) -> Array:
    """A crate: boards `size` wide across each face inside a frame."""
    row = np.floor(s.v / s.size)
    frame = np.abs(s.edge).max(axis=0) > 0.78
    tone = np.where(frame, 0.15, 0.3 + 0.5 * scatter(row, row + 3))
    grain = noise(np.stack([s.u * 9 + s.xyz[0], s.v * 60, s.xyz[1] * 9]))
    gap = np.abs(s.v / s.size - np.round(s.v / s.size)) * s.size
    rim = np.abs(np.abs(s.edge).max(axis=0) - 0.78)
    dark = 0.35 + 0.65 * smooth(np.where(frame, 1.0, gap), 0.002, 0.01) * smooth(rim, 0.005, 0.03)
    return s.mix(np.clip(tone + 0.35 * grain, 0, 1)) * dark[:, None]


def metal(s: Surface) -> Array:
    """Worn metal: scratches across it and stains."""
    scratches = noise(np.stack([s.xyz[0] * 6, s.xyz[1] * 6, s.xyz[2] * 90]))
    return s.mix(np.clip(0.4 + 0.35 * scratches + 0.35 * noise(s.xyz * 8), 0, 1))
