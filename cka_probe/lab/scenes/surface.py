"""Points on surfaces, and the noise that patterns are made of.

The noise is periodic: a cube of smoothed random numbers, summed over octaves.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

Array = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Surface:
    """Points on surfaces with one pattern; metres, except `edge`.

    Attributes:
        u: (n,) position across the surface.
        v: (n,) position up a wall, or along the second direction of a floor.
        edge: (2, n) both, from -1 to 1 over the face of a box.
        xyz: (3, n) position in the axes of the solid, plus one offset per solid so that no two look the same.
        first: (n, 3) first colour, linear RGB.
        second: (n, 3) second colour, linear RGB.
        size: (n,) period of the pattern.
    """

    u: Array
    v: Array
    edge: Array
    xyz: Array
    first: Array
    second: Array
    size: Array

    def mix(self, share: Array) -> Array:
        """Mix the colours, (n, 3): the first where `share` (n,) is 0, the second where it is 1."""
        return self.first + (self.second - self.first) * share[:, None]


@lru_cache(maxsize=1)
def _cube() -> Array:
    """Return (64, 64, 64) noise with mean about 0 and standard deviation 1."""
    white = np.random.default_rng(64).standard_normal((64, 64, 64)).astype(np.float32)
    octaves = [gaussian_filter(white, width, mode="wrap") for width in (1.0, 2.0, 4.0)]
    cube = sum(octave / octave.std() for octave in octaves)
    return cube / cube.std()


def noise(xyz: Array) -> Array:
    """Return noise of about -1 to 1 at (3, n) points; its finest grain is about one unit."""
    return map_coordinates(_cube(), xyz, order=1, mode="grid-wrap", prefilter=False) * 0.5


def scatter(a: Array, b: Array) -> Array:
    """Hash pairs of whole numbers to numbers in [0, 1)."""
    mixed = (a.astype(np.int64) * 73856093) ^ (b.astype(np.int64) * 19349663)
    return (((mixed * 2654435761) >> 12) & 1023).astype(np.float32) / 1024


def smooth(x: Array, low: Array | float, high: Array | float) -> Array:
    """Return 0 below `low`, 1 above `high`, and a smooth step between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def half_extent(along: Array, edge: Array) -> Array:
    """Return the half extent of the face that points lie on, from their position `along` it and `edge`, -1 to 1."""
    return np.abs(along) / np.maximum(np.abs(edge), 1e-6)
