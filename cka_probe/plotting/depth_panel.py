"""Depth of several models beside the truth, as the MeSa paper's Figures 3, 4, 6 and 7 draw it.

One row for each image: the image, the measured depth, and for each model its depth, its error |p - g| / g where g
was measured, or its edges over the image. All depth has one scale and so have all errors, whose upper end is the
95 % quantile: whatever is beyond an end has the colour of that end. What was not measured is hatched. Edges are drawn
as thick as print needs, which may be thicker than they are.

Depth is shown by 1 / depth, light near and dark far, which is what an image shows of it; the bar is in metres.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes

from cka_probe import registry
from cka_probe.errors import DataError
from cka_probe.plotting import FigureFile, colouring, labels, sheet_plan, style
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
from cka_probe.plotting.sheet_plan import Key

TRUTH = "truth"
"""The key of the true edges in `DepthRow.edges`."""
PARTS = {"depth": "depth (m)", "error": "error", "edges": "edges"}
"""What can be shown of a model, with the words above it."""
ERRORS = "YlOrRd"  # light for none, dark for large, and no colour of the depth's map
PARTINGS = {1: 2, 2: 2, 3: 3, 4: 4, 5: 5, 6: 3, 8: 4}
"""Digits at which the scale of errors may end, and in how many equal parts of few digits it is divided."""
TRUE_EDGE, FOUND_EDGE, BOTH_EDGE = (0.34, 0.71, 0.91), (0.9, 0.38, 0.0), (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class DepthRow:
    """One image with its depths.

    Attributes:
        name: What the dataset calls it.
        image: (H, W, 3) uint8.
        truth: (H, W) metres, 0 = not measured.
        predictions: Model to (H, W) metres, above 0; aligned, where that is wanted.
        edges: Model to (H, W) bool, where it has depth edges, and under "truth" where they are; None: not known.
    """

    name: str
    image: np.ndarray
    truth: np.ndarray
    predictions: Mapping[str, np.ndarray]
    edges: Mapping[str, np.ndarray] | None = None


@dataclass(frozen=True)
class DepthPanel:
    """What is drawn.

    Attributes:
        rows: At least one; all with the same models, in the order of the first.
        parts: What is shown of each model, of "depth", "error", "edges".
    """

    rows: Sequence[DepthRow]
    parts: Sequence[str] = ("depth", "error")


@dataclass(frozen=True)
class Plan:
    """Where things go, in inches, and what colours mean.

    Attributes:
        columns: Where they stand.
        heights: Of the panels of each row.
        size: Width and height of everything.
        depth: Nearest and farthest of the scale, metres.
        worst: Upper end of the scale of errors.
    """

    columns: Columns
    heights: list[float]
    size: tuple[float, float]
    depth: tuple[float, float]
    worst: float


def depth_panel(panel: DepthPanel, ax: Axes, *, page: float = math.inf) -> Axes:
    """Draw the rows on `ax`, which they fill.

    Args:
        panel: What to draw.
        ax: Axes of the proportions of `depth_panel_size`; with others some of it stays empty.
        page: Inches that it may be wide at most, such as `style.page_for` of a venue.

    Returns:
        `ax`.

    Raises:
        DataError: There is no row, no model or no part; shapes of a row differ; edges are asked for that are not known.
        UnknownNameError: No such part.
    """
    plan = _plan(panel, page)
    pen, places, top = Pen(ax, plan.size, design=1.0), plan.columns, MARGIN
    parts = [PARTS[part] for part in panel.parts]
    for number, models in enumerate(places.bands):
        top += APART * bool(number)
        write_headers(pen, places, top, ("image", "truth (m)"), models, parts)
        top += places.head
        for row, height in zip(panel.rows, plan.heights, strict=True):
            pen.text(MARGIN, top + CAPTION / 2, labels.cut(row.name, pen.room(_room(plan, panel))))
            for left, (rgba, smooth, note) in zip(places.lefts, _images(row, models, panel, plan), strict=False):
                draw_image(pen, rgba, (left, top + CAPTION, places.panel, height), smooth=smooth)
                if note:
                    pen.text(left + places.panel, top + CAPTION / 2, note, align="right")
            top += CAPTION + height + GAP
    sheet_plan.draw_keys(pen, _keys(panel, plan.depth, plan.worst), MARGIN, top)
    return ax


def depth_panel_size(panel: DepthPanel, *, page: float = math.inf) -> tuple[float, float]:
    """Return width and height in inches, letters of 6 and 7 points given; `page` as above."""
    return _plan(panel, page).size


def relative_error(depth_predicted: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Return |p - g| / g, without a unit.

    Args:
        depth_predicted: p, (H, W) metres.
        depth: g, (H, W) metres, 0 = not measured.

    Returns:
        (H, W) float64; NaN where g was not measured.

    >>> relative_error(np.array([[1.5, 2.0]]), np.array([[2.0, 0.0]])).tolist()
    [[0.25, nan]]
    """
    measured = depth > 0
    known = np.where(measured, depth, 1).astype(np.float64)
    return np.where(measured, np.abs(depth_predicted - known) / known, np.nan)


def _plan(panel: DepthPanel, page: float) -> Plan:
    _check(panel)
    places = columns(list(panel.rows[0].predictions), len(panel.parts), page)
    heights = [places.panel * row.truth.shape[0] / row.truth.shape[1] for row in panel.rows]
    depth, worst = _depth_scale(panel.rows), _worst(panel.rows)
    keys = sheet_plan.keys_height(_keys(panel, depth, worst), places.width - 2 * MARGIN)
    return Plan(places, heights, (places.width, places.height(heights) + keys), depth, worst)


def _check(panel: DepthPanel) -> None:
    if not panel.rows or not panel.parts or not panel.rows[0].predictions:
        raise DataError("expected at least one image, one model and one part to show of it, found none; give some")
    for part in panel.parts:
        registry.get(PARTS, part, "part of a depth panel")
    models = list(panel.rows[0].predictions)
    for row in panel.rows:
        if sorted(row.predictions) != sorted(models):
            raise DataError(f"{row.name}: expected depth of {', '.join(models)}, found {', '.join(row.predictions)}")
        maps = {"image": row.image[..., 0], **row.predictions}
        if "edges" in panel.parts:
            edges = row.edges or {}
            if missing := [name for name in (TRUTH, *models) if name not in edges]:
                raise DataError(
                    f"{row.name}: expected edges of {', '.join(missing)} to draw, found none; leave them out"
                )
            maps |= {f"edges of {name}": edges[name] for name in (TRUTH, *models)}
        for name, found in maps.items():
            if found.shape != row.truth.shape:
                raise DataError(
                    f"{row.name}: {name} is {found.shape} and the truth {row.truth.shape}; resize one of them"
                )


def _depth_scale(rows: Sequence[DepthRow]) -> tuple[float, float]:
    """Return the 1 % and 99 % quantiles of measured depth, or of what was predicted where nothing was measured."""
    measured = np.concatenate([row.truth[row.truth > 0] for row in rows])
    if not measured.size:
        measured = np.concatenate([depth.ravel() for row in rows for depth in row.predictions.values()])
        measured = measured[np.isfinite(measured) & (measured > 0)]
    near, far = np.quantile(measured, (0.01, 0.99)).tolist() if measured.size else (1.0, 2.0)
    return near, max(far, 1.001 * near)


def _worst(rows: Sequence[DepthRow]) -> float:
    """Return the 95 % quantile of all errors, rounded up to a digit of `PARTINGS`, at least 0.01."""
    errors = np.concatenate([relative_error(p, row.truth).ravel() for row in rows for p in row.predictions.values()])
    errors = errors[np.isfinite(errors)]
    quantile = max(float(np.quantile(errors, 0.95)), 0.01) if errors.size else 1.0
    power = 10.0 ** np.floor(np.log10(quantile))
    digit = next(digit for digit in (*PARTINGS, 10) if digit >= quantile / power - 1e-9)
    return float(f"{digit * power:.3g}")


def _room(plan: Plan, panel: DepthPanel) -> float:
    """Return the inches that the name of a row has: up to the first note, or all of the page."""
    if "error" not in panel.parts:
        return plan.size[0] - 2 * MARGIN
    return plan.columns.lefts[2 + list(panel.parts).index("error")] - 2 * MARGIN


def _images(row: DepthRow, models: Sequence[str], panel: DepthPanel, plan: Plan) -> list[tuple[np.ndarray, bool, str]]:
    """Return (colours, smoothed when resized, words above) of every column of a row with some of the models."""
    image = row.image / 255
    images = [(colouring.opaque(image), True, ""), (colouring.inverse_depth(row.truth[None], *plan.depth), False, "")]
    sparse = 0 < (row.truth > 0).mean() < colouring.SPARSE
    for model in models:
        depth = np.nan_to_num(row.predictions[model], posinf=1e6)
        error = relative_error(row.predictions[model], row.truth)
        for part in panel.parts:
            if part == "depth":
                images.append((colouring.inverse_depth(depth[None], *plan.depth), False, ""))
            elif part == "error":
                mean = f"mean {np.nanmean(error):.3f}" if np.isfinite(error).any() else ""
                images.append((_error_colours(error, plan.worst, sparse=sparse), False, mean))
            else:
                edges = row.edges or {}
                images.append((_edges_over(image, edges[TRUTH], edges[model], plan.columns.panel), False, ""))
    return images


def _error_colours(error: np.ndarray, worst: float, *, sparse: bool) -> np.ndarray:
    """Return errors in colours, transparent where none is known; points of a sparse map are enlarged as depth's are."""
    known = np.where(np.isfinite(error), np.maximum(error, 1e-9), 0)
    known = colouring.enlarged(known) if sparse else known
    return colouring.where(known > 0, colormaps[ERRORS]((known / worst).clip(0, 1))[..., :3])


def _edges_over(image: np.ndarray, truth: np.ndarray, found: np.ndarray, inches: float) -> np.ndarray:
    """Return a dimmed grey image with true and found edges, and those that are both, in colours."""
    lines = [colouring.thick_lines(edges, inches) for edges in (truth, found, truth & found)]
    finer = len(lines[0]) // len(image)
    colours = dimmed(image).repeat(finer, 0).repeat(finer, 1)
    for edges, colour in zip(lines, (TRUE_EDGE, FOUND_EDGE, BOTH_EDGE), strict=True):
        colours[edges] = colour
    return colouring.opaque(colours)


def _keys(panel: DepthPanel, depth: tuple[float, float], worst: float) -> list[Key]:
    """Return what the colours mean."""
    keys = [sheet_plan.depth_key(depth, "depth (m)")]
    if "error" in panel.parts:
        colours = _error_colours(np.linspace(0, worst, 256)[None], worst, sparse=False)
        parts = PARTINGS[int(f"{worst:e}"[0])]
        marks = [(f"{worst * part / parts:.3g}" + "+" * (part == parts), part / parts) for part in range(parts + 1)]
        keys.append(sheet_plan.bar_key(colours, marks, "error |p \N{MINUS SIGN} g| / g"))
    if "edges" in panel.parts:
        names = {"true edge, not found": TRUE_EDGE, "found, not true": FOUND_EDGE, "both": BOTH_EDGE}
        look = {"edgecolor": "black", "linewidth": 0.3}
        keys += [sheet_plan.swatch_key(name, {"facecolor": colour, **look}) for name, colour in names.items()]
    if any((row.truth <= 0).any() for row in panel.rows):
        keys.append(sheet_plan.swatch_key("not measured", style.UNDEFINED))
    return keys


save_depth_panel = FigureFile(depth_panel, depth_panel_size, dpi=DPI)
"""Draw the rows into files: `save_depth_panel(panel, paths, style=…, venue=…)`. Same input, same bytes."""
