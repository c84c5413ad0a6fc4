"""A measure against the number of training images, a line with its band for each arm.

The axis of numbers is logarithmic, as each number is usually a multiple of the one before, and is marked at the numbers
that were tried. A band goes from the lower to the upper ends of the intervals, and has thin borders, as those of
several arms lie over each other; an arm that was tried with one number has a bar instead.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from cka_probe.errors import DataError
from cka_probe.plotting import FigureFile, labels, style
from cka_probe.plotting.labels import plain_numbers
from cka_probe.plotting.pen import LEFT, RIGHT, Pen, SinglePanel

LONGEST = 30.0  # em for the name of an arm
APART = 1.0  # em between the numbers of two ticks


@dataclass(frozen=True)
class SizedArm:
    """One arm.

    Attributes:
        name: What it is called.
        nums: (k,) numbers of training images, above 0 and increasing.
        values: (k,) of the measure; NaN: not known.
        low: (k,) lower ends of intervals; NaN: not known.
        high: (k,) upper ends.
    """

    name: str
    nums: Sequence[int]
    values: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


@dataclass(frozen=True)
class SizeCurve:
    """What is drawn.

    Attributes:
        arms: At least one, with at least one value.
        up: Words along the vertical axis, such as "mIoU, 7 classes".
        title: The line above.
        across: Words along the horizontal axis.
        band: What the bands are.
    """

    arms: Sequence[SizedArm]
    up: str
    title: str = ""
    across: str = "labelled training images"
    band: str = "95 % interval"


def size_curve(drawn: SizeCurve, ax: Axes) -> Axes:
    """Draw the lines on `ax`, which they fill.

    Args:
        drawn: What to draw.
        ax: Axes of the proportions of `size_curve_size`; with others some of it stays empty.

    Returns:
        `ax`.

    Raises:
        DataError: There is no value, numbers do not increase, or lengths differ.
    """
    pen, panel = _around(drawn).begin(ax)
    for number, arm in enumerate(drawn.arms):
        _draw_arm(panel, arm, style.arm_look(number, pen.scale), pen)
    panel.set_xscale("log")
    panel.minorticks_off()
    nums = sorted({num for arm in drawn.arms for num in arm.nums})
    panel.set_xlim(nums[0] / 1.15, nums[-1] * 1.15)
    marks = _marks(nums, (style.COLUMN - LEFT - RIGHT) * style.POINTS / 6)
    panel.set_xticks(marks, [str(mark) for mark in marks])
    panel.margins(y=0.08)
    plain_numbers(panel.yaxis)
    return ax


def size_curve_size(drawn: SizeCurve) -> tuple[float, float]:
    """Return width and height in inches, letters of 6 and 7 points given."""
    return _around(drawn).size


def _around(drawn: SizeCurve) -> SinglePanel:
    """Return what stands around the lines."""
    if not any(np.isfinite(arm.values).any() for arm in drawn.arms):
        raise DataError("expected at least one value to draw, found none; evaluate a checkpoint first")
    for arm in drawn.arms:
        lengths = {len(part) for part in (arm.nums, arm.values, arm.low, arm.high)}
        if len(lengths) > 1 or min(arm.nums) <= 0 or (np.diff(arm.nums) <= 0).any():
            raise DataError(
                f"{arm.name}: expected increasing numbers of images with a value and an interval each, found "
                f"{list(arm.nums)}, {len(arm.values)} values and {len(arm.low)} and {len(arm.high)} ends; sort them"
            )
    handles: list[Artist] = [
        Line2D([], [], **style.arm_look(number), label=labels.cut(arm.name, LONGEST))
        for number, arm in enumerate(drawn.arms)
    ]
    if any(np.isfinite([*arm.low, *arm.high]).any() for arm in drawn.arms):
        handles.append(Patch(facecolor=(0, 0, 0, 0.12), edgecolor=(0, 0, 0, 0.6), linewidth=0.5, label=drawn.band))
    return SinglePanel(drawn.title, handles, drawn.across, drawn.up)


def _draw_arm(panel: Axes, arm: SizedArm, look: dict, pen: Pen) -> None:
    """Draw the line of an arm over its band."""
    nums, values, low, high = (np.asarray(part, float) for part in (arm.nums, arm.values, arm.low, arm.high))
    known = np.isfinite(values)
    panel.plot(nums[known], values[known], **look, zorder=3)
    bounded = known & np.isfinite(low) & np.isfinite(high)
    if bounded.sum() > 1:
        band: dict[str, Any] = {
            "facecolor": (look["color"], 0.12),
            "edgecolor": (look["color"], 0.6),
            "linewidth": 0.5 * pen.scale,
        }
        panel.fill_between(nums[bounded], low[bounded], high[bounded], **band)
    else:
        line = {"color": look["color"], "linewidth": 0.9 * pen.scale, "zorder": 2}
        panel.vlines(nums[bounded], low[bounded], high[bounded], **line)


def _marks(nums: Sequence[int], room: float) -> list[int]:
    """Return the numbers that a logarithmic axis `room` em wide has place for, the first and the last among them.

    >>> _marks([4, 16, 64], 30), _marks([60, 62, 64, 66, 68, 70, 120], 12)
    ([4, 16, 64], [60, 70, 120])
    """
    if len(nums) < 2:
        return list(nums)
    at = np.log(nums) - np.log(nums[0])
    at *= room / at[-1]
    wide = [labels.width(str(num)) for num in nums]

    def apart(one: int, other: int) -> bool:
        return at[other] - at[one] >= (wide[one] + wide[other]) / 2 + APART

    kept = [0]
    for place in range(1, len(nums) - 1):
        if apart(kept[-1], place) and apart(place, len(nums) - 1):
            kept.append(place)
    return [nums[place] for place in (*kept, len(nums) - 1)]


save_size_curve = FigureFile(size_curve, size_curve_size, arranged=False)
"""Draw lines into files: `save_size_curve(drawn, paths, style=…, venue=…)`. Same input, same bytes."""
