"""Scores of arms with their intervals: a panel for each measure, a row for each arm, the paper's number next to ours.

The image of a table of scores: whether two arms differ is seen by whether their intervals do. Above each panel stand
the measure, its unit and which way is better, with an arrow that points there. Axes begin where the numbers do and not
at 0, since they are read by position and not by length.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import figure as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from cka_probe.errors import DataError
from cka_probe.plotting import labels, style
from cka_probe.plotting.figure import across, add_legend, inches, panels

NEEDED = ("arm", "measure", "value", "low", "high")
MOST, NARROWEST = 3, 1.6
"""Panels next to each other, while each has so many inches."""
ROW, BETWEEN = 0.17, 0.2
"""Inches: height of an arm, and gap between panels."""
LONGEST = 22.0
"""Em for the name of an arm."""
DIRECTIONS = {
    "lower": "lower is better \N{LEFTWARDS ARROW}",
    "higher": "higher is better \N{RIGHTWARDS ARROW}",
    "": "",
}


@dataclass(frozen=True)
class ScorePanels:
    """Scores of arms.

    Attributes:
        table: One row for each arm and measure: arm, measure, value, low, high (NaN: there is none); and if it has
            them: unit ("m"), better ("lower", "higher", ""), paper (the published number, NaN: none is known), state
            (words to write where there is no value, such as "not run").

    Raises:
        DataError: A column is missing, there is no row, an arm has a measure twice, or a direction is not one.
    """

    table: pd.DataFrame

    narrowest = style.COLUMN

    def __post_init__(self) -> None:
        table = self.table
        if missing := [name for name in NEEDED if name not in table]:
            raise DataError(
                f"expected scores with columns {', '.join(NEEDED)}, found no {', '.join(missing)}; add them"
            )
        if table.empty:
            raise DataError("expected at least one score to draw, found none; evaluate a checkpoint first")
        if (duplicates := table.duplicated(["arm", "measure"])).any():
            arm, measure = table.loc[duplicates, ["arm", "measure"]].iloc[0]
            raise DataError(
                f"expected one score for each arm and measure, found several of {arm} in {measure}; choose one"
            )
        if "better" in table and (wrong := set(table["better"]) - set(DIRECTIONS)):
            raise DataError(f'expected "lower", "higher" or "" as what is better, found {sorted(map(str, wrong))[0]!r}')

    @property
    def width(self) -> float:
        """Width in print, inches."""
        return max(style.COLUMN, style.PAGE * min(1.0, self.table["measure"].nunique() / MOST))

    def draw(self, figure: mpl.Figure) -> None:
        """Draw on an empty figure."""
        arms, measures = list(self.table["arm"].unique()), list(self.table["measure"].unique())
        names = [labels.cut(str(arm), LONGEST) for arm in arms]
        left = max(map(labels.width, names)) * style.SMALL / 72
        axes = panels(figure, len(measures), most=MOST, narrowest=NARROWEST + left / MOST, gap=BETWEEN)
        columns = across(axes)
        width = (inches(figure) - left - 0.1 - BETWEEN * (columns - 1)) / columns
        for number, (ax, measure) in enumerate(zip(axes, measures, strict=True)):
            rows = self.table[self.table["measure"] == measure].set_index("arm").reindex(arms)
            ax.set_box_aspect(ROW * len(arms) / width)
            _draw_scores(ax, rows)
            _write_title(ax, rows, measure, width)
            ax.set_yticks(range(len(arms)), names if number % columns == 0 else [])
            ax.tick_params(axis="y", length=0)
        ours, paper = _looks()
        handles: list[Artist] = [Line2D([], [], **ours | {"linestyle": "-"}, label="ours, 95 % interval")]
        if "paper" in self.table and self.table["paper"].notna().any():
            handles.append(Line2D([], [], **paper, label="the paper's"))
        add_legend(figure, handles)


def _looks() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return how our numbers and the paper's look."""
    ours, paper = (style.arm(number) | {"markersize": style.points(3.6), "linestyle": ""} for number in (0, 1))
    return ours, paper | {"marker": "D", "markerfacecolor": "white", "markeredgewidth": style.points(0.8)}


def _draw_scores(ax: Axes, rows: pd.DataFrame) -> None:
    """Draw one measure of all arms, the first on top."""
    ours, paper = _looks()
    index, value, low, high = np.arange(len(rows)), *(rows[name].to_numpy(float) for name in NEEDED[2:])
    ax.hlines(index, low, high, color=ours["color"], linewidth=style.points(1.2))
    if "paper" in rows:
        ax.plot(rows["paper"].to_numpy(float), index, zorder=4, **paper)
    ax.plot(value, index, zorder=3, **ours)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.margins(x=0.08)
    ax.spines[:].set_visible(True)
    for y in index[1:]:
        ax.axhline(y - 0.5, color="#dcdcdc", linewidth=style.points(0.4), zorder=0)
    for y in index[~np.isfinite(value)]:
        state = rows["state"].iloc[y] if "state" in rows else ""
        words = state if isinstance(state, str) and state else "\N{EN DASH}"
        look: dict[str, Any] = {"fontsize": style.small(), "color": style.GREY, "va": "center"}
        ax.text(0.02, y, words, transform=ax.get_yaxis_transform(), **look)
    ax.locator_params(axis="x", nbins=4)
    if not np.isfinite(ax.dataLim.intervalx).all():
        ax.set_xticks([])


def _write_title(ax: Axes, rows: pd.DataFrame, measure: str, width: float) -> None:
    """Write measure and unit to the left, which way is better to the right, above a panel of so many inches."""
    unit, better = (str(rows[name].dropna().iloc[0]) if name in rows else "" for name in ("unit", "better"))
    words = DIRECTIONS[better]
    room = (width * 72 - labels.width(words) * style.SMALL) / style.TEXT - 1.5
    ax.set_title(labels.cut(f"{measure} ({unit})" if unit else measure, room))
    ax.set_title(words, loc="right", fontsize=style.small())
