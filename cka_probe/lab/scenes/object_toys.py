"""Toys, models and animals, built around the origin on z = 0 and facing +y."""

from dataclasses import replace

import numpy as np

from cka_probe.lab.scenes.object_goods import (
    DARK,
    WHITE,
    ball,
    block,
    disc,
    draw_ceramic,
    draw_colour,
    draw_material,
    draw_metal,
    draw_wood,
    oval,
    turned,
)
from cka_probe.lab.scenes.palette import colour, shade
from cka_probe.lab.scenes.solids import Material, Solid, moved

_CARROT = Material("plain", (0.8, 0.2, 0.01), (0.6, 0.14, 0.01))


def football(rng: np.random.Generator) -> list[Solid]:
    """Return a football with twelve dark patches."""
    patch = (0.02, 0.02, 0.02) if rng.uniform() < 0.5 else draw_colour(rng)
    leather = colour(rng.uniform(), rng.choice([0.0, 0.1, 0.3]), rng.uniform(0.82, 0.97))
    return [ball(0, 0, 0.3, 0.3, Material("football", leather, shade(patch, 0.5), 0.3))]


def beach_ball(rng: np.random.Generator) -> list[Solid]:
    """Return a beach ball of coloured segments."""
    return [ball(0, 0, 0.3, 0.3, replace(draw_material(rng, "segments"), size=0.3))]


def snowman(rng: np.random.Generator) -> list[Solid]:
    """Return a snowman with a hat, a carrot, eyes, buttons and a scarf."""
    snow = Material("soil", (0.72, 0.75, 0.8), (0.9, 0.92, 0.95))
    cloth, hat = (
        draw_material(rng, "stripes", "checks", "fabric", size=0.05),
        draw_material(rng, "plain", "fabric", size=0.04),
    )
    a, b, c = 0.23, 0.165, 0.12
    neck, head = 2 * a + 1.65 * b - 0.06, 2 * a + 2 * b + 0.75 * c - 0.1
    face = [ball(x, 0.92 * c, head + 0.035, 0.017, DARK) for x in (-0.045, 0.045)]
    buttons = [ball(0, 0.96 * b, 2 * a + 0.75 * b - 0.06 + z, 0.02, DARK) for z in (-0.06, 0.04)]
    arms = [
        block(x, 0, 2 * a + b - 0.03, (0.12, 0.012, 0.012), Material("bark", (0.1, 0.06, 0.03), (0.03, 0.02, 0.01)))
        for x in (-0.25, 0.25)
    ]
    return [
        ball(0, 0, a - 0.02, a, snow),
        ball(0, 0, 2 * a + 0.75 * b - 0.06, b, snow),
        ball(0, 0, head, c, snow),
        oval(0, 1.2 * c, head - 0.01, (0.025, 0.09, 0.025), _CARROT),
        disc(neck - 0.025, neck + 0.03, 0.115, cloth),
        disc(head + 0.08, head + 0.1, 0.15, hat),
        disc(head + 0.1, head + 0.24, 0.095, hat),
        *face,
        *buttons,
        *arms,
    ]


def robot(rng: np.random.Generator) -> list[Solid]:
    """Return a robot of boxes with lit eyes."""
    tin = draw_metal(rng) if rng.uniform() < 0.5 else draw_material(rng, "paint", "metal")
    joint = draw_metal(rng)
    eye = Material("plain", colour(rng.uniform(), 0.7, 1.0), colour(rng.uniform(), 0.5, 1.0), glow=1.5)
    panel = Material("panels", draw_colour(rng), (0.1, 0.1, 0.1), 0.09)
    w, height = rng.uniform(0.14, 0.19), rng.uniform(0.26, 0.34)
    head = 0.2 + height + 0.04
    limbs = []
    for side in (-1, 1):
        limbs += [
            block(side * 0.5 * w, 0, 0.11, (0.045, 0.06, 0.1), joint),
            block(side * 0.5 * w, 0.03, 0.02, (0.06, 0.1, 0.02), tin),
            block(side * (w + 0.05), 0, 0.2 + 0.55 * height, (0.035, 0.05, 0.42 * height), tin),
            ball(side * (w + 0.05), 0, 0.2 + 0.1 * height, 0.045, joint),
            ball(side * 0.055, 0.115, head + 0.1, 0.03, eye),
        ]
    return [
        block(0, 0, 0.2 + height / 2, (w, 0.11, height / 2), tin),
        block(0, 0.112, 0.2 + 0.55 * height, (0.6 * w, 0.006, 0.28 * height), panel),
        block(0, 0, head - 0.02, (0.05, 0.05, 0.025), joint),
        block(0, 0, head + 0.085, (0.125, 0.11, 0.085), tin),
        block(0, 0.112, head + 0.04, (0.07, 0.006, 0.014), DARK),
        disc(head + 0.17, head + 0.26, 0.01, joint),
        ball(0, 0, head + 0.27, 0.025, eye),
        *limbs,
    ]


def teddy(rng: np.random.Generator) -> list[Solid]:
    """Return a teddy bear that sits."""
    tone = (
        colour(rng.uniform(0.03, 0.12), rng.uniform(0.2, 0.7), rng.uniform(0.3, 0.85))
        if rng.uniform() < 0.75
        else draw_colour(rng)
    )
    fur, pale = Material("leaves", tone, shade(tone, 0.6)), Material("fabric", shade(tone, 1.7), tone, 0.05)
    parts = [
        oval(0, 0, 0.2, (0.16, 0.14, 0.2), fur),
        ball(0, 0.02, 0.47, 0.135, fur),
        oval(0, 0.115, 0.44, (0.062, 0.06, 0.05), pale),
    ]
    parts += [oval(0, 0.17, 0.46, (0.022, 0.015, 0.016), DARK), oval(0, 0.1, 0.2, (0.1, 0.06, 0.13), pale)]
    for side in (-1, 1):
        parts += [
            oval(side * 0.11, 0.0, 0.575, (0.055, 0.035, 0.055), fur),
            ball(side * 0.05, 0.135, 0.5, 0.016, DARK),
            oval(side * 0.19, 0.06, 0.25, (0.05, 0.07, 0.11), fur),
            oval(side * 0.12, 0.18, 0.065, (0.065, 0.14, 0.065), fur),
            oval(side * 0.12, 0.3, 0.075, (0.06, 0.03, 0.07), pale),
        ]
    return parts


def penguin(rng: np.random.Generator) -> list[Solid]:
    """Return a penguin."""
    tone = colour(0.6, rng.uniform(0, 0.5), rng.uniform(0.1, 0.35))
    back, beak = Material("plain", tone, shade(tone, 0.6)), Material("plain", (0.8, 0.35, 0.02), (0.65, 0.25, 0.02))
    parts = [
        oval(0, 0, 0.26, (0.165, 0.15, 0.25), back),
        oval(0, 0.045, 0.25, (0.125, 0.13, 0.215), WHITE),
        oval(0, 0.01, 0.53, (0.11, 0.11, 0.115), back),
        oval(0, 0.13, 0.52, (0.03, 0.07, 0.02), beak),
    ]
    for side in (-1, 1):
        parts += [
            oval(side * 0.165, 0, 0.28, (0.03, 0.07, 0.17), back),
            oval(side * 0.075, 0.1, 0.015, (0.055, 0.1, 0.02), beak),
            ball(side * 0.05, 0.092, 0.56, 0.024, WHITE),
            ball(side * 0.052, 0.108, 0.562, 0.014, DARK),
        ]
    return parts


def duck(rng: np.random.Generator) -> list[Solid]:
    """Return a bath duck."""
    tone = colour(rng.uniform(0.11, 0.15), 0.85, 0.95) if rng.uniform() < 0.6 else draw_colour(rng)
    rubber, beak = Material("paint", tone, shade(tone, 0.7)), Material("paint", (0.8, 0.22, 0.01), (0.6, 0.2, 0.01))
    parts = [
        oval(0, -0.02, 0.15, (0.2, 0.28, 0.15), rubber),
        ball(0, 0.14, 0.39, 0.15, rubber),
        oval(0, 0.3, 0.37, (0.07, 0.08, 0.025), beak),
        oval(0, -0.27, 0.24, (0.07, 0.09, 0.07), rubber),
    ]
    for side in (-1, 1):
        parts += [
            oval(side * 0.18, -0.04, 0.18, (0.05, 0.15, 0.085), rubber),
            ball(side * 0.07, 0.26, 0.43, 0.024, DARK),
        ]
    return parts


def train(rng: np.random.Generator) -> list[Solid]:
    """Return a steam locomotive and a wagon with a load."""
    paint, under, brass = draw_material(rng, "paint", "metal"), draw_material(rng, "metal", "paint"), draw_metal(rng)
    cabin = Material("cabin", paint.first, DARK.first, 0.9)
    rim = Material("wheel", draw_colour(rng), DARK.first)
    places = (0.33, 0.17, 0.01, -0.26, -0.46)
    wheels = [oval(x, y, 0.055, (0.025, 0.055, 0.055), rim) for y in places for x in (-0.1, 0.1)]
    load = draw_material(rng, "boards", "planking", "stripes", "writing", size=0.05)
    return [
        block(0, 0.16, 0.1, (0.09, 0.24, 0.025), under),
        oval(0, 0.2, 0.2, (0.095, 0.24, 0.095), paint),
        block(0, 0.03, 0.23, (0.11, 0.09, 0.11), cabin),
        block(0, 0.03, 0.35, (0.13, 0.12, 0.015), under),
        disc(0.24, 0.4, 0.035, under, 0, 0.34),
        disc(0.38, 0.42, 0.05, brass, 0, 0.34),
        ball(0, 0.2, 0.295, 0.035, brass),
        block(0, -0.115, 0.09, (0.02, 0.06, 0.012), under),
        block(0, -0.36, 0.1, (0.1, 0.19, 0.025), under),
        block(0, -0.36, 0.2, (0.095, 0.18, 0.075), load),
        *wheels,
    ]


def rocket(rng: np.random.Generator) -> list[Solid]:
    """Return a rocket on its fins."""
    body, fin = (
        draw_material(rng, "paint", "stripes", "glaze", "metal", size=0.09),
        draw_material(rng, "paint", "metal"),
    )
    r, height = rng.uniform(0.085, 0.12), rng.uniform(0.42, 0.52)
    blade = block(1.2 * r, 0, 0.09, (0.6 * r, 0.011, 0.09), fin)
    fins = [moved([blade], (0, 0, 0), turn)[0] for turn in np.arange(4) * np.pi / 2 + 0.4]
    port = Material("paint", (0.1, 0.25, 0.5), (0.1, 0.1, 0.1))
    return [
        disc(0.06, height, r, body),
        disc(0.55 * height, 0.62 * height, r + 0.004, fin),
        oval(0, 0, height, (r, r, rng.uniform(0.16, 0.24)), fin),
        disc(0.0, 0.06, 0.7 * r, draw_metal(rng)),
        ball(0, 0.82 * r, 0.8 * height, 0.36 * r, port),
        *fins,
    ]


def castle(rng: np.random.Generator) -> list[Solid]:
    """Return a castle: towers, walls between them, battlements and a gate."""
    tone = colour(rng.uniform(0.03, 0.14), rng.uniform(0.05, 0.5), rng.uniform(0.45, 0.85))
    wall = Material(str(rng.choice(["stone", "brick"])), tone, shade(tone, 0.5), 0.07)
    roof = draw_material(rng, "roof", "paint", size=0.04)
    a, height, r = 0.24, rng.uniform(0.2, 0.28), rng.uniform(0.07, 0.09)
    parts = []
    for x, y in ((-a, -a), (-a, a), (a, -a), (a, a)):
        tall = height + rng.uniform(0.08, 0.2)
        parts += [disc(0, tall, r, wall, x, y), oval(x, y, tall, (1.2 * r, 1.2 * r, 0.12), roof)]
    for turn in range(4):
        side = block(0, a, height / 2, (a - 0.04, 0.03, height / 2), wall)  # ends inside the towers
        merlons = [block(x, a, height + 0.022, (0.03, 0.03, 0.022), wall) for x in (-0.1, 0.02, 0.14)]
        parts += moved([side, *merlons], (0, 0, 0), turn * np.pi / 2)
    return [
        *parts,
        block(
            0, a + 0.032, 0.07, (0.055, 0.006, 0.07), Material("boards", (0.12, 0.06, 0.02), (0.05, 0.02, 0.01), 0.02)
        ),
    ]


def lighthouse(rng: np.random.Generator) -> list[Solid]:
    """Return a lighthouse in bands of two colours."""
    pair = [draw_material(rng, "plain", "paint"), WHITE if rng.uniform() < 0.7 else draw_material(rng, "plain")]
    r, step = rng.uniform(0.12, 0.15), rng.uniform(0.09, 0.11)
    bands = [disc(0.05 + step * k, 0.05 + step * (k + 1), r * (1 - 0.08 * k), pair[k % 2]) for k in range(5)]
    top = 0.05 + 5 * step
    shine = Material("plain", (1.0, 0.85, 0.4), (1.0, 0.9, 0.6), glow=1.6)
    rock = Material("stone", (0.2, 0.19, 0.18), (0.1, 0.1, 0.1), 0.1)
    return [
        oval(0, 0, 0.0, (0.24, 0.24, 0.08), rock),
        *bands,
        disc(top, top + 0.02, 0.85 * r, DARK),
        disc(top + 0.02, top + 0.1, 0.42 * r, shine),
        oval(0, 0, top + 0.1, (0.55 * r, 0.55 * r, 0.06), pair[0]),
        block(0, 0.98 * r, 0.12, (0.03, 0.012, 0.05), DARK),
    ]


def _handle(r: float, low: float, high: float, out: float, thickness: float, material: Material) -> list[Solid]:
    """Return an angular handle at +x between two heights."""
    middle = r + out / 2 - 0.02
    return [
        block(middle, 0, high, (out / 2 + 0.02, thickness, thickness), material),
        block(middle, 0, low, (out / 2 + 0.02, thickness, thickness), material),
        block(r + out, 0, (low + high) / 2, (thickness, 0.9 * thickness, (high - low) / 2 + 0.9 * thickness), material),
    ]


def mug(rng: np.random.Generator) -> list[Solid]:
    """Return a mug with a handle and something in it."""
    ware, r, height = draw_ceramic(rng), rng.uniform(0.2, 0.27), rng.uniform(0.42, 0.6)
    drink = Material("plain", colour(0.07, 0.6, 0.3), colour(0.07, 0.6, 0.2))
    return [
        disc(0, height, r, ware),
        disc(height - 0.05, height + 0.002, 0.87 * r, drink),
        *_handle(r, 0.28 * height, 0.76 * height, rng.uniform(0.11, 0.15), 0.026, ware),
    ]


def bottle(rng: np.random.Generator) -> list[Solid]:
    """Return a bottle with a label and a cork or cap."""
    r, body, neck = rng.uniform(0.13, 0.18), rng.uniform(0.42, 0.55), rng.uniform(0.78, 0.92)
    tone = colour(rng.choice([0.33, 0.1, 0.58, 0.0, 0.45]), rng.uniform(0.3, 0.9), rng.uniform(0.2, 0.6))
    glass, paper = (
        Material("paint", tone, shade(tone, 0.5)),
        draw_material(rng, "writing", "stripes", "glaze", size=0.06),
    )
    low = rng.uniform(0.1, 0.16)
    return [
        disc(0, body, r, glass),
        oval(0, 0, body, (r, r, rng.uniform(0.12, 0.2)), glass),
        disc(body, neck, 0.36 * r, glass),
        disc(neck - 0.06, neck + 0.03, 0.45 * r, draw_material(rng, "metal", "wood", "plain")),
        disc(low, body - 0.06, r + 0.004, paper),
    ]


def vase(rng: np.random.Generator) -> list[Solid]:
    """Return a vase, mostly with flowers."""
    ware, r, height = draw_ceramic(rng), rng.uniform(0.17, 0.24), rng.uniform(0.24, 0.34)
    neck, top = rng.uniform(0.35, 0.55) * r, 2 * height + rng.uniform(-0.02, 0.08)
    parts = [
        disc(0, 0.06, 0.6 * r, ware),
        oval(0, 0, height, (r, r, height - 0.02), ware),
        disc(1.5 * height, top, neck, ware),
        disc(top - 0.03, top + 0.004, 1.35 * neck, ware),
    ]
    if rng.uniform() < 0.7:
        petals = draw_material(rng, "leaves", "spots", size=0.05)
        green = Material("leaves", (0.03, 0.1, 0.02), (0.15, 0.3, 0.06))
        for turn in np.arange(5) * 2 * np.pi / 5 + rng.uniform(0, 6):
            x, y, z = 0.12 * np.cos(turn), 0.12 * np.sin(turn), top + rng.uniform(0.12, 0.24)
            parts += [
                oval(x, y, z, (0.085, 0.085, 0.06), petals),
                oval(x / 2, y / 2, top + 0.05, (0.06, 0.06, 0.1), green),
            ]
    return parts


def lamp(rng: np.random.Generator) -> list[Solid]:
    """Return a table lamp."""
    foot = draw_material(rng, "metal", "glaze", "wood", "paint", size=0.08)
    r, height = rng.uniform(0.2, 0.28), rng.uniform(0.3, 0.45)
    shine = colour(rng.choice([0.1, 0.12, 0.05, 0.95]), rng.uniform(0.15, 0.5), 1.0)
    cloth = Material(
        "stripes" if rng.uniform() < 0.4 else "plain", shine, shade(shine, 0.75), 0.06, glow=rng.uniform(0.5, 1.1)
    )
    stem = [disc(0.03, height, 0.03, foot)]
    if rng.uniform() < 0.6:
        stem.append(oval(0, 0, 0.45 * height, (0.11, 0.11, 0.42 * height), foot))
    shades = [disc(height - 0.02 + 0.1 * k, height + 0.08 + 0.1 * k, r * (1 - 0.14 * k), cloth) for k in range(3)]
    return [disc(0, 0.04, rng.uniform(0.13, 0.18), foot), *stem, *shades]


def teapot(rng: np.random.Generator) -> list[Solid]:
    """Return a teapot."""
    ware, r, height = draw_ceramic(rng), rng.uniform(0.23, 0.27), rng.uniform(0.18, 0.22)
    spout = [
        oval(-r - 0.05 * k + 0.02, 0, 0.72 * height + 0.075 * k, (0.075 - 0.012 * k, 0.055 - 0.008 * k, 0.07), ware)
        for k in range(4)
    ]
    return [
        disc(0, 0.05, 0.6 * r, ware),
        oval(0, 0, height + 0.02, (r, r, height), ware),
        oval(0, 0, 1.9 * height, (0.55 * r, 0.55 * r, 0.06), ware),
        ball(0, 0, 2.1 * height + 0.05, 0.035, ware),
        *spout,
        *_handle(0.86 * r, 0.7 * height, 1.45 * height, 0.14, 0.024, ware),
    ]


def barrel(rng: np.random.Generator) -> list[Solid]:
    """Return a barrel of staves with hoops."""
    tone = colour(rng.uniform(0.04, 0.1), rng.uniform(0.35, 0.65), rng.uniform(0.35, 0.7))
    r = 0.24
    high = rng.uniform(0.55, 0.66)
    staves, iron = Material("boards", tone, shade(tone, 0.45), 0.07), draw_metal(rng)
    levels = ((0.0, 0.14, 0.88), (0.14, 0.3, 0.95), (0.3, 0.7, 1.0), (0.7, 0.86, 0.95), (0.86, 1.0, 0.88))
    body = [disc(low * high, top * high, share * r, staves) for low, top, share in levels]
    hoops = [disc((at - 0.025) * high, (at + 0.025) * high, share * r + 0.008, iron)
             for at, share in ((0.06, 0.89), (0.27, 0.96), (0.73, 0.96), (0.94, 0.89))]  # fmt: skip
    return [*body, *hoops, disc(high, high + 0.004, 0.8 * r, Material("wood", tone, shade(tone, 0.5)))]


def hourglass(rng: np.random.Generator) -> list[Solid]:
    """Return an hourglass in its frame."""
    frame, r = draw_wood(rng), rng.uniform(0.17, 0.22)
    glass = Material("paint", colour(0.55, 0.12, 0.85), (0.5, 0.5, 0.5))
    tone = draw_colour(rng)
    sand = Material("soil", tone, shade(tone, 0.6))
    posts = [
        disc(0.03, 0.62, 0.018, frame, 0.85 * r * np.cos(turn), 0.85 * r * np.sin(turn)) for turn in (0.5, 2.6, 4.7)
    ]
    return [
        disc(0, 0.045, r, frame),
        disc(0.6, 0.645, r, frame),
        *posts,
        oval(0, 0, 0.2, (0.66 * r, 0.66 * r, 0.15), sand),
        oval(0, 0, 0.45, (0.66 * r, 0.66 * r, 0.15), glass),
        disc(0.28, 0.37, 0.035, glass),
    ]


def candle(rng: np.random.Generator) -> list[Solid]:
    """Return a burning candle on a dish, or a candlestick of three arms."""
    wax, brass = draw_material(rng, "plain", "stripes", "paint", size=0.08), draw_metal(rng)
    flame = Material("plain", (1.0, 0.62, 0.12), (1.0, 0.8, 0.4), glow=3.0)
    if rng.uniform() < 0.5:
        r, height = rng.uniform(0.06, 0.1), rng.uniform(0.38, 0.5)
        stand = [disc(0, 0.03, 0.24, brass), disc(0.03, 0.08, 1.35 * r, brass)]
        places = [(0.0, 0.06)]
    else:
        r, height = 0.04, 0.22
        stand = [
            disc(0, 0.04, 0.15, brass),
            disc(0.04, 0.42, 0.025, brass),
            block(0, 0, 0.33, (0.23, 0.018, 0.018), brass),
        ]
        stand += [disc(0.34, 0.37, 0.06, brass, x) for x in (-0.22, 0.22)] + [disc(0.42, 0.45, 0.06, brass)]
        places = [(-0.22, 0.37), (0.0, 0.45), (0.22, 0.37)]
    burning = []
    for x, z in places:
        burning += [
            disc(z, z + height, r, wax, x),
            disc(z + height, z + height + 0.03, 0.008, DARK, x),
            oval(x, 0, z + height + 0.075, (0.027, 0.027, 0.06), flame),
        ]
    return [*stand, *burning]


def drum(rng: np.random.Generator) -> list[Solid]:
    """Return a drum with its sticks on it."""
    r, height, rim = rng.uniform(0.26, 0.32), rng.uniform(0.28, 0.42), draw_metal(rng)
    body = draw_material(rng, "stripes", "checks", "boards", "paint", size=0.1)
    stick = draw_wood(rng)
    sticks = [
        turned(block(x, 0, height + 0.024, (0.014, 0.25, 0.014), stick), turn)
        for x, turn in ((-0.05, 0.35), (0.08, -0.25))
    ]
    return [
        disc(0.03, height - 0.03, r, body),
        disc(0, 0.05, r + 0.015, rim),
        disc(height - 0.05, height, r + 0.015, rim),
        disc(height, height + 0.008, 0.95 * r, WHITE),
        *sticks,
    ]
