"""How sure the difference of two CKAs of the same images is: their noise is shared, and cancels where it is.

Both values are smooth functions of sums over pairs of images, and so is their difference: to first order the pair
(i, j) adds `e_ij = e1_ij - e2_ij` to it, each as `intervals` has it. What follows is the same as there,

    I_i = 2 sum_j e_ij - e_ii,   var = max(sum_i I_i^2 - 2 sum_(i != j) e_ij^2, sum_i I_i^2 / 2) * N / (N - 1),

with the difference taken entry by entry, before anything is squared. A comparison less itself has no noise at all.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from cka_probe.similarity.cka import Terms, centre_batches, cka, hsic_terms
from cka_probe.similarity.estimators import Estimator
from cka_probe.similarity.intervals import single_term

Stacks = Sequence[Tensor]
"""Per batch, the Grams of one side, (layers, n, n) float64."""


def paired_error(
    first: tuple[Stacks, Stacks], second: tuple[Stacks, Stacks], estimator: Estimator, per_image: int = 1
) -> tuple[Tensor, int]:
    """Return the standard error of the first CKA less the second, and its degrees of freedom.

    Args:
        first: Both sides of the first comparison, centred Grams as a fingerprint keeps them.
        second: Of the second; of the same images in the same batches, with as many layers on each side.
        estimator: Of HSIC, for both.
        per_image: Examples that one image gives.

    Returns:
        (rows, columns) float64, NaN where either CKA is, infinite where HSIC is a `single_term`; and images less one.
    """
    sides = [tuple(centre_batches(side, estimator) for side in comparison) for comparison in (first, second)]
    scales = [_scales(hsic_terms(x, y, estimator, per_image)) for x, y in sides]
    variance, floor, images = 0.0, 0.0, 0
    for batches in zip(*sides[0], *sides[1], strict=True):
        n = batches[0].shape[-1]
        weight = n / per_image / estimator.divisor(n)
        rows = [_row(batches, scales, row, per_image) for row in range(len(batches[0]))]
        influence, pairs = (weight**2 * torch.stack(parts) for parts in zip(*rows, strict=True))
        variance = variance + influence - 2 * pairs
        floor = floor + influence / 2
        images += n // per_image
    error = (torch.maximum(variance, floor) * images / (images - 1)).sqrt()
    return error + torch.inf if single_term(sides[0][0], estimator) else error, images - 1


def _scales(terms: Terms) -> tuple[Tensor, Tensor, Tensor]:
    """Return what `U(K) U(L)`, `U(K)^2` and `U(L)^2` are multiplied by in `e`, (rows, columns) each."""
    value, (_, xx, yy) = cka(terms), terms.sums()
    return 1.0 / (xx[:, None] * yy[None, :]).sqrt(), value / (2 * xx[:, None]), value / (2 * yy[None, :])


def _row(
    batches: tuple[Tensor, ...], scales: list[tuple[Tensor, Tensor, Tensor]], row: int, per_image: int
) -> tuple[Tensor, Tensor]:
    """Return `sum_i I_i^2` and `sum_(i != j) e_ij^2` of one row's cells in one batch, (columns,) each."""
    first, second = (
        _entries(x[row], y, [scale[row, :, None, None] for scale in own])
        for (x, y), own in zip((batches[:2], batches[2:]), scales, strict=True)
    )
    entries = first - second  # (columns, n, n)
    columns, n, _ = entries.shape
    count = n // per_image
    blocks = entries.reshape(columns, count, per_image, count, per_image).sum(dim=(2, 4))
    own = blocks.diagonal(dim1=1, dim2=2)
    influence = (2 * blocks.sum(dim=2) - own).square().sum(dim=1)
    if per_image > 1:  # tokens of an image are no independent pairs
        return influence, torch.zeros_like(influence)
    return influence, entries.square().sum(dim=(1, 2)) - own.square().sum(dim=1)


def _entries(x: Tensor, y: Tensor, scales: list[Tensor]) -> Tensor:
    """Return `e_ij` of one layer of x with every layer of y, (columns, n, n)."""
    xy, xx, yy = scales
    return xy * x * y - xx * x.square() - yy * y.square()
