"""A measure against the number of training images, a line with its band for each arm.

The axis of numbers is logarithmic, as each number is usually a multiple of the one before, and is marked at the numbers
that were tried. A band goes from the lower to the upper ends of the intervals, and has thin borders, as those of
several arms lie over each other; an arm that was tried with one number has a bar instead.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import figure as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from cka_probe.errors import DataError
from cka_probe.plotting import labels, style
from cka_probe.plotting.figure import PANEL, add_legend, single_panel

AIR = 1.15
"""Factor between the numbers and the ends of their axis."""


@dataclass(frozen=True)
class SizedArm:
    """One arm.

    Attributes:
        name: What it is called.
        nums: (k,) numbers of training images, above 0 and increasing.
        values: (k,) of the measure; NaN: not known.
        low: (k,) lower ends of intervals; NaN: not known.
        high: (k,) upper ends.

    Raises:
        DataError: Numbers do not increase, or lengths differ.
    """

    name: str
    nums: Sequence[int]
    values: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]

    def __post_init__(self) -> None:
        lengths = {len(part) for part in (self.nums, self.values, self.low, self.high)}
        if len(lengths) > 1 or min(self.nums) <= 0 or (np.diff(self.nums) <= 0).any():
            raise DataError(
                f"{self.name}: expected increasing numbers of images with a value and an interval each, found "
                f"{list(self.nums)}, {len(self.values)} values and {len(self.low)} and {len(self.high)} ends; sort them"
            )


@dataclass(frozen=True)
class SizeCurve:
    """A measure of arms against the number of training images.

    Attributes:
        arms: At least one, with at least one value.
        up: Words along the vertical axis, such as "mIoU, 7 classes".
        title: The line above.
        across: Words along the horizontal axis.
        band: What the bands are.

    Raises:
        DataError: There is no value.
    """

    arms: Sequence[SizedArm]
    up: str
    title: str = ""
    across: str = "labelled training images"
    band: str = "95 % interval"

    width = narrowest = style.COLUMN

    def __post_init__(self) -> None:
        if not any(np.isfinite(arm.values).any() for arm in self.arms):
            raise DataError("expected at least one value to draw, found none; evaluate a checkpoint first")

    def draw(self, figure: mpl.Figure) -> None:
        """Draw on an empty figure."""
        ax = single_panel(figure, self.title, self.across, self.up)
        handles: list[Artist] = []
        for number, arm in enumerate(self.arms):
            _draw_arm(ax, arm, number)
            handles.append(Line2D([], [], **style.arm(number), label=labels.cut(arm.name, labels.LONGEST)))
        if any(np.isfinite([*arm.low, *arm.high]).any() for arm in self.arms):
            handles.append(Patch(facecolor=("black", 0.12), edgecolor=("black", 0.6), label=self.band))
        nums = sorted({num for arm in self.arms for num in arm.nums})
        ax.set_xscale("log")
        ax.set_xlim(nums[0] / AIR, nums[-1] * AIR)
        marks = _marks(nums, PANEL[0])
        ax.set_xticks(marks, list(map(str, marks)))
        ax.set_xticks([], minor=True)
        ax.margins(y=0.08)
        add_legend(figure, handles)


def _draw_arm(ax: Axes, arm: SizedArm, number: int) -> None:
    """Draw the line of an arm over its band."""
    nums, values, low, high = (np.asarray(part, float) for part in (arm.nums, arm.values, arm.low, arm.high))
    look, known = style.arm(number), np.isfinite(values)
    ax.plot(nums[known], values[known], **look, zorder=3)
    bounded = known & np.isfinite(low) & np.isfinite(high)
    if bounded.sum() > 1:
        faint, border = (look["color"], 0.12), (look["color"], 0.6)
        ax.fill_between(nums[bounded], low[bounded], high[bounded], facecolor=faint, edgecolor=border)
    else:
        ax.vlines(nums[bounded], low[bounded], high[bounded], color=look["color"])


def _marks(nums: Sequence[int], room: float) -> list[int]:
    """Return the numbers that a logarithmic axis `room` em wide has place for, the first and the last among them.

    >>> _marks([4, 16, 64], 30), _marks([60, 62, 64, 66, 68, 70, 120], 20)
    ([4, 16, 64], [60, 70, 120])
    """
    per_fold = room / np.log(nums[-1] / nums[0] * AIR**2)
    marks: list[int] = []
    for num in (nums[0], *nums[:0:-1]):
        distances = [(labels.width(str(num)) + labels.width(str(mark))) / 2 + 1 for mark in marks]
        if all(abs(np.log(num / mark)) * per_fold >= em for mark, em in zip(marks, distances, strict=True)):
            marks.append(num)
    return sorted(marks)
