"""Minibatch linear CKA of every layer of x with every layer of y (Nguyen, Raghu & Kornblith 2021).

    CKA = sum_b w_b HSIC(K_b, L_b) / sqrt(sum_b w_b HSIC(K_b, K_b) * sum_b w_b HSIC(L_b, L_b))

with w_b the number of images in batch b. It is a ratio of sums, never a mean of ratios, so the order of batches,
processes and machines does not matter.

HSIC is estimated in one of two ways, both inner products of centred Grams. With `U` the U-centring of Székely & Rizzo
(2014, eq. 4.1),

    HSIC_1(K, L) = <U(K), U(L)> / (n (n - 3))      unbiased: Song et al. 2012, eq. 5
    HSIC_0(K, L) = <H K H, H L H> / (n - 1)^2      biased: Gretton et al. 2005

so a flattened stack of centred Grams gives every pair of layers in one matrix product.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def u_centre(matrix: Tensor) -> Tensor:
    """Return the U-centred matrix: its diagonal is zero, and its rows sum to zero.

    `U_ij = K_ij - sum_l K_il / (n - 2) - sum_k K_kj / (n - 2) + sum_kl K_kl / ((n - 1)(n - 2))` for i != j, the
    sums over a K whose diagonal has been set to zero.

    Args:
        matrix: (..., n, n) symmetric, n >= 4.

    >>> u = u_centre(torch.rand(5, 3, dtype=torch.float64) @ torch.rand(3, 5, dtype=torch.float64))
    >>> bool(u.sum(dim=-1).abs().max() < 1e-12)
    True
    """
    n = matrix.shape[-1]
    hollow = matrix * (1.0 - torch.eye(n, dtype=matrix.dtype, device=matrix.device))
    rows = hollow.sum(dim=-1, keepdim=True)
    total = rows.sum(dim=-2, keepdim=True) / ((n - 1) * (n - 2))
    centred = hollow - rows / (n - 2) - rows.mT / (n - 2) + total
    return centred * (1.0 - torch.eye(n, dtype=matrix.dtype, device=matrix.device))


@dataclass(frozen=True)
class Estimator:
    """One way to estimate HSIC: `<centre(K), centre(L)> / divisor(n)`, from Grams stored as `H K H`."""

    centre: Callable[[Tensor], Tensor]
    divisor: Callable[[int], float]


ESTIMATORS: dict[str, Estimator] = {
    "unbiased": Estimator(u_centre, lambda n: n * (n - 3)),
    "biased": Estimator(lambda matrix: matrix, lambda n: (n - 1) ** 2),
}


@dataclass(frozen=True)
class Terms:
    """The HSICs of each batch, whose sums give CKA.

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
    """Return each batch's stack of Grams, (layers, n, n) float64, centred for an estimator."""
    return [estimator.centre(stack) for stack in grams]


def hsic_terms(x: Sequence[Tensor], y: Sequence[Tensor], estimator: Estimator, per_image: int = 1) -> Terms:
    """Return the HSIC of every pair of layers in every batch, one matrix product per batch.

    Args:
        x: Per batch, (rows, n, n) float64, from `centre_batches`.
        y: Per batch, (columns, n, n) float64, of the same images.
        estimator: The estimator that the matrices were centred for.
        per_image: Examples per image (more than 1 if the examples are tokens).
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
    """Return CKA, (rows, columns) float64; NaN where the HSIC of a layer with itself is not positive.

    That HSIC is 0 for a layer that does not vary, and its unbiased estimate can be negative if there are too few
    images. Neither is a similarity of 0.

    >>> x = torch.randn(16, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> grams = [u_centre((x @ x.mT)[None])]  # one batch of one layer
    >>> cka(hsic_terms(grams, grams, ESTIMATORS["unbiased"])).round(decimals=6)
    tensor([[1.]], dtype=torch.float64)
    """
    xy, xx, yy = terms.sums()
    xx, yy = (torch.where(sums > 0, sums, torch.nan) for sums in (xx, yy))
    return xy / (xx.sqrt()[:, None] * yy.sqrt()[None, :])
