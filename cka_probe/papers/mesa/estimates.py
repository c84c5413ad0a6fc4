"""The statistics behind the claims, on one seed: a number, and its interval over images.

A claim about a figure is a claim about sums of its cells. With r the top row of a matrix and d its diagonal,
layers counted from 0:

    u_shape            min(mean r[0:2], mean r[7:9]) - mean r[2:7]     both ends lighter than the middle
    later_change_more  mean(1 - d[5:9]) - mean(1 - d[0:5])             layers 5 to 8 change more than 0 to 4
    repaired           mean(d' - d) over some layers                   fine-tuning changes them less than before
    lighter_middle     mean r'[2:7] - mean r[2:7]
    higher_score       mean over images of (a - b), each image with itself

r[0] is 1 in a matrix of a network with itself, which helps the left end of the U; the minimum is with the right.

**Intervals.** Those of the cells are over images (`similarity.intervals`), and the cells share their images, so
that errors go together in a way that the file does not tell. Their sum is given by interval arithmetic, as if all
erred in the worst way at once: [sum w low, sum w high] for w > 0, the other end for w < 0. It holds the truth whenever
all the cells' intervals do, and is as wide as any dependence can make it: conservative. For a score the differences of
the images are drawn again (`resampling.bootstrap_interval`), as both networks saw the same ones.
"""

import numpy as np

from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.errors import DataError
from cka_probe.lab.evaluation.scores import Scores
from cka_probe.papers.cells import mean_diagonal, mean_of_cells, undefined
from cka_probe.papers.estimate import Estimate
from cka_probe.similarity.resampling import bootstrap_interval

LEFT, MIDDLE, RIGHT = slice(0, 2), slice(2, 7), slice(7, 9)
"""The ends of the U and what lies between: patch mergings, attention branches, patch merging and last norm."""

EARLIER, LATER = slice(0, 5), slice(5, 9)


def u_shape(matrix: SimilarityMatrix) -> Estimate:
    """Return how far the lower end of the top row stands above its middle, in CKA; above 0 is a U."""
    left, middle, right = (_top_row(matrix, part) for part in (LEFT, MIDDLE, RIGHT))
    ends = Estimate(
        np.minimum(left.value, right.value), np.minimum(left.low, right.low), np.minimum(left.high, right.high)
    )
    why = "; ".join(part.undefined for part in (left, right) if part.undefined)
    return Estimate(float(ends.value), float(ends.low), float(ends.high), why) - middle


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
    """Return how much more alike layer 0 the layers 2 to 6 of one network are than those of another, in CKA."""
    return _top_row(lighter, MIDDLE) - _top_row(darker, MIDDLE)


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


def mean_over_images(values: np.ndarray, scores: Scores, otherwise: str) -> Estimate:
    """Return the mean with its bootstrap interval.

    Args:
        values: (images,) float64; NaN takes no part.
        scores: Whose settings say how often to draw, and from which seed.
        otherwise: What is said when no image has a value.
    """
    values = values[np.isfinite(values)]
    if not len(values):
        return undefined(otherwise)
    drawn = {key: scores.settings[key] for key in ("resamples", "seed") if key in scores.settings}
    low, high = bootstrap_interval(values[:, None], **drawn)
    return Estimate(float(values.mean()), float(low[0]), float(high[0]))


def _top_row(matrix: SimilarityMatrix, part: slice) -> Estimate:
    """Return the mean similarity of layer 0 of x with some layers of y."""
    axes = [(matrix.rows[0], "x"), *((axis, "y") for axis in matrix.columns[part])]
    return mean_of_cells(matrix.values[0, part], matrix.low[0, part], matrix.high[0, part], axes)
