"""A contact sheet of a data set: some of its samples, every field of theirs beside the picture, in colours.

One row for each sample, or several samples beside each other where they have few fields. All depth on a sheet has
one scale, so has all flow; what was not measured, is ignored or not known is hatched, wherever it is.

Everything is placed in inches of the designed size, which are the data coordinates of the axes: so a sheet looks
the same on axes of any size.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cka_probe.errors import DataError
from cka_probe.figures import colouring, labels, save_drawing, sheet_keys, style
from cka_probe.figures.sheet_keys import Pen, Scales

PAGE = 7.2  # inches: two columns of a page, in which letters are of 6 and 7 points
WIDEST = 12.0  # inches, with letters in proportion
PANEL = 1.15  # inches: a panel of 4:3 is not made narrower to have more samples beside each other
MARGIN, GAP, BETWEEN = 0.08, 0.04, 0.16  # at the border, between panels, between samples beside each other
TITLE, HEADER, CAPTION = 0.2, 0.15, 0.16  # heights of lines of text
MOST_SOURCES = 4
DPI, ROWS = 200, 6

HEADERS = {
    "image": "image",
    "sources": "source",
    "depth": "depth",
    "pseudo_depth": "pseudo-depth",
    "labels": "labels",
    "instances": "instances",
    "planes": "planes",
    "normals": "normals",
    "edges": "depth edges",
    "flow": "flow",
    "occluded": "occluded",
    "valid": "valid",
}
"""The columns in their order."""


@dataclass(frozen=True)
class Shot:
    """One sample on the sheet.

    Attributes:
        name: What the dataset calls it.
        fields: Its fields as numpy arrays, as `cka_probe.data.sample` has them; those it lacks are hatched.
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
class _Plan:
    """Where things go at the designed size, in inches.

    Attributes:
        columns: (field, number of the source or 0, header) of each panel of a sample.
        beside: Samples beside each other.
        panel: Width of a panel.
        heights: Of the panels in each row.
        scales: What colours mean, shared by the sheet.
        size: Width and height of everything.
        unit: How much larger letters and gaps are than on a page.
    """

    columns: list[tuple[str, int, str]]
    beside: int
    panel: float
    heights: list[float]
    scales: Scales
    size: tuple[float, float]
    unit: float

    def left(self, beside: int, number: int = 0) -> float:
        """Return where panel `number` of the sample at place `beside` begins."""
        step = self.panel + GAP * self.unit
        return MARGIN * self.unit + beside * (len(self.columns) * step + (BETWEEN - GAP) * self.unit) + number * step


def contact_sheet(sheet: Sheet, ax: Axes) -> Axes:
    """Draw the sheet on `ax`, which it fills.

    Args:
        sheet: What to draw.
        ax: Axes of the proportions of `contact_sheet_size`; with others some of it stays empty.

    Returns:
        `ax`.

    Raises:
        DataError: The sheet has no shot, or no field that can be drawn.
    """
    plan = _plan(sheet)
    pen, unit = Pen(ax, plan.size), plan.unit
    room = pen.room(plan.size[0] - 2 * MARGIN * unit, 7)
    pen.text(MARGIN * unit, (MARGIN + TITLE / 2) * unit, labels.cut(sheet.title, room), points=7)
    top = (MARGIN + TITLE) * unit
    if len(plan.columns) > 1:
        _draw_headers(pen, plan, min(plan.beside, len(sheet.shots)), top)
        top += HEADER * unit
    for row, height in enumerate(plan.heights):
        for beside, shot in enumerate(sheet.shots[row * plan.beside : (row + 1) * plan.beside]):
            _draw_shot(pen, plan, shot, (plan.left(beside), top, height), sheet.categories)
        top += (CAPTION + GAP) * unit + height
    sheet_keys.draw(pen, plan.scales, MARGIN * unit, top + GAP * unit)
    return ax


def _draw_headers(pen: Pen, plan: _Plan, beside: int, top: float) -> None:
    """Write what each column is."""
    for block in range(beside):
        for number, (_, _, header) in enumerate(plan.columns):
            x = plan.left(block, number) + plan.panel / 2
            pen.text(x, top + HEADER * plan.unit / 2, labels.cut(header, pen.room(plan.panel)), centred=True)


def _draw_shot(pen: Pen, plan: _Plan, shot: Shot, place: tuple[float, float, float], categories: Sequence[str]) -> None:
    """Draw one sample: its name, and a panel for each column; `place` is left, top and the panels' height."""
    left, top, height = place
    below = top + CAPTION * plan.unit
    room = pen.room(plan.left(0, len(plan.columns)) - plan.left(0))
    pen.text(left, (top + below) / 2, _caption(shot, categories, room))
    for number, column in enumerate(plan.columns):
        box = (left + plan.left(0, number) - plan.left(0), below, plan.panel, height)
        _draw_panel(pen, shot, column, box, plan.scales)


def contact_sheet_size(sheet: Sheet) -> tuple[float, float]:
    """Return width and height in inches, letters of 6 and 7 points on a page of 7.2 inches given."""
    return _plan(sheet).size


def fitting(shot: Shot) -> int:
    """Return how many samples like this one make six rows."""
    columns, ratio = max(len(_columns([shot])), 1), _ratio(shot)
    return ROWS * _beside(columns, ratio)


def save_contact_sheet(sheet: Sheet, paths: Iterable[str | Path]) -> list[Path]:
    """Draw a sheet into each of the files; the same sheet gives the same bytes.

    Args:
        sheet: What to draw.
        paths: `*.png`, `*.pdf` or `*.svg`.

    Returns:
        The paths written.

    Raises:
        DataError: The sheet has no shot, or no field that can be drawn.
        OutputError: A suffix that is not a format, or a place that cannot be written to.
    """
    size = contact_sheet_size(sheet)
    return save_drawing(lambda figure: contact_sheet(sheet, _filling(figure)), size, paths, dpi=DPI)


def _filling(figure: Figure) -> Axes:
    """Return axes that fill the figure, whose layout is the sheet's own."""
    figure.set_layout_engine("none")
    return figure.add_axes((0, 0, 1, 1))


def _plan(sheet: Sheet) -> _Plan:
    columns = _columns(sheet.shots)
    if not columns:
        raise DataError(f"expected samples with one of {', '.join(HEADERS)} for a contact sheet, found none")
    ratios = [_ratio(shot) for shot in sheet.shots]
    ratio = float(np.median(ratios))
    beside = min(_beside(len(columns), ratio), len(sheet.shots) if len(columns) > 1 else 99)
    width = min(max(PAGE, 0.9 * _least(len(columns), ratio)), WIDEST)
    unit = width / PAGE
    block = (width - (2 * MARGIN + (beside - 1) * BETWEEN) * unit) / beside
    panel = (block - (len(columns) - 1) * GAP * unit) / len(columns)
    tallest = 1.0 if beside > 1 else 1.4  # one tall picture would leave its neighbours in empty paper
    heights = [
        panel * min(max(1 / ratio for ratio in ratios[start : start + beside]), tallest)
        for start in range(0, len(ratios), beside)
    ]
    scales = _scales(sheet, {name for name, _, _ in columns})
    lines = MARGIN + TITLE + HEADER * (len(columns) > 1) + len(heights) * (CAPTION + GAP) + GAP + MARGIN
    keys = sheet_keys.height(scales, width - 2 * MARGIN * unit, unit)
    return _Plan(columns, beside, panel, heights, scales, (width, sum(heights) + lines * unit + keys), unit)


def _least(columns: int, ratio: float) -> float:
    """Return the width in inches that a sample should have; wide pictures need more to be seen."""
    return columns * PANEL * max(1.0, ratio / (4 / 3)) ** 0.5


def _beside(columns: int, ratio: float) -> int:
    """Return how many samples have room beside each other on a page."""
    return max(1, int(PAGE / _least(columns, ratio)))


def _ratio(shot: Shot) -> float:
    """Return width by height of a shot's picture; 4:3 where it has none."""
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


def _scales(sheet: Sheet, there: set[str]) -> Scales:
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
        classes=[(sheet.names[number], tuple(sheet.colours[number])) for number in known],
        hatched=any(
            name not in shot.fields or colouring.lacks(name, shot.fields[name], len(sheet.names))
            for shot in sheet.shots
            for name in there
        ),
    )


def _caption(shot: Shot, categories: Sequence[str], room: float) -> str:
    """Return the category, if there is one, and as much of the name as has room."""
    if "category" not in shot.fields:
        return labels.cut(shot.name, room)
    number = int(shot.fields["category"])
    word = f"{categories[number] if number < len(categories) else number}  "
    return word + labels.cut(shot.name, max(room - labels.width(word), 1.5))


def _draw_panel(
    pen: Pen, shot: Shot, column: tuple[str, int, str], box: tuple[float, float, float, float], scales: Scales
) -> None:
    """Draw one field of one shot into a box (x, y, width, height), whole and in its own proportions."""
    name, number, _ = column
    x, y, width, height = box
    ratio = _ratio(shot)
    wide, high = min(width, height * ratio), min(height, width / ratio)
    x += (width - wide) / 2
    value = shot.fields.get(name)
    if name == "sources" and value is not None:
        value = value[number] if number < len(value) else None
    pen.ax.add_patch(Rectangle((x, y), wide, high, zorder=0, **style.UNDEFINED))
    if value is not None:
        photograph = name in ("image", "sources")
        value = colouring.reduced(value, int(1.5 * wide * DPI), smooth=photograph)
        pen.picture(PAINTERS[name](value, scales), (x, y, wide, high), smooth=photograph)
    pen.ax.add_patch(Rectangle((x, y), wide, high, fill=False, edgecolor="#b0b0b0", linewidth=0.4 * pen.scale))


PAINTERS: dict[str, Callable[[np.ndarray, Scales], np.ndarray]] = {
    "image": lambda value, _: colouring.photograph(value),
    "sources": lambda value, _: colouring.photograph(value),
    "depth": lambda value, scales: colouring.inverse_depth(value, *(scales.depth or (1, 2))),
    "pseudo_depth": lambda value, _: colouring.own_inverse_depth(value),
    "labels": lambda value, scales: colouring.classes(value, scales.colours),
    "instances": lambda value, _: colouring.pieces(value),
    "planes": lambda value, _: colouring.planes(value),
    "normals": lambda value, _: colouring.directions(value),
    "edges": lambda value, _: colouring.yes_no(value),
    "flow": lambda value, scales: colouring.motion(value, scales.flow or 1),
    "occluded": lambda value, _: colouring.yes_no(value),
    "valid": lambda value, _: colouring.yes_no(value),
}
