"""Scores of arms with their intervals: a panel for each measure, a row for each arm, the paper's number beside ours.

The image of a table of scores: whether two arms differ is seen by whether their intervals do. Above each panel stand
the measure, its unit and which way is better, with an arrow that points there. Axes begin where the numbers do and not
at 0, since they are read by place and not by length.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from cka_probe.errors import DataError
from cka_probe.plotting import FigureFile, labels, style
from cka_probe.plotting.labels import plain_numbers
from cka_probe.plotting.pen import Pen

NEEDED = ("arm", "measure", "value", "low", "high")
ACROSS, NARROWEST = 3, 1.45  # panels beside each other, while they have so many inches
ROW, TITLE, TICKS, KEY, MARGIN = 0.17, 0.2, 0.24, 0.2, 0.08  # inches
BETWEEN, RIGHT = 0.28, 0.16  # with room for half a number
LONGEST = 1.9  # inches for the name of an arm
DIRECTIONS = {
    "lower": "lower is better \N{LEFTWARDS ARROW}",
    "higher": "higher is better \N{RIGHTWARDS ARROW}",
    "": "",
}
OURS: dict[str, Any] = {"color": style.ARMS[0], "marker": "o", "linestyle": ""}
PAPER: dict[str, Any] = {"color": style.ARMS[1], "marker": "D", "markerfacecolor": "white", "linestyle": ""}


def score_panels(table: pd.DataFrame, ax: Axes, *, page: float = math.inf) -> Axes:
    """Draw the scores on `ax`, which they fill.

    Args:
        table: One row for each arm and measure: arm, measure, value, low, high (NaN: there is none); and if it has
            them: unit ("m"), better ("lower", "higher", ""), paper (the published number, NaN: none is known), state
            (words to write where there is no value, such as "not run").
        ax: Axes of the proportions of `score_panels_size`; with others some of it stays empty.
        page: Inches that it may be wide at most, such as `style.page_for` of a venue.

    Returns:
        `ax`.

    Raises:
        DataError: A column is missing, there is no row, an arm has a measure twice, or a direction is not one.
    """
    _check(table)
    arms, measures = list(table["arm"].unique()), list(table["measure"].unique())
    left, (across, size) = _left(arms), _plan(table, page)
    pen = Pen(ax, size, design=1.0)
    width = (size[0] - left - RIGHT - (across - 1) * BETWEEN) / across
    for place, measure in enumerate(measures):
        row, column = divmod(place, across)
        x, y = left + column * (width + BETWEEN), MARGIN + row * (TITLE + len(arms) * ROW + TICKS)
        rows = table[table["measure"] == measure].set_index("arm").reindex(arms)
        panel = pen.panel((x, y + TITLE, width, len(arms) * ROW))
        _write_title(pen, rows, measure, (x, y + TITLE / 2, width))
        _draw_scores(panel, rows, pen, pen.room(width))
        for number, arm in enumerate(arms if column == 0 else []):
            name = labels.cut(str(arm), LONGEST * style.POINTS / 6)
            pen.text(left - 0.06, y + TITLE + (number + 0.5) * ROW, name, align="right")
    _draw_key(pen, table, left)
    return ax


def score_panels_size(table: pd.DataFrame, *, page: float = math.inf) -> tuple[float, float]:
    """Return width and height in inches, letters of 6 and 7 points given; `page` as above."""
    return _plan(table, page)[1]


def _plan(table: pd.DataFrame, page: float) -> tuple[int, tuple[float, float]]:
    """Return how many panels are beside each other, and width and height of everything in inches."""
    _check(table)
    arms, measures = table["arm"].unique(), table["measure"].nunique()
    width = min(page, style.PAGE if measures >= ACROSS else max(style.COLUMN, style.PAGE * measures / ACROSS))
    room = math.inf if page >= style.PAGE else width - _left(arms) - RIGHT + BETWEEN
    across = max(1, min(ACROSS, measures, int(min(room / (NARROWEST + BETWEEN), ACROSS))))
    return across, (width, 2 * MARGIN + -(-measures // across) * (TITLE + len(arms) * ROW + TICKS) + KEY)


def _check(table: pd.DataFrame) -> None:
    if missing := [name for name in NEEDED if name not in table]:
        raise DataError(f"expected scores with columns {', '.join(NEEDED)}, found no {', '.join(missing)}; add them")
    if table.empty:
        raise DataError("expected at least one score to draw, found none; evaluate a checkpoint first")
    if table.duplicated(["arm", "measure"]).any():
        arm, measure = table.loc[table.duplicated(["arm", "measure"]), ["arm", "measure"]].iloc[0]
        raise DataError(f"expected one score for each arm and measure, found several of {arm} in {measure}; choose one")
    if "better" in table and (wrong := set(table["better"]) - set(DIRECTIONS)):
        raise DataError(f'expected "lower", "higher" or "" as what is better, found {sorted(map(str, wrong))[0]!r}')


def _left(arms: Sequence[str]) -> float:
    """Return the inches that the names of the arms take."""
    return MARGIN + 0.06 + min(max(labels.width(str(arm)) for arm in arms) * 6 / style.POINTS * 1.06, LONGEST)


def _write_title(pen: Pen, rows: pd.DataFrame, measure: str, place: tuple[float, float, float]) -> None:
    """Write measure and unit to the left, which way is better to the right; `place` is left, middle and width."""
    unit, better = (str(rows[name].dropna().iloc[0]) if name in rows else "" for name in ("unit", "better"))
    name, words = f"{measure} ({unit})" if unit else measure, DIRECTIONS[better]
    room = pen.room(place[2]) - labels.width(words) - 1  # bold letters are wider, a "t" by a fifth
    pen.text(place[0], place[1], labels.cut(name, room / 1.25), weight="bold")
    pen.text(place[0] + place[2], place[1], words, align="right")


def _draw_scores(panel: Axes, rows: pd.DataFrame, pen: Pen, room: float) -> None:
    """Draw one measure of all arms, the first on top, with numbers below that have a room in em."""
    size = {"markersize": 3.6 * pen.scale, "markeredgewidth": 0.8 * pen.scale}
    index, value, low, high = np.arange(len(rows)), *(rows[name].to_numpy(float) for name in NEEDED[2:])
    panel.hlines(index, low, high, color=OURS["color"], linewidth=1.2 * pen.scale)
    if "paper" in rows:
        panel.plot(rows["paper"].to_numpy(float), index, zorder=4, **PAPER | size)
    panel.plot(value, index, zorder=3, **OURS | size)
    panel.set_ylim(len(rows) - 0.5, -0.5)
    panel.set_yticks([])
    panel.margins(x=0.08)
    for y in index[1:]:
        panel.axhline(y - 0.5, color="#dcdcdc", linewidth=0.4 * pen.scale, zorder=0)
    for y in index[~np.isfinite(value)]:
        state = rows["state"].iloc[y] if "state" in rows else ""
        words = state if isinstance(state, str) and state else "\N{EN DASH}"
        place: dict[str, Any] = {"transform": panel.get_yaxis_transform(), "ha": "left", "va": "center"}
        panel.text(0.02, y, words, fontsize=pen.sizes.small, color="#707070", **place)
    if not np.isfinite(np.concatenate([value, low, high])).any() and not panel.dataLim.width > 0:
        panel.set_xticks([])
        return
    plain_numbers(panel.xaxis, 4, room)


def _draw_key(pen: Pen, table: pd.DataFrame, left: float) -> None:
    """Say what the markers are."""
    handles = [Line2D([], [], **OURS | {"linestyle": "-"}, markersize=3.6, linewidth=1.2, label="ours, 95 % interval")]
    if "paper" in table and table["paper"].notna().any():
        handles.append(Line2D([], [], **PAPER, markersize=3.6, markeredgewidth=0.8, label="the paper's"))
    pen.legend(handles, left, pen.size[1] - MARGIN - KEY / 2)


save_score_panels = FigureFile(score_panels, score_panels_size)
"""Draw scores into files: `save_score_panels(table, paths, style=…, venue=…)`. Same input, same bytes."""
