"""Several models: how similar every two are, and how their layers move away from those of the first model.

The second figure is for models in an order, such as the checkpoints of a run: the similarity of each layer to the same
layer of the first model, and to that of the previous one. Lines are coloured by depth, dark for the first layers, and
each value has its 95 % interval.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib import figure as mpl
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from cka_probe.comparison.atlas import BEST_MATCH, DIAGONAL, Atlas
from cka_probe.errors import DataError
from cka_probe.plotting import labels, style
from cka_probe.plotting.figure import Figure, add_legend, inches, panels
from cka_probe.plotting.matrix import MOST_NUMBERS, Map, bounds

DEPTHS = colormaps["viridis"]
DEEPEST = 0.88
"""Where the colours of lines end; after it they are too light for white paper."""
HEIGHT = 1.7
"""Inches of a panel of curves."""
ASIDE = 0.16
"""Of the distance of two models, over which the intervals of layers are spread."""
RULES = {DIAGONAL: "mean of the diagonal", BEST_MATCH: "mean best match"}


@dataclass(frozen=True)
class ModelMap:
    """The similarity of every two models.

    Attributes:
        atlas: What to draw.
    """

    atlas: Atlas

    @property
    def width(self) -> float:
        """Width in print, inches."""
        return self._map.width

    narrowest = width

    @property
    def _map(self) -> Map:
        atlas = self.atlas
        ends = bounds(atlas.first.settings, atlas.values)
        return Map(atlas.values, atlas.names, atlas.names, style.COLOURS, ends, labels.measure_name(atlas.first))

    def draw(self, figure: mpl.Figure) -> None:
        """Draw on an empty figure."""
        ax, cells, itself = figure.add_subplot(), self._map, np.eye(len(self.atlas.names), dtype=bool)
        cells.draw(ax, blank=itself)
        cells.title(ax, labels.images_line(self.atlas.first))
        ax.set_xlabel(RULES[self.atlas.rule])
        cells.legend(ax)


@dataclass(frozen=True)
class CheckpointCurves:
    """The similarity of each layer to the same layer of the first and of the previous model.

    Attributes:
        atlas: What to draw; at least three models of the same layers.

    Raises:
        DataError: There are fewer models, or their layers differ.
    """

    atlas: Atlas

    width = style.PAGE
    narrowest = style.COLUMN

    def __post_init__(self) -> None:
        if self.atlas.rule != DIAGONAL or len(self.atlas.names) < 3:
            layers = "the same" if self.atlas.rule == DIAGONAL else "different"
            raise DataError(
                f"curves are of at least three models of the same layers, found {len(self.atlas.names)} of {layers} "
                "layers; draw the matrix of models, or choose --layers that all of them have"
            )

    def draw(self, figure: mpl.Figure) -> None:
        """Draw on an empty figure."""
        axes, across = panels(figure, 2, most=2, narrowest=3.0, gap=0.15)
        intervals = self.atlas.curves.filter(regex="_(low|high)$").to_numpy(float)
        known = intervals[np.isfinite(intervals)]
        low, high = known.min(initial=1.0), known.max(initial=0.0)
        first = labels.cut(self.atlas.names[0], 20)
        titles = {"first": f"similarity to {first}, the first model", "previous": "similarity to the previous model"}
        for ax, (to, title) in zip(axes, titles.items(), strict=True):
            self._draw_panel(ax, to)
            ax.set_title(title, fontsize=style.small())
            ax.set_ylim(max(-1.0, np.floor(low * 10 - 0.2) / 10), min(1.02, np.ceil(high * 10 + 0.2) / 10))
            ax.set_box_aspect(HEIGHT / (inches(figure) / across - 0.45))
        axes[0].set_ylabel(labels.measure_name(self.atlas.first), fontsize=style.small())
        names = labels.numbered(labels.short_names([axis.name for axis in self.atlas.first.rows], 14.0))
        handles = [Line2D([], [], label=name, **self._look(layer)) for layer, name in enumerate(names)]
        some = handles[:: max(1, -(-len(names) // MOST_NUMBERS))]
        add_legend(figure, some, title=labels.images_line(self.atlas.first))

    def _draw_panel(self, ax: Axes, to: str) -> None:
        """Draw a line for each layer, a little right of the one before, so that intervals do not cover each other."""
        last, count = len(self.atlas.first.rows) - 1, len(self.atlas.names)
        for layer, curve in self.atlas.curves.groupby("layer_index"):
            look = self._look(int(str(layer)))
            x = curve["index"] + ASIDE * (int(str(layer)) - last / 2) / max(1, last)
            ax.vlines(x, curve[f"{to}_low"], curve[f"{to}_high"], color=look["color"], linewidth=style.points(0.6))
            ax.plot(x, curve[f"{to}_value"], **look)
        indices = range(1, count, labels.step_for(2.8 / count, 0.12))
        names = labels.short_names(self.atlas.names, 9.0)
        ax.set_xticks(list(indices), [names[index] for index in indices], rotation=90 if count > 4 else 0)
        ax.set_xlim(0.7, count - 0.7)

    def _look(self, layer: int) -> dict[str, Any]:
        """Return the colour of a layer by its depth, and how its line is drawn."""
        colour = DEPTHS(DEEPEST * layer / max(1, len(self.atlas.first.rows) - 1))
        marker = style.MARKERS[layer % len(style.MARKERS)]
        return {"color": colour, "marker": marker, "markersize": style.points(2.4), "linewidth": style.points(0.8)}


ATLAS_FIGURES: dict[str, Callable[[Atlas], Figure]] = {"models": ModelMap, "curves": CheckpointCurves}
"""The figures of an atlas, by the names of their files."""
