"""Depth of several models next to the truth, as the MeSa paper's Figures 3, 4, 6 and 7 draw it.

One row for each image: the image, the measured depth, and for each model its depth, its error |p - g| / g where g
was measured, or its edges over the image. All depth has one scale and so have all errors, whose upper end is the
95 % quantile: whatever is beyond an end has the colour of that end. What was not measured is hatched. Edges are drawn
as thick as print needs, which may be thicker than they are.

Depth is shown by 1 / depth, light near and dark far, which is what an image shows of it; the bar is in metres.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
    colour_keys,
    depth_scale,
    dimmed,
    hatch_key,
)

TRUTH = "truth"
"""The key of the true edges in `DepthRow.edges`."""
PARTS = {"depth": "depth (m)", "error": "error", "edges": "edges"}
"""What can be shown of a model, with the words above it."""
ERRORS = "YlOrRd"  # light for none, dark for large, and no colour of the depth's map
ERROR_PARTS = {1: 2, 2: 2, 3: 3, 4: 4, 5: 5, 6: 3, 8: 4}
"""Digits at which the scale of errors may end, and in how many equal parts of few digits it is divided."""
EDGES = {"true edge, not found": (87, 181, 232), "found, not true": (230, 97, 0), "both": (255, 255, 255)}
"""Colours of edges."""
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
class DepthPanel:
    """Depth of some images.

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
        if not self.rows or not self.parts or not self.rows[0].predictions:
            raise DataError("expected at least one image, one model and one part to show of it, found none; give some")
        for part in self.parts:
            registry.get(PARTS, part, "part of a depth panel")
        models = list(self.rows[0].predictions)
        for row in self.rows:
            if sorted(row.predictions) != sorted(models):
                raise DataError(
                    f"{row.name}: expected depth of {', '.join(models)}, found {', '.join(row.predictions)}"
                )
            maps = {"image": row.image[..., 0], **row.predictions}
            if "edges" in self.parts:
                edges = row.edges or {}
                if missing := [name for name in (TRUTH, *models) if name not in edges]:
                    raise DataError(
                        f"{row.name}: expected edges of {', '.join(missing)} to draw, found none; omit the part"
                    )
                maps |= {f"edges of {name}": edges[name] for name in (TRUTH, *models)}
            for name, map in maps.items():
                if map.shape != row.truth.shape:
                    raise DataError(
                        f"{row.name}: {name} is {map.shape} and the truth {row.truth.shape}; resize one of them"
                    )

    @property
    def _columns(self) -> Columns:
        return Columns(list(self.rows[0].predictions), [PARTS[part] for part in self.parts])

    @property
    def width(self) -> float:
        """Width in print, inches."""
        return self._columns.width

    @property
    def narrowest(self) -> float:
        """Least width in print, inches."""
        return self._columns.narrowest

    def draw(self, figure: mpl.Figure) -> None:
        """Draw on an empty figure."""
        depth, worst = _depth_range(self.rows), _worst(self.rows)
        rows = [self._row(row, depth, worst) for row in self.rows]
        axes, panel = self._columns.draw_rows(figure, rows, ("image", "truth (m)"))
        scales = [depth_scale(depth, "depth (m)")]
        if "error" in self.parts:
            parts = ERROR_PARTS[int(f"{worst:e}"[0])]
            ticks = [(f"{worst * part / parts:.3g}" + "+" * (part == parts), part / parts) for part in range(parts + 1)]
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
            of_models[model] = []
            for part in self.parts:
                if part == "depth":
                    depths = np.nan_to_num(predicted, posinf=1e6)[None]
                    of_models[model].append(Tile(colouring.inverse_depth(depths, *depth)))
                elif part == "error":
                    of_models[model].append(Tile(_error_colours(error, worst, sparse=sparse), note=mean))
                else:
                    of_models[model].append(Tile(_edges_over(row, model)))
        images = (
            Tile(colouring.opaque(row.image / 255), smooth=True),
            Tile(colouring.inverse_depth(row.truth[None], *depth)),
        )
        return Row(row.name, images, of_models)


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


def _depth_range(rows: Sequence[DepthRow]) -> tuple[float, float]:
    """Return the 1 % and 99 % quantiles of measured depth, or of what was predicted where nothing was measured."""
    measured = np.concatenate([row.truth[row.truth > 0] for row in rows])
    if not measured.size:
        measured = np.concatenate([depth.ravel() for row in rows for depth in row.predictions.values()])
        measured = measured[np.isfinite(measured) & (measured > 0)]
    near, far = np.quantile(measured, (0.01, 0.99)).tolist() if measured.size else (1.0, 2.0)
    return near, max(far, 1.001 * near)


def _worst(rows: Sequence[DepthRow]) -> float:
    """Return the 95 % quantile of all errors, rounded up to a digit of `ERROR_PARTS`, at least 0.01."""
    errors = np.concatenate([relative_error(p, row.truth).ravel() for row in rows for p in row.predictions.values()])
    errors = errors[np.isfinite(errors)]
    quantile = max(float(np.quantile(errors, 0.95)), 0.01) if errors.size else 1.0
    power = 10.0 ** np.floor(np.log10(quantile))
    digit = next(digit for digit in (*ERROR_PARTS, 10) if digit >= quantile / power - 1e-9)
    return float(f"{digit * power:.3g}")


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
