"""Intervals of CKA, and the null of unrelated images, without another forward pass.

**Interval.** CKA is a smooth function of sums over pairs of images. To first order the pair (i, j) adds

    e_ij = a_ij / sqrt(Sxx Syy) - CKA/2 (b_ij / Sxx + c_ij / Syy),   a = U(K) U(L), b = U(K)^2, c = U(L)^2

to it, entry by entry, weighted and divided as HSIC is; image i has the influence `I_i = 2 sum_j e_ij - e_ii`
(the infinitesimal jackknife: Jaeckel 1972). `sum_i I_i^2` counts the noise of a pair once for each of its two
images, which makes the plain jackknife up to sqrt(2) too wide where pairs, not images, carry the noise
(wide layers, little similarity: the degenerate case of Efron & Stein 1981). So it is subtracted once:

    var = max(sum_i I_i^2 - 2 sum_(i != j) e_ij^2, sum_i I_i^2 / 2) * N / (N - 1)

The interval is CKA plus and minus the root of this times the 97.5 % quantile of Student's t with N - 1 degrees of
freedom. One batch is enough. If the examples are tokens, the image remains the unit, and the subtraction, which needs
independent pairs, is omitted: the interval is conservative. Four images in one batch are a single term of the unbiased
estimator: every influence is 0, no variance can be estimated, and the interval is all of [-1, 1].

**Difference of two values on the same images.** The same, with e_ij the difference of the two.

**Null.** The images of y are permuted within their batch; U-centring commutes with that.
"""

from collections.abc import Sequence

import torch
from scipy.special import stdtrit
from torch import Tensor

from cka_probe.similarity.cka import (
    ESTIMATORS,
    Centred,
    Estimator,
    Terms,
    UCentred,
    centre_batches,
    cka,
    hsic_terms,
    row_blocks,
    rows_of,
)
from cka_probe.similarity.gram import power_of_two

Scales = tuple[Tensor, Tensor, Tensor]
"""Factors of `U(K) U(L)`, `U(K)^2` and `U(L)^2` in `e`, (rows, columns) each."""

TIE = 1e-5
"""Rounding error of a permuted value in float32; with few images, some permuted values equal the observed one."""
TOGETHER, PAIRS = 8, 2**14
"""Permutations, and about as many pairs of images, in one matrix product, few enough for the cache."""


def jackknife_interval(
    x: Sequence[Centred], y: Sequence[Centred], terms: Terms, estimator: Estimator, per_image: int = 1
) -> tuple[Tensor, Tensor]:
    """Return both ends of the 95 % interval of every cell, each (rows, columns) float64, within [-1, 1].

    Args:
        x: Per batch, (rows, n, n) float64, from `centre_batches`.
        y: Per batch, (columns, n, n) float64.
        terms: `hsic_terms` of the same matrices.
        estimator: The estimator that the matrices were centred for.
        per_image: Examples per image.
    """
    value, unweighted = cka(terms), scales_of(terms)
    variance, floor, images = torch.zeros_like(value), torch.zeros_like(value), 0
    for batch_x, batch_y in zip(x, y, strict=True):
        n = batch_x.shape[-1]
        weight = n / per_image / estimator.divisor(n)
        xy, xx, yy = (weight * scale for scale in unweighted)
        for start, rows_x, rows_y in row_blocks(batch_x, batch_y, per_image):
            influence = _influence(rows_x, rows_y, (xy, xx, yy), per_image, start).square().sum(dim=0)
            pairs = 2 * pair_noise(rows_x, rows_y, (xy, xx, yy), start) if per_image == 1 else 0.0
            variance += influence - pairs
            floor += influence / 2
        images += n // per_image
    margin = float(stdtrit(images - 1, 0.975)) * _standard_error(variance, floor, images, x, estimator)
    return (value - margin).clamp(-1, 1), (value + margin).clamp(-1, 1)


def influences(
    x: Sequence[Centred], y: Sequence[Centred], terms: Terms, estimator: Estimator, per_image: int = 1
) -> Tensor:
    """Return the influence of every image on every cell, (images, rows, columns) float64, in the order of the images.

    To first order, an image with the weight `1 + d` in place of 1 moves CKA by `d` times its influence, so omitting it
    moves CKA by about minus its influence. Arguments as in `jackknife_interval`.
    """
    parts, unweighted = [], scales_of(terms)
    for batch_x, batch_y in zip(x, y, strict=True):
        n = batch_x.shape[-1]
        xy, xx, yy = (n / per_image / estimator.divisor(n) * scale for scale in unweighted)
        for start, rows_x, rows_y in row_blocks(batch_x, batch_y, per_image):
            parts.append(_influence(rows_x, rows_y, (xy, xx, yy), per_image, start))
    return torch.cat(parts)


def paired_error(
    first: tuple[Sequence[Tensor], Sequence[Tensor]],
    second: tuple[Sequence[Tensor], Sequence[Tensor]],
    estimator: Estimator,
    per_image: int = 1,
) -> tuple[Tensor, int]:
    """Return the standard error of the first CKA minus the second, and its degrees of freedom.

    Args:
        first: x and y of the first comparison: per batch, (layers, n, n) float64 centred Grams as in a fingerprint.
        second: Those of the second; of the same images in the same batches, with as many layers on each side.
        estimator: Estimator of HSIC, for both.
        per_image: Examples per image.

    Returns:
        (rows, columns) float64, NaN where either CKA is NaN, infinite where HSIC is a single term; and N - 1.
    """
    sides = [tuple(centre_batches(side, estimator) for side in comparison) for comparison in (first, second)]
    scales = [scales_of(hsic_terms(x, y, estimator, per_image)) for x, y in sides]
    variance, floor, images = torch.zeros(()), torch.zeros(()), 0
    for x_1, y_1, x_2, y_2 in zip(*sides[0], *sides[1], strict=True):
        n = x_1.shape[-1]
        weight = n / per_image / estimator.divisor(n)
        for (start, *first_rows), (_, *second_rows) in zip(
            row_blocks(x_1, y_1, per_image), row_blocks(x_2, y_2, per_image), strict=True
        ):
            blocks = (*first_rows, *second_rows)
            rows = [_row_noise(blocks, scales, row, per_image, start) for row in range(len(x_1))]
            influence, pairs = (weight**2 * torch.stack(parts) for parts in zip(*rows, strict=True))
            variance = variance + influence - 2 * pairs
            floor = floor + influence / 2
        images += n // per_image
    return _standard_error(variance, floor, images, sides[0][0], estimator), images - 1


def mean_error(
    x: Sequence[Centred], y: Sequence[Centred], terms: Terms, shares: Tensor, estimator: Estimator, per_image: int = 1
) -> tuple[Tensor, int]:
    """Return the standard error of a weighted mean of cells, with the noise that they share, and N - 1.

    Args:
        x: Per batch, (rows, n, n) float64, from `centre_batches`.
        y: Per batch, (columns, n, n) float64, of the same images.
        terms: `hsic_terms` of the same matrices.
        shares: (rows, columns) float64, the weight of each cell; a layer with a weight is defined.
        estimator: The estimator that the matrices were centred for.
        per_image: Examples per image.

    Returns:
        () float64, infinite where HSIC is a single term; and N - 1.
    """
    xy, xx, yy = (shares * scale for scale in scales_of(terms))
    variance, floor, images = torch.zeros(()), torch.zeros(()), 0
    for batch_x, batch_y in zip(x, y, strict=True):
        n = batch_x.shape[-1]
        weight = n / per_image / estimator.divisor(n)
        for start, rows_x, rows_y in row_blocks(batch_x, batch_y, per_image):
            flat_x, flat_y = rows_x.flatten(1), rows_y.flatten(1)
            entries = ((xy @ flat_y).addcmul_(xx.sum(dim=1)[:, None], flat_x, value=-1) * flat_x).sum(dim=0)
            entries -= yy.sum(dim=0) @ flat_y.square()
            noise_of_rows = _noise_of(entries.view(1, *rows_x.shape[1:]), per_image, start)
            influence, pairs = (weight**2 * noise[0] for noise in noise_of_rows)
            variance = variance + influence - 2 * pairs
            floor = floor + influence / 2
        images += n // per_image
    return _standard_error(variance, floor, images, x, estimator), images - 1


def scales_of(terms: Terms) -> Scales:
    """Return the factors in `e`, before the weights of batches."""
    value, (_, xx, yy) = cka(terms), terms.sums()
    return 1.0 / (xx.sqrt()[:, None] * yy.sqrt()[None, :]), value / (2 * xx[:, None]), value / (2 * yy[None, :])


def _standard_error(
    variance: Tensor, floor: Tensor, images: int, batches: Sequence[Centred], estimator: Estimator
) -> Tensor:
    """Return the standard error, (rows, columns); infinite for a single term of the unbiased HSIC, four examples."""
    error = (torch.maximum(variance, floor) * images / (images - 1)).sqrt()
    single = estimator is ESTIMATORS["unbiased"] and [batch.shape[-1] for batch in batches] == [4]
    return error + torch.inf if single else error


def _influence(x: Tensor, y: Tensor, scales: Scales, per_image: int, start: int) -> Tensor:
    """Return the influence on every cell of the images from row `start` on, (images, rows, columns)."""
    # (images, layers, per_image * n): the rows of each image's examples
    rows_x, rows_y = (m.unflatten(1, (-1, per_image)).movedim(1, 0).flatten(2) for m in (x, y))
    total = _combine(rows_x, rows_y, scales)
    self_x, self_y = (_diagonal_blocks(m, per_image, start) for m in (x, y))
    return 2 * total - _combine(self_x, self_y, scales)


def _diagonal_blocks(rows: Tensor, per_image: int, start: int) -> Tensor:
    """Return the block of each image with itself, (images, layers, per_image^2), from rows (layers, r, n)."""
    layers, count, _ = rows.shape
    square = rows[:, :, start : start + count]
    blocks = square.reshape(layers, count // per_image, per_image, count // per_image, per_image)
    return blocks.diagonal(dim1=1, dim2=3).movedim(-1, 0).flatten(2)


def _combine(x: Tensor, y: Tensor, scales: Scales) -> Tensor:
    """Return `e` summed over the last axis: (images, rows, columns) from (images, layers, m)."""
    xy, xx, yy = scales
    return xy * (x @ y.mT) - xx * x.square().sum(-1)[:, :, None] - yy * y.square().sum(-1)[:, None, :]


def pair_noise(x: Tensor, y: Tensor, scales: Scales, start: int) -> Tensor:
    """Return the sum of `e_ij^2` over i != j for every cell, in rows from `start` on, expanded into matrix products."""
    rows, columns = (m.diagonal(offset=start, dim1=1, dim2=2) for m in (x, y))
    noise = _sum_of_squares(x.flatten(1), y.flatten(1), scales) - _sum_of_squares(rows, columns, scales)
    return noise.clamp_min(0)


def _sum_of_squares(x: Tensor, y: Tensor, scales: Scales) -> Tensor:
    """Return the sum of squares of `e`, (rows, columns), over m pairs of images, from (rows, m) and (columns, m)."""
    xy, xx, yy = scales
    x_square, y_square = x.square(), y.square()
    both = x_square @ y_square.mT
    fourth_x, fourth_y = x_square.square().sum(1)[:, None], y_square.square().sum(1)[None, :]
    cubes = xx * ((x_square * x) @ y.mT) + yy * (x @ (y_square * y).mT)
    return (xy.square() + 2 * xx * yy) * both + xx.square() * fourth_x + yy.square() * fourth_y - 2 * xy * cubes


def _row_noise(
    blocks: tuple[Tensor, ...], scales: list[Scales], row: int, per_image: int, start: int
) -> tuple[Tensor, Tensor]:
    """Return `sum_i I_i^2` and `sum_(i != j) e_ij^2` of the difference in one row of cells, (columns,) each."""
    first, second = (
        xy[row, :, None, None] * x[row] * y
        - xx[row, :, None, None] * x[row].square()
        - yy[row, :, None, None] * y.square()
        for (x, y), (xy, xx, yy) in zip((blocks[:2], blocks[2:]), scales, strict=True)
    )
    return _noise_of(first - second, per_image, start)


def _noise_of(entries: Tensor, per_image: int, start: int) -> tuple[Tensor, Tensor]:
    """Return `sum_i I_i^2` and `sum_(i != j) e_ij^2`, (cells,) each, of rows from `start` on of `e`, (cells, r, n)."""
    cells, rows, n = entries.shape
    blocks = entries.reshape(cells, rows // per_image, per_image, n // per_image, per_image).sum(dim=(2, 4))
    diagonal = blocks.diagonal(offset=start // per_image, dim1=1, dim2=2)
    influence = (2 * blocks.sum(dim=2) - diagonal).square().sum(dim=1)
    if per_image > 1:  # pairs of tokens are not independent
        return influence, torch.zeros_like(influence)
    return influence, entries.square().sum(dim=(1, 2)) - diagonal.square().sum(dim=1)


def permutation_null(
    x: Sequence[Centred],
    y: Sequence[Centred],
    terms: Terms,
    estimator: Estimator,
    *,
    permutations: int,
    seed: int,
    per_image: int = 1,
) -> tuple[Tensor, Tensor]:
    """Return what unrelated images reach: the 95 % quantile, and the one-sided p-values of the observed values.

    All cells share the permutations.

    Args:
        x: Per batch, (rows, n, n) float64, from `centre_batches`.
        y: Per batch, (columns, n, n) float64.
        terms: `hsic_terms` of the same matrices.
        estimator: The estimator that the matrices were centred for.
        permutations: Number of permutations; 0 gives NaN.
        seed: Seed of the permutations.
        per_image: Examples per image; they are moved together.

    Returns:
        (rows, columns) float64 each; p = (1 + #{permuted >= observed}) / (1 + permutations).
    """
    value = cka(terms)
    generator = torch.Generator().manual_seed(seed)
    sums = torch.zeros(permutations, *value.shape, dtype=torch.float64)
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
    return quantile_and_p_values(sums / lengths, value, TIE)


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
