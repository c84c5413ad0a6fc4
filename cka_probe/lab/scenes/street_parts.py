"""Plants, fences, lamps and signs, about the origin on z = 0, their front to +y."""

from dataclasses import replace

import numpy as np

from cka_probe.lab.scenes.palette import colour, shade
from cka_probe.lab.scenes.solids import Material, Solid, box, cylinder, ellipsoid, moved

_POST = Material("metal", colour(0.6, 0.04, 0.55), colour(0.6, 0.05, 0.35))
_BLACK = Material("metal", (0.02, 0.02, 0.02), (0.04, 0.04, 0.04))


def draw_green(rng: np.random.Generator, size: float) -> Material:
    """Return leaves in bunches of about `size` metres."""
    hue, value = rng.uniform(0.2, 0.34), rng.uniform(0.35, 0.62)
    if rng.uniform() < 0.12:
        hue = rng.uniform(0.05, 0.13)  # autumn
    dark = colour(hue + 0.03, rng.uniform(0.5, 0.75), 0.35 * value)
    return Material("foliage", dark, colour(hue, rng.uniform(0.45, 0.75), value), size)


def tree(rng: np.random.Generator, far: bool = False) -> list[Solid]:
    """Return a tree: broad, slender, or a conifer."""
    green, kind = draw_green(rng, rng.uniform(0.3, 0.5)), rng.choice(3, p=[0.65, 0.15, 0.2])
    brown = colour(rng.uniform(0.05, 0.1), rng.uniform(0.2, 0.5), rng.uniform(0.2, 0.45))
    trunk, thick = Material("bark", brown, shade(brown, 0.35)), rng.uniform(0.1, 0.2)
    if kind == 1:
        top, r = rng.uniform(7, 11), rng.uniform(0.8, 1.2)
        crown = [ellipsoid((-r, -r, 1.2), (r, r, top), green)]
        return [cylinder((-thick, -thick, 0), (thick, thick, 1.6), trunk), *crown]
    if kind == 2:
        top, r = rng.uniform(5, 9), rng.uniform(1.1, 1.6)
        levels = [(r * (1 - 0.26 * k), 0.7 + top * 0.24 * k) for k in range(3 if far else 4)]
        crown = [ellipsoid((-a, -a, z), (a, a, z + 0.42 * top), green) for a, z in levels]
        return [cylinder((-thick, -thick, 0), (thick, thick, 1.4), trunk), *crown]
    stem, r = rng.uniform(2.2, 3.1), rng.uniform(1.2, 1.9)
    crown = [ellipsoid((-0.7 * r, -0.7 * r, stem + 0.4 * r), (0.7 * r, 0.7 * r, stem + 1.9 * r), green)]
    for turn in np.arange(2 if far else 3) * (np.pi if far else 2 * np.pi / 3) + rng.uniform(0, 6):
        x, y, a, z = 0.5 * r * np.cos(turn), 0.5 * r * np.sin(turn), rng.uniform(0.55, 0.75) * r, rng.uniform(0.3, 0.9)
        crown.append(ellipsoid((x - a, y - a, stem + (z - 0.6) * r), (x + a, y + a, stem + (z + 0.6) * r), green))
    return [cylinder((-thick, -thick, 0), (thick, thick, stem + 0.4), trunk), *crown]


def bush(rng: np.random.Generator) -> list[Solid]:
    """Return a bush or two."""
    green, r, high = draw_green(rng, 0.2), rng.uniform(0.4, 0.8), rng.uniform(0.7, 1.5)
    small = 0.7 * r
    return [
        ellipsoid((-r, -r, -0.15 * high), (r, r, high), green),
        ellipsoid((r - small, -small, -0.1 * high), (r + small, small, 0.7 * high), green),
    ]


def hedge(rng: np.random.Generator, length: float) -> list[Solid]:
    """Return a clipped hedge along y."""
    green, thick, high = draw_green(rng, 0.2), rng.uniform(0.35, 0.6), rng.uniform(0.9, 1.9)
    return [box((-thick, -length / 2, 0), (thick, length / 2, high), green)]


def fence(rng: np.random.Generator, length: float) -> list[Solid]:
    """Return a fence of boards along y."""
    tone = colour(rng.uniform(0.05, 0.12), rng.uniform(0, 0.5), rng.uniform(0.35, 0.95))
    high = rng.uniform(0.85, 1.5)
    pales = Material("boards", tone, shade(tone, 0.5), rng.uniform(0.18, 0.34))
    rail = Material("wood", shade(tone, 0.8), shade(tone, 0.5))
    return [
        box((-0.03, -length / 2, 0.05), (0.03, length / 2, high), pales),
        box((-0.06, -length / 2, high), (0.06, length / 2, high + 0.06), rail),
    ]


def wall(rng: np.random.Generator, length: float) -> list[Solid]:
    """Return a wall of bricks or stones along y, with a coping."""
    stony, high = rng.uniform() < 0.5, rng.uniform(0.7, 1.9)
    tone = colour(rng.uniform(0.02, 0.1), rng.uniform(0.05, 0.2) if stony else 0.5, rng.uniform(0.4, 0.65))
    face = Material("stone" if stony else "brick", tone, shade(tone, 0.55), 0.5 if stony else 0.3)
    cope = Material("stucco", (0.45, 0.44, 0.42), (0.3, 0.29, 0.28))
    return [
        box((-0.14, -length / 2, 0), (0.14, length / 2, high), face),
        box((-0.19, -length / 2, high), (0.19, length / 2, high + 0.08), cope),
    ]


def street_lamp(rng: np.random.Generator, reach: float) -> list[Solid]:
    """Return a lamp post whose arm reaches to +x."""
    high = rng.uniform(5.5, 8.0)
    glass = Material("plain", (0.75, 0.75, 0.7), (0.6, 0.6, 0.55))
    return [
        cylinder((-0.07, -0.07, 0), (0.07, 0.07, high), _POST),
        box((-0.05, -0.04, high), (reach, 0.04, high + 0.08), _POST),
        ellipsoid((reach - 0.5, -0.14, high - 0.12), (reach + 0.2, 0.14, high + 0.1), glass),
    ]


def mast(rng: np.random.Generator) -> list[Solid]:
    """Return a wooden mast with a cross-beam, for wires."""
    timber = Material("bark", colour(0.08, 0.3, 0.4), colour(0.07, 0.3, 0.22))
    high = rng.uniform(6.5, 8.5)
    return [
        cylinder((-0.11, -0.11, 0), (0.11, 0.11, high), timber),
        box((-0.9, -0.05, high - 0.7), (0.9, 0.05, high - 0.58), timber),
    ]


def sign(rng: np.random.Generator) -> list[Solid]:
    """Return a traffic sign on a post: round, or a board with writing."""
    parts = [cylinder((-0.035, -0.035, 0), (0.035, 0.035, 2.7), _POST)]
    white, red, blue, yellow = (0.85, 0.85, 0.83), (0.55, 0.01, 0.02), (0.01, 0.08, 0.42), (0.8, 0.5, 0.01)
    if rng.uniform() < 0.6:
        pair = ((red, white), (blue, white), (white, blue), (red, yellow))[rng.integers(4)]
        r = rng.uniform(0.32, 0.42)
        disc = ellipsoid((-0.03, -r, 2.5 - r), (0.03, r, 2.5 + r), Material("roundel", *pair))
        parts += moved([disc], (0.0, 0.08, 0.0), np.pi / 2)
    else:
        pair = ((blue, white), (yellow, (0.02, 0.02, 0.02)), ((0.01, 0.2, 0.06), white), (white, (0.02, 0.02, 0.02)))
        first, second = pair[rng.integers(4)]
        x, z = rng.uniform(0.3, 0.6), rng.uniform(0.25, 0.4)
        board = Material("writing", first, second, z * 0.45)
        parts.append(box((-x, 0.04, 2.4 - z), (x, 0.08, 2.4 + z), board))
    return [parts[0], *(replace(solid, label="traffic sign") for solid in parts[1:])]


def traffic_light(rng: np.random.Generator) -> list[Solid]:
    """Return a traffic light on a post, one of its lamps lit."""
    lit = int(rng.integers(3))
    hue = (0.0, 0.12, 0.38)[2 - lit]
    glass = Material("plain", colour(hue, 0.85, 1.0), colour(hue, 0.9, 0.9), glow=2.5)
    dim = Material("signal", (0.02, 0.02, 0.02), (0.3, 0.3, 0.25))
    z = 2.62 + 0.3 * lit
    head = [
        box((-0.17, 0.05, 2.45), (0.17, 0.3, 3.4), dim),
        ellipsoid((-0.12, 0.26, z - 0.1), (0.12, 0.34, z + 0.14), glass, shadow=False),
    ]
    post = cylinder((-0.06, -0.06, 0), (0.06, 0.06, 3.5), _BLACK if rng.uniform() < 0.5 else _POST)
    return [post, *(replace(solid, label="traffic light") for solid in head)]
