"""Which layers of two models belong together, and the similarity of two models that follows from it.

Layers belong together by their names, as the best matches, or by their depth. Everything here is of several models, of
which every two have been compared.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cka_probe.comparison.fingerprint import Fingerprint
from cka_probe.comparison.results import Axis, SimilarityMatrix
from cka_probe.similarity import Measure, Terms, centre_batches, influences, mean_interval
from cka_probe.similarity.cka import Estimator
from cka_probe.similarity.features import tokens_per_image
from cka_probe.similarity.resampling import resample_counts

DIAGONAL, BEST_MATCH = "diagonal", "best match"
RULES = {
    DIAGONAL: "mean over the layers of their similarity with the layer of the same name",
    BEST_MATCH: "mean over the layers of both models of their similarity with the most similar layer of the other",
}
"""What the number of a pair is."""


def diagonal_shares(defined: np.ndarray) -> np.ndarray:
    """Return the weight of each cell in the mean of the diagonal, (layers, layers) float64.

    >>> diagonal_shares(np.array([True, False, True])).diagonal()
    array([0.5, 0. , 0.5])
    """
    return np.diag(defined / max(1, defined.sum()))


def match_shares(values: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the weight of each cell in the mean of best matches, (rows, columns) float64.

    Args:
        values: (rows, columns) float64.
        rows: (rows,) bool, which are defined.
        columns: (columns,) bool.

    >>> match_shares(np.array([[0.9, 0.2, 0.8]]), np.array([True]), np.array([True, True, True])).round(3)
    array([[0.667, 0.167, 0.167]])
    """
    shares = np.zeros(values.shape)
    x, y = np.flatnonzero(rows), np.flatnonzero(columns)
    if not x.size or not y.size:
        return shares
    cells = values[np.ix_(x, y)]
    np.add.at(shares, (x, y[cells.argmax(axis=1)]), 0.5 / len(x))
    np.add.at(shares, (x[cells.argmax(axis=0)], y), 0.5 / len(y))
    return shares


def layers_by_depth(counts: list[int]) -> np.ndarray:
    """Return the layer of each model at every depth from its first to its last layer, (depths, models) int64.

    There are as many depths as the deepest model has layers, evenly spaced; at each, a model has the layer closest to
    it. So models with the same number of layers are aligned layer by layer.

    >>> layers_by_depth([2, 5]).T
    array([[0, 0, 0, 1, 1],
           [0, 1, 2, 3, 4]])
    """
    depths = np.linspace(0, 1, max(counts))
    layers: np.ndarray = np.round(depths[:, None] * (np.array(counts) - 1) - 1e-9).astype(np.int64)
    return layers


class PairsOfModels:
    """Several fingerprints and the comparison of every two of them.

    Args:
        prints: The fingerprints.
        results: The comparison of i with j, for every i < j.
        measure: Measure of the comparisons.
        estimator: Estimator of HSIC.
    """

    def __init__(
        self,
        prints: Sequence[Fingerprint],
        results: Mapping[tuple[int, int], SimilarityMatrix],
        measure: Measure,
        estimator: Estimator,
    ):
        self.prints, self.results, self.measure, self.estimator = prints, results, measure, estimator
        self.per_image = tokens_per_image(prints[0].settings.features)
        self.axes: list[tuple[Axis, ...]] = [results[0, 1].rows]
        self.axes += [results[0, j].columns for j in range(1, len(prints))]
        self.same_layers = len({tuple(axis.name for axis in layers) for layers in self.axes}) == 1
        self.defined = [np.array([not axis.undefined for axis in layers]) for layers in self.axes]
        if self.same_layers:
            self.defined = [np.logical_and.reduce(self.defined)] * len(prints)

    @cached_property
    def _grams(self) -> list[Any]:
        """Per model, the Grams of each batch, centred for the estimator if the measure is CKA."""
        grams = [print_.defined_grams for print_ in self.prints]
        return [centre_batches(stacks, self.estimator) for stacks in grams] if self.measure.sums else grams

    def _shares(self, pair: tuple[int, int]) -> np.ndarray:
        """Return the weight of each cell in the mean of a pair."""
        i, j = pair
        if self.same_layers:
            return diagonal_shares(self.defined[i])
        return match_shares(self.results[pair].values, self.defined[i], self.defined[j])

    def _terms(self, pair: tuple[int, int]) -> Terms:
        return Terms(**{name: torch.from_numpy(term) for name, term in self.results[pair].terms.items()})

    def means(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the mean similarity of every two models and both ends of its 95 % interval, (models, models) each."""
        values, low, high = np.full((3, len(self.prints), len(self.prints)), np.nan)
        ends = (-1.0, 1.0) if self.measure.sums else self.measure.range or (-np.inf, np.inf)
        for pair, result in self.results.items():
            shares = self._shares(pair)
            if not shares.any():
                continue
            x, y = (self._grams[index] for index in pair)
            terms = self._terms(pair) if self.measure.sums else None
            half = mean_interval(x, y, torch.from_numpy(shares), self.measure, self.estimator, self.per_image, terms)
            mean = float((shares * result.values)[shares > 0].sum())
            for matrix, value in ((values, mean), (low, mean - half), (high, mean + half)):
                matrix[pair] = matrix[pair[::-1]] = np.clip(value, *ends)
        return values, low, high

    def deviations(self, depths: np.ndarray, resamples: int) -> Iterator[np.ndarray]:
        """Yield what resamples of the images add to CKA, (resamples, models, models): to the means, then at each depth.

        To first order, from the influences of the images. Where pairs of images carry the noise, the deviations are up
        to sqrt(2) times too large.

        Args:
            depths: (depths, models) int64, from `layers_by_depth`.
            resamples: Number of resamples with replacement.
        """
        counts = resample_counts(len(self.prints[0].images), resamples, self.prints[0].settings.seed)
        weights = torch.from_numpy(np.concatenate(list(counts)) - 1).float()
        pairs = torch.stack([self._deviations_of(pair, depths, weights) for pair in self.results])
        rows, columns = np.array(list(self.results)).T
        for part in pairs.unbind(dim=2):
            matrices = np.full((resamples, len(self.prints), len(self.prints)), np.nan)
            matrices[:, rows, columns] = matrices[:, columns, rows] = part.T.numpy()
            yield matrices

    def _deviations_of(self, pair: tuple[int, int], depths: np.ndarray, weights: Tensor) -> Tensor:
        """Return the deviations of a pair, (resamples, 1 + depths) float32."""
        shares, terms = torch.from_numpy(self._shares(pair)), self._terms(pair)
        cells = shares != 0
        rows, columns = (torch.from_numpy(depths[:, index].copy()) for index in pair)
        total, start = torch.zeros(len(weights), 1 + len(depths)), 0
        for x, y in zip(*(self._grams[index] for index in pair), strict=True):
            influence = influences([x], [y], terms, self.estimator, self.per_image)
            mean = influence[:, cells] @ shares[cells]
            parts = torch.cat([mean[:, None], influence[:, rows, columns]], dim=1)
            total += weights[:, start : start + len(parts)] @ parts.float()
            start += len(parts)
        return total
