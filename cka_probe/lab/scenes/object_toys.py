"""Toys, models and animals, built around the origin on z = 0 and facing +y."""

from dataclasses import replace

import numpy as np

from cka_probe.lab.scenes.object_goods import (
    DARK,
    FLAME,
    WHITE,
    around,
    ball,
    block,
    disc,
    draw_ceramic,
    draw_colour,
    draw_material,
    draw_metal,
    draw_wood,
    mirrored,
    oval,
    turned,
)
from cka_probe.lab.scenes.palette import colour, draw_tone, shade
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
    cloth = draw_material(rng, "stripes", "checks", "fabric", size=0.05)
    felt = draw_material(rng, "plain", "fabric", size=0.04)
    bark = Material("bark", (0.1, 0.06, 0.03), (0.03, 0.02, 0.01))
    a, b, c = 0.23, 0.165, 0.12
    middle, neck, head = 2 * a + 0.75 * b - 0.06, 2 * a + 1.65 * b - 0.06, 2 * a + 2 * b + 0.75 * c - 0.1
    body = [ball(0, 0, z, r, snow) for z, r in ((a - 0.02, a), (middle, b), (head, c))]
    nose = oval(0, 1.2 * c, head - 0.01, (0.025, 0.09, 0.025), _CARROT)
    scarf = disc(neck - 0.025, neck + 0.03, 0.115, cloth)
    hat = [disc(head + 0.08, head + 0.1, 0.15, felt), disc(head + 0.1, head + 0.24, 0.095, felt)]
    eyes = mirrored(ball(0.045, 0.92 * c, head + 0.035, 0.017, DARK))
    buttons = [ball(0, 0.96 * b, middle + z, 0.02, DARK) for z in (-0.06, 0.04)]
    arms = mirrored(block(0.25, 0, 2 * a + b - 0.03, (0.12, 0.012, 0.012), bark))
    return [*body, nose, scarf, *hat, *eyes, *buttons, *arms]


def robot(rng: np.random.Generator) -> list[Solid]:
    """Return a robot of boxes with lit eyes."""
    tin = draw_metal(rng) if rng.uniform() < 0.5 else draw_material(rng, "paint", "metal")
    joint = draw_metal(rng)
    eye = Material("plain", colour(rng.uniform(), 0.7, 1.0), colour(rng.uniform(), 0.5, 1.0), glow=1.5)
    panel = Material("panels", draw_colour(rng), (0.1, 0.1, 0.1), 0.09)
    w, height = rng.uniform(0.14, 0.19), rng.uniform(0.26, 0.34)
    top = 0.2 + height + 0.04
    body = block(0, 0, 0.2 + height / 2, (w, 0.11, height / 2), tin)
    front = block(0, 0.112, 0.2 + 0.55 * height, (0.6 * w, 0.006, 0.28 * height), panel)
    neck = block(0, 0, top - 0.02, (0.05, 0.05, 0.025), joint)
    head = block(0, 0, top + 0.085, (0.125, 0.11, 0.085), tin)
    mouth = block(0, 0.112, top + 0.04, (0.07, 0.006, 0.014), DARK)
    aerial = [disc(top + 0.17, top + 0.26, 0.01, joint), ball(0, 0, top + 0.27, 0.025, eye)]
    limbs_and_eyes = mirrored(
        block(0.5 * w, 0, 0.11, (0.045, 0.06, 0.1), joint),
        block(0.5 * w, 0.03, 0.02, (0.06, 0.1, 0.02), tin),
        block(w + 0.05, 0, 0.2 + 0.55 * height, (0.035, 0.05, 0.42 * height), tin),
        ball(w + 0.05, 0, 0.2 + 0.1 * height, 0.045, joint),
        ball(0.055, 0.115, top + 0.1, 0.03, eye),
    )
    return [body, front, neck, head, mouth, *aerial, *limbs_and_eyes]


def teddy(rng: np.random.Generator) -> list[Solid]:
    """Return a teddy bear that sits."""
    tone = draw_tone(rng, (0.03, 0.12), (0.2, 0.7), (0.3, 0.85)) if rng.uniform() < 0.75 else draw_colour(rng)
    fur, pale = Material("leaves", tone, shade(tone, 0.6)), Material("fabric", shade(tone, 1.7), tone, 0.05)
    body, head = oval(0, 0, 0.2, (0.16, 0.14, 0.2), fur), ball(0, 0.02, 0.47, 0.135, fur)
    snout, nose = oval(0, 0.115, 0.44, (0.062, 0.06, 0.05), pale), oval(0, 0.17, 0.46, (0.022, 0.015, 0.016), DARK)
    belly = oval(0, 0.1, 0.2, (0.1, 0.06, 0.13), pale)
    ears_eyes_and_limbs = mirrored(
        oval(0.11, 0.0, 0.575, (0.055, 0.035, 0.055), fur),
        ball(0.05, 0.135, 0.5, 0.016, DARK),
        oval(0.19, 0.06, 0.25, (0.05, 0.07, 0.11), fur),
        oval(0.12, 0.18, 0.065, (0.065, 0.14, 0.065), fur),
        oval(0.12, 0.3, 0.075, (0.06, 0.03, 0.07), pale),
    )
    return [body, head, snout, nose, belly, *ears_eyes_and_limbs]


def penguin(rng: np.random.Generator) -> list[Solid]:
    """Return a penguin."""
    tone = colour(0.6, rng.uniform(0, 0.5), rng.uniform(0.1, 0.35))
    back, orange = Material("plain", tone, shade(tone, 0.6)), Material("plain", (0.8, 0.35, 0.02), (0.65, 0.25, 0.02))
    body, belly = oval(0, 0, 0.26, (0.165, 0.15, 0.25), back), oval(0, 0.045, 0.25, (0.125, 0.13, 0.215), WHITE)
    head, beak = oval(0, 0.01, 0.53, (0.11, 0.11, 0.115), back), oval(0, 0.13, 0.52, (0.03, 0.07, 0.02), orange)
    wings_feet_and_eyes = mirrored(
        oval(0.165, 0, 0.28, (0.03, 0.07, 0.17), back),
        oval(0.075, 0.1, 0.015, (0.055, 0.1, 0.02), orange),
        ball(0.05, 0.092, 0.56, 0.024, WHITE),
        ball(0.052, 0.108, 0.562, 0.014, DARK),
    )
    return [body, belly, head, beak, *wings_feet_and_eyes]


def duck(rng: np.random.Generator) -> list[Solid]:
    """Return a bath duck."""
    tone = colour(rng.uniform(0.11, 0.15), 0.85, 0.95) if rng.uniform() < 0.6 else draw_colour(rng)
    rubber, orange = Material("paint", tone, shade(tone, 0.7)), Material("paint", (0.8, 0.22, 0.01), (0.6, 0.2, 0.01))
    body, head = oval(0, -0.02, 0.15, (0.2, 0.28, 0.15), rubber), ball(0, 0.14, 0.39, 0.15, rubber)
    beak, tail = oval(0, 0.3, 0.37, (0.07, 0.08, 0.025), orange), oval(0, -0.27, 0.24, (0.07, 0.09, 0.07), rubber)
    wing, eye = oval(0.18, -0.04, 0.18, (0.05, 0.15, 0.085), rubber), ball(0.07, 0.26, 0.43, 0.024, DARK)
    return [body, head, beak, tail, *mirrored(wing, eye)]


def train(rng: np.random.Generator) -> list[Solid]:
    """Return a steam locomotive and a wagon with a load."""
    paint, under, brass = draw_material(rng, "paint", "metal"), draw_material(rng, "metal", "paint"), draw_metal(rng)
    cabin = Material("cabin", paint.first, DARK.first, 0.9)
    rim = Material("wheel", draw_colour(rng), DARK.first)
    load = draw_material(rng, "boards", "planking", "stripes", "writing", size=0.05)
    frame, boiler = block(0, 0.16, 0.1, (0.09, 0.24, 0.025), under), oval(0, 0.2, 0.2, (0.095, 0.24, 0.095), paint)
    cab = [block(0, 0.03, 0.23, (0.11, 0.09, 0.11), cabin), block(0, 0.03, 0.35, (0.13, 0.12, 0.015), under)]
    chimney = [disc(0.24, 0.4, 0.035, under, 0, 0.34), disc(0.38, 0.42, 0.05, brass, 0, 0.34)]
    dome, coupling = ball(0, 0.2, 0.295, 0.035, brass), block(0, -0.115, 0.09, (0.02, 0.06, 0.012), under)
    wagon = [block(0, -0.36, 0.1, (0.1, 0.19, 0.025), under), block(0, -0.36, 0.2, (0.095, 0.18, 0.075), load)]
    wheels = [
        wheel
        for y in (0.33, 0.17, 0.01, -0.26, -0.46)
        for wheel in mirrored(oval(0.1, y, 0.055, (0.025, 0.055, 0.055), rim))
    ]
    return [frame, boiler, *cab, *chimney, dome, coupling, *wagon, *wheels]


def rocket(rng: np.random.Generator) -> list[Solid]:
    """Return a rocket on its fins."""
    paint = draw_material(rng, "paint", "stripes", "glaze", "metal", size=0.09)
    trim = draw_material(rng, "paint", "metal")
    r, height = rng.uniform(0.085, 0.12), rng.uniform(0.42, 0.52)
    body, band = disc(0.06, height, r, paint), disc(0.55 * height, 0.62 * height, r + 0.004, trim)
    tip, engine = oval(0, 0, height, (r, r, rng.uniform(0.16, 0.24)), trim), disc(0.0, 0.06, 0.7 * r, draw_metal(rng))
    port = ball(0, 0.82 * r, 0.8 * height, 0.36 * r, Material("paint", (0.1, 0.25, 0.5), (0.1, 0.1, 0.1)))
    fin = block(1.2 * r, 0, 0.09, (0.6 * r, 0.011, 0.09), trim)
    fins = [moved([fin], (0, 0, 0), turn)[0] for turn in np.arange(4) * np.pi / 2 + 0.4]
    return [body, band, tip, engine, port, *fins]


def castle(rng: np.random.Generator) -> list[Solid]:
    """Return a castle: towers, walls between them, battlements and a gate."""
    tone = draw_tone(rng, (0.03, 0.14), (0.05, 0.5), (0.45, 0.85))
    wall = Material(str(rng.choice(["stone", "brick"])), tone, shade(tone, 0.5), 0.07)
    roof = draw_material(rng, "roof", "paint", size=0.04)
    timber = Material("boards", (0.12, 0.06, 0.02), (0.05, 0.02, 0.01), 0.02)
    a, height, r = 0.24, rng.uniform(0.2, 0.28), rng.uniform(0.07, 0.09)
    parts: list[Solid] = []
    for x, y in ((-a, -a), (-a, a), (a, -a), (a, a)):
        tall = height + rng.uniform(0.08, 0.2)
        parts += [disc(0, tall, r, wall, x, y), oval(x, y, tall, (1.2 * r, 1.2 * r, 0.12), roof)]
    side = block(0, a, height / 2, (a - 0.04, 0.03, height / 2), wall)  # ends inside the towers
    merlons = [block(x, a, height + 0.022, (0.03, 0.03, 0.022), wall) for x in (-0.1, 0.02, 0.14)]
    for turn in range(4):
        parts += moved([side, *merlons], (0, 0, 0), turn * np.pi / 2)
    return [*parts, block(0, a + 0.032, 0.07, (0.055, 0.006, 0.07), timber)]


def lighthouse(rng: np.random.Generator) -> list[Solid]:
    """Return a lighthouse in bands of two colours."""
    pair = [draw_material(rng, "plain", "paint"), WHITE if rng.uniform() < 0.7 else draw_material(rng, "plain")]
    r, step = rng.uniform(0.12, 0.15), rng.uniform(0.09, 0.11)
    bands = [disc(0.05 + step * k, 0.05 + step * (k + 1), r * (1 - 0.08 * k), pair[k % 2]) for k in range(5)]
    top = 0.05 + 5 * step
    shine = Material("plain", (1.0, 0.85, 0.4), (1.0, 0.9, 0.6), glow=1.6)
    rock = oval(0, 0, 0.0, (0.24, 0.24, 0.08), Material("stone", (0.2, 0.19, 0.18), (0.1, 0.1, 0.1), 0.1))
    gallery, lantern = disc(top, top + 0.02, 0.85 * r, DARK), disc(top + 0.02, top + 0.1, 0.42 * r, shine)
    roof = oval(0, 0, top + 0.1, (0.55 * r, 0.55 * r, 0.06), pair[0])
    door = block(0, 0.98 * r, 0.12, (0.03, 0.012, 0.05), DARK)
    return [rock, *bands, gallery, lantern, roof, door]


def _handle(r: float, low: float, high: float, out: float, thickness: float, material: Material) -> list[Solid]:
    """Return an angular handle at +x between two heights."""
    bars = [block(r + out / 2 - 0.02, 0, z, (out / 2 + 0.02, thickness, thickness), material) for z in (high, low)]
    half = (thickness, 0.9 * thickness, (high - low) / 2 + 0.9 * thickness)
    return [*bars, block(r + out, 0, (low + high) / 2, half, material)]


def mug(rng: np.random.Generator) -> list[Solid]:
    """Return a mug with a handle and something in it."""
    ware, r, height = draw_ceramic(rng), rng.uniform(0.2, 0.27), rng.uniform(0.42, 0.6)
    coffee = Material("plain", colour(0.07, 0.6, 0.3), colour(0.07, 0.6, 0.2))
    body, drink = disc(0, height, r, ware), disc(height - 0.05, height + 0.002, 0.87 * r, coffee)
    return [body, drink, *_handle(r, 0.28 * height, 0.76 * height, rng.uniform(0.11, 0.15), 0.026, ware)]


def bottle(rng: np.random.Generator) -> list[Solid]:
    """Return a bottle with a label and a cork or cap."""
    r, top, neck = rng.uniform(0.13, 0.18), rng.uniform(0.42, 0.55), rng.uniform(0.78, 0.92)
    tone = colour(rng.choice([0.33, 0.1, 0.58, 0.0, 0.45]), rng.uniform(0.3, 0.9), rng.uniform(0.2, 0.6))
    glass = Material("paint", tone, shade(tone, 0.5))
    paper = draw_material(rng, "writing", "stripes", "glaze", size=0.06)
    label = disc(rng.uniform(0.1, 0.16), top - 0.06, r + 0.004, paper)
    shoulder = oval(0, 0, top, (r, r, rng.uniform(0.12, 0.2)), glass)
    cap = disc(neck - 0.06, neck + 0.03, 0.45 * r, draw_material(rng, "metal", "wood", "plain"))
    return [disc(0, top, r, glass), shoulder, disc(top, neck, 0.36 * r, glass), cap, label]


def vase(rng: np.random.Generator) -> list[Solid]:
    """Return a vase, mostly with flowers."""
    ware, r, height = draw_ceramic(rng), rng.uniform(0.17, 0.24), rng.uniform(0.24, 0.34)
    neck, top = rng.uniform(0.35, 0.55) * r, 2 * height + rng.uniform(-0.02, 0.08)
    parts = [disc(0, 0.06, 0.6 * r, ware), oval(0, 0, height, (r, r, height - 0.02), ware)]
    parts += [disc(1.5 * height, top, neck, ware), disc(top - 0.03, top + 0.004, 1.35 * neck, ware)]
    if rng.uniform() < 0.7:
        petals = draw_material(rng, "leaves", "spots", size=0.05)
        green = Material("leaves", (0.03, 0.1, 0.02), (0.15, 0.3, 0.06))
        for x, y in around(5, 0.12, rng.uniform(0, 6)):
            parts.append(oval(x, y, top + rng.uniform(0.12, 0.24), (0.085, 0.085, 0.06), petals))
            parts.append(oval(x / 2, y / 2, top + 0.05, (0.06, 0.06, 0.1), green))
    return parts


def lamp(rng: np.random.Generator) -> list[Solid]:
    """Return a table lamp."""
    foot = draw_material(rng, "metal", "glaze", "wood", "paint", size=0.08)
    r, height = rng.uniform(0.2, 0.28), rng.uniform(0.3, 0.45)
    shine = colour(rng.choice([0.1, 0.12, 0.05, 0.95]), rng.uniform(0.15, 0.5), 1.0)
    pattern = "stripes" if rng.uniform() < 0.4 else "plain"
    cloth = Material(pattern, shine, shade(shine, 0.75), 0.06, glow=rng.uniform(0.5, 1.1))
    stem = [disc(0.03, height, 0.03, foot)]
    if rng.uniform() < 0.6:
        stem.append(oval(0, 0, 0.45 * height, (0.11, 0.11, 0.42 * height), foot))
    shades = [disc(height - 0.02 + 0.1 * k, height + 0.08 + 0.1 * k, r * (1 - 0.14 * k), cloth) for k in range(3)]
    return [disc(0, 0.04, rng.uniform(0.13, 0.18), foot), *stem, *shades]


def teapot(rng: np.random.Generator) -> list[Solid]:
    """Return a teapot."""
    ware, r, height = draw_ceramic(rng), rng.uniform(0.23, 0.27), rng.uniform(0.18, 0.22)
    foot, body = disc(0, 0.05, 0.6 * r, ware), oval(0, 0, height + 0.02, (r, r, height), ware)
    lid = [oval(0, 0, 1.9 * height, (0.55 * r, 0.55 * r, 0.06), ware), ball(0, 0, 2.1 * height + 0.05, 0.035, ware)]
    spout = [
        oval(-r - 0.05 * k + 0.02, 0, 0.72 * height + 0.075 * k, (0.075 - 0.012 * k, 0.055 - 0.008 * k, 0.07), ware)
        for k in range(4)
    ]
    return [foot, body, *lid, *spout, *_handle(0.86 * r, 0.7 * height, 1.45 * height, 0.14, 0.024, ware)]


def barrel(rng: np.random.Generator) -> list[Solid]:
    """Return a barrel of staves with hoops."""
    tone = draw_tone(rng, (0.04, 0.1), (0.35, 0.65), (0.35, 0.7))
    r, high = 0.24, rng.uniform(0.55, 0.66)
    staves, iron = Material("boards", tone, shade(tone, 0.45), 0.07), draw_metal(rng)
    levels = ((0.0, 0.14, 0.88), (0.14, 0.3, 0.95), (0.3, 0.7, 1.0), (0.7, 0.86, 0.95), (0.86, 1.0, 0.88))
    bands = ((0.06, 0.89), (0.27, 0.96), (0.73, 0.96), (0.94, 0.89))
    body = [disc(low * high, top * high, share * r, staves) for low, top, share in levels]
    hoops = [disc((at - 0.025) * high, (at + 0.025) * high, share * r + 0.008, iron) for at, share in bands]
    return [*body, *hoops, disc(high, high + 0.004, 0.8 * r, Material("wood", tone, shade(tone, 0.5)))]


def hourglass(rng: np.random.Generator) -> list[Solid]:
    """Return an hourglass in its frame."""
    frame, r = draw_wood(rng), rng.uniform(0.17, 0.22)
    glass = Material("paint", colour(0.55, 0.12, 0.85), (0.5, 0.5, 0.5))
    tone = draw_colour(rng)
    ends = [disc(0, 0.045, r, frame), disc(0.6, 0.645, r, frame)]
    posts = [
        disc(0.03, 0.62, 0.018, frame, 0.85 * r * np.cos(turn), 0.85 * r * np.sin(turn)) for turn in (0.5, 2.6, 4.7)
    ]
    sand = oval(0, 0, 0.2, (0.66 * r, 0.66 * r, 0.15), Material("soil", tone, shade(tone, 0.6)))
    return [*ends, *posts, sand, oval(0, 0, 0.45, (0.66 * r, 0.66 * r, 0.15), glass), disc(0.28, 0.37, 0.035, glass)]


def candle(rng: np.random.Generator) -> list[Solid]:
    """Return a burning candle on a dish, or a candlestick of three arms."""
    wax, brass = draw_material(rng, "plain", "stripes", "paint", size=0.08), draw_metal(rng)
    if rng.uniform() < 0.5:
        r, height = rng.uniform(0.06, 0.1), rng.uniform(0.38, 0.5)
        parts = [disc(0, 0.03, 0.24, brass), disc(0.03, 0.08, 1.35 * r, brass)]
        feet = [(0.0, 0.06)]
    else:
        r, height = 0.04, 0.22
        parts = [disc(0, 0.04, 0.15, brass), disc(0.04, 0.42, 0.025, brass)]
        parts += [block(0, 0, 0.33, (0.23, 0.018, 0.018), brass), *mirrored(disc(0.34, 0.37, 0.06, brass, 0.22))]
        parts.append(disc(0.42, 0.45, 0.06, brass))
        feet = [(-0.22, 0.37), (0.0, 0.45), (0.22, 0.37)]
    for x, z in feet:
        top = z + height
        parts += [disc(z, top, r, wax, x), disc(top, top + 0.03, 0.008, DARK, x)]
        parts.append(oval(x, 0, top + 0.075, (0.027, 0.027, 0.06), FLAME))
    return parts


def drum(rng: np.random.Generator) -> list[Solid]:
    """Return a drum with its sticks on it."""
    r, height, steel = rng.uniform(0.26, 0.32), rng.uniform(0.28, 0.42), draw_metal(rng)
    body = disc(0.03, height - 0.03, r, draw_material(rng, "stripes", "checks", "boards", "paint", size=0.1))
    rims = [disc(0, 0.05, r + 0.015, steel), disc(height - 0.05, height, r + 0.015, steel)]
    skin, stick = disc(height, height + 0.008, 0.95 * r, WHITE), draw_wood(rng)
    sticks = [
        turned(block(x, 0, height + 0.024, (0.014, 0.25, 0.014), stick), turn)
        for x, turn in ((-0.05, 0.35), (0.08, -0.25))
    ]
    return [body, *rims, skin, *sticks]
