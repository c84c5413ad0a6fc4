"""Several similarity matrices side by side, as the MeSa paper's Figures 2, 5, 8, 9 and 10 draw them.

A network against itself is read along its first row (how far each layer is from layer 0: "row"), a network before and
after fine-tuning along the diagonal (how much each layer has changed: "diagonal"). What is to be read is outlined, and
drawn once more below as a line with its 95 % interval over what chance reaches, and below that, when asked, the spread
of each layer: its root mean square over images and features, since the similarity of a layer that hardly varies is
that of its noise. Layer 0 top left, lighter = more similar, one scale of colours for all, as in `heatmap`.
"""

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.plotting import FigureFile, grid_plan, labels, style
from cka_probe.plotting.grid_plan import (
    BELOW,
    BETWEEN,
    EMPHASES,
    FOOT,
    GAP,
    KEY,
    LEFT,
    LINE_HEIGHT,
    SPREAD_HEIGHT,
    TOP,
    LayerGrid,
    Plan,
    layer_grid_size,
    plan_grid,
)
from cka_probe.plotting.matrix import MOST_NUMBERS, write_numbers
from cka_probe.plotting.pen import Pen, bold_width

__all__ = ["LayerGrid", "layer_grid", "layer_grid_size", "save_layer_grid"]


def layer_grid(grid: LayerGrid, ax: Axes, *, page: float = math.inf) -> Axes:
    """Draw the matrices on `ax`, which they fill.

    Args:
        grid: What to draw.
        ax: Axes of the proportions of `layer_grid_size`; with others some of it stays empty.
        page: Inches that it may be wide at most, such as `style.page_for` of a venue.

    Returns:
        `ax`.

    Raises:
        DataError: There is no result, not a title for each, or no diagonal to emphasise.
        UnknownNameError: No such emphasis.
    """
    plan = plan_grid(grid, page)
    pen = Pen(ax, plan.size, design=1.0)
    limits = grid_plan.limits([_emphasised(grid, result) for result in grid.results] if grid.emphasis else [])
    for index, result in enumerate(grid.results):
        image = _draw_map(pen, plan, grid, result, plan.place(index))
        _write_head(pen, plan, index)
        _draw_below(pen, plan, grid, result, plan.place(index), limits)
    _draw_colour_bar(pen, plan, grid, image)
    _draw_key(pen, plan)
    return ax


def _emphasised(grid: LayerGrid, result: SimilarityMatrix) -> grid_plan.Emphasised:
    """Return the emphasised cells of a result, in the order of its columns."""
    cells: Any = tuple(np.array(EMPHASES[str(grid.emphasis)][1](*result.values.shape)).T)
    both = grid.emphasis == "diagonal"
    spreads = {"x": [axis.rms for axis in result.rows]} if both else {}
    spreads["y" if both else "x"] = [axis.rms for axis in result.columns]
    return grid_plan.Emphasised(
        result.values[cells],
        result.low[cells],
        result.high[cells],
        result.null[cells],
        {side: np.array(spread, np.float64) for side, spread in spreads.items()},
    )


def _draw_map(pen: Pen, plan: Plan, grid: LayerGrid, result: SimilarityMatrix, place: tuple[float, float]):
    """Draw one matrix and return its image."""
    rows, columns = result.values.shape
    panel = pen.panel((*place, columns * plan.cell, rows * plan.cell))
    low, high = plan.ends
    image = panel.imshow(
        np.ma.masked_invalid(result.values), style.COLOURS, vmin=low, vmax=high, interpolation="nearest", aspect="auto"
    )
    for row, column in np.argwhere(~np.isfinite(result.values)):
        panel.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, **style.UNDEFINED))
    _index(panel, plan, rows, columns)
    x, y = labels.model_names(result, room=0.9 * columns * plan.cell * style.POINTS / 6)
    small = pen.sizes.small
    panel.set_ylabel(f"layer of {x}" if x != y else "layer", fontsize=small, labelpad=2 * pen.scale, parse_math=False)
    panel.set_xlabel(f"layer of {y}" if x != y else "layer", fontsize=small, labelpad=pen.scale, parse_math=False)
    if max(map(max, (other.values.shape for other in grid.results))) <= MOST_NUMBERS:
        write_numbers(panel, image, result.values, pen.sizes)
    if grid.emphasis:
        thin = min(1.0, max(plan.cell / 0.2, 0.3))  # a frame must not hide a small cell
        _outline(panel, EMPHASES[grid.emphasis][1](rows, columns), thin * pen.scale, whole=grid.emphasis == "row")
    return image


def _index(panel: Axes, plan: Plan, rows: int, columns: int) -> None:
    step = labels.step_for(plan.cell, needed=0.13 if max(rows, columns) < 100 else 0.2)
    panel.set_xticks(range(0, columns, step))
    panel.set_yticks(range(0, rows, step))
    panel.tick_params(length=0)


def _outline(panel: Axes, cells: list[tuple[int, int]], scale: float, *, whole: bool) -> None:
    """Draw a frame around the cells, white on blue: one of the two is seen on any colour of the map."""
    boxes = [(-0.5, cells[0][0] - 0.5, len(cells), 1)] if whole else [(x - 0.5, y - 0.5, 1, 1) for y, x in cells]
    for colour, width, order in (("white", 2.6, 3), (style.LINE, 1.3, 4)):
        for x, y, across, down in boxes:
            look: dict[str, Any] = {
                "fill": False,
                "edgecolor": colour,
                "linewidth": width * scale,
                "zorder": order,
                "clip_on": False,
            }
            panel.add_patch(Rectangle((x, y), across, down, joinstyle="miter", **look))


def _write_head(pen: Pen, plan: Plan, place: int) -> None:
    """Write a map's title and note, beside each other or the note below."""
    (left, top), (title, note) = plan.place(place), plan.heads[place]
    room = plan.map[0] if plan.head > TOP else plan.map[0] - labels.width(note) * 6 / style.POINTS
    title = labels.cut(title, labels.width(title) * min(1.0, room / max(bold_width(title), 1e-9)))
    pen.text(left, top - plan.head + TOP - 0.1, title, points=7, weight="bold")
    if plan.head > TOP:
        pen.text(left, top - 0.09, note)
    else:
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
        grid_plan.draw_line(panel, read, limits[0], pen)
        grid_plan.name_sides(panel, labels.measure_name(result).split(" (")[0] if first else "", pen)
        top += LINE_HEIGHT + GAP
    if grid.spread:
        panel = pen.panel((place[0], top, width, SPREAD_HEIGHT))
        grid_plan.draw_spread(panel, read, limits[1], pen)
        grid_plan.name_sides(panel, "spread" if first else "", pen)


def _draw_colour_bar(pen: Pen, plan: Plan, grid: LayerGrid, image) -> None:
    left = LEFT + plan.across * plan.map[0] + (plan.across - 1) * BETWEEN + 0.1
    panel = pen.panel((left, plan.head, 0.09, plan.map[1]))
    bar = pen.ax.figure.colorbar(image, cax=panel, ticks=np.linspace(*plan.ends, 6))
    bar.outline.set_linewidth(style.FRAME * pen.scale)
    names = sorted({labels.measure_name(result) for result in grid.results})
    bar.set_label(names[0] if len(names) == 1 else "similarity", fontsize=pen.sizes.text, labelpad=2 * pen.scale)
    panel.tick_params(labelsize=pen.sizes.small)


def _draw_key(pen: Pen, plan: Plan) -> None:
    """Write what lines and indices mean, at the foot of the page."""
    middle = plan.size[1] - FOOT - KEY * (len(plan.legend) + len(plan.names) - 0.5)
    for handles in plan.legend:
        pen.legend(handles, LEFT, middle)
        middle += KEY
    for line in plan.names:
        pen.text(LEFT, middle, line)
        middle += KEY


save_layer_grid = FigureFile(layer_grid, layer_grid_size)
"""Draw a grid into files: `save_layer_grid(grid, paths, style=…, venue=…)`. Same input, same bytes."""
