"""At which layers two networks diverge: the similarity of layer i of one with layer i of the other, by i.

A panel for each two networks, a line before and one after both were fine-tuned, each value with its 95 % interval over
the grey of what chance reaches. The step at which a line falls most is drawn thick: between these two layers they
diverge.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import figure as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.errors import DataError
from cka_probe.plotting import labels, style
from cka_probe.plotting.figure import across, add_legend, inches, panels
from cka_probe.plotting.matrix import undefined_key
from cka_probe.plotting.profile import chance_key, draw_chance, hatch_undefined

MOST = 4
"""Lines in a panel."""
ROOM = 12.0
"""Em for the name and index of a layer."""


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
    """The similarity of layers of the same index, of pairs of networks.

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
        sides = [side for matrix in self._matrices for side in (matrix.rows, matrix.columns)]
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
    def _matrices(self) -> list[SimilarityMatrix]:
        return [matrix for pair in self.pairs for matrix in pair.profiles.values()]

    @property
    def _lines(self) -> list[str]:
        return list(dict.fromkeys(name for pair in self.pairs for name in pair.profiles))

    def draw(self, figure: mpl.Figure) -> None:
        """Draw on an empty figure."""
        axes = panels(figure, len(self.pairs), most=2, narrowest=2.4, aspect=0.4, gap=0.1)
        columns = across(axes)
        width = inches(figure) / columns - 0.5
        layers = [axis.name for axis in self._matrices[0].rows]
        names = labels.numbered(labels.short_names(layers, ROOM - labels.width(f"  {len(layers)}")))
        step = labels.step_for(width / len(layers), 0.13)
        bottom = min(0.0, *(np.floor(np.nanmin([*matrix.low.diagonal(), 0.0]) * 10) / 10 for matrix in self._matrices))
        for number, (ax, pair) in enumerate(zip(axes, self.pairs, strict=True)):
            self._draw_pair(ax, pair, bottom)
            ax.set(xlim=(-0.5, len(layers) - 0.5), ylim=(bottom, 1.0))
            ax.set_xticks(range(0, len(layers), step))
            if number >= len(axes) - columns:  # the last in its column
                ax.set_xticklabels(names[::step], rotation=90)
                ax.set_xlabel("layer")
            if number % columns == 0:
                ax.set_ylabel("CKA")
            ax.set_title(labels.wrapped(pair.title, width * 72 / style.TEXT))
        handles: list[Artist] = [Line2D([], [], **_look(k), label=name) for k, name in enumerate(self._lines)]
        handles.append(Line2D([], [], color="black", linewidth=style.points(2.6), label="steepest fall"))
        handles += [chance_key(), *undefined_key(np.array([matrix.values.diagonal() for matrix in self._matrices]))]
        add_legend(figure, handles)

    def _draw_pair(self, ax: Axes, pair: Pair, bottom: float) -> None:
        """Draw the lines of one panel over what chance reaches."""
        for name, matrix in pair.profiles.items():
            look = _look(self._lines.index(name))
            values, low, high, null = map(np.diagonal, (matrix.values, matrix.low, matrix.high, matrix.null))
            index = np.arange(len(values))
            draw_chance(ax, null, bottom)
            hatch_undefined(ax, values)
            ax.vlines(index, low, high, color=look["color"], linewidth=style.points(1.2), alpha=0.5, clip_on=False)
            ax.plot(index, values, clip_on=False, zorder=3, **look)
            if (layer := steepest(values)) is not None:
                fall = slice(layer - 1, layer + 1)
                ax.plot(index[fall], values[fall], color=look["color"], linewidth=style.points(2.6), zorder=2)


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
