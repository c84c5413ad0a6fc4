"""Patterns of the ground, of plants and of the sky.

Fine grain has less contrast than broad patches, as in outdoor images: patches are still visible at a distance at which
blades of grass are smaller than a pixel. On roads, patches are elongated in the direction of travel (`v`), because a
road is seen foreshortened.
"""

import numpy as np

from cka_probe.lab.scenes.surface import Array, Surface, half_extent, noise, scatter, smooth

_WHITE = np.array([0.72, 0.72, 0.68], np.float32)
_NEAR = 35.0  # metres from the centre of a piece of ground beyond which fine grain fades


def _worn(s: Surface) -> Array:
    """Return the share (n,) of wear on asphalt: tracks and repairs along the road, and grit."""
    long = noise(np.stack([s.xyz[0] * 1.3, s.xyz[1] * 0.3, s.xyz[2]]))
    return np.clip(0.45 + 0.42 * long + 0.4 * noise(s.xyz * 7), 0, 1)


def _line(s: Surface, position: Array | float) -> Array:
    """Return 1 on a painted line along the road at u = `position`, 0 elsewhere."""
    return 1 - smooth(np.abs(s.u - position), 0.075, 0.075 + 0.03)


def asphalt(s: Surface) -> Array:
    """A road without markings."""
    return s.mix(_worn(s))


def lanes(s: Surface) -> Array:
    """A road with a dashed line every `size` metres from its centre and a solid line along each side."""
    sides = np.abs(np.abs(s.u) - half_extent(s.u, s.edge[0]) + 0.3)
    return _painted(s, _worn(s), np.maximum(_dashes(s, 0.28), 1 - smooth(sides, 0.075, 0.105)))


def avenue(s: Surface) -> Array:
    """A road with two solid lines at its centre and a dashed line every `size` metres from there."""
    middle = 1 - smooth(np.abs(np.abs(s.u) - 0.14), 0.06, 0.09)
    return _painted(s, _worn(s), np.maximum(_dashes(s, 0.3) * (np.round(s.u / s.size) != 0), middle))


def _dashes(s: Surface, gap: float) -> Array:
    """Return 1 on dashed lines every `size` metres, which end 1.2 m before the sides of the road, and 0 elsewhere."""
    row = np.round(s.u / s.size)
    inner = _line(s, row * s.size) * (np.abs(row) * s.size < half_extent(s.u, s.edge[0]) - 1.2)
    return inner * smooth(np.abs(s.v / 7.5 - np.round(s.v / 7.5)), gap, gap + 0.02)


def zebra(s: Surface) -> Array:
    """The bars of a zebra crossing."""
    bars = smooth(np.sin(s.u * (2 * np.pi) / s.size), -0.1, 0.1)
    return _painted(s, _worn(s), bars)


def _painted(s: Surface, wear: Array, paint: Array) -> Array:
    """Return worn asphalt with worn white paint on it."""
    share = (paint * (0.95 - 0.35 * wear))[:, None]
    return s.mix(wear) * (1 - share) + _WHITE * share


def paving(s: Surface) -> Array:
    """Slabs of a pavement, of slightly different shades, with stains."""
    a, b = s.u / s.size, s.v / s.size
    shade = 0.85 + 0.2 * scatter(np.floor(a), np.floor(b)) + 0.45 * noise(s.xyz * 1.5)
    joint = np.minimum(np.abs(a - np.round(a)), np.abs(b - np.round(b)))
    return s.mix(0.6 * (1 - smooth(joint, 0.015, 0.05))) * shade[:, None]


def meadow(s: Surface) -> Array:
    """Grass: broad contrast, dry patches, and blades near the camera."""
    near = 1 / (1 + (s.u * s.u + s.v * s.v) / _NEAR**2)
    broad = noise(s.xyz * 0.45)
    blades = noise(s.xyz * 6) * near
    dry = smooth(broad, 0.25, 0.9)[:, None] * np.array([0.10, 0.06, 0.01], np.float32)
    return s.mix(np.clip(0.45 + 0.33 * broad + 0.42 * blades, 0, 1)) + dry


def soil(s: Surface) -> Array:
    """Bare earth, gravel or sand."""
    return s.mix(np.clip(0.5 + 0.4 * noise(s.xyz * 0.9) + 0.4 * noise(s.xyz * 7), 0, 1))


def foliage(s: Surface) -> Array:
    """Crowns of trees and hedges: bunches of leaves of about `size` metres with dark gaps."""
    bunches, fine = noise(s.xyz / s.size), noise(s.xyz * (3.3 / s.size))
    return s.mix(np.clip(0.42 + 0.6 * bunches + 0.75 * fine, 0, 1)) * (0.75 + 0.5 * smooth(bunches, -0.6, 0.4))[:, None]


def bark(s: Surface) -> Array:
    """A trunk: vertical cracks."""
    return s.mix(np.clip(0.5 + 0.8 * noise(np.stack([s.xyz[0] * 22, s.xyz[1] * 22, s.xyz[2] * 3])), 0, 1))


def sky(s: Surface) -> Array:
    """The sides of the sky box: pale above the horizon, `first` higher up, clouds of `second`."""
    height = (s.edge[1] + 1) / np.sqrt(1 + s.edge[0] * s.edge[0])  # twice the tangent of the elevation
    haze = np.exp(-np.maximum(height, 0) * 2.2)[:, None]
    return _clouded(s, s.first * (1 - haze) + (0.75 * s.second + 0.25 * s.first) * haze, 1 - 0.7 * haze[:, 0])


def zenith(s: Surface) -> Array:
    """The top of the sky box."""
    return _clouded(s, s.first, np.float32(1))


def _clouded(s: Surface, clear: Array, share: Array) -> Array:
    """Return a clear sky with clouds, of about `size` metres, flat below."""
    lumps = noise(s.xyz / s.size) + 0.45 * noise(s.xyz * (3.7 / s.size))
    cloud = (smooth(lumps, 0.0, 0.65) * share)[:, None]
    light = s.second * (0.82 + 0.22 * smooth(lumps, 0.1, 0.9))[:, None]
    return clear * (1 - cloud) + light * cloud


STOREY = 3.0
_GLASS = np.array([0.05, 0.065, 0.08], np.float32)
_MIRRORED = np.array([0.30, 0.36, 0.44], np.float32)
_LAMPLIT = np.array([0.95, 0.66, 0.34], np.float32)


def brick(s: Surface) -> Array:
    """Bricks of `size` metres in rows, each offset by half a brick, with mortar of `second`."""
    height = s.size * 0.32
    row = np.floor(s.v / height)
    along = s.u / s.size + 0.5 * (row % 2)
    joint = np.minimum(np.abs(along - np.round(along)) * s.size, np.abs(s.v / height - np.round(s.v / height)) * height)
    tone = 0.88 + 0.18 * scatter(row, np.floor(along)) + 0.42 * noise(s.xyz * 1.1)
    return s.mix(0.75 * (1 - smooth(joint, 0.03 * s.size, 0.07 * s.size))) * tone[:, None]


def stucco(s: Surface) -> Array:
    """Rough plaster, streaked by rain."""
    streaks = noise(np.stack([s.xyz[0] * 2.5, s.xyz[1] * 2.5, s.xyz[2] * 0.5]))
    return s.mix(np.clip(0.4 + 0.4 * streaks + 0.25 * noise(s.xyz * 9), 0, 1))


def _cells(s: Surface) -> tuple[Array, Array, Array, Array]:
    """Return the column and row of the window each point is nearest to, and its offset from the centre of that window.

    The middle is 0, the borders to the next windows are -0.5 and 0.5.
    """
    places = []
    for along, edge, period in ((s.u, s.edge[0], s.size), (s.v, s.edge[1], np.float32(STOREY))):
        whole = 2 * half_extent(along, edge)
        position = (edge + 1) / 2 * np.maximum(np.round(whole / period), 1)
        places += [np.floor(position), position - np.floor(position) - 0.5]
    column, across, row, up = places
    return column, row, across, up


def _panes(s: Surface, column: Array, row: Array, up: Array) -> Array:
    """Return (n, 3) colours of the windows: reflected sky, a curtain or a lit room."""
    pick, level = scatter(column + 7, row * 3 + 2), scatter(column * 5 + 1, row)
    mirrored = smooth(up + 0.35 * (level - 0.5) + 0.3 * noise(s.xyz * 0.8), -0.35, 0.45)[:, None]
    glass = _GLASS + mirrored * (_MIRRORED - _GLASS) * (0.5 + 0.6 * level[:, None])
    curtain = np.float32(0.35) + 0.3 * s.second
    drawn = (pick < 0.35) & (up > 0.42 - 0.9 * level)
    glass = np.where(drawn[:, None], 0.35 * glass + 0.65 * curtain * (0.75 + 0.4 * level[:, None]), glass)
    return np.where((pick > 0.9)[:, None], _LAMPLIT * (0.5 + 0.5 * level[:, None]), glass)


def _with_windows(s: Surface, wall: Array, half: tuple[float, float]) -> Array:
    """Return a wall with a window in each cell, `half` its extent in cells; frame and sill are of `second`."""
    column, row, across, up = _cells(s)
    inside = np.maximum(np.abs(across) / half[0], np.abs(up) / half[1])
    frame = np.maximum(1 - smooth(np.abs(across), 0.01, 0.04), smooth(inside, 0.78, 0.88))[:, None]
    glass = _panes(s, column, row, up)
    glass = glass + frame * (0.2 + 0.55 * s.second - glass)
    sill = (np.abs(up + half[1] + 0.025) < 0.025) & (np.abs(across) < half[0] + 0.05)
    wall = np.where(sill[:, None], 0.15 + 0.6 * s.second, wall * (0.6 + 0.4 * smooth(inside, 1.0, 1.3))[:, None])
    return np.where((inside < 1)[:, None], glass, wall)


def windows(s: Surface) -> Array:
    """A plastered house: rows of tall windows."""
    base = s.first * (0.88 + 0.45 * noise(np.stack([s.xyz[0] * 1.2, s.xyz[1] * 1.2, s.xyz[2] * 0.4])))[:, None]
    return _with_windows(s, base, (0.2, 0.29))


def brick_windows(s: Surface) -> Array:
    """A brick house: rows of wide windows."""
    height = np.float32(0.17)
    row = np.floor(s.v / height)
    along = s.u / (3 * height) + 0.5 * (row % 2)
    tone = 0.86 + 0.12 * scatter(row, np.floor(along)) + 0.45 * noise(s.xyz * 0.9)
    return _with_windows(s, s.first * tone[:, None], (0.26, 0.26))


def offices(s: Surface) -> Array:
    """An office block: bands of glass, bands of `first`, and a pillar for each bay."""
    column, row, across, up = _cells(s)
    band, pillar = smooth(np.abs(up), 0.3, 0.33), smooth(np.abs(across), 0.455, 0.47)
    solid = np.maximum(band, pillar)[:, None]
    wall = s.first * (0.85 + 0.45 * noise(s.xyz * 0.8))[:, None]
    return wall * solid + _panes(s, column, row, up) * (1 - solid)


def shopfront(s: Surface) -> Array:
    """A shop: panes `size` wide with goods behind them, a door, and a sign with writing above."""
    a = s.u / s.size
    column, across, up = np.floor(a), np.abs(a - np.floor(a) - 0.5), s.edge[1]
    goods = smooth(noise(np.stack([s.u * 1.8, s.v * 1.8, s.xyz[2] * 0 + column * 9])), -0.1, 0.5)
    hue = np.stack([scatter(column + k, column * k) for k in (3, 5, 8)], axis=1)
    inside = _GLASS + 0.45 * (0.2 + hue) * (goods * smooth(0.3 - up, 0.0, 0.6))[:, None]
    inside = inside + _LAMPLIT * (0.25 * smooth(up, 0.0, 0.6) * scatter(column, column + 3))[:, None]
    frame = (across > 0.46) | (up < -0.8) | (up > 0.5)
    front = np.where(frame[:, None], s.first * (0.7 + 0.3 * noise(s.xyz * 5))[:, None], inside)
    board = ((up > 0.55) & (up < 0.95))[:, None]
    ink = _writing(s.u, s.v, np.float32(0.34)) * (np.abs(up - 0.75) < 0.15) * (np.abs(s.edge[0]) < 0.8)
    return np.where(board, s.second + 0.75 * (0.85 - s.second) * ink[:, None], front)


def roof(s: Surface) -> Array:
    """Tiles of a roof in courses of `size`, each with its own shade and a shadow under its edge."""
    course = np.floor(s.v / s.size)
    along = s.u / (0.8 * s.size) + 0.5 * (course % 2)
    under = s.v / s.size - course
    tone = 0.8 + 0.22 * scatter(course, np.floor(along)) + 0.45 * noise(s.xyz * 1.1)
    return s.mix(0.6 * (1 - smooth(under, 0.05, 0.3))) * tone[:, None]


def boards(s: Surface) -> Array:
    """Vertical boards, `size` wide: a fence, a barn, the staves of a barrel."""
    along = s.u / s.size
    tone = scatter(np.floor(along), np.floor(along) * 3 + 1)
    grain = noise(np.stack([s.u * (6 / s.size), s.v * (0.6 / s.size), s.xyz[2] * 0.1 + tone * 40]))
    gap = smooth(np.abs(along - np.round(along)), 0.02, 0.09)
    return s.mix(np.clip(0.1 + 0.5 * tone + 0.45 * grain, 0, 1)) * (0.5 + 0.5 * gap)[:, None]


def stone(s: Surface) -> Array:
    """A wall of rough stones of about `size` metres."""
    up = s.v / (0.6 * s.size)
    row = np.floor(up)
    along = s.u / s.size + scatter(row, row + 5)
    joint = np.minimum(np.abs(along - np.round(along)), 0.6 * np.abs(up - np.round(up)))
    tone = 0.6 + 0.55 * scatter(np.floor(along), row) + 0.4 * noise(s.xyz * 4)
    return s.mix(0.8 * (1 - smooth(joint, 0.02, 0.1))) * tone[:, None]


def writing(s: Surface) -> Array:
    """Lines of marks like letters, `size` high, of `second` on `first`, with a margin."""
    margin = np.abs(s.edge).max(axis=0) < 0.88
    ink = _writing(s.u, s.v, s.size) * margin
    return s.mix(0.95 * ink) * (0.9 + 0.15 * noise(s.xyz * 9))[:, None]


def _writing(u: Array, v: Array, height: Array) -> Array:
    """Return 1 on marks of 3 by 5 strokes in words on lines, 0 between them."""
    a, b = u / (0.62 * height), v / (1.7 * height)
    column, line = np.floor(a), np.floor(b)
    x, y = (a - column) * 4, (b - line) * 8.5
    stroke = scatter(column * 3 + np.floor(x), line * 5 + np.floor(y) + 3 * column) < 0.62
    word = scatter(column, line * 7 + 1) > 0.18
    return (stroke & word & (x < 3) & (y < 5)).astype(np.float32)
