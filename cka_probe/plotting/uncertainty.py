"""How sure each cell is: the matrix, and next to it the half-width of each cell's 95 % interval.

On the left the values, as in a heatmap; cells that are not above chance, whose value is no larger than the 95 %
quantile of its values for permuted images, are dotted. On the right (below on a narrow page, and for a long strip) half
of `high - low`, from white for 0 to dark blue for the widest.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from matplotlib import figure as mpl
from matplotlib.artist import Artist

from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.errors import DataError
from cka_probe.plotting import labels, style
from cka_probe.plotting.figure import add_legend, inches
from cka_probe.plotting.matrix import (
    Map,
    dot_key,
    layer_names,
    mark,
    rounded_up,
    similarity_map,
    ticks_to,
    undefined_key,
)

LONGEST = 2.35
"""Inches of the longer side of one of two maps of very many layers."""


@dataclass(frozen=True)
class Uncertainty:
    """The values of a similarity matrix and the half-widths of their intervals.

    Attributes:
        result: What to draw.

    Raises:
        DataError: No cell has an interval.
    """

    result: SimilarityMatrix

    def __post_init__(self) -> None:
        if not np.isfinite(self._half_widths).any():
            raise DataError(
                "expected intervals to draw, found none in any cell; compare over two batches of images or more, or "
                "draw the heatmap"
            )

    @property
    def width(self) -> float:
        """Width in print, inches: two maps next to each other, unless they are long strips."""
        (rows, columns), (values, widths) = self.result.values.shape, self._maps
        return self.narrowest if columns > 3 * max(rows, 4) else min(values.width + widths.size[0] + 0.7, style.PAGE)

    @property
    def narrowest(self) -> float:
        """Width in print with one map below the other, inches."""
        return max(cells.width for cells in self._maps)

    @property
    def _half_widths(self) -> np.ndarray:
        return (self.result.high - self.result.low) / 2

    @cached_property
    def _maps(self) -> tuple[Map, Map]:
        result, end = self.result, rounded_up(float(np.nanmax(self._half_widths)))
        widths = Map(
            self._half_widths, *layer_names(result), style.WIDTHS, (0.0, end), "half-width", ticks_to(end),
            places=3, longest=LONGEST,
        )  # fmt: skip
        return similarity_map(result, LONGEST), widths

    def draw(self, figure: mpl.Figure) -> None:
        """Draw on an empty figure, next to each other if there is room."""
        abreast = self.narrowest < self.width <= inches(figure) + 1e-9
        axes = figure.subplots(1, 2) if abreast else figure.subplots(2, 1)
        by_chance = np.isfinite(self.result.null) & (self.result.values <= self.result.null)
        titles = (f"similarity, {labels.images_line(self.result)}", "half-width of the 95 % interval")
        for index, (ax, cells, title) in enumerate(zip(axes, self._maps, titles, strict=True)):
            mesh = cells.draw(ax, names=index == 0 or not abreast)
            x, y = labels.model_names(self.result, room=min(18.0, (cells.size[1] + 0.3) * 72 / style.TEXT))
            ax.set(xlabel=y, ylabel=x if index == 0 or not abreast else "")
            cells.title(ax, title)
            if index == 0:
                mark(ax, mesh, by_chance, cells.cell)
        add_legend(figure, self._keys(by_chance))

    def _keys(self, by_chance: np.ndarray) -> list[Artist]:
        """Return what the legend explains."""
        defined = int((np.isfinite(self.result.null) & np.isfinite(self.result.values)).sum())
        words = f"not above chance (its 95 % quantile): {int(by_chance.sum())} of {defined} cells"
        keys: list[Artist] = [dot_key(words)] if defined else []
        return keys + undefined_key(self.result.values + self._half_widths)
