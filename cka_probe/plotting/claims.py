"""Claims with the numbers that test them, as a forest plot: one row for each, to its left the claim in words.

Each claim is put so that its statistic is above 0 if it is true, so that all share the line at 0 though not their
units: claims of one unit share a scale, of which the widest interval fills the panel, and the numbers stand next to it.
The verdict is told by its words, by its marker and by colour, in this order.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import figure as mpl
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.transforms import blended_transform_factory

from cka_probe import registry
from cka_probe.plotting import labels, style
from cka_probe.plotting.figure import inches
from cka_probe.plotting.scores import check_intervals, check_table

STATEMENT, VERDICT = 0.46, 26.0
"""Width of a claim, of the page's, and em of a verdict."""
LINE, AIR = 0.115, 0.09
"""Inches: height of a line, and between rows."""
MOST_DIGITS = 5
"""Before the point of a number, and after it."""

COLUMNS = ("name", "statement", "unit", "value", "low", "high", "verdict", "verdict_text")
VERDICTS: Mapping[str, tuple[str, str, bool]] = {
    "holds": (style.ARMS[0], "o", True),
    "does not hold": (style.ARMS[1], "X", True),
    "undecided": (style.GREY, "D", False),
    "undefined": (style.GREY, "", False),
    "not run": (style.GREY, "", False),
}
"""Colour, marker, and whether it is filled, of each verdict; those without a number have no marker."""


@dataclass(frozen=True)
class Claims:
    """A forest plot.

    Attributes:
        table: One row for each claim, from above: name; statement, in words; unit of the numbers, "" for none; value,
            above 0 if the claim is true, with low and high of its 95 % interval (NaN: there is none); verdict, a key of
            `VERDICTS`; verdict_text, the verdict with its reason, "" for the verdict alone.

    Raises:
        DataError: There is no claim, a column is missing, or an interval does not hold its value.
        UnknownNameError: No such verdict.
    """

    table: pd.DataFrame

    width = style.PAGE
    narrowest = 5.4

    def __post_init__(self) -> None:
        check_table(self.table, COLUMNS, "claims")
        check_intervals(*(self.table[name] for name in ("name", "value", "low", "high")))
        for verdict in self.table["verdict"]:
            registry.get(VERDICTS, verdict, "verdict")

    def draw(self, figure: mpl.Figure) -> None:
        """Draw on an empty figure."""
        room, rows = style.em(STATEMENT * inches(figure)), list(self.table.itertuples())
        statements = [labels.wrapped(row.statement or row.name, room) for row in rows]
        verdicts = [_verdict(row) for row in rows]
        lines = [max(map(str.count, words, "\n\n")) + 1 for words in zip(statements, verdicts, strict=True)]
        edges = np.cumsum([0.0, *(LINE * count + AIR for count in lines)])
        middles = (edges[:-1] + edges[1:]) / 2
        left, right = labels.print_width(statements), labels.print_width(verdicts)
        ax = figure.add_subplot()
        ax.set_box_aspect(edges[-1] / (inches(figure) - left - right - 0.4))
        ax.set(xlim=(-1.08, 1.08), ylim=(edges[-1], 0))
        ax.spines[:].set_visible(False)
        ax.patch.set_visible(False)
        ax.axvline(0, color="black", linewidth=style.points(0.6))
        ax.xaxis.tick_top()
        ax.set_xticks([-0.6, 0, 0.6], ["\N{LEFTWARDS ARROW} against", "0", "for \N{RIGHTWARDS ARROW}"])
        ax.tick_params(axis="x", length=0)
        ax.set_yticks(middles, statements, horizontalalignment="left")
        ax.tick_params(axis="y", length=0, pad=style.points(72 * left + 6))
        verdict_axis = ax.secondary_yaxis("right")
        verdict_axis.set_yticks(middles, verdicts)
        verdict_axis.tick_params(length=0, pad=style.points(6))
        verdict_axis.spines[:].set_visible(False)
        for y, row, words in zip(middles, rows, verdict_axis.get_yticklabels(), strict=True):
            words.set_color(VERDICTS[row.verdict][0])
            self._draw_value(ax, row, y)
        _draw_bands(ax, edges)
        foot = labels.wrapped(self._foot, style.em(inches(figure) - 0.2))
        figure.supxlabel(foot, x=0.01, horizontalalignment="left", fontsize=style.small())

    @cached_property
    def _scales(self) -> dict[str, float]:
        """The number at the right end of the panel for each unit that has a number."""
        ends = self.table[["value", "low", "high"]].abs().max(axis=1).groupby(self.table["unit"], sort=False).max()
        return ends.dropna().replace(0.0, 1.0).to_dict()

    @property
    def _foot(self) -> str:
        """What the width of the panel is in each unit."""
        numbers = {unit: f"{end:.0f}" if end >= 100 else f"{end:.2g}" for unit, end in self._scales.items()}
        ends = ", ".join(f"{end} {unit}".strip() for unit, end in numbers.items())
        return f"Claims of one unit share a scale; from 0 to the edge it is {ends}." if ends else ""

    def _draw_value(self, ax: Axes, row: Any, y: float) -> None:
        """Draw value and interval in parts of the scale's end."""
        colour, marker, full = VERDICTS[row.verdict]
        look: dict[str, Any] = {"marker": marker, "color": colour, "markerfacecolor": colour if full else "white"}
        look |= {"markersize": style.points(4.2), "linestyle": "", "zorder": 3}
        value, low, high = np.array([row.value, row.low, row.high]) / self._scales.get(row.unit, 1.0)
        bar = {"elinewidth": style.points(1.2), "capthick": style.points(1.2), "capsize": style.points(1.8)}
        ax.errorbar([value], [y], xerr=[[value - low], [high - value]], **look | bar)


def _draw_bands(ax: Axes, edges: np.ndarray) -> None:
    """Draw every other row on grey, across the page."""
    page = blended_transform_factory(ax.figure.transFigure, ax.transData)
    for top, bottom in zip(edges[:-1:2], edges[1::2], strict=False):
        band: dict[str, Any] = {"facecolor": "#f3f3f3", "linewidth": 0, "zorder": -2, "clip_on": False}
        ax.add_patch(Rectangle((0, top), 1, bottom - top, transform=page, **band)).set_in_layout(False)


def _verdict(row: Any) -> str:
    """Return the verdict and, below it, the numbers."""
    words = labels.wrapped(row.verdict_text or row.verdict, VERDICT)
    return f"{words}\n{_numbers(row)}".rstrip()


def _numbers(row: Any) -> str:
    """Return value and interval to the digits that the interval's width, or else the value, is worth; "" without."""
    if not np.isfinite(row.value):
        return ""
    width = row.high - row.low if np.isfinite(row.high - row.low) and row.high > row.low else abs(row.value)
    digits = int(np.clip(1 - np.floor(np.log10(width)), 0, MOST_DIGITS)) if width > 0 else 2
    value, low, high = (_number(number, digits) for number in (row.value, row.low, row.high))
    return f"{value} {f'[{low}, {high}] ' if np.isfinite(row.low) else ''}{row.unit}".rstrip()


def _number(number: float, digits: int) -> str:
    """Return a number with so many decimals, or by its power of ten where it would be too long or nothing be left."""
    long = number and not 10.0**-MOST_DIGITS <= abs(number) < 10.0**MOST_DIGITS
    words = f"{number:.1e}" if long else f"{round(number, digits) + 0.0:.{digits}f}"  # + 0.0: no minus before nothing
    return re.sub(r"e[+]?(-?)0?", r"e\1", words).replace("-", "\N{MINUS SIGN}")
