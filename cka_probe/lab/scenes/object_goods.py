"""Everyday objects, and the solids and random materials that they are made of."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cka_probe.lab.scenes import furniture
from cka_probe.lab.scenes.palette import colour, draw_palette, draw_tone, shade
from cka_probe.lab.scenes.solids import RGB, Material, Solid, box, cylinder, ellipsoid, moved, times

DARK = Material("plain", (0.015, 0.015, 0.017), (0.03, 0.03, 0.03))
WHITE = Material("plain", (0.82, 0.82, 0.8), (0.6, 0.6, 0.6))
FLAME = Material("plain", (1.0, 0.62, 0.12), (1.0, 0.8, 0.4), glow=3.0)


def oval(x: float, y: float, z: float, half: tuple[float, float, float], material: Material) -> Solid:
    """Return the ellipsoid with a centre and half extents."""
    a, b, c = half
    return ellipsoid((x - a, y - b, z - c), (x + a, y + b, z + c), material)


def ball(x: float, y: float, z: float, r: float, material: Material) -> Solid:
    """Return the ball with a centre and a radius."""
    return oval(x, y, z, (r, r, r), material)


def disc(z: float, top: float, r: float, material: Material, x: float = 0.0, y: float = 0.0) -> Solid:
    """Return the upright cylinder between two heights."""
    return cylinder((x - r, y - r, z), (x + r, y + r, top), material)


def block(x: float, y: float, z: float, half: tuple[float, float, float], material: Material) -> Solid:
    """Return the box with a centre and half extents."""
    a, b, c = half
    return box((x - a, y - b, z - c), (x + a, y + b, z + c), material)


def mirrored(*solids: Solid) -> list[Solid]:
    """Return solids on the right, x > 0, mirrored to the left, and then themselves."""
    left = [replace(solid, centre=(-solid.centre[0], *solid.centre[1:])) for solid in solids]
    return [*left, *solids]


def around(count: int, radius: float, start: float = 0.0) -> list[tuple[float, float]]:
    """Return evenly spaced points (x, y) on a circle about the origin, the first at an angle of `start` radians."""
    return [(radius * np.cos(turn), radius * np.sin(turn)) for turn in np.arange(count) * 2 * np.pi / count + start]


def turned(solid: Solid, yaw: float) -> Solid:
    """Return a solid rotated about its own vertical axis."""
    return replace(solid, yaw=solid.yaw + yaw)


def draw_colour(rng: np.random.Generator) -> RGB:
    """Return a random colour, neither black nor white."""
    return draw_tone(rng, (0, 1), (0.15, 0.9), (0.35, 0.92))


def draw_material(rng: np.random.Generator, *patterns: str, size: float = 0.1) -> Material:
    """Return one of some patterns in random colours, half of the time two shades of one hue."""
    first = draw_colour(rng)
    second = shade(first, rng.choice([0.35, 1.8])) if rng.uniform() < 0.5 else draw_colour(rng)
    return Material(str(rng.choice(patterns)), first, second, size)


def draw_ceramic(rng: np.random.Generator) -> Material:
    """Return a material of cups and vases: glazed, spotted, striped or plain."""
    return draw_material(rng, "glaze", "spots", "stripes", "plain", "checks", "paint", size=rng.uniform(0.05, 0.1))


def draw_wood(rng: np.random.Generator) -> Material:
    """Return wood, bare or painted."""
    first = draw_colour(rng) if rng.uniform() < 0.3 else draw_tone(rng, (0.05, 0.1), (0.3, 0.65), (0.3, 0.75))
    return Material("wood", first, shade(first, 0.5))


def draw_metal(rng: np.random.Generator) -> Material:
    """Return bare metal: steel, brass, copper, iron."""
    hue, pale, value = ((0.6, 0.05, 0.7), (0.12, 0.5, 0.72), (0.05, 0.55, 0.65), (0.6, 0.05, 0.3))[rng.integers(4)]
    return Material("metal", colour(hue, pale, value), colour(hue, pale, 0.6 * value))


def scaled(solids: Sequence[Solid], by: float) -> list[Solid]:
    """Return solids and their patterns enlarged by a factor, without labels of their own."""
    return [
        replace(
            solid,
            centre=times(by, solid.centre),
            half=times(by, solid.half),
            material=replace(solid.material, size=by * solid.material.size),
            label="",
        )
        for solid in solids
    ]


def apple(rng: np.random.Generator) -> list[Solid]:
    """Return an apple with its stem and a leaf."""
    hue = rng.choice([0.0, 0.98, 0.13, 0.27])
    pale, red = colour(rng.uniform(0.14, 0.26), 0.7, 0.75), colour(hue, 0.85, rng.uniform(0.5, 0.85))
    skin = Material("blush", pale, red, 0.25)
    green = Material("leaves", (0.05, 0.2, 0.02), (0.12, 0.35, 0.05))
    bumps = [oval(x, y, 0.36, (0.15, 0.15, 0.14), skin) for x, y in around(5, 0.12)]
    stem = disc(0.44, 0.6, 0.014, Material("bark", (0.12, 0.07, 0.03), (0.04, 0.02, 0.01)))
    leaf = turned(oval(0.1, 0.0, 0.57, (0.1, 0.05, 0.012), green), rng.uniform(-0.5, 0.5))
    return [oval(0, 0, 0.26, (0.28, 0.28, 0.26), skin), *bumps, stem, leaf]


def cactus(rng: np.random.Generator) -> list[Solid]:
    """Return a cactus in a pot, mostly with arms."""
    tone = draw_tone(rng, (0.26, 0.42), (0.35, 0.7), (0.3, 0.6))
    skin = Material("ribs", shade(tone, 0.45), tone, 0.04)
    pot = draw_material(rng, "plain", "glaze", "checks", size=0.07)
    r, height = rng.uniform(0.08, 0.12), rng.uniform(0.4, 0.55)
    parts = [disc(0, 0.15, 0.13, pot), disc(0.13, 0.18, 0.15, pot)]
    parts.append(oval(0, 0, 0.15 + height / 2, (r, r, 0.55 * height), skin))
    for side in (-1, 1)[: int(rng.integers(0, 3)) if height > 0.45 else 2]:
        z, out = 0.15 + height * rng.uniform(0.35, 0.55), r + 0.08
        parts.append(oval(side * 0.7 * out, 0, z, (0.09, 0.045, 0.045), skin))
        parts.append(oval(side * out, 0, z + 0.1, (0.048, 0.048, 0.13), skin))
    if rng.uniform() < 0.4:
        parts.append(oval(0, 0, 0.18 + 1.06 * height, (0.05, 0.05, 0.03), draw_material(rng, "leaves")))
    return parts


def mushroom(rng: np.random.Generator) -> list[Solid]:
    """Return a mushroom, or a large one and a small one."""
    tone = colour(rng.choice([0.0, 0.99, 0.08, 0.1, 0.55]), rng.uniform(0.5, 0.9), rng.uniform(0.4, 0.85))
    cap = Material("spots" if rng.uniform() < 0.75 else "plain", tone, (0.85, 0.83, 0.78), 0.075)
    stem = Material("bark", (0.75, 0.7, 0.6), (0.55, 0.5, 0.42))
    height, r = rng.uniform(0.3, 0.4), rng.uniform(0.26, 0.33)
    gills = Material("stripes", (0.7, 0.66, 0.58), (0.5, 0.45, 0.38), 0.03)
    grown = [oval(0, 0, 0.06, (0.11, 0.11, 0.1), stem), disc(0, height, 0.075, stem)]
    grown += [oval(0, 0, height, (0.9 * r, 0.9 * r, 0.035), gills), oval(0, 0, height + 0.045, (r, r, 0.5 * r), cap)]
    if rng.uniform() < 0.5:
        small = [replace(s, centre=times(0.5, s.centre), half=times(0.5, s.half)) for s in grown]
        grown += moved(small, (0.22, 0.12, 0), 0.0)
    return grown


def cake(rng: np.random.Generator) -> list[Solid]:
    """Return a cake of one to three tiers with icing and candles."""
    dough = draw_tone(rng, (0.06, 0.12), (0.3, 0.7), (0.35, 0.9))
    sugar = draw_colour(rng) if rng.uniform() < 0.6 else (0.85, 0.83, 0.8)
    tiers, z, r = int(rng.integers(1, 4)), 0.025, rng.uniform(0.28, 0.33)
    parts = [disc(0, 0.025, 1.25 * r, WHITE)]
    side, cover = Material("icing", dough, sugar, 0.12), Material("plain", sugar, shade(sugar, 0.85))
    for _ in range(tiers):
        top = z + rng.uniform(0.12, 0.17)
        parts += [disc(z, top, r, side), disc(top, top + 0.012, r + 0.006, cover)]
        z, r = top + 0.012, 0.68 * r
    r /= 0.68
    wax = draw_material(rng, "stripes", "plain", size=0.03)
    for x, y in around(5, 0.6 * r):
        parts += [disc(z, z + 0.1, 0.013, wax, x, y), oval(x, y, z + 0.13, (0.012, 0.012, 0.028), FLAME)]
    return parts


def burger(rng: np.random.Generator) -> list[Solid]:
    """Return a hamburger."""
    crust = draw_tone(rng, (0.07, 0.1), (0.5, 0.7), (0.55, 0.85))
    bun = Material("plain", crust, shade(crust, 0.6))
    seeded = Material("spots", crust, (0.85, 0.75, 0.5), 0.022) if rng.uniform() < 0.6 else bun
    r, z = 0.28, 0.12
    layers: list[Solid] = []
    for name in rng.permutation(["meat", "salad", "cheese", "tomato", "meat"])[: int(rng.integers(4, 6))]:
        material, share, thickness = _FILLINGS[name]
        if name == "cheese":
            slice_ = block(0, 0, z + thickness / 2, (share * r, share * r, thickness / 2), material)
            layers.append(turned(slice_, rng.uniform(0, 1.5)))
        else:
            layers.append(disc(z, z + thickness, share * r, material))
        z += thickness
    halves = [disc(0.02, 0.12, r, bun), oval(0, 0, 0.06, (1.03 * r, 1.03 * r, 0.06), bun)]
    return [*halves, *layers, oval(0, 0, z, (1.03 * r, 1.03 * r, 0.17), seeded)]


_FILLINGS = {
    "meat": (Material("soil", (0.12, 0.05, 0.02), (0.04, 0.015, 0.01)), 1.02, 0.075),
    "salad": (Material("leaves", (0.05, 0.22, 0.02), (0.3, 0.5, 0.1)), 1.1, 0.035),
    "cheese": (Material("plain", (0.85, 0.5, 0.03), (0.8, 0.45, 0.03)), 0.8, 0.02),
    "tomato": (Material("plain", (0.5, 0.04, 0.02), (0.65, 0.1, 0.04)), 0.95, 0.035),
}
"""What is in a burger: material, radius as a share of the bun's, thickness in metres."""


def chair(rng: np.random.Generator) -> list[Solid]:
    """Return a chair."""
    return list(moved(furniture.chair(rng, draw_palette(rng)), (0, -0.2, 0)))


def armchair(rng: np.random.Generator) -> list[Solid]:
    """Return an armchair or a sofa with cushions."""
    return list(moved(furniture.sofa(rng, draw_palette(rng)), (0, -0.4, 0)))


def stool(rng: np.random.Generator) -> list[Solid]:
    """Return a stool with a round seat."""
    wood, height, r = draw_wood(rng), rng.uniform(0.45, 0.7), rng.uniform(0.17, 0.22)
    seat = draw_material(rng, "fabric", "checks", "wood", "plain", size=0.05)
    legs = [block(x, y, height / 2, (0.02, 0.02, height / 2), wood) for x, y in around(4, 0.75 * r, 0.78)]
    low, high = (block(0, 0, share * height, (0.75 * r, 0.012, 0.012), wood) for share in (0.3, 0.36))
    return [disc(height, height + rng.uniform(0.04, 0.09), r, seat), *legs, turned(low, 0.78), turned(high, 2.35)]


def books(rng: np.random.Generator) -> list[Solid]:
    """Return a stack of books."""
    paper, z = Material("stripes", (0.75, 0.71, 0.6), (0.5, 0.47, 0.4), 0.012), 0.0
    parts: list[Solid] = []
    for _ in range(int(rng.integers(4, 8))):
        a, b, thickness = rng.uniform(0.2, 0.28), rng.uniform(0.15, 0.2), rng.uniform(0.035, 0.09)
        cover = draw_material(rng, "fabric", "plain", "writing", size=0.05)
        front, back = (block(0, 0, level, (a, b, 0.005), cover) for level in (z + 0.005, z + thickness - 0.005))
        pages = block(0, 0.0, z + thickness / 2, (a - 0.012, b - 0.012, thickness / 2 - 0.01), paper)
        spine = block(0, -b + 0.005, z + thickness / 2, (a, 0.006, thickness / 2 - 0.01), cover)
        parts += moved(
            [front, pages, spine, back], (rng.normal(0, 0.012), rng.normal(0, 0.012), 0), rng.normal(0, 0.16)
        )
        z += thickness + 0.001
    return parts


def crate(rng: np.random.Generator) -> list[Solid]:
    """Return a crate of boards, or two of them."""
    tone = draw_tone(rng, (0.06, 0.11), (0.25, 0.6), (0.45, 0.8)) if rng.uniform() < 0.75 else draw_colour(rng)
    material = Material("planking", tone, shade(tone, 0.5), rng.uniform(0.09, 0.14))
    half = (rng.uniform(0.24, 0.34), rng.uniform(0.2, 0.28), rng.uniform(0.18, 0.25))
    parts = [block(0, 0, half[2], half, material)]
    if rng.uniform() < 0.35:
        upper = (0.7 * half[0], 0.75 * half[1], 0.6 * half[2])
        parts.append(turned(block(0, 0, 2 * half[2] + upper[2], upper, material), rng.normal(0, 0.3)))
    return parts


def dumbbell(rng: np.random.Generator) -> list[Solid]:
    """Return a dumbbell: a bar with plates at both ends."""
    bar = draw_metal(rng)
    iron = Material("metal", (0.03, 0.03, 0.035), (0.07, 0.07, 0.07))
    if rng.uniform() < 0.5:
        iron = draw_material(rng, "metal", "paint")
    r, plates = rng.uniform(0.15, 0.2), int(rng.integers(1, 4))
    parts = [block(0, 0, r, (0.38, 0.026, 0.026), bar)]
    for side in (-1, 1):
        sizes = r * np.array([1.0, 0.85, 0.7])[:plates]
        parts += [oval(side * (0.17 + 0.07 * k), 0, r, (0.045, a, a), iron) for k, a in enumerate(sizes)]
    return parts


def hat(rng: np.random.Generator) -> list[Solid]:
    """Return a hat with a brim and a band."""
    felt = draw_material(rng, "fabric", "plain", "checks", size=0.04)
    band = draw_material(rng, "plain", "stripes", size=0.05)
    r, height, brim = rng.uniform(0.17, 0.22), rng.uniform(0.14, 0.34), rng.uniform(1.45, 1.95)
    crown = [disc(0.02, height, r, felt)]
    if rng.uniform() < 0.5:
        crown.append(oval(0, 0, height, (r, r, 0.08), felt))
    return [oval(0, 0, 0.02, (brim * r, brim * r, 0.022), felt), disc(0.03, 0.09, r + 0.006, band), *crown]


def clock(rng: np.random.Generator) -> list[Solid]:
    """Return an alarm clock with bells and feet, or a mantel clock in its case."""
    rim = draw_material(rng, "metal", "paint")
    ivory = (0.85, 0.83, 0.76) if rng.uniform() < 0.7 else shade(draw_colour(rng), 1.3)
    dial = Material("dial", ivory, rim.first, rng.uniform(0.1, 1.0))
    face = moved([oval(0, 0, 0, (0.03, 0.22, 0.22), dial)], (0, 0.07, 0.28), np.pi / 2)
    if rng.uniform() < 0.55:
        case = [oval(0, 0, 0.28, (0.235, 0.085, 0.235), rim)]
        bells = mirrored(oval(0.12, 0, 0.51, (0.085, 0.07, 0.06), rim))
        feet = mirrored(ball(0.12, 0, 0.035, 0.035, rim))
        return [*case, *face, *bells, *feet, disc(0.5, 0.6, 0.014, DARK)]
    wood = draw_wood(rng)
    case = [block(0, 0, 0.28, (0.27, 0.075, 0.26), wood), block(0, 0, 0.55, (0.3, 0.1, 0.02), wood)]
    return [*case, block(0, 0, 0.015, (0.31, 0.11, 0.025), wood), *face]
