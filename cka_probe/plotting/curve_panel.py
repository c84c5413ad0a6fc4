"""One panel of learning curves: what some runs logged or validated, against the step.

An arm with several runs has a thick line, their median, over a band from the lowest of them to the highest, and each
run is a faint line in it; both are where all runs are. A share of what is right has a linear axis, since equal steps of
it are what is compared; everything else, losses and errors and rates, has a logarithmic one where it is above 0.
"""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from cka_probe.plotting import style
from cka_probe.plotting.axis_numbers import PlainNumbers, logarithmic, plain_numbers
from cka_probe.plotting.pen import Pen
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
        place = {"transform": panel.transAxes, "ha": "center", "va": "center", "color": "#707070"}
        panel.text(0.5, 0.5, "no number", fontsize=pen.sizes.small, **place)
    return word
