"""Where points lie on a surface, and the noise that patterns are made of.

The noise is a cube of sums of smoothed random numbers (several octaves) that repeats.
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
    """Points on surfaces of one pattern; metres, except `edge`.

    Attributes:
        u: (n,) across the surface.
        v: (n,) up a wall, or the second direction of a floor.
        edge: (2, n) the same from -1 to 1 over the face of a box.
        xyz: (3, n) in the solid's own axes, all three moved by an offset of its own so that no two are alike.
        first: (n, 3) linear RGB.
        second: (n, 3) linear RGB.
        size: (n,) the pattern's period.
    """

    u: Array
    v: Array
    edge: Array
    xyz: Array
    first: Array
    second: Array
    size: Array

    def mix(self, share: Array) -> Array:
        """Return (n, 3): the first colour where `share` (n,) is 0, the second where it is 1."""
        return self.first + (self.second - self.first) * share[:, None]


@lru_cache(maxsize=1)
def _cube() -> Array:
    """Return (64, 64, 64) noise of a mean of about 0 and deviation 1."""
    white = np.random.default_rng(64).standard_normal((64, 64, 64)).astype(np.float32)
    octaves = [gaussian_filter(white, width, mode="wrap") for width in (1.0, 2.0, 4.0)]
    cube = sum(octave / octave.std() for octave in octaves)
    return cube / cube.std()


def noise(xyz: Array) -> Array:
    """Return noise of about -1..1 at (3, n) points; its finest grain is about one unit."""
    return map_coordinates(_cube(), xyz, order=1, mode="grid-wrap", prefilter=False) * 0.5


def scatter(a: Array, b: Array) -> Array:
    """Return a number in [0, 1) for each pair of whole numbers, by chance but always the same."""
    mixed = (a.astype(np.int64) * 73856093) ^ (b.astype(np.int64) * 19349663)
    return (((mixed * 2654435761) >> 12) & 1023).astype(np.float32) / 1024


def smooth(x: Array, low: Array | float, high: Array | float) -> Array:
    """Return 0 below `low`, 1 above `high`, and a smooth rise between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)
