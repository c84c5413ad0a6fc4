"""What of an image's confusion matrix is summed, and the measures of labels as functions of the sums.

IoU_k is the ratio of two sums over images: of the pixels where truth and prediction are both k, and of those where
one of them is. So K pairs of numbers an image, and not its K x K matrix, are all that a draw of images costs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class LabelSums:
    """What is summed of n images with K classes.

    Attributes:
        hits: (n, K) float64 pixels of each class that were called so.
        around: (n, K) float64 pixels that are of each class or were called so.
        labelled: (n,) float64 pixels with a label.
        own: (n, 4) float64 mIoU, mIoU of the subset, accuracy and cross-entropy of each image; NaN: it says nothing.
        subset: Numbers of some classes.
    """

    hits: np.ndarray
    around: np.ndarray
    labelled: np.ndarray
    own: np.ndarray
    subset: Sequence[int]

    @classmethod
    def of(cls, confusion: np.ndarray, cross_entropy: np.ndarray, subset: Sequence[int]) -> "LabelSums":
        """Return the sums of confusion matrices, (n, K, K) [image, truth, prediction], and cross-entropies, (n,)."""
        hits = np.diagonal(confusion, axis1=1, axis2=2).astype(np.float64)
        around = confusion.sum(1) + confusion.sum(2) - hits
        labelled = confusion.sum((1, 2)).astype(np.float64)
        union = ratio(hits, around)
        means = [mean(union), mean(union[:, list(subset)]), ratio(hits.sum(1), labelled)]
        return cls(hits, around, labelled, np.stack([*means, cross_entropy], -1), subset)

    def measured(self, counts: np.ndarray) -> np.ndarray:
        """Return the measures where image i counts `counts[:, i]` times.

        Args:
            counts: (draws, n) float64.

        Returns:
            (draws, 7 + K) float64, NaN where nothing is said about it: mIoU and that of the subset, both as means over
            images, accuracy, its mean over images, mean cross-entropy, and IoU of each class.
        """
        return self._measured(*(counts @ part for part in self._parts()))

    def pulls(self) -> np.ndarray:
        """Return how much larger each measure is with an image than without it, less the mean of that.

        Returns:
            (n, 7 + K) float64; 0 for a measure that fewer than two images say something about.
        """
        wholes = [part.sum(0) for part in self._parts()]
        without = [whole - part for whole, part in zip(wholes, self._parts(), strict=True)]
        return np.nan_to_num(self._measured(*without).mean(0) - self._measured(*without))

    def counted(self) -> np.ndarray:
        """Return how many images say something about each measure, (7 + K,) int64."""
        miou, subset, labelled, entropy = np.isfinite(self.own).sum(0)
        return np.array([miou, subset, miou, subset, labelled, labelled, entropy, *(self.around > 0).sum(0)])

    def _parts(self) -> tuple[np.ndarray, ...]:
        """Return what is summed, all (n, ...)."""
        there = np.isfinite(self.own)
        return self.hits, self.around, self.labelled, np.where(there, self.own, 0.0), there.astype(np.float64)

    def _measured(
        self, hits: np.ndarray, around: np.ndarray, labelled: np.ndarray, own: np.ndarray, there: np.ndarray
    ) -> np.ndarray:
        """Return the measures of sums, (…) of each, to (…, 7 + K)."""
        union, means = ratio(hits, around), ratio(own, there)
        pooled = [mean(union), mean(union[:, list(self.subset)])]
        accuracy = ratio(hits.sum(-1), labelled)
        return np.column_stack([*pooled, means[:, 0], means[:, 1], accuracy, means[:, 2], means[:, 3], union])


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Return above / below, NaN where nothing is below.

    >>> ratio(np.array([1.0, 0.0]), np.array([2.0, 0.0])).tolist()
    [0.5, nan]
    """
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)


def mean(values: np.ndarray) -> np.ndarray:
    """Return the mean along the last axis of what is not NaN, or NaN where nothing is.

    >>> mean(np.array([[1.0, np.nan, 3.0], [np.nan] * 3])).tolist()
    [2.0, nan]
    """
    there = np.isfinite(values)
    return ratio(np.where(there, values, 0.0).sum(-1), there.sum(-1))


def in_words(matrix: np.ndarray) -> str:
    """Return a confusion matrix in words, as most of it is empty: "0>1 250" for 250 pixels of class 0 called 1.

    >>> in_words(np.array([[3, 1], [0, 5]]))
    '0>0 3, 0>1 1, 1>1 5'
    """
    return ", ".join(f"{truth}>{found} {matrix[truth, found]}" for truth, found in np.argwhere(matrix))


def from_words(said: str, classes: int) -> np.ndarray:
    """Return the matrix that `in_words` put in words, (classes, classes) int64.

    Raises:
        ValueError: The words are others.
        IndexError: They speak of more classes.

    >>> from_words("0>0 3, 1>0 2", 2).tolist()
    [[3, 0], [2, 0]]
    """
    matrix = np.zeros((classes, classes), np.int64)
    for entry in filter(None, said.split(", ")):
        place, count = entry.split(" ")
        truth, found = (int(number) for number in place.split(">"))
        matrix[truth, found] = int(count)
    return matrix
