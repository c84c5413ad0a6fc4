"""One panel of learning curves: what some runs logged or validated, against the step.

An arm with several runs has a thick line, their median, over a band from the lowest of them to the highest, and each
run is a faint line in it; both are where all runs are. A share of what is right has a linear axis, since equal steps of
it are what is compared; everything else, losses and errors and rates, has a logarithmic one where it is above 0.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from cka_probe.errors import DataError
from cka_probe.plotting import FigureFile, labels, style
from cka_probe.plotting.labels import PlainNumbers, logarithmic, plain_numbers
from cka_probe.plotting.pen import Pen, bold_width, legend_lines
from cka_probe.plotting.runs import Run

if TYPE_CHECKING:
    from cka_probe.lab.evaluation.scores import Measure

RATE = "lr"
WORDS = {
    RATE: "learning rate",
    "gradient": "gradient, norm",
    "miou": "mIoU",
    "miou_subset": "mIoU, some classes",
    "miou_per_image": "mIoU of an image",
    "miou_subset_per_image": "mIoU of an image, some classes",
    "correct": "share that is right",
}
LOGARITHMIC = ", log scale"
MARKS = 5  # on a line, about
BAND = 0.16  # opacity


@cache
def measures() -> "dict[str, Measure]":
    """Return the measures of validation that have a name and a direction; the lab is loaded when curves are drawn."""
    from cka_probe.lab.evaluation.label_scores import LABEL_MEASURES
    from cka_probe.lab.evaluation.scores import MEASURES

    return {**LABEL_MEASURES, **MEASURES}


def is_share(name: str) -> bool:
    """Return whether a column is a share of what is right, 0 to 1.

    >>> is_share("accuracy"), is_share("delta1_constant"), is_share("abs_rel")
    (True, True, False)
    """
    first = name.removesuffix("_constant").removesuffix("_median")  # of the same measure, taken otherwise
    known = measures()
    return name == "correct" or name.startswith("iou/") or (first in known and known[first].better == "higher")


def draw_panel(panel: Axes, arms: dict[str, list[Run]], name: str, pen: Pen, *, validated: bool) -> str:
    """Draw a column of all runs and return what to write above it.

    Args:
        panel: Empty axes.
        arms: Runs by arm, in the legend's order.
        name: Of the column.
        pen: Of the page.
        validated: Draw what validation measured of it too.
    """
    shown: list[np.ndarray] = []
    for number, runs in enumerate(arms.values()):
        look = style.arm_look(number, pen.scale)
        logs = _columns([run.log for run in runs], name)
        if logs:
            median = _draw_runs(panel, logs, look, pen)
            every = max(1, len(median) // MARKS)
            panel.plot(median.index, median, markevery=(every * (2 * number + 1) // 6 % every, every), **look)
        points = _columns([run.validation for run in runs], name) if validated else []
        if points:
            _draw_validation(panel, points, look, pen, alone=not logs)
        shown += [column.to_numpy(float) for column in (*logs, *points)]
    panel.spines[["top", "right"]].set_visible(False)
    return _scale(panel, name, np.concatenate(shown), pen)


def _columns(tables: Sequence[pd.DataFrame], name: str) -> list[pd.Series]:
    return [table.set_index("step")[name] for table in tables if name in table]


def _draw_runs(panel: Axes, columns: Sequence[pd.Series], look: dict, pen: Pen) -> pd.Series:
    """Draw the runs of an arm and their band, where there are several, and return their median."""
    together = pd.concat(columns, axis=1, join="inner")  # at steps that all runs have
    if len(columns) > 1:
        for column in columns:
            panel.plot(column.index, column, color=look["color"], linewidth=0.35 * pen.scale, alpha=0.45)
        ends = (together.min(axis=1, skipna=False), together.max(axis=1, skipna=False))
        panel.fill_between(together.index, *ends, color=look["color"], alpha=BAND, linewidth=0, zorder=1)
    return together.median(axis=1, skipna=False)  # a run that diverged leaves none, and not that of the others


def _draw_validation(panel: Axes, columns: Sequence[pd.Series], look: dict, pen: Pen, *, alone: bool) -> None:
    """Draw what validation measured: hollow markers, on a line if there is no other that they would be taken for."""
    hollow = {
        "markeredgewidth": 0.8 * pen.scale,
        "markerfacecolor": "white",
        "markersize": 3.6 * pen.scale,
        "zorder": 3,
    }
    if alone:
        median = _draw_runs(panel, columns, look, pen)
        panel.plot(median.index, median, **look | hollow | {"linewidth": 0.9 * pen.scale}, clip_on=False)
        return
    together = pd.concat(columns, axis=1, join="inner")
    ends = (together.min(axis=1, skipna=False), together.max(axis=1, skipna=False))
    panel.vlines(together.index, *ends, color=look["color"], linewidth=0.8 * pen.scale, zorder=2.5)
    median = together.median(axis=1, skipna=False)
    panel.plot(median.index, median, **look | hollow | {"linestyle": ""}, clip_on=False)


def _scale(panel: Axes, name: str, values: np.ndarray, pen: Pen) -> str:
    """Choose the axes of a panel and return its words."""
    word, values = WORDS.get(name, name if name in measures() else name.replace("_", " ")), values[np.isfinite(values)]
    panel.xaxis.set_major_locator(MaxNLocator(5 if name != RATE else 10, integer=True))
    panel.xaxis.set_major_formatter(PlainNumbers())
    if values.size and values.min() > 0 and not is_share(name):
        logarithmic(panel, values)
        return word + LOGARITHMIC
    plain_numbers(panel.yaxis, 4 if name != RATE else 2)
    if not values.size:
        panel.set_yticks([])
        place: dict[str, Any] = {"transform": panel.transAxes, "ha": "center", "va": "center", "color": "#707070"}
        panel.text(0.5, 0.5, "no number", fontsize=pen.sizes.small, **place)
    return word


LEFT, BETWEEN, RIGHT = 0.45, 0.5, 0.15  # inches: before the first panel, between two, after the last
TOP, TITLE, HEIGHT, BELOW, SMALL = 0.08, 0.17, 1.15, 0.22, 0.45  # of a key's line, a name, a panel, its ticks, the rate
ACROSS, NARROWEST = 3, 1.6  # panels beside each other, while they have so many inches
MOST_MEASURES = 3
LONGEST = 30.0  # em for the name of an arm, on a page of 7.2 inches
AIR = 0.02  # of the steps, before the first and after the last


@dataclass(frozen=True)
class Curves:
    """What is drawn.

    Attributes:
        runs: At least one, of the same stage; those of one arm are its seeds.
        title: The line above, such as the stage's name.
        measures: Of validation; by default those that the log has too, or else the first three.
        repeats: What the runs of one arm are called, "seeds" or "trials".
    """

    runs: Sequence[Run]
    title: str = ""
    measures: Sequence[str] | None = None
    repeats: str = "seeds"


@dataclass(frozen=True)
class Plan:
    """Where things go, in inches: panels by name (left, top, width, height), the legend's lines, width and height."""

    panels: dict[str, tuple[float, float, float, float]]
    legend: list[list[Artist]]
    size: tuple[float, float]


def curves(drawn: Curves, ax: Axes, *, page: float = math.inf) -> Axes:
    """Draw the curves on `ax`, which they fill.

    Args:
        drawn: What to draw.
        ax: Axes of the proportions of `curves_size`; with others some of it stays empty.
        page: Inches that it may be wide at most, such as `style.page_for` of a venue.

    Returns:
        `ax`.

    Raises:
        DataError: There is no run, or a measure that none of them has.
    """
    plan = _plan(drawn, page)
    pen, arms, measures = Pen(ax, plan.size, design=1.0), _arms(drawn), _measures(drawn)
    last = max(table["step"].max() for run in drawn.runs for table in (run.log, run.validation) if len(table))
    pen.text(LEFT, TOP + TITLE / 2, _title(drawn, plan.size[0]), points=7, weight="bold")
    for place, line in enumerate(plan.legend):
        pen.legend(line, plan.size[0] - RIGHT, TOP + (place + 0.5) * TITLE, align="right")
    for name, (x, y, width, height) in plan.panels.items():
        panel = pen.panel((x, y + TITLE, width, height))
        words = draw_panel(panel, arms, name, pen, validated=name in measures)
        pen.text(x, y + TITLE / 2, labels.cut(words, pen.room(width)))
        panel.set_xlim(-AIR * last, (1 + AIR) * last)
    panel.set_xlabel("step", fontsize=pen.sizes.small, labelpad=pen.scale)
    return ax


def curves_size(drawn: Curves, *, page: float = math.inf) -> tuple[float, float]:
    """Return width and height in inches, letters of 6 and 7 points given; `page` as above."""
    return _plan(drawn, page).size


def _plan(drawn: Curves, page: float) -> Plan:
    if not any(len(table) for run in drawn.runs for table in (run.log, run.validation)):
        raise DataError("expected at least one run with a step to draw, found none; give a folder of `ckaprobe train`")
    names = _logged(drawn)
    names += [name for name in _measures(drawn) if name not in names]
    if not names:
        raise DataError("expected something but steps and learning rates to draw, found nothing; give another log.csv")
    page = min(style.PAGE, page)
    legend = legend_lines(_entries(drawn, page), page - LEFT - RIGHT - bold_width(_title(drawn, page)) - 0.2)
    across = 2 if len(names) in (2, 4) else min(len(names), ACROSS)
    across = min(across, int((page - LEFT - RIGHT + BETWEEN) / (NARROWEST + BETWEEN)))
    top, width = TOP + max(len(legend), 1) * TITLE, (page - LEFT - RIGHT - (across - 1) * BETWEEN) / across
    panels = {}
    for place, name in enumerate(names):
        row, column = divmod(place, across)
        panels[name] = (LEFT + column * (width + BETWEEN), top + row * (TITLE + HEIGHT + BELOW), width, HEIGHT)
    top += -(-len(names) // across) * (TITLE + HEIGHT + BELOW)
    if any(RATE in run.log for run in drawn.runs):
        panels[RATE] = (LEFT, top, page - LEFT - RIGHT, SMALL)
        top += TITLE + SMALL + BELOW
    return Plan(panels, legend, (page, top + 0.6 * BELOW))


def _arms(drawn: Curves) -> dict[str, list[Run]]:
    return {arm: [run for run in drawn.runs if run.arm == arm] for arm in dict.fromkeys(run.arm for run in drawn.runs)}


def _title(drawn: Curves, page: float) -> str:
    return labels.cut(drawn.title, 0.5 * (page - LEFT - RIGHT) * style.POINTS / 7 / 1.25)  # the legend needs the rest


def _logged(drawn: Curves) -> list[str]:
    """Return the logged columns that have a panel: the loss, its parts, and last the gradient."""
    names = dict.fromkeys(name for run in drawn.runs for name in run.log.columns if name not in ("step", RATE))
    return [*(name for name in names if name != "gradient"), *(["gradient"] if "gradient" in names else [])]


def _measures(drawn: Curves) -> list[str]:
    """Return the measures of validation that are drawn."""
    there = list(dict.fromkeys(name for run in drawn.runs for name in run.validation.columns if name != "step"))
    if drawn.measures is None:
        return [name for name in there if name in _logged(drawn)] or there[:MOST_MEASURES]
    for name in drawn.measures:
        if name not in there:
            raise DataError(f"no measure {name!r} in validation.csv; there are: {', '.join(there) or 'none'}")
    return list(drawn.measures)


def _entries(drawn: Curves, page: float) -> list[Artist]:
    """Return the entries of the legend: arms, where there is more than one run, and what bands and markers are."""
    runs, room = {arm: len(runs) for arm, runs in _arms(drawn).items()}, LONGEST * page / style.PAGE
    words = [
        f"{labels.cut(arm, room)}{f', {count} {drawn.repeats}' if count > 1 else ''}" for arm, count in runs.items()
    ]
    handles: list[Artist] = [
        Line2D([], [], **style.arm_look(number), label=word) for number, word in enumerate(words) if len(drawn.runs) > 1
    ]
    if max(runs.values()) > 1:
        handles.append(Patch(color="black", alpha=BAND, linewidth=0, label="lowest to highest; line: median"))
    if _measures(drawn):
        points: dict[str, Any] = {
            "color": "black",
            "linestyle": "",
            "marker": "o",
            "markersize": 3.6,
            "markerfacecolor": "none",
        }
        handles.append(Line2D([], [], **points, label="validation"))
    return handles


save_curves = FigureFile(curves, curves_size)
"""Draw curves into files: `save_curves(drawn, paths, style=…, venue=…)`. Same input, same bytes."""
