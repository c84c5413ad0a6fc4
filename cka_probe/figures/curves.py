"""Learning curves: what a run's `log.csv` and `validation.csv` say, several arms and seeds on the same axes.

A panel for the loss, one for each of its parts and one for the gradient's norm, on a logarithmic axis over the steps;
what validation measured stands as points, in the panel of the same name where there is one and else in its own; below
all, small, the learning rate. An arm has one colour and marker, filled on its line and hollow where it was validated;
its seeds are thin lines and their median is thick. A panel with a value that is not above 0 cannot have a logarithmic
axis: it has a linear one, and says so.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from cka_probe.errors import DataError
from cka_probe.figures import labels, save_drawing, style
from cka_probe.figures.pen import PAGE, Pen, filling

LEFT, BETWEEN, RIGHT = 0.45, 0.5, 0.15  # inches: before the first panel, between two, after the last
TOP, TITLE, HEIGHT, BELOW, SMALL = 0.08, 0.17, 1.15, 0.22, 0.45  # of a key's line, a name, a panel, its ticks, the rate
ACROSS = 3
RATE = "lr"
WORDS = {"lr": "learning rate", "gradient": "gradient, norm"}
MOST_MEASURES = 3
MARKS = 5  # on a line, about


@dataclass(frozen=True)
class Run:
    """One stage of one run.

    Attributes:
        arm: What runs that differ only in their seed have in common; the legend's word.
        log: Column `step`, and others such as `lr`, `loss`, its parts, `gradient`.
        validation: Column `step`, and measures; empty: nothing was validated.
    """

    arm: str
    log: pd.DataFrame
    validation: pd.DataFrame = field(default_factory=lambda: pd.DataFrame({"step": []}))


@dataclass(frozen=True)
class Curves:
    """What is drawn.

    Attributes:
        runs: At least one, of the same stage; those of one arm are its seeds.
        title: The line above, such as the stage's name.
        measures: Of validation; by default those that the log has too, or else the first three.
    """

    runs: Sequence[Run]
    title: str = ""
    measures: Sequence[str] | None = None


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
    names, rows, size = _plan(drawn)
    pen, arms = Pen(ax, size, design=1.0), list(dict.fromkeys(run.arm for run in drawn.runs))
    width = (size[0] - LEFT - RIGHT - (ACROSS - 1) * BETWEEN) / ACROSS
    last = max(max(run.log["step"].max(), run.validation["step"].max()) for run in drawn.runs if len(run.log))
    _write_head(pen, drawn, arms)
    top = TOP + TITLE
    for place, name in enumerate(names):
        row, column = divmod(place, ACROSS)
        x, y = LEFT + column * (width + BETWEEN), top + row * (TITLE + HEIGHT + BELOW)
        panel = pen.panel((x, y + TITLE, width, HEIGHT))
        pen.text(x, y + TITLE / 2, _draw_panel(panel, drawn, arms, name, pen))
        panel.set_xlim(0, last * 1.02)
    y = top + rows * (TITLE + HEIGHT + BELOW)
    panel = pen.panel((LEFT, y + TITLE, size[0] - LEFT - RIGHT, SMALL))
    pen.text(LEFT, y + TITLE / 2, _draw_panel(panel, drawn, arms, RATE, pen))
    panel.set_xlim(0, last * 1.02)
    panel.set_xlabel("step", fontsize=pen.sizes.small, labelpad=pen.scale)
    return ax


def curves_size(drawn: Curves) -> tuple[float, float]:
    """Return width and height in inches, letters of 6 and 7 points on a page of 7.2 inches given."""
    return _plan(drawn)[2]


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


def read_run(log: str | Path, arm: str) -> Run:
    """Read `log.csv` of a stage, and the `validation.csv` beside it where there is one.

    Args:
        log: The file.
        arm: The legend's word.

    Raises:
        DataError: A file cannot be read, or has no steps.
    """
    beside = Path(log).with_name("validation.csv")
    return Run(arm, _table(Path(log)), *([_table(beside)] if beside.exists() else []))


def read_runs(places: Sequence[str | Path]) -> dict[str, list[Run]]:
    """Read runs by stage.

    Args:
        places: Folders of `ckaprobe train`, folders of one stage, or `log.csv` files.

    Returns:
        Stage to the runs that have it, in the order of `places`. Runs whose recipes differ only in the seed are one
        arm; an arm is called as the folder of its first run.

    Raises:
        DataError: A place has no log, or one that cannot be read.
    """
    stages: dict[str, list[Run]] = {}
    arms: dict[str, str] = {}
    for place in map(Path, places):
        logs = [place] if place.is_file() else [place / "log.csv"] * (place / "log.csv").exists()
        logs = logs or _in_order(place, sorted(place.glob("*/log.csv")))
        if not logs:
            raise DataError(f"expected a log.csv, or a folder of `ckaprobe train` with one, found none at {place}")
        for log in logs:
            folder = log.absolute().parent.parent
            arm = arms.setdefault(_recipe(folder), _arm_name(folder.name, list(arms.values())))
            stages.setdefault(log.absolute().parent.name, []).append(read_run(log, arm))
    return stages


def _recipe(folder: Path) -> str:
    """Return the recipe of a run without its seed; the folder where it has none, so that it is an arm of its own."""
    try:
        table = json.loads((folder / "recipe.json").read_text("utf-8"))
    except FileNotFoundError:
        return str(folder)
    except (OSError, ValueError) as error:
        raise DataError(f"expected a recipe.json of `ckaprobe train` in {folder}, found: {error}") from error
    return json.dumps({key: value for key, value in table.items() if key != "seed"}, sort_keys=True)


def _in_order(folder: Path, logs: list[Path]) -> list[Path]:
    """Return the logs of a run in the order of its recipe's stages."""
    try:
        stages = list(json.loads((folder / "recipe.json").read_text("utf-8"))["stages"])
    except (OSError, ValueError, KeyError, TypeError):
        return logs  # by name: the order of figures is all that is lost
    return sorted(logs, key=lambda log: stages.index(log.parent.name) if log.parent.name in stages else len(stages))


def _arm_name(folder: str, taken: list[str]) -> str:
    """Return a folder's name without the number of its seed, or with it where another arm is called that."""
    short = re.sub(r"[-_. ]?(seed)?[-_. ]?\d+$", "", folder) or folder
    name = short if short not in taken else folder
    return name if name not in taken else f"{folder} ({len(taken) + 1})"


def _table(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise DataError(f"expected a log of `ckaprobe train` at {path}, found: {error}") from error
    if "step" not in table or table.empty or not all(map(pd.api.types.is_numeric_dtype, table.dtypes)):
        raise DataError(
            f"{path}: expected numbers with a column 'step', found {', '.join(table.columns)}; give a log.csv"
        )
    return table


def _plan(drawn: Curves) -> tuple[list[str], int, tuple[float, float]]:
    """Return the panels' names, their rows, and width and height in inches."""
    if not drawn.runs:
        raise DataError("expected at least one run to draw, found none; give a folder of `ckaprobe train`")
    names = _logged(drawn)
    names += [name for name in _measures(drawn) if name not in names]
    rows = -(-len(names) // ACROSS)
    return names, rows, (PAGE, TOP + TITLE + rows * (TITLE + HEIGHT + BELOW) + TITLE + SMALL + 1.6 * BELOW)


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


def _write_head(pen: Pen, drawn: Curves, arms: list[str]) -> None:
    """Write the title and which line is which arm."""
    pen.text(LEFT, TOP + TITLE / 2, drawn.title, points=7, weight="bold")
    seeds = {arm: sum(run.arm == arm for run in drawn.runs) for arm in arms}
    words = [f"{labels.cut(arm, 16)}{f', {seeds[arm]} seeds' if seeds[arm] > 1 else ''}" for arm in arms]
    handles = [Line2D([], [], **_look(number, pen), label=word) for number, word in enumerate(words)]
    handles = handles if len(arms) > 1 or max(seeds.values()) > 1 else []
    if any(len(run.validation) for run in drawn.runs):
        points = {"color": "black", "linestyle": "", "marker": "o", "markersize": 4, "markerfacecolor": "none"}
        handles.append(Line2D([], [], **points, label="validation"))
    look = {"frameon": False, "fontsize": pen.sizes.small, "ncols": max(len(handles), 1), "borderpad": 0}
    look |= {"handlelength": 2.4, "handletextpad": 0.5, "columnspacing": 1.4, "borderaxespad": 0}
    place = {"loc": "center right", "bbox_to_anchor": (pen.size[0] - RIGHT, TOP + TITLE / 2)}
    pen.ax.legend(handles=handles, **place, bbox_transform=pen.ax.transData, **look)


def _look(number: int, pen: Pen) -> dict:
    colour = style.ARMS[number % len(style.ARMS)]
    marker = {"marker": style.MARKERS[number % len(style.MARKERS)], "markersize": 3 * pen.scale}
    return {"color": colour, "linewidth": 1.2 * pen.scale, **marker}


def _draw_panel(panel: Axes, drawn: Curves, arms: list[str], name: str, pen: Pen) -> str:
    """Draw one column of the tables and return what to write above it."""
    shown: list[np.ndarray] = []
    for number, arm in enumerate(arms):
        look, runs = _look(number, pen), [run for run in drawn.runs if run.arm == arm]
        logs = [run.log.set_index("step")[name] for run in runs if name in run.log]
        for log in logs if len(logs) > 1 else []:
            panel.plot(log.index, log, color=look["color"], linewidth=0.4 * pen.scale, alpha=0.6)
        if logs:
            median = pd.concat(logs, axis=1, join="inner").median(axis=1)  # at steps that all seeds have
            every = max(1, len(median) // MARKS)
            panel.plot(median.index, median, markevery=(every * (2 * number + 1) // 6 % every, every), **look)
        points = [run.validation for run in runs if name in run.validation and name in _measures(drawn)]
        for table in points:
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
