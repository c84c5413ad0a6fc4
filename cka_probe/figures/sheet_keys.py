"""What the colours of a contact sheet mean, drawn below it: depth in metres, normals, flow, classes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from matplotlib.patches import Rectangle

from cka_probe.figures import colouring, labels, style
from cka_probe.figures.pen import Pen

LINE, SWATCH = 0.16, 0.1  # inches: height of a line of classes, and of a square of colour
BAR, BAND, ROUND = 1.9, 0.42, 0.34  # width of the bar of depth; height of a row of keys; of a ball or wheel
MIDDLE = 0.17  # inches: where in a row of keys their words stand
SPACE = 0.25  # between keys
LONGEST = 13.0  # em for the name of a class
NONE = "no value"
"""What hatching says: not measured, ignored, not known, or no such field."""


@dataclass(frozen=True)
class Scales:
    """What colours mean on one sheet.

    Attributes:
        depth: Metres of the lightest and darkest colour; None: there is no depth.
        sparse: Some of it is drawn with points enlarged.
        flow: Pixels at full strength; None: there is no flow.
        normals: There are normals.
        colours: (n, 3) RGB of all classes, 0 … 255.
        classes: Name and colour of those that are on the sheet.
        hatched: There are fields that can lack a value.
    """

    depth: tuple[float, float] | None
    sparse: bool
    flow: float | None
    normals: bool
    colours: np.ndarray
    classes: list[tuple[str, tuple[int, int, int]]]
    hatched: bool


@dataclass(frozen=True)
class _Key:
    """One key: how wide it is, and how it is drawn with its left end at (x, y), y the top of its band."""

    width: float
    draw: Callable[[float, float], None]


def height(scales: Scales, width: float, design: float) -> float:
    """Return the height in inches that the keys need on a sheet of this width inside its margins."""
    rows = _rows([key.width for key in _keys(None, scales, design)], width)
    swatches = _swatches(scales)
    lines = -(-len(swatches) // _across(swatches, width, design)[0]) if swatches else 0
    return (len(rows) * BAND + lines * LINE) * design


def draw(pen: Pen, scales: Scales, left: float, top: float) -> None:
    """Draw all keys that the sheet needs below `top`."""
    design, width = pen.design, pen.size[0] - 2 * left
    keys = _keys(pen, scales, design)
    for row in _rows([key.width for key in keys], width):
        x = left
        for number in row:
            keys[number].draw(x, top)
            x += keys[number].width + SPACE * design
        top += BAND * design
    swatches = _swatches(scales)
    across, wide = _across(swatches, width, design) if swatches else (1, 0.0)
    for number, (name, look) in enumerate(swatches):
        y = top + (number // across + 0.5) * LINE * design
        _draw_swatch(pen, labels.cut(name, LONGEST), left + number % across * wide, y, look)


def _rows(widths: list[float], width: float) -> list[list[int]]:
    """Return which keys stand in each row."""
    rows: list[list[int]] = []
    used = np.inf
    for number, needed in enumerate(widths):
        if used + needed > width:
            rows.append([])
            used = 0.0
        rows[-1].append(number)
        used += needed + SPACE
    return rows


def _keys(pen: Pen | None, scales: Scales, design: float) -> list[_Key]:
    """Return the keys that are needed; without a pen they only know their widths."""

    def words(text: str) -> float:
        return labels.width(text) * 6 / style.POINTS * design

    keys = []
    if scales.depth:
        name = "depth (m), points enlarged" if scales.sparse else "depth (m)"
        width = (BAR + 0.25) * design + words(name)
        keys.append(_Key(width, lambda x, y: draw_depth_bar(pen, scales.depth, name, x, y)))
    if scales.normals:
        ball, told = _ball(), "normals: red right, green up, blue to the camera"
        keys.append(_Key((ROUND + 0.08) * design + words(told), lambda x, y: _draw_round(pen, ball, told, x, y)))
    if scales.flow:
        wheel, rim = _wheel(), f"flow: rim {scales.flow:.3g} px"
        keys.append(_Key((ROUND + 0.08) * design + words(rim), lambda x, y: _draw_round(pen, wheel, rim, x, y)))
    if scales.hatched and not scales.classes:
        width = (2 * SWATCH + 0.06) * design + words(NONE)
        keys.append(_Key(width, lambda x, y: _draw_swatch(pen, NONE, x, y + MIDDLE * design, style.UNDEFINED)))
    return keys


def draw_depth_bar(pen: Pen, depth: tuple[float, float], name: str, x: float, y: float) -> None:
    """Draw the bar of inverse depth, near on the left, with metres below; (x, y) is the top left of its band."""
    design, (near, far) = pen.design, depth
    inverse = np.linspace(1 / near, 1 / far, 256)[None, None]
    width, high, left, top = BAR * design, 0.1 * design, x + 0.1 * design, y + (MIDDLE - 0.05) * design
    line = {"color": "black", "linewidth": style.FRAME * pen.scale}
    pen.picture(colouring.inverse_depth(1 / inverse, near, far), (left, top, width, high))
    pen.ax.add_patch(Rectangle((left, top), width, high, fill=False, **line))
    for metres, share in ticks(near, far):
        place, low = left + share * width, top + high
        pen.ax.plot([place, place], [low, low + 0.02 * design], **line, scalex=False, scaley=False)
        pen.text(place, low + 0.085 * design, f"{metres:g}", align="center")
    pen.text(left + width + 0.12 * design, y + MIDDLE * design, name)


def ticks(near: float, far: float) -> list[tuple[float, float]]:
    """Return round numbers of metres and where they stand on a bar of inverse depth, 0 near to 1 far.

    >>> [metres for metres, _ in ticks(0.8, 9.0)]
    [1.0, 1.5, 2.0, 3.0, 5.0]
    """
    steps = [base * 10.0**power for power in range(-4, 5) for base in (1, 1.5, 2, 3, 4, 5, 7)]
    found: list[tuple[float, float]] = []
    span = 1 / near - 1 / far
    for metres in (step for step in steps if near <= step <= far and span > 0):
        share = (1 / near - 1 / metres) / span
        if not found or share - found[-1][1] > 0.09:
            found.append((metres, share))
    return found


def _ball() -> np.ndarray:
    """Return the colours of the normals of a ball seen from the camera."""
    y, x = np.mgrid[-1:1:81j, -1:1:81j]
    square = x**2 + y**2
    normals = np.where(square < 1, np.stack([x, y, -np.sqrt(np.maximum(1 - square, 0))]), 0)
    return colouring.directions(normals)


def _wheel() -> np.ndarray:
    """Return the colours of flow of every direction, of length 1 at the rim."""
    y, x = np.mgrid[-1:1:81j, -1:1:81j]
    return colouring.motion(np.where(np.hypot(x, y) <= 1, np.stack([x, y]), np.nan), 1.0)


def _draw_round(pen: Pen, rgba: np.ndarray, words: str, x: float, y: float) -> None:
    side = ROUND * pen.design
    pen.picture(rgba, (x, y + MIDDLE * pen.design - side / 2, side, side))
    pen.text(x + side + 0.06 * pen.design, y + MIDDLE * pen.design, words)


def _draw_swatch(pen: Pen, words: str, x: float, y: float, look: dict) -> None:
    """Draw a patch of colour with its words, its middle at height y."""
    side = SWATCH * pen.design
    pen.ax.add_patch(Rectangle((x, y - side / 2), 2 * side, side, **look))
    pen.text(x + 2 * side + 0.06 * pen.design, y, words)


def _swatches(scales: Scales) -> list[tuple[str, dict]]:
    """Return name and look of the classes, and of what has none."""
    looks = [
        (name, {"facecolor": [part / 255 for part in colour], "edgecolor": "black", "linewidth": 0.3})
        for name, colour in scales.classes
    ]
    return looks + [(NONE, style.UNDEFINED)] * (scales.hatched and bool(looks))


def _across(swatches: list[tuple[str, dict]], width: float, design: float) -> tuple[int, float]:
    """Return how many swatches stand beside each other, and the width of one with its name."""
    longest = max(labels.width(labels.cut(name, LONGEST)) for name, _ in swatches)
    needed = (2 * SWATCH + 0.06 + 0.16 + longest * 6 / style.POINTS) * design
    return max(1, int(width / needed)), needed
