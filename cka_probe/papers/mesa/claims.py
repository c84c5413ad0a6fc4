"""The claims of MeSa, and the statistics that test them; `docs/papers.md` has their formulas.

A claim about a figure is a claim about sums of its cells: of the top row of a matrix, or of its diagonal, layers
counted from 0. Intervals of cells are over images, and those of sums of cells are conservative: they hold the truth
whenever all the cells' intervals do, under any dependence. For a score the per-image differences are resampled, because
both networks saw the same images.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.lab.evaluation.scores import OUTSIDE, Scores, describe_measure
from cka_probe.papers.claims import Statistic, read_claims, statistic
from cka_probe.papers.evidence import (
    Estimate,
    RunKey,
    combine,
    earlier_more_similar,
    mean_diagonal,
    more_similar,
    top_row,
    undefined,
)
from cka_probe.papers.mesa.study import MesaEvidence
from cka_probe.similarity.resampling import bootstrap_interval, interval_of_draws, resample_counts

LEFT, MIDDLE, RIGHT = slice(0, 2), slice(2, 7), slice(7, 9)
"""The ends of the U and what lies between: patch mergings, attention branches, patch merging and last norm."""


def u_shape(matrix: SimilarityMatrix) -> Estimate:
    """Return how far the lower end of the top row stands above its middle, in CKA; above 0 is a U."""
    return combine([top_row(matrix, LEFT), top_row(matrix, RIGHT)], np.min) - top_row(matrix, MIDDLE)


def lighter_middle(lighter: SimilarityMatrix, darker: SimilarityMatrix) -> Estimate:
    """Return how much more similar to layer 0 the layers 2 to 6 of one network are than those of another, in CKA."""
    return top_row(lighter, MIDDLE) - top_row(darker, MIDDLE)


def least_fall(matrix: SimilarityMatrix, last: int) -> Estimate:
    """Return the smallest fall of the top row from a layer to the next, up to layer `last`, in CKA."""
    cells = [top_row(matrix, slice(layer, layer + 1)) for layer in range(last + 1)]
    return combine([before - after for before, after in pairwise(cells)], np.min)


def mean_fall(matrix: SimilarityMatrix, last: int) -> Estimate:
    """Return how much more similar to layer 0 the first half of the layers 1 to `last` is than the second, in CKA."""
    middle = 1 + last // 2
    return top_row(matrix, slice(1, middle)) - top_row(matrix, slice(middle, last + 1))


def rises_after(matrix: SimilarityMatrix, last: int) -> Estimate:
    """Return how much more similar to layer 0 the layers after `last` are than layer `last`, in CKA."""
    return top_row(matrix, slice(last + 1, None)) - top_row(matrix, slice(last, last + 1))


def last_change_more(matrix: SimilarityMatrix) -> Estimate:
    """Return how much more similar to themselves the layers 0 to 6 are than 7 and 8, in CKA: x before, y after."""
    return mean_diagonal(matrix, slice(0, 7)) - mean_diagonal(matrix, RIGHT)


def higher_score(higher: Scores, lower: Scores, measure: str) -> Estimate:
    """Return the mean difference of a measure between two networks, each image with itself, in its own unit.

    Raises:
        DataError: The two were scored over different images.
    """
    pairs = _paired(higher, lower, measure)
    return pairs if isinstance(pairs, Estimate) else mean_over_images(pairs[0] - pairs[1], higher, "")


def improvement(before: Scores, after: Scores, measure: str) -> Estimate:
    """Return by how much the mean of a measure is better after than before, in percent of that before.

    The mean is over the images that have the measure for both, and the interval is of resamples of these images.

    Raises:
        DataError: The two were scored over different images.
    """
    pairs = _paired(before, after, measure)
    if isinstance(pairs, Estimate):
        return pairs
    if not pairs[0].any():
        return undefined(f"{measure} is 0 before")
    percent = 100.0 if describe_measure(measure).better == "lower" else -100.0
    (first, second), ratio = pairs, pairs[1].mean() / pairs[0].mean()
    counts = np.concatenate(list(resample_counts(len(first), before.resamples, before.seed)))
    draws = percent * (1 - (counts @ second) / (counts @ first))
    value = float(percent * (1 - ratio))
    return Estimate(value, *interval_of_draws(value, draws, percent * (ratio * first - second)))


def below(scores: Scores, measure: str, other: float) -> Estimate:
    """Return by how much the mean of a measure is below another number, in percent of that."""
    return Estimate(100.0, 100.0, 100.0) - (100 / other) * mean_score(scores, measure)


def _paired(first: Scores, second: Scores, measure: str) -> np.ndarray | Estimate:
    """Return a measure of two networks on the images that have it for both, (2, images); or why there is none."""
    first.check_same_images(first.table.index, second.table.index)
    if measure not in first.table or measure not in second.table:
        return undefined(f"the scores have no {measure}")
    pairs = np.stack([scores.table[measure].reindex(first.table.index).to_numpy(float) for scores in (first, second)])
    pairs = pairs[:, np.isfinite(pairs).all(0)]
    return pairs if pairs.size else undefined(f"no image has {measure} for both")


def excess_outside(scores: Scores) -> Estimate:
    """Return how much larger abs_rel is above and below the evaluated rows than inside, as a mean over images."""
    return _excess(scores, _outside(scores))


def more_outside(more: Scores, less: Scores) -> Estimate:
    """Return how much larger `excess_outside` is for one network than for another, each image with itself.

    Raises:
        DataError: The two were scored over different images.
    """
    more.check_same_images(more.table.index, less.table.index)
    first, second = _outside(more), _outside(less)
    return _excess(more, None if first is None or second is None else first - second.reindex(first.index))


def _outside(scores: Scores) -> pd.Series | None:
    """Return abs_rel outside less inside, by image; `None` where there is no outside."""
    return scores.table[OUTSIDE] - scores.table["abs_rel"] if OUTSIDE in scores.table else None


def _excess(scores: Scores, values: pd.Series | None) -> Estimate:
    if values is None:
        return undefined(f"the scores have no {OUTSIDE}")
    return mean_over_images(values.to_numpy(float), scores, "no image has measured depth outside the evaluated rows")


def mean_score(scores: Scores, measure: str) -> Estimate:
    """Return the mean of a measure over the images that have it."""
    if measure not in scores.table:
        return undefined(f"the scores have no {measure}")
    return mean_over_images(scores.table[measure].to_numpy(float), scores, f"no image has {measure}")


def mean_over_images(values: np.ndarray, scores: Scores, reason: str) -> Estimate:
    """Return the mean of (images,) values, NaN left out, with the bootstrap interval of the scores; or the reason."""
    values = values[np.isfinite(values)]
    if not len(values):
        return undefined(reason)
    low, high = bootstrap_interval(values[:, None], resamples=scores.resamples, seed=scores.seed)
    return Estimate(float(values.mean()), float(low[0]), float(high[0]))


def _similarity(evidence: MesaEvidence, run: RunKey, pair: str) -> SimilarityMatrix | None:
    """Return the similarity of two stages, x~y or, if it is not the paper's variant, x~y~variant."""
    return evidence.similarity(run.seed, *pair.split("~"))


def _of_scores(function: Callable[..., Estimate]) -> Callable[..., Statistic]:
    """Return what makes a statistic of scores: of (measure, domain, *fine-tuned stages)."""

    def make(measure: str, domain: str, *stages: str) -> Statistic:
        def read(evidence: MesaEvidence, run: RunKey, stage: str) -> Scores | None:
            return evidence.scores(run.seed, stage, domain)

        return Statistic(partial(function, measure=measure), read, stages)

    return make


def _in_scores(evidence: MesaEvidence, run: RunKey, stage: str) -> Scores | None:
    """Return the scores of a fine-tuned stage in distribution."""
    return evidence.scores(run.seed, stage, "in")


def _below_paper(measure: str, other: str, stage: str) -> Statistic:
    """Return by how much a fine-tuned stage is below a number that the paper prints for NYUv2; not run on others."""

    def read(evidence: MesaEvidence, run: RunKey, stage: str) -> Scores | None:
        return evidence.scores(run.seed, stage, "in") if "nyuv2" in evidence.study["data"] else None

    return Statistic(partial(below, measure=measure, other=float(other)), read, (stage,))


def _of_row(function: Callable[..., Estimate]) -> Callable[..., Statistic]:
    """Return what makes a statistic of a top row: of (last layer, pair)."""
    return lambda last, pair: Statistic(partial(function, last=int(last)), _similarity, (pair,))


STATISTICS: dict[str, Callable[..., Statistic]] = {
    "u_shape": statistic(u_shape, _similarity),
    "later_change_more": statistic(earlier_more_similar, _similarity),
    "repaired_5_6": statistic(partial(more_similar, layers=slice(5, 7)), _similarity),
    "repaired_7_8": statistic(partial(more_similar, layers=slice(7, 9)), _similarity),
    "lighter_middle": statistic(lighter_middle, _similarity),
    "least_fall": _of_row(least_fall),
    "mean_fall": _of_row(mean_fall),
    "rises_after": _of_row(rises_after),
    "last_change_more": statistic(last_change_more, _similarity),
    "lighter_diagonal": statistic(more_similar, _similarity),
    "higher_score": _of_scores(higher_score),
    "improvement": _of_scores(improvement),
    "below_paper": _below_paper,
    "excess_outside": statistic(excess_outside, _in_scores),
    "more_outside": statistic(more_outside, _in_scores),
}
"""Statistics by their name in `claims.csv`."""

CLAIMS = read_claims(Path(__file__).with_name("claims.csv"), STATISTICS)
"""The paper's claims, and that pre-training helps at all, without which the others are about nothing; with controls."""
