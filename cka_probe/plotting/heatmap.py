"""The matrix of a comparison: layer 0 top left, lighter = more similar, undefined cells hatched."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from matplotlib import figure as mpl
from matplotlib.axes import Axes

from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.plotting import labels, style
from cka_probe.plotting.matrix import ColourScale, Map, similarity_map

MOST_NAMES = 40
"""Layers of the longer side up to which the map is large enough to name each of them."""

NARROW = 0.2
"""Share of the colour scale below which values are hard to tell apart."""


@dataclass(frozen=True)
class Heatmap:
    """A similarity matrix as colours, up to 12 layers with its numbers, up to 40 with their names.

    Attributes:
        result: What to draw.
        vmin: Value of the first colour, `auto`, or None; see `ColourScale`.
        vmax: Value of the last colour.
        cmap: Name of a colour map of matplotlib; None for magma.

    Raises:
        DataError: `vmin` is not below `vmax`.
        UnknownNameError: There is no such colour map.

    >>> from cka_probe.plotting import Heatmap, save
    >>> save(Heatmap(result, vmin="auto"), ["heatmap.pdf"])  # doctest: +SKIP
    """

    result: SimilarityMatrix
    vmin: float | str | None = None
    vmax: float | str | None = None
    cmap: str | None = None

    def __post_init__(self) -> None:
        self._map.cell  # noqa: B018, refuses a scale that cannot be drawn

    @cached_property
    def _map(self) -> Map:
        scale = ColourScale(self.vmin, self.vmax, self.cmap or style.COLOURS)
        return similarity_map(self.result, named=MOST_NAMES, scale=scale)

    @property
    def width(self) -> float:
        """Width in print, inches."""
        return self._map.width

    narrowest = width

    @property
    def narrow_range(self) -> tuple[float, float] | None:
        """The smallest and the largest value if they take up less than a fifth of the colour scale, else None."""
        values = self.result.values[np.isfinite(self.result.values)]
        low, high = self._map.ends
        if not values.size or np.ptp(values) >= NARROW * (high - low):
            return None
        return float(values.min()), float(values.max())

    def draw(self, figure: mpl.Figure) -> None:
        """Draw on an empty figure."""
        self.draw_on(figure.add_subplot())

    def draw_on(self, ax: Axes) -> Axes:
        """Draw on axes of any figure and return them."""
        cells = self._map
        cells.draw(ax)
        x, y = labels.model_names(self.result, room=min(18.0, (cells.size[1] + 0.35) * 72 / style.TEXT))
        ax.set(ylabel=x, xlabel=y)
        cells.title(ax, labels.images_line(self.result))
        cells.legend(ax)
        return ax
