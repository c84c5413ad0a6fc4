"""Vessels and lights, about the origin on z = 0: each drawn anew in its measures, materials and colours."""

import numpy as np

from cka_probe.lab.scenes.object_shapes import (
    DARK,
    WHITE,
    ball,
    block,
    disc,
    draw_colour,
    draw_look,
    draw_metal,
    draw_ware,
    draw_wood,
    oval,
    turned,
)  # fmt: skip
from cka_probe.lab.scenes.palette import colour, shade
from cka_probe.lab.scenes.solids import Material, Solid


def _handle(r: float, low: float, high: float, out: float, thick: float, look: Material) -> list[Solid]:
    """Return an angular handle at +x between two heights."""
    middle = r + out / 2 - 0.02
    return [
        block(middle, 0, high, (out / 2 + 0.02, thick, thick), look),
        block(middle, 0, low, (out / 2 + 0.02, thick, thick), look),
        block(r + out, 0, (low + high) / 2, (thick, 0.9 * thick, (high - low) / 2 + 0.9 * thick), look),
    ]


def mug(rng: np.random.Generator) -> list[Solid]:
    """Return a mug with a handle and something in it."""
    ware, r, high = draw_ware(rng), rng.uniform(0.2, 0.27), rng.uniform(0.42, 0.6)
    drink = Material("plain", colour(0.07, 0.6, 0.3), colour(0.07, 0.6, 0.2))
    return [
        disc(0, high, r, ware),
        disc(high - 0.05, high + 0.002, 0.87 * r, drink),
        *_handle(r, 0.28 * high, 0.76 * high, rng.uniform(0.11, 0.15), 0.026, ware),
    ]


def bottle(rng: np.random.Generator) -> list[Solid]:
    """Return a bottle with a label and a cork or cap."""
    r, body, neck = rng.uniform(0.13, 0.18), rng.uniform(0.42, 0.55), rng.uniform(0.78, 0.92)
    tone = colour(rng.choice([0.33, 0.1, 0.58, 0.0, 0.45]), rng.uniform(0.3, 0.9), rng.uniform(0.2, 0.6))
    glass, paper = Material("paint", tone, shade(tone, 0.5)), draw_look(rng, "writing", "stripes", "glaze", size=0.06)
    low = rng.uniform(0.1, 0.16)
    return [
        disc(0, body, r, glass),
        oval(0, 0, body, (r, r, rng.uniform(0.12, 0.2)), glass),
        disc(body, neck, 0.36 * r, glass),
        disc(neck - 0.06, neck + 0.03, 0.45 * r, draw_look(rng, "metal", "wood", "plain")),
        disc(low, body - 0.06, r + 0.004, paper),
    ]


def vase(rng: np.random.Generator) -> list[Solid]:
    """Return a vase, mostly with flowers."""
    ware, r, high = draw_ware(rng), rng.uniform(0.17, 0.24), rng.uniform(0.24, 0.34)
    neck, top = rng.uniform(0.35, 0.55) * r, 2 * high + rng.uniform(-0.02, 0.08)
    parts = [
        disc(0, 0.06, 0.6 * r, ware),
        oval(0, 0, high, (r, r, high - 0.02), ware),
        disc(1.5 * high, top, neck, ware),
        disc(top - 0.03, top + 0.004, 1.35 * neck, ware),
    ]
    if rng.uniform() < 0.7:
        petals, green = (
            draw_look(rng, "leaves", "spots", size=0.05),
            Material("leaves", (0.03, 0.1, 0.02), (0.15, 0.3, 0.06)),
        )
        for turn in np.arange(5) * 2 * np.pi / 5 + rng.uniform(0, 6):
            x, y, z = 0.12 * np.cos(turn), 0.12 * np.sin(turn), top + rng.uniform(0.12, 0.24)
            parts += [
                oval(x, y, z, (0.085, 0.085, 0.06), petals),
                oval(x / 2, y / 2, top + 0.05, (0.06, 0.06, 0.1), green),
            ]
    return parts


def lamp(rng: np.random.Generator) -> list[Solid]:
    """Return a table lamp."""
    foot = draw_look(rng, "metal", "glaze", "wood", "paint", size=0.08)
    r, high = rng.uniform(0.2, 0.28), rng.uniform(0.3, 0.45)
    shine = colour(rng.choice([0.1, 0.12, 0.05, 0.95]), rng.uniform(0.15, 0.5), 1.0)
    cloth = Material(
        "stripes" if rng.uniform() < 0.4 else "plain", shine, shade(shine, 0.75), 0.06, glow=rng.uniform(0.5, 1.1)
    )
    stem = [disc(0.03, high, 0.03, foot)]
    if rng.uniform() < 0.6:
        stem.append(oval(0, 0, 0.45 * high, (0.11, 0.11, 0.42 * high), foot))
    shades = [disc(high - 0.02 + 0.1 * k, high + 0.08 + 0.1 * k, r * (1 - 0.14 * k), cloth) for k in range(3)]
    return [disc(0, 0.04, rng.uniform(0.13, 0.18), foot), *stem, *shades]


def teapot(rng: np.random.Generator) -> list[Solid]:
    """Return a teapot."""
    ware, r, high = draw_ware(rng), rng.uniform(0.23, 0.27), rng.uniform(0.18, 0.22)
    spout = [
        oval(-r - 0.05 * k + 0.02, 0, 0.72 * high + 0.075 * k, (0.075 - 0.012 * k, 0.055 - 0.008 * k, 0.07), ware)
        for k in range(4)
    ]
    return [
        disc(0, 0.05, 0.6 * r, ware),
        oval(0, 0, high + 0.02, (r, r, high), ware),
        oval(0, 0, 1.9 * high, (0.55 * r, 0.55 * r, 0.06), ware),
        ball(0, 0, 2.1 * high + 0.05, 0.035, ware),
        *spout,
        *_handle(0.86 * r, 0.7 * high, 1.45 * high, 0.14, 0.024, ware),
    ]


def barrel(rng: np.random.Generator) -> list[Solid]:
    """Return a barrel of staves with hoops."""
    tone, r, high = (
        colour(rng.uniform(0.04, 0.1), rng.uniform(0.35, 0.65), rng.uniform(0.35, 0.7)),
        0.24,
        rng.uniform(0.55, 0.66),
    )
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
    wax, brass = draw_look(rng, "plain", "stripes", "paint", size=0.08), draw_metal(rng)
    flame = Material("plain", (1.0, 0.62, 0.12), (1.0, 0.8, 0.4), glow=3.0)
    if rng.uniform() < 0.5:
        r, high = rng.uniform(0.06, 0.1), rng.uniform(0.38, 0.5)
        stand, places = [disc(0, 0.03, 0.24, brass), disc(0.03, 0.08, 1.35 * r, brass)], ((0.0, 0.06),)
    else:
        r, high = 0.04, 0.22
        stand = [
            disc(0, 0.04, 0.15, brass),
            disc(0.04, 0.42, 0.025, brass),
            block(0, 0, 0.33, (0.23, 0.018, 0.018), brass),
        ]
        stand += [disc(0.34, 0.37, 0.06, brass, x) for x in (-0.22, 0.22)] + [disc(0.42, 0.45, 0.06, brass)]
        places = ((-0.22, 0.37), (0.0, 0.45), (0.22, 0.37))
    burning = []
    for x, z in places:
        burning += [
            disc(z, z + high, r, wax, x),
            disc(z + high, z + high + 0.03, 0.008, DARK, x),
            oval(x, 0, z + high + 0.075, (0.027, 0.027, 0.06), flame),
        ]
    return [*stand, *burning]


def drum(rng: np.random.Generator) -> list[Solid]:
    """Return a drum with its sticks on it."""
    r, high, rim = rng.uniform(0.26, 0.32), rng.uniform(0.28, 0.42), draw_metal(rng)
    body = draw_look(rng, "stripes", "checks", "boards", "paint", size=0.1)
    stick = draw_wood(rng)
    sticks = [
        turned(block(x, 0, high + 0.024, (0.014, 0.25, 0.014), stick), turn)
        for x, turn in ((-0.05, 0.35), (0.08, -0.25))
    ]
    return [
        disc(0.03, high - 0.03, r, body),
        disc(0, 0.05, r + 0.015, rim),
        disc(high - 0.05, high, r + 0.015, rim),
        disc(high, high + 0.008, 0.95 * r, WHITE),
        *sticks,
    ]
