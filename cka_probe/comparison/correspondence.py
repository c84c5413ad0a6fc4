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
from cka_probe.similarity import Measure, Terms, centre_batches, mean_interval
from cka_probe.similarity.cka import Estimator
from cka_probe.similarity.features import tokens_per_image
from cka_probe.similarity.intervals import scales_of
from cka_probe.similarity.jackknife import Units, hsic_influences, hsic_without, losses_of, ratio, tangent
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
        resamples: Number of resamples of the images, with replacement.
    """

    def __init__(
        self,
        prints: Sequence[Fingerprint],
        results: Mapping[tuple[int, int], SimilarityMatrix],
        measure: Measure,
        estimator: Estimator,
        resamples: int = 200,
    ):
        self.prints, self.results, self.measure, self.estimator = prints, results, measure, estimator
        self.resamples = resamples
        self.per_image = tokens_per_image(prints[0].settings.features)
        self.axes: list[tuple[Axis, ...]] = [results[0, 1].rows]
        self.axes += [results[0, j].columns for j in range(1, len(prints))]
        self.same_layers = len({tuple(axis.name for axis in layers) for layers in self.axes}) == 1
        self.defined = [np.array([not axis.undefined for axis in layers]) for layers in self.axes]
        if self.same_layers:
            self.defined = [np.logical_and.reduce(self.defined)] * len(prints)
        self.depths = layers_by_depth([len(layers) for layers in self.axes])

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

    @cached_property
    def _units(self) -> Units:
        return Units.of_images(self._grams[0], self.per_image)

    @cached_property
    def _own(self) -> list[tuple[Tensor, Tensor]]:
        """Per model, HSIC of each layer with itself without each image, and its influences, (images, layers) each."""
        own = []
        for index, grams in enumerate(self._grams):
            terms = self._terms((0, index or 1))
            own.append(self._hsic(grams, grams, terms.yy if index else terms.xx, terms.weights))
        return own

    def _hsic(self, x: list[Any], y: list[Any], hsic: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return HSIC of layer k of x with layer k of y without each image, and the influence of each on it."""
        losses, settings = losses_of(x, y, self._units, paired=True), (weights, self.estimator, self._units)
        return hsic_without(losses, hsic, *settings), hsic_influences(losses, *settings)

    def _cells(self, pair: tuple[int, int], rows: np.ndarray, columns: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return CKA of some cells of a pair without each image and its tangent, and the influence of each image.

        (2, images, cells) and (images, cells) float64.
        """
        terms, sides = self._terms(pair), list(zip(pair, (rows, columns), strict=True))
        x, y = (
            grams if np.array_equal(layers, np.arange(len(grams[0]))) else [stack[layers] for stack in grams]
            for grams, layers in ((self._grams[model], layers) for model, layers in sides)
        )
        without, influence = self._hsic(x, y, terms.xy[:, rows, columns], terms.weights)
        (xx, of_xx), (yy, of_yy) = ([part[:, layers] for part in self._own[model]] for model, layers in sides)
        scales = [scale.expand_as(terms.xy[0])[rows, columns] for scale in scales_of(terms)]
        rests, (sum_xy, sum_xx, sum_yy) = (without, xx, yy), terms.sums()
        values = torch.stack([ratio(*rests), tangent(rests, (sum_xy[rows, columns], sum_xx[rows], sum_yy[columns]))])
        return values, scales[0] * influence - scales[1] * of_xx - scales[2] * of_yy

    @cached_property
    def _noise(self) -> dict[tuple[int, int], tuple[float, Tensor]]:
        """Per pair, half the width of the interval of its mean, and what resamples of the images add to CKA.

        The latter is (resamples, 1 + depths) float32, of the mean and of the cell at each depth; empty for measures
        other than CKA.
        """
        counts = resample_counts(len(self.prints[0].images), self.resamples, self.prints[0].settings.seed)
        weights = torch.from_numpy(np.concatenate(list(counts)) - 1).float()
        noise = {}
        for pair in self.results:
            shares, terms, without, deviations = self._shares(pair), None, None, torch.zeros(0)
            if self.measure.sums:
                at_depths = np.ravel_multi_index(tuple(self.depths.T[list(pair)]), shares.shape)
                cells, index = np.unique(np.concatenate([np.flatnonzero(shares), at_depths]), return_inverse=True)
                rows, columns = np.unravel_index(cells, shares.shape)
                terms, (values, influence) = self._terms(pair), self._cells(pair, rows, columns)
                mean = torch.from_numpy(shares.ravel()[cells])
                without, of_mean = (part[..., mean != 0] @ mean[mean != 0] for part in (values, influence))
                parts = torch.cat([of_mean[:, None], influence[:, index[-len(at_depths) :]]], dim=1)
                deviations = weights @ parts.float()
            x, y = (self._grams[model] for model in pair)
            settings = self.measure, self.estimator, self.per_image
            half = np.nan
            if shares.any():
                half = mean_interval(x, y, torch.from_numpy(shares), *settings, terms, without)
            noise[pair] = half, deviations
        return noise

    def means(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the mean similarity of every two models and both ends of its 95 % interval, (models, models) each."""
        values, low, high = np.full((3, len(self.prints), len(self.prints)), np.nan)
        ends = (-1.0, 1.0) if self.measure.sums else self.measure.range or (-np.inf, np.inf)
        for pair, (half, _) in self._noise.items():
            shares = self._shares(pair)
            mean = float((shares * self.results[pair].values)[shares > 0].sum()) if shares.any() else np.nan
            for matrix, value in ((values, mean), (low, mean - half), (high, mean + half)):
                matrix[pair] = matrix[pair[::-1]] = np.clip(value, *ends)
        return values, low, high

    def deviations(self) -> Iterator[np.ndarray]:
        """Yield what resamples of the images add to CKA, (resamples, models, models): to the means, then at each depth.

        To first order, from the influences of the images. Where pairs of images carry the noise, the deviations are up
        to sqrt(2) times too large.
        """
        pairs = torch.stack([deviations for _, deviations in self._noise.values()])
        rows, columns = np.array(list(self.results)).T
        for part in pairs.unbind(dim=2):
            matrices = np.full((self.resamples, len(self.prints), len(self.prints)), np.nan)
            matrices[:, rows, columns] = matrices[:, columns, rows] = part.T.numpy()
            yield matrices
