"""The claims of MeSa, and the statistics that test them.

A claim about a figure is a claim about sums of its cells. With r the top row of a matrix and d its diagonal, layers
counted from 0:

    u_shape            min(mean r[0:2], mean r[7:9]) - mean r[2:7]     both ends lighter than the middle
    later_change_more  mean(1 - d[5:9]) - mean(1 - d[0:5])             layers 5 to 8 change more than 0 to 4
    repaired           mean(d' - d) over some layers                   fine-tuning changes them less than before
    lighter_middle     mean r'[2:7] - mean r[2:7]
    higher_score       mean over images of (a - b), each image with itself

r[0] is 1 in a matrix of a network with itself, which helps the left end of the U; the minimum is with the right.

Intervals of cells are over images (`similarity.intervals`), and those of sums of cells are conservative: [sum w low,
sum w high] for w > 0, the other end for w < 0. They hold the truth whenever all the cells' intervals do, under any
dependence. For a score the per-image differences are resampled (`resampling.bootstrap_interval`), because both networks
saw the same images.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.errors import DataError
from cka_probe.lab.evaluation.scores import Scores
from cka_probe.papers.claims import Statistic, read_claims
from cka_probe.papers.evidence import Estimate, least, mean_diagonal, top_row, undefined
from cka_probe.papers.mesa.evidence import MesaEvidence
from cka_probe.similarity.resampling import bootstrap_interval

LEFT, MIDDLE, RIGHT = slice(0, 2), slice(2, 7), slice(7, 9)
"""The ends of the U and what lies between: patch mergings, attention branches, patch merging and last norm."""

EARLIER, LATER = slice(0, 5), slice(5, 9)


def u_shape(matrix: SimilarityMatrix) -> Estimate:
    """Return how far the lower end of the top row stands above its middle, in CKA; above 0 is a U."""
    return least([top_row(matrix, LEFT), top_row(matrix, RIGHT)]) - top_row(matrix, MIDDLE)


def later_change_more(matrix: SimilarityMatrix) -> Estimate:
    """Return how much more layers 5 to 8 change than 0 to 4 do, in CKA: x before, y after fine-tuning."""
    return mean_diagonal(matrix, EARLIER) - mean_diagonal(matrix, LATER)


def repaired(before: SimilarityMatrix, after: SimilarityMatrix, layers: tuple[int, int]) -> Estimate:
    """Return how much less some layers change in fine-tuning than they did before, in CKA.

    Args:
        before: Pre-trained against fine-tuned, of the arm without the stage in question.
        after: The same of the arm with it.
        layers: First and last, both included.
    """
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
    if set(higher.table.index) != set(lower.table.index) or not higher.table.index.is_unique:
        shared = len(set(higher.table.index) & set(lower.table.index))
        raise DataError(
            f"expected scores of {higher.model.get('stage')} and {lower.model.get('stage')} over the same images, "
            f"found {len(higher.table)} and {len(lower.table)} with {shared} in common; evaluate both on the same data"
        )
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
    """Return the mean with its bootstrap interval.

    Args:
        values: (images,) float64; NaN takes no part.
        scores: Whose settings give the number of resamples and the seed.
        reason: Why there is no mean if no image has a value.
    """
    values = values[np.isfinite(values)]
    if not len(values):
        return undefined(reason)
    options = {key: scores.settings[key] for key in ("resamples", "seed") if key in scores.settings}
    low, high = bootstrap_interval(values[:, None], **options)
    return Estimate(float(values.mean()), float(low[0]), float(high[0]))


def _of_matrices(function: Callable[..., Estimate], *pairs: str) -> Statistic:
    """Return a statistic of similarities, each named x~y or, if it is not the paper's variant, x~y~variant."""
    return Statistic.of(function, _similarity, *pairs)


def _similarity(evidence: MesaEvidence, seed: int, pair: str) -> SimilarityMatrix | None:
    return evidence.similarity(seed, *pair.split("~"))


def _of_scores(measure: str, domain: str, higher: str, lower: str) -> Statistic:
    """Return by how much the first fine-tuned stage has more of a measure than the second."""
    return Statistic.of(partial(higher_score, measure=measure), partial(_scores, domain=domain), higher, lower)


def _scores(evidence: MesaEvidence, seed: int, stage: str, domain: str) -> Scores | None:
    return evidence.scores(seed, stage, domain)


MATRIX_STATISTICS: dict[str, Callable[..., Estimate]] = {
    "u_shape": u_shape,
    "later_change_more": later_change_more,
    "repaired_5_6": partial(repaired, layers=(5, 6)),
    "repaired_7_8": partial(repaired, layers=(7, 8)),
    "lighter_middle": lighter_middle,
}
"""Statistics of claims about similarities; their arguments are matrices."""

STATISTICS: dict[str, Callable[..., Statistic]] = {
    name: partial(_of_matrices, function) for name, function in MATRIX_STATISTICS.items()
} | {"higher_score": _of_scores}
"""Statistics by their name in `claims.csv`."""

CLAIMS = read_claims(Path(__file__).with_name("claims.csv"), STATISTICS)
"""The paper's claims, and that pre-training helps at all, without which the others are about nothing; with controls."""
