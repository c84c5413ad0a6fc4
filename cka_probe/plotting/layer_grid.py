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

from cka_probe import registry
from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.errors import DataError
from cka_probe.plotting import labels, style
from cka_probe.plotting.figure import add_legend, inches
from cka_probe.plotting.matrix import MAP, MOST_NUMBERS, ColourScale, Map, bounds, layer_names
from cka_probe.plotting.profile import hatch_undefined

EMPHASES = {
    "row": lambda rows, columns: [(0, column) for column in range(columns)],
    "diagonal": lambda rows, columns: [(layer, layer) for layer in range(rows)],
}
"""The emphasised cells of a matrix of so many rows and columns."""
AROUND, BETWEEN = 0.8, 0.25
"""Inches: width of axis labels and colour bar, and of the gap between two maps."""
LINE_ASPECT, RMS_ASPECT = 0.34, 0.19
"""Heights of the panels below a map, by its width."""
NULL: dict[str, Any] = {"color": "#555555", "linestyle": (0, (3, 1.5))}
SIDES = {"x": style.LINE, "y": style.ARMS[4]}
"""Colours of the root mean squares of the model of the rows and of the columns."""


@dataclass(frozen=True)
class LayerGrid:
    """Similarity matrices and what is read from them.

    Attributes:
        results: At least one, of any numbers of layers; square ones for "diagonal".
        titles: One for each, such as "MP+GP"; by default the names of the models.
        emphasis: "row", "diagonal", or None: nothing is outlined or drawn below.
        line: Whether to draw the emphasised cells as a line, too.
        rms: Whether to draw the root mean squares of the layers, too.
        across: Matrices next to each other; by default up to three that fit.
        scale: Colours of all matrices.

    Raises:
        DataError: There is no result, not a title for each, or no diagonal to emphasise.
        UnknownNameError: No such emphasis.
    """

    results: Sequence[SimilarityMatrix]
    titles: Sequence[str] = ()
    emphasis: str | None = None
    line: bool = True
    rms: bool = False
    across: int | None = None
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
        return self._width(self.across or min({4: 2}.get(len(self.results), 3), len(self.results)))

    @property
    def narrowest(self) -> float:
        """Width in print with all maps below each other, inches."""
        return self._width(self.across or 1)

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
        count, room = len(self.results), inches(figure) + 1e-9
        across = self.across or next((n for n in (3, 2) if n <= count and self._width(n) <= room), 1)
        across = min(across, {4: 2}.get(count, across))
        parts = [self._aspect]
        parts += [LINE_ASPECT] * (self.line and bool(self.emphasis)) + [RMS_ASPECT] * (self.rms and bool(self.emphasis))
        lines = -(-count // across)
        axes = figure.subplots(lines * len(parts), across, squeeze=False, height_ratios=parts * lines)
        width = (inches(figure) - AROUND + BETWEEN) / across - BETWEEN
        for index, ax in enumerate(axes.reshape(lines, len(parts), across).transpose(0, 2, 1).reshape(-1, len(parts))):
            if index >= count:
                for empty in ax:
                    empty.remove()
                continue
            self._draw_map(ax[0], index, width, bar=index == min(across, count) - 1)
            self._draw_below(ax[1:], index, named=index % across == 0)
        add_legend(figure, self._keys(), title="\n".join(self._layer_names(inches(figure))))

    def _draw_map(self, ax: Axes, index: int, width: float, *, bar: bool) -> None:
        """Draw one matrix with its title, its emphasised cells outlined."""
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
        x, y = labels.model_names(result, room=0.9 * width * 72 / style.SMALL)
        x, y = (f"layer of {x}", f"layer of {y}") if x != y else ("layer", "layer")
        ax.set_ylabel(x, fontsize=style.small())
        ax.set_xlabel(y, fontsize=style.small())
        self._write_title(ax, index, width)
        if self.emphasis:
            self._outline(ax, *result.values.shape, thin=min(1.0, max(width / len(cells.columns) / 0.2, 0.3)))

    def _write_title(self, ax: Axes, index: int, width: float) -> None:
        """Write a map's title, and its number of images on the same line if there is room, else below."""
        result = self.results[index]
        names = labels.model_names(result, room=14)
        title = self.titles[index] if self.titles else ", ".join(dict.fromkeys(names))
        measure = f"{labels.measure_name(result)}, " if self._maps[0].words == "similarity" else ""
        note = f"{measure}n = {result.num_examples}"
        below = labels.width(title, bold=True) * style.TEXT + labels.width(note) * style.SMALL > (width - 0.1) * 72
        title = labels.cut(title, width * 72 / style.TEXT, bold=True)
        ax.set_title(title, weight="bold", pad=style.points(3.0 + below * 1.4 * style.SMALL))
        right, side = (0, "left") if below else (1, "right")
        above: dict[str, Any] = {"xytext": (0, style.points(3.0)), "textcoords": "offset points", "va": "baseline"}
        ax.annotate(note, (right, 1), xycoords="axes fraction", ha=side, fontsize=style.small(), **above)

    def _outline(self, ax: Axes, rows: int, columns: int, *, thin: float) -> None:
        """Draw a frame around the emphasised cells, white and blue: one of the two is seen on any colour of the map."""
        boxes = [(x, y, 1, 1) for y, x in EMPHASES[str(self.emphasis)](rows, columns)]
        if self.emphasis == "row":
            boxes = [(0, 0, columns, 1)]
        for colour, width, order in (("white", 2.6, 3), (style.LINE, 1.3, 4)):
            frame: dict[str, Any] = {"edgecolor": colour, "linewidth": style.points(width * thin), "zorder": order}
            for x, y, across, down in boxes:
                ax.add_patch(Rectangle((x, y), across, down, fill=False, joinstyle="miter", clip_on=False, **frame))

    def _emphasised(self, result: SimilarityMatrix) -> dict[str, np.ndarray]:
        """Return values, low, high and null of the emphasised cells, one for each column."""
        cells: Any = tuple(np.array(EMPHASES[str(self.emphasis)](*result.values.shape)).T)
        return {name: getattr(result, name)[cells] for name in ("values", "low", "high", "null")}

    def _rms(self, result: SimilarityMatrix) -> dict[str, np.ndarray]:
        """Return the root mean squares of the layers of each side, of one side if both are the same network."""
        if self.emphasis == "row":
            return {"x": np.array([axis.rms for axis in result.columns], float)}
        return {"x": np.array([axis.rms for axis in result.rows], float),
                "y": np.array([axis.rms for axis in result.columns], float)}  # fmt: skip

    def _draw_below(self, panels: Sequence[Axes], index: int, *, named: bool) -> None:
        """Draw the line and the root mean squares below a map, layer under layer."""
        result = self.results[index]
        drawn = ["line"] * self.line + ["rms"] * self.rms
        for panel, kind in zip(panels, drawn, strict=False):
            if kind == "line":
                self._draw_line(panel, self._emphasised(result))
            else:
                self._draw_rms(panel, self._rms(result))
            name = labels.measure_name(result).split(" (")[0] if kind == "line" else "RMS"
            panel.set_ylabel(name if named else "", fontsize=style.small())
            panel.set_xlim(-0.5, len(result.columns) - 0.5)
            step = labels.step_for(1.84 / len(result.columns), needed=0.13)
            panel.set_xticks(range(0, len(result.columns), step), [])
            panel.tick_params(labelleft=named)

    def _draw_line(self, panel: Axes, emphasised: dict[str, np.ndarray]) -> None:
        """Draw the values with the band of their intervals and the dashes of chance."""
        values, low, high, null = emphasised.values()
        layers = np.arange(len(values))
        panel.fill_between(layers, low, high, color=style.LINE, alpha=0.22, linewidth=0)
        panel.vlines(layers, low, high, color=style.LINE, linewidth=style.points(1.0), alpha=0.6)
        if np.isfinite(null).any():
            panel.stairs(null, np.arange(len(layers) + 1) - 0.5, baseline=None, linewidth=style.points(0.7), **NULL)
        panel.plot(layers, values, "o-", color=style.LINE, markersize=style.points(2.2 if len(layers) <= 25 else 1.2))
        hatch_undefined(panel, values)
        numbers = np.concatenate([part for result in self.results for part in self._emphasised(result).values()])
        numbers = numbers[np.isfinite(numbers)]
        lowest = numbers.min(initial=0.0)
        bottom = np.floor(lowest * 5 - 1e-9) / 5 if lowest < -0.05 else -0.05
        panel.set_ylim(bottom, max(1.05, numbers.max(initial=0.0)))
        panel.set_yticks([tick for tick in (-1, -0.5, 0, 0.5, 1) if tick >= bottom])
        panel.set_box_aspect(LINE_ASPECT)

    def _draw_rms(self, panel: Axes, sides: dict[str, np.ndarray]) -> None:
        """Draw the root mean square of each layer as bars on a logarithmic axis, two models next to each other."""
        numbers = np.concatenate([rms for result in self.results for rms in self._rms(result).values()])
        numbers = numbers[np.isfinite(numbers) & (numbers > 0)]
        ends = np.array([-1, 0])
        if numbers.size:
            ends = np.array([np.floor(np.log10(numbers.min()) - 1e-9), np.ceil(np.log10(numbers.max()))]).astype(int)
        low, high = 10.0**ends
        panel.set_yscale("log")
        panel.set_ylim(low, high)
        for side, (name, rms) in enumerate(sides.items()):
            known = np.isfinite(rms) & (rms > 0)
            middle = np.flatnonzero(known) + (side - (len(sides) - 1) / 2) * 0.8 / len(sides)
            panel.bar(middle, rms[known] - low, 0.7 / len(sides), low, color=SIDES[name], linewidth=0)
            hatch_undefined(panel, np.where(known, rms, np.nan))
        ticks = [low, high] if ends[1] - ends[0] > 1 else [low]
        panel.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        panel.minorticks_off()
        panel.set_box_aspect(RMS_ASPECT)

    def _keys(self) -> list[Artist]:
        """Return what the legend explains."""
        keys: list[Artist] = []
        if self.emphasis and self.line:
            words = {"row": "first row", "diagonal": "diagonal"}[self.emphasis]
            keys.append(Line2D([], [], color=style.LINE, marker="o", label=f"{words} (outlined)"))
            keys.append(Patch(color=style.LINE, alpha=0.22, linewidth=0, label="95 % interval"))
            if any(np.isfinite(result.null).any() for result in self.results):
                keys.append(Line2D([], [], linewidth=style.points(0.7), **NULL, label="chance, 95 % quantile"))
        if self.emphasis and self.rms:
            sides = {"x": "RMS of layers"} if self.emphasis == "row" else {"x": "RMS of rows", "y": "RMS of columns"}
            keys += [Patch(color=SIDES[side], linewidth=0, label=name) for side, name in sides.items()]
        if not all(np.isfinite(result.values).all() for result in self.results):
            keys.append(style.undefined_key())
        return keys

    def _layer_names(self, width: float) -> list[str]:
        """Return which layer each index is, in lines; none where sides differ or there are too many."""
        sides = {tuple(names) for result in self.results for names in layer_names(result)}
        names = sides.pop()
        if sides or len(names) > MOST_NUMBERS:
            return []
        items = [f"{index} {name}" for index, name in enumerate(names)]
        return labels.filled(items, 0.96 * width * 72 / style.SMALL, between="    ")
