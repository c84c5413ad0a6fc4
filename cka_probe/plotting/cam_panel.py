"""What a panel of Grad-CAM maps is made of: images with their maps, and the rows they are drawn in."""

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes

from cka_probe import registry
from cka_probe.errors import DataError
from cka_probe.plotting import FigureFile, colouring, labels, sheet_plan, style
from cka_probe.plotting.panel_grid import CAPTION, DPI, GAP, MARGIN, draw_image
from cka_probe.plotting.pen import Pen, bold_width
from cka_probe.plotting.sheet_plan import Key, Scales

PREDICTS = {"labels": "labels", "depth": "depth", "category": "class", "": ""}
"""What networks predict, with the word beside it."""

ROOM, LINE = 0.1, 0.13  # inches: above a network, and of a line of small letters

Predicted = np.ndarray | str


@dataclass(frozen=True)
class CamColumn:
    """One image with its maps.

    Attributes:
        name: What the dataset calls it.
        image: (H, W, 3) uint8, as the first network saw it.
        maps: Network to (h, w) in [0, 1].
        truth: (h, w) numbers of classes, 255 = no label; (h, w) metres, 0 = not measured; the name of a class; or None.
        predictions: Network to what it predicts, of the kind of the truth; {} where they predict nothing.
        class_maps: Network to class to (h, w) in [0, 1].
        signed: Network to its map before the ReLU, (h, w) in [-1, 1], 0 where that is; {}: it is not shown.
        notes: Network to a few words above its map.
    """

    name: str
    image: np.ndarray
    maps: Mapping[str, np.ndarray]
    truth: Predicted | None = None
    predictions: Mapping[str, Predicted] = field(default_factory=dict)
    class_maps: Mapping[str, Mapping[str, np.ndarray]] = field(default_factory=dict)
    signed: Mapping[str, np.ndarray] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CamPanel:
    """What is drawn.

    Attributes:
        columns: At least one; all with the same networks, in the order of the first.
        predicts: "labels", "depth", "category" or "".
        names: Of class 0, 1, … of labels.
        colours: (classes, 3) RGB of each, 0 … 255.
        classes: Names of those whose own maps are shown.
        footnote: A sentence below everything: what the notes are.
    """

    columns: Sequence[CamColumn]
    predicts: str = ""
    names: Sequence[str] = ()
    colours: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    classes: Sequence[str] = ()
    footnote: str = ""


@dataclass(frozen=True)
class Row:
    """One row of panels.

    Attributes:
        word: What it is.
        cells: A map, labels, depth, words or None for each column.
        kind: "image", "map", "signed", "labels", "depth" or "category".
        model: The network, where a new one begins with this row.
        notes: A few words above each panel.
    """

    word: str
    cells: Sequence[Predicted | None]
    kind: str
    model: str = ""
    notes: Sequence[str] = ()

    def height(self, width: float) -> float:
        """Return the inches of its panels, without the line of notes above them."""
        shapes = [cell.shape for cell in self.cells if isinstance(cell, np.ndarray)]
        return max((width * shape[0] / shape[1] for shape in shapes), default=LINE)

    @property
    def air(self) -> float:
        """Return the inches above its panels."""
        return ROOM * bool(self.model) + (LINE if any(self.notes) else 0.0)


def rows_of(panel: CamPanel) -> list[Row]:
    """Return all rows, from above."""
    each = panel.columns
    rows = [Row("image", [column.image for column in each], "image")]
    if any(column.truth is not None for column in each):
        rows.append(Row("truth", [column.truth for column in each], panel.predicts))
    for model in each[0].maps:
        notes = [column.notes.get(model, "") for column in each]
        rows.append(Row("map", [column.maps[model] for column in each], "map", model, notes))
        if each[0].signed:
            rows.append(Row("before the ReLU", [column.signed[model] for column in each], "signed"))
        for name in panel.classes:
            rows.append(Row(f"map of {name}", [column.class_maps[model][name] for column in each], "map"))
        if panel.predicts:
            predicted = [column.predictions[model] for column in each]
            rows.append(Row(f"predicted {PREDICTS[panel.predicts]}", predicted, panel.predicts))
    return rows


def check(panel: CamPanel) -> None:
    """Check that there is something to draw, of the same networks everywhere, and that numbers are what they say.

    Raises:
        DataError: It is not so.
        UnknownNameError: There is no such class, or nothing of the kind is predicted.
    """
    registry.get(PREDICTS, panel.predicts, "kind of prediction")
    if not panel.columns or not panel.columns[0].maps:
        raise DataError("expected at least one image and one network, found none; give some")
    for name in panel.classes:
        registry.get(dict.fromkeys(panel.names), name, "class")
    if np.shape(panel.colours) != (len(panel.names), 3):
        raise DataError(f"expected a colour for each of {len(panel.names)} classes, found {np.shape(panel.colours)}")
    models = list(panel.columns[0].maps)
    for column in panel.columns:
        parts: list[tuple[str, Collection[str]]] = [("maps", column.maps)]
        parts += [("predictions", column.predictions)] * bool(panel.predicts)
        parts += [("maps before the ReLU", column.signed)] * bool(panel.columns[0].signed)
        for name in panel.classes:
            parts.append((f"maps of {name}", [model for model, own in column.class_maps.items() if name in own]))
        for what, there in parts:
            if sorted(there) != sorted(models):
                found = ", ".join(there) or "none"
                raise DataError(f"{column.name}: expected {what} of {', '.join(models)}, found {found}; give all")
        _check_values(panel, column)


def _check_values(panel: CamPanel, column: CamColumn) -> None:
    """Check that maps are maps and labels classes."""
    maps = [*column.maps.values(), *(own[name] for own in column.class_maps.values() for name in panel.classes)]
    if any(shown.ndim != 2 or not ((shown >= 0) & (shown <= 1)).all() for shown in maps):
        raise DataError(f"{column.name}: expected maps (height, width) in [0, 1], found another; scale them first")
    for found in labels_of(panel, column):
        wrong = found[(found != colouring.IGNORE) & ((found < 0) | (found >= len(panel.names)))]
        if wrong.size:
            raise DataError(
                f"{column.name}: expected labels below {len(panel.names)}, or {colouring.IGNORE}, found {wrong[0]}; "
                "give its own classes"
            )


def labels_of(panel: CamPanel, column: CamColumn) -> list[np.ndarray]:
    """Return all labels of a column."""
    there = [column.truth, *column.predictions.values()] if panel.predicts == "labels" else []
    return [labels for labels in there if isinstance(labels, np.ndarray)]


MAPS = "viridis"  # light for high, and no colour of the depth's map
SIGNED = "PuOr_r"  # purple against, white for nothing, orange for
NAMES = 1.0  # inches: the column of names
WIDEST, NARROWEST, TALLEST = 1.5, 0.8, 9.4  # inches: of a panel; of the page, while panels are not too small
SMALLEST = 0.7  # inches: of a panel on a narrow page, with room for what is said on it
ZERO = "zero everywhere"
UNLABELLED = "not labelled"


def cam_panel(panel: CamPanel, ax: Axes, *, page: float = math.inf) -> Axes:
    """Draw the images on `ax`, which they fill.

    Args:
        panel: What to draw.
        ax: Axes of the proportions of `cam_panel_size`; with others some of it stays empty.
        page: Inches that it may be wide at most, such as `style.page_for` of a venue.

    Returns:
        `ax`.

    Raises:
        DataError: There is no image or no network; networks differ between images; a map or a number is none.
        UnknownNameError: There is no such class, or nothing of the kind is predicted.
    """
    rows, (width, size) = rows_of(panel), _plan(panel, page)
    pen, lefts = Pen(ax, size, design=1.0), [MARGIN + NAMES + n * (width + GAP) for n in range(len(panel.columns))]
    for column, left in zip(panel.columns, lefts, strict=True):
        pen.text(left, MARGIN + CAPTION / 2, labels.cut(column.name, pen.room(width)))
    top = MARGIN + CAPTION
    for row in rows:
        top += row.air
        high = row.height(width)
        _name(pen, row, top, high)
        for place, (cell, left) in enumerate(zip(row.cells, lefts, strict=True)):
            if row.notes and row.notes[place]:
                pen.text(left, top - LINE / 2, labels.cut(row.notes[place], pen.room(width)))
            _cell(pen, panel, (row.kind, cell), (left, top, width, high))
        top += high + GAP
    top += sheet_plan.draw_keys(pen, _keys(panel), MARGIN, top + GAP)
    sheet_plan.draw(pen, _scales(panel), MARGIN, top + GAP)
    for place, line in enumerate(reversed(_footnote(panel, size[0]))):
        pen.text(MARGIN, size[1] - MARGIN - (place + 0.5) * LINE, line)
    return ax


def cam_panel_size(panel: CamPanel, *, page: float = math.inf) -> tuple[float, float]:
    """Return width and height in inches, letters of 6 and 7 points given; `page` as above."""
    return _plan(panel, page)[1]


def _plan(panel: CamPanel, page: float) -> tuple[float, tuple[float, float]]:
    """Return the width of a panel, and width and height of everything, inches."""
    check(panel)
    rows, count = rows_of(panel), len(panel.columns)
    page = min(style.PAGE, page)
    width = min(WIDEST, (page - 2 * MARGIN - NAMES - GAP * (count - 1)) / count)
    least = NARROWEST if page == style.PAGE else min(NARROWEST, max(width, SMALLEST))

    def across(width: float) -> float:
        return max(2 * MARGIN + NAMES + count * width + GAP * (count - 1), style.COLUMN)

    def down(width: float) -> float:
        keys = sheet_plan.keys_height(_keys(panel), across(width) - 2 * MARGIN)
        keys += sheet_plan.height(_scales(panel), across(width) - 2 * MARGIN, 1.0)
        keys += LINE * len(_footnote(panel, across(width)))
        return 2 * MARGIN + CAPTION + sum(row.air + row.height(width) + GAP for row in rows) + 2 * GAP + keys

    while down(width) > TALLEST and width > NARROWEST:  # narrower keys may take more lines
        width *= min(0.99, max(0.5, 1 - (down(width) - TALLEST) / sum(row.height(width) for row in rows)))
    width = max(width, least)  # many networks take a longer page: smaller panels show nothing
    return width, (across(width), down(width))


def _name(pen: Pen, row: Row, top: float, high: float) -> None:
    """Write the network's name and what a row is into the column of names."""
    lines = _wrapped(row.model, NAMES - 0.08, bold_width) if row.model else []
    most = max(1, int((high + row.air) / LINE) - 1)
    lines = lines if len(lines) <= most else [*lines[: most - 1], labels.cut("".join(lines[most - 1 :]), 9.0)]
    middle = max(top + high / 2 - LINE * len(lines) / 2, top + LINE / 2 - row.air)
    middle = min(middle, top + high - LINE * (len(lines) + 0.5)) if len(lines) * LINE > high - LINE else middle
    for place, line in enumerate(lines):
        pen.text(MARGIN, middle + place * LINE, line, points=7, weight="bold")
    pen.text(MARGIN, middle + len(lines) * LINE, labels.cut(row.word, pen.room(NAMES - 0.06)))


def _footnote(panel: CamPanel, width: float) -> list[str]:
    """Return the lines of the footnote on a page of a width."""
    return _wrapped(panel.footnote, width - 2 * MARGIN, _small_width) if panel.footnote else []


def _small_width(text: str) -> float:
    """Return the width in inches of letters of 6 points, which on a screen are a little wider."""
    return 1.06 * labels.width(text) * 6 / style.POINTS


def _wrapped(text: str, width: float, width_of: Callable[[str], float]) -> list[str]:
    """Return a text in lines no wider than `width` inches, broken after spaces and signs."""
    lines = [""]
    for part in re.findall(r"[^\s~_/-]*[\s~_/-]*", text):
        if lines[-1] and width_of((lines[-1] + part).rstrip()) > width:
            lines.append("")
        lines[-1] += part
    return [labels.cut(line.rstrip(), width / width_of("m") * labels.width("m")) for line in lines]


def _cell(pen: Pen, panel: CamPanel, cell: tuple[str, Predicted | None], box: tuple[float, ...]) -> None:
    """Draw one panel."""
    kind, value = cell
    left, top, width, high = box
    if value is None:
        pen.text(left + width / 2, top + high / 2, "not known", align="center")
    elif isinstance(value, str):
        pen.text(left, top + high / 2, labels.cut(str(value), pen.room(width)))
    else:
        own = width * value.shape[0] / value.shape[1]
        place = (left, top + (high - own) / 2, width, own)
        draw_image(pen, _coloured(kind, value, panel), place, smooth=kind == "image")
        if kind == "map" and not value.any():
            pen.text(left + width / 2, top + high / 2, ZERO, align="center", color="white")


def _coloured(kind: str, value: np.ndarray, panel: CamPanel) -> np.ndarray:
    """Return a panel's colours, (h, w, 4)."""
    if kind == "image":
        return colouring.opaque(value / 255)
    if kind == "map":
        return colormaps[MAPS](value)
    if kind == "signed":
        return colormaps[SIGNED]((value + 1) / 2)
    if kind == "depth":
        return colouring.own_inverse_depth(value[None])
    return colouring.classes(value, np.asarray(panel.colours))


def _keys(panel: CamPanel) -> list[Key]:
    """Return the bars that stand below the panels."""
    ramp = np.linspace(0, 1, 256)[None]
    keys = [sheet_plan.bar_key(colormaps[MAPS](ramp), [("0", 0), ("1", 1)], "map, each on its own scale")]
    if panel.columns[0].signed:
        marks = [("\N{MINUS SIGN}1", 0), ("0", 0.5), ("1", 1)]
        keys.append(sheet_plan.bar_key(colormaps[SIGNED](ramp), marks, "before the ReLU, each on its own"))
    if panel.predicts == "depth":
        bar = colouring.inverse_depth(1 / np.linspace(1, 0.1, 256)[None, None], 1.0, 10.0)
        keys.append(sheet_plan.bar_key(bar, [("near", 0), ("far", 1)], "depth, each over its own range"))
    return keys


def _scales(panel: CamPanel) -> Scales:
    """Return what the colours of labels mean."""
    found = [np.unique(labels) for column in panel.columns for labels in labels_of(panel, column)]
    there = np.unique(np.concatenate(found)) if found else np.zeros(0, int)
    classes = [(panel.names[number], tuple(panel.colours[number])) for number in there if number != colouring.IGNORE]
    hatched = bool((there == colouring.IGNORE).any())
    return Scales(None, False, None, False, np.asarray(panel.colours), classes, hatched, UNLABELLED)


save_cam_panel = FigureFile(cam_panel, cam_panel_size, dpi=DPI)
"""Draw the images into files: `save_cam_panel(panel, paths, style=…, venue=…)`. Same input, same bytes."""
