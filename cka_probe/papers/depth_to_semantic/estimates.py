"""The statistics behind the claims, on one run or one seed.

    gain          how much more of a measure one case has than another, on the same test images, in points (of 100)
    least_gain    the least of several gains
    area_gain     difference of the areas under two curves of a held-out measure, in points
    sooner        by how much less of the training one curve reaches a level that the other sets
    change        1 - CKA(layer before, the same layer after fine-tuning)
    parting       CKA(layer of one arm, the same layer of another), earlier layers less later ones

**Area.** With steps s(1) < … < s(n) at which both runs were validated and m(i) the measure there, the area is

    sum over i of (m(i) + m(i + 1)) / 2 · (s(i + 1) - s(i)) / (s(n) - s(1))

the mean of the measure over training, by trapezoids: a run that is as good at the end but was good sooner has more.

**Level.** `sooner` asks at which step, linearly between those validated, a run first has 0.9 of what the other has at
the end, in percent of the last step. It is of speed alone, and undefined where that is not reached.

**Intervals.** Gains and measures have the bootstrap's over test images, the same draws for both (`LabelScores`);
curves have none, as images held out from training are not told apart in them. Cells of CKA: `cells`.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.errors import DataError
from cka_probe.lab.evaluation.label_scores import LabelScores
from cka_probe.papers.cells import mean_diagonal, undefined
from cka_probe.papers.estimate import Estimate

MAIN = "main"
"""The paper's score: `miou_subset`, or `miou` of data that has no subset."""

PART = 0.9
"""Of the other's last value: the level that `sooner` is about."""


def named(scores: LabelScores, measure: str) -> str:
    """Return the name of a measure, `MAIN` being one of two."""
    return measure if measure != MAIN else "miou_subset" if scores.subset else "miou"


def factor(measure: str) -> float:
    """Return by what a measure is multiplied to be written: shares are written in percent, nats as they are."""
    return 1.0 if measure == "cross_entropy" else 100.0


def gain(better: LabelScores, worse: LabelScores, measure: str, interval: bool = True) -> Estimate:
    """Return how much more of a measure a model has than another, in points.

    Args:
        better: Of which the claim says that it has more.
        worse: The other; of the same images.
        measure: In `LabelScores.measures`, or `MAIN`.
        interval: Whether to draw images again for one.

    Raises:
        DataError: The images or the classes are others.
    """
    name, times = named(better, measure), factor(measure)
    if not interval:
        if set(better.images) != set(worse.images) or better.classes != worse.classes:
            raise DataError("expected scores over the same images and classes, found others; evaluate both again")
        value, low, high = float(better.values()[name] - worse.values()[name]), math.nan, math.nan
    else:
        value, low, high = better.paired_difference(worse, name)
    return Estimate(times * value, times * low, times * high, "" if math.isfinite(value) else f"no image has {name}")


def value_of(scores: LabelScores, measure: str, interval: bool = True) -> Estimate:
    """Return a measure, in percent where it is a share; arguments as of `gain`."""
    name, times = named(scores, measure), factor(measure)
    value, low, high = float(scores.values()[name]), math.nan, math.nan
    if interval and math.isfinite(value):
        low, high = (float(end) for end in scores.intervals().loc[name, ["low", "high"]])
    return Estimate(times * value, times * low, times * high, "" if math.isfinite(value) else f"no image has {name}")


def least(estimates: Sequence[Estimate]) -> Estimate:
    """Return the least of several; its interval is from the least lower end to the least upper end.

    Raises:
        DataError: There is none.
    """
    if not estimates:
        raise DataError("expected an estimate to take the least of, found none; give one")
    values, low, high = (np.array([getattr(e, end) for e in estimates]) for end in ("value", "low", "high"))
    why = "; ".join(dict.fromkeys(estimate.undefined for estimate in estimates if estimate.undefined))
    return Estimate(float(values.min()), float(low.min()), float(high.min()), why)  # NaN wins, and says why


def area(steps: np.ndarray, values: np.ndarray) -> float:
    """Return the mean of a curve over its steps, by trapezoids.

    >>> area(np.array([0.0, 10.0, 30.0]), np.array([0.0, 1.0, 1.0]))
    0.8333333333333334
    """
    widths = np.diff(steps)
    return float((widths * (values[1:] + values[:-1]) / 2).sum() / widths.sum())


def reached(steps: np.ndarray, values: np.ndarray, level: float) -> float:
    """Return the first step, linearly between those given, at which a curve has a level; NaN if it never has.

    >>> reached(np.array([10.0, 20.0]), np.array([0.2, 0.6]), 0.4), reached(np.array([10.0]), np.array([0.2]), 0.4)
    (15.0, nan)
    """
    above = np.flatnonzero(values >= level)
    if not above.size:
        return math.nan
    at = above[0]
    if at == 0:
        return float(steps[0])
    part = (level - values[at - 1]) / (values[at] - values[at - 1])
    return float(steps[at - 1] + part * (steps[at] - steps[at - 1]))


def area_gain(better: pd.DataFrame, worse: pd.DataFrame) -> Estimate:
    """Return how much more area is under the first curve of the held-out main score than under the other, in points.

    Args:
        better: Rows of validation.csv: `step`, and `miou_subset` or `miou`.
        worse: The other's, validated at the same steps.
    """
    curves = _paired(better, worse)
    if isinstance(curves, str):
        return undefined(curves)
    steps, first, second = curves
    return Estimate(100 * (area(steps, first) - area(steps, second)), math.nan, math.nan)


def sooner(better: pd.DataFrame, worse: pd.DataFrame) -> Estimate:
    """Return by how much less of the training the first has 0.9 of what the second ends with, in percent of it."""
    curves = _paired(better, worse)
    if isinstance(curves, str):
        return undefined(curves)
    steps, first, second = curves
    early, late = (reached(steps, curve, PART * second[-1]) for curve in (first, second))
    if math.isnan(early) or math.isnan(late):
        return undefined(f"{PART:g} of the other's last value is not reached")
    return Estimate(100 * (late - early) / float(steps[-1]), math.nan, math.nan)


def change(matrix: SimilarityMatrix, part: slice = slice(None)) -> Estimate:
    """Return how much some layers changed, in CKA: x before, y after."""
    return Estimate(1.0, 1.0, 1.0) - mean_diagonal(matrix, part)


def later_change_more(matrix: SimilarityMatrix) -> Estimate:
    """Return how much more the later half of the layers changed than the earlier, in CKA; the middle one is earlier."""
    half = (len(matrix.rows) + 1) // 2
    return change(matrix, slice(half, None)) - change(matrix, slice(half))


def parting(matrix: SimilarityMatrix) -> Estimate:
    """Return how much more alike two arms are in the earlier half of their layers than in the later, in CKA."""
    half = (len(matrix.rows) + 1) // 2
    return mean_diagonal(matrix, slice(half)) - mean_diagonal(matrix, slice(half, None))


def largest_fall(profile: np.ndarray) -> int | None:
    """Return the layer before which a profile falls most, or `None` where it nowhere falls.

    >>> largest_fall(np.array([1.0, 0.9, 0.4, 0.3])), largest_fall(np.array([0.1, 0.2])) is None
    (2, True)
    """
    falls = profile[:-1] - profile[1:]
    if not np.isfinite(falls).any() or not np.nanmax(falls) > 0:
        return None
    return int(np.nanargmax(falls)) + 1


def _paired(better: pd.DataFrame, worse: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray] | str:
    """Return the common steps of two curves and their values there, or why there are none."""
    both = [name for name in ("miou_subset", "miou") if name in better and name in worse]
    if not both:
        return "no mIoU was measured during training"
    if list(better["step"]) != list(worse["step"]) or len(better) < 2:
        return "the two were not validated at the same two or more steps"
    first, second = (table[both[0]].to_numpy(np.float64) for table in (better, worse))
    if not np.isfinite([first, second]).all():
        return f"{both[0]} is not a number at some step"
    return better["step"].to_numpy(np.float64), first, second
