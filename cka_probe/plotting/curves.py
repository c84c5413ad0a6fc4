"""Learning curves: what runs logged or validated, against the step, a panel for each quantity.

An arm with several runs has a thick line, their median, over a band from the lowest of them to the highest, and each
run is a faint line in it; median and band are where all runs are. Shares of what is right have a linear axis, since
equal steps of them are what is compared; losses, errors and rates have a logarithmic one where they are above 0.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib import figure as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from cka_probe.errors import DataError
from cka_probe.plotting import labels, style
from cka_probe.plotting.figure import add_legend, inches, panels
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
MOST_MEASURES = 3
MARKS = 5
"""Markers on a line, about."""
BAND = 0.16
"""Opacity of a band."""
HEIGHT = 1.2
"""Inches of a panel."""
AIR = 0.02
"""Of the steps, before the first and after the last."""


@dataclass(frozen=True)
class Curves:
    """Learning curves of runs, with the learning rate last.

    Attributes:
        runs: At least one, of the same stage; those of one arm are its seeds.
        title: The line above, such as the stage's name.
        measures: Of validation; by default those that the log has too, or else the first three.
        repeats: What the runs of one arm are called, "seeds" or "trials".

    Raises:
        DataError: There is no run with a step, nothing to draw, or a measure that no run has.
    """

    runs: Sequence[Run]
    title: str = ""
    measures: Sequence[str] | None = None
    repeats: str = "seeds"

    narrowest = style.COLUMN

    def __post_init__(self) -> None:
        if not any(len(table) for run in self.runs for table in (run.log, run.validation)):
            raise DataError(
                "expected at least one run with a step to draw, found none; give a folder of `ckaprobe train`"
            )
        for name in self.measures or ():
            if name not in self._validated:
                options = ", ".join(self._validated) or "none"
                raise DataError(f"no measure {name!r} in validation.csv; there are: {options}")
        if set(self._names) <= {RATE}:
            raise DataError(
                "expected something but steps and learning rates to draw, found nothing; give another log.csv"
            )

    @property
    def width(self) -> float:
        """Width in print, inches."""
        return style.PAGE if len(self._names) > 1 else style.COLUMN

    @property
    def _validated(self) -> list[str]:
        """Everything that validation measured."""
        return _columns(run.validation for run in self.runs)

    @cached_property
    def _measures(self) -> list[str]:
        """What is drawn of validation."""
        if self.measures is not None:
            return list(self.measures)
        logged = _columns(run.log for run in self.runs)
        return [name for name in self._validated if name in logged] or self._validated[:MOST_MEASURES]

    @cached_property
    def _names(self) -> list[str]:
        """What has a panel: the loss, its parts, the gradient, measures of validation, the learning rate."""
        logged = _columns(run.log for run in self.runs)
        last = [name for name in ("gradient", RATE) if name in logged]
        parts = [name for name in logged if name not in last]
        return list(dict.fromkeys([*parts, *last[:-1], *self._measures, *last[-1:]]))

    @cached_property
    def _arms(self) -> dict[str, list[Run]]:
        arms: dict[str, list[Run]] = {}
        for run in self.runs:
            arms.setdefault(run.arm, []).append(run)
        return arms

    def draw(self, figure: mpl.Figure) -> None:
        """Draw on an empty figure."""
        names = self._names
        most = 2 if len(names) in (2, 4) else 3
        axes, across = panels(figure, len(names), most=most, narrowest=1.9, gap=0.15)
        aspect = HEIGHT / (inches(figure) / across - 0.45)
        last = max(table["step"].max() for run in self.runs for table in (run.log, run.validation) if len(table))
        for ax, name in zip(axes, names, strict=True):
            self._draw_panel(ax, name)
            ax.set_box_aspect(aspect)
            ax.set_xlim(-AIR * last, (1 + AIR) * last)
            ax.locator_params(axis="x", integer=True)
        for ax in axes[-across:]:
            ax.set_xlabel("step", fontsize=style.small())
        if self.title:
            title = labels.cut(self.title, style.em(inches(figure), style.TEXT) - 2)
            figure.suptitle(title, x=0.01, horizontalalignment="left")
        add_legend(figure, self._legend())

    def _draw_panel(self, ax: Axes, name: str) -> None:
        """Draw a column of all runs."""
        for number, runs in enumerate(self._arms.values()):
            look = style.arm(number)
            logs = [run.log.set_index("step")[name] for run in runs if name in run.log]
            scores = [run.validation.set_index("step")[name] for run in runs if name in run.validation]
            if logs:
                every = max(1, min(map(len, logs)) // MARKS)
                _draw_arm(ax, logs, look | {"markevery": (every * (2 * number + 1) // 6 % every, every)})
            if scores and name in self._measures:
                hollow = {"markerfacecolor": "white", "markersize": style.points(3.6), "clip_on": False, "zorder": 3}
                _draw_arm(ax, scores, look | hollow | ({"linestyle": ""} if logs else {}))
        word = WORDS.get(name, name if _measure(name) else name.replace("_", " "))
        low, high = ax.dataLim.intervaly
        if low > high:
            ax.set_yticks([])
            ax.text(0.5, 0.5, "no number", transform=ax.transAxes, ha="center", color=style.GREY)
        elif low > 0 and not is_share(name):
            labels.logarithmic(ax, low, high)
            word += ", log scale"
        ax.set_title(word, fontsize=style.small())

    def _legend(self) -> list[Artist]:
        """Return the legend's entries: arms, where there is more than one run, and what bands and markers are."""
        handles: list[Artist] = []
        for number, (arm, runs) in enumerate(self._arms.items()):
            repeats = f", {len(runs)} {self.repeats}" if len(runs) > 1 else ""
            if len(self.runs) > 1:
                handles.append(Line2D([], [], **style.arm(number), label=labels.cut(arm, labels.LONGEST) + repeats))
        if len(self.runs) > len(self._arms):
            handles.append(Patch(color="black", alpha=BAND, linewidth=0, label="lowest to highest; line: median"))
        if self._measures:
            hollow = style.arm(0) | {"color": "black", "linestyle": "", "markerfacecolor": "white"}
            handles.append(Line2D([], [], **hollow, label="validation"))
        return handles


def _columns(tables: Iterable[pd.DataFrame]) -> list[str]:
    """Return all columns of some tables but the step."""
    return list(dict.fromkeys(name for table in tables for name in table.columns if name != "step"))


def _draw_arm(ax: Axes, columns: Sequence[pd.Series], look: Mapping[str, Any]) -> None:
    """Draw the median of an arm's runs, at the steps that all have, and from the lowest to the highest of them.

    With a line, this is a band with a faint line for each run; without one it is a bar at each marker.
    """
    table = pd.concat(columns, axis=1, join="inner")
    low, median, high = (getattr(table, name)(axis=1, skipna=False) for name in ("min", "median", "max"))
    if look.get("linestyle") == "":
        ax.vlines(table.index, low, high, color=look["color"], zorder=2.5)
    elif len(columns) > 1:
        for column in columns:
            ax.plot(column, color=look["color"], linewidth=style.points(0.35), alpha=0.45)
        ax.fill_between(table.index, low, high, color=look["color"], alpha=BAND, linewidth=0, zorder=1)
    ax.plot(median, **look)


def _measure(name: str) -> "Measure | None":
    """Return what is known of a measure of validation; the lab is loaded when curves are drawn."""
    from cka_probe.lab.evaluation.label_scores import LABEL_MEASURES
    from cka_probe.lab.evaluation.scores import MEASURES

    return {**LABEL_MEASURES, **MEASURES}.get(name)


def is_share(name: str) -> bool:
    """Return whether a column is a share of what is right, 0 to 1.

    >>> is_share("accuracy"), is_share("delta1_constant"), is_share("abs_rel")
    (True, True, False)
    """
    measure = _measure(name.removesuffix("_constant").removesuffix("_median"))
    return name == "correct" or name.startswith("iou/") or (measure is not None and measure.better == "higher")
