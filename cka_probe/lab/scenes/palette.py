"""The colours and materials of one room, drawn together so that its furniture matches."""

import colorsys
from dataclasses import dataclass

import numpy as np

from cka_probe.lab.scenes.solids import RGB, Material

Range = tuple[float, float]


def colour(hue: float, saturation: float, value: float) -> RGB:
    """Return the linear RGB of an sRGB colour in HSV."""
    r, g, b = colorsys.hsv_to_rgb(hue % 1, min(saturation, 1), min(value, 1))
    return float(r) ** 2.2, float(g) ** 2.2, float(b) ** 2.2


def shade(rgb: RGB, factor: float) -> RGB:
    """Return a colour multiplied by a factor: lighter or darker."""
    r, g, b = rgb
    return min(r * factor, 1.0), min(g * factor, 1.0), min(b * factor, 1.0)


def draw_tone(rng: np.random.Generator, hue: Range, saturation: Range, value: Range) -> RGB:
    """Return a colour whose hue, saturation and value are drawn, in this order, from ranges (lowest, highest)."""
    return colour(rng.uniform(*hue), rng.uniform(*saturation), rng.uniform(*value))


@dataclass(frozen=True)
class Palette:
    """The materials of one room."""

    wood: Material
    light_wood: Material
    cloth: Material
    accent: Material
    white: Material
    metal: Material
    dark: Material


@dataclass(frozen=True)
class Tones:
    """Ranges (lowest, highest) that the colours of a palette are drawn from, sRGB in HSV.

    Attributes:
        timber: Hue and value of wood.
        pale: Value of light wood.
        cloth: Saturation and value.
        accent: Saturation and value.
        white: Hue, and value of its light and its dark.
    """

    timber: tuple[Range, Range] = ((0.05, 0.10), (0.25, 0.62))
    pale: Range = (0.65, 0.85)
    cloth: tuple[Range, Range] = ((0.05, 0.45), (0.3, 0.75))
    accent: tuple[Range, Range] = ((0.2, 0.68), (0.4, 0.85))
    white: tuple[float, float, float] = (0.11, 0.93, 0.78)


DUSKY = Tones(
    timber=((-0.02, 0.05), (0.14, 0.4)),
    pale=(0.4, 0.6),
    cloth=((0.35, 0.85), (0.2, 0.55)),
    accent=((0.5, 0.95), (0.3, 0.7)),
    white=(0.09, 0.7, 0.52),
)
"""Dark woods, saturated cloths."""

PALE = Tones(
    timber=((0.06, 0.14), (0.6, 0.9)),
    pale=(0.75, 0.95),
    cloth=((0.05, 0.4), (0.55, 0.95)),
    accent=((0.2, 0.7), (0.6, 1.0)),
    white=(0.55, 0.02, 0.97),
)
"""Birch and linen."""


def draw_palette(rng: np.random.Generator, tones: Tones = Tones()) -> Palette:
    """Return the materials of a room."""
    hue, tone = (rng.uniform(*limits) for limits in tones.timber)
    timber = colour(hue, rng.uniform(0.35, 0.65), tone)
    pale = colour(hue + 0.02, rng.uniform(0.2, 0.45), rng.uniform(*tones.pale))
    base = rng.uniform()
    cloth = colour(base, *(rng.uniform(*limits) for limits in tones.cloth))
    accent = colour(base + rng.choice([0.33, 0.5, 0.12]), *(rng.uniform(*limits) for limits in tones.accent))
    white, light, dark = tones.white
    weave = str(rng.choice(["fabric", "fabric", "stripes", "checks"]))
    return Palette(
        wood=Material("wood", timber, shade(timber, 0.5)),
        light_wood=Material("wood", pale, shade(pale, 0.65)),
        cloth=Material("fabric", cloth, shade(cloth, 0.55), 0.12),
        accent=Material(weave, accent, shade(accent, 0.35), rng.uniform(0.08, 0.16)),
        white=Material("plain", colour(white, 0.05, light), colour(white, 0.08, dark)),
        metal=Material("plain", colour(0.6, 0.04, 0.6), colour(0.6, 0.05, 0.38)),
        dark=Material("plain", colour(0.6, 0.1, 0.16), colour(0.6, 0.15, 0.08)),
    )
