"""Houses, plants, street furniture and vehicles, built around the origin on z = 0.

The front of a house is the plane y = 0, and it extends towards -y. It has whole numbers of storeys and bays, because
patterns paint one window per bay and storey (`patterns_outdoors`). Vehicles face +y.
"""

import numpy as np

from cka_probe.lab.scenes.palette import colour, draw_tone, shade
from cka_probe.lab.scenes.patterns_outdoors import STOREY
from cka_probe.lab.scenes.solids import RGB, Material, Solid, box, cylinder, ellipsoid, labelled, moved


def draw_wall(rng: np.random.Generator) -> Material:
    """Return a wall with windows: plaster or brick, pale or dark."""
    trim = colour(0.1, rng.uniform(0, 0.2), rng.choice([0.3, 0.85, 0.95]))
    bay = float(rng.choice([2.0, 2.4, 3.0]))
    if rng.uniform() < 0.4:
        return Material("brick_windows", _brick(rng), trim, bay)
    hue = rng.choice([0.04, 0.09, 0.12, 0.16, 0.55, 0.6])
    return Material("windows", colour(hue, rng.uniform(0.03, 0.42), rng.uniform(0.55, 0.95)), trim, bay)


def _brick(rng: np.random.Generator) -> RGB:
    return draw_tone(rng, (0.01, 0.07), (0.35, 0.65), (0.38, 0.68))


def _shop(rng: np.random.Generator, half: float) -> list[Solid]:
    """Return a shop front for the ground floor, sometimes with an awning."""
    tone = draw_tone(rng, (0, 1), (0.2, 0.8), (0.2, 0.7))
    front = Material("shopfront", shade(tone, 0.5), tone, rng.uniform(1.4, 2.2))
    parts = [box((-half + 0.25, 0.0, 0.0), (half - 0.25, 0.14, STOREY - 0.05), front)]
    if rng.uniform() < 0.4:
        cloth = Material("stripes", tone, (0.8, 0.8, 0.76), 0.5)
        parts.append(box((-half + 0.5, 0.14, 2.1), (half - 0.5, 1.0, 2.24), cloth))
    return parts


def town_house(rng: np.random.Generator, bays: int, far: bool = False) -> list[Solid]:
    """Return a terraced town house: several storeys, often a shop, a cornice and a flat roof."""
    wall = draw_wall(rng)
    if rng.uniform() < 0.22:
        grey = draw_tone(rng, (0, 1), (0, 0.15), (0.4, 0.85))
        wall = Material("offices", grey, (0.6, 0.6, 0.6), 3.0)
    half, depth = bays * wall.size / 2, 5 * wall.size
    top = STOREY * int(rng.integers(2, 7))
    parts = [box((-half, -depth, 0), (half, 0, top), wall)]
    if far:
        return parts
    trim = Material("stucco", wall.second, shade(wall.second, 0.7))
    parts.append(box((-half - 0.01, -depth, top), (half + 0.01, 0.3, top + rng.uniform(0.25, 0.7)), trim))
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
    half, depth = bays * wall.size / 2, int(rng.integers(3, 5)) * wall.size
    top = STOREY * int(rng.integers(1, storeys + 1))
    parts = [box((-half, -depth, 0), (half, 0, top), wall), *_roof(rng, half, depth, top, 2 if far else 4)]
    if far:
        return parts
    door = draw_tone(rng, (0, 1), (0.3, 0.8), (0.15, 0.6))
    x = (int(rng.integers(bays)) + 0.5 - bays / 2) * wall.size
    parts.append(box((x - 0.55, 0, 0), (x + 0.55, 0.06, 2.2), Material("panels", door, (0.8, 0.8, 0.8), 1.1)))
    if rng.uniform() < 0.5:
        roof = Material("stucco", wall.second, shade(wall.second, 0.6))
        parts.append(box((x - 1.0, 0, 2.3), (x + 1.0, 1.1, 2.42), roof))
    if rng.uniform() < 0.6:
        chimney = Material("brick", _brick(rng), (0.4, 0.38, 0.35), 0.3)
        x, y = rng.uniform(-0.4, 0.4) * half, -depth * 0.5
        parts.append(box((x - 0.4, y - 0.3, top), (x + 0.4, y + 0.3, top + 3.1), chimney))
    return parts


def _roof(rng: np.random.Generator, half: float, depth: float, top: float, steps: int) -> list[Solid]:
    """Return a hipped roof as courses that draw in."""
    tone = colour(rng.choice([0.02, 0.04, 0.06, 0.6]), rng.uniform(0.1, 0.6), rng.uniform(0.2, 0.55))
    tiles = Material("roof", tone, shade(tone, 0.4), 0.4)
    rise, draw = rng.uniform(1.8, 2.8) / steps, (depth / 2 + 0.2) / (steps + 0.6)
    courses = []
    for k in range(steps):
        low = (-half - 0.4 + k * draw, -depth - 0.4 + k * draw, top + k * rise)
        courses.append(box(low, (half + 0.4 - k * draw, 0.4 - k * draw, top + (k + 1) * rise), tiles))
    return courses


def barn(rng: np.random.Generator, bays: int, far: bool = False) -> list[Solid]:
    """Return a barn of vertical boards with a gate."""
    tone = colour(rng.choice([0.01, 0.08, 0.1]), rng.uniform(0.3, 0.7), rng.uniform(0.3, 0.6))
    half, depth, top = 2.2 * bays, rng.uniform(7, 10), rng.uniform(3.5, 5)
    walls = box((-half, -depth, 0), (half, 0, top), Material("boards", tone, shade(tone, 0.5), 0.35))
    parts = [walls, *_roof(rng, half, depth, top, 2 if far else 4)]
    if not far:
        gate = Material("planking", shade(tone, 0.6), shade(tone, 0.25), 0.4)
        parts.append(box((-1.8, 0, 0), (1.8, 0.08, 3.0), gate))
    return parts


_POST = Material("metal", colour(0.6, 0.04, 0.55), colour(0.6, 0.05, 0.35))
_BLACK = Material("metal", (0.02, 0.02, 0.02), (0.04, 0.04, 0.04))


def draw_foliage(rng: np.random.Generator, size: float) -> Material:
    """Return foliage in bunches of about `size` metres."""
    hue, value = rng.uniform(0.2, 0.34), rng.uniform(0.35, 0.62)
    if rng.uniform() < 0.12:
        hue = rng.uniform(0.05, 0.13)  # autumn
    dark = colour(hue + 0.03, rng.uniform(0.5, 0.75), 0.35 * value)
    return Material("foliage", dark, colour(hue, rng.uniform(0.45, 0.75), value), size)


def tree(rng: np.random.Generator, far: bool = False) -> list[Solid]:
    """Return a tree: broad, slender, or a conifer."""
    green, kind = draw_foliage(rng, rng.uniform(0.3, 0.5)), rng.choice(3, p=[0.65, 0.15, 0.2])
    brown = draw_tone(rng, (0.05, 0.1), (0.2, 0.5), (0.2, 0.45))
    trunk, thickness = Material("bark", brown, shade(brown, 0.35)), rng.uniform(0.1, 0.2)
    if kind == 1:
        top, r, stem = rng.uniform(7, 11), rng.uniform(0.8, 1.2), 1.6
        crown = [ellipsoid((-r, -r, 1.2), (r, r, top), green)]
    elif kind == 2:
        top, r, stem = rng.uniform(5, 9), rng.uniform(1.1, 1.6), 1.4
        levels = [(r * (1 - 0.26 * k), 0.7 + top * 0.24 * k) for k in range(3 if far else 4)]
        crown = [ellipsoid((-a, -a, z), (a, a, z + 0.42 * top), green) for a, z in levels]
    else:
        low, r = rng.uniform(2.2, 3.1), rng.uniform(1.2, 1.9)
        stem = low + 0.4
        crown = [ellipsoid((-0.7 * r, -0.7 * r, low + 0.4 * r), (0.7 * r, 0.7 * r, low + 1.9 * r), green)]
        for turn in np.arange(2 if far else 3) * (np.pi if far else 2 * np.pi / 3) + rng.uniform(0, 6):
            x, y, a = 0.5 * r * np.cos(turn), 0.5 * r * np.sin(turn), rng.uniform(0.55, 0.75) * r
            z = rng.uniform(0.3, 0.9)
            crown.append(ellipsoid((x - a, y - a, low + (z - 0.6) * r), (x + a, y + a, low + (z + 0.6) * r), green))
    return [cylinder((-thickness, -thickness, 0), (thickness, thickness, stem), trunk), *crown]


def bush(rng: np.random.Generator) -> list[Solid]:
    """Return a bush or two."""
    green, r, height = draw_foliage(rng, 0.2), rng.uniform(0.4, 0.8), rng.uniform(0.7, 1.5)
    small = 0.7 * r
    large = ellipsoid((-r, -r, -0.15 * height), (r, r, height), green)
    return [large, ellipsoid((r - small, -small, -0.1 * height), (r + small, small, 0.7 * height), green)]


def hedge(rng: np.random.Generator, length: float) -> list[Solid]:
    """Return a clipped hedge along y."""
    green, thickness, height = draw_foliage(rng, 0.2), rng.uniform(0.35, 0.6), rng.uniform(0.9, 1.9)
    return [box((-thickness, -length / 2, 0), (thickness, length / 2, height), green)]


def fence(rng: np.random.Generator, length: float) -> list[Solid]:
    """Return a fence of boards along y."""
    tone = draw_tone(rng, (0.05, 0.12), (0, 0.5), (0.35, 0.95))
    height = rng.uniform(0.85, 1.5)
    pales = Material("boards", tone, shade(tone, 0.5), rng.uniform(0.18, 0.34))
    rail = Material("wood", shade(tone, 0.8), shade(tone, 0.5))
    top = box((-0.06, -length / 2, height), (0.06, length / 2, height + 0.06), rail)
    return [box((-0.03, -length / 2, 0.05), (0.03, length / 2, height), pales), top]


def wall(rng: np.random.Generator, length: float) -> list[Solid]:
    """Return a wall of bricks or stones along y, with a coping."""
    stony, height = rng.uniform() < 0.5, rng.uniform(0.7, 1.9)
    tone = colour(rng.uniform(0.02, 0.1), rng.uniform(0.05, 0.2) if stony else 0.5, rng.uniform(0.4, 0.65))
    face = Material("stone" if stony else "brick", tone, shade(tone, 0.55), 0.5 if stony else 0.3)
    cope = Material("stucco", (0.45, 0.44, 0.42), (0.3, 0.29, 0.28))
    top = box((-0.19, -length / 2, height), (0.19, length / 2, height + 0.08), cope)
    return [box((-0.14, -length / 2, 0), (0.14, length / 2, height), face), top]


def street_lamp(rng: np.random.Generator, reach: float) -> list[Solid]:
    """Return a lamp post whose arm extends towards +x."""
    height = rng.uniform(5.5, 8.0)
    glass = Material("plain", (0.75, 0.75, 0.7), (0.6, 0.6, 0.55))
    post = cylinder((-0.07, -0.07, 0), (0.07, 0.07, height), _POST)
    arm = box((-0.05, -0.04, height), (reach, 0.04, height + 0.08), _POST)
    return [post, arm, ellipsoid((reach - 0.5, -0.14, height - 0.12), (reach + 0.2, 0.14, height + 0.1), glass)]


def mast(rng: np.random.Generator) -> list[Solid]:
    """Return a wooden utility pole with a crossbeam."""
    timber = Material("bark", colour(0.08, 0.3, 0.4), colour(0.07, 0.3, 0.22))
    height = rng.uniform(6.5, 8.5)
    beam = box((-0.9, -0.05, height - 0.7), (0.9, 0.05, height - 0.58), timber)
    return [cylinder((-0.11, -0.11, 0), (0.11, 0.11, height), timber), beam]


def sign(rng: np.random.Generator) -> list[Solid]:
    """Return a traffic sign on a post: round, or a board with writing."""
    post = cylinder((-0.035, -0.035, 0), (0.035, 0.035, 2.7), _POST)
    white, red, blue, yellow = (0.85, 0.85, 0.83), (0.55, 0.01, 0.02), (0.01, 0.08, 0.42), (0.8, 0.5, 0.01)
    if rng.uniform() < 0.6:
        pair = ((red, white), (blue, white), (white, blue), (red, yellow))[rng.integers(4)]
        r = rng.uniform(0.32, 0.42)
        disc = ellipsoid((-0.03, -r, 2.5 - r), (0.03, r, 2.5 + r), Material("roundel", *pair))
        plate = moved([disc], (0.0, 0.08, 0.0), np.pi / 2)[0]
    else:
        black, green = (0.02, 0.02, 0.02), (0.01, 0.2, 0.06)
        first, second = ((blue, white), (yellow, black), (green, white), (white, black))[rng.integers(4)]
        x, z = rng.uniform(0.3, 0.6), rng.uniform(0.25, 0.4)
        plate = box((-x, 0.04, 2.4 - z), (x, 0.08, 2.4 + z), Material("writing", first, second, z * 0.45))
    return [post, *labelled([plate], "traffic sign")]


def traffic_light(rng: np.random.Generator) -> list[Solid]:
    """Return a traffic light on a post, one of its lamps lit."""
    lit = int(rng.integers(3))
    hue = (0.0, 0.12, 0.38)[2 - lit]
    glass = Material("plain", colour(hue, 0.85, 1.0), colour(hue, 0.9, 0.9), glow=2.5)
    dim = Material("signal", (0.02, 0.02, 0.02), (0.3, 0.3, 0.25))
    z = 2.62 + 0.3 * lit
    lamp = ellipsoid((-0.12, 0.26, z - 0.1), (0.12, 0.34, z + 0.14), glass, shadow=False)
    post = cylinder((-0.06, -0.06, 0), (0.06, 0.06, 3.5), _BLACK if rng.uniform() < 0.5 else _POST)
    return [post, *labelled([box((-0.17, 0.05, 2.45), (0.17, 0.3, 3.4), dim), lamp], "traffic light")]


_RUBBER = Material("metal", (0.02, 0.02, 0.022), (0.05, 0.05, 0.055))
_DARK = Material("metal", colour(0.6, 0.1, 0.18), colour(0.6, 0.1, 0.1))
_TRIM = (0.06, 0.06, 0.065)


def draw_paint(rng: np.random.Generator) -> tuple[float, float, float]:
    """Return a colour of vehicles: mostly grey, black, white or silver."""
    if rng.uniform() < 0.6:
        return colour(rng.uniform(), rng.uniform(0, 0.08), rng.choice([0.2, 0.35, 0.6, 0.75, 0.92]))
    return colour(rng.choice([0.0, 0.01, 0.58, 0.62, 0.35, 0.13, 0.08]), rng.uniform(0.55, 0.9), rng.uniform(0.3, 0.8))


def _wheels(width: float, positions: tuple[float, ...], radius: float, far: bool) -> list[Solid]:
    """Return the wheels of axles at `positions` along y; far away one dark block per axle."""
    if far:
        x = width / 2 - 0.02
        return [box((-x, y - radius, 0.0), (x, y + radius, 1.2 * radius), _RUBBER, shadow=False) for y in positions]
    rim = Material("wheel", (0.55, 0.55, 0.57), (0.2, 0.2, 0.2))
    sides = [(x, y) for y in positions for x in (-width / 2 + 0.07, width / 2 - 0.07)]
    corners = [((x - 0.11, y - radius, 0.0), (x + 0.11, y + radius, 2 * radius)) for x, y in sides]
    return [ellipsoid(low, high, rim, shadow=False) for low, high in corners]


def car(rng: np.random.Generator, far: bool = False) -> list[Solid]:
    """Return a car: saloon, estate or a taller one."""
    tall = rng.uniform() < 0.3
    length, width = rng.uniform(3.9, 4.7), rng.uniform(1.7, 1.86)
    waist, height = (0.98, rng.uniform(1.6, 1.75)) if tall else (rng.uniform(0.82, 0.9), rng.uniform(1.4, 1.5))
    paint, half = draw_paint(rng), length / 2
    body, glass = Material("bodywork", paint, _TRIM, length), Material("cabin", paint, _TRIM, length)
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
    """Return a person who stands or walks."""
    height = rng.uniform(1.5, 1.9)
    skin, hair, coat, trousers = _clothes(rng)
    hip, neck, width = 0.48 * height, 0.84 * height, rng.uniform(0.19, 0.24)
    stride = rng.uniform(0.03, 0.16)
    head = ellipsoid((-0.1, -0.11, neck - 0.01), (0.1, 0.11, height), skin)
    body = [cylinder((-width, -0.13, hip - 0.03), (width, 0.13, neck - 0.03), coat), head]
    if far:
        return [*body, box((-0.14, -0.09, 0), (0.14, 0.09, hip), trousers)]
    steps, swings = ((-0.09, stride), (0.09, -stride)), ((-width - 0.02, -stride), (width + 0.02, stride))
    legs = [cylinder((x - 0.075, y - 0.085, 0), (x + 0.075, y + 0.085, hip + 0.05), trousers) for x, y in steps]
    arms = [ellipsoid((x - 0.06, y - 0.08, hip - 0.06), (x + 0.06, y + 0.08, neck + 0.01), coat) for x, y in swings]
    return [*body, *legs, *arms, ellipsoid((-0.108, -0.13, height - 0.13), (0.108, 0.08, height + 0.015), hair)]


def _clothes(rng: np.random.Generator) -> tuple[Material, Material, Material, Material]:
    """Return skin, hair, a coat and trousers."""
    tone, first = rng.uniform(0.35, 0.92), draw_tone(rng, (0, 1), (0.1, 0.8), (0.15, 0.85))
    skin = Material("plain", colour(0.06, 0.45, tone), colour(0.05, 0.5, 0.85 * tone))
    hair = Material("bark", colour(0.08, 0.5, rng.uniform(0.08, 0.6)), (0.01, 0.01, 0.01))
    coat = Material("fabric", first, shade(first, 0.45), 0.06)
    dark = draw_tone(rng, (0.5, 0.7), (0.05, 0.5), (0.12, 0.5))
    return skin, hair, coat, Material("fabric", dark, shade(dark, 0.6), 0.05)


def cyclist(rng: np.random.Generator, motor: bool = False) -> list[Solid]:
    """Return a person on a bicycle or motorcycle; the person's solids are labelled "rider"."""
    skin, hair, coat, trousers = _clothes(rng)
    paint = Material("metal", draw_paint(rng), _TRIM)
    r, width, apart = (0.31, 0.09, 0.66) if motor else (0.34, 0.03, 0.53)
    wheel = Material("wheel", (0.3, 0.3, 0.32) if motor else (0.5, 0.5, 0.48), _TRIM)
    parts = [ellipsoid((-width, y - r, 0), (width, y + r, 2 * r), wheel) for y in (-apart, apart)]
    if motor:
        parts.append(ellipsoid((-0.17, -0.62, 0.35), (0.17, 0.55, 0.98), paint))
        parts.append(box((-0.34, 0.5, 0.95), (0.34, 0.56, 1.02), _DARK))
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
    return [*parts, *labelled(body, "rider")]
