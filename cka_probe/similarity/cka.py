"""Minibatch linear CKA of every layer of x with every layer of y (Nguyen, Raghu & Kornblith 2021).

    CKA = sum_b w_b HSIC(K_b, L_b) / sqrt(sum_b w_b HSIC(K_b, K_b) * sum_b w_b HSIC(L_b, L_b))

with w_b the number of images in batch b. Sums, never a mean of ratios: batches, processes and machines
commute, and every batch counts for what it holds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cka_probe.similarity.estimators import Estimator


@dataclass(frozen=True)
class Terms:
    """Per-batch HSICs; everything CKA is made of.

    Attributes:
        xy: (batches, rows, columns) float64.
        xx: (batches, rows) float64.
        yy: (batches, columns) float64.
        weights: (batches,) float64, images in each batch.
    """

    xy: Tensor
    xx: Tensor
    yy: Tensor
    weights: Tensor

    def sums(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the weighted sums over batches: (rows, columns), (rows,), (columns,)."""
        return tuple(torch.tensordot(self.weights, term, dims=1) for term in (self.xy, self.xx, self.yy))


def centre_batches(grams: Sequence[Tensor], estimator: Estimator) -> list[Tensor]:
    """Return each batch's stack of Grams, (layers, n, n) float64, centred as the estimator asks."""
    return [estimator.centre(stack) for stack in grams]


def hsic_terms(x: Sequence[Tensor], y: Sequence[Tensor], estimator: Estimator, per_image: int = 1) -> Terms:
    """Return the HSIC of every pair of layers in every batch, one matrix product a batch.

    Args:
        x: Per batch, (rows, n, n) float64, from `centre_batches`.
        y: Per batch, (columns, n, n) float64, of the same images.
        estimator: What the matrices were centred by.
        per_image: Examples that one image gives (more than 1 when tokens are the examples).
    """
    xy, xx, yy, weights = [], [], [], []
    for batch_x, batch_y in zip(x, y, strict=True):
        n = batch_x.shape[-1]
        flat_x, flat_y = batch_x.flatten(1), batch_y.flatten(1)
        xy.append(flat_x @ flat_y.mT / estimator.divisor(n))
        xx.append(flat_x.square().sum(dim=1) / estimator.divisor(n))
        yy.append(flat_y.square().sum(dim=1) / estimator.divisor(n))
        weights.append(n / per_image)
    return Terms(torch.stack(xy), torch.stack(xx), torch.stack(yy), torch.tensor(weights, dtype=torch.float64))


def cka(terms: Terms) -> Tensor:
    """Return CKA, (rows, columns) float64; NaN where a layer's own HSIC is not positive.

    A layer that does not vary has an HSIC of 0 with itself; an unbiased estimate can also come out negative
    when there are too few images. Neither is a similarity of 0.
    """
    xy, xx, yy = terms.sums()
    return xy / (_positive(xx).sqrt()[:, None] * _positive(yy).sqrt()[None, :])


def _positive(sums: Tensor) -> Tensor:
    """Return `sums` with NaN in place of what is not positive."""
    return torch.where(sums > 0, sums, torch.nan)
