"""What a grid of matrices shows, and where it goes: cells, titles and keys, before anything is drawn."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from matplotlib.artist import Artist

from cka_probe import registry
from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.errors import DataError
from cka_probe.plotting import grid_lines, labels, style
from cka_probe.plotting.matrix_plan import AIR, MAP, MOST_NUMBERS, bounds, number
from cka_probe.plotting.pen import bold_width, legend_lines

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
    ends = [bounds(result.settings, result.values) for result in grid.results]
    ends = min(low for low, _ in ends), max(high for _, high in ends)
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
    return grid_lines.key(
        grid.emphasis,
        line=grid.line,
        spread=grid.spread,
        chance=any(np.isfinite(result.null).any() for result in grid.results),
        undefined=not all(np.isfinite(result.values).all() for result in grid.results),
    )


def _layer_names(grid: LayerGrid, width: float) -> list[str]:
    """Return which layer each index is, in lines of a width; none where sides differ or there are too many."""
    axes = {tuple(axis.name for axis in side) for result in grid.results for side in (result.rows, result.columns)}
    if len(axes) != 1 or len(names := list(*axes)) > MOST_NUMBERS:
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
