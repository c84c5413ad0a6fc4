"""Learning rates as pure functions of the step.

A schedule takes the progress through a stage's steps after the warm-up, in [0, 1], to a multiplier in [0, 1];
the rate is `lr_min + (lr - lr_min) * multiplier`. Before it, the multiplier rises linearly.
"""

import math
from collections.abc import Callable

from cka_probe import registry


def cosine(progress: float) -> float:
    """Return half a cosine, from 1 to 0 (Loshchilov & Hutter 2017)."""
    return (1 + math.cos(math.pi * progress)) / 2


def polynomial(progress: float) -> float:
    """Return (1 - progress)^0.9, as segmentation is trained with."""
    return (1 - progress) ** 0.9


def constant(progress: float) -> float:
    """Return 1."""
    del progress
    return 1.0


def up_down(progress: float) -> float:
    """Return (2 p)^0.9 in the first half, 1 - (2 p - 1)^0.9 in the second, as MIM-Depth is trained with."""
    return (2 * progress) ** 0.9 if progress < 0.5 else 1 - (2 * progress - 1) ** 0.9


def late_drops(progress: float) -> float:
    """Return 1, a tenth after 7/8 of the way and a hundredth at the end, as SimMIM's long runs are."""
    return 1.0 if progress < 0.875 else 0.1 if progress < 1 else 0.01


SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": cosine,
    "polynomial": polynomial,
    "constant": constant,
    "up_down": up_down,
    "late_drops": late_drops,
}


def multiplier(step: int, steps: int, warmup: int, schedule: str) -> float:
    """Return what step `step` multiplies the learning rate by.

    Args:
        step: 0 to steps - 1.
        steps: In the stage.
        warmup: Of them, rising linearly; the first of them is 1 / warmup, not 0, or it would be wasted.
        schedule: A name in `SCHEDULES`.

    >>> [round(multiplier(step, 6, 2, "cosine"), 2) for step in range(6)]
    [0.5, 1.0, 1.0, 0.85, 0.5, 0.15]
    """
    shape = registry.get(SCHEDULES, schedule, "schedule")
    if step < warmup:
        return (step + 1) / warmup
    return shape((step - warmup) / max(steps - warmup, 1))
