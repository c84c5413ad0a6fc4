"""Solids: boxes, cylinders and ellipsoids with a position and a material.

Lengths are metres; z is up, and z = 0 is the floor. Solids rotate about z only. In its own axes, with half extents
(a, b, c), a solid is:

    box        |x / a| <= 1, |y / b| <= 1, |z / c| <= 1
    cylinder   (x / a)^2 + (y / b)^2 <= 1, |z / c| <= 1
    ellipsoid  (x / a)^2 + (y / b)^2 + (z / c)^2 <= 1
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import cos, sin

import numpy as np
from numpy.typing import NDArray

RGB = tuple[float, float, float]
Point = tuple[float, float, float]

BOX, CYLINDER, ELLIPSOID = 0, 1, 2


@dataclass(frozen=True)
class Material:
    """The appearance of a surface.

    Attributes:
        pattern: A name in `table.PATTERNS`.
        first: First colour, linear RGB.
        second: Second colour, linear RGB.
        size: Period of the pattern in metres.
        glow: Emitted light, as a multiple of its colour.
    """

    pattern: str
    first: RGB
    second: RGB
    size: float = 0.2
    glow: float = 0.0


@dataclass(frozen=True)
class Solid:
    """A box, cylinder or ellipsoid with half extents `half`, rotated about z by `yaw` radians.

    `label` is its class if it differs from the class of its piece: a book on a table.
    """

    shape: int
    centre: Point
    half: Point
    material: Material
    yaw: float = 0.0
    shadow: bool = True
    label: str = ""


def _between(shape: int, low: Point, high: Point, material: Material, shadow: bool = True) -> Solid:
    """Return the upright solid that fills the box between two corners."""
    (x, y, z), (X, Y, Z) = low, high
    centre = ((x + X) / 2, (y + Y) / 2, (z + Z) / 2)
    half = (max((X - x) / 2, 1e-3), max((Y - y) / 2, 1e-3), max((Z - z) / 2, 1e-3))
    return Solid(shape, centre, half, material, shadow=shadow)


box, cylinder, ellipsoid = (partial(_between, shape) for shape in (BOX, CYLINDER, ELLIPSOID))


def times(factor: float, point: Point) -> Point:
    """Multiply a vector by a number."""
    x, y, z = point
    return factor * x, factor * y, factor * z


def moved(solids: Sequence[Solid], offset: Point, yaw: float = 0.0) -> tuple[Solid, ...]:
    """Return the solids rotated about the z axis by `yaw`, then moved by `offset`."""
    c, s = cos(yaw), sin(yaw)
    return tuple(
        replace(
            solid,
            centre=(
                offset[0] + c * solid.centre[0] - s * solid.centre[1],
                offset[1] + s * solid.centre[0] + c * solid.centre[1],
                offset[2] + solid.centre[2],
            ),
            yaw=solid.yaw + yaw,
        )
        for solid in solids
    )


def labelled(solids: Sequence[Solid], label: str) -> list[Solid]:
    """Return the solids with a class, except those that already have one."""
    return [solid if solid.label else replace(solid, label=label) for solid in solids]


def bounds(solids: Sequence[Solid]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the lowest and highest corner, (3,) each, of the bounding box of some solids."""
    yaw = np.array([solid.yaw for solid in solids])
    c, s = np.abs(np.cos(yaw)), np.abs(np.sin(yaw))
    centre, (x, y, z) = np.array([o.centre for o in solids]), np.array([o.half for o in solids]).T
    reach = np.stack([c * x + s * y, s * x + c * y, z], axis=1)
    return (centre - reach).min(axis=0), (centre + reach).max(axis=0)
