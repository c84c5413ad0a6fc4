"""Several models: how similar every two are, as a matrix, as a tree and as points, and their layers over checkpoints.

Points are the embedding of an atlas, with 95 % ellipses and the path of each training run. The curves are for models in
an order, such as the checkpoints of a run: the similarity of each layer to the same layer of the first, the previous
and the last model. Lines are coloured by depth, dark for the first layers, and each value has its 95 % interval.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib import figure as mpl
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse
from scipy.cluster.hierarchy import dendrogram

from cka_probe.comparison.atlas import Atlas
from cka_probe.comparison.correspondence import BEST_MATCH, DIAGONAL
from cka_probe.comparison.trajectory import SETTLED
from cka_probe.errors import DataError
from cka_probe.plotting import labels, style
from cka_probe.plotting.figure import Figure, add_legend, inches, panels
from cka_probe.plotting.matrix import MOST_NUMBERS, Map, bounds
from cka_probe.similarity.embedding import cluster, leaves

DEPTHS = colormaps["viridis"]
DEEPEST = 0.88
"""Where the colours of lines end; after it they are too light for white paper."""
HEIGHT = 1.7
"""Inches of a panel of curves."""
ELLIPSES: dict[str, Any] = {"facecolor": style.LINE, "edgecolor": "none", "alpha": 0.16, "zorder": 1}
ASIDE = 0.16
"""Of the distance of two models, over which the intervals of layers are spread."""
TREE = 0.5
"""Inches of a tree."""
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
class ModelTree:
    """The similarity of every two models in the order of their hierarchical clustering, with its tree.

    The height of a join is the mean distance `sqrt(2 (1 - s))` between the models of both branches.

    Attributes:
        atlas: What to draw.

    Raises:
        DataError: Some similarities are undefined, or the measure's largest value is not 1.
    """

    atlas: Atlas

    def __post_init__(self) -> None:
        if not self.atlas.embeddings or np.isnan(self.atlas.embeddings[0].points).any():
            raise DataError("a tree is of models that all have a similarity of at most 1; draw the matrix of models")

    @property
    def width(self) -> float:
        """Width in print, inches."""
        return ModelMap(self.atlas).width

    narrowest = width

    def draw(self, figure: mpl.Figure) -> None:
        """Draw on an empty figure."""
        atlas = self.atlas
        tree = cluster(atlas.values)
        order = leaves(tree)
        names = [atlas.names[index] for index in order]
        values = atlas.values[np.ix_(order, order)]
        ends = bounds(atlas.first.settings, values)
        cells = Map(values, names, names, style.COLOURS, ends, labels.measure_name(atlas.first))
        ax = figure.add_subplot()
        cells.draw(ax, blank=np.eye(len(names), dtype=bool))
        ax.set_xlabel(RULES[atlas.rule])
        above = ax.inset_axes((0, 1.02, 1, TREE / cells.size[1]))
        joins = dendrogram(tree, no_plot=True)
        for x, y in zip(joins["icoord"], joins["dcoord"], strict=True):
            above.plot(np.array(x) / 10, y, color="black", linewidth=style.points(0.6), clip_on=False)
        above.set(xlim=(0, len(names)), ylim=(0, None), yticks=[])
        above.axis("off")
        above.set_title(labels.images_line(atlas.first), fontsize=style.small())


@dataclass(frozen=True)
class ModelPoints:
    """Models as points at their distances, with 95 % ellipses; a line for each training run, names where there is room.

    Attributes:
        atlas: What to draw.

    Raises:
        DataError: Fewer than three models have a point.
    """

    atlas: Atlas

    width = style.COLUMN
    narrowest = style.COLUMN

    def __post_init__(self) -> None:
        if not self.atlas.embeddings or np.isfinite(self.atlas.embeddings[0].points[:, 0]).sum() < 3:
            raise DataError("points are of at least three models with a similarity of at most 1; draw the matrix")

    def draw(self, figure: mpl.Figure) -> None:
        """Draw on an empty figure."""
        atlas, embedding = self.atlas, self.atlas.embeddings[0]
        ax = figure.add_subplot()
        for number, run in enumerate(atlas.runs):
            path = embedding.points[list(run.models)]
            ax.plot(*path.T, color=style.ARMS[(number + 1) % len(style.ARMS)], linewidth=style.points(0.8), zorder=2)
        ellipses = embedding.ellipses()
        for point, (long, short, angle) in zip(embedding.points, ellipses, strict=True):
            if np.isfinite(long + point.sum()):
                ax.add_patch(Ellipse(tuple(point), 2 * long, 2 * short, angle=angle, **ELLIPSES))
        ax.plot(*embedding.points.T, "o", color=style.LINE, markersize=style.points(2.4), zorder=3)
        room = inches(figure) - 0.5
        self._limit(ax, ellipses)
        self._name(ax, float(np.ptp(ax.get_xlim())) / room)
        ax.set_xlabel(f"distance; both axes explain {embedding.explained:.0%}", fontsize=style.small())
        ax.set_title(labels.images_line(atlas.first), fontsize=style.small())

    def _limit(self, ax: Axes, ellipses: np.ndarray) -> None:
        """Give both axes one scale, with room for the points, their ellipses and some names."""
        points, radii = self.atlas.embeddings[0].points, np.nan_to_num(ellipses[:, :1])
        low, high = np.nanmin(points - radii, axis=0), np.nanmax(points + radii, axis=0)
        middle, half = (low + high) / 2, np.maximum(0.6 * (high - low), 1e-3)
        half = np.maximum(half, [half[1] / 0.9, 0.45 * half[0]])
        ax.set(xlim=middle[0] + np.array([-1, 1]) * half[0], ylim=middle[1] + np.array([-1, 1]) * half[1])
        ax.set_box_aspect(half[1] / half[0])

    def _name(self, ax: Axes, inch: float) -> None:
        """Write names next to points, where they cover no other name; `inch` is one in units of the axes."""
        points, letter = self.atlas.embeddings[0].points, 1.25 * style.SMALL / 72 * inch
        boxes: list[tuple[float, float, float, float]] = []
        (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
        for name, (x, y) in zip(labels.short_names(self.atlas.names, 12.0), points, strict=True):
            wide, gap = labels.width(name) * style.SMALL / 72 * inch * 1.06, 0.4 * letter
            corners = [(x + gap, y), (x - gap - wide, y), (x - wide / 2, y + gap), (x - wide / 2, y - gap - letter)]
            for x_0, y_0 in corners if np.isfinite(x) else ():
                box = x_0, y_0, x_0 + wide, y_0 + letter
                inside = left <= box[0] and box[2] <= right and bottom <= box[1] and box[3] <= top
                if inside and not any(_overlap(box, other) for other in boxes):
                    ax.text(x_0, y_0 + 0.2 * letter, name, fontsize=style.small(), zorder=4)
                    boxes.append(box)
                    break


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    """Return whether two boxes (left, bottom, right, top) overlap."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


@dataclass(frozen=True)
class CheckpointCurves:
    """The similarity of each layer to the same layer of the first, the previous and the last model.

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
        axes, across = panels(figure, 3, most=3, narrowest=2.2, gap=0.15)
        intervals = self.atlas.curves.filter(regex="_(low|high)$").to_numpy(float)
        known = intervals[np.isfinite(intervals)]
        low, high = known.min(initial=1.0), known.max(initial=0.0)
        ends = {"first": self.atlas.names[0], "last": self.atlas.names[-1]}
        room = inches(figure) / across - 0.45
        titles = {to: f"to {labels.cut(name, style.em(room) - 8)}, the {to}" for to, name in ends.items()}
        for ax, to in zip(axes, ("first", "previous", "last"), strict=True):
            self._draw_panel(ax, to, room)
            ax.set_title(titles.get(to, "to the previous model"), fontsize=style.small())
            ax.set_ylim(max(-1.0, np.floor(low * 10 - 0.2) / 10), min(1.02, np.ceil(high * 10 + 0.2) / 10))
            ax.set_box_aspect(HEIGHT / room)
        if self.atlas.run:
            axes[2].axhline(SETTLED, color=style.GREY, linewidth=style.points(0.5), zorder=0)
        axes[0].set_ylabel(labels.measure_name(self.atlas.first), fontsize=style.small())
        names = labels.numbered(labels.short_names([axis.name for axis in self.atlas.first.rows], 14.0))
        handles = [Line2D([], [], label=name, **self._look(layer)) for layer, name in enumerate(names)]
        some = handles[:: max(1, -(-len(names) // MOST_NUMBERS))]
        add_legend(figure, some, title=labels.images_line(self.atlas.first))

    def _draw_panel(self, ax: Axes, to: str, room: float) -> None:
        """Draw a line for each layer, a little right of the one before, so that intervals do not cover each other.

        The horizontal axis has the steps of a training run, or the models in their order.
        """
        last, run = len(self.atlas.first.rows) - 1, self.atlas.run
        steps = np.array(run.steps if run else range(len(self.atlas.names)), dtype=np.float64)
        gap = np.diff(steps).min()
        for layer, curve in self.atlas.curves.groupby("layer_index"):
            look = self._look(int(str(layer)))
            x = steps[curve["index"]] + gap * ASIDE * (int(str(layer)) - last / 2) / max(1, last)
            ax.vlines(x, curve[f"{to}_low"], curve[f"{to}_high"], color=look["color"], linewidth=style.points(0.6))
            ax.plot(x, curve[f"{to}_value"], **look)
        ax.set_xlim(steps[1] - 0.3 * gap, steps[-1] + 0.3 * gap)
        if run:
            ax.set_xlabel(labels.cut(run.name, style.em(room)), fontsize=style.small())
            ax.locator_params(axis="x", nbins=4, integer=True)
            return
        indices = range(1, len(steps), labels.step_for(room / len(steps), 0.12))
        names = labels.short_names(self.atlas.names, 9.0)
        ax.set_xticks(list(indices), [names[index] for index in indices], rotation=90 if len(steps) > 4 else 0)

    def _look(self, layer: int) -> dict[str, Any]:
        """Return the colour of a layer by its depth, and how its line is drawn."""
        colour = DEPTHS(DEEPEST * layer / max(1, len(self.atlas.first.rows) - 1))
        marker = style.MARKERS[layer % len(style.MARKERS)]
        return {"color": colour, "marker": marker, "markersize": style.points(2.4), "linewidth": style.points(0.8)}


ATLAS_FIGURES: dict[str, Callable[[Atlas], Figure]] = {
    "models": ModelMap,
    "tree": ModelTree,
    "map": ModelPoints,
    "curves": CheckpointCurves,
}
"""The figures of an atlas, by the names of their files."""
