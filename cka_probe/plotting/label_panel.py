"""Segmentation by several models beside the truth.

One row for each image: the image, its labels, and for each model the classes it predicts and where these are wrong,
with the share of labelled pixels that are. Classes have the colours of their vocabulary, and those that are on the page
stand below it. Pixels without a label are hatched: nobody is right or wrong there.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from cka_probe import registry
from cka_probe.errors import DataError
from cka_probe.plotting import FigureFile, colouring, labels, sheet_plan
from cka_probe.plotting.panel_grid import (
    APART,
    CAPTION,
    DPI,
    GAP,
    MARGIN,
    Columns,
    columns,
    dimmed,
    draw_image,
    write_headers,
)
from cka_probe.plotting.pen import Pen
from cka_probe.plotting.sheet_plan import Scales

PARTS = {"labels": "predicted", "wrong": "wrong"}
"""What can be shown of a model, with the words above it."""
WRONG = (230, 97, 0)
"""What is wrong is drawn in; on dim grey, bright for readers with any colour vision."""
SAID_WRONG = "predicted wrongly"
UNLABELLED = "not labelled"


@dataclass(frozen=True)
class LabelRow:
    """One image with its labels.

    Attributes:
        name: What the dataset calls it.
        image: (H, W, 3) uint8.
        truth: (h, w) numbers of classes, 255 = no label.
        predictions: Model to (h, w) numbers of classes.
    """

    name: str
    image: np.ndarray
    truth: np.ndarray
    predictions: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class LabelPanel:
    """What is drawn.

    Attributes:
        rows: At least one; all with the same models, in the order of the first.
        names: Of class 0, 1, …
        colours: (classes, 3) RGB of each, 0 … 255.
        parts: What is shown of each model, of "labels", "wrong".
    """

    rows: Sequence[LabelRow]
    names: Sequence[str]
    colours: np.ndarray
    parts: Sequence[str] = ("labels", "wrong")


@dataclass(frozen=True)
class Plan:
    """Where things go, in inches: columns, heights of the panels of each row, width and height of everything."""

    columns: Columns
    heights: list[float]
    size: tuple[float, float]


def label_panel(panel: LabelPanel, ax: Axes, *, page: float = math.inf) -> Axes:
    """Draw the rows on `ax`, which they fill.

    Args:
        panel: What to draw.
        ax: Axes of the proportions of `label_panel_size`; with others some of it stays empty.
        page: Inches that it may be wide at most, such as `style.page_for` of a venue.

    Returns:
        `ax`.

    Raises:
        DataError: There is no row, no model or no part; shapes of a row differ; a number is no class.
        UnknownNameError: No such part.
    """
    plan = _plan(panel, page)
    pen, places, top = Pen(ax, plan.size, design=1.0), plan.columns, MARGIN
    words = [PARTS[part] for part in panel.parts]
    for number, models in enumerate(places.bands):
        top += APART * bool(number)
        write_headers(pen, places, top, ("image", "truth"), models, words)
        top += places.head
        for row, height in zip(panel.rows, plan.heights, strict=True):
            cut = labels.cut(row.name, pen.room(_room(plan, panel)))
            pen.text(MARGIN, top + CAPTION / 2, cut)
            for left, (rgba, smooth, note) in zip(places.lefts, _images(row, models, panel), strict=False):
                draw_image(pen, rgba, (left, top + CAPTION, places.panel, height), smooth=smooth)
                pen.text(left + places.panel, top + CAPTION / 2, note, align="right")
            top += CAPTION + height + GAP
    sheet_plan.draw(pen, _scales(panel), MARGIN, top + GAP)
    return ax


def label_panel_size(panel: LabelPanel, *, page: float = math.inf) -> tuple[float, float]:
    """Return width and height in inches, letters of 6 and 7 points given; `page` as above."""
    return _plan(panel, page).size


def share_wrong(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Return the share of labelled pixels that are predicted wrongly; NaN without one.

    >>> share_wrong(np.array([[0, 1, 1]]), np.array([[0, 0, 255]]))
    0.5
    """
    labelled = truth != colouring.IGNORE
    return float((predicted != truth)[labelled].mean()) if labelled.any() else float("nan")


def _plan(panel: LabelPanel, page: float) -> Plan:
    _check(panel)
    places = columns(list(panel.rows[0].predictions), len(panel.parts), page)
    heights = [places.panel * row.truth.shape[0] / row.truth.shape[1] for row in panel.rows]
    keys = sheet_plan.height(_scales(panel), places.width - 2 * MARGIN, 1.0)
    return Plan(places, heights, (places.width, places.height(heights) + GAP + keys))


def _check(panel: LabelPanel) -> None:
    if not panel.rows or not panel.parts or not panel.rows[0].predictions:
        raise DataError("expected at least one image, one model and one part to show of it, found none; give some")
    for part in panel.parts:
        registry.get(PARTS, part, "part of a label panel")
    classes, models = len(panel.names), list(panel.rows[0].predictions)
    if np.shape(panel.colours) != (classes, 3):
        raise DataError(f"expected a colour for each of {classes} classes, found {np.shape(panel.colours)}; add some")
    for row in panel.rows:
        if sorted(row.predictions) != sorted(models):
            raise DataError(f"{row.name}: expected labels of {', '.join(models)}, found {', '.join(row.predictions)}")
        for name, found in {"the truth": row.truth, **row.predictions}.items():
            if found.shape != row.truth.shape:
                raise DataError(
                    f"{row.name}: {name} is {found.shape} and the truth {row.truth.shape}; resize one of them"
                )
            wrong = found[(found != colouring.IGNORE) & ((found < 0) | (found >= classes))]
            if wrong.size:
                raise DataError(
                    f"{row.name}: expected {name} below {classes}, or {colouring.IGNORE}, found {wrong[0]}; give its "
                    "own classes"
                )


def _room(plan: Plan, panel: LabelPanel) -> float:
    """Return the inches that the name of a row has: up to the first note, or all of the page."""
    if "wrong" not in panel.parts:
        return plan.size[0] - 2 * MARGIN
    return plan.columns.lefts[2 + list(panel.parts).index("wrong")] - 2 * MARGIN


def _images(row: LabelRow, models: Sequence[str], panel: LabelPanel) -> list[tuple[np.ndarray, bool, str]]:
    """Return (colours, smoothed when resized, words above) of every column of a row with some of the models."""
    colours, image = np.asarray(panel.colours), row.image / 255
    images = [(colouring.opaque(image), True, ""), (colouring.classes(row.truth, colours), False, "")]
    for model in models:
        predicted = row.predictions[model]
        share = share_wrong(predicted, row.truth)
        for part in panel.parts:
            if part == "labels":
                images.append((colouring.classes(predicted, colours), False, ""))
            else:
                note = f"{100 * share:.1f} %" if np.isfinite(share) else ""
                images.append((_wrong_over(image, predicted, row.truth), False, note))
    return images


def _wrong_over(image: np.ndarray, predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return what is wrong over the dimmed image, transparent where there is no label."""
    down, across = (  # the image may be finer than its labels, or coarser
        ((np.arange(new) + 0.5) * old // new).astype(int) for new, old in zip(truth.shape, image.shape[:2], strict=True)
    )
    colours = dimmed(image[down][:, across])
    labelled = truth != colouring.IGNORE
    colours[labelled & (predicted != truth)] = np.array(WRONG) / 255
    return colouring.where(labelled, colours)


def _scales(panel: LabelPanel) -> Scales:
    """Return what the colours on the page mean."""
    maps = [found for row in panel.rows for found in (row.truth, *row.predictions.values())]
    there = np.unique(np.concatenate([np.unique(found) for found in maps]))
    classes = [(panel.names[number], tuple(panel.colours[number])) for number in there if number != colouring.IGNORE]
    if "wrong" in panel.parts:
        classes.append((SAID_WRONG, WRONG))
    hatched = bool((there == colouring.IGNORE).any())
    return Scales(None, False, None, False, np.asarray(panel.colours), classes, hatched, UNLABELLED)


save_label_panel = FigureFile(label_panel, label_panel_size, dpi=DPI)
"""Draw the rows into files: `save_label_panel(panel, paths, style=…, venue=…)`. Same input, same bytes."""
