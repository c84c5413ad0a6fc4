"""The diagonal of the matrix: how similar layer i of x is to layer i of y, from the first layer to the last.

Each value has its 95 % interval, which a band carries from layer to layer, over the grey of what chance reaches: the
95 % quantile when the images of y are permuted. A layer without a value is hatched, and the line has a gap there.
"""

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
from cka_probe.plotting.matrix import similarity_map, undefined_key

ROOM = 12.0
"""Em for the name and index of a layer."""


@dataclass(frozen=True)
class Profile:
    """The similarity of layers of the same index.

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
        result = self.result
        values, low, high, null = map(np.diagonal, (result.values, result.low, result.high, result.null))
        finite = np.concatenate([values, low, high, null])
        finite = finite[np.isfinite(finite)]
        bottom = min(0.0, np.floor(finite.min(initial=0.0) * 10) / 10)
        index = np.arange(len(values))
        draw_chance(ax, null, bottom)
        hatch_undefined(ax, values)
        ax.fill_between(index, low, high, color=style.LINE, alpha=0.15, linewidth=0, clip_on=False)
        ax.vlines(index, low, high, color=style.LINE, linewidth=style.points(1.2), alpha=0.55, clip_on=False)
        size = style.points(3.0 if len(values) <= 25 else 1.6)
        ax.plot(index, values, "o-", color=style.LINE, markersize=size, clip_on=False)
        ax.set(xlim=(-0.5, len(values) - 0.5), ylim=(bottom, max(1.0, np.ceil(finite.max(initial=1.0) * 20) / 20)))
        ax.set_yticks([tick for tick in np.linspace(-1, 1, 11) if tick >= bottom - 1e-9])
        self._name(ax)
        return ax

    def _name(self, ax: Axes) -> None:
        """Name layers and models, and explain what is drawn."""
        result = self.result
        room = ROOM - labels.width(f"  {len(result.rows)}")
        names = labels.numbered(labels.short_names([axis.name for axis in result.rows], room))
        step = labels.step_for(2.8 / len(names), needed=0.1)
        ax.set_xticks(range(0, len(names), step), names[::step], rotation=90)
        x, y = labels.model_names(result, room=13)
        layer = "layer" if similarity_map(result).same_layers else f"layer of {x}"
        ax.set(xlabel=f"{layer} ({labels.images_line(result)})", ylabel=labels.measure_name(result))
        ax.set_title(f"{x} and {y}", pad=style.points(4) + 1.6 * style.small())
        bar: dict[str, Any] = {"marker": "|", "markersize": style.points(6), "markeredgewidth": style.points(1.2)}
        handles: list[Artist] = [Line2D([], [], color=style.LINE, label="95 % interval", **bar)]
        if np.isfinite(np.diagonal(result.null)).any():
            handles.append(chance_key())
        handles += undefined_key(np.diagonal(result.values))
        ax.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)


def draw_chance(ax: Axes, null: np.ndarray, bottom: float) -> None:
    """Draw what chance reaches in each layer, grey from the bottom of the axes."""
    grey: dict[str, Any] = {"color": style.CHANCE, "linewidth": 0, "zorder": 0}
    ax.stairs(np.nan_to_num(null, nan=bottom), np.arange(len(null) + 1) - 0.5, baseline=bottom, fill=True, **grey)


def chance_key() -> Patch:
    """Return the legend's entry for what chance reaches."""
    return Patch(color=style.CHANCE, linewidth=0, label="chance, 95 % quantile")


def hatch_undefined(ax: Axes, values: np.ndarray) -> None:
    """Hatch the layers without a value."""
    for layer in np.flatnonzero(~np.isfinite(values)):
        ax.axvspan(layer - 0.5, layer + 0.5, zorder=0.5, **style.hatching())
