"""Vehicles and people, about the origin on z = 0, their front to +y; as pieces without a place.

What is near has wheels and limbs of its own, what is `far` makes do with fewer solids.
"""

from dataclasses import replace

import numpy as np

from cka_probe.lab.scenes.palette import colour, shade
from cka_probe.lab.scenes.solids import Material, Solid, box, cylinder, ellipsoid

_RUBBER = Material("metal", (0.02, 0.02, 0.022), (0.05, 0.05, 0.055))
_DARK = Material("metal", colour(0.6, 0.1, 0.18), colour(0.6, 0.1, 0.1))
_TRIM = (0.06, 0.06, 0.065)


def draw_paint(rng: np.random.Generator) -> tuple[float, float, float]:
    """Return a colour that vehicles have: mostly grey, black, white or silver."""
    if rng.uniform() < 0.6:
        return colour(rng.uniform(), rng.uniform(0, 0.08), rng.choice([0.2, 0.35, 0.6, 0.75, 0.92]))
    return colour(rng.choice([0.0, 0.01, 0.58, 0.62, 0.35, 0.13, 0.08]), rng.uniform(0.55, 0.9), rng.uniform(0.3, 0.8))


def _wheels(width: float, places: tuple[float, ...], radius: float, far: bool) -> list[Solid]:
    """Return the wheels of axles at `places` along y; far ones are a dark block each axle."""
    if far:
        x = width / 2 - 0.02
        return [box((-x, y - radius, 0.0), (x, y + radius, 1.2 * radius), _RUBBER, shadow=False) for y in places]
    rim = Material("wheel", (0.55, 0.55, 0.57), (0.2, 0.2, 0.2))
    sides = [(x, y) for y in places for x in (-width / 2 + 0.07, width / 2 - 0.07)]
    return [
        ellipsoid((x - 0.11, y - radius, 0.0), (x + 0.11, y + radius, 2 * radius), rim, shadow=False) for x, y in sides
    ]


def car(rng: np.random.Generator, far: bool = False) -> list[Solid]:
    """Return a car: saloon, estate or a taller one."""
    tall = rng.uniform() < 0.3
    length, width = rng.uniform(3.9, 4.7), rng.uniform(1.7, 1.86)
    waist, height = (0.98, rng.uniform(1.6, 1.75)) if tall else (rng.uniform(0.82, 0.9), rng.uniform(1.4, 1.5))
    paint, half = draw_paint(rng), length / 2
    body = Material("bodywork", paint, _TRIM, length)
    glass = Material("cabin", paint, _TRIM, length)
    back = -half + (0.08 if tall or rng.uniform() < 0.4 else 0.6)
    front, x, roof = half - rng.uniform(1.2, 1.45), width / 2, height - 0.07
    return [
        box((-x, -half, 0.2), (x, half, waist), body),
        box((-x + 0.11, back, waist), (x - 0.11, front, roof), glass),
        box((-x + 0.14, back + 0.03, roof), (x - 0.14, front - 0.16, height), Material("paint", paint, _TRIM)),
        *_wheels(width, (-0.31 * length, 0.31 * length), 0.32, far),
    ]


def van(rng: np.random.Generator, far: bool = False) -> list[Solid]:
    """Return a delivery van, with a name on its sides."""
    paint = draw_paint(rng)
    body, glass = Material("bodywork", paint, _TRIM, 5.2), Material("cabin", paint, _TRIM, 5.2)
    name = Material("writing", paint, draw_paint(rng), 0.34)
    return [
        box((-0.98, -2.6, 0.25), (0.98, 2.6, 1.15), body),
        box((-0.95, -2.6, 1.15), (0.95, 1.1, 2.35), name),
        box((-0.9, 1.1, 1.15), (0.9, 1.9, 2.1), glass),
        *_wheels(1.96, (-1.6, 1.6), 0.35, far),
    ]


def truck(rng: np.random.Generator, far: bool = False) -> list[Solid]:
    """Return a lorry with a box of goods."""
    paint, length = draw_paint(rng), rng.uniform(6.5, 9.0)
    half = length / 2
    load = Material("writing", draw_paint(rng), draw_paint(rng), rng.uniform(0.4, 0.8))
    return [
        box((-1.2, -half, 1.05), (1.2, half - 2.2, rng.uniform(3.1, 3.7)), load),
        box((-1.15, half - 2.0, 0.45), (1.15, half, 1.5), Material("bodywork", paint, _TRIM, 4.3)),
        box((-1.12, half - 1.95, 1.5), (1.12, half - 0.05, 2.75), Material("cabin", paint, _TRIM, 7.0)),
        box((-0.5, -half + 0.1, 0.65), (0.5, half - 1.9, 1.04), _DARK),
        *_wheels(2.4, (-half + 1.2, half - 1.2), 0.48, far),
    ]


def bus(rng: np.random.Generator, far: bool = False) -> list[Solid]:
    """Return a bus."""
    paint = colour(rng.choice([0.0, 0.13, 0.35, 0.6]), rng.uniform(0.4, 0.85), rng.uniform(0.55, 0.85))
    half, stripe = rng.uniform(5.0, 6.0), shade(paint, rng.choice([0.35, 1.6]))
    return [
        box((-1.25, -half, 0.35), (1.25, half, 3.0), Material("coach", paint, stripe, 2 * half / 8)),
        *_wheels(2.5, (-half + 2.4, half - 2.4), 0.48, far),
    ]


def train(rng: np.random.Generator, cars: int) -> list[Solid]:
    """Return a train of some cars."""
    paint = colour(rng.choice([0.0, 0.33, 0.6, 0.15]), rng.uniform(0.3, 0.8), rng.uniform(0.4, 0.85))
    body = Material("coach", paint, shade(paint, 0.4), 2.1)
    starts = [18.0 * number - 9.0 * cars for number in range(cars)]
    under = box((-1.1, -9.0 * cars + 0.5, 0.0), (1.1, 9.0 * cars - 0.8, 1.0), _DARK)
    return [under, *(box((-1.45, y, 1.0), (1.45, y + 17.4, 3.9), body) for y in starts)]


def person(rng: np.random.Generator, far: bool = False) -> list[Solid]:
    """Return somebody who stands or walks."""
    height = rng.uniform(1.5, 1.9)
    skin, hair, coat, trousers = _clothes(rng)
    hip, neck, wide = 0.48 * height, 0.84 * height, rng.uniform(0.19, 0.24)
    stride = rng.uniform(0.03, 0.16)
    body = [
        cylinder((-wide, -0.13, hip - 0.03), (wide, 0.13, neck - 0.03), coat),
        ellipsoid((-0.1, -0.11, neck - 0.01), (0.1, 0.11, height), skin),
    ]
    if far:
        return [*body, box((-0.14, -0.09, 0), (0.14, 0.09, hip), trousers)]
    legs = [cylinder((x - 0.075, y - 0.085, 0), (x + 0.075, y + 0.085, hip + 0.05), trousers)
            for x, y in ((-0.09, stride), (0.09, -stride))]  # fmt: skip
    arms = [ellipsoid((x - 0.06, y - 0.08, hip - 0.06), (x + 0.06, y + 0.08, neck + 0.01), coat)
            for x, y in ((-wide - 0.02, -stride), (wide + 0.02, stride))]  # fmt: skip
    return [*body, *legs, *arms, ellipsoid((-0.108, -0.13, height - 0.13), (0.108, 0.08, height + 0.015), hair)]


def _clothes(rng: np.random.Generator) -> tuple[Material, Material, Material, Material]:
    """Return skin, hair, a coat and trousers."""
    tone, first = rng.uniform(0.35, 0.92), colour(rng.uniform(), rng.uniform(0.1, 0.8), rng.uniform(0.15, 0.85))
    skin = Material("plain", colour(0.06, 0.45, tone), colour(0.05, 0.5, 0.85 * tone))
    hair = Material("bark", colour(0.08, 0.5, rng.uniform(0.08, 0.6)), (0.01, 0.01, 0.01))
    coat = Material("fabric", first, shade(first, 0.45), 0.06)
    dark = colour(rng.uniform(0.5, 0.7), rng.uniform(0.05, 0.5), rng.uniform(0.12, 0.5))
    return skin, hair, coat, Material("fabric", dark, shade(dark, 0.6), 0.05)


def cyclist(rng: np.random.Generator, motor: bool = False) -> list[Solid]:
    """Return somebody on a bicycle or motorcycle; the person's solids are labelled "rider"."""
    skin, hair, coat, trousers = _clothes(rng)
    paint = Material("metal", draw_paint(rng), _TRIM)
    r, wide, apart = (0.31, 0.09, 0.66) if motor else (0.34, 0.03, 0.53)
    wheel = Material("wheel", (0.3, 0.3, 0.32) if motor else (0.5, 0.5, 0.48), _TRIM)
    parts = [ellipsoid((-wide, y - r, 0), (wide, y + r, 2 * r), wheel) for y in (-apart, apart)]
    if motor:
        parts += [
            ellipsoid((-0.17, -0.62, 0.35), (0.17, 0.55, 0.98), paint),
            box((-0.34, 0.5, 0.95), (0.34, 0.56, 1.02), _DARK),
        ]
    else:
        parts += [
            box((-0.02, -0.5, 0.5), (0.02, 0.5, 0.55), paint),
            box((-0.017, -0.17, 0.3), (0.017, -0.13, 0.92), paint),
            box((-0.28, 0.42, 0.95), (0.28, 0.46, 1.0), _DARK),
            box((-0.017, 0.42, 0.48), (0.017, 0.46, 0.95), paint),
        ]
    body = [
        ellipsoid((-0.2, -0.28, 0.85), (0.2, 0.12, 1.5), coat),
        ellipsoid((-0.1, -0.04, 1.46), (0.1, 0.17, 1.72), skin),
        ellipsoid((-0.11, -0.08, 1.56), (0.11, 0.15, 1.76), hair),
        *(ellipsoid((x - 0.08, -0.2, 0.32), (x + 0.08, 0.1, 0.98), trousers) for x in (-0.14, 0.14)),
    ]
    return [*parts, *(replace(solid, label="rider") for solid in body)]
