"""Two measures of arms against each other, such as mIoU against pixel accuracy.

A point for each result, its intervals a cross. Where an arm has several results (trials), each is a small point and
their mean, which has no cross, is a large one: the spread of the small ones says what the mean is worth. Arms are
numbered, in the legend and next to their points, which colour and marker alone would not tell apart where many lie
close together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import figure as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from cka_probe.errors import DataError
from cka_probe.plotting import labels, style
from cka_probe.plotting.figure import PANEL, add_legend, single_panel

UNKNOWN = (float("nan"), float("nan"))
DISTANCES = (1.5, 2.1, 3.0, 4.0, 5.0)
"""Em from a point to its number; from the third on, a line leads to it."""
APART = (1.5, 1.0)
"""Em, across and up, between the middles of two numbers or of a number and a point."""


@dataclass(frozen=True)
class Point:
    """One result.

    Attributes:
        arm: Its arm.
        x: Its value of the first measure; NaN: there is none, and no point.
        y: Of the second.
        x_interval: low and high of `x`; NaN where not known.
        y_interval: Of `y`.

    Raises:
        DataError: A value is outside its interval.
    """

    arm: str
    x: float
    y: float
    x_interval: tuple[float, float] = UNKNOWN
    y_interval: tuple[float, float] = UNKNOWN

    def __post_init__(self) -> None:
        for value, (low, high) in ((self.x, self.x_interval), (self.y, self.y_interval)):
            if np.isfinite([low, high]).any() and not low <= value <= high:
                raise DataError(
                    f"{self.arm}: expected a value in its interval, found {value:g} and [{low:g}, {high:g}]; "
                    "compute them from the same images"
                )


@dataclass(frozen=True)
class Scatter:
    """Two measures of arms against each other.

    Attributes:
        points: At least one with both values.
        across: Words along the horizontal axis, such as "pixel accuracy".
        up: Words along the vertical one.
        title: The line above.
        interval: What the crosses are.

    Raises:
        DataError: There is no point with two values.
    """

    points: Sequence[Point]
    across: str
    up: str
    title: str = ""
    interval: str = "95 % interval"

    width = narrowest = style.COLUMN

    def __post_init__(self) -> None:
        if not any(np.isfinite([point.x, point.y]).all() for point in self.points):
            raise DataError(
                "expected at least one point with two values to draw, found none; evaluate a checkpoint first"
            )

    def draw(self, figure: mpl.Figure) -> None:
        """Draw on an empty figure."""
        ax = single_panel(figure, self.title, self.across, self.up)
        means: dict[str, tuple[float, float]] = {}
        handles: list[Artist] = []
        arms = list(dict.fromkeys(point.arm for point in self.points))
        known = [point for point in self.points if np.isfinite([point.x, point.y]).all()]
        for number, arm in enumerate(arms):
            look, points = _look(number), [point for point in known if point.arm == arm]
            prefix = f"{number + 1}  " if len(arms) > 1 else ""
            handles.append(Line2D([], [], **look, label=prefix + labels.cut(arm, labels.LONGEST)))
            if points:
                x, y = np.mean([(point.x, point.y) for point in points], axis=0)
                means[prefix.strip()] = (x, y)
                _draw_points(ax, points, look)
            if len(points) > 1:
                ax.plot(x, y, **look | {"markersize": style.points(6.2), "zorder": 4})
        if any(np.isfinite(ends).all() for point in known for ends in (point.x_interval, point.y_interval)):
            handles.append(Line2D([], [], color="black", alpha=0.6, label=self.interval))
        if len(known) > len(means):
            mean = _look(0) | {"color": "black", "markersize": style.points(6.2)}
            handles.append(Line2D([], [], **mean, label="large: mean of an arm"))
        ax.margins(0.08)
        if len(arms) > 1:
            _write_numbers(ax, means, np.array([(point.x, point.y) for point in known]))
        add_legend(figure, handles)


def _look(number: int) -> dict[str, Any]:
    """Return how the only point of an arm looks."""
    size = {"markersize": style.points(5.2), "markeredgewidth": style.points(0.5), "zorder": 3}
    return style.arm(number) | size | {"linestyle": "", "markeredgecolor": "white"}


def _draw_points(ax: Axes, points: Sequence[Point], look: dict[str, Any]) -> None:
    """Draw the points of an arm with their crosses, small if there are several."""
    x, y = np.array([(point.x, point.y) for point in points]).T
    ends = np.array([(point.x_interval, point.y_interval) for point in points])  # (points, x and y, low and high)
    x_error, y_error = np.abs(ends.transpose(1, 2, 0) - np.array([x, y])[:, None])
    several = len(points) > 1
    small: dict[str, Any] = {"markersize": style.points(2.8), "markeredgewidth": 0.0, "alpha": 0.6} if several else {}
    cross: dict[str, Any] = {"elinewidth": style.points(0.5 if several else 0.9), "ecolor": (look["color"], 0.6)}
    ax.errorbar(x, y, xerr=x_error, yerr=y_error, **look | small | cross)


def _write_numbers(ax: Axes, means: Mapping[str, tuple[float, float]], points: np.ndarray) -> None:
    """Write the number of each arm next to its point, where it is over no point and no other number.

    Args:
        ax: Axes with their final limits.
        means: The point of each number.
        points: (n, 2), all of them.
    """
    low, high = np.array([ax.get_xlim(), ax.get_ylim()]).T
    size = np.array(PANEL)
    angles = np.pi / 4 + 2 * np.pi * np.arange(16) / 16  # above and to the right first
    around = np.array([(d * np.cos(angle), d * np.sin(angle)) for d in DISTANCES for angle in angles])
    obstacles = list((np.array([*points, *means.values()]) - low) / (high - low) * size)
    for number, mean in means.items():
        options = (np.array(mean) - low) / (high - low) * size + around
        overlaps = (np.abs(options[:, None] - obstacles) < APART).all(-1).sum(1)
        outside = ((options < 0.8) | (options > size - 0.8)).any(1)
        best = int((overlaps + 100 * outside).argmin())
        obstacles.append(options[best])
        offset: dict[str, Any] = {"xytext": around[best] * style.small(), "textcoords": "offset points"}
        if np.hypot(*around[best]) > DISTANCES[1] + 0.1:
            line = {"arrowstyle": "-", "color": style.GREY, "linewidth": style.points(0.4), "shrinkB": 0}
            ax.annotate("", mean, **offset, arrowprops=line | {"shrinkA": style.points(3)})
        ax.annotate(number, mean, **offset, fontsize=style.small(), ha="center", va="center", zorder=6)
