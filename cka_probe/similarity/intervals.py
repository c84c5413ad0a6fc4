"""How sure a CKA value is, and what chance alone would give; no further forward pass.

**Interval.** CKA is a smooth function of sums over pairs of images. To first order the pair (i, j) adds

    e_ij = a_ij / sqrt(Sxx Syy) - CKA/2 (b_ij / Sxx + c_ij / Syy),   a = U(K) U(L), b = U(K)^2, c = U(L)^2

to it, entry by entry, weighted and divided as HSIC is; image i has the influence `I_i = 2 sum_j e_ij - e_ii`
(the infinitesimal jackknife: Jaeckel 1972). `sum_i I_i^2` counts the noise of a pair once for each of its two
images, which makes the plain jackknife up to sqrt(2) too wide where pairs, not images, carry the noise
(wide layers, little similarity: the degenerate case of Efron & Stein 1981), so that once is taken off again:

    var = max(sum_i I_i^2 - 2 sum_(i != j) e_ij^2, sum_i I_i^2 / 2) * N / (N - 1)

The interval is CKA plus and minus the 97.5 % quantile of Student's t with N - 1 degrees of freedom times its
root. It needs images, not batches: one batch is enough. Where several tokens of an image are the examples,
the image stays the unit and the subtraction, which needs independent pairs, is left out: conservative.
Four images in one batch are a single term of the unbiased estimator: every influence is 0 and no variance can be
estimated, so that the interval is all of [-1, 1].

**Null.** The images of y are permuted within their batch; U-centring commutes with that.
"""

from collections.abc import Sequence

import torch
from scipy.special import stdtrit
from torch import Tensor

from cka_probe.similarity.cka import Terms, cka
from cka_probe.similarity.estimators import ESTIMATORS, Estimator

TIE = 1e-5
"""What float32 may take from a permuted value that equals the one seen, as some do where there are few images."""
TOGETHER = 8
"""Permutations in one matrix product: few enough to stay in the cache."""


def jackknife_interval(
    x: Sequence[Tensor], y: Sequence[Tensor], terms: Terms, estimator: Estimator, per_image: int = 1
) -> tuple[Tensor, Tensor]:
    """Return both ends of the 95 % interval of every cell, each (rows, columns) float64, within [-1, 1].

    Args:
        x: Per batch, (rows, n, n) float64, from `centre_batches`.
        y: Per batch, (columns, n, n) float64.
        terms: Of the same matrices.
        estimator: What they were centred by.
        per_image: Examples that one image gives.
    """
    value = cka(terms)
    sum_xx, sum_yy = terms.sums()[1:]
    scale_xy = 1.0 / (sum_xx[:, None] * sum_yy[None, :]).sqrt()
    scale_xx, scale_yy = value / (2 * sum_xx[:, None]), value / (2 * sum_yy[None, :])
    variance, floor, images = torch.zeros_like(value), torch.zeros_like(value), 0
    for batch_x, batch_y in zip(x, y, strict=True):
        n = batch_x.shape[-1]
        weight = n / per_image / estimator.divisor(n)
        scales = (weight * scale_xy, weight * scale_xx, weight * scale_yy)
        influence = _influence(batch_x, batch_y, scales, per_image).square().sum(dim=0)
        pairs = 2 * _pair_noise(batch_x, batch_y, scales) if per_image == 1 else 0.0
        variance += influence - pairs
        floor += influence / 2
        images += n // per_image
    error = (torch.maximum(variance, floor) * images / (images - 1)).sqrt()
    if single_term(x, estimator):
        error = error + torch.inf
    margin = float(stdtrit(images - 1, 0.975)) * error
    return (value - margin).clamp(-1, 1), (value + margin).clamp(-1, 1)


def single_term(batches: Sequence[Tensor], estimator: Estimator) -> bool:
    """Return whether HSIC is a single term, of which no variance can be estimated: four examples, U-centred.

    Args:
        batches: Of one side, (layers, n, n) each.
        estimator: Of HSIC.
    """
    return estimator is ESTIMATORS["unbiased"] and [batch.shape[-1] for batch in batches] == [4]


def _influence(x: Tensor, y: Tensor, scales: tuple[Tensor, Tensor, Tensor], per_image: int) -> Tensor:
    """Return the influence of every image on every cell, (images, rows, columns)."""
    # (images, layers, per_image * n): the rows of each image's examples
    rows_x, rows_y = (m.unflatten(1, (-1, per_image)).movedim(1, 0).flatten(2) for m in (x, y))
    total = _combine(rows_x, rows_y, scales)
    own_x, own_y = (_own_blocks(m, per_image) for m in (x, y))
    return 2 * total - _combine(own_x, own_y, scales)


def _own_blocks(matrices: Tensor, per_image: int) -> Tensor:
    """Return the block of each image with itself, (images, layers, per_image^2)."""
    layers, n, _ = matrices.shape
    blocks = matrices.reshape(layers, n // per_image, per_image, n // per_image, per_image)
    return blocks.diagonal(dim1=1, dim2=3).movedim(-1, 0).flatten(2)


def _combine(x: Tensor, y: Tensor, scales: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Return `e` summed over the last axis: (images, rows, columns) from (images, layers, m)."""
    xy, xx, yy = scales
    return xy * (x @ y.mT) - xx * x.square().sum(-1)[:, :, None] - yy * y.square().sum(-1)[:, None, :]


def _pair_noise(x: Tensor, y: Tensor, scales: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """Return the sum of `e_ij^2` over i != j for every cell, multiplied out into matrix products."""
    xy, xx, yy = scales
    hollow = 1.0 - torch.eye(x.shape[-1], dtype=x.dtype)
    x, y = ((m * hollow).flatten(1) for m in (x, y))
    x_square, y_square = x.square(), y.square()
    both = x_square @ y_square.mT
    fourth_x, fourth_y = x_square.square().sum(1)[:, None], y_square.square().sum(1)[None, :]
    cubes = xx * ((x_square * x) @ y.mT) + yy * (x @ (y_square * y).mT)
    noise = (xy.square() + 2 * xx * yy) * both + xx.square() * fourth_x + yy.square() * fourth_y - 2 * xy * cubes
    return noise.clamp_min(0)


def permutation_null(
    x: Sequence[Tensor],
    y: Sequence[Tensor],
    terms: Terms,
    estimator: Estimator,
    *,
    permutations: int,
    seed: int,
    per_image: int = 1,
) -> tuple[Tensor, Tensor]:
    """Return what unrelated images give: the 95 % quantile, and the one-sided p-value of what was seen.

    The same permutations serve all cells.

    Args:
        x: Per batch, (rows, n, n) float64, from `centre_batches`.
        y: Per batch, (columns, n, n) float64.
        terms: Of the same matrices.
        estimator: What they were centred by.
        permutations: How many; 0 gives NaN.
        seed: Of the permutations.
        per_image: Examples that one image gives; they move together.

    Returns:
        (rows, columns) float64 each; p = (1 + #{permuted >= seen}) / (1 + permutations).
    """
    value = cka(terms)
    if permutations == 0:
        return torch.full_like(value, torch.nan), torch.full_like(value, torch.nan)
    generator = torch.Generator().manual_seed(seed)
    sums = torch.zeros(permutations, *value.shape, dtype=torch.float64)
    for batch_x, batch_y, weight in zip(x, y, terms.weights, strict=True):
        n = batch_x.shape[-1]
        # pairs i < j, twice: the matrices are symmetric; float32 is plenty for a quantile
        upper = torch.triu_indices(n, n)
        doubled = torch.where(upper[0] == upper[1], 1.0, 2.0) * float(weight) / estimator.divisor(n)
        pairs_x = (batch_x[:, upper[0], upper[1]] * doubled).float()
        flat_y = batch_y.flatten(1).mT.contiguous().float()  # (n^2, columns): a permutation moves whole rows
        for part in range(0, permutations, TOGETHER):
            count = min(TOGETHER, permutations - part)
            order = reordered(count, n, per_image, generator)
            places = order[:, upper[0]] * n + order[:, upper[1]]  # (count, pairs)
            moved = flat_y.index_select(0, places.flatten()).unflatten(0, (count, -1))  # (count, pairs, columns)
            sums[part : part + count] += pairs_x @ moved
    sum_xx, sum_yy = terms.sums()[1:]
    permuted = sums / (sum_xx[:, None] * sum_yy[None, :]).sqrt()
    defined = ~value.isnan()
    null = torch.where(defined, permuted.quantile(0.95, dim=0), torch.nan)
    exceed = (permuted >= value - TIE).sum(dim=0).double()
    return null, torch.where(defined, (1 + exceed) / (1 + permutations), torch.nan)


def reordered(count: int, n: int, per_image: int, generator: torch.Generator) -> Tensor:
    """Return permutations of n examples that move those of one image together, (count, n) int64."""
    images = torch.rand(count, n // per_image, generator=generator, dtype=torch.float64).argsort(dim=1)
    return (images[:, :, None] * per_image + torch.arange(per_image)).flatten(1)
