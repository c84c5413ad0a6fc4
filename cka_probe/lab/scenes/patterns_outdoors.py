"""Patterns of the ground, of plants and of the sky.

Grain falls off with its fineness as it does out of doors, where most of the contrast is in broad patches: these
still show at a distance at which blades of grass are smaller than a pixel. On what one drives along, patches are
long in the direction of travel (`v`), since a road is seen foreshortened.
"""

import numpy as np

from cka_probe.lab.scenes.surface import Array, Surface, noise, scatter, smooth

_WHITE = np.array([0.72, 0.72, 0.68], np.float32)
_NEAR = 35.0  # metres from the middle of a piece of ground beyond which fine grain fades


def _worn(s: Surface) -> Array:
    """Return the share (n,) of wear on asphalt: tracks and repairs along the road, and grit."""
    long = noise(np.stack([s.xyz[0] * 1.3, s.xyz[1] * 0.3, s.xyz[2]]))
    return np.clip(0.45 + 0.42 * long + 0.4 * noise(s.xyz * 7), 0, 1)


def _line(s: Surface, place: Array | float, width: float = 0.075) -> Array:
    """Return 1 on a painted line along the road at u = `place`, 0 beside it."""
    return 1 - smooth(np.abs(s.u - place), width, width + 0.03)


def asphalt(s: Surface) -> Array:
    """A road without markings."""
    return s.mix(_worn(s))


def lanes(s: Surface) -> Array:
    """A road with a dashed line every `size` metres from its middle and a whole line along each side."""
    worn, half = _worn(s), np.abs(s.u) / np.maximum(np.abs(s.edge[0]), 1e-6)
    row = np.round(s.u / s.size)
    inner = _line(s, row * s.size) * (np.abs(row) * s.size < half - 1.2)
    cycle = np.abs(s.v / 7.5 - np.round(s.v / 7.5))
    painted = np.maximum(inner * smooth(cycle, 0.28, 0.3), 1 - smooth(np.abs(np.abs(s.u) - half + 0.3), 0.075, 0.105))
    return _painted(s, worn, painted)


def avenue(s: Surface) -> Array:
    """A road with two whole lines in its middle, dashes every `size` metres from there."""
    worn, half = _worn(s), np.abs(s.u) / np.maximum(np.abs(s.edge[0]), 1e-6)
    row = np.round(s.u / s.size)
    inner = _line(s, row * s.size) * (np.abs(row) * s.size < half - 1.2) * (row != 0)
    cycle = np.abs(s.v / 7.5 - np.round(s.v / 7.5))
    middle = 1 - smooth(np.abs(np.abs(s.u) - 0.14), 0.06, 0.09)
    return _painted(s, worn, np.maximum(inner * smooth(cycle, 0.3, 0.32), middle))


def zebra(s: Surface) -> Array:
    """Bars of a crossing, side by side across the road."""
    bars = smooth(np.sin(s.u * (2 * np.pi) / s.size), -0.1, 0.1)
    return _painted(s, _worn(s), bars)


def _painted(s: Surface, worn: Array, painted: Array) -> Array:
    """Return worn asphalt with worn white paint on it."""
    share = (painted * (0.95 - 0.35 * worn))[:, None]
    return s.mix(worn) * (1 - share) + _WHITE * share


def paving(s: Surface) -> Array:
    """Slabs of a pavement, of slightly different shades, with stains."""
    a, b = s.u / s.size, s.v / s.size
    shade = 0.85 + 0.2 * scatter(np.floor(a), np.floor(b)) + 0.45 * noise(s.xyz * 1.5)
    joint = np.minimum(np.abs(a - np.round(a)), np.abs(b - np.round(b)))
    return s.mix(0.6 * (1 - smooth(joint, 0.015, 0.05))) * shade[:, None]


def meadow(s: Surface) -> Array:
    """Grass: broad light and dark, dry patches, and blades where it is near."""
    near = 1 / (1 + (s.u * s.u + s.v * s.v) / _NEAR**2)
    broad = noise(s.xyz * 0.45)
    blades = noise(s.xyz * 6) * near
    dry = smooth(broad, 0.25, 0.9)[:, None] * np.array([0.10, 0.06, 0.01], np.float32)
    return s.mix(np.clip(0.45 + 0.33 * broad + 0.42 * blades, 0, 1)) + dry


def soil(s: Surface) -> Array:
    """Bare earth, gravel or sand."""
    return s.mix(np.clip(0.5 + 0.4 * noise(s.xyz * 0.9) + 0.4 * noise(s.xyz * 7), 0, 1))


def foliage(s: Surface) -> Array:
    """Crowns of trees and hedges: bunches of leaves of about `size` metres with dark between them."""
    bunches, fine = noise(s.xyz / s.size), noise(s.xyz * (3.3 / s.size))
    return s.mix(np.clip(0.42 + 0.6 * bunches + 0.75 * fine, 0, 1)) * (0.75 + 0.5 * smooth(bunches, -0.6, 0.4))[:, None]


def bark(s: Surface) -> Array:
    """A trunk: cracks that run up it."""
    return s.mix(np.clip(0.5 + 0.8 * noise(np.stack([s.xyz[0] * 22, s.xyz[1] * 22, s.xyz[2] * 3])), 0, 1))


def sky(s: Surface) -> Array:
    """The sides of the box of the sky: pale above the horizon, `first` high up, clouds of `second`."""
    height = (s.edge[1] + 1) / np.sqrt(1 + s.edge[0] * s.edge[0])  # twice the tangent of the elevation
    haze = np.exp(-np.maximum(height, 0) * 2.2)[:, None]
    return _clouded(s, s.first * (1 - haze) + (0.75 * s.second + 0.25 * s.first) * haze, 1 - 0.7 * haze[:, 0])


def zenith(s: Surface) -> Array:
    """The top of the box of the sky."""
    return _clouded(s, s.first, np.float32(1))


def _clouded(s: Surface, clear: Array, share: Array) -> Array:
    """Return a clear sky with clouds, of about `size` metres, flat below."""
    lumps = noise(s.xyz / s.size) + 0.45 * noise(s.xyz * (3.7 / s.size))
    cloud = (smooth(lumps, 0.0, 0.65) * share)[:, None]
    light = s.second * (0.82 + 0.22 * smooth(lumps, 0.1, 0.9))[:, None]
    return clear * (1 - cloud) + light * cloud
