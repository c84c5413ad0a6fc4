"""The claims of Depth-to-Semantic, and the statistics that test them; `docs/papers.md` has their formulas.

`claims.csv` has the paper's claims, ours about the faults of the released code ("claims_code"), which neither paper nor
code says anything of, and ours about layers ("claims_layers"), each followed by its controls. Cases are named as in
`Case.of`.

"Classification" is that of procedural objects wherever a study generates its own data: it replaces the paper's
ImageNet, and is not called so. "Depth" is from video; depth after classification is the paper's "Depth".
"""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cka_probe.attribution.attributions import CONTROLS as MAP_CONTROLS
from cka_probe.attribution.attributions import Attributions
from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.lab.evaluation.detection_scores import DETECTION_MEASURES, DetectionScores
from cka_probe.papers.claims import Statistic, read_claims, statistic
from cka_probe.papers.depth_to_semantic.study import Case, CaseScores, SemanticEvidence, tuned
from cka_probe.papers.evidence import (
    Estimate,
    RunKey,
    change,
    combine,
    earlier_more_similar,
    more_similar,
    undefined,
)

MAIN = "main"
"""The paper's score: `miou_subset`, or `miou` of data that has no subset."""

LEVELS = 101
"""Of the mIoU, at which accuracies are compared."""

PART = 0.9
"""Share of the other's last value: the level of `sooner`."""

NO_MAP = "no test image has a map that is not zero"


def named(scores: CaseScores, measure: str) -> str:
    """Return the name of a measure, `MAIN` being one of three."""
    if isinstance(scores, DetectionScores):
        return "map" if measure == MAIN else measure
    return measure if measure != MAIN else "miou_subset" if scores.subset else "miou"


def gain(better: Any, worse: Any, measure: str, interval: bool = True) -> Estimate:
    """Return how much more of a measure a model has than another on the same images, in points of 100.

    Raises:
        DataError: The images differ.
    """
    name = named(better, measure)
    if interval:
        return _in_points(name, *better.paired_difference(worse, name))
    better.check_same_images(better.images, worse.images)
    return _in_points(name, float(better.values()[name] - worse.values()[name]))


def value_of(scores: CaseScores, measure: str, interval: bool = True) -> Estimate:
    """Return a measure, in percent where it is a share."""
    name = named(scores, measure)
    value, low, high = float(scores.values()[name]), math.nan, math.nan
    if interval and math.isfinite(value):
        low, high = (float(end) for end in scores.intervals().loc[name, ["low", "high"]])
    return _in_points(name, value, low, high)


def _in_points(name: str, value: float, low: float = math.nan, high: float = math.nan) -> Estimate:
    """Return shares in percent; nats and average precisions, which the paper prints as fractions, as they are."""
    factor = 1.0 if name in ("cross_entropy", *DETECTION_MEASURES) else 100.0
    return factor * Estimate(value, low, high, "" if math.isfinite(value) else f"no image has {name}")


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

    The two are rows of validation.csv, of the same steps. The area is the mean of the score over training: of two runs
    that are equally good at the end, the one that was good sooner has more.
    """
    return _of_paired(better, worse, lambda steps, first, second: 100 * (area(steps, first) - area(steps, second)))


def sooner(better: pd.DataFrame, worse: pd.DataFrame) -> Estimate:
    """Return by how much less of the training the first has 0.9 of what the second ends with, in percent of it.

    It measures speed alone, and is undefined where that level is not reached.
    """

    def difference(steps: np.ndarray, *curves: np.ndarray) -> float:
        early, late = (reached(steps, curve, PART * curves[1][-1]) for curve in curves)
        return 100 * (late - early) / float(steps[-1])

    return _of_paired(better, worse, difference, f"{PART:g} of the other's last value is not reached")


def accuracy_at_equal_miou(better: pd.DataFrame, worse: pd.DataFrame) -> Estimate:
    """Return how much more pixel accuracy the first has when both have the same mIoU of all classes, in points.

    The two are rows of validation.csv. At a level of the mIoU a run has the accuracy of the step, linearly between
    those given, at which it first reaches that level. The number is the mean over the levels that both pass through.
    """
    curves = []
    for table in (better, worse):
        if "miou" not in table or "accuracy" not in table:
            return undefined("no mIoU of all classes or no accuracy was measured during training")
        curves.append(table[["step", "miou", "accuracy"]].to_numpy(np.float64).T)
    if not all(np.isfinite(curve).all() for curve in curves):
        return undefined("miou or accuracy is not a number at some step")
    low, high = max(curve[1][0] for curve in curves), min(curve[1].max() for curve in curves)
    if low >= high:
        return undefined("the two have no mIoU in common")
    levels = np.linspace(low, high, LEVELS)
    first, second = (
        [np.interp(reached(steps, miou, level), steps, accuracy) for level in levels]
        for steps, miou, accuracy in curves
    )
    return Estimate(100 * float(np.mean(first) - np.mean(second)))


def _of_paired(better: pd.DataFrame, worse: pd.DataFrame, function: Callable[..., float], reason: str = "") -> Estimate:
    """Return a function of the common steps of two curves and their values there; or why there is no value."""
    both = [name for name in ("miou_subset", "miou") if name in better and name in worse]
    if not both:
        return undefined("no mIoU was measured during training")
    if list(better["step"]) != list(worse["step"]) or len(better) < 2:
        return undefined("the two were not validated at the same two or more steps")
    first, second = (table[both[0]].to_numpy(np.float64) for table in (better, worse))
    if not np.isfinite([first, second]).all():
        return undefined(f"{both[0]} is not a number at some step")
    value = function(better["step"].to_numpy(np.float64), first, second)
    return Estimate(value) if math.isfinite(value) else undefined(reason)


def least_gain(*scores: CaseScores, interval: bool) -> Estimate:
    """Return how much more of the main score each in an even place has, at least, than the one after it."""
    pairs = zip(scores[::2], scores[1::2], strict=True)
    return combine([gain(better, worse, MAIN, interval) for better, worse in pairs], np.min)


def _failure(evidence: SemanticEvidence, case: Case, run: RunKey) -> Estimate | None:
    """Return why a case has no number, if its loss stopped being one."""
    return undefined(f"the loss of {case.name} stopped being a number") if evidence.diverged(case, run) else None


def _scores(evidence: SemanticEvidence, run: RunKey, name: str) -> CaseScores | Estimate | None:
    """Return the scores of a case on the test images, or with "@training" on those that it was trained on."""
    name, _, training = name.partition("@")
    case = Case.of(name)
    scores = evidence.training_scores(case, run) if training else evidence.scores(case, run)
    return scores or _failure(evidence, case, run)


def _validation(evidence: SemanticEvidence, run: RunKey, name: str) -> pd.DataFrame | Estimate | None:
    case = Case.of(name)
    failure = _failure(evidence, case, run)
    return evidence.curves(case, run)[1] if failure is None else failure


def _similarity(evidence: SemanticEvidence, run: RunKey, pair: str) -> SimilarityMatrix | None:
    """Return the similarity of two networks, "x:y": an arm as it was pre-trained, or, as arm~mode, fine-tuned."""
    x, y = (tuned(*name.split("~")) if "~" in name else name for name in pair.split(":"))
    return evidence.similarity(run.seed, x, y)


def _maps(evidence: SemanticEvidence, run: RunKey, name: str) -> Attributions | None:
    result = evidence.gradcam(run.seed)
    return None if result is None or name not in result.models else result


def measured(case: Case, measure: str, images: str = "") -> Statistic:
    """Return how much of a measure a case has on the test images, or on `images` "@training"."""
    return Statistic(partial(value_of, measure=measure), _scores, (case.name + images,), per_seed=False, resampled=True)


def gains(better: str, worse: str, measure: str = MAIN) -> Statistic:
    """Return how much more of a measure one case has than another."""
    return Statistic(partial(gain, measure=measure), _scores, (better, worse), per_seed=False, resampled=True)


def map_measure(case: Case, measure: str) -> Statistic:
    """Return how much of a measure the maps of a case have, mean over images."""
    return _of_maps(lambda result: result.mean(case.name, measure), measure, case.name)


def map_gain(better: str, worse: str, measure: str = "ap") -> Statistic:
    """Return how much more of a measure the maps of one case have than those of another, in pairs."""
    first, second = Case.of(better).name, Case.of(worse).name
    return _of_maps(lambda result: result.difference(first, second, measure), measure, first, second)


def map_margin(case: str, control: str) -> Statistic:
    """Return how much better a map finds boundaries than "chance", or one of the controls, in pairs."""
    name = Case.of(case).name
    return _of_maps(lambda result: result.difference(name, MAP_CONTROLS.get(control, control)), "ap", name)


def _of_maps(row: Callable[[Attributions], dict[str, float]], measure: str, *names: str) -> Statistic:
    """Return a statistic of the maps of some cases: a row with value, low, high, num."""

    def estimate(result: Attributions, *_: Attributions) -> Estimate:
        numbers, factor = row(result), 1.0 if measure.startswith("correlation") else 100.0
        if not numbers["num"]:
            return undefined(NO_MAP)
        value, low, high = (float(numbers[end]) for end in ("value", "low", "high"))
        return factor * Estimate(value, low, high)

    return Statistic(estimate, _maps, names)


STATISTICS: dict[str, Callable[..., Statistic]] = {
    "gain": gains,
    "least_gain": lambda *names: Statistic(least_gain, _scores, names, per_seed=False, resampled=True),
    "area_gain": statistic(area_gain, _validation, per_seed=False),
    "sooner": statistic(sooner, _validation, per_seed=False),
    "accuracy_at_equal_miou": statistic(accuracy_at_equal_miou, _validation, per_seed=False),
    "map_gain": map_gain,
    "map_margin": map_margin,
    "change": statistic(change, _similarity),
    "later_change_more": statistic(earlier_more_similar, _similarity),
    "layer_divergence": statistic(earlier_more_similar, _similarity),
    "closer": statistic(more_similar, _similarity),
}
"""Statistics by their name in `claims.csv`."""

CLAIMS = read_claims(Path(__file__).with_name("claims.csv"), STATISTICS)
"""The claims that are tested, each followed by its controls."""
