"""Pieces of furniture: each a few solids at the origin, with its back at y = 0 and its front towards +y.

The sizes and colours of every piece are random: they come from the generator and the palette of the room.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from cka_probe.lab.scenes.palette import Palette, colour, draw_tone, shade
from cka_probe.lab.scenes.solids import Material, Solid, box, cylinder, ellipsoid, labelled, moved

Piece = list[Solid]

_INSET = 0.004  # metres between parallel faces, so that rounding never decides which of them is visible


def _legs(w: float, d: float, height: float, thickness: float, material: Material) -> Piece:
    """Return four legs under a w x d board whose back is y = 0, slightly inside its rim."""
    corners = [(x, y) for x in (_INSET - w / 2, w / 2 - thickness - _INSET) for y in (_INSET, d - thickness - _INSET)]
    return [box((x, y, 0), (x + thickness, y + thickness, height), material) for x, y in corners]


def panels(wood: Material, width: float) -> Material:
    """Return doors of a width, in the colours of a material."""
    return Material("panels", wood.first, wood.second, width)


def table(rng: np.random.Generator, p: Palette, w: float, d: float, height: float) -> Piece:
    """Return a table of a size, with objects on it."""
    top = p.wood if rng.uniform() < 0.7 else p.light_wood
    if rng.uniform() < 0.25:
        stem = cylinder((-0.05, d / 2 - 0.05, 0), (0.05, d / 2 + 0.05, height), p.metal)
        foot = cylinder((-w / 4, d / 4, 0), (w / 4, 3 * d / 4, 0.03), p.metal)
        parts = [cylinder((-w / 2, 0, height - 0.04), (w / 2, d, height), top), stem, foot]
    else:
        parts = [box((-w / 2, 0, height - 0.05), (w / 2, d, height), top), *_legs(w, d, height - 0.02, 0.06, top)]
    parts += moved(_on_top(rng, p), (rng.uniform(-w / 4, w / 4), d / 2, height))
    x = w / 2 - 0.28
    book = box((-x, d * 0.3, height), (-x + 0.2, d * 0.3 + 0.26, height + 0.05), p.accent)
    return [*parts, *labelled([book], "books")]


def _on_top(rng: np.random.Generator, p: Palette) -> Piece:
    """Return a small object for a table, around the origin; sometimes none."""
    choice = rng.integers(4)
    if choice == 0:  # a bowl of fruit
        fruit = Material("plain", colour(rng.uniform(0, 0.3), 0.75, 0.8), colour(rng.uniform(0, 0.2), 0.7, 0.6))
        balls = [ellipsoid((x - 0.05, y - 0.05, 0.05), (x + 0.05, y + 0.05, 0.15), fruit) for x, y in _CLUSTER]
        return labelled([cylinder((-0.16, -0.16, 0), (0.16, 0.16, 0.07), p.white), *balls], "objects")
    if choice == 1:  # flowers in a vase
        tall = rng.uniform(0.15, 0.28)
        petals = Material("leaves", colour(rng.uniform(), 0.45, 0.95), colour(rng.uniform(), 0.45, 0.5))
        heads = [(petals if k else _GREEN, 1.4 * x, 1.4 * y, tall + 0.05 * k) for k, (x, y) in enumerate(_CLUSTER)]
        bunch = [ellipsoid((x - 0.08, y - 0.08, z), (x + 0.08, y + 0.08, z + 0.13), m) for m, x, y, z in heads]
        return labelled([cylinder((-0.05, -0.05, 0), (0.05, 0.05, tall + 0.03), p.metal), *bunch], "objects")
    if choice == 2:  # a pile of books
        levels, covers = range(int(rng.integers(2, 5))), (p.accent, p.white, p.cloth, p.dark)
        pile = [box((-0.13, -0.1, 0.04 * k), (0.13 - 0.02 * k, 0.1, 0.04 * k + 0.037), covers[k]) for k in levels]
        return labelled(pile, "books")
    return []


def chair(rng: np.random.Generator, p: Palette) -> Piece:
    """Return a chair."""
    cover = p.accent if rng.uniform() < 0.5 else p.wood
    seat = box((-0.21, 0.006, 0.42), (0.21, 0.43, 0.48), cover)
    back = box((-0.19, 0.003, 0.68), (0.19, 0.035, 0.9), cover)
    posts = [box((x, 0, 0.45), (X, 0.04, 0.92), p.wood) for x, X in ((-0.2, -0.16), (0.16, 0.2))]
    return [seat, *_legs(0.42, 0.43, 0.43, 0.045, p.wood), *posts, back]


def dining(rng: np.random.Generator, p: Palette) -> Piece:
    """Return a table with chairs along both sides."""
    w, d = rng.uniform(1.2, 1.9), rng.uniform(0.8, 1.0)
    parts = [*moved(table(rng, p, w, d, 0.74), (0, 0.45, 0))]
    seats = np.linspace(-w / 2 + 0.35, w / 2 - 0.35, 2 if w < 1.6 else 3)
    for x in seats:
        for y, yaw in ((0.15, 0.0), (d + 0.75, np.pi)):
            if rng.uniform() < 0.85:
                out = rng.uniform(-0.12, 0.1) * (1 if yaw else -1)
                parts += labelled(moved(chair(rng, p), (float(x), y + out, 0), yaw + rng.normal(0, 0.12)), "chair")
    return parts


def sofa(rng: np.random.Generator, p: Palette) -> Piece:
    """Return a sofa or an armchair with cushions."""
    w, d, seats = rng.uniform(0.95, 2.2), 0.88, p.cloth
    half = w / 2
    parts = [
        box((-half + 0.1, 2 * _INSET, 0.07), (half - 0.1, d - _INSET, 0.4), seats),
        box((-half + _INSET, _INSET, 0.3), (half - _INSET, 0.24, rng.uniform(0.74, 0.92)), seats),
        box((-half, 0, 0.06), (-half + 0.18, d, 0.6), seats),
        box((half - 0.18, 0, 0.06), (half, d, 0.6), seats),
    ]
    for left, right in pairwise(np.linspace(-half + 0.18, half - 0.18, 2 if w < 1.4 else 3)):
        parts.append(box((left + 0.01, 0.22, 0.39), (right - 0.01, d + 0.03, 0.5), seats))
    for x in rng.choice([-1, 1], size=rng.integers(1, 3), replace=False) * (half - 0.4):
        parts += labelled([ellipsoid((x - 0.24, 0.2, 0.46), (x + 0.24, 0.4, 0.88), p.accent)], "objects")
    return parts


def bed(rng: np.random.Generator, p: Palette) -> Piece:
    """Return a bed with pillows and a cover, its headboard at the wall."""
    w, d = rng.uniform(1.0, 1.8), 2.05
    headboard = box((-w / 2, 0, 0), (w / 2, 0.08, rng.uniform(0.8, 1.2)), p.wood)
    frame = box((-w / 2, 0.08, 0.08), (w / 2, d, 0.3), p.wood)
    mattress = box((-w / 2 + 0.03, 0.08, 0.3), (w / 2 - 0.03, d - 0.02, 0.52), p.white)
    cloth = p.accent if rng.uniform() < 0.6 else p.cloth
    cover = box((-w / 2 - 0.01, 0.75, 0.22), (w / 2 + 0.01, d + 0.01, 0.56), cloth)
    places = (-w / 4, w / 4) if w > 1.3 else (0.0,)
    pillows = [ellipsoid((x - 0.31, 0.14, 0.46), (x + 0.31, 0.62, 0.68), p.white) for x in places]
    return [headboard, frame, mattress, cover, *labelled(pillows, "objects")]


def cupboard(rng: np.random.Generator, p: Palette) -> Piece:
    """Return a wardrobe, chest or sideboard with doors."""
    low = rng.uniform() < 0.45
    w, d, height = rng.uniform(0.9, 1.7), rng.uniform(0.4, 0.6), rng.uniform(*((0.75, 1.0) if low else (1.7, 2.1)))
    front = (p.wood, p.light_wood, p.white)[rng.integers(3)]
    body = box((-w / 2, 0, 0.06), (w / 2, d, height), panels(front, w / round(w / 0.45)))
    plinth = box((-w / 2 + 0.03, 0.02, 0), (w / 2 - 0.03, d - 0.04, 0.06), p.dark)
    top = box((-w / 2 - 0.02, 0, height), (w / 2 + 0.02, d + 0.02, height + 0.03), p.wood)
    lit = low and rng.uniform() < 0.5
    return [body, plinth, top, *(moved(lamp(rng, p), (w / 4, d / 2 - 0.12, height + 0.03)) if lit else [])]


def bookcase(rng: np.random.Generator, p: Palette) -> Piece:
    """Return shelves, mostly full."""
    w, d, height, shelves = rng.uniform(0.7, 1.4), 0.3, rng.uniform(1.3, 2.1), int(rng.integers(4, 6))
    body = p.wood if rng.uniform() < 0.6 else p.light_wood
    parts = [
        box((-w / 2, 0, 0), (-w / 2 + 0.03, d, height), body),
        box((w / 2 - 0.03, 0, 0), (w / 2, d, height), body),
        box((-w / 2 + 0.025, 0, 0.01), (w / 2 - 0.025, 0.02, height - 2 * _INSET), body),
    ]
    for level in np.linspace(0.06, height, shelves + 1):
        parts.append(box((0.02 - w / 2, 0.01, level - 0.03), (w / 2 - 0.02, d - _INSET, level - _INSET), body))
        if level < height - 0.1 and rng.uniform() < 0.85:
            left, right = np.sort(rng.uniform(-w / 2 + 0.05, w / 2 - 0.05, 2))
            left, right = (left, right) if right - left > w / 2 else (-w / 2 + 0.04, w / 2 - 0.1)
            backs = Material("books", colour(rng.uniform(), 0.6, 0.8), colour(rng.uniform(), 0.5, 0.9), 0.045)
            row = box((left, 0.02, level), (right, d - 0.05, level + 0.75 * height / shelves), backs)
            parts += labelled([row], "books")
    return parts


def counter(rng: np.random.Generator, p: Palette) -> Piece:
    """Return a kitchen counter with cupboards above, and perhaps a fridge."""
    w, d = rng.uniform(1.6, 2.8), 0.6
    front = (p.white, p.light_wood, p.cloth, p.wood)[rng.integers(4)]
    doors, tiles = panels(front, w / round(w / 0.5)), Material("tiles", p.white.first, p.metal.first, 0.14)
    low, plinth = box((-w / 2, 0, 0.08), (w / 2, d, 0.87), doors), box((-w / 2, 0, 0), (w / 2, d - 0.06, 0.08), p.dark)
    top = box((-w / 2, 0, 0.87), (w / 2, d + 0.03, 0.91), Material("plain", p.dark.first, p.metal.first))
    wall = box((-w / 2, 0, 0.91), (w / 2, 0.012, 1.42), tiles, shadow=False)
    pot = cylinder((w / 4 - 0.1, 0.2, 0.91), (w / 4 + 0.1, 0.4, 1.07), p.metal)
    toaster = box((-w / 4 - 0.15, 0.15, 0.91), (-w / 4 + 0.15, 0.45, 1.16), p.accent)
    parts = [low, plinth, top, wall, box((-w / 2, 0, 1.42), (w / 2, 0.34, 2.1), doors)]
    parts += labelled([pot, toaster], "objects")
    if rng.uniform() < 0.6:
        parts.append(box((w / 2 + 0.03, 0, 0.02), (w / 2 + 0.65, 0.64, rng.uniform(1.5, 1.95)), p.metal))
    return parts


def desk(rng: np.random.Generator, p: Palette) -> Piece:
    """Return a desk with a screen, papers, drawers and a chair."""
    w, d = rng.uniform(1.1, 1.6), 0.7
    wood = p.light_wood if rng.uniform() < 0.5 else p.wood
    x = rng.uniform(-0.2, 0.2)
    glass = Material("painting", colour(rng.uniform(), 0.4, 0.6), colour(0.6, 0.3, 0.1), glow=0.25)
    drawers = box((w / 2 - 0.45, 0.03, 0.1), (w / 2 - 0.03, d - 0.04, 0.69), panels(wood, 0.42))
    screen = box((x - 0.27, 0.14, 0.84), (x + 0.27, 0.18, 1.18), glass)
    foot = box((x - 0.03, 0.145, 0.74), (x + 0.03, 0.175, 0.86), p.dark)
    papers = box((-w / 2 + 0.08, 0.25, 0.74), (-w / 2 + 0.3, 0.55, 0.78), _PRINT)
    seat = moved(chair(rng, p), (x + rng.uniform(-0.1, 0.1), d + 0.5, 0), np.pi + rng.normal(0, 0.4))
    desk_itself = [box((-w / 2, 0, 0.7), (w / 2, d, 0.74), wood), *_legs(w, d, 0.7, 0.05, p.metal), drawers]
    return [*desk_itself, *labelled([screen, foot], "tv"), *labelled([papers], "books"), *labelled(seat, "chair")]


def television(rng: np.random.Generator, p: Palette) -> Piece:
    """Return a low bench with a television on it."""
    w = rng.uniform(1.2, 1.8)
    glass = Material("painting", colour(rng.uniform(), 0.4, 0.5), colour(0.6, 0.4, 0.08), glow=0.2)
    foot = box((-0.15, 0.12, 0.48), (0.15, 0.3, 0.52), p.dark)
    screen = box((-0.5, 0.18, 0.52), (0.5, 0.23, 1.1), glass if rng.uniform() < 0.5 else p.dark)
    return [box((-w / 2, 0, 0.05), (w / 2, 0.42, 0.48), panels(p.wood, w / 3)), *labelled([foot, screen], "tv")]


def lamp(rng: np.random.Generator, p: Palette) -> Piece:
    """Return a table lamp."""
    bulb = Material("plain", colour(0.11, 0.3, 1.0), colour(0.1, 0.4, 0.9), glow=rng.uniform(0.4, 1.2))
    foot = cylinder((-0.05, 0.07, 0), (0.05, 0.17, 0.25), p.accent)
    return labelled([foot, cylinder((-0.14, -0.02, 0.22), (0.14, 0.26, 0.45), bulb, shadow=False)], "objects")


def floor_lamp(rng: np.random.Generator, p: Palette) -> Piece:
    """Return a lamp on a pole."""
    height = rng.uniform(1.3, 1.65)
    foot = cylinder((-0.14, 0.06, 0), (0.14, 0.34, 0.03), p.metal)
    pole = cylinder((-0.015, 0.185, 0), (0.015, 0.215, height), p.metal)
    return [foot, pole, *moved(lamp(rng, p)[1:], (0, 0.08, height - 0.25))]


def plant(rng: np.random.Generator, p: Palette) -> Piece:
    """Return a plant in a pot."""
    height = rng.uniform(0.7, 1.5)
    bunches = ((0, 0, 0.8, 0.24), (0.12, 0.06, 0.62, 0.17), (-0.12, 0.04, 0.68, 0.18), (0.02, 0.1, 1.0, 0.16))
    crown = [
        ellipsoid((x - r, 0.2 + y - r, height * k - r), (x + r, 0.2 + y + r, height * k + r), _GREEN)
        for x, y, k, r in bunches
    ]
    pot = cylinder((-0.15, 0.05, 0), (0.15, 0.35, 0.3), p.accent)
    return [pot, cylinder((-0.02, 0.18, 0.3), (0.02, 0.22, height * 0.8), p.wood), *crown]


def nightstand(rng: np.random.Generator, p: Palette) -> Piece:
    """Return a small chest with a lamp."""
    top = rng.uniform(0.45, 0.6)
    return [box((-0.21, 0, 0.05), (0.21, 0.38, top), panels(p.wood, 0.42)), *moved(lamp(rng, p), (0, 0.08, top))]


def coffee_table(rng: np.random.Generator, p: Palette) -> Piece:
    """Return a low table."""
    return table(rng, p, rng.uniform(0.8, 1.2), rng.uniform(0.5, 0.7), rng.uniform(0.36, 0.48))


def boxes(rng: np.random.Generator, p: Palette) -> Piece:
    """Return taped cardboard boxes, stacked or next to each other, some with writing."""
    tone = draw_tone(rng, (0.07, 0.1), (0.35, 0.55), (0.55, 0.75))
    materials = (Material("plaster", tone, shade(tone, 0.75)), Material("writing", tone, shade(tone, 0.3), 0.09))
    parts, x, level = [], 0.0, 0.0
    for number in range(int(rng.integers(1, 4))):
        w, d, height = rng.uniform(0.32, 0.5), rng.uniform(0.28, 0.4), rng.uniform(0.22, 0.36)
        if number:  # on the previous box, or next to it
            on_top = rng.uniform() < 0.6
            x, level = (x + rng.normal(0, 0.02), level) if on_top else (x + 0.56, 0.0)
        back = 0.02 + rng.uniform(0, 0.03)
        parts += [
            box((x - w / 2, back, level), (x + w / 2, back + d, level + height), materials[rng.integers(2)]),
            box((x - 0.03, back + 0.01, level), (x + 0.03, back + d + 0.002, level + height + 0.002), p.white),
        ]
        level += height + 0.002
    return parts


_PRINT = Material("writing", colour(0.12, 0.05, 0.95), colour(0.6, 0.3, 0.2), 0.02)
_CLUSTER = ((0.0, 0.07), (0.065, -0.03), (-0.065, -0.03))
_GREEN = Material("leaves", colour(0.30, 0.65, 0.20), colour(0.26, 0.7, 0.62))

Maker = Callable[[np.random.Generator, Palette], Piece]

AT_WALLS: dict[str, tuple[Maker, ...]] = {
    "bedroom": (bed, nightstand, cupboard, cupboard, bookcase, desk, plant, sofa, boxes),
    "dining_room": (cupboard, bookcase, floor_lamp, plant, sofa, boxes),
    "living_room": (sofa, sofa, television, bookcase, floor_lamp, plant, cupboard, desk, boxes),
    "kitchen": (counter, counter, cupboard, plant, dining, boxes),
}
IN_THE_MIDDLE: dict[str, tuple[Maker, ...]] = {
    "bedroom": (bed, sofa, coffee_table),
    "dining_room": (dining,),
    "living_room": (coffee_table, coffee_table, sofa),
    "kitchen": (dining,),
}
"""Furniture of rooms by category of LSUN; the first piece at the walls is in every room."""

LABELS: dict[Maker, str] = {
    bed: "bed",
    bookcase: "furniture",
    boxes: "objects",
    coffee_table: "table",
    counter: "furniture",
    cupboard: "furniture",
    desk: "table",
    dining: "table",
    floor_lamp: "objects",
    nightstand: "furniture",
    plant: "objects",
    sofa: "sofa",
    television: "furniture",
}
"""The class of each piece among NYU's 13; parts of another class have a label of their own."""
