"""What a grid of matrices shows, and where it goes: cells, titles and keys, before anything is drawn."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from cka_probe import registry
from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.errors import DataError
from cka_probe.plotting import labels, style
from cka_probe.plotting.matrix import AIR, MAP, MOST_NUMBERS, bounds, number
from cka_probe.plotting.pen import Pen, bold_width, legend_lines

LEFT, RIGHT, BETWEEN = 0.42, 0.62, 0.3  # inches: before the first map, for the colour bar, between two maps
TOP, BELOW, GAP, FOOT = 0.24, 0.27, 0.08, 0.06  # title, indices and name under a map, between its panels, at the end
LINE_HEIGHT, SPREAD_HEIGHT, SECOND = 0.62, 0.34, 0.13  # a second line above a map
KEY = 0.15  # a line of the key

EMPHASES = {
    "row": ("layer 0 with each", lambda rows, columns: [(0, column) for column in range(columns)]),
    "diagonal": ("each with itself", lambda rows, columns: [(layer, layer) for layer in range(rows)]),
}
"""What is read: in words, and as cells of a matrix of so many rows and columns."""


@dataclass(frozen=True)
class LayerGrid:
    """What is drawn.

    Attributes:
        results: At least one; of any numbers of layers, square ones for "diagonal".
        titles: One for each, such as "MP+GP"; by default the names of the models.
        emphasis: "row", "diagonal", or None: nothing is outlined or drawn below.
        line: Draw what is emphasised as a line, too.
        spread: Draw the layers' spread, too.
        across: Matrices beside each other; by default up to three.
    """

    results: Sequence[SimilarityMatrix]
    titles: Sequence[str] = ()
    emphasis: str | None = None
    line: bool = True
    spread: bool = False
    across: int | None = None


@dataclass(frozen=True)
class Plan:
    """Where things go, in inches.

    Attributes:
        heads: Title of each matrix, and number of images, with the measure where it is not that of the colour bar.
        head: Height of these above a map: of one line, or of two where they do not fit beside each other.
        cell: Side of a cell.
        map: Width and height of a map.
        block: Height of a map and what stands below it.
        across: Matrices beside each other.
        legend: Its entries, in lines.
        names: Which layer each index is, in lines.
        ends: Of the scale of colours.
        size: Width and height of everything.
    """

    heads: list[tuple[str, str]]
    head: float
    cell: float
    map: tuple[float, float]
    block: float
    across: int
    legend: list[list[Artist]]
    names: list[str]
    ends: tuple[float, float]
    size: tuple[float, float]

    def place(self, number: int) -> tuple[float, float]:
        """Return left and top of a map."""
        row, column = divmod(number, self.across)
        return LEFT + column * (self.map[0] + BETWEEN), self.head + row * (self.block + self.head)


def layer_grid_size(grid: LayerGrid, *, page: float = math.inf) -> tuple[float, float]:
    """Return width and height in inches, letters of 6 and 7 points given; arguments as of `layer_grid`.

    Raises:
        DataError: There is no result, not a title for each, or no diagonal to emphasise.
        UnknownNameError: No such emphasis.
    """
    return plan_grid(grid, page).size


def plan_grid(grid: LayerGrid, page: float = math.inf) -> Plan:
    """Return where everything goes, as many matrices beside each other as a page has room for, at least one.

    Args:
        grid: What is drawn; where it says how many are beside each other, they are.
        page: Inches across.

    Raises:
        DataError: There is no result, not a title for each, or no diagonal to emphasise.
        UnknownNameError: No such emphasis.
    """
    _check(grid)
    count = len(grid.results)
    across = min(grid.across or {4: 2}.get(count, 3), count)
    plan = _plan(grid, across)
    while plan.size[0] > page and grid.across is None and across > 1:
        across -= 1
        plan = _plan(grid, across)
    return plan


def _plan(grid: LayerGrid, across: int) -> Plan:
    """Return where everything goes with so many matrices beside each other."""
    count = len(grid.results)
    rows, columns = (max(result.values.shape[side] for result in grid.results) for side in (0, 1))
    cell = _cell(grid, max(rows, columns))
    box = columns * cell, rows * cell
    line, spread = bool(grid.emphasis) and grid.line, bool(grid.emphasis) and grid.spread
    block = box[1] + BELOW + line * (LINE_HEIGHT + GAP) + spread * (SPREAD_HEIGHT + GAP) + (line or spread) * GAP
    width = max(LEFT + across * box[0] + (across - 1) * BETWEEN + RIGHT, style.COLUMN)
    heads = list(zip(_titles(grid), map(partial(_note, grid), grid.results), strict=True))
    beside = all(bold_width(title) + labels.width(note) * 6 / style.POINTS + 0.08 <= box[0] for title, note in heads)
    head = TOP if beside else TOP + SECOND
    legend, names = legend_lines(_entries(grid), width - LEFT - 0.1), _layer_names(grid, width - LEFT - 0.1)
    height = -(-count // across) * (head + block) + (len(legend) + len(names)) * KEY + FOOT
    ranges = [bounds(result.settings, result.values) for result in grid.results]
    ends = min(low for low, _ in ranges), max(high for _, high in ranges)
    return Plan(heads, head, cell, box, block, across, legend, names, ends, (width, height))


def _cell(grid: LayerGrid, longest: int) -> float:
    """Return the side of a cell in inches, with room for the widest number where cells have numbers."""
    if longest > MOST_NUMBERS:
        return MAP / longest
    shown = [1.0, *np.concatenate([result.values[np.isfinite(result.values)] for result in grid.results])]
    return max(MAP / longest, max(labels.width(number(value)) for value in shown) * 6 / style.POINTS + AIR)


def _check(grid: LayerGrid) -> None:
    if not grid.results:
        raise DataError("expected at least one result to draw beside others, found none; give a result.json")
    if grid.titles and len(grid.titles) != len(grid.results):
        raise DataError(
            f"expected a title for each of {len(grid.results)} results, found {len(grid.titles)}; give as many, or none"
        )
    if grid.emphasis is not None:
        registry.get(EMPHASES, grid.emphasis, "emphasis")
    for result in grid.results:
        rows, columns = result.values.shape
        if grid.emphasis == "diagonal" and rows != columns:
            raise DataError(
                f"a diagonal pairs layer i of x with layer i of y; found {rows} layers of {result.x.reference} and "
                f"{columns} of {result.y.reference}; emphasise the row, or compare as many layers of each"
            )


def _entries(grid: LayerGrid) -> list[Artist]:
    """Return the entries of the legend."""
    return key(
        grid.emphasis,
        line=grid.line,
        spread=grid.spread,
        chance=any(np.isfinite(result.null).any() for result in grid.results),
        undefined=not all(np.isfinite(result.values).all() for result in grid.results),
    )


def _layer_names(grid: LayerGrid, width: float) -> list[str]:
    """Return which layer each index is, in lines of a width; none where sides differ or there are too many."""
    axes = {tuple(axis.name for axis in side) for result in grid.results for side in (result.rows, result.columns)}
    names = next(iter(axes))
    if len(axes) != 1 or len(names) > MOST_NUMBERS:
        return []
    items = [f"{index} {name}" for index, name in enumerate(names)]
    return labels.filled(items, width * 0.94 * style.POINTS / 6, between="    ")


def _note(grid: LayerGrid, result: SimilarityMatrix) -> str:
    """Return the number of images, and the measure where it is not that of the colour bar."""
    names = {labels.measure_name(other) for other in grid.results}
    measure = f"{labels.measure_name(result)}, " if len(names) > 1 else ""
    return f"{measure}n = {result.num_examples}"


def _titles(grid: LayerGrid) -> list[str]:
    if grid.titles:
        return list(grid.titles)
    names = [labels.model_names(result, room=14) for result in grid.results]
    return [x if x == y else f"{x}, {y}" for x, y in names]


NULL: dict[str, Any] = {"color": "#555555", "linestyle": (0, (3, 1.5))}
SIDES = {"x": style.LINE, "y": style.ARMS[4]}
"""Colours of the spread of the rows' model and of the columns'."""


@dataclass(frozen=True)
class Emphasised:
    """The emphasised cells of one matrix, one for each column.

    Attributes:
        values: (layers,) similarity; NaN where undefined.
        low: (layers,) lower ends of their 95 % intervals.
        high: (layers,) upper ends.
        null: (layers,) 95 % quantiles of chance; NaN where it was not asked for.
        spreads: (layers,) root mean squares of the layers of "x" and, where it is another model, "y".
    """

    values: np.ndarray
    low: np.ndarray
    high: np.ndarray
    null: np.ndarray
    spreads: Mapping[str, np.ndarray]


def limits(all_read: Sequence[Emphasised]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return bottom and top of all lines, and of all spreads, whole powers of ten."""
    shown = np.concatenate([np.concatenate([r.values, r.low, r.high, r.null]) for r in all_read] or [np.empty(0)])
    spreads = np.concatenate([spread for r in all_read for spread in r.spreads.values()] or [np.empty(0)])
    shown, spreads = shown[np.isfinite(shown)], spreads[np.isfinite(spreads) & (spreads > 0)]
    bottom = np.floor(shown.min() * 5 - 1e-9) / 5 if shown.size and shown.min() < -0.05 else -0.05
    powers = (np.floor(np.log10(spreads.min()) - 1e-9), np.ceil(np.log10(spreads.max()))) if spreads.size else (-1, 0)
    return (float(bottom), max(1.05, float(shown.max(initial=0)))), (10.0 ** powers[0], 10.0 ** powers[1])


def draw_line(panel: Axes, read: Emphasised, between: tuple[float, float], pen: Pen) -> None:
    """Draw the values with the band of their intervals and the dashes of chance."""
    index = np.arange(len(read.values))
    panel.fill_between(index, read.low, read.high, color=style.LINE, alpha=0.22, linewidth=0)
    panel.vlines(index, read.low, read.high, color=style.LINE, linewidth=1.0 * pen.scale, alpha=0.6)
    if np.isfinite(read.null).any():
        panel.stairs(read.null, np.arange(len(index) + 1) - 0.5, baseline=None, linewidth=0.7 * pen.scale, **NULL)
    size = (2.2 if len(index) <= 25 else 1.2) * pen.scale
    panel.plot(index, read.values, "o-", color=style.LINE, linewidth=0.8 * pen.scale, markersize=size)
    _hatch(panel, ~np.isfinite(read.values))
    panel.set_ylim(*between)
    panel.set_yticks([tick for tick in (-1, -0.5, 0, 0.5, 1) if between[0] <= tick <= between[1]])
    _same_layers(panel, len(index))


def draw_spread(panel: Axes, read: Emphasised, between: tuple[float, float], pen: Pen) -> None:
    """Draw the spread of each layer as bars on a logarithmic axis, those of two models beside each other."""
    count = len(read.spreads)
    panel.set_yscale("log")
    panel.set_ylim(*between)
    for place, (side, spread) in enumerate(read.spreads.items()):
        seen = np.isfinite(spread) & (spread > 0)
        middle = np.flatnonzero(seen) + (place - (count - 1) / 2) * 0.8 / count
        panel.bar(middle, spread[seen] - between[0], 0.7 / count, between[0], color=SIDES[side], linewidth=0)
        _hatch(panel, ~seen)
    powers = np.log10(between).round().astype(int)
    panel.set_yticks([10.0**power for power in (powers if powers[1] - powers[0] > 1 else powers[:1])])
    panel.minorticks_off()
    _same_layers(panel, len(read.values))


def name_sides(panel: Axes, name: str, pen: Pen) -> None:
    """Name the axis of the first panel of a row; the others have the same, unnamed."""
    panel.set_ylabel(name, fontsize=pen.sizes.small, labelpad=2 * pen.scale)
    if not name:
        panel.set_yticklabels([])


def key(emphasis: str | None, *, line: bool, spread: bool, chance: bool, undefined: bool) -> list[Artist]:
    """Return what the legend explains, of what is drawn."""
    handles: list[Artist] = []
    if emphasis and line:
        look: dict[str, Any] = {"color": style.LINE, "marker": "o", "markersize": 2.2, "linewidth": 0.8}
        words = {"row": "first row", "diagonal": "diagonal"}[emphasis]
        handles.append(Line2D([], [], **look, label=f"{words} (outlined)"))
        handles.append(Patch(color=style.LINE, alpha=0.22, linewidth=0, label="95 % interval"))
        if chance:
            handles.append(Line2D([], [], linewidth=0.7, **NULL, label="chance, 95 % quantile"))
    if emphasis and spread:
        sides = {"x": "spread (RMS)"} if emphasis == "row" else {"x": "spread (RMS) of rows", "y": "of columns"}
        handles += [Patch(color=SIDES[side], linewidth=0, label=name) for side, name in sides.items()]
    return [*handles, *([style.undefined_key()] if undefined else [])]


def _hatch(panel: Axes, layers: np.ndarray) -> None:
    for layer in np.flatnonzero(layers):
        panel.axvspan(layer - 0.5, layer + 0.5, zorder=0.5, **style.UNDEFINED)


def _same_layers(panel: Axes, count: int) -> None:
    """Give a panel the layers of the map above it."""
    panel.set_xlim(-0.5, count - 0.5)
    step = labels.step_for(1.84 / count, needed=0.13)
    panel.set_xticks(range(0, count, step), [])
    panel.spines[["top", "right"]].set_visible(False)
