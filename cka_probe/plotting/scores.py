"""Scores of the arms of an experiment: a panel for each measure, two measures against each other, or by data set size.

Whether two arms differ is seen by whether their intervals do. Axes begin where the numbers do and not at 0, since they
are read by position and not by length.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import figure as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from cka_probe.errors import DataError
from cka_probe.plotting import labels, style
from cka_probe.plotting.figure import PANEL, add_legend, inches, panels, single_panel

NEEDED = ("arm", "measure", "value", "low", "high")
POINT = ("arm", "x", "x_low", "x_high", "y", "y_low", "y_high")
SIZED = ("arm", "num", "value", "low", "high")
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
DISTANCES = (1.5, 2.1, 3.0, 4.0, 5.0)
"""Em from a point to its number; from the third on, a line leads to it."""
APART = (1.5, 1.0)
"""Em, across and up, between the middles of two numbers or of a number and a point."""
AIR = 1.15
"""Factor between numbers of images and the ends of their axis."""
CLOSE = 0.15
"""Of the length of that axis: the least distance of two marks."""


def check_table(table: pd.DataFrame, columns: Sequence[str], what: str) -> None:
    """Check that a table has columns and rows.

    Raises:
        DataError: It lacks some, or has no row.
    """
    if missing := [name for name in columns if name not in table]:
        raise DataError(f"expected {what} with columns {', '.join(columns)}, found no {', '.join(missing)}; add them")
    if table.empty:
        raise DataError(f"expected {what} to draw, found none; give some")


def check_intervals(names: pd.Series, value: pd.Series, low: pd.Series, high: pd.Series) -> None:
    """Check that each value is in its interval; an interval of NaN is none.

    Raises:
        DataError: One is not.
    """
    wrong = (low.notna() | high.notna()) & ~((low <= value) & (value <= high))
    for name, *numbers in zip(*(column[wrong] for column in (names, value, low, high)), strict=True):
        raise DataError(
            "{}: expected a value in its interval, found {:g} and [{:g}, {:g}]; compute them from the same "
            "images".format(name, *numbers)
        )


@dataclass(frozen=True)
class ScorePanels:
    """A panel for each measure, with a row for each arm, and the paper's number next to ours.

    Above each panel stand the measure, its unit and which way is better, with an arrow that points there.

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
        check_table(self.table, NEEDED, "scores")
        if (duplicates := self.table.duplicated(["arm", "measure"])).any():
            arm, measure = self.table.loc[duplicates, ["arm", "measure"]].iloc[0]
            raise DataError(
                f"expected one score for each arm and measure, found several of {arm} in {measure}; choose one"
            )
        if "better" in self.table and (wrong := set(self.table["better"]) - set(DIRECTIONS)):
            raise DataError(f'expected "lower", "higher" or "" as what is better, found {sorted(map(str, wrong))[0]!r}')

    @property
    def width(self) -> float:
        """Width in print, inches."""
        return max(style.COLUMN, style.PAGE * min(1.0, self.table["measure"].nunique() / MOST))

    def draw(self, figure: mpl.Figure) -> None:
        """Draw on an empty figure."""
        arms, measures = list(self.table["arm"].unique()), list(self.table["measure"].unique())
        names = [labels.cut(str(arm), LONGEST) for arm in arms]
        left = labels.print_width(names)
        axes, columns = panels(figure, len(measures), most=MOST, narrowest=NARROWEST + left / MOST, gap=BETWEEN)
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


@dataclass(frozen=True)
class Scatter:
    """Two measures of arms against each other, such as mIoU against pixel accuracy.

    A point for each result, its intervals a cross. Where an arm has several results (trials), each is a small point and
    their mean, which has no cross, is a large one: the spread of the small ones says what the mean is worth. Arms are
    numbered, in the legend and next to their points, which colour and marker alone would not tell apart where many lie
    close together.

    Attributes:
        table: One row for each result: arm, x, x_low, x_high, y, y_low, y_high; NaN where not known.
        across: Words along the horizontal axis, such as "pixel accuracy".
        up: Words along the vertical one.
        title: The line above.

    Raises:
        DataError: A column is missing, no row has both values, or a value is outside its interval.
    """

    table: pd.DataFrame
    across: str
    up: str
    title: str = ""

    width = narrowest = style.COLUMN

    def __post_init__(self) -> None:
        check_table(self.table, POINT, "points")
        for name in ("x", "y"):
            check_intervals(self.table["arm"], *(self.table[name + end] for end in ("", "_low", "_high")))
        if self._known.empty:
            raise DataError(
                "expected at least one point with two values to draw, found none; evaluate a checkpoint first"
            )

    @property
    def _known(self) -> pd.DataFrame:
        return self.table.dropna(subset=["x", "y"])

    def draw(self, figure: mpl.Figure) -> None:
        """Draw on an empty figure."""
        ax = single_panel(figure, self.title, self.across, self.up)
        means: dict[str, np.ndarray] = {}
        handles: list[Artist] = []
        arms, known = self.table["arm"].unique(), self._known
        for number, arm in enumerate(arms):
            look, points = _look(number), known[known["arm"] == arm]
            prefix = f"{number + 1}  " if len(arms) > 1 else ""
            handles.append(Line2D([], [], **look, label=prefix + labels.cut(arm, labels.LONGEST)))
            if len(points):
                means[prefix.strip()] = points[["x", "y"]].mean().to_numpy()
                _draw_points(ax, points, look)
            if len(points) > 1:
                ax.plot(*means[prefix.strip()], **look | {"markersize": style.points(6.2), "zorder": 4})
        if known[list(POINT)].filter(regex="_low").notna().any(axis=None):
            handles.append(Line2D([], [], color="black", alpha=0.6, label="95 % interval"))
        if len(known) > len(means):
            mean = _look(0) | {"color": "black", "markersize": style.points(6.2)}
            handles.append(Line2D([], [], **mean, label="large: mean of an arm"))
        ax.margins(0.08)
        if len(arms) > 1:
            _write_numbers(ax, list(means), np.array([*means.values(), *known[["x", "y"]].to_numpy()]))
        add_legend(figure, handles)


def _look(number: int) -> dict[str, Any]:
    """Return how the only point of an arm looks."""
    size = {"markersize": style.points(5.2), "markeredgewidth": style.points(0.5), "zorder": 3}
    return style.arm(number) | size | {"linestyle": "", "markeredgecolor": "white"}


def _draw_points(ax: Axes, points: pd.DataFrame, look: dict[str, Any]) -> None:
    """Draw the points of an arm with their crosses, small if there are several."""
    x_error, y_error = ([points[z] - points[f"{z}_low"], points[f"{z}_high"] - points[z]] for z in ("x", "y"))
    several = len(points) > 1
    small: dict[str, Any] = {"markersize": style.points(2.8), "markeredgewidth": 0.0, "alpha": 0.6} if several else {}
    cross: dict[str, Any] = {"elinewidth": style.points(0.5 if several else 0.9), "ecolor": (look["color"], 0.6)}
    ax.errorbar(points["x"], points["y"], xerr=x_error, yerr=y_error, **look | small | cross)


def _write_numbers(ax: Axes, numbers: Sequence[str], points: np.ndarray) -> None:
    """Write numbers next to the first of some points (n, 2), where each is over no point and no other number."""
    low, high = np.array([ax.get_xlim(), ax.get_ylim()]).T
    size = np.array(PANEL)
    angles = np.pi / 4 + 2 * np.pi * np.arange(16) / 16  # above and to the right first
    around = np.array([(d * np.cos(angle), d * np.sin(angle)) for d in DISTANCES for angle in angles])
    obstacles = list((points - low) / (high - low) * size)
    for number, point, middle in zip(numbers, points, obstacles[: len(numbers)], strict=False):
        options = middle + around
        overlaps = (np.abs(options[:, None] - obstacles) < APART).all(-1).sum(1)
        outside = ((options < 0.8) | (options > size - 0.8)).any(1)
        best = int((overlaps + 100 * outside).argmin())
        obstacles.append(options[best])
        offset: dict[str, Any] = {"xytext": around[best] * style.small(), "textcoords": "offset points"}
        if np.hypot(*around[best]) > DISTANCES[1] + 0.1:
            line = {"arrowstyle": "-", "color": style.GREY, "linewidth": style.points(0.4), "shrinkB": 0}
            ax.annotate("", point, **offset, arrowprops=line | {"shrinkA": style.points(3)})
        ax.annotate(number, point, **offset, fontsize=style.small(), ha="center", va="center", zorder=6)


@dataclass(frozen=True)
class Trajectories:
    """Two measures of runs against each other along training: a line for each run, with a large marker at its end.

    Attributes:
        table: One row for each arm, run and step, in the order of steps: arm, run, x, y; NaN where not known.
        across: Words along the horizontal axis.
        up: Words along the vertical one.
        title: The line above.

    Raises:
        DataError: A column is missing, or no row has both values.
    """

    table: pd.DataFrame
    across: str
    up: str
    title: str = ""

    width = narrowest = style.COLUMN

    def __post_init__(self) -> None:
        check_table(self.table.dropna(), ("arm", "run", "x", "y"), "points along training")

    def draw(self, figure: mpl.Figure) -> None:
        """Draw on an empty figure."""
        ax = single_panel(figure, self.title, self.across, self.up)
        handles: list[Artist] = []
        for number, (arm, rows) in enumerate(self.table.dropna().groupby("arm", sort=False)):
            look = _look(number)
            handles.append(Line2D([], [], **look, label=labels.cut(str(arm), labels.LONGEST)))
            for _, run in rows.groupby("run", sort=False):
                ax.plot(run["x"], run["y"], color=look["color"], linewidth=style.points(0.8), alpha=0.7)
                ax.plot(run["x"].iloc[-1:], run["y"].iloc[-1:], **look)
        ax.margins(0.08)
        add_legend(figure, handles)


@dataclass(frozen=True)
class SizeCurve:
    """A measure against the number of training images, a line with its band for each arm.

    The axis of numbers is logarithmic, as each number is usually a multiple of the one before, and is marked at the
    numbers that were tried. A band goes from the lower to the upper ends of the intervals, and has thin borders, as
    those of several arms lie over each other; an arm that was tried with one number has a bar instead.

    Attributes:
        table: One row for each arm and number of images: arm, num (above 0, increasing), value, low, high; NaN where
            not known.
        up: Words along the vertical axis, such as "mIoU, 7 classes".
        title: The line above.

    Raises:
        DataError: A column is missing, no row has a value, or the numbers of an arm do not increase.
    """

    table: pd.DataFrame
    up: str
    title: str = ""

    width = narrowest = style.COLUMN

    def __post_init__(self) -> None:
        check_table(self.table, SIZED, "scores by number of images")
        for arm, nums in self.table.groupby("arm")["num"]:
            if nums.min() <= 0 or not nums.is_monotonic_increasing or nums.duplicated().any():
                raise DataError(f"{arm}: expected increasing numbers of images, found {nums.tolist()}; sort them")
        if self.table["value"].isna().all():
            raise DataError("expected at least one value to draw, found none; evaluate a checkpoint first")

    def draw(self, figure: mpl.Figure) -> None:
        """Draw on an empty figure."""
        ax = single_panel(figure, self.title, "labelled training images", self.up)
        handles: list[Artist] = []
        for number, (arm, rows) in enumerate(self.table.groupby("arm", sort=False)):
            _draw_arm(ax, rows.dropna(subset="value"), style.arm(number))
            handles.append(Line2D([], [], **style.arm(number), label=labels.cut(str(arm), labels.LONGEST)))
        if self.table[["low", "high"]].notna().any(axis=None):
            handles.append(Patch(facecolor=("black", 0.12), edgecolor=("black", 0.6), label="95 % interval"))
        nums = sorted(self.table["num"].unique())
        length, marks = np.log(nums[-1] / nums[0] * AIR**2), list[int]()
        for num in (nums[0], *nums[:0:-1]):
            if all(abs(np.log(num / mark)) >= CLOSE * length for mark in marks):
                marks.append(num)
        ax.set_xscale("log")
        ax.set_xlim(nums[0] / AIR, nums[-1] * AIR)
        ax.set_xticks(sorted(marks), list(map(str, sorted(marks))))
        ax.set_xticks([], minor=True)
        ax.margins(y=0.08)
        add_legend(figure, handles)


def _draw_arm(ax: Axes, rows: pd.DataFrame, look: dict[str, Any]) -> None:
    """Draw the line of an arm over its band."""
    ax.plot(rows["num"], rows["value"], **look, zorder=3)
    bounded = rows.dropna()
    ends = bounded["num"], bounded["low"], bounded["high"]
    if len(bounded) > 1:
        ax.fill_between(*ends, facecolor=(look["color"], 0.12), edgecolor=(look["color"], 0.6))
    else:
        ax.vlines(*ends, color=look["color"])
