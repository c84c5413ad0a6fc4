"""How alike arms are, layer by layer: a small square for each layer, arms down and across.

Below the diagonal two arms are compared before fine-tuning, above it after, and on it each arm before with itself
after. So one square says both whether arms differ and whether fine-tuning makes them alike: it is lighter above than
below. The scale of colours is 0 to 1, as in `heatmap`; what was not compared, such as networks of other data, is a dot
on white, which no value is, and what was compared and has no value is hatched.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from cka_probe.errors import DataError
from cka_probe.plotting import FigureFile, labels, style
from cka_probe.plotting.heatmap import number
from cka_probe.plotting.pen import Pen, legend_lines

NEEDED = ("x", "y", "when", "index", "layer", "value")
WHENS = ("before", "after", "self")
ACROSS = 3
MARGIN, TITLE, BELOW, BETWEEN, BAR, KEY = 0.08, 0.18, 0.2, 0.16, 0.55, 0.16  # inches
LONGEST, LARGEST, NUMBERED = 1.75, 0.34, 0.2  # of an arm's name, of a cell, and of a cell with room for a number
SAID = ("below the diagonal: before fine-tuning", "above: after", "on it: each arm before and after")
NOT_COMPARED: dict[str, Any] = {"color": "#8a8a8a", "marker": ".", "linestyle": "", "markeredgewidth": 0.0}


@dataclass(frozen=True)
class ArmMaps:
    """What is drawn.

    Attributes:
        table: One row for each two arms, when ("before", "after"; "self" where x is y) and layer: x, y, when, index,
            layer, value (NaN: undefined).
        arms: Their names in order, by what x and y hold.
    """

    table: pd.DataFrame
    arms: dict[str, str]


@dataclass(frozen=True)
class Plan:
    """Where things go, in inches: left of the first square, how many are beside each other, side of a cell and of a
    square, width and height of all."""

    left: float
    across: int
    cell: float
    side: float
    size: tuple[float, float]

    def place(self, panel: int) -> tuple[float, float]:
        """Return left and top of a square."""
        row, column = divmod(panel, self.across)
        return (
            self.left + column * (self.side + BETWEEN),
            MARGIN + TITLE + row * (self.side + TITLE + BELOW),
        )


def arm_maps(drawn: ArmMaps, ax: Axes, *, page: float = math.inf) -> Axes:
    """Draw the squares on `ax`, which they fill.

    Args:
        drawn: What to draw.
        ax: Axes of the proportions of `arm_maps_size`; with others some of it stays empty.
        page: Inches that it may be wide at most, such as `style.page_for` of a venue.

    Returns:
        `ax`.

    Raises:
        DataError: There is nothing, a column is missing, an arm has no name, or two rows are for one cell.
    """
    plan, layers = _plan(drawn, page), _layers(drawn)
    pen = Pen(ax, plan.size, design=1.0)
    for place, (index, layer) in enumerate(layers.items()):
        x, y = plan.place(place)
        pen.text(x, y - TITLE / 2, labels.cut(f"{index}  {layer}", pen.room(plan.side)), weight="bold")
        image = _draw_square(pen, plan, _cells(drawn, index), (x, y))
        for number_, name in enumerate(drawn.arms.values() if place % plan.across == 0 else []):
            words = labels.cut(f"{name}  {number_}", LONGEST * style.POINTS / 6)
            pen.text(x - 0.05, y + (number_ + 0.5) * plan.cell, words, align="right")
        for number_ in range(0, len(drawn.arms), labels.step_for(plan.cell, needed=0.13)):
            pen.text(x + (number_ + 0.5) * plan.cell, y + plan.side + 0.08, str(number_), align="center")
    _draw_bar(pen, plan, image, min(len(layers), plan.across))
    _write_key(pen, drawn)
    return ax


def arm_maps_size(drawn: ArmMaps, *, page: float = math.inf) -> tuple[float, float]:
    """Return width and height in inches, letters of 6 and 7 points given; `page` as above."""
    return _plan(drawn, page).size


def _plan(drawn: ArmMaps, page: float) -> Plan:
    _check(drawn)
    names = [f"{name}  {number_}" for number_, name in enumerate(drawn.arms.values())]
    left = MARGIN + 0.06 + min(max(map(labels.width, names)) * 6 / style.POINTS * 1.06, LONGEST)
    across, cell = _arrange(len(drawn.arms), left, page)
    side, count = cell * len(drawn.arms), len(_layers(drawn))
    rows = -(-count // across)
    width = max(left + min(count, across) * (side + BETWEEN) - BETWEEN + BAR, style.COLUMN)
    words, entries = _key(drawn, width)
    lines = len(words) + len(entries)
    return Plan(left, across, cell, side, (width, 2 * MARGIN + rows * (side + TITLE + BELOW) + lines * KEY))


def _arrange(arms: int, left: float, page: float) -> tuple[int, float]:
    """Return how many squares are beside each other on a page, and the side of a cell.

    On a narrow page they are fewer where cells would lose their numbers, or be smaller than on a wide one.
    """

    def cell(width: float, across: int) -> float:
        return min((width - left - BAR - (across - 1) * BETWEEN) / across / arms, LARGEST)

    needed, page = min(cell(style.PAGE, ACROSS), NUMBERED), min(style.PAGE, page)
    across = next((across for across in range(ACROSS, 1, -1) if cell(page, across) >= needed), 1)
    return across, cell(page, across)


def _check(drawn: ArmMaps) -> None:
    if missing := [name for name in NEEDED if name not in drawn.table]:
        raise DataError(f"expected a table with columns {', '.join(NEEDED)}, found no {', '.join(missing)}; add them")
    if drawn.table.empty or not drawn.arms:
        raise DataError("expected at least one comparison of arms to draw, found none; compare some first")
    if unknown := sorted((set(drawn.table["x"]) | set(drawn.table["y"])) - set(drawn.arms)):
        raise DataError(f"expected a name for every arm, found none for {', '.join(map(str, unknown))}; name them")
    if wrong := sorted(set(drawn.table["when"]) - set(WHENS)):
        raise DataError(f"expected {', '.join(WHENS)} as when arms are compared, found {wrong[0]!r}")
    places = [(*sorted((row.x, row.y)), row.when, row.index_) for row in _rows(drawn.table)]
    if len(set(places)) < len(places):
        raise DataError("expected one value for two arms, when and layer, found several; choose one")


def _rows(table: pd.DataFrame) -> Iterable:
    return table.rename(columns={"index": "index_"}).itertuples()


def _layers(drawn: ArmMaps) -> dict[int, str]:
    return dict(sorted(zip(drawn.table["index"], drawn.table["layer"], strict=True)))


def _cells(drawn: ArmMaps, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the square of a layer, and which of its cells were compared, both (arms, arms)."""
    order = {arm: number_ for number_, arm in enumerate(drawn.arms)}
    values, there = np.full((len(order), len(order)), np.nan), np.zeros((len(order), len(order)), bool)
    for row in _rows(drawn.table[drawn.table["index"] == index]):
        low, high = sorted((order[row.x], order[row.y]))
        place = (low, high) if row.when == "after" else (high, low)  # "self" is on the diagonal either way
        values[place], there[place] = row.value, True
    return values, there


def _draw_square(pen: Pen, plan: Plan, cells: tuple[np.ndarray, np.ndarray], place: tuple[float, float]):
    """Draw one layer and return its image."""
    values, there = cells
    panel = pen.panel((*place, plan.side, plan.side))
    look: dict[str, Any] = {"cmap": style.COLOURS, "vmin": 0, "vmax": 1, "interpolation": "nearest", "aspect": "auto"}
    image = panel.imshow(np.ma.masked_invalid(values), **look)
    panel.set(xticks=[], yticks=[])
    rows, columns = np.nonzero(~there)
    panel.plot(
        columns, rows, markersize=min(4.0, 30 * plan.cell) * pen.scale, scalex=False, scaley=False, **NOT_COMPARED
    )
    for row, column in np.argwhere(there & ~np.isfinite(values)):
        panel.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, **style.UNDEFINED))
    for each in range(len(values)):
        for colour, wide in (("white", 1.4), ("black", 0.5)):  # one of them is seen on any colour
            outline: dict[str, Any] = {"fill": False, "edgecolor": colour, "linewidth": wide * pen.scale}
            panel.add_patch(Rectangle((each - 0.5, each - 0.5), 1, 1, **outline))
    if plan.cell >= NUMBERED:
        _write_numbers(panel, values, pen.sizes.small)
    return image


def _write_numbers(panel: Axes, values: np.ndarray, size: float) -> None:
    colours = colormaps[style.COLOURS]
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            look: dict[str, Any] = {"color": style.letters_on(colours(float(np.clip(value, 0, 1)))), "fontsize": size}
            panel.text(column, row, number(value), ha="center", va="center_baseline", **look)


def _key(drawn: ArmMaps, width: float) -> tuple[list[str], list[list]]:
    """Return the lines that say where on a square things are, and those of the legend."""
    words = labels.filled(
        [f"{part};" for part in SAID[:-1]] + [SAID[-1]], 0.94 * (width - 2 * MARGIN) * style.POINTS / 6
    )
    there = [cells[1] for cells in (_cells(drawn, index) for index in _layers(drawn))]
    handles: list[Any] = [] if np.all(there) else [Line2D([], [], **NOT_COMPARED, markersize=4, label="not compared")]
    if not np.isfinite(drawn.table["value"]).all():
        handles.append(style.undefined_key())
    return words, legend_lines(handles, width - 2 * MARGIN)


def _write_key(pen: Pen, drawn: ArmMaps) -> None:
    words, legend = _key(drawn, pen.size[0])
    y = pen.size[1] - MARGIN - (len(words) + len(legend) - 0.5) * KEY
    for line in words:
        pen.text(MARGIN, y, line)
        y += KEY
    for handles in legend:
        pen.legend(handles, MARGIN, y)
        y += KEY


def _draw_bar(pen: Pen, plan: Plan, image, across: int) -> None:
    left = plan.left + across * (plan.side + BETWEEN) - BETWEEN + 0.1
    panel = pen.panel((left, plan.place(0)[1], 0.09, plan.side))
    bar = pen.ax.figure.colorbar(image, cax=panel, ticks=np.linspace(0, 1, 6 if plan.side > 0.8 else 3))
    bar.outline.set_linewidth(style.FRAME * pen.scale)
    bar.set_label("CKA", fontsize=pen.sizes.text, labelpad=2 * pen.scale)
    panel.tick_params(labelsize=pen.sizes.small)


save_arm_maps = FigureFile(arm_maps, arm_maps_size)
"""Draw the squares into files: `save_arm_maps(drawn, paths, style=…, venue=…)`. Same input, same bytes."""
