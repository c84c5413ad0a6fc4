"""The null of unrelated images: the images of y are permuted within their batch, and U-centring commutes with that.

All cells share the permutations, so the largest value and the mean over the cells have a null of their own. Whoever
looks for the most similar layers has to compare with the null of the largest, whose 95 % quantile is `tau`. The
calibrated score (Aristotelian representation hypothesis, arXiv 2602.14486) is 0 up to it,

    clamp((s - tau) / (s_max - tau), 0, 1).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

from cka_probe.similarity.cka import Centred, Estimator, Terms, UCentred, rows_of
from cka_probe.similarity.gram import power_of_two

TIE = 1e-5
"""Rounding error of a permuted value in float32; with few images, some permuted values equal the observed one."""
TOGETHER, PAIRS = 8, 2**14
"""Permutations, and about as many pairs of images, in one matrix product, few enough for the cache."""


@dataclass(frozen=True)
class FamilyNull:
    """The null of a statistic of several cells.

    Attributes:
        value: The statistic.
        tau: Its 95 % quantile, among permuted and observed values.
        p_value: One-sided.
    """

    value: float
    tau: float
    p_value: float


def family_null(values: Tensor, permuted: Tensor, statistic: str = "max", tolerance: float = TIE) -> FamilyNull:
    """Return the null of the largest or of the mean of the defined cells.

    Args:
        values: (rows, columns) float64, NaN where undefined.
        permuted: (permutations, rows, columns), from `permuted_values`.
        statistic: `max` or `mean`.
        tolerance: Permuted values that are lower by less than this count as equal.

    Returns:
        NaN without a permutation or a defined cell. The p-value is at most 0.05 in 5 % of studies of unrelated images.
    """
    defined = values.isfinite()
    if not len(permuted) or not defined.any():
        return FamilyNull(torch.nan, torch.nan, torch.nan)
    reduce = torch.amax if statistic == "max" else torch.mean
    value, draws = reduce(values[defined], dim=0), reduce(permuted[:, defined].double(), dim=1)
    combined = torch.cat([value[None], draws]).sort().values
    tau = float(combined[ceil(0.95 * len(combined)) - 1])
    exceed = int((draws >= value - tolerance).sum())
    return FamilyNull(float(value), tau, (1 + exceed) / (1 + len(draws)))


def familywise_p_values(values: Tensor, permuted: Tensor, tolerance: float = TIE) -> Tensor:
    """Return p-values of cells corrected for all of them, by the null of the largest (Westfall & Young 1993).

    Arguments as in `family_null`; (rows, columns) float64.
    """
    defined = values.isfinite()
    result = torch.full_like(values, torch.nan)
    if len(permuted) and defined.any():
        largest = permuted[:, defined].amax(dim=1).double().sort().values
        below = torch.searchsorted(largest, values[defined].contiguous() - tolerance)
        result[defined] = (1.0 + len(largest) - below.double()) / (1 + len(largest))
    return result


def calibrated_scores(values: Tensor, tau: float, highest: float = 1.0) -> Tensor:
    """Return `clamp((s - tau) / (s_max - tau), 0, 1)`: how far a value exceeds what chance reaches.

    >>> calibrated_scores(torch.tensor([0.1, 0.6, 1.0]), 0.2)
    tensor([0.0000, 0.5000, 1.0000])
    """
    return ((values - tau) / max(highest - tau, 1e-12)).clamp(0, 1)


def permuted_values(
    x: Sequence[Centred],
    y: Sequence[Centred],
    terms: Terms,
    estimator: Estimator,
    *,
    permutations: int,
    seed: int,
    per_image: int = 1,
) -> Tensor:
    """Return CKA of permuted images, (permutations, rows, columns) float64; all cells share the permutations.

    Args:
        x: Per batch, (rows, n, n) float64, from `centre_batches`.
        y: Per batch, (columns, n, n) float64.
        terms: `hsic_terms` of the same matrices.
        estimator: The estimator that the matrices were centred for.
        permutations: Number of permutations.
        seed: Seed of the permutations.
        per_image: Examples per image; they are moved together.
    """
    generator = torch.Generator().manual_seed(seed)
    sums = torch.zeros(permutations, *terms.xy.shape[1:], dtype=torch.float64)
    sum_xx, sum_yy = terms.sums()[1:]
    # float32 is precise enough for a quantile, once the layers are scaled into its range
    scale_x, scale_y = (
        torch.tensor([power_of_two(total**0.5 if total > 0 else 0.0) for total in side.tolist()], dtype=torch.float64)
        for side in (sum_xx, sum_yy)
    )
    for batch_x, batch_y, weight in zip(x, y, terms.weights, strict=True):
        n = batch_x.shape[-1]
        order = permute_images(permutations, n, per_image, generator)
        # U(K) is orthogonal to what U-centring takes from L, so a large L is neither centred nor copied
        matrices_y = batch_y.matrices if isinstance(batch_y, UCentred) else batch_y
        step = max(1, PAIRS // n)
        # large matrices are not copied
        small_y = None if 8 * step <= n else (matrices_y * scale_y[:, None, None]).float().flatten(1).T.contiguous()
        for start in range(0, n, step):
            rows_x = rows_of(batch_x, start, start + step)[:, :, start:]
            ones = torch.ones(rows_x.shape[1:], dtype=torch.float64)
            doubled = ones.triu() + ones.triu(1)  # pairs i < j, twice: the matrices are symmetric
            scaled_x = rows_x * (doubled * float(weight) / estimator.divisor(n)) * scale_x[:, None, None]
            pairs_x = scaled_x.float().flatten(1)
            rows = range(start, min(start + step, n))
            if small_y is not None:
                pairs_x = pairs_x[:, doubled.flatten() > 0]
            for first in range(0, permutations, TOGETHER):
                part = order[first : first + TOGETHER]
                if small_y is None:
                    products = pairs_x @ _permuted_rows(matrices_y, scale_y, part, rows).mT
                    products = products.unflatten(1, (-1, len(part))).movedim(2, 0)
                else:
                    products = pairs_x @ _permuted_triangle(small_y, part, rows)
                    products = products.unflatten(1, (len(part), -1)).movedim(1, 0)
                sums[first : first + TOGETHER] += products
    lengths = (sum_xx.sqrt() * scale_x)[:, None] * (sum_yy.sqrt() * scale_y)[None, :]
    return sums / lengths


def _permuted_rows(matrices: Tensor, scales: Tensor, order: Tensor, rows: range) -> Tensor:
    """Return some rows of permuted matrices, from their first row's column on, in permutation after permutation.

    Args:
        matrices: (columns, n, n) float64.
        scales: (columns,) float64, factors that bring them into the range of float32.
        order: (count, n) int64.
        rows: The rows.

    Returns:
        (columns * count, pairs) float32.
    """
    count, n = order.shape
    permuted = torch.empty(len(matrices), count, len(rows), n - rows.start)
    images = order[:, rows.start : rows.stop].flatten()
    others = order[:, None, rows.start :].expand(-1, len(rows), -1)
    for matrix, scale, out in zip(matrices, scales, permuted, strict=True):
        torch.mul(matrix.index_select(0, images).view(count, -1, n).gather(2, others), scale, out=out)
    return permuted.flatten(0, 1).flatten(1)


def _permuted_triangle(pairs: Tensor, order: Tensor, rows: range) -> Tensor:
    """Return the pairs i <= j of some rows of permuted matrices.

    Args:
        pairs: (n * n, columns) float32, the scaled matrices.
        order: (count, n) int64.
        rows: The rows.

    Returns:
        (pairs, count * columns) float32.
    """
    n = order.shape[1]
    i, j = torch.triu_indices(len(rows), n - rows.start) + rows.start
    indices = order.mT[i].mul_(n).add_(order.mT[j])
    return pairs.index_select(0, indices.flatten()).view(len(i), -1)


def permute_images(count: int, n: int, per_image: int, generator: torch.Generator) -> Tensor:
    """Return permutations of n examples that move those of one image together, (count, n) int64."""
    images = torch.rand(count, n // per_image, generator=generator, dtype=torch.float64).argsort(dim=1)
    return (images[:, :, None] * per_image + torch.arange(per_image)).flatten(1)


def quantile_and_p_values(permuted: Tensor, values: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
    """Return the 95 % quantile of permuted values and the one-sided p-values, (rows, columns) float64 each.

    Args:
        permuted: (permutations, rows, columns) float64; without permutations the results are NaN.
        values: (rows, columns) float64, observed; the results are NaN where they are.
        tolerance: Permuted values that are lower by less than this count as equal.
    """
    if not len(permuted):
        return torch.full_like(values, torch.nan), torch.full_like(values, torch.nan)
    defined = ~values.isnan()
    quantile = torch.where(defined, permuted.quantile(0.95, dim=0), torch.nan)
    exceed = (permuted >= values - tolerance).sum(dim=0).double()
    return quantile, torch.where(defined, (1 + exceed) / (1 + len(permuted)), torch.nan)
