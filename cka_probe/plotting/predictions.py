"""Depth or labels that several models predict, next to the truth.

One row for each image: the image, its truth, and for each model its prediction and what is wrong with it. What has no
truth is hatched: nobody is right or wrong there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

import numpy as np
from matplotlib import colormaps
from matplotlib import figure as mpl
from matplotlib.axes import Axes

from cka_probe import registry
from cka_probe.errors import DataError
from cka_probe.plotting import colouring, image_grid, labels, style
from cka_probe.plotting.figure import add_legend, inches
from cka_probe.plotting.image_grid import (
    Scale,
    Tile,
    add_scales,
    class_keys,
    colour_keys,
    depth_scale,
    dimmed,
    draw_tiles,
    wrapped,
)
from cka_probe.plotting.matrix import rounded_up, ticks_between

TRUTH = "truth"
"""The key of the true edges in `PredictionRow.edges`."""
ERRORS = "YlOrRd"  # light for none, dark for large, and no colour of the depth's map
WRONG = (230, 97, 0)
"""Colour of what is wrong; on dim grey, bright for readers with any colour vision."""
EDGES = {"true edge, not found": (87, 181, 232), "found, not true": WRONG, "both": (255, 255, 255)}
"""Colours of edges."""
WRONG_KEY, UNLABELLED = "predicted wrongly", "not labelled"
PANEL, NARROWEST = 1.2, 0.7
"""Inches: an image for which lines are thick enough, and one of many."""
NAME = 0.3
"""Inches that the name of a row takes, with the borders of the page."""


@dataclass(frozen=True)
class PredictionRow:
    """One image with its depths or its labels.

    Attributes:
        name: What the dataset calls it.
        image: (H, W, 3) uint8.
        truth: (H, W) metres, 0 = not measured; or (h, w) numbers of classes, 255 = no label.
        predictions: Model to a map like the truth; depth above 0, and aligned, where that is wanted.
        edges: Of depth, model to (H, W) bool, where it has edges, and under "truth" where they are; None: not known.
    """

    name: str
    image: np.ndarray
    truth: np.ndarray
    predictions: Mapping[str, np.ndarray]
    edges: Mapping[str, np.ndarray] | None = None


class _Panel:
    """What both panels share: a line for each image with its truth and the parts of each model.

    Models that a page has no room for are below the others, in a band of their own, again with image and truth.
    """

    rows: Sequence[PredictionRow]
    parts: Sequence[str]
    kind: ClassVar[str]
    words: ClassVar[Mapping[str, str]]
    """What can be shown of a model, with the words above it."""

    def __post_init__(self) -> None:
        models = self._models
        for part in self.parts:
            registry.get(self.words, part, f"part of a {self.kind} panel")
        for row in self.rows:
            if sorted(row.predictions) != sorted(models):
                raise DataError(
                    f"{row.name}: expected predictions of {', '.join(models)}, found {', '.join(row.predictions)}"
                )
            for name, map in self._maps(row).items():
                if map.shape != row.truth.shape:
                    raise DataError(f"{row.name}: {name} is {map.shape} and the truth {row.truth.shape}; resize one")

    def _maps(self, row: PredictionRow) -> dict[str, np.ndarray]:
        """Return the maps of a row that have the shape of its truth."""
        return {"the truth": row.truth, **row.predictions}

    @property
    def _models(self) -> list[str]:
        if not self.rows or not self.parts or not self.rows[0].predictions:
            raise DataError("expected at least one image, one model and one part to show of it, found none; give some")
        return list(self.rows[0].predictions)

    def _count(self, models: int) -> int:
        return 2 + models * len(self.parts)

    @property
    def width(self) -> float:
        """Width in print with all models next to each other, inches."""
        count = self._count(len(self._models))
        return max(style.COLUMN, min(NAME + count * image_grid.PANEL, style.PAGE), NAME + count * NARROWEST)

    @property
    def narrowest(self) -> float:
        """Width in print with all models below each other, inches."""
        return max(style.COLUMN, NAME + self._count(1) * NARROWEST)

    def _bands(self, width: float) -> list[list[str]]:
        """Return the models that stand next to each other on a page of so many inches, from above."""
        models = self._models
        across = (-(-len(models) // bands) for bands in range(1, len(models) + 1))
        most = next((n for n in across if NAME + self._count(n) * NARROWEST <= width + 1e-9), 1)
        return [models[start : start + most] for start in range(0, len(models), most)]

    def _draw_rows(
        self, figure: mpl.Figure, tiles: Sequence[Mapping[str, Sequence[Tile]]], truth: str
    ) -> tuple[np.ndarray, float]:
        """Draw the tiles of each row, of image and truth under "" and of each model under its name.

        Returns:
            The axes, (lines, columns), and how many inches of print a column is wide.
        """
        bands = self._bands(inches(figure))
        count = self._count(len(bands[0]))
        panel = (inches(figure) - NAME) / count
        lines = [[tile for name in ("", *band) for tile in row[name]] for band, row in product(bands, tiles)]
        for band, start in zip(bands, range(0, len(lines), len(tiles)), strict=True):
            words = ["image", truth, *[self.words[part] for part in self.parts] * len(band)]
            lines[start] = [tile._replace(title=title) for tile, title in zip(lines[start], words, strict=True)]
        aspects = [row.image.shape[0] / row.image.shape[1] for row in self.rows] * len(bands)
        axes = draw_tiles(figure, lines, aspects, panel)
        for ax, row, aspect in zip(axes[:, 0], list(self.rows) * len(bands), aspects, strict=True):
            ax.set_ylabel(labels.cut(row.name, style.em(panel * aspect)), fontsize=style.small())
        for band, line in zip(bands, axes[:: len(tiles)], strict=True):
            _name_models(line[2 :: len(self.parts)], band, panel)
        return axes, panel


def _name_models(axes: Sequence[Axes], models: Sequence[str], panel: float) -> None:
    """Write the name of each model above the words over its first column."""
    for ax, model in zip(axes, models, strict=False):
        where: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "bottom"}
        offset = (0, style.points(3.0 + 1.5 * style.SMALL))
        ax.annotate(wrapped(model, panel), (0, 1), xytext=offset, weight="bold", **where)


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

    rows: Sequence[PredictionRow]
    parts: Sequence[str] = ("depth", "error")

    kind = "depth"
    words: ClassVar[Mapping[str, str]] = {"depth": "depth (m)", "error": "error", "edges": "edges"}

    def _maps(self, row: PredictionRow) -> dict[str, np.ndarray]:
        maps, edges = {"image": row.image[..., 0], **row.predictions}, row.edges or {}
        for name in (TRUTH, *row.predictions) if "edges" in self.parts else ():
            if name not in edges:
                raise DataError(f"{row.name}: expected edges of {name} to draw, found none; omit the part")
            maps[f"edges of {name}"] = edges[name]
        return maps

    def draw(self, figure: mpl.Figure) -> None:
        """Draw on an empty figure."""
        depth, worst = _depth_range(self.rows), _worst(self.rows)
        axes, panel = self._draw_rows(figure, [self._tiles(row, depth, worst) for row in self.rows], "truth (m)")
        scales = [depth_scale(depth, "depth (m)")]
        if "error" in self.parts:
            ticks = [(f"{tick:.3g}" + "+" * (tick == worst), tick / worst) for tick in ticks_between(0.0, worst)]
            ramp = _error_colours(np.linspace(0, worst, 256)[None], worst, sparse=False)[0]
            scales.append(Scale(ramp, ticks, "error |p \N{MINUS SIGN} g| / g"))
        add_scales(figure, axes, scales, panel)
        keys = colour_keys(EDGES if "edges" in self.parts else {})
        add_legend(figure, keys, hatched="not measured")

    def _tiles(self, row: PredictionRow, depth: tuple[float, float], worst: float) -> dict[str, list[Tile]]:
        """Return one image, its measured depth, and what the models predict."""
        sparse = 0 < (row.truth > 0).mean() < colouring.SPARSE
        image = Tile(colouring.opaque(row.image / 255), smooth=True)
        drawn = {"": [image, Tile(colouring.inverse_depth(row.truth[None], *depth))]}
        for model, predicted in row.predictions.items():
            error = relative_error(predicted, row.truth)
            mean = f"mean {np.nanmean(error):.3f}" if np.isfinite(error).any() else ""
            depths = colouring.inverse_depth(np.nan_to_num(predicted, posinf=1e6)[None], *depth)
            tiles = {"depth": Tile(depths), "error": Tile(_error_colours(error, worst, sparse=sparse), note=mean)}
            if "edges" in self.parts:
                tiles["edges"] = Tile(_edges_over(row, model))
            drawn[model] = [tiles[part] for part in self.parts]
        return drawn


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

    rows: Sequence[PredictionRow]
    names: Sequence[str]
    colours: np.ndarray
    parts: Sequence[str] = ("labels", "wrong")

    kind = "label"
    words: ClassVar[Mapping[str, str]] = {"labels": "predicted", "wrong": "wrong"}

    def __post_init__(self) -> None:
        super().__post_init__()
        for row in self.rows:
            maps = {f"{row.name}: expected {name}": map for name, map in self._maps(row).items()}
            check_labels(maps, self.names, self.colours)

    def draw(self, figure: mpl.Figure) -> None:
        """Draw on an empty figure."""
        self._draw_rows(figure, [self._tiles(row) for row in self.rows], "truth")
        maps = [numbers for row in self.rows for numbers in (row.truth, *row.predictions.values())]
        keys = class_keys(maps, self.names, np.asarray(self.colours))
        keys += colour_keys({WRONG_KEY: WRONG} if "wrong" in self.parts else {})
        add_legend(figure, keys, hatched=UNLABELLED)

    def _tiles(self, row: PredictionRow) -> dict[str, list[Tile]]:
        """Return one image, its labels, and what the models predict."""
        colours, image = np.asarray(self.colours), row.image / 255
        truth = Tile(colouring.classes(row.truth, colours))
        drawn = {"": [Tile(colouring.opaque(image), smooth=True), truth]}
        for model, predicted in row.predictions.items():
            share = share_wrong(predicted, row.truth)
            note = f"{100 * share:.1f} %" if np.isfinite(share) else ""
            tiles = {
                "labels": Tile(colouring.classes(predicted, colours)),
                "wrong": Tile(_wrong_over(image, predicted, row.truth), note=note),
            }
            drawn[model] = [tiles[part] for part in self.parts]
        return drawn


def check_labels(maps: Mapping[str, np.ndarray], names: Sequence[str], colours: np.ndarray) -> None:
    """Check that maps have numbers of classes, or 255, and that every class has a colour.

    Args:
        maps: How the message begins, "a.png: expected labels", to numbers of any shape.
        names: Of class 0, 1, …
        colours: (classes, 3) RGB of each.

    Raises:
        DataError: A number is not a class, or a class has no colour.
    """
    if np.shape(colours) != (len(names), 3):
        raise DataError(f"expected a colour for each of {len(names)} classes, found {np.shape(colours)}; add some")
    for expected, map in maps.items():
        wrong = map[(map != colouring.IGNORE) & ((map < 0) | (map >= len(names)))]
        if wrong.size:
            raise DataError(
                f"{expected} below {len(names)}, or {colouring.IGNORE}, found {wrong[0]}; give its own classes"
            )


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


def _depth_range(rows: Sequence[PredictionRow]) -> tuple[float, float]:
    """Return the 1 % and 99 % quantiles of measured depth, or of what was predicted where nothing was measured."""
    measured = np.concatenate([row.truth[row.truth > 0] for row in rows])
    if not measured.size:
        measured = np.concatenate([depth.ravel() for row in rows for depth in row.predictions.values()])
        measured = measured[np.isfinite(measured) & (measured > 0)]
    near, far = np.quantile(measured, (0.01, 0.99)).tolist() if measured.size else (1.0, 2.0)
    return near, max(far, 1.001 * near)


def _worst(rows: Sequence[PredictionRow]) -> float:
    """Return the 95 % quantile of all errors, rounded up, at least 0.01."""
    errors = np.concatenate([relative_error(p, row.truth).ravel() for row in rows for p in row.predictions.values()])
    errors = errors[np.isfinite(errors)]
    return rounded_up(float(np.quantile(errors, 0.95))) if errors.size else 1.0


def _error_colours(error: np.ndarray, worst: float, *, sparse: bool) -> np.ndarray:
    """Return errors in colours, transparent where none is known; points of a sparse map are enlarged as depth's are."""
    known = np.where(np.isfinite(error), np.maximum(error, 1e-9), 0)
    known = colouring.enlarged(known) if sparse else known
    return colouring.where(known > 0, colormaps[ERRORS]((known / worst).clip(0, 1))[..., :3])


def _edges_over(row: PredictionRow, model: str) -> np.ndarray:
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
