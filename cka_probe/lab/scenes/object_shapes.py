"""Solids by their middle or axis, and materials drawn by chance: what objects are made of."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cka_probe.lab.scenes.palette import colour, shade
from cka_probe.lab.scenes.solids import RGB, Material, Solid, box, cylinder, ellipsoid

DARK = Material("plain", (0.015, 0.015, 0.017), (0.03, 0.03, 0.03))
WHITE = Material("plain", (0.82, 0.82, 0.8), (0.6, 0.6, 0.6))


def oval(x: float, y: float, z: float, half: tuple[float, float, float], look: Material) -> Solid:
    """Return the ellipsoid about a middle."""
    a, b, c = half
    return ellipsoid((x - a, y - b, z - c), (x + a, y + b, z + c), look)


def ball(x: float, y: float, z: float, r: float, look: Material) -> Solid:
    """Return the ball about a middle."""
    return oval(x, y, z, (r, r, r), look)


def disc(z: float, top: float, r: float, look: Material, x: float = 0.0, y: float = 0.0) -> Solid:
    """Return the upright cylinder from a height to another."""
    return cylinder((x - r, y - r, z), (x + r, y + r, top), look)


def block(x: float, y: float, z: float, half: tuple[float, float, float], look: Material) -> Solid:
    """Return the box about a middle."""
    a, b, c = half
    return box((x - a, y - b, z - c), (x + a, y + b, z + c), look)


def turned(solid: Solid, yaw: float) -> Solid:
    """Return a solid turned about its own middle."""
    return replace(solid, yaw=solid.yaw + yaw)


def draw_colour(rng: np.random.Generator) -> RGB:
    """Return any colour that is neither black nor white."""
    return colour(rng.uniform(), rng.uniform(0.15, 0.9), rng.uniform(0.35, 0.92))


def draw_look(rng: np.random.Generator, *patterns: str, size: float = 0.1) -> Material:
    """Return one of some patterns in any colours; those of the same hue are as likely as those of two."""
    first = draw_colour(rng)
    second = shade(first, rng.choice([0.35, 1.8])) if rng.uniform() < 0.5 else draw_colour(rng)
    return Material(str(rng.choice(patterns)), first, second, size)


def draw_ware(rng: np.random.Generator) -> Material:
    """Return what cups and vases are made of: glazed, spotted, striped or plain."""
    return draw_look(rng, "glaze", "spots", "stripes", "plain", "checks", "paint", size=rng.uniform(0.05, 0.1))


def draw_wood(rng: np.random.Generator) -> Material:
    """Return wood, raw or painted."""
    if rng.uniform() < 0.3:
        first = draw_colour(rng)
    else:
        first = colour(rng.uniform(0.05, 0.1), rng.uniform(0.3, 0.65), rng.uniform(0.3, 0.75))
    return Material("wood", first, shade(first, 0.5))


def draw_metal(rng: np.random.Generator) -> Material:
    """Return bare metal: steel, brass, copper, iron."""
    hue, pale, value = ((0.6, 0.05, 0.7), (0.12, 0.5, 0.72), (0.05, 0.55, 0.65), (0.6, 0.05, 0.3))[rng.integers(4)]
    return Material("metal", colour(hue, pale, value), colour(hue, pale, 0.6 * value))


def scaled(solids: Sequence[Solid], by: float) -> list[Solid]:
    """Return solids `by` times as large, and their patterns with them; they are of no class but their piece's."""
    return [
        replace(
            solid,
            centre=tuple(by * c for c in solid.centre),
            half=tuple(by * h for h in solid.half),
            material=replace(solid.material, size=by * solid.material.size),
            label="",
        )
        for solid in solids
    ]
