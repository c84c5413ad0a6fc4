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
from functools import cached_property

import torch
from torch import Tensor

from cka_probe.similarity.cka import RANGE, Centred, Estimator, Terms, row_blocks

ELEMENTS = 2**18
"""Values without an image (units x rows x columns) that are processed together, few enough for the cache."""


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

    @cached_property
    def entries(self) -> tuple[Tensor, Tensor, Tensor]:
        """The units in each batch, batch after batch: their numbers, batches and examples there, (entries,) int64."""
        parts = []
        for batch, index in enumerate(self.indices):
            present, size = index.unique(return_counts=True)
            parts.append((present, torch.full_like(present, batch), size))
        numbers, batches, sizes = map(torch.cat, zip(*parts, strict=True))
        return numbers, batches, sizes

    @cached_property
    def positions(self) -> tuple[tuple[Tensor, int], ...]:
        """Per batch, the unit of each example among those in the batch, (n,) int64, and their number."""
        found = [index.unique(return_inverse=True) for index in self.indices]
        return tuple((position, len(present)) for present, position in found)

    @cached_property
    def sizes(self) -> Tensor:
        """Images in each unit, (units,) float64."""
        return torch.bincount(torch.cat(self.indices)).double() / self.per_image

    @property
    def are_examples(self) -> bool:
        """Whether each unit is one example, so that pairs of examples are independent."""
        return bool((self.sizes * self.per_image == 1).all())


@dataclass(frozen=True)
class Losses:
    """What the inner product of two centred Grams loses without a unit in a batch, (entries, ...) float64 each.

    Attributes:
        rows: Sum over the unit's rows of the product of both Grams.
        block: Of which within the unit.
        cross: Sum over the other examples of the products of both Grams' column sums over the unit; None for units of
            one example, where it is `rows - block`.
        corner: Product of both Grams' sums within the unit; None where it is `block`.
    """

    rows: Tensor
    block: Tensor
    cross: Tensor | None = None
    corner: Tensor | None = None

    def remainder(self, total: Tensor, left: Tensor, estimator: Estimator) -> Tensor:
        """Return the inner product of the Grams of `left` examples, (entries,), centred again."""
        first, second = (
            factor.view(-1, *[1] * (self.rows.dim() - 1)) for factor in estimator.recentring(left.double())
        )
        if self.cross is None or self.corner is None:
            return torch.addcmul(total, self.rows, -2 - first).addcmul_(self.block, 1 + first + second)
        return total - 2 * self.rows + self.block - first * self.cross + second * self.corner


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

    def without(one: Sequence[Centred], other: Sequence[Centred], hsic: Tensor, own: bool = False) -> Tensor:
        return hsic_without(losses_of(one, other, units, own), hsic, terms.weights, estimator, units)

    xy, xx, yy = terms.sums()
    rest_yy = without(y, y, terms.yy, own=True)
    for start in range(0, len(x[0]), step):
        part = slice(start, min(start + step, len(x[0])))
        some = x if step >= len(x[0]) else [batch[part] for batch in x]
        rests = without(some, y, terms.xy[:, part]), without(some, some, terms.xx[:, part], own=True), rest_yy
        rests = of_cells(*rests)
        yield part, ratio(*rests), tangent(rests, of_cells(xy[part], xx[part], yy))


def of_cells(xy: Tensor, xx: Tensor, yy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return sums of HSIC, (..., rows, columns), (..., rows) and (..., columns), so that they broadcast over cells."""
    return xy, xx[..., :, None], yy[..., None, :]


def ratio(xy: Tensor, xx: Tensor, yy: Tensor) -> Tensor:
    """Return CKA from sums of HSIC, (units, ...); NaN where one of a layer with itself is not positive."""
    xx, yy = (torch.where((sums > RANGE[0]) & (sums < RANGE[1]), sums, torch.nan) for sums in (xx, yy))
    return xy / (xx.sqrt() * yy.sqrt())


def tangent(without: Sequence[Tensor], whole: Sequence[Tensor]) -> Tensor:
    """Return CKA without each unit, (units, ...), to first order in the change of the sums of HSIC.

    Args:
        without: The sums without each unit, (units, ...), as for `ratio`.
        whole: The sums of all units, (...), in the same scale.
    """
    (xy, xx, yy), (_, sum_xx, sum_yy) = without, whole
    change: Tensor = 2 - xx / sum_xx - yy / sum_yy
    return xy / (sum_xx * sum_yy).sqrt() + ratio(*whole) / 2 * change


def losses_of(x: Sequence[Centred], y: Sequence[Centred], units: Units, paired: bool = False) -> Losses:
    """Return what inner products lose without each unit, an entry for each of `units.entries`.

    Args:
        x: Per batch, (rows, n, n) float64, from `centre_batches`.
        y: Per batch, (columns, n, n) float64.
        units: What is left out.
        paired: Layer k of x with layer k of y only, (entries, rows), in place of all, (entries, rows, columns).
    """
    single = all(count == len(position) for position, count in units.positions)
    batches = [_losses(*batch, single, paired) for batch in zip(x, y, units.positions, strict=True)]
    return Losses(*(torch.cat(parts) for parts in zip(*batches, strict=True)))


def hsic_without(losses: Losses, hsic: Tensor, weights: Tensor, estimator: Estimator, units: Units) -> Tensor:
    """Return the weighted sum over batches of HSIC without each unit, (units, ...).

    A batch of which too few examples are left does not count.

    Args:
        losses: From `losses_of`.
        hsic: Of all images, (batches, ...).
        weights: Of the batches.
        estimator: Estimator of HSIC.
        units: What is left out.
    """
    numbers, batches, sizes = units.entries
    counts = torch.tensor([len(index) for index in units.indices])
    left = counts[batches] - sizes
    enough, left = left >= estimator.fewest, left.clamp_min(estimator.fewest).double()
    scale = torch.where(enough, left / units.per_image / estimator.divisor(left), 0.0)
    shape = (-1, *[1] * (hsic.dim() - 1))
    rest = losses.remainder((hsic * estimator.divisor(counts).view(shape))[batches], left, estimator)
    rest *= scale.view(shape)
    rest -= (hsic * weights.view(shape))[batches]
    sums: Tensor = torch.tensordot(weights, hsic, dims=1).repeat(len(units.sizes), *[1] * (hsic.dim() - 1))
    return sums.index_add_(0, numbers, rest)


def hsic_influences(losses: Losses, weights: Tensor, estimator: Estimator, units: Units) -> Tensor:
    """Return the influence of each unit on the weighted sum over batches of HSIC, (units, ...).

    It is what HSIC loses without the unit, to first order. Arguments as in `hsic_without`.
    """
    numbers, batches, _ = units.entries
    scale = weights / estimator.divisor(torch.tensor([len(index) for index in units.indices]))
    lost = (2 * losses.rows - losses.block) * scale[batches].view(-1, *[1] * (losses.rows.dim() - 1))
    return torch.zeros(len(units.sizes), *lost.shape[1:], dtype=torch.float64).index_add_(0, numbers, lost)


def _losses(x: Centred, y: Centred, positions: tuple[Tensor, int], single: bool, paired: bool) -> tuple[Tensor, ...]:
    """Return what the units of one batch contribute, as in `Losses`; `single` if all are one example."""
    position, count = positions
    n = x.shape[-1]
    shape = (count, len(x)) if paired else (count, len(x), len(y))
    rows, block = (torch.zeros(shape, dtype=torch.float64) for _ in range(2))
    columns = [torch.zeros(0 if single else count, len(side), n, dtype=torch.float64) for side in (x, y)]
    for start, *parts in row_blocks(x, y):
        stop = start + parts[0].shape[1]
        examples, units = [part.movedim(1, 0) for part in parts], position[start:stop]
        rows.index_add_(0, units, _product(examples, paired))
        if single:
            diagonals = [part.diagonal(offset=start, dim1=1, dim2=2).mT[:, :, None] for part in parts]
            block.index_add_(0, units, _product(diagonals, paired))
            continue
        within = (units[:, None] == position).double()[:, None]
        block.index_add_(0, units, _product([examples[0] * within, examples[1]], paired))
        for column, example in zip(columns, examples, strict=True):
            column.index_add_(0, units, example)
    if single:
        return rows, block
    inside = torch.nn.functional.one_hot(position, count).mT.double()[:, None]
    corner = _product([(column * inside).sum(dim=-1, keepdim=True) for column in columns], paired)
    cross = _product([columns[0] * (1 - inside), columns[1]], paired)
    return rows, block, cross, corner


def _product(sides: Sequence[Tensor], paired: bool) -> Tensor:
    """Return inner products over the last axis: (units, rows, columns), or (units, rows) of pairs of layers."""
    if paired:
        return (sides[0] * sides[1]).sum(dim=-1)
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
    h = sizes.sum() / sizes
    lost = without - values
    centre = torch.tensordot(1 - 1 / h, lost, dims=1)  # v - v_J
    scale = ((h - 1) / len(sizes)).sqrt()
    return (lost * -scale.view(shape)).addcmul_(centre, (1 / (len(sizes) * scale)).view(shape))


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
