"""Houses along a street, about the origin on z = 0: their front is the plane y = 0 and they reach back to -y.

Measures are whole storeys and whole bays, since windows are painted by counting them (`patterns_buildings`).
"""

import numpy as np

from cka_probe.lab.scenes.palette import colour, shade
from cka_probe.lab.scenes.patterns_buildings import STOREY
from cka_probe.lab.scenes.solids import RGB, Material, Solid, box


def draw_wall(rng: np.random.Generator) -> Material:
    """Return a wall with windows: plaster or brick, pale or dark."""
    trim = colour(0.1, rng.uniform(0, 0.2), rng.choice([0.3, 0.85, 0.95]))
    bay = float(rng.choice([2.0, 2.4, 3.0]))
    if rng.uniform() < 0.4:
        return Material("brick_windows", _brick(rng), trim, bay)
    hue = rng.choice([0.04, 0.09, 0.12, 0.16, 0.55, 0.6])
    return Material("windows", colour(hue, rng.uniform(0.03, 0.42), rng.uniform(0.55, 0.95)), trim, bay)


def _brick(rng: np.random.Generator) -> RGB:
    return colour(rng.uniform(0.01, 0.07), rng.uniform(0.35, 0.65), rng.uniform(0.38, 0.68))


def _shop(rng: np.random.Generator, half: float) -> list[Solid]:
    """Return a shop before the ground floor, and perhaps an awning above its panes."""
    tone = colour(rng.uniform(), rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.7))
    front = Material("shopfront", shade(tone, 0.5), tone, rng.uniform(1.4, 2.2))
    parts = [box((-half + 0.25, 0.0, 0.0), (half - 0.25, 0.14, STOREY - 0.05), front)]
    if rng.uniform() < 0.4:
        cloth = Material("stripes", tone, (0.8, 0.8, 0.76), 0.5)
        parts.append(box((-half + 0.5, 0.14, 2.1), (half - 0.5, 1.0, 2.24), cloth))
    return parts


def town_house(rng: np.random.Generator, bays: int, far: bool = False) -> list[Solid]:
    """Return a house of a row in a town: several storeys, often a shop below, a cornice and a flat roof."""
    wall = draw_wall(rng)
    if rng.uniform() < 0.22:
        grey = colour(rng.uniform(), rng.uniform(0, 0.15), rng.uniform(0.4, 0.85))
        wall = Material("offices", grey, (0.6, 0.6, 0.6), 3.0)
    half, deep = bays * wall.size / 2, 5 * wall.size
    top = STOREY * int(rng.integers(2, 7))
    parts = [box((-half, -deep, 0), (half, 0, top), wall)]
    if far:
        return parts
    trim = Material("stucco", wall.second, shade(wall.second, 0.7))
    parts.append(box((-half - 0.01, -deep, top), (half + 0.01, 0.3, top + rng.uniform(0.25, 0.7)), trim))
    if rng.uniform() < 0.65:
        parts += _shop(rng, half)
    elif rng.uniform() < 0.7:
        storeys = range(1, int(top / STOREY))
        x = (int(rng.integers(bays)) + 0.5 - bays / 2) * wall.size
        iron = Material("boards", colour(0.6, 0.05, 0.3), (0.02, 0.02, 0.02), 0.14)
        parts += [box((x - 0.9, 0, STOREY * k + 0.1), (x + 0.9, 0.75, STOREY * k + 0.85), iron) for k in storeys[:2]]
    return parts


def cottage(rng: np.random.Generator, bays: int, far: bool = False, storeys: int = 2) -> list[Solid]:
    """Return a house that stands alone, of up to some storeys: a roof in courses, a door, a chimney."""
    wall = draw_wall(rng)
    half, deep = bays * wall.size / 2, int(rng.integers(3, 5)) * wall.size
    top = STOREY * int(rng.integers(1, storeys + 1))
    parts = [box((-half, -deep, 0), (half, 0, top), wall), *_roof(rng, half, deep, top, 2 if far else 4)]
    if far:
        return parts
    door = colour(rng.uniform(), rng.uniform(0.3, 0.8), rng.uniform(0.15, 0.6))
    x = (int(rng.integers(bays)) + 0.5 - bays / 2) * wall.size
    parts.append(box((x - 0.55, 0, 0), (x + 0.55, 0.06, 2.2), Material("panels", door, (0.8, 0.8, 0.8), 1.1)))
    if rng.uniform() < 0.5:
        parts.append(
            box((x - 1.0, 0, 2.3), (x + 1.0, 1.1, 2.42), Material("stucco", wall.second, shade(wall.second, 0.6)))
        )
    if rng.uniform() < 0.6:
        chimney = Material("brick", _brick(rng), (0.4, 0.38, 0.35), 0.3)
        x, y = rng.uniform(-0.4, 0.4) * half, -deep * 0.5
        parts.append(box((x - 0.4, y - 0.3, top), (x + 0.4, y + 0.3, top + 3.1), chimney))
    return parts


def _roof(rng: np.random.Generator, half: float, deep: float, top: float, steps: int) -> list[Solid]:
    """Return a hipped roof as courses that draw in."""
    tone = colour(rng.choice([0.02, 0.04, 0.06, 0.6]), rng.uniform(0.1, 0.6), rng.uniform(0.2, 0.55))
    tiles = Material("roof", tone, shade(tone, 0.4), 0.4)
    rise, draw = rng.uniform(1.8, 2.8) / steps, (deep / 2 + 0.2) / (steps + 0.6)
    return [
        box(
            (-half - 0.4 + k * draw, -deep - 0.4 + k * draw, top + k * rise),
            (half + 0.4 - k * draw, 0.4 - k * draw, top + (k + 1) * rise),
            tiles,
        )
        for k in range(steps)
    ]


def barn(rng: np.random.Generator, bays: int, far: bool = False) -> list[Solid]:
    """Return a barn of upright boards with a gate."""
    tone = colour(rng.choice([0.01, 0.08, 0.1]), rng.uniform(0.3, 0.7), rng.uniform(0.3, 0.6))
    half, deep, top = 2.2 * bays, rng.uniform(7, 10), rng.uniform(3.5, 5)
    parts = [
        box((-half, -deep, 0), (half, 0, top), Material("boards", tone, shade(tone, 0.5), 0.35)),
        *_roof(rng, half, deep, top, 2 if far else 4),
    ]
    if not far:
        gate = Material("planking", shade(tone, 0.6), shade(tone, 0.25), 0.4)
        parts.append(box((-1.8, 0, 0), (1.8, 0.08, 3.0), gate))
    return parts
