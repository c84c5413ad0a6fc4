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
from cka_probe.papers.claims import Statistic, read_claims
from cka_probe.papers.evidence import Estimate, combine, mean_diagonal, top_row, undefined
from cka_probe.papers.mesa.evidence import MesaEvidence
from cka_probe.similarity.resampling import bootstrap_interval

LEFT, MIDDLE, RIGHT = slice(0, 2), slice(2, 7), slice(7, 9)
"""The ends of the U and what lies between: patch mergings, attention branches, patch merging and last norm."""

EARLIER, LATER = slice(0, 5), slice(5, 9)


def u_shape(matrix: SimilarityMatrix) -> Estimate:
    """Return how far the lower end of the top row stands above its middle, in CKA; above 0 is a U."""
    return combine([top_row(matrix, LEFT), top_row(matrix, RIGHT)], np.min) - top_row(matrix, MIDDLE)


def later_change_more(matrix: SimilarityMatrix) -> Estimate:
    """Return how much more layers 5 to 8 change than 0 to 4 do, in CKA: x before, y after fine-tuning."""
    return mean_diagonal(matrix, EARLIER) - mean_diagonal(matrix, LATER)


def repaired(before: SimilarityMatrix, after: SimilarityMatrix, layers: tuple[int, int]) -> Estimate:
    """Return how much less some layers, first and last, change after a stage was added than before, in CKA."""
    part = slice(layers[0], layers[1] + 1)
    return mean_diagonal(after, part) - mean_diagonal(before, part)


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


def _similarity(evidence: MesaEvidence, seed: int, pair: str) -> SimilarityMatrix | None:
    """Return the similarity of two stages, x~y or, if it is not the paper's variant, x~y~variant."""
    return evidence.similarity(seed, *pair.split("~"))


def _of_scores(measure: str, domain: str, higher: str, lower: str) -> Statistic:
    """Return by how much the first fine-tuned stage has more of a measure than the second."""

    def read(evidence: MesaEvidence, seed: int, stage: str) -> Scores | None:
        return evidence.scores(seed, stage, domain)

    return Statistic.of(partial(higher_score, measure=measure), read, higher, lower)


STATISTICS: dict[str, Callable[..., Statistic]] = {
    "u_shape": partial(Statistic.of, u_shape, _similarity),
    "later_change_more": partial(Statistic.of, later_change_more, _similarity),
    "repaired_5_6": partial(Statistic.of, partial(repaired, layers=(5, 6)), _similarity),
    "repaired_7_8": partial(Statistic.of, partial(repaired, layers=(7, 8)), _similarity),
    "lighter_middle": partial(Statistic.of, lighter_middle, _similarity),
    "higher_score": _of_scores,
}
"""Statistics by their name in `claims.csv`."""

CLAIMS = read_claims(Path(__file__).with_name("claims.csv"), STATISTICS)
"""The paper's claims, and that pre-training helps at all, without which the others are about nothing; with controls."""
