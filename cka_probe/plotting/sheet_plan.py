"""What a contact sheet shows, and where it goes: columns, sizes and scales, before anything is drawn."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.patches import Rectangle

from cka_probe.errors import DataError
from cka_probe.plotting import colouring, labels, style
from cka_probe.plotting.pen import Pen

WIDEST = 12.0  # inches, with letters in proportion: of 6 and 7 points on a page
PANEL = 1.15  # inches: a panel of 4:3 is not made narrower to have more samples beside each other
MARGIN, GAP, BETWEEN = 0.08, 0.04, 0.16  # at the border, between panels, between samples beside each other
TITLE, HEADER, CAPTION = 0.2, 0.15, 0.16  # heights of lines of text
MOST_SOURCES = 4
ROWS = 6

HEADERS = {
    "image": "image",
    "sources": "source",
    "depth": "depth",
    "pseudo_depth": "pseudo depth",
    "labels": "labels",
    "instances": "instances",
    "planes": "planes",
    "normals": "normals",
    "edges": "depth edges",
    "flow": "flow",
    "occluded": "occluded",
    "valid": "valid (white)",
}
"""The columns in their order."""


@dataclass(frozen=True)
class Shot:
    """One sample on the sheet.

    Attributes:
        name: What the dataset calls it.
        fields: Its fields as numpy arrays, as `cka_probe.images.sample` has them; those it lacks are hatched.
    """

    name: str
    fields: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Sheet:
    """What a contact sheet shows.

    Attributes:
        title: The line above.
        shots: The samples, at least one.
        names: Of the classes in `labels`.
        colours: Of these, RGB in 0 … 255.
        categories: Names of the classes in `category`; without, their numbers are written.
    """

    title: str
    shots: Sequence[Shot]
    names: Sequence[str] = ()
    colours: Sequence[tuple[int, int, int]] = ()
    categories: Sequence[str] = field(default=())


@dataclass(frozen=True)
class Plan:
    """Where things go at the designed size, in inches.

    Attributes:
        columns: (field, number of the source or 0, header) of each panel of a sample.
        beside: Samples beside each other.
        panel: Width of a panel.
        heights: Of the panels in each row.
        scales: What colours mean, shared by the sheet.
        size: Width and height of everything.
        unit: How much larger letters and gaps are than on a page.
        heads: Lines of the headers.
    """

    columns: list[tuple[str, int, str]]
    beside: int
    panel: float
    heights: list[float]
    scales: "Scales"
    size: tuple[float, float]
    unit: float
    heads: int

    def left(self, beside: int, number: int = 0) -> float:
        """Return where panel `number` of the sample at place `beside` begins."""
        step = self.panel + GAP * self.unit
        return MARGIN * self.unit + beside * (len(self.columns) * step + (BETWEEN - GAP) * self.unit) + number * step


def contact_sheet_size(sheet: Sheet, *, page: float = math.inf) -> tuple[float, float]:
    """Return width and height in inches, letters of 6 and 7 points on a page given; arguments as of `plan_sheet`."""
    return plan_sheet(sheet, page).size


def fitting(shot: Shot) -> int:
    """Return how many samples like this one make six rows."""
    columns, ratio = max(len(_columns([shot])), 1), ratio_of(shot)
    return ROWS * _beside(columns, ratio, style.PAGE)


def plan_sheet(sheet: Sheet, page: float = math.inf) -> Plan:
    """Return where everything goes.

    Args:
        sheet: What is drawn.
        page: Inches of a page, if it is narrower than 7.2; a sheet that is wider has larger letters.

    Raises:
        DataError: There is no shot, or none has a field that can be drawn.
    """
    columns = _columns(sheet.shots)
    if not columns:
        raise DataError(f"expected samples with one of {', '.join(HEADERS)} for a contact sheet, found none")
    ratios = [ratio_of(shot) for shot in sheet.shots]
    ratio = float(np.median(ratios))
    page = min(style.PAGE, page)
    beside = min(_beside(len(columns), ratio, page), len(sheet.shots) if len(columns) > 1 else 99)
    width = min(max(page, 0.9 * _least(len(columns), ratio)), WIDEST)
    unit = width / page
    block = (width - (2 * MARGIN + (beside - 1) * BETWEEN) * unit) / beside
    panel = (block - (len(columns) - 1) * GAP * unit) / len(columns)
    tallest = 1.0 if beside > 1 else 1.4  # one tall image would leave its neighbours in empty paper
    heights = [
        panel * min(max(1 / ratio for ratio in ratios[start : start + beside]), tallest)
        for start in range(0, len(ratios), beside)
    ]
    scales = _scales(sheet, {name for name, _, _ in columns})
    heads = max(len(head_lines(header, panel / unit)) for _, _, header in columns) if len(columns) > 1 else 0
    lines = MARGIN + TITLE + HEADER * heads + len(heights) * (CAPTION + GAP) + GAP + MARGIN
    keys = height(scales, width - 2 * MARGIN * unit, unit)
    return Plan(columns, beside, panel, heights, scales, (width, sum(heights) + lines * unit + keys), unit, heads)


def head_lines(header: str, inches: float) -> list[str]:
    """Return the lines of a header above a panel of so many inches, letters of 6 points given."""
    room = 0.94 * inches * style.POINTS / 6
    return [labels.cut(line, room) for line in labels.filled(header.split(), room)]


def _least(columns: int, ratio: float) -> float:
    """Return the width in inches that a sample should have; wide images need more to be seen."""
    return columns * PANEL * max(1.0, ratio / (4 / 3)) ** 0.5


def _beside(columns: int, ratio: float, page: float) -> int:
    """Return how many samples have room beside each other on a page."""
    return max(1, int(page / _least(columns, ratio)))


def ratio_of(shot: Shot) -> float:
    """Return width by height of a shot's image; 4:3 where it has none."""
    shapes = [value.shape for name, value in shot.fields.items() if name in HEADERS]
    return shapes[0][-1] / shapes[0][-2] if shapes else 4 / 3


def _columns(shots: Sequence[Shot]) -> list[tuple[str, int, str]]:
    """Return the panels that at least one of the shots has."""
    columns = []
    for name, header in HEADERS.items():
        found = [shot.fields[name] for shot in shots if name in shot.fields]
        if name != "sources":
            columns += [(name, 0, header)] if found else []
            continue
        count = min(max((len(sources) for sources in found), default=0), MOST_SOURCES)
        columns += [(name, number, header if count == 1 else f"{header} {number + 1}") for number in range(count)]
    return columns


def _scales(sheet: Sheet, there: set[str]) -> "Scales":
    """Return what the colours mean: ranges over all shots, and the classes that any of them shows."""
    maps = {name: [shot.fields[name] for shot in sheet.shots if name in shot.fields] for name in there}
    depth = np.concatenate([value[value > 0] for value in maps.get("depth", [])] or [np.empty(0)])
    flow = np.concatenate([np.hypot(*value).ravel() for value in maps.get("flow", [])] or [np.empty(0)])
    flow = flow[~np.isnan(flow)]
    present = np.unique(np.concatenate([np.unique(value) for value in maps.get("labels", [])] or [np.empty(0)]))
    known = [int(number) for number in present if number < min(len(sheet.names), colouring.IGNORE)]
    return Scales(
        depth=tuple(np.quantile(depth, (0.01, 0.99)).tolist()) if depth.size else None,
        sparse=any(0 < (value > 0).mean() < colouring.SPARSE for value in maps.get("depth", [])),
        flow=max(float(np.quantile(flow, 0.99)), 0.1) if flow.size else None,
        normals="normals" in there,
        colours=np.array(sheet.colours, np.float64).reshape(-1, 3),
        classes=[(sheet.names[number], sheet.colours[number]) for number in known],
        hatched=any(
            name not in shot.fields or colouring.lacks(name, shot.fields[name], len(sheet.names))
            for shot in sheet.shots
            for name in there
        ),
    )


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


def swatch_key(name: str, look: Mapping[str, Any], design: float = 1.0) -> Key:
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
    line: dict[str, Any] = {"color": "black", "linewidth": style.FRAME * pen.scale}
    width, high, left, top = BAR * design, 0.1 * design, x + 0.1 * design, y + (MIDDLE - 0.05) * design
    pen.image(rgba, (left, top, width, high))
    pen.ax.add_patch(Rectangle((left, top), width, high, fill=False, **line))
    for words, share in marks:
        mark, low = left + share * width, top + high
        pen.ax.plot([mark, mark], [low, low + 0.02 * design], **line, scalex=False, scaley=False)
        pen.text(mark, low + 0.085 * design, words, align="center")
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


def _draw_swatch(pen: Pen, words: str, x: float, y: float, look: Mapping[str, Any]) -> None:
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
