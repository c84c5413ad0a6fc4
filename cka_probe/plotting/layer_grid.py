"""Several similarity matrices side by side, as the MeSa paper's Figures 2, 5, 8, 9 and 10 draw them.

A network compared with itself is read along its first row (how far each layer is from layer 0: "row"), a network
before and after fine-tuning along the diagonal (how much each layer has changed: "diagonal"). The emphasised cells are
outlined and drawn again below as a line with its 95 % interval over what chance reaches. Below that, on request, stands
the root mean square of each layer over images and features, since the similarity of a layer that hardly varies is that
of its noise. All matrices share one scale of colours.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from matplotlib import figure as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import LogLocator

from cka_probe import registry
from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.errors import DataError
from cka_probe.plotting import labels, style
from cka_probe.plotting.figure import add_legend, inches
from cka_probe.plotting.matrix import MAP, MOST_NUMBERS, ColourScale, Map, bounds, layer_names
from cka_probe.plotting.profile import Layers, chance_key, draw_layers, hatch_undefined, limits

EMPHASES = {
    "row": lambda rows, columns: [(0, column) for column in range(columns)],
    "diagonal": lambda rows, columns: [(layer, layer) for layer in range(rows)],
}
"""The emphasised cells of a matrix of so many rows and columns."""
AROUND, BETWEEN = 0.8, 0.25
"""Inches: width of axis labels and colour bar, and of the gap between two maps."""
LINE_ASPECT, RMS_ASPECT = 0.34, 0.19
"""Heights of the panels below a map, by its width."""
SIDES = {"layers": style.LINE, "rows": style.LINE, "columns": style.ARMS[4]}
"""Colours of the root mean squares of the layers of one model, or of those of the rows and of the columns."""


@dataclass(frozen=True)
class LayerGrid:
    """Similarity matrices and what is read from them.

    Attributes:
        results: At least one, of any numbers of layers; square ones for "diagonal".
        titles: One for each, such as "MP+GP"; by default the names of the models.
        emphasis: "row", "diagonal", or None: nothing is outlined or drawn below.
        rms: Whether to draw the root mean squares of the layers, too.
        scale: Colours of all matrices.

    Raises:
        DataError: There is no result, not a title for each, or no diagonal to emphasise.
        UnknownNameError: No such emphasis.
    """

    results: Sequence[SimilarityMatrix]
    titles: Sequence[str] = ()
    emphasis: str | None = None
    rms: bool = False
    scale: ColourScale = field(default_factory=ColourScale)

    def __post_init__(self) -> None:
        if not self.results:
            raise DataError("expected at least one result to draw, found none; give a result.json")
        if self.titles and len(self.titles) != len(self.results):
            raise DataError(
                f"expected a title for each of {len(self.results)} results, found {len(self.titles)}; give as many, or "
                "none"
            )
        if self.emphasis is not None:
            registry.get(EMPHASES, self.emphasis, "emphasis")
        for result in self.results:
            rows, columns = result.values.shape
            if self.emphasis == "diagonal" and rows != columns:
                raise DataError(
                    f"a diagonal pairs layer i of x with layer i of y; found {rows} layers of {result.x.reference} and "
                    f"{columns} of {result.y.reference}; emphasise the row, or compare as many layers of each"
                )

    @property
    def width(self) -> float:
        """Width in print, inches."""
        return self._width(self._across(np.inf))

    @property
    def narrowest(self) -> float:
        """Width in print with all maps below each other, inches."""
        return self._width(1)

    def _across(self, room: float) -> int:
        """Return how many maps stand next to each other in so many inches: up to three, and two of four."""
        most = 2 if len(self.results) == 4 else min(3, len(self.results))
        return next((count for count in range(most, 1, -1) if self._width(count) <= room + 1e-9), 1)

    def _width(self, across: int) -> float:
        widest = max(cells.size[0] for cells in self._maps)
        return max(style.COLUMN, AROUND + across * widest + (across - 1) * BETWEEN)

    @cached_property
    def _maps(self) -> list[Map]:
        """The maps, of one scale of colours."""
        ranges = [bounds(result.settings, result.values) for result in self.results]
        span = min(low for low, _ in ranges), max(high for _, high in ranges)
        ends = self.scale.ends(span, np.concatenate([result.values.ravel() for result in self.results]))
        measures = {labels.measure_name(result) for result in self.results}
        words = measures.pop() if len(measures) == 1 else "similarity"
        return [
            Map(result.values, *layer_names(result), self.scale.cmap, ends, words, longest=MAP)
            for result in self.results
        ]

    @property
    def _aspect(self) -> float:
        """Height of all maps by their width; the cells of matrices of other shapes are stretched."""
        return max(cells.size[1] / cells.size[0] for cells in self._maps)

    def draw(self, figure: mpl.Figure) -> None:
        """Draw on an empty figure, as many maps next to each other as it has room for."""
        count, across = len(self.results), self._across(inches(figure))
        parts = {"map": self._aspect} | ({"line": LINE_ASPECT} if self.emphasis else {})
        parts |= {"rms": RMS_ASPECT} if self.emphasis and self.rms else {}
        lines = -(-count // across)
        axes = figure.subplots(lines * len(parts), across, squeeze=False, height_ratios=[*parts.values()] * lines)
        columns = axes.reshape(lines, len(parts), across).transpose(0, 2, 1).reshape(-1, len(parts))
        width = (inches(figure) - AROUND + BETWEEN) / across - BETWEEN
        for index, panels in enumerate(columns[:count]):
            self._draw_map(panels[0], index, width, bar=index == min(across, count) - 1)
            for ax, (part, aspect) in zip(panels[1:], list(parts.items())[1:], strict=True):
                self._draw_below(ax, part, index, named=index % across == 0)
                ax.set_box_aspect(aspect)
        for empty in columns[count:].ravel():
            empty.remove()
        add_legend(figure, self._keys(), title="\n".join(self._layer_names(inches(figure))))

    def _draw_map(self, ax: Axes, index: int, width: float, *, bar: bool) -> None:
        """Draw one matrix with its title and its number of images, its emphasised cells outlined."""
        result, cells = self.results[index], self._maps[index]
        mesh = cells.draw_cells(ax)
        ax.set_aspect("auto")
        ax.set_box_aspect(self._aspect)
        if bar:
            cells.add_colour_bar(ax, mesh)
        for axis, count in ((ax.xaxis, len(cells.columns)), (ax.yaxis, len(cells.rows))):
            indices = range(0, count, labels.step_for(width / count, 0.13 if count < 100 else 0.2))
            axis.set_ticks(np.array(indices) + 0.5, list(map(str, indices)), rotation=0)
        ax.tick_params(length=0)
        x, y = labels.model_names(result, room=style.em(0.9 * width))
        ax.set_ylabel(f"layer of {x}" if x != y else "layer", fontsize=style.small())
        ax.set_xlabel(f"layer of {y}" if x != y else "layer", fontsize=style.small())
        names = dict.fromkeys(labels.model_names(result, room=14))
        title = labels.cut(
            self.titles[index] if self.titles else ", ".join(names), style.em(width, style.TEXT), bold=True
        )
        measure = f"{labels.measure_name(result)}, " if cells.words == "similarity" else ""
        ax.set_title(title, weight="bold", pad=style.points(3.0 + 1.4 * style.SMALL))
        above: dict[str, Any] = {"xytext": (0, style.points(3.0)), "textcoords": "offset points"}
        note = f"{measure}n = {result.num_examples}"
        ax.annotate(note, (0, 1), xycoords="axes fraction", fontsize=style.small(), **above)
        if self.emphasis:
            self._outline(ax, *result.values.shape, thin=min(1.0, max(width / len(cells.columns) / 0.2, 0.3)))

    def _outline(self, ax: Axes, rows: int, columns: int, *, thin: float) -> None:
        """Draw a frame around the emphasised cells, white and blue: one of the two is seen on any colour of the map."""
        boxes = [(layer, layer, 1, 1) for layer in range(rows)] if self.emphasis == "diagonal" else [(0, 0, columns, 1)]
        for colour, width, order in (("white", 2.6, 3), (style.LINE, 1.3, 4)):
            frame: dict[str, Any] = {"edgecolor": colour, "linewidth": style.points(width * thin), "zorder": order}
            for x, y, *size in boxes:
                ax.add_patch(Rectangle((x, y), *size, fill=False, joinstyle="miter", clip_on=False, **frame))

    def _emphasised(self, result: SimilarityMatrix) -> Layers:
        """Return values, low, high and null of the emphasised cells, one for each column."""
        cells: Any = tuple(np.array(EMPHASES[str(self.emphasis)](*result.values.shape)).T)
        return {name: getattr(result, name)[cells] for name in ("values", "low", "high", "null")}

    def _rms(self, result: SimilarityMatrix) -> dict[str, np.ndarray]:
        """Return the root mean squares of the layers of each side, of one side if both are the same network."""
        sides = {"rows": result.rows, "columns": result.columns}
        sides = {"layers": result.columns} if self.emphasis == "row" else sides
        return {name: np.array([axis.rms or np.nan for axis in side], float) for name, side in sides.items()}

    def _draw_below(self, ax: Axes, part: str, index: int, *, named: bool) -> None:
        """Draw the line or the root mean squares below a map, layer under layer."""
        result = self.results[index]
        if part == "line":
            draw_layers(ax, self._emphasised(result), limits(map(self._emphasised, self.results)), band=True)
        else:
            self._draw_rms(ax, self._rms(result))
        name = labels.measure_name(result).split(" (")[0] if part == "line" else "RMS"
        ax.set_ylabel(name if named else "", fontsize=style.small())
        ax.set_xlim(-0.5, len(result.columns) - 0.5)
        ax.set_xticks(range(0, len(result.columns), labels.step_for(1.84 / len(result.columns), needed=0.13)), [])
        ax.tick_params(labelleft=named)

    def _draw_rms(self, ax: Axes, sides: dict[str, np.ndarray]) -> None:
        """Draw the root mean square of each layer as bars on a logarithmic axis, two models next to each other."""
        numbers = np.concatenate([rms for result in self.results for rms in self._rms(result).values()])
        powers = np.log10(numbers[np.isfinite(numbers)])
        ax.set_yscale("log")
        ax.set_ylim(10.0 ** np.floor(powers.min(initial=0.0) - 1e-9), 10.0 ** np.ceil(powers.max(initial=0.0)))
        ax.yaxis.set_major_locator(LogLocator(numticks=3))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.minorticks_off()
        for side, (name, rms) in enumerate(sides.items()):
            middle = np.arange(len(rms)) + (side - (len(sides) - 1) / 2) * 0.8 / len(sides)
            known = np.isfinite(rms)
            ax.bar(middle[known], rms[known], 0.7 / len(sides), color=SIDES[name], linewidth=0)
            hatch_undefined(ax, rms)

    def _keys(self) -> list[Artist]:
        """Return what the legend explains."""
        entries: list[Artist] = []
        if self.emphasis:
            words = {"row": "first row", "diagonal": "diagonal"}[self.emphasis]
            entries.append(Line2D([], [], color=style.LINE, marker="o", label=f"{words} (outlined)"))
            entries.append(Patch(color=style.LINE, alpha=0.22, linewidth=0, label="95 % interval"))
            entries += chance_key([self._emphasised(result) for result in self.results])
        if self.emphasis and self.rms:
            sides = self._rms(self.results[0])
            entries += [Patch(color=SIDES[side], linewidth=0, label=f"RMS of {side}") for side in sides]
        return entries

    def _layer_names(self, width: float) -> list[str]:
        """Return which layer each index is, in lines; none where sides differ or there are too many."""
        sides = {tuple(names) for result in self.results for names in layer_names(result)}
        names = sides.pop()
        if sides or len(names) > MOST_NUMBERS:
            return []
        items = [f"{index} {name}" for index, name in enumerate(names)]
        return labels.filled(items, style.em(0.96 * width), between="    ")
