"""What all figures of matrices share: cells, names of layers, stages of a network, dots and colour bars."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import Colormap
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from cka_probe import registry
from cka_probe.comparison.results import DifferenceMatrix, SimilarityMatrix
from cka_probe.errors import DataError
from cka_probe.plotting import labels, style
from cka_probe.plotting.figure import hatch_key

MOST_NUMBERS = 12
"""Layers of the longer side up to which each cell has its number and each layer its name."""
MAP, LONGEST = 1.84, 4.0
"""Inches of the longer side of a map: of a few layers, and of very many."""
NAME, VISIBLE, STRIP = 0.1, 0.03, 0.11
"""Inches of a cell: smallest sides with a name and that can be seen, and the other side in a strip of few layers."""
AUTO, NARROWEST = "auto", 0.01
"""The end of a colour scale that follows the values, and the least difference of two ends that do."""
ROOM = 11.5
"""Em for the name of a layer."""
DOT = 1.8
"""Points of a dot in a cell with a number."""
ENDS = {1.0: 2, 1.5: 3, 2.0: 2, 3.0: 3, 4.0: 2, 5.0: 2, 6.0: 3, 8.0: 2}
"""First digits of round numbers at which a scale may end, and into how many parts its ticks divide either side of 0."""
TICKS = MaxNLocator(5, steps=[1, 2, 5, 10])
"""Round numbers on other colour bars."""


def number(value: float, places: int = 2) -> str:
    """Return decimals, without the 0 before the point that most of them would have.

    >>> number(0.974), number(1.0), number(-0.5), number(10.5), number(-0.001)
    ('.97', '1.00', '\u2212.50', '10.50', '.00')
    """
    text = f"{abs(value):.{places}f}"
    sign = "\N{MINUS SIGN}" if value < 0 and float(text) else ""
    return sign + text.removeprefix("0")


@dataclass(frozen=True)
class ColourScale:
    """The colours of a heatmap.

    Attributes:
        vmin: Value of the first colour; None for the lower end of the measure's range, `auto` for a round number just
            below the smallest value.
        vmax: Value of the last colour; None for the upper end of the measure's range, `auto` for a round number just
            above the largest value.
        cmap: Name of a colour map of matplotlib.

    Raises:
        DataError: `vmin` or `vmax` is neither a finite number nor `auto`, or `vmin` is not below `vmax`.
        UnknownNameError: There is no such colour map.
    """

    vmin: float | str | None = None
    vmax: float | str | None = None
    cmap: str = style.COLOURS

    def __post_init__(self) -> None:
        registry.get(colormaps, self.cmap, "colour map")
        ends = [_end(name, end, 0.0) for name in ("vmin", "vmax") if (end := getattr(self, name)) not in (None, AUTO)]
        if not np.isfinite(ends).all() or sorted(set(ends)) != ends:
            raise DataError(f"expected finite numbers with vmin below vmax, found {self.vmin} and {self.vmax}")

    def ends(self, span: tuple[float, float], values: Sequence[float] | np.ndarray = ()) -> tuple[float, float]:
        """Return the values of the first and the last colour.

        Args:
            span: The range of the measure.
            values: Those that are drawn, of any shape.

        Raises:
            DataError: The first would not be below the last.
        """
        finite = np.asarray(values)[np.isfinite(values)]
        low, high = span
        if finite.size:
            margin = max(0.0, NARROWEST - float(np.ptp(finite))) / 2
            ticks = TICKS.tick_values(finite.min() - margin, finite.max() + margin)
            low = max(low, float(ticks[0])) if self.vmin == AUTO else low
            high = min(high, float(ticks[-1])) if self.vmax == AUTO else high
        low, high = _end("vmin", self.vmin, low), _end("vmax", self.vmax, high)
        if low >= high:
            raise DataError(f"expected a colour scale that ends above its start, found {low:g} to {high:g}")
        return round(low, 9), round(high, 9)


def _end(name: str, end: float | str | None, default: float) -> float:
    """Return an end of a colour scale as a number; the default where it is not given or follows the values."""
    try:
        return default if end is None or end == AUTO else float(end)
    except ValueError:
        raise DataError(f"expected a number or auto for {name}, found {end!r}") from None


@dataclass(frozen=True)
class Map:
    """A matrix with everything around it that says what it is.

    Attributes:
        values: (rows, columns), NaN where undefined.
        rows: Names of its layers from the top.
        columns: Names from the left.
        colours: A colour map.
        ends: Values of its first and its last colour.
        words: What the numbers are, next to the colour bar.
        places: Decimals of the numbers in the cells.
        longest: Inches of the longer side of a map of very many layers.
        named: Layers of the longer side up to which the map is large enough to name each of them.
    """

    values: np.ndarray
    rows: Sequence[str]
    columns: Sequence[str]
    colours: Colormap | str
    ends: tuple[float, float]
    words: str
    places: int = 2
    longest: float = LONGEST
    named: int = MOST_NUMBERS

    @cached_property
    def _numbers(self) -> np.ndarray:
        """The words of the cells, empty where undefined."""
        words = [number(value, self.places) if np.isfinite(value) else "" for value in self.values.ravel()]
        return np.array(words, dtype=object).reshape(self.values.shape)

    @cached_property
    def cell(self) -> tuple[float, float]:
        """Width and height of a cell in inches of print, square but for long strips of few layers."""
        (rows, columns), most, least = self.values.shape, max(self.values.shape), min(self.values.shape)
        if most <= MOST_NUMBERS:
            side = max(labels.print_width(("1.00", *self._numbers.ravel())) + 0.045, MAP / most)
            return side, side
        least_side = NAME if most <= self.named else VISIBLE
        side = min(max(MAP, most * least_side), self.longest) / most
        if 3 * least >= most:
            return side, side
        other = max(side, min(STRIP, MAP / least))
        return (side, other) if columns > rows else (other, side)

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of all cells, inches of print."""
        return self.cell[0] * len(self.columns), self.cell[1] * len(self.rows)

    @property
    def width(self) -> float:
        """Width of a figure of this map alone, inches of print."""
        names = labels.print_width(_named(self.rows, labels.step_for(self.cell[1], NAME)))
        return max(style.COLUMN, names + self.size[0] + 0.45)

    @property
    def same_layers(self) -> bool:
        """Whether rows and columns are the same layers, so that columns need an index only."""
        return list(self.rows) == list(self.columns)

    def draw(self, ax: Axes, *, names: bool = True, blank: np.ndarray | None = None) -> QuadMesh:
        """Draw the cells, the names of layers and stages, and the colour bar.

        Args:
            ax: Axes to draw on.
            names: Whether to name the rows, which a map on the left may have done.
            blank: As in `draw_cells`.

        Returns:
            The cells, for `mark`.
        """
        mesh = self.draw_cells(ax, blank=blank)
        self._name_layers(ax, names=names)
        self._mark_stages(ax)
        self.add_colour_bar(ax, mesh)
        return mesh

    def draw_cells(self, ax: Axes, *, numbered: bool = True, blank: np.ndarray | None = None) -> QuadMesh:
        """Draw layer 0 top left: cell (i, j) is around the point (j + 0.5, i + 0.5), hatched if it is undefined.

        Args:
            ax: Axes to draw on.
            numbered: Whether to write numbers into the cells of a few layers.
            blank: (rows, columns) bool, undefined cells that stay white; by default none.
        """
        few, undefined = numbered and max(self.values.shape) <= MOST_NUMBERS, ~np.isfinite(self.values)
        sns.heatmap(
            self.values, ax=ax, cmap=self.colours, vmin=self.ends[0], vmax=self.ends[1], mask=undefined, cbar=False,
            xticklabels=False, yticklabels=False, annot=self._numbers if few else False, fmt="",
            annot_kws={"fontsize": style.small()}, rasterized=not few,
        )  # fmt: skip
        ax.set_aspect(self.cell[1] / self.cell[0])
        ax.spines[:].set_visible(True)
        for row, column in np.argwhere(undefined & ~(np.False_ if blank is None else blank)):
            ax.add_patch(Rectangle((column, row), 1, 1, **style.hatching()))
        mesh = next(mesh for mesh in ax.collections if isinstance(mesh, QuadMesh))
        shades = _shades(mesh, self.values.shape)
        for text in ax.texts:
            column, row = text.get_position()
            text.set_color(style.letters_on(shades[int(row), int(column)]))  # seaborn's choice has less contrast
        return mesh

    def _name_layers(self, ax: Axes, *, names: bool) -> None:
        """Name the rows, and index or name the columns, as many of them as there is room for."""
        step = labels.step_for(self.cell[1], NAME)
        ax.set_yticks(np.arange(0, len(self.rows), step) + 0.5, _named(self.rows, step), rotation=0)
        ax.tick_params(labelleft=names)
        digits = labels.print_width([str(len(self.rows))])
        step = labels.step_for(self.cell[0], max(0.13, digits + 0.04) if self.same_layers else NAME)
        indices = range(0, len(self.columns), step)
        words = list(map(str, indices)) if self.same_layers else _named(self.columns, step)
        ax.set_xticks(np.array(indices) + 0.5, words, rotation=0 if self.same_layers else 90)

    def _mark_stages(self, ax: Axes) -> None:
        """Mark where the stages of a network of many layers end: on the right for x, above and by name for y."""
        for axis, names, side in ((ax.yaxis, self.rows, "right"), (ax.xaxis, self.columns, "top")):
            axis.set_ticks([end for *_, end in _stages(names)[:-1]], minor=True)
            ends: dict[str, Any] = {"left": False, "bottom": False, side: True}
            axis.set_tick_params("minor", length=style.points(2.5), width=style.points(0.6), **ends)
        for name, first, end in _stages(self.columns):
            room = style.em((end - first) * self.cell[0] - 0.03)
            word = next((word for word in (name, name.rsplit(".", 1)[-1]) if labels.width(word) <= room), "")
            ax.annotate(
                word, ((first + end) / 2, 1), xycoords=("data", "axes fraction"), ha="center", va="bottom",
                xytext=(0, style.points(2.5)), textcoords="offset points", fontsize=style.small(),
            )  # fmt: skip

    def add_colour_bar(self, ax: Axes, mesh: QuadMesh) -> None:
        """Draw the colour bar right of the map, as high as it; a low one has fewer numbers and more lines of words."""
        width, height = self.size
        if ax.get_aspect() == "auto":
            height = width * float(ax.get_box_aspect() or 1.0)
        ticks = ticks_between(*self.ends)
        if height < 0.14 * len(ticks):
            ticks = [ticks[0], ticks[-1]]
        (low, high), rounding = self.ends, 1e-6  # a layer is as similar to itself as 1, or a rounding above
        beyond = bool((self.values < low - rounding).any()), bool((self.values > high + rounding).any())
        extend = {(True, True): "both", (True, False): "min", (False, True): "max"}.get(beyond, "neither")
        bar = ax.inset_axes((1 + 0.07 / width, 0, 0.085 / width, 1))
        colour_bar = ax.figure.colorbar(mesh, cax=bar, extend=extend, extendfrac=0.05, extendrect=False)
        colour_bar.set_ticks(ticks, labels=_decimals(ticks))
        bar.set_ylabel("\n".join(labels.filled(self.words.split(), style.em(height + 0.3, style.TEXT))))

    def title(self, ax: Axes, words: str) -> None:
        """Write small words above the map and the names of its stages."""
        ax.set_title(words, fontsize=style.small(), pad=style.points(3.0) + self._stage_names)

    def legend(self, ax: Axes) -> None:
        """Explain undefined cells, if there are any, at the right end of the line of the title."""
        if keys := hatch_key([ax]):
            pad = (style.points(1.2) + self._stage_names) / style.small()
            ax.legend(handles=keys, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=pad)

    @property
    def _stage_names(self) -> float:
        """The points that the names of stages take above a map."""
        return 1.4 * style.small() if _stages(self.columns) else 0.0


def similarity_map(
    result: SimilarityMatrix, longest: float = LONGEST, *, named: int = MOST_NUMBERS, scale: ColourScale = ColourScale()
) -> Map:
    """Return the map of a result's values; see `Map` and `ColourScale`."""
    ends = scale.ends(bounds(result.settings, result.values), result.values)
    places, words = 2 if ends[1] - ends[0] > 0.1 else 3, labels.measure_name(result)
    return Map(result.values, *layer_names(result), scale.cmap, ends, words, places, longest, named)


def layer_names(result: SimilarityMatrix | DifferenceMatrix) -> tuple[list[str], list[str]]:
    """Return the names of the layers of x and of y."""
    return [axis.name for axis in result.rows], [axis.name for axis in result.columns]


def _named(layers: Sequence[str], step: int) -> list[str]:
    """Return every so many a name with its index."""
    names = labels.short_names(layers[::step], ROOM - labels.width(f"  {len(layers)}"))
    return [f"{name}  {step * index}" for index, name in enumerate(names)]


def _stages(layers: Sequence[str]) -> list[labels.Stage]:
    """Return the stages of a side on which not every layer is named."""
    return labels.stages(layers) if len(layers) > MOST_NUMBERS else []


def _shades(mesh: QuadMesh, shape: tuple[int, ...]) -> np.ndarray:
    """Return the colours of cells, (rows, columns, 4)."""
    return np.asarray(mesh.to_rgba(np.ma.asarray(mesh.get_array()).reshape(shape)))


def mark(ax: Axes, mesh: QuadMesh, cells: np.ndarray, cell: tuple[float, float]) -> None:
    """Put a dot into some cells, in the upper right corner where the middle has a number.

    Args:
        ax: Axes of the cells.
        mesh: What `Map.draw` returned; a dot is black or white, whichever has more contrast.
        cells: (rows, columns) bool.
        cell: Width and height of a cell, inches of print.
    """
    side, few = min(cell) * 72, max(cells.shape) <= MOST_NUMBERS
    size = DOT if few else min(DOT, max(0.45 * side, min(0.75, 0.8 * side)))  # half of a cell, but never too small
    shift = 0.5 - 0.75 * size / side if few else 0.0
    rows, columns = np.nonzero(cells)
    colours = [style.letters_on(shade) for shade in _shades(mesh, cells.shape)[cells]]
    dot: dict[str, Any] = {"s": style.points(size) ** 2, "linewidths": 0, "clip_on": False}
    ax.scatter(columns + 0.5 + shift, rows + 0.5 - shift, c=colours, **dot)


def dot_key(words: str) -> Line2D:
    """Return the legend's entry for what is dotted."""
    return Line2D([], [], linestyle="", marker="o", markersize=style.points(DOT), color="black", label=words)


def _decimals(ticks: Sequence[float]) -> list[str]:
    """Return the numbers of a colour bar, all with as many decimals as one of them needs.

    >>> _decimals([0.0, 0.5, 1.0]), _decimals([-0.03, 0.0])
    (['0.0', '0.5', '1.0'], ['\u22120.03', '0.00'])
    """
    places = next(places for places in range(1, 12) if np.allclose(ticks, np.round(ticks, places), rtol=0, atol=1e-9))
    return [f"{tick:.{places}f}".replace("-", "\N{MINUS SIGN}") for tick in ticks]


def bounds(settings: Mapping[str, Any], values: np.ndarray) -> tuple[float, float]:
    """Return the ends of the scale of colours: the measure's range, and where that has no end, the values' own.

    Args:
        settings: Of a result; `range` is that of its measure, by default 0 to 1.
        values: Its values.
    """
    low, high = settings.get("range") or (0.0, 1.0)
    finite = values[np.isfinite(values)]
    low = float(finite.min(initial=0.0)) if low is None or not np.isfinite(low) else float(low)
    high = float(finite.max(initial=1.0)) if high is None or not np.isfinite(high) else float(high)
    return low, high


def rounded_up(value: float) -> float:
    """Return the next of 0.01, 0.015, 0.02, 0.03 … that is no smaller: the end of a scale that can be read.

    >>> rounded_up(0.034), rounded_up(0.5), rounded_up(0.0), rounded_up(1.21)
    (0.04, 0.5, 0.01, 1.5)
    """
    steps = (step * 10.0**power for power in range(-2, 9) for step in ENDS)
    return next(round(step, 9) for step in steps if step >= value * (1 - 1e-9))


def ticks_between(low: float, high: float) -> list[float]:
    """Return numbers for a colour bar: both ends, and about four round numbers between them.

    >>> ticks_between(0.0, 1.0), ticks_between(0.93, 1.0), ticks_between(-0.8, 0.8)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [0.93, 0.94, 0.96, 0.98, 1.0], [-0.8, -0.4, 0.0, 0.4, 0.8])
    """
    if low == -high and (parts := ENDS.get(float(f"{high:.1e}"[:3]))):
        return [float(tick) for tick in np.linspace(low, high, 2 * parts + 1).round(9)]
    ticks = TICKS.tick_values(low, high)
    gap = 0.4 * (ticks[1] - ticks[0])
    return [low, *(round(float(tick), 9) for tick in ticks if low + gap < tick < high - gap), high]
