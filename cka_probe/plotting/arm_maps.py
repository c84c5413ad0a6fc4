"""How alike arms are, layer by layer: a small square for each layer, arms down and across.

Below the diagonal two arms are compared before fine-tuning, above it after, and on it each arm before with itself
after. So one square says both whether arms differ and whether fine-tuning makes them alike: it is lighter above than
below. The scale of colours is 0 to 1. Pairs that were not compared, such as networks of other data, are a dot on white,
which no value is; pairs that were compared and have no value are hatched.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import figure as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from cka_probe.errors import DataError
from cka_probe.plotting import labels, style
from cka_probe.plotting.figure import add_legend, inches, panels
from cka_probe.plotting.matrix import Map
from cka_probe.plotting.scores import check_table

COLUMNS = ("x", "y", "when", "index", "layer", "value")
WHENS = ("before", "after", "self")
LONGEST = 21.0
"""Em of the name of an arm."""
NUMBERED = 0.2
"""Inches of a cell with room for a number."""
MOST = 3
"""Squares next to each other."""
PARTS = ("below the diagonal: before fine-tuning;", "above: after;", "on it: each arm before and after")
NOT_COMPARED: dict[str, Any] = {"color": "#8a8a8a", "marker": ".", "linestyle": "", "markeredgewidth": 0.0}


@dataclass(frozen=True)
class ArmMaps:
    """Similarities of the arms of an experiment.

    Attributes:
        table: One row for each two arms, when ("before", "after"; "self" where x is y) and layer: x, y, when, index,
            layer, value (NaN: undefined).
        arms: Their names in order, by what x and y hold.

    Raises:
        DataError: There is nothing, a column is missing, an arm has no name, or two rows are for one cell.
    """

    table: pd.DataFrame
    arms: dict[str, str]

    def __post_init__(self) -> None:
        table = self.table
        check_table(table, COLUMNS, "comparisons of arms")
        if unknown := sorted((set(table["x"]) | set(table["y"])) - set(self.arms)):
            raise DataError(f"expected a name for every arm, found none for {', '.join(map(str, unknown))}; name them")
        if wrong := sorted(set(table["when"]) - set(WHENS)):
            raise DataError(f"expected {', '.join(WHENS)} as when arms are compared, found {wrong[0]!r}")
        pairs = table[["x", "y"]].apply(sorted, axis=1, result_type="expand")
        if pd.concat([pairs, table[["when", "index"]]], axis=1).duplicated().any():
            raise DataError("expected one value for two arms, when and layer, found several; choose one")

    @property
    def width(self) -> float:
        """Width in print, inches."""
        return style.PAGE if self.table["index"].nunique() > 1 else self.narrowest

    @property
    def narrowest(self) -> float:
        """Width in print with all squares below each other, inches."""
        return max(style.COLUMN, self._names_width + 0.12 * len(self.arms) + 0.7)

    @property
    def _names(self) -> list[str]:
        return [labels.cut(name, LONGEST) for name in labels.numbered(list(self.arms.values()))]

    @property
    def _names_width(self) -> float:
        return labels.print_width(self._names)

    def draw(self, figure: mpl.Figure) -> None:
        """Draw on an empty figure, fewer squares next to each other where cells would lose their numbers."""
        layers = dict(sorted(zip(self.table["index"], self.table["layer"], strict=True)))
        room, most = inches(figure) - self._names_width - 0.7, min(MOST, len(layers))
        needed = min((style.PAGE - self._names_width - 0.7) / MOST, NUMBERED * len(self.arms) + 0.1)
        across = next((number for number in range(most, 1, -1) if room / number >= needed), 1)
        cell = (room / max(across, min(len(layers), 2)) - 0.1) / len(self.arms)
        axes, _ = panels(figure, len(layers), most=across, narrowest=0.1)
        compared = []
        for number, (ax, (index, layer)) in enumerate(zip(axes, layers.items(), strict=True)):
            last = number % across == across - 1 or number == len(layers) - 1
            compared.append(self._draw_layer(ax, index, cell, bar=last))
            title = labels.cut(f"{index}  {layer}", style.em(cell * len(self.arms)), bold=True)
            ax.set_title(title, fontsize=style.small(), weight="bold")
            ax.tick_params(labelleft=number % across == 0, length=0)
        keys: list[Artist] = []
        if not np.all(compared):
            keys.append(Line2D([], [], **NOT_COMPARED, markersize=style.points(4), label="not compared"))
        add_legend(figure, keys, title="\n".join(labels.filled(PARTS, style.em(0.94 * inches(figure)))))

    def _draw_layer(self, ax: Axes, index: int, cell: float, *, bar: bool) -> np.ndarray:
        """Draw one square with cells of so many inches, and return which of its cells were compared, (arms, arms)."""
        values, compared = self._cells(index)
        names = self._names
        square = Map(values, names, names, style.COLOURS, (0.0, 1.0), "CKA")
        mesh = square.draw_cells(ax, numbered=cell >= NUMBERED, blank=~compared)
        if bar:
            square.add_colour_bar(ax, mesh)
        rows, columns = np.nonzero(~compared)
        size = style.points(min(4.0, 30 * cell))
        ax.plot(columns + 0.5, rows + 0.5, markersize=size, scalex=False, scaley=False, **NOT_COMPARED)
        for arm in range(len(values)):
            for colour, width in (("white", 1.4), ("black", 0.5)):  # one of them is seen on any colour
                outline: dict[str, Any] = {"edgecolor": colour, "linewidth": style.points(width)}
                ax.add_patch(Rectangle((arm, arm), 1, 1, fill=False, **outline))
        indices = range(0, len(names), labels.step_for(cell, 0.13))
        ax.set_xticks(np.array(indices) + 0.5, list(map(str, indices)), rotation=0)
        ax.set_yticks(np.arange(len(names)) + 0.5, names, rotation=0)
        return compared

    def _cells(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the values of a layer, and which pairs were compared, both (arms, arms)."""
        order = {arm: number for number, arm in enumerate(self.arms)}
        values, compared = np.full((len(order), len(order)), np.nan), np.zeros((len(order), len(order)), bool)
        of_layer = self.table[self.table["index"] == index]
        for x, y, when, value in of_layer[["x", "y", "when", "value"]].itertuples(index=False):
            low, high = sorted((order[x], order[y]))
            cell = (low, high) if when == "after" else (high, low)  # "self" is on the diagonal either way
            values[cell], compared[cell] = value, True
        return values, compared
