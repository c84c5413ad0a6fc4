"""CKA without each image, exactly, from the Grams of all images: what its intervals are computed from.

Let U and V be the U-centred Grams of a batch, T = <U, V>, and `a_i = sum_j U_ij V_ij`. The rows of U and V sum to zero,
so the U-centred Grams of the other n - 1 images have the inner product

    T_(-i) = T - 2 a_i - 2 a_i / (n - 3)

and no Gram is centred again. For a unit g of several images (the tokens of an image, the frames of a video), with
`s_j = sum_(i in g) U_ij`, `t = sum_(i, j in g) U_ij`, the same for V, and N images outside g,

    T_(-g) = sum_(i, j not in g) U_ij V_ij - 2 / (N - 2) sum_(j not in g) s_j s'_j + t t' / ((N - 1)(N - 2))

and with 2 / N and 1 / N^2 as factors for Grams centred as `H K H`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cka_probe.similarity.cka import RANGE, Centred, Estimator, Terms, row_blocks

ELEMENTS = 2**21
"""Values without an image (units x rows x columns) that are in memory together, 16 MiB of each step."""


@dataclass(frozen=True)
class Units:
    """What is left out together: single images, or groups of images or tokens.

    Attributes:
        indices: Per batch, (n,) int64, the unit of each example, from 0 on; a unit may be in several batches.
        per_image: Examples per image.
    """

    indices: tuple[Tensor, ...]
    per_image: int = 1

    @classmethod
    def of_images(cls, batches: Sequence[Centred], per_image: int = 1) -> "Units":
        """Return each image as a unit."""
        starts, total = [], 0
        for batch in batches:
            starts.append(torch.arange(total, total + batch.shape[-1] // per_image).repeat_interleave(per_image))
            total += batch.shape[-1] // per_image
        return cls(tuple(starts), per_image)

    @property
    def sizes(self) -> Tensor:
        """Images in each unit, (units,) float64."""
        return torch.bincount(torch.cat(self.indices)).double() / self.per_image

    @property
    def are_examples(self) -> bool:
        """Whether each unit is one example, so that pairs of examples are independent."""
        return bool((self.sizes * self.per_image == 1).all())


@dataclass(frozen=True)
class Losses:
    """What the inner product of two centred Grams loses without a unit, (units, ...) float64 each.

    Attributes:
        rows: Sum over the unit's rows of the product of both Grams.
        block: Of which within the unit.
        cross: Sum over the other examples of the products of both Grams' column sums over the unit.
        corner: Product of both Grams' sums within the unit.
    """

    rows: Tensor
    block: Tensor
    cross: Tensor
    corner: Tensor

    def remainder(self, total: Tensor, left: Tensor, estimator: Estimator) -> Tensor:
        """Return the inner product of the Grams of `left` examples, centred again; NaN of too few."""
        left = left.double().view(-1, *[1] * (self.rows.dim() - 1))
        factors = estimator.recentring(left)
        rest = total - 2 * self.rows + self.block - factors[0] * self.cross + factors[1] * self.corner
        return torch.where(left >= estimator.fewest, rest, torch.nan)


def leave_one_out(
    x: Sequence[Centred], y: Sequence[Centred], terms: Terms, estimator: Estimator, units: Units
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Yield some of the rows, CKA of these without each unit, (units, rows, columns) float64, and its `tangent`.

    Args:
        x: Per batch, (rows, n, n) float64, from `centre_batches`.
        y: Per batch, (columns, n, n) float64.
        terms: `hsic_terms` of the same matrices.
        estimator: The estimator that the matrices were centred for.
        units: What is left out.
    """
    count, columns = len(units.sizes), len(y[0])
    step = max(1, ELEMENTS // (count * columns))
    sum_xy, sum_xx, sum_yy = terms.sums()
    yy = _without(y, y, terms.yy, terms.weights, estimator, units, own=True)
    for start in range(0, len(x[0]), step):
        part = slice(start, min(start + step, len(x[0])))
        some = x if step >= len(x[0]) else [batch[part] for batch in x]
        xy = _without(some, y, terms.xy[:, part], terms.weights, estimator, units)
        xx = _without(some, some, terms.xx[:, part], terms.weights, estimator, units, own=True)
        yield part, ratio(xy, xx, yy), tangent((xy, xx, yy), (sum_xy[part], sum_xx[part], sum_yy))


def ratio(xy: Tensor, xx: Tensor, yy: Tensor) -> Tensor:
    """Return CKA, (units, rows, columns), from sums of HSIC; NaN where one of a layer with itself is not positive."""
    xx, yy = (torch.where((sums > RANGE[0]) & (sums < RANGE[1]), sums, torch.nan) for sums in (xx, yy))
    return xy / (xx.sqrt()[:, :, None] * yy.sqrt()[:, None, :])


def tangent(without: Sequence[Tensor], whole: Sequence[Tensor]) -> Tensor:
    """Return CKA without each unit, (units, rows, columns), to first order in the change of the sums of HSIC.

    Args:
        without: The sums without each unit: (units, rows, columns), (units, rows) and (units, columns).
        whole: The sums of all units, in the same scale.
    """
    (xy, xx, yy), value = without, ratio(*(total[None] for total in whole))
    sum_xx, sum_yy = whole[1][:, None], whole[2]
    change: Tensor = 2 - xx[:, :, None] / sum_xx - yy[:, None, :] / sum_yy
    return xy / (sum_xx * sum_yy).sqrt() + value / 2 * change


def _without(
    x: Sequence[Centred],
    y: Sequence[Centred],
    hsic: Tensor,
    weights: Tensor,
    estimator: Estimator,
    units: Units,
    own: bool = False,
) -> Tensor:
    """Return the weighted sum over batches of HSIC without each unit, (units, ...).

    Args:
        x: Per batch, (rows, n, n).
        y: Per batch, (columns, n, n); x, if `own`.
        hsic: Of all images, (batches, ...).
        weights: Of the batches.
        estimator: Estimator of HSIC.
        units: What is left out.
        own: Each layer of x with itself, in place of that with each of y.
    """
    sums: Tensor = torch.tensordot(weights, hsic, dims=1).repeat(len(units.sizes), *[1] * (hsic.dim() - 1))
    for batch_x, batch_y, term, weight, index in zip(x, y, hsic, weights, units.indices, strict=True):
        n = batch_x.shape[-1]
        present, position, size = index.unique(return_inverse=True, return_counts=True)
        losses = _losses(batch_x, batch_y, position, len(present), own)
        left = n - size
        rest = losses.remainder(term * estimator.divisor(n), left, estimator)
        divisors = torch.tensor([estimator.divisor(int(number)) for number in left], dtype=torch.float64)
        rest = (left / units.per_image / divisors).view(-1, *[1] * term.dim()) * rest
        rest = rest.nan_to_num(0.0, 0.0, 0.0)  # too few examples are left in the batch
        sums.index_add_(0, present, rest - weight * term)
    return sums


def _losses(x: Centred, y: Centred, position: Tensor, count: int, own: bool) -> Losses:
    """Return what each of `count` units, given by the position of each example's, contributes in one batch."""
    n, single = x.shape[-1], count == len(position)
    shape = (count, len(x)) if own else (count, len(x), len(y))
    rows, block = (torch.zeros(shape, dtype=torch.float64) for _ in range(2))
    sides = (x,) if own else (x, y)
    columns = [torch.zeros(0 if single else count, len(side), n, dtype=torch.float64) for side in sides]
    for start, *parts in row_blocks(x, y):
        stop = start + parts[0].shape[1]
        examples, units = [part.movedim(1, 0) for part in parts[: len(sides)]], position[start:stop]
        rows.index_add_(0, units, _product(examples, own))
        if single:
            diagonals = [part.diagonal(offset=start, dim1=1, dim2=2).mT[:, :, None] for part in parts[: len(sides)]]
            block.index_add_(0, units, _product(diagonals, own))
            continue
        within = (units[:, None] == position).double()[:, None]
        block.index_add_(0, units, _product([examples[0] * within, *examples[1:]], own))
        for column, example in zip(columns, examples, strict=True):
            column.index_add_(0, units, example)
    if single:
        return Losses(rows, block, rows - block, block)
    inside = torch.nn.functional.one_hot(position, count).mT.double()[:, None]
    corner = _product([(column * inside).sum(dim=-1, keepdim=True) for column in columns], own)
    cross = _product([columns[0] * (1 - inside), *columns[1:]], own)
    return Losses(rows, block, cross, corner)


def _product(sides: Sequence[Tensor], own: bool) -> Tensor:
    """Return inner products over the last axis: (units, rows, columns), or of each layer with itself."""
    if own:
        return sides[0].square().sum(dim=-1)
    product: Tensor = sides[0] @ sides[1].mT
    return product


def deviations(values: Tensor, without: Tensor, sizes: Tensor) -> Tensor:
    """Return the share of each unit in the error of a value, (units, ...); the variance is the sum of their squares.

    With `v~_g = h_g v - (h_g - 1) v_(-g)` and `h_g = n / m_g`, they are `(v~_g - v_J) / sqrt(G (h_g - 1))`, where
    v_J is the mean of the `v~_g` weighted by size (the delete-m_j jackknife of Busing, Meijer & van der Leeden,
    Statistics and Computing 1999); for single images, `sqrt((n - 1) / n)` times `v_(-i)` minus its mean, negated.

    Args:
        values: (...) float64, of all images.
        without: (units, ...) without each unit.
        sizes: (units,) images in each.
    """
    shape = (-1, *[1] * values.dim())
    h = (sizes.sum() / sizes).view(shape)
    pseudo = values - (h - 1) * (without - values)
    centre = (pseudo / h).sum(dim=0)
    return (pseudo - centre) / (len(sizes) * (h - 1)).sqrt()


def spread(exact: Tensor, first_order: Tensor, units: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the variance of a value, pairs of units counted twice, its degrees of freedom, and that of the jackknife.

    The jackknife is too wide on average where few units dominate a ratio (Efron & Stein 1981), its first order too
    narrow; the variance is the mean of both.

    Args:
        exact: `deviations` of the value without each unit, (units, ...), or of some of the units.
        first_order: Those of its `tangent`.
        units: Number of all units.

    Returns:
        (...) float64 each.
    """
    scale = units / len(exact)
    squares, fourths = (scale * exact.pow(power).sum(dim=0) for power in (2, 4))
    both = (squares + scale * first_order.square().sum(dim=0)) / 2
    return both, effective_freedom(squares, fourths, units), squares


def effective_freedom(squares: Tensor, fourths: Tensor, units: int) -> Tensor:
    """Return the degrees of freedom of a variance, which is a sum of squares that may be dominated by a few.

    Satterthwaite's `2 V^2 / var V` with `V = sum_g D_g^2` and `var V = sum_g D_g^4 - V^2 / G`: about `G - 1` if the
    D_g are Gaussian, and about 2 if one of them is nearly all; between 1 and `G - 1`.

    Args:
        squares: `sum_g D_g^2`.
        fourths: `sum_g D_g^4`.
        units: G.
    """
    freedom = 2 * squares.square() / (fourths - squares.square() / units)
    return freedom.nan_to_num(units - 1.0, units - 1.0, units - 1.0).clamp(1.0, units - 1.0)
