"""Several similarity matrices side by side, as the MeSa paper's Figures 2, 5, 8, 9 and 10 draw them.

A network against itself is read along its first row (how far each layer is from layer 0: "row"), a network before and
after fine-tuning along the diagonal (how much each layer has changed: "diagonal"). What is to be read is outlined, and
drawn once more below as a line with its 95 % interval over what chance reaches, and below that, when asked, the spread
of each layer: its root mean square over pictures and features, since the similarity of a layer that hardly varies is
that of its noise. Layer 0 top left, lighter = more similar, one scale of colours from 0 to 1, as in `heatmap`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from cka_probe.errors import DataError
from cka_probe.figures import grid_lines, labels, save_drawing, style
from cka_probe.figures.heatmap import AIR, MAP, MOST_NUMBERS, number
from cka_probe.figures.pen import Pen, filling
from cka_probe.lookup import lookup
from cka_probe.results import SimilarityMatrix

LEFT, RIGHT, BETWEEN = 0.42, 0.62, 0.3  # inches: before the first map, for the colour bar, between two maps
TOP, BELOW, GAP, FOOT = 0.24, 0.27, 0.08, 0.06  # title, indices and name under a map, between its panels, at the end
LINE_HEIGHT, SPREAD_HEIGHT = 0.62, 0.34
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
    """Where things go, in inches: side of a cell, box of a map, height of a block, matrices across, size."""

    cell: float
    map: tuple[float, float]
    block: float
    across: int
    size: tuple[float, float]


def layer_grid(grid: LayerGrid, ax: Axes) -> Axes:
    """Draw the matrices on `ax`, which they fill.

    Args:
        grid: What to draw.
        ax: Axes of the proportions of `layer_grid_size`; with others some of it stays empty.

    Returns:
        `ax`.

    Raises:
        DataError: There is no result, not a title for each, or no diagonal to emphasise.
        UnknownNameError: No such emphasis.
    """
    plan = _plan(grid)
    pen = Pen(ax, plan.size, design=1.0)
    limits = grid_lines.limits([_emphasised(grid, result) for result in grid.results] if grid.emphasis else [])
    for place, (result, title) in enumerate(zip(grid.results, _titles(grid), strict=True)):
        row, column = divmod(place, plan.across)
        left, top = LEFT + column * (plan.map[0] + BETWEEN), TOP + row * (plan.block + TOP)
        image = _draw_map(pen, plan, grid, result, (left, top))
        _write_title(pen, plan, title, _note(grid, result), (left, top))
        _draw_below(pen, plan, grid, result, (left, top), limits)
    _draw_colour_bar(pen, plan, grid, image)
    _draw_key(pen, plan, grid)
    return ax


def layer_grid_size(grid: LayerGrid) -> tuple[float, float]:
    """Return width and height in inches, letters of 6 and 7 points given."""
    return _plan(grid).size


def save_layer_grid(grid: LayerGrid, paths: Iterable[str | Path]) -> list[Path]:
    """Draw a grid into each of the files; the same grid gives the same bytes.

    Args:
        grid: What to draw.
        paths: `*.png`, `*.pdf` or `*.svg`.

    Returns:
        The paths written.

    Raises:
        DataError: As for `layer_grid`.
        UnknownNameError: As for `layer_grid`.
        OutputError: A suffix that is not a format, or a place that cannot be written to.
    """
    return save_drawing(lambda figure: layer_grid(grid, filling(figure)), layer_grid_size(grid), paths)


def _plan(grid: LayerGrid) -> Plan:
    _check(grid)
    count = len(grid.results)
    across = min(grid.across or {4: 2}.get(count, 3), count)
    rows, columns = (max(result.values.shape[side] for result in grid.results) for side in (0, 1))
    cell = _cell(grid, max(rows, columns))
    box = columns * cell, rows * cell
    line, spread = bool(grid.emphasis) and grid.line, bool(grid.emphasis) and grid.spread
    block = box[1] + BELOW + line * (LINE_HEIGHT + GAP) + spread * (SPREAD_HEIGHT + GAP) + (line or spread) * GAP
    width = max(LEFT + across * box[0] + (across - 1) * BETWEEN + RIGHT, style.COLUMN)
    lines = len(_key_lines(grid, width)) + bool(_handles(grid))
    return Plan(cell, box, block, across, (width, -(-count // across) * (TOP + block) + lines * KEY + FOOT))


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
        lookup(EMPHASES, grid.emphasis, "emphasis")
    for result in grid.results:
        rows, columns = result.values.shape
        if grid.emphasis == "diagonal" and rows != columns:
            raise DataError(
                f"a diagonal pairs layer i of x with layer i of y; found {rows} layers of {result.x.reference} and "
                f"{columns} of {result.y.reference}; emphasise the row, or compare as many layers of each"
            )


def _emphasised(grid: LayerGrid, result: SimilarityMatrix) -> grid_lines.Emphasised:
    """Return the emphasised cells of a result, in the order of its columns."""
    cells = tuple(np.array(EMPHASES[grid.emphasis][1](*result.values.shape)).T)
    both = grid.emphasis == "diagonal"
    spreads = {"x": [axis.spread for axis in result.rows]} if both else {}
    spreads["y" if both else "x"] = [axis.spread for axis in result.columns]
    return grid_lines.Emphasised(
        *(matrix[cells] for matrix in (result.values, result.low, result.high, result.null)),
        {side: np.array(spread, np.float64) for side, spread in spreads.items()},
    )


def _draw_map(pen: Pen, plan: Plan, grid: LayerGrid, result: SimilarityMatrix, place: tuple[float, float]):
    """Draw one matrix and return its image."""
    rows, columns = result.values.shape
    panel = pen.panel((*place, columns * plan.cell, rows * plan.cell))
    image = panel.imshow(
        np.ma.masked_invalid(result.values), cmap=style.COLOURS, vmin=0, vmax=1, interpolation="nearest", aspect="auto"
    )
    for row, column in np.argwhere(~np.isfinite(result.values)):
        panel.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, **style.UNDEFINED))
    _index(panel, plan, rows, columns)
    x, y = labels.model_names(result, room=0.9 * columns * plan.cell * style.POINTS / 6)
    small = pen.sizes.small
    panel.set_ylabel(f"layer of {x}" if x != y else "layer", fontsize=small, labelpad=2 * pen.scale, parse_math=False)
    panel.set_xlabel(f"layer of {y}" if x != y else "layer", fontsize=small, labelpad=pen.scale, parse_math=False)
    if max(map(max, (other.values.shape for other in grid.results))) <= MOST_NUMBERS:
        _write_numbers(panel, result.values, small)
    if grid.emphasis:
        _outline(panel, EMPHASES[grid.emphasis][1](rows, columns), pen.scale, whole=grid.emphasis == "row")
    return image


def _index(panel: Axes, plan: Plan, rows: int, columns: int) -> None:
    step = labels.step_for(plan.cell, needed=0.13)
    panel.set_xticks(range(0, columns, step))
    panel.set_yticks(range(0, rows, step))
    panel.tick_params(length=0)


def _write_numbers(panel: Axes, values: np.ndarray, size: float) -> None:
    colours = colormaps[style.COLOURS]
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = style.letters_on(colours(float(np.clip(value, 0, 1))))
            look = {"ha": "center", "va": "center_baseline", "fontsize": size, "color": colour}
            panel.text(column, row, number(value), **look)


def _outline(panel: Axes, cells: list[tuple[int, int]], scale: float, *, whole: bool) -> None:
    """Draw a frame around the cells, white on blue: one of the two is seen on any colour of the map."""
    boxes = [(-0.5, cells[0][0] - 0.5, len(cells), 1)] if whole else [(x - 0.5, y - 0.5, 1, 1) for y, x in cells]
    for colour, width, order in (("white", 2.6, 3), (style.LINE, 1.3, 4)):
        for x, y, across, down in boxes:
            look = {"fill": False, "edgecolor": colour, "linewidth": width * scale, "zorder": order, "clip_on": False}
            panel.add_patch(Rectangle((x, y), across, down, joinstyle="miter", **look))


def _write_title(pen: Pen, plan: Plan, title: str, note: str, place: tuple[float, float]) -> None:
    left, top = place
    room = pen.room(plan.map[0]) - labels.width(note) - 0.5
    pen.text(left, top - 0.1, labels.cut(title, 0.85 * room), points=7, weight="bold")
    pen.text(left + plan.map[0], top - 0.1, note, align="right")


def _draw_below(
    pen: Pen, plan: Plan, grid: LayerGrid, result: SimilarityMatrix, place: tuple[float, float], limits: tuple
) -> None:
    """Draw the line and the spread under a map, layer under layer."""
    if not grid.emphasis or not (grid.line or grid.spread):
        return
    read, first = _emphasised(grid, result), place[0] == LEFT
    top, width = place[1] + plan.map[1] + BELOW + GAP, len(read.values) * plan.cell
    if grid.line:
        panel = pen.panel((place[0], top, width, LINE_HEIGHT))
        grid_lines.draw_line(panel, read, limits[0], pen)
        grid_lines.name_sides(panel, labels.measure_name(result).split(" (")[0] if first else "", pen)
        top += LINE_HEIGHT + GAP
    if grid.spread:
        panel = pen.panel((place[0], top, width, SPREAD_HEIGHT))
        grid_lines.draw_spread(panel, read, limits[1], pen)
        grid_lines.name_sides(panel, "spread" if first else "", pen)


def _draw_colour_bar(pen: Pen, plan: Plan, grid: LayerGrid, image) -> None:
    left = LEFT + plan.across * plan.map[0] + (plan.across - 1) * BETWEEN + 0.1
    panel = pen.panel((left, TOP, 0.09, plan.map[1]))
    bar = pen.ax.figure.colorbar(image, cax=panel, ticks=np.linspace(0, 1, 6))
    bar.outline.set_linewidth(style.FRAME * pen.scale)
    names = sorted({labels.measure_name(result) for result in grid.results})
    bar.set_label(names[0] if len(names) == 1 else "similarity", fontsize=pen.sizes.text, labelpad=2 * pen.scale)
    panel.tick_params(labelsize=pen.sizes.small)


def _draw_key(pen: Pen, plan: Plan, grid: LayerGrid) -> None:
    """Write what the lines and the indices mean, at the foot of the page."""
    lines, handles = _key_lines(grid, plan.size[0]), _handles(grid)
    top = plan.size[1] - FOOT - KEY * (len(lines) + bool(handles))
    if handles:
        look = {"frameon": False, "fontsize": pen.sizes.small, "ncols": len(handles), "borderpad": 0}
        look |= {"handlelength": 1.6, "handletextpad": 0.5, "columnspacing": 1.2, "borderaxespad": 0}
        place = {"loc": "center left", "bbox_to_anchor": (LEFT, top + KEY / 2), "bbox_transform": pen.ax.transData}
        pen.ax.legend(handles=handles, **place, **look)
        top += KEY
    for line in lines:
        pen.text(LEFT, top + KEY / 2, line)
        top += KEY


def _handles(grid: LayerGrid) -> list:
    """Return the entries of the legend."""
    return grid_lines.key(grid, defined=all(np.isfinite(result.values).all() for result in grid.results))


def _key_lines(grid: LayerGrid, width: float) -> list[str]:
    """Return which layer each index is, in lines of a width; none where sides differ or there are too many."""
    axes = {tuple(axis.name for axis in side) for result in grid.results for side in (result.rows, result.columns)}
    if len(axes) != 1 or len(names := list(*axes)) > MOST_NUMBERS:
        return []
    items = [f"{index} {name}" for index, name in enumerate(names)]
    return labels.filled(items, (width - LEFT - 0.1) * 0.94 * style.POINTS / 6, between="    ")


def _note(grid: LayerGrid, result: SimilarityMatrix) -> str:
    """Return the number of pictures, and the measure where it is not that of the colour bar."""
    names = {labels.measure_name(other) for other in grid.results}
    measure = f"{labels.measure_name(result)}, " if len(names) > 1 else ""
    return f"{measure}n = {result.num_examples}"


def _titles(grid: LayerGrid) -> list[str]:
    if grid.titles:
        return list(grid.titles)
    names = [labels.model_names(result, room=14) for result in grid.results]
    return [x if x == y else f"{x}, {y}" for x, y in names]
