"""Learning curves: what a run's `log.csv` and `validation.csv` say, several arms and seeds on the same axes.

A panel for the loss, one for each of its parts and one for the gradient's norm, on a logarithmic axis over the steps;
what validation measured stands as points, in the panel of the same name where there is one and else in its own; below
all, small, the learning rate. An arm has one colour and marker, filled on its line and hollow where it was validated;
its seeds are thin lines and their median is thick. A panel with a value that is not above 0 cannot have a logarithmic
axis: it has a linear one, and says so.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from cka_probe.errors import DataError
from cka_probe.figures import labels, save_drawing, style
from cka_probe.figures.pen import PAGE, Pen, bold_width, filling, legend_lines
from cka_probe.figures.runs import Run

LEFT, BETWEEN, RIGHT = 0.45, 0.5, 0.15  # inches: before the first panel, between two, after the last
TOP, TITLE, HEIGHT, BELOW, SMALL = 0.08, 0.17, 1.15, 0.22, 0.45  # of a key's line, a name, a panel, its ticks, the rate
ACROSS = 3
RATE = "lr"
WORDS = {"lr": "learning rate", "gradient": "gradient, norm"}
MOST_MEASURES = 3
MARKS = 5  # on a line, about


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
    legend: list[list[Line2D]]
    size: tuple[float, float]


def curves(drawn: Curves, ax: Axes) -> Axes:
    """Draw the curves on `ax`, which they fill.

    Args:
        drawn: What to draw.
        ax: Axes of the proportions of `curves_size`; with others some of it stays empty.

    Returns:
        `ax`.

    Raises:
        DataError: There is no run, or a measure that none of them has.
    """
    plan = _plan(drawn)
    pen, arms = Pen(ax, plan.size, design=1.0), _arms(drawn)
    last = max(table["step"].max() for run in drawn.runs for table in (run.log, run.validation) if len(table))
    pen.text(LEFT, TOP + TITLE / 2, drawn.title, points=7, weight="bold")
    for place, line in enumerate(plan.legend):
        pen.legend(line, plan.size[0] - RIGHT, TOP + (place + 0.5) * TITLE, align="right")
    for name, (x, y, width, height) in plan.panels.items():
        panel = pen.panel((x, y + TITLE, width, height))
        pen.text(x, y + TITLE / 2, _draw_panel(panel, drawn, arms, name, pen))
        panel.set_xlim(0, last * 1.02)
    panel.set_xlabel("step", fontsize=pen.sizes.small, labelpad=pen.scale)
    return ax


def curves_size(drawn: Curves) -> tuple[float, float]:
    """Return width and height in inches, letters of 6 and 7 points on a page of 7.2 inches given."""
    return _plan(drawn).size


def save_curves(drawn: Curves, paths: Iterable[str | Path]) -> list[Path]:
    """Draw curves into each of the files; the same curves give the same bytes.

    Args:
        drawn: What to draw.
        paths: `*.png`, `*.pdf` or `*.svg`.

    Returns:
        The paths written.

    Raises:
        DataError: As for `curves`.
        OutputError: A suffix that is not a format, or a place that cannot be written to.
    """
    return save_drawing(lambda figure: curves(drawn, filling(figure)), curves_size(drawn), paths)


def _plan(drawn: Curves) -> Plan:
    if not drawn.runs:
        raise DataError("expected at least one run to draw, found none; give a folder of `ckaprobe train`")
    names = _logged(drawn)
    names += [name for name in _measures(drawn) if name not in names]
    if not names:
        raise DataError("expected something but steps and learning rates to draw, found nothing; give another log.csv")
    legend = legend_lines(_entries(drawn), PAGE - LEFT - RIGHT - bold_width(drawn.title) - 0.2)
    top, width = TOP + max(len(legend), 1) * TITLE, (PAGE - LEFT - RIGHT - (ACROSS - 1) * BETWEEN) / ACROSS
    panels = {}
    for place, name in enumerate(names):
        row, column = divmod(place, ACROSS)
        panels[name] = (LEFT + column * (width + BETWEEN), top + row * (TITLE + HEIGHT + BELOW), width, HEIGHT)
    top += -(-len(names) // ACROSS) * (TITLE + HEIGHT + BELOW)
    if any(RATE in run.log for run in drawn.runs):
        panels[RATE] = (LEFT, top, PAGE - LEFT - RIGHT, SMALL)
        top += TITLE + SMALL + BELOW
    return Plan(panels, legend, (PAGE, top + 0.6 * BELOW))


def _arms(drawn: Curves) -> list[str]:
    return list(dict.fromkeys(run.arm for run in drawn.runs))


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


def _entries(drawn: Curves) -> list[Line2D]:
    """Return the entries of the legend: arms, where there is more than one run, and what hollow markers are."""
    seeds = {arm: sum(run.arm == arm for run in drawn.runs) for arm in _arms(drawn)}
    words = [
        f"{labels.cut(arm, 16)}{f', {count} {drawn.repeats}' if count > 1 else ''}" for arm, count in seeds.items()
    ]
    handles = [Line2D([], [], **style.arm_look(number), label=word) for number, word in enumerate(words)]
    handles = handles if len(drawn.runs) > 1 else []
    if _measures(drawn):
        points = {"color": "black", "linestyle": "", "marker": "o", "markersize": 4, "markerfacecolor": "none"}
        handles.append(Line2D([], [], **points, label="validation"))
    return handles


def _draw_panel(panel: Axes, drawn: Curves, arms: list[str], name: str, pen: Pen) -> str:
    """Draw one column of the tables and return what to write above it."""
    shown: list[np.ndarray] = []
    for number, arm in enumerate(arms):
        look, runs = style.arm_look(number, pen.scale), [run for run in drawn.runs if run.arm == arm]
        logs = [run.log.set_index("step")[name] for run in runs if name in run.log]
        for log in logs if len(logs) > 1 else []:
            panel.plot(log.index, log, color=look["color"], linewidth=0.4 * pen.scale, alpha=0.6)
        if logs:
            median = pd.concat(logs, axis=1, join="inner").median(axis=1)  # at steps that all seeds have
            every = max(1, len(median) // MARKS)
            panel.plot(median.index, median, markevery=(every * (2 * number + 1) // 6 % every, every), **look)
        points = [run.validation for run in runs if name in run.validation and name in _measures(drawn)]
        for table in points:
            if not logs:  # points alone do not say which follows which
                panel.plot(table["step"], table[name], color=look["color"], linewidth=0.5 * pen.scale, alpha=0.6)
            hollow = {"markeredgewidth": 0.8 * pen.scale, "markerfacecolor": "white", "zorder": 3, "linestyle": ""}
            panel.plot(table["step"], table[name], **look | hollow | {"markersize": 4 * pen.scale})
        shown += [log.to_numpy() for log in logs] + [table[name].to_numpy() for table in points]
    values = np.concatenate(shown)
    values = values[np.isfinite(values)]
    panel.spines[["top", "right"]].set_visible(False)
    panel.locator_params(axis="x", nbins=5 if name != RATE else 10, integer=True)
    word = WORDS.get(name, name if name in _measures(drawn) else name.replace("_", " "))
    if values.size and values.min() > 0:
        _logarithmic(panel, values)
        return word
    return f"{word} (linear)"


def _logarithmic(panel: Axes, values: np.ndarray) -> None:
    """Give a panel a logarithmic axis with at least two numbers on it."""
    low, high = np.log10(values.min()), np.log10(values.max())
    air = max(0.06 * (high - low), 0.01)
    panel.set_yscale("log")
    panel.set_ylim(10 ** (low - air), 10 ** (high + air))
    panel.minorticks_off()
    marks = marks_between(*panel.get_ylim())
    panel.set_yticks(marks, [f"{mark:g}".replace("e-0", "e\N{MINUS SIGN}") for mark in marks])


def marks_between(low: float, high: float) -> list[float]:
    """Return numbers of few digits for a logarithmic axis: two to four where it spans more than a few percent.

    >>> marks_between(0.02, 30.0), marks_between(0.1, 0.7), marks_between(0.52, 0.61)
    ([0.1, 1.0, 10.0], [0.1, 0.2, 0.5], [0.55, 0.6])
    """
    first, last = int(np.floor(np.log10(low))), int(np.ceil(np.log10(high)))
    steps = [((1,), 3), ((1, 3), 3), ((1, 2, 5), 3), (range(1, 10), 3), (np.arange(1, 10, 0.5), 2)]
    for digits, enough in (*steps, (np.arange(1, 10, 0.1), 0)):
        marks = [float(f"{digit * 10.0**power:.3g}") for power in range(first, last + 1) for digit in digits]
        marks = [mark for mark in marks if low <= mark <= high]
        if len(marks) >= enough:
            break
    return marks[:: max(1, -(-len(marks) // 4))]
