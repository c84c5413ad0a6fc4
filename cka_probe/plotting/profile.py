"""How similar layer i of x is to layer i of y, from the first layer to the last, in one result or in pairs of networks.

Each value has its 95 % interval, over the grey of what chance reaches: the 95 % quantile when the images of y are
permuted. A layer without a value is hatched, and the line has a gap there.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import figure as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.errors import DataError
from cka_probe.plotting import labels, style
from cka_probe.plotting.figure import add_legend, hatch_key, inches, panels
from cka_probe.plotting.matrix import similarity_map

ROOM = 12.0
"""Em for the name and index of a layer."""
MOST = 4
"""Lines in a panel of `LayerDivergence`."""
Layers = Mapping[str, np.ndarray]
"""Values, low, high and null of some layers."""


@dataclass(frozen=True)
class Profile:
    """The diagonal of a matrix, with a band from interval to interval.

    Attributes:
        result: What to draw; as many layers of y as of x.

    Raises:
        DataError: The matrix is not square, and so has no diagonal.
    """

    result: SimilarityMatrix

    width = narrowest = style.COLUMN

    def __post_init__(self) -> None:
        rows, columns = self.result.values.shape
        if rows != columns:
            raise DataError(
                f"a profile is the diagonal of a square matrix and pairs layer i of x with layer i of y; found {rows} "
                f"layers of x and {columns} of y; draw the heatmap, or compare as many layers of each"
            )

    def draw(self, figure: mpl.Figure) -> None:
        """Draw on an empty figure."""
        ax = figure.add_subplot()
        ax.set_box_aspect(0.54)
        self.draw_on(ax)

    def draw_on(self, ax: Axes) -> Axes:
        """Draw on axes of any figure and return them."""
        result, diagonal = self.result, diagonal_of(self.result)
        draw_layers(ax, diagonal, limits([diagonal]), band=True)
        name_layers(ax, [axis.name for axis in result.rows], 2.8)
        x, y = labels.model_names(result, room=13)
        layer = "layer" if similarity_map(result).same_layers else f"layer of {x}"
        ax.set(xlabel=f"{layer} ({labels.images_line(result)})", ylabel=labels.measure_name(result))
        ax.set_title(f"{x} and {y}", pad=style.points(4) + 1.6 * style.small())
        bar: dict[str, Any] = {"marker": "|", "markersize": style.points(6), "markeredgewidth": style.points(1.2)}
        handles = [Line2D([], [], color=style.LINE, label="95 % interval", **bar), *chance_key([diagonal])]
        handles += hatch_key([ax])
        ax.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
        return ax


@dataclass(frozen=True)
class Pair:
    """Two networks.

    Attributes:
        title: Their names.
        profiles: What the line is called, "before fine-tuning", to the similarity whose diagonal it is.
    """

    title: str
    profiles: Mapping[str, SimilarityMatrix]


@dataclass(frozen=True)
class LayerDivergence:
    """At which layers networks diverge: a panel for each pair, such as a line before and one after fine-tuning.

    The step at which a line falls most is drawn thick: between these two layers the networks diverge.

    Attributes:
        pairs: A panel each, of as many layers, named alike.

    Raises:
        DataError: There is no pair, one without a profile or with too many, or layers that are not the same.
    """

    pairs: Sequence[Pair]

    narrowest = style.COLUMN

    def __post_init__(self) -> None:
        if not self.pairs or any(not pair.profiles for pair in self.pairs):
            raise DataError("expected two networks that were compared, found none; compare some first")
        sides = [side for pair in self.pairs for m in pair.profiles.values() for side in (m.rows, m.columns)]
        if len({tuple(axis.name for axis in side) for side in sides}) > 1:
            raise DataError(
                "expected the same layers in all matrices, found others; compare networks of one architecture"
            )
        if len(self._lines) > MOST:
            raise DataError(f"expected at most {MOST} lines, found more; omit some")

    @property
    def width(self) -> float:
        """Width in print, inches."""
        return style.PAGE if len(self.pairs) > 1 else style.COLUMN

    @property
    def _lines(self) -> list[str]:
        return list(dict.fromkeys(name for pair in self.pairs for name in pair.profiles))

    def draw(self, figure: mpl.Figure) -> None:
        """Draw on an empty figure."""
        axes, columns = panels(figure, len(self.pairs), most=2, narrowest=2.4, aspect=0.4, gap=0.1)
        width = inches(figure) / columns - 0.5
        looks = {name: _look(number) for number, name in enumerate(self._lines)}
        diagonals = [[(name, diagonal_of(matrix)) for name, matrix in pair.profiles.items()] for pair in self.pairs]
        every = [diagonal for lines in diagonals for _, diagonal in lines]
        layers = [axis.name for axis in next(iter(self.pairs[0].profiles.values())).rows]
        for number, (ax, pair, lines) in enumerate(zip(axes, self.pairs, diagonals, strict=True)):
            for name, diagonal in lines:
                draw_layers(ax, diagonal, limits(every), looks[name])
                _draw_fall(ax, diagonal["values"], looks[name]["color"])
            name_layers(ax, layers, width, named=number >= len(axes) - columns)  # the last in its column
            ax.set_xlabel("layer" if number >= len(axes) - columns else "")
            ax.set_ylabel("CKA" if number % columns == 0 else "")
            ax.set_title(labels.wrapped(pair.title, style.em(width, style.TEXT)))
        handles: list[Artist] = [Line2D([], [], **look, label=name) for name, look in looks.items()]
        handles.append(Line2D([], [], color="black", linewidth=style.points(2.6), label="steepest fall"))
        add_legend(figure, handles + chance_key(every))


def diagonal_of(result: SimilarityMatrix) -> Layers:
    """Return values, low, high and null of layers of the same index."""
    return {name: np.diagonal(getattr(result, name)) for name in ("values", "low", "high", "null")}


def limits(lines: Iterable[Layers]) -> tuple[float, float]:
    """Return the ends of the axis of similarities: 0 and 1, or round numbers beyond the lowest and the highest."""
    numbers = np.concatenate([part for line in lines for part in line.values()])
    numbers = numbers[np.isfinite(numbers)]
    low, high = numbers.min(initial=0.0), numbers.max(initial=1.0)
    return min(0.0, float(np.floor(low * 10) / 10)), max(1.0, float(np.ceil(high * 20) / 20))


def draw_layers(
    ax: Axes, layers: Layers, ends: tuple[float, float], look: Mapping[str, Any] | None = None, *, band: bool = False
) -> None:
    """Draw similarities layer by layer with their intervals, over what chance reaches.

    Args:
        ax: Axes to draw on.
        layers: Values, low, high and null of each layer.
        ends: Of the axis of similarities.
        look: Of the line.
        band: Whether to draw a band from interval to interval.
    """
    values, low, high, null = layers.values()
    index, bottom = np.arange(len(values)), ends[0]
    size = 3.0 if len(values) <= 25 else 1.6
    look = look or {"color": style.LINE, "marker": "o", "markersize": style.points(size)}
    grey: dict[str, Any] = {"color": style.CHANCE, "linewidth": 0, "zorder": 0}
    ax.stairs(np.nan_to_num(null, nan=bottom), np.arange(len(null) + 1) - 0.5, baseline=bottom, fill=True, **grey)
    hatch_undefined(ax, values)
    if band:
        ax.fill_between(index, low, high, color=look["color"], alpha=0.15, linewidth=0, clip_on=False)
    ax.vlines(index, low, high, color=look["color"], linewidth=style.points(1.2), alpha=0.55, clip_on=False)
    ax.plot(index, values, clip_on=False, zorder=3, **look)
    ax.set(xlim=(-0.5, len(values) - 0.5), ylim=ends)


def name_layers(ax: Axes, layers: Sequence[str], width: float, *, named: bool = True) -> None:
    """Write layers and their indices, or these alone, below axes of so many inches, as many as there is room for."""
    names = labels.numbered(labels.short_names(layers, ROOM - labels.width(f"  {len(layers)}")))
    step = labels.step_for(width / len(layers), 0.12)
    indices = range(0, len(layers), step)
    ax.set_xticks(indices, names[::step] if named else list(map(str, indices)), rotation=90 if named else 0)


def chance_key(lines: Sequence[Layers]) -> list[Artist]:
    """Return the legend's entry for what chance reaches, if that is known of any line."""
    known = any(np.isfinite(line["null"]).any() for line in lines)
    return [Patch(color=style.CHANCE, linewidth=0, label="chance, 95 % quantile")] * known


def hatch_undefined(ax: Axes, values: np.ndarray) -> None:
    """Hatch the layers without a value."""
    for layer in np.flatnonzero(~np.isfinite(values)):
        ax.axvspan(layer - 0.5, layer + 0.5, zorder=0.5, **style.hatching())


def _draw_fall(ax: Axes, values: np.ndarray, colour: str) -> None:
    """Draw the step at which a line falls most as a thick line."""
    if (layer := steepest(values)) is not None:
        ends = [layer - 1, layer]
        ax.plot(ends, values[ends], color=colour, linewidth=style.points(2.6), zorder=2)


def steepest(profile: np.ndarray) -> int | None:
    """Return the layer before which a profile falls most, or `None` where it nowhere falls.

    >>> steepest(np.array([1.0, 0.9, 0.4, 0.3])), steepest(np.array([0.1, 0.2])) is None
    (2, True)
    """
    falls = profile[:-1] - profile[1:]
    known = falls[np.isfinite(falls)]
    return int(np.nanargmax(falls)) + 1 if known.size and known.max() > 0 else None


def _look(number: int) -> dict[str, Any]:
    """Return colour and marker of a line; all markers after the first are hollow."""
    return style.arm(number) | {"linewidth": style.points(1.0)} | ({"markerfacecolor": "white"} if number else {})
