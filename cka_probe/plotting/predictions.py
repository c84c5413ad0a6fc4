"""Depth or labels that several models predict, next to the truth.

One row for each image: the image, its truth, and for each model its prediction and what is wrong with it. What has no
truth is hatched: nobody is right or wrong there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib import figure as mpl
from matplotlib.artist import Artist

from cka_probe import registry
from cka_probe.errors import DataError
from cka_probe.plotting import colouring
from cka_probe.plotting.figure import add_legend
from cka_probe.plotting.image_grid import (
    Columns,
    Row,
    Scale,
    Tile,
    add_scales,
    class_keys,
    colour_keys,
    depth_scale,
    dimmed,
    hatch_key,
)
from cka_probe.plotting.matrix import rounded_up, ticks_between

TRUTH = "truth"
"""The key of the true edges in `DepthRow.edges`."""
DEPTH_PARTS = {"depth": "depth (m)", "error": "error", "edges": "edges"}
LABEL_PARTS = {"labels": "predicted", "wrong": "wrong"}
"""What can be shown of a model, with the words above it."""
ERRORS = "YlOrRd"  # light for none, dark for large, and no colour of the depth's map
WRONG = (230, 97, 0)
"""Colour of what is wrong; on dim grey, bright for readers with any colour vision."""
EDGES = {"true edge, not found": (87, 181, 232), "found, not true": WRONG, "both": (255, 255, 255)}
"""Colours of edges."""
WRONG_KEY, UNLABELLED = "predicted wrongly", "not labelled"
PANEL = 1.2
"""Inches of an image for which lines are thick enough."""


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


class _Panel:
    """What both panels share."""

    rows: Sequence[Any]
    parts: Sequence[str]

    def _check(self, parts: Mapping[str, str], kind: str, predicted: str) -> None:
        """Check that there are rows of the same models, and parts of those that there are."""
        if not self.rows or not self.parts or not self.rows[0].predictions:
            raise DataError("expected at least one image, one model and one part to show of it, found none; give some")
        for part in self.parts:
            registry.get(parts, part, f"part of a {kind} panel")
        models = list(self.rows[0].predictions)
        for row in self.rows:
            if sorted(row.predictions) != sorted(models):
                raise DataError(
                    f"{row.name}: expected {predicted} of {', '.join(models)}, found {', '.join(row.predictions)}"
                )

    @cached_property
    def _columns(self) -> Columns:
        words = DEPTH_PARTS | LABEL_PARTS
        return Columns(list(self.rows[0].predictions), [words[part] for part in self.parts])

    @property
    def width(self) -> float:
        """Width in print, inches."""
        return self._columns.width

    @property
    def narrowest(self) -> float:
        """Least width in print, inches."""
        return self._columns.narrowest


@dataclass(frozen=True)
class DepthPanel(_Panel):
    """Depth of some images, as the MeSa paper's Figures 3, 4, 6 and 7 draw it.

    Depth is shown by 1 / depth, light near and dark far, which is what an image shows of it; the bar is in metres. All
    depth has one scale and so have all errors, |p - g| / g, whose upper end is the 95 % quantile: whatever is beyond an
    end has the colour of that end. Edges are drawn over the image as thick as print needs, which may be thicker than
    they are.

    Attributes:
        rows: At least one; all with the same models, in the order of the first.
        parts: What is shown of each model, of "depth", "error", "edges".

    Raises:
        DataError: There is no row, no model or no part; shapes of a row differ; edges that are not known.
        UnknownNameError: No such part.
    """

    rows: Sequence[DepthRow]
    parts: Sequence[str] = ("depth", "error")

    def __post_init__(self) -> None:
        self._check(DEPTH_PARTS, "depth", "depth")
        models = list(self.rows[0].predictions)
        for row in self.rows:
            maps = {"image": row.image[..., 0], **row.predictions}
            if "edges" in self.parts:
                edges = row.edges or {}
                if missing := [name for name in (TRUTH, *models) if name not in edges]:
                    raise DataError(
                        f"{row.name}: expected edges of {', '.join(missing)} to draw, found none; omit the part"
                    )
                maps |= {f"edges of {name}": edges[name] for name in (TRUTH, *models)}
            _check_shapes(row.name, maps, row.truth)

    def draw(self, figure: mpl.Figure) -> None:
        """Draw on an empty figure."""
        depth, worst = _depth_range(self.rows), _worst(self.rows)
        rows = [self._row(row, depth, worst) for row in self.rows]
        axes, panel = self._columns.draw_rows(figure, rows, ("image", "truth (m)"))
        scales = [depth_scale(depth, "depth (m)")]
        if "error" in self.parts:
            ticks = [(f"{tick:.3g}" + "+" * (tick == worst), tick / worst) for tick in ticks_between(0.0, worst)]
            ramp = _error_colours(np.linspace(0, worst, 256)[None], worst, sparse=False)[0]
            scales.append(Scale(ramp, ticks, "error |p \N{MINUS SIGN} g| / g"))
        add_scales(figure, axes, scales, panel)
        keys: list[Artist] = colour_keys(EDGES if "edges" in self.parts else {})
        if any((row.truth <= 0).any() for row in self.rows):
            keys.append(hatch_key("not measured"))
        add_legend(figure, keys)

    def _row(self, row: DepthRow, depth: tuple[float, float], worst: float) -> Row:
        """Return one image, its measured depth, and what the models predict."""
        sparse = 0 < (row.truth > 0).mean() < colouring.SPARSE
        of_models: dict[str, list[Tile]] = {}
        for model, predicted in row.predictions.items():
            error = relative_error(predicted, row.truth)
            mean = f"mean {np.nanmean(error):.3f}" if np.isfinite(error).any() else ""
            depths = colouring.inverse_depth(np.nan_to_num(predicted, posinf=1e6)[None], *depth)
            tiles = {"depth": Tile(depths), "error": Tile(_error_colours(error, worst, sparse=sparse), note=mean)}
            if "edges" in self.parts:
                tiles["edges"] = Tile(_edges_over(row, model))
            of_models[model] = [tiles[part] for part in self.parts]
        image = Tile(colouring.opaque(row.image / 255), smooth=True)
        return Row(row.name, (image, Tile(colouring.inverse_depth(row.truth[None], *depth))), of_models)


@dataclass(frozen=True)
class LabelPanel(_Panel):
    """Labels of some images, in the colours of their vocabulary; what is wrong is marked, with its share.

    Attributes:
        rows: At least one; all with the same models, in the order of the first.
        names: Of class 0, 1, …
        colours: (classes, 3) RGB of each, 0 … 255.
        parts: What is shown of each model, of "labels", "wrong".

    Raises:
        DataError: There is no row, no model or no part; shapes of a row differ; a number is not a class.
        UnknownNameError: No such part.
    """

    rows: Sequence[LabelRow]
    names: Sequence[str]
    colours: np.ndarray
    parts: Sequence[str] = ("labels", "wrong")

    def __post_init__(self) -> None:
        self._check(LABEL_PARTS, "label", "labels")
        check_colours(self.names, self.colours)
        for row in self.rows:
            maps = {"the truth": row.truth, **row.predictions}
            _check_shapes(row.name, maps, row.truth)
            for name, numbers in maps.items():
                check_classes(f"{row.name}: expected {name}", numbers, len(self.names))

    def draw(self, figure: mpl.Figure) -> None:
        """Draw on an empty figure."""
        self._columns.draw_rows(figure, [self._row(row) for row in self.rows], ("image", "truth"))
        maps = [numbers for row in self.rows for numbers in (row.truth, *row.predictions.values())]
        keys = class_keys(maps, self.names, np.asarray(self.colours))
        keys += colour_keys({WRONG_KEY: WRONG} if "wrong" in self.parts else {})
        unlabelled = any((numbers == colouring.IGNORE).any() for numbers in maps)
        add_legend(figure, keys + ([hatch_key(UNLABELLED)] if unlabelled else []))

    def _row(self, row: LabelRow) -> Row:
        """Return one image, its labels, and what the models predict."""
        colours, image = np.asarray(self.colours), row.image / 255
        of_models: dict[str, list[Tile]] = {}
        for model, predicted in row.predictions.items():
            share = share_wrong(predicted, row.truth)
            note = f"{100 * share:.1f} %" if np.isfinite(share) else ""
            tiles = {
                "labels": Tile(colouring.classes(predicted, colours)),
                "wrong": Tile(_wrong_over(image, predicted, row.truth), note=note),
            }
            of_models[model] = [tiles[part] for part in self.parts]
        truth = Tile(colouring.classes(row.truth, colours))
        return Row(row.name, (Tile(colouring.opaque(image), smooth=True), truth), of_models)


def _check_shapes(row: str, maps: Mapping[str, np.ndarray], truth: np.ndarray) -> None:
    """Check that all maps of a row have the shape of the truth."""
    for name, map in maps.items():
        if map.shape != truth.shape:
            raise DataError(f"{row}: {name} is {map.shape} and the truth {truth.shape}; resize one of them")


def check_colours(names: Sequence[str], colours: np.ndarray) -> None:
    """Check that every class has a colour.

    Raises:
        DataError: Some have none, or a colour is not RGB.
    """
    if np.shape(colours) != (len(names), 3):
        raise DataError(f"expected a colour for each of {len(names)} classes, found {np.shape(colours)}; add some")


def check_classes(expected: str, numbers: np.ndarray, count: int) -> None:
    """Check that a map has numbers of classes, or 255.

    Args:
        expected: How the message begins.
        numbers: The map, of any shape.
        count: Number of classes.

    Raises:
        DataError: A number is not a class.
    """
    wrong = numbers[(numbers != colouring.IGNORE) & ((numbers < 0) | (numbers >= count))]
    if wrong.size:
        raise DataError(f"{expected} below {count}, or {colouring.IGNORE}, found {wrong[0]}; give its own classes")


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


def share_wrong(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Return the share of labelled pixels that are predicted wrongly; NaN without one.

    >>> share_wrong(np.array([[0, 1, 1]]), np.array([[0, 0, 255]]))
    0.5
    """
    labelled = truth != colouring.IGNORE
    return float((predicted != truth)[labelled].mean()) if labelled.any() else float("nan")


def _depth_range(rows: Sequence[DepthRow]) -> tuple[float, float]:
    """Return the 1 % and 99 % quantiles of measured depth, or of what was predicted where nothing was measured."""
    measured = np.concatenate([row.truth[row.truth > 0] for row in rows])
    if not measured.size:
        measured = np.concatenate([depth.ravel() for row in rows for depth in row.predictions.values()])
        measured = measured[np.isfinite(measured) & (measured > 0)]
    near, far = np.quantile(measured, (0.01, 0.99)).tolist() if measured.size else (1.0, 2.0)
    return near, max(far, 1.001 * near)


def _worst(rows: Sequence[DepthRow]) -> float:
    """Return the 95 % quantile of all errors, rounded up, at least 0.01."""
    errors = np.concatenate([relative_error(p, row.truth).ravel() for row in rows for p in row.predictions.values()])
    errors = errors[np.isfinite(errors)]
    return rounded_up(float(np.quantile(errors, 0.95))) if errors.size else 1.0


def _error_colours(error: np.ndarray, worst: float, *, sparse: bool) -> np.ndarray:
    """Return errors in colours, transparent where none is known; points of a sparse map are enlarged as depth's are."""
    known = np.where(np.isfinite(error), np.maximum(error, 1e-9), 0)
    known = colouring.enlarged(known) if sparse else known
    return colouring.where(known > 0, colormaps[ERRORS]((known / worst).clip(0, 1))[..., :3])


def _edges_over(row: DepthRow, model: str) -> np.ndarray:
    """Return the dimmed grey image with true and predicted edges, and those that are both, in colours."""
    edges = row.edges or {}
    lines = [colouring.thick_lines(mask, PANEL) for mask in (edges[TRUTH], edges[model], edges[TRUTH] & edges[model])]
    finer = len(lines[0]) // len(row.image)
    colours = dimmed(row.image / 255).repeat(finer, 0).repeat(finer, 1)
    for mask, colour in zip(lines, EDGES.values(), strict=True):
        colours[mask] = np.array(colour) / 255
    return colouring.opaque(colours)


def _wrong_over(image: np.ndarray, predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return what is wrong over the dimmed image, transparent where there is no label."""
    down, across = (  # the image may be finer than its labels, or coarser
        ((np.arange(new) + 0.5) * old // new).astype(int) for new, old in zip(truth.shape, image.shape[:2], strict=True)
    )
    colours = dimmed(image[down][:, across])
    labelled = truth != colouring.IGNORE
    colours[labelled & (predicted != truth)] = np.array(WRONG) / 255
    return colouring.where(labelled, colours)
