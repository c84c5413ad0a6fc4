"""Figures of one matrix: its values, the half-widths of its intervals, and its difference from another.

In all of them layer 0 is top left and undefined cells are hatched.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from matplotlib import figure as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from cka_probe.comparison.results import DifferenceMatrix, SimilarityMatrix
from cka_probe.errors import DataError
from cka_probe.plotting import labels, style
from cka_probe.plotting.figure import add_legend, inches
from cka_probe.plotting.matrix import (
    ColourScale,
    Map,
    dot_key,
    layer_names,
    mark,
    rounded_up,
    similarity_map,
)

MOST_NAMES = 40
"""Layers of the longer side up to which the map is large enough to name each of them."""
NARROW = 0.2
"""Share of the colour scale below which values are hard to tell apart."""
LONGEST = 2.35
"""Inches of the longer side of one of two maps of very many layers."""


@dataclass(frozen=True)
class Heatmap:
    """A similarity matrix as colours, lighter = more alike: up to 12 layers with numbers, up to 40 with all names.

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
        x, y = labels.model_names(self.result, room=min(18.0, style.em(cells.size[1] + 0.35, style.TEXT)))
        ax.set(ylabel=x, xlabel=y)
        cells.title(ax, labels.images_line(self.result))
        cells.legend(ax)
        return ax


@dataclass(frozen=True)
class Uncertainty:
    """The values of a similarity matrix and, to the right or below, the half-widths of their 95 % intervals.

    Values that are not above chance, no larger than the 95 % quantile of their values for permuted images, are dotted.
    Half-widths, half of `high - low`, are white for 0 and dark blue for the widest.

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
        names, ends = layer_names(self.result), (0.0, rounded_up(float(np.nanmax(self._half_widths))))
        widths = Map(self._half_widths, *names, style.WIDTHS, ends, "half-width", places=3, longest=LONGEST)
        return similarity_map(self.result, LONGEST), widths

    def draw(self, figure: mpl.Figure) -> None:
        """Draw on an empty figure, next to each other if there is room."""
        result, abreast = self.result, self.narrowest < self.width <= inches(figure) + 1e-9
        axes = figure.subplots(1, 2) if abreast else figure.subplots(2, 1)
        titles = (f"similarity, {labels.images_line(result)}", "half-width of the 95 % interval")
        meshes = []
        for ax, cells, title, names in zip(axes, self._maps, titles, (True, not abreast), strict=True):
            meshes.append(cells.draw(ax, names=names))
            x, y = labels.model_names(result, room=min(18.0, style.em(cells.size[1] + 0.3, style.TEXT)))
            ax.set(xlabel=y, ylabel=x if names else "")
            cells.title(ax, title)
        defined = np.isfinite(result.null) & np.isfinite(result.values)
        by_chance = defined & (result.values <= result.null)
        mark(axes[0], meshes[0], by_chance, self._maps[0].cell)
        words = f"not above chance (its 95 % quantile): {by_chance.sum()} of {defined.sum()} cells"
        keys: list[Artist] = [dot_key(words)] if defined.any() else []
        add_legend(figure, keys)


@dataclass(frozen=True)
class Difference:
    """How much more alike each two layers are in one comparison than in another: first less second.

    Blue is less and brown is more, equally dark; the scale is as long below 0 as above, and ends at a round number.
    Cells that differ significantly are dotted, and the lines below say how that was decided and how many they are. A
    cell that either comparison leaves undefined is hatched.

    Attributes:
        result: What to draw.
    """

    result: DifferenceMatrix

    @property
    def width(self) -> float:
        """Width in print, inches."""
        return self._map.width

    narrowest = width

    @cached_property
    def _map(self) -> Map:
        result = self.result
        end = rounded_up(np.abs(result.values[np.isfinite(result.values)]).max(initial=0.0))
        words = f"difference of {labels.measure_name(result)}"
        return Map(result.values, *layer_names(result), style.DIVERGING, (-end, end), words)

    def draw(self, figure: mpl.Figure) -> None:
        """Draw on an empty figure."""
        self.draw_on(figure.add_subplot())

    def draw_on(self, ax: Axes) -> Axes:
        """Draw on axes of any figure and return them."""
        cells = self._map
        mesh = cells.draw(ax)
        mark(ax, mesh, self.result.significant, cells.cell)
        x, y = ("layer", "layer") if cells.same_layers else ("layer of x", "layer of y")
        ax.set_ylabel(x, fontsize=style.small())
        ax.set_xlabel("\n".join([y, *self._method()]), fontsize=style.small())
        cells.title(ax, "\n".join(self._names()))
        return ax

    def _names(self) -> list[str]:
        """Return what is subtracted from what, and the number of images, in lines."""
        result, room = self.result, style.em(self._map.size[0] + 0.2)
        first, second = labels.short_pair(result.first), labels.short_pair(result.second)
        if first == second and result.first != result.second:
            first, second = result.first, result.second
        names = f"{first} \N{MINUS SIGN} {second}"
        if labels.width(names) <= room:
            return [names, labels.images_line(result)]
        lines = [labels.cut(first, room), f"\N{MINUS SIGN} {labels.cut(second, room - 1.2)}"]
        return [*lines, labels.images_line(result)]

    def _method(self) -> list[str]:
        """Return which cells are dotted and how they were chosen, in lines."""
        result, room = self.result, style.em(self._map.size[0] + 0.8)
        level, correction = result.settings.get("level"), result.settings.get("correction")
        test = ", ".join(str(part) for part in (f"{level:.0%}" if level else "", correction or "") if part)
        counts = f"{int(result.significant.sum())} of {int(np.isfinite(result.values).sum())}"
        words = f"dotted: {counts} cells differ" + (f" ({test});" if test else ";") + f" {result.how}"
        hatched = "" if np.isfinite(result.values).all() else "; hatched: undefined"
        return labels.filled(f"{words}{hatched}".split(" "), room)
