"""The claims of MeSa, and the statistics that test them; `docs/papers.md` has their formulas.

A claim about a figure is a claim about sums of its cells: of the top row of a matrix, or of its diagonal, layers
counted from 0. Intervals of cells are over images, and those of sums of cells are conservative: they hold the truth
whenever all the cells' intervals do, under any dependence. For a score the per-image differences are resampled, because
both networks saw the same images.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.lab.evaluation.scores import Scores
from cka_probe.papers.claims import Statistic, read_claims, statistic
from cka_probe.papers.evidence import Estimate, RunKey, combine, earlier_more_similar, more_similar, top_row, undefined
from cka_probe.papers.mesa.study import MesaEvidence
from cka_probe.similarity.resampling import bootstrap_interval

LEFT, MIDDLE, RIGHT = slice(0, 2), slice(2, 7), slice(7, 9)
"""The ends of the U and what lies between: patch mergings, attention branches, patch merging and last norm."""


def u_shape(matrix: SimilarityMatrix) -> Estimate:
    """Return how far the lower end of the top row stands above its middle, in CKA; above 0 is a U."""
    return combine([top_row(matrix, LEFT), top_row(matrix, RIGHT)], np.min) - top_row(matrix, MIDDLE)


def lighter_middle(lighter: SimilarityMatrix, darker: SimilarityMatrix) -> Estimate:
    """Return how much more similar to layer 0 the layers 2 to 6 of one network are than those of another, in CKA."""
    return top_row(lighter, MIDDLE) - top_row(darker, MIDDLE)


def higher_score(higher: Scores, lower: Scores, measure: str) -> Estimate:
    """Return the mean difference of a measure between two networks, each image with itself, in its own unit.

    Raises:
        DataError: The two were scored over different images.
    """
    higher.check_same_images(higher.table.index, lower.table.index)
    if measure not in higher.table or measure not in lower.table:
        return undefined(f"the scores have no {measure}")
    difference = (higher.table[measure] - lower.table[measure].reindex(higher.table.index)).to_numpy(float)
    return mean_over_images(difference, higher, f"no image has {measure} for both")


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


def _of_scores(measure: str, domain: str, higher: str, lower: str) -> Statistic:
    """Return by how much the first fine-tuned stage has more of a measure than the second."""

    def read(evidence: MesaEvidence, run: RunKey, stage: str) -> Scores | None:
        return evidence.scores(run.seed, stage, domain)

    return Statistic(partial(higher_score, measure=measure), read, (higher, lower))


STATISTICS: dict[str, Callable[..., Statistic]] = {
    "u_shape": statistic(u_shape, _similarity),
    "later_change_more": statistic(earlier_more_similar, _similarity),
    "repaired_5_6": statistic(partial(more_similar, layers=slice(5, 7)), _similarity),
    "repaired_7_8": statistic(partial(more_similar, layers=slice(7, 9)), _similarity),
    "lighter_middle": statistic(lighter_middle, _similarity),
    "higher_score": _of_scores,
}
"""Statistics by their name in `claims.csv`."""

CLAIMS = read_claims(Path(__file__).with_name("claims.csv"), STATISTICS)
"""The paper's claims, and that pre-training helps at all, without which the others are about nothing; with controls."""
