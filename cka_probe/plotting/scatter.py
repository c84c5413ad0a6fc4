"""Two measures of arms against each other, such as mIoU against pixel accuracy.

A point for each result, its intervals a cross. Where an arm has several results (trials), each is a small point and
their mean, which has no cross of its own, is a large one: the spread of the small ones says what the mean is worth.
Arms are numbered, in the legend and beside their points, which colour and marker alone would not tell apart where many
lie close together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon

from cka_probe.errors import DataError
from cka_probe.plotting import FigureFile, labels, style
from cka_probe.plotting.labels import plain_numbers
from cka_probe.plotting.pen import DISTANCES, HEIGHT, LEFT, RIGHT, Pen, SinglePanel, place_labels

UNKNOWN = (float("nan"), float("nan"))
LONGEST = 30.0  # em for the name of an arm


@dataclass(frozen=True)
class Point:
    """One result.

    Attributes:
        arm: Whose.
        x: Its value of the first measure; NaN: there is none, and no point.
        y: Of the second.
        x_interval: low and high of `x`; NaN where not known.
        y_interval: Of `y`.
    """

    arm: str
    x: float
    y: float
    x_interval: tuple[float, float] = UNKNOWN
    y_interval: tuple[float, float] = UNKNOWN


@dataclass(frozen=True)
class Scatter:
    """What is drawn.

    Attributes:
        points: At least one with both values.
        across: Words along the horizontal axis, such as "pixel accuracy".
        up: Words along the vertical one.
        title: The line above.
        interval: What the crosses are.
    """

    points: Sequence[Point]
    across: str
    up: str
    title: str = ""
    interval: str = "95 % interval"

    @property
    def arms(self) -> list[str]:
        """The names of the arms, in order."""
        return list(dict.fromkeys(point.arm for point in self.points))


def scatter(drawn: Scatter, ax: Axes) -> Axes:
    """Draw the points on `ax`, which they fill.

    Args:
        drawn: What to draw.
        ax: Axes of the proportions of `scatter_size`; with others some of it stays empty.

    Returns:
        `ax`.

    Raises:
        DataError: There is no point with two values, or one outside its interval.
    """
    pen, panel = _around(drawn).begin(ax)
    places: dict[int, np.ndarray] = {}
    for number, arm in enumerate(drawn.arms):
        look = style.arm_look(number, pen.scale) | {"linestyle": "", "markeredgecolor": "white"}
        points = [point for point in drawn.points if point.arm == arm and np.isfinite([point.x, point.y]).all()]
        for point in points:
            _draw_point(panel, point, look, pen, small=len(points) > 1)
        if points:
            places[number] = np.mean([(point.x, point.y) for point in points], axis=0)
        if len(points) > 1:
            size = {"markersize": 6.2 * pen.scale, "markeredgewidth": 0.5 * pen.scale}
            panel.plot(*places[number], **look | size | {"zorder": 4})
    panel.margins(0.08)
    plain_numbers(panel.xaxis, room=(style.COLUMN - LEFT - RIGHT) * style.POINTS / 6)
    plain_numbers(panel.yaxis)
    if len(drawn.arms) > 1:
        _write_numbers(panel, places, drawn, pen)
    return ax


def scatter_size(drawn: Scatter) -> tuple[float, float]:
    """Return width and height in inches, letters of 6 and 7 points given."""
    return _around(drawn).size


def _around(drawn: Scatter) -> SinglePanel:
    """Return what stands around the points."""
    if not any(np.isfinite([point.x, point.y]).all() for point in drawn.points):
        raise DataError("expected at least one point with two values to draw, found none; evaluate a checkpoint first")
    for point in drawn.points:
        for value, (low, high) in ((point.x, point.x_interval), (point.y, point.y_interval)):
            if np.isfinite([low, high]).any() and not low <= value <= high:
                raise DataError(
                    f"{point.arm}: expected a value in its interval, found {value:g} and [{low:g}, {high:g}]; "
                    "compute them from the same images"
                )
    handles = []
    for number, arm in enumerate(drawn.arms):
        look = style.arm_look(number) | {
            "linestyle": "",
            "markersize": 5.2,
            "markeredgecolor": "white",
            "markeredgewidth": 0.5,
        }
        name = f"{number + 1}  {labels.cut(arm, LONGEST)}" if len(drawn.arms) > 1 else labels.cut(arm, LONGEST)
        handles.append(Line2D([], [], **look, label=name))
    if any(np.isfinite(ends).all() for point in drawn.points for ends in (point.x_interval, point.y_interval)):
        handles.append(Line2D([], [], color="black", alpha=0.6, linewidth=0.9, label=drawn.interval))
    if any(drawn.arms.count(arm) < len([p for p in drawn.points if p.arm == arm]) for arm in drawn.arms):
        mean: dict[str, Any] = {
            "color": "black",
            "linestyle": "",
            "marker": "o",
            "markersize": 6.2,
            "markeredgecolor": "white",
        }
        handles.append(Line2D([], [], **mean, label="large: mean of an arm"))
    return SinglePanel(drawn.title, handles, drawn.across, drawn.up)


def _draw_point(panel: Axes, point: Point, look: dict, pen: Pen, *, small: bool) -> None:
    """Draw a point and the cross of its intervals."""
    line = {"color": look["color"], "linewidth": (0.5 if small else 0.9) * pen.scale, "zorder": 2}
    if np.isfinite(point.x_interval).all():
        panel.hlines(point.y, *point.x_interval, alpha=0.6, **line)
    if np.isfinite(point.y_interval).all():
        panel.vlines(point.x, *point.y_interval, alpha=0.6, **line)
    size = {"markersize": (2.8 if small else 5.2) * pen.scale, "markeredgewidth": 0.0 if small else 0.5 * pen.scale}
    panel.plot([point.x], [point.y], **look | size | {"alpha": 0.6 if small else 1.0, "zorder": 3})


def _write_numbers(panel: Axes, places: dict[int, np.ndarray], drawn: Scatter, pen: Pen) -> None:
    """Write the number of each arm beside its point, with a line to it where it has to stand apart."""
    size = np.array([style.COLUMN - LEFT - RIGHT, HEIGHT])
    low, high = np.array([panel.get_xlim(), panel.get_ylim()]).T
    at = {number: (place - low) / (high - low) * size for number, place in places.items()}
    crosses = [((p.x_interval[0], p.y), (p.x_interval[1], p.y)) for p in drawn.points]
    crosses += [((p.x, p.y_interval[0]), (p.x, p.y_interval[1])) for p in drawn.points]
    lines = ((np.array(crosses) - low) / (high - low) * size).reshape(-1, 4)
    lines = lines[np.isfinite(lines).all(1)]
    words = [str(number + 1) for number in at]
    wide = [labels.width(word) * 6 / style.POINTS for word in words]
    points = np.array(list(at.values()))
    look: dict[str, Any] = {"fontsize": pen.sizes.small, "ha": "center", "va": "center_baseline", "zorder": 6}
    for word, point, middle in zip(words, points, place_labels(points, wide, 0.085, lines, tuple(size)), strict=True):
        across, up = middle / size
        panel.text(across, up, word, transform=panel.transAxes, **look)
        away = np.hypot(*(middle - point))
        if away > DISTANCES[1]:
            ends = [point / size, (point + (middle - point) * (1 - 0.06 / away)) / size]
            leader: dict[str, Any] = {
                "closed": False,
                "fill": False,
                "edgecolor": "#707070",
                "linewidth": 0.4 * pen.scale,
                "zorder": 5,
            }
            panel.add_patch(Polygon(ends, transform=panel.transAxes, **leader))


save_scatter = FigureFile(scatter, scatter_size, arranged=False)
"""Draw points into files: `save_scatter(drawn, paths, style=…, venue=…)`. Same input, same bytes."""
