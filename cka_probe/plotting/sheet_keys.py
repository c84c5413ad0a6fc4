"""What the colours of a contact sheet mean, drawn below it: depth in metres, normals, flow, classes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.patches import Rectangle

from cka_probe.plotting import colouring, labels, style
from cka_probe.plotting.pen import Pen

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
        none: What hatching says.
    """

    depth: tuple[float, float] | None
    sparse: bool
    flow: float | None
    normals: bool
    colours: np.ndarray
    classes: list[tuple[str, tuple[int, int, int]]]
    hatched: bool
    none: str = NONE


@dataclass(frozen=True)
class Key:
    """One key: how wide it is, and how it is drawn with its left end at (x, y), y the top of its band."""

    width: float
    draw: Callable[[Pen, float, float], None]


def height(scales: Scales, width: float, design: float) -> float:
    """Return the height in inches that the keys need on a sheet of this width inside its margins."""
    swatches = _swatches(scales)
    lines = -(-len(swatches) // _across(swatches, width, design)[0]) if swatches else 0
    return keys_height(_keys(scales, design), width, design) + lines * LINE * design


def draw(pen: Pen, scales: Scales, left: float, top: float) -> None:
    """Draw all keys that the sheet needs below `top`."""
    design, width = pen.design, pen.size[0] - 2 * left
    top += draw_keys(pen, _keys(scales, design), left, top)
    swatches = _swatches(scales)
    across, wide = _across(swatches, width, design) if swatches else (1, 0.0)
    for number, (name, look) in enumerate(swatches):
        y = top + (number // across + 0.5) * LINE * design
        _draw_swatch(pen, labels.cut(name, LONGEST), left + number % across * wide, y, look)


def keys_height(keys: Sequence[Key], width: float, design: float = 1.0) -> float:
    """Return the height in inches of keys in bands of a width."""
    return len(_rows(keys, width, design)) * BAND * design


def draw_keys(pen: Pen, keys: Sequence[Key], left: float, top: float) -> float:
    """Draw keys in bands between equal margins and return the bands' height in inches."""
    rows = _rows(keys, pen.size[0] - 2 * left, pen.design)
    for number, row in enumerate(rows):
        x = left
        for key in row:
            key.draw(pen, x, top + number * BAND * pen.design)
            x += key.width + SPACE * pen.design
    return len(rows) * BAND * pen.design


def _rows(keys: Sequence[Key], width: float, design: float) -> list[list[Key]]:
    """Return which keys stand in each band."""
    rows: list[list[Key]] = []
    used = np.inf
    for key in keys:
        if used + key.width > width:
            rows.append([])
            used = 0.0
        rows[-1].append(key)
        used += key.width + SPACE * design
    return rows


def _keys(scales: Scales, design: float) -> list[Key]:
    """Return the keys that are needed."""
    keys = []
    if scales.depth:
        keys.append(depth_key(scales.depth, "depth (m), points enlarged" if scales.sparse else "depth (m)", design))
    if scales.normals:
        keys.append(_round_key(_ball(), "normals: red right, green up, blue to the camera", design))
    if scales.flow:
        keys.append(_round_key(_wheel(), f"flow: rim {scales.flow:.3g} px", design))
    if scales.hatched and not scales.classes:
        keys.append(swatch_key(scales.none, style.UNDEFINED, design))
    return keys


def swatch_key(name: str, look: Mapping[str, object], design: float = 1.0) -> Key:
    """Return the key of a patch of colour; `look` is that of a matplotlib patch."""
    return Key(
        (2 * SWATCH + 0.06) * design + _words(name, design),
        lambda pen, x, y: _draw_swatch(pen, name, x, y + MIDDLE * pen.design, look),
    )


def depth_key(depth: tuple[float, float], name: str, design: float = 1.0) -> Key:
    """Return the key of inverse depth, near on the left, with metres below."""
    near, far = depth
    inverse = np.linspace(1 / near, 1 / far, 256)[None, None]
    marks = [(f"{metres:g}", share) for metres, share in ticks(near, far)]
    return bar_key(colouring.inverse_depth(1 / inverse, near, far), marks, name, design)


def bar_key(rgba: np.ndarray, marks: Sequence[tuple[str, float]], name: str, design: float = 1.0) -> Key:
    """Return the key of a scale.

    Args:
        rgba: (1, steps, 4) its colours, from left to right.
        marks: What is written below it, and where, 0 left to 1 right.
        name: What it is a scale of.
        design: As in `Pen`.
    """
    width = (BAR + 0.25) * design + _words(name, design)
    return Key(width, lambda pen, x, y: _draw_bar(pen, rgba, marks, name, (x, y)))


def _draw_bar(
    pen: Pen, rgba: np.ndarray, marks: Sequence[tuple[str, float]], name: str, place: tuple[float, float]
) -> None:
    design, (x, y) = pen.design, place
    line = {"color": "black", "linewidth": style.FRAME * pen.scale}
    width, high, left, top = BAR * design, 0.1 * design, x + 0.1 * design, y + (MIDDLE - 0.05) * design
    pen.image(rgba, (left, top, width, high))
    pen.ax.add_patch(Rectangle((left, top), width, high, fill=False, **line))
    for words, share in marks:
        place, low = left + share * width, top + high
        pen.ax.plot([place, place], [low, low + 0.02 * design], **line, scalex=False, scaley=False)
        pen.text(place, low + 0.085 * design, words, align="center")
    pen.text(left + width + 0.12 * design, y + MIDDLE * design, name)


def _words(text: str, design: float) -> float:
    """Return the width in inches of small letters."""
    return labels.width(text) * 6 / style.POINTS * design


def ticks(near: float, far: float) -> list[tuple[float, float]]:
    """Return round numbers of metres and where they stand on a bar of inverse depth, 0 near to 1 far.

    >>> [metres for metres, _ in ticks(0.8, 9.0)]
    [1.0, 1.5, 2.0, 3.0, 5.0]
    """
    span = 1 / near - 1 / far
    found: list[tuple[float, float]] = []
    for digits in ((1, 1.5, 2, 3, 4, 5, 7), (1, 1.2, 1.5, 1.8, 2, 2.2, 2.5, 3, 3.5, 4, 4.5, 5, 5.5, 6, 7, 8, 9)):
        if len(found) >= 3:
            break
        found = []  # a narrow range needs finer steps
        for metres in (digit * 10.0**power for power in range(-4, 5) for digit in digits):
            share = (1 / near - 1 / metres) / span if span > 0 else -1.0
            if 0 <= share <= 1 and (not found or share - found[-1][1] > 0.09):
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


def _round_key(rgba: np.ndarray, words: str, design: float) -> Key:
    def draw_round(pen: Pen, x: float, y: float) -> None:
        side = ROUND * pen.design
        pen.image(rgba, (x, y + MIDDLE * pen.design - side / 2, side, side))
        pen.text(x + side + 0.06 * pen.design, y + MIDDLE * pen.design, words)

    return Key((ROUND + 0.08) * design + _words(words, design), draw_round)


def _draw_swatch(pen: Pen, words: str, x: float, y: float, look: Mapping[str, object]) -> None:
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
    return looks + [(scales.none, style.UNDEFINED)] * (scales.hatched and bool(looks))


def _across(swatches: list[tuple[str, dict]], width: float, design: float) -> tuple[int, float]:
    """Return how many swatches stand beside each other, and the width of one with its name."""
    longest = max(labels.width(labels.cut(name, LONGEST)) for name, _ in swatches)
    needed = (2 * SWATCH + 0.06 + 0.16 + longest * 6 / style.POINTS) * design
    return max(1, int(width / needed)), needed
