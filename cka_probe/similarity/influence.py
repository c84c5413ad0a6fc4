"""What carries one value of CKA: single images, leading components, and what both sides share with a third.

**Images.** A few images far from the others can decide CKA (Davari et al. 2022, arXiv 2210.16156). `losses` is what CKA
loses without each image and `cka_without` the value that is left without some of them, both exact, from the Grams. The
influences of `intervals` are the first order of it, and are too small for an image that dominates.

Without image i, the sums over pairs that HSIC is made of (Song et al. 2012, eq. 5; Gretton et al. 2005) are, with
row sums r and s of K and L, their totals, and sums over all j:

    <K, L> - 2 sum_j K_ij L_ij + K_ii L_ii
    r . s - r_i s_i - sum_j (K_ij s_j + L_ij r_j) + sum_j K_ij L_ij + K_ii s_i + L_ii r_i - K_ii L_ii
    sum r - 2 r_i + K_ii

so every cell without every image costs a few matrix products.

**Components.** With the c leading eigenvectors of each Gram, `K_c` and `L_c`, the share of a value that they carry is
`sum_b w_b <K_c, L_c> / sum_b w_b <K, L>` over the batches, `w_b = n / (n - 1)^2` as in the biased estimator.

**Partial CKA.** If a third similarity z, such as that of the input images, is regressed out of both Grams, their CKA is
the partial correlation (Cui et al. 2022, arXiv 2202.00095), of the three values of CKA alone:

    (xy - xz yz) / sqrt((1 - xz^2) (1 - yz^2))
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from cka_probe.similarity.cka import ESTIMATORS, Estimator, centre_batches, cka, hsic_terms
from cka_probe.similarity.gram import double_centre

FEWEST = 8
"""Images that have to be left in a batch."""
OUTLYING = 16.0
"""Squared distance from the mean of the batch, by the median over its images, above which an image is an outlier."""


def cka_without(
    x: Sequence[Tensor], y: Sequence[Tensor], images: Sequence[int], estimator: Estimator, per_image: int = 1
) -> Tensor:
    """Return CKA without some images, (rows, columns) float64; NaN if less than `FEWEST` are left in a batch.

    Args:
        x: Per batch, (rows, n, n) float64 centred Grams as in a fingerprint.
        y: Per batch, (columns, n, n) float64.
        images: Numbers of the images that are left out, in the order of all batches.
        estimator: Estimator of HSIC.
        per_image: Examples per image.
    """
    keep, start = torch.ones(sum(stack.shape[-1] for stack in x) // per_image, dtype=torch.bool), 0
    keep[list(images)] = False
    sides: tuple[list[Tensor], list[Tensor]] = ([], [])
    for stacks in zip(x, y, strict=True):
        count = stacks[0].shape[-1] // per_image
        rest = keep[start : start + count].repeat_interleave(per_image)
        start += count
        if int(rest.sum()) < FEWEST * per_image:
            return torch.full((len(x[0]), len(y[0])), torch.nan, dtype=torch.float64)
        for side, stack in zip(sides, stacks, strict=True):
            side.append(stack if rest.all() else double_centre(stack[:, rest][:, :, rest]))
    centred_x, centred_y = (centre_batches(side, estimator) for side in sides)
    return cka(hsic_terms(centred_x, centred_y, estimator, per_image))


def component_shares(x: Sequence[Tensor], y: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
    """Return the share of the leading components in the variance of x, in that of y, and in the cell.

    Args:
        x: Per batch, (n, n) float64, the centred Gram of one layer.
        y: Per batch, (n, n) float64.
        counts: Numbers of components, ascending.

    Returns:
        (3, counts) float64.
    """
    sums = torch.zeros(3, len(counts), dtype=torch.float64)
    totals = torch.zeros(3, 1, dtype=torch.float64)
    for gram_x, gram_y in zip(x, y, strict=True):
        n = len(gram_x)
        factor_x, factor_y = (top_factors(gram, counts[-1]) for gram in (gram_x, gram_y))
        products = (factor_x.mT @ factor_y).square() * n / (n - 1) ** 2
        lengths = [factor.square().sum(dim=0) for factor in (factor_x, factor_y)]
        parts = [[length[:count].sum() for count in counts] for length in lengths]
        parts.append([products[:count, :count].sum() for count in counts])
        sums += torch.tensor(parts, dtype=torch.float64)
        whole = (gram_x * gram_y).sum() * n / (n - 1) ** 2
        totals += torch.stack([gram_x.trace(), gram_y.trace(), whole])[:, None]
    return sums / totals


def partial_cka(xy: float, xz: float, yz: float) -> float:
    """Return CKA of x and y without what both share with z; NaN where z explains one of them completely.

    >>> round(partial_cka(0.9, 0.6, 0.5), 3), partial_cka(0.25, 0.5, 0.5)
    (0.866, 0.0)
    """
    rest = (1 - xz**2) * (1 - yz**2)
    return (xy - xz * yz) / rest**0.5 if rest > 1e-12 else float("nan")


def outliers(grams: Sequence[Tensor], per_image: int = 1) -> list[int]:
    """Return the images far from the others of their batch, in the order of all batches; see `OUTLYING`.

    Args:
        grams: Per batch, (n, n) float64, the centred Gram of one layer.
        per_image: Examples per image.
    """
    numbers, start = [], 0
    for gram in grams:
        squares = gram.diagonal().unflatten(0, (-1, per_image)).sum(dim=1)
        numbers += [start + int(image) for image in (squares > OUTLYING * squares.median()).nonzero()]
        start += len(squares)
    return numbers


def losses(x: Sequence[Tensor], y: Sequence[Tensor], estimator: Estimator, per_image: int = 1) -> Tensor:
    """Return what every cell loses without each image, CKA less CKA without it, (images, rows, columns) float64.

    Negative where an image lowers CKA; NaN in a batch of which less than four examples would be left.

    Args:
        x: Per batch, (rows, n, n) float64 centred Grams as in a fingerprint.
        y: Per batch, (columns, n, n) float64.
        estimator: Estimator of HSIC.
        per_image: Examples per image; tokens of an image are left out together.
    """
    centred = centre_batches(x, estimator), centre_batches(y, estimator)
    terms = hsic_terms(centred[0], centred[1], estimator, per_image)
    value, sums = cka(terms), terms.sums()
    if per_image > 1:
        images = sum(stack.shape[-1] for stack in x) // per_image
        return torch.stack([value - cka_without(x, y, [image], estimator, per_image) for image in range(images)])
    parts = []
    for batch, (stack_x, stack_y) in enumerate(zip(x, y, strict=True)):
        weight = stack_x.shape[-1]
        xy, xx, yy = (
            whole - weight * term[batch] + (weight - 1) * rest
            for whole, term, rest in zip(
                sums,
                (terms.xy, terms.xx, terms.yy),
                (
                    _without_each(stack_x, stack_y, estimator),
                    _without_each(stack_x, None, estimator),
                    _without_each(stack_y, None, estimator),
                ),
                strict=True,
            )
        )
        xx, yy = (torch.where(side > 0, side, torch.nan) for side in (xx, yy))
        parts.append(value - xy / (xx.sqrt()[:, :, None] * yy.sqrt()[:, None, :]))
    return torch.cat(parts)


def _without_each(x: Tensor, y: Tensor | None, estimator: Estimator) -> Tensor:
    """Return HSIC of one batch without each image: of x with y, (n, rows, columns), or of x with itself, (n, rows)."""
    unbiased, m = estimator is ESTIMATORS["unbiased"], x.shape[-1] - 1
    if m < 4:
        return torch.full((m + 1, len(x), *([] if y is None else [len(y)])), torch.nan, dtype=torch.float64)
    hollow = 1 - torch.eye(m + 1, dtype=x.dtype) if unbiased else torch.ones((), dtype=x.dtype)
    k = x * hollow
    l = k if y is None else y * hollow  # noqa: E741
    pairs = "rij,cij->irc" if y is not None else "rij,rij->ir"
    outer = "ri,ci->irc" if y is not None else "ri,ri->ir"
    r, s = k.sum(dim=-1), l.sum(dim=-1)
    k_ii, l_ii = k.diagonal(dim1=1, dim2=2), l.diagonal(dim1=1, dim2=2)
    product, both = torch.einsum(pairs, k, l), torch.einsum(outer, k_ii, l_ii)
    inner = product.sum(dim=0) - 2 * product + both
    crossed = torch.einsum(pairs, k, s[:, None].expand_as(l)) + torch.einsum(pairs, r[:, None].expand_as(k), l)
    rows = torch.einsum(outer, r, s)
    diagonal = torch.einsum(outer, k_ii, s) + torch.einsum(outer, r, l_ii) - both
    rows = rows.sum(dim=0) - rows - crossed + product + diagonal
    totals = [total.sum(dim=1, keepdim=True) - 2 * total + diagonal for total, diagonal in ((r, k_ii), (s, l_ii))]
    total = torch.einsum(outer, *totals)
    first, second = estimator.recentring(torch.tensor(float(m), dtype=torch.float64))
    without: Tensor = (inner - first * rows + second * total) / estimator.divisor(m)
    return without


def top_factors(gram: Tensor, count: int) -> Tensor:
    """Return `F` with `K_c = F F^T`, (..., n, count), for the leading eigenvectors of a Gram, the first one first."""
    values, vectors = torch.linalg.eigh(gram)
    count = min(count, gram.shape[-1])
    factors: Tensor = vectors[..., -count:].flip(-1) * values[..., -count:].flip(-1).clamp_min(0).sqrt()[..., None, :]
    return factors
