"""Minibatch linear CKA of every layer of x with every layer of y (Nguyen, Raghu & Kornblith 2021).

    CKA = sum_b w_b HSIC(K_b, L_b) / sqrt(sum_b w_b HSIC(K_b, K_b) * sum_b w_b HSIC(L_b, L_b))

with w_b the number of images in batch b. It is a ratio of sums, never a mean of ratios, so the order of batches,
processes and machines does not matter.

HSIC is estimated in one of two ways, both inner products of centred Grams. With `U` the U-centring of Székely & Rizzo
(2014, eq. 4.1),

    HSIC_1(K, L) = <U(K), U(L)> / (n (n - 3))      unbiased: Song et al. 2012, eq. 5
    HSIC_0(K, L) = <H K H, H L H> / (n - 1)^2      biased: Gretton et al. 2005

so a flattened stack of centred Grams gives every pair of layers in one matrix product. All sums here and in `intervals`
are over rows of the Grams, so large Grams are centred a few rows at a time (`UCentred`) and never copied.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

LARGE = 2**24
"""Elements of a stack of Grams, 128 MiB of float64, above which it is centred a few rows at a time."""
BLOCK = 2**18
"""Elements of the rows of a large batch that are processed together, few enough for the cache."""

RANGE = (1e-150, 1e150)
"""Range of HSIC in which products of four entries of Grams, as in the variance of CKA, stay in that of float64."""
NOISE = 1e-13
"""A U-centred Gram shorter than this share of the Gram is rounding, as where all images but one give the same."""


def u_centre(matrix: Tensor) -> Tensor:
    """Return the U-centred matrix: its diagonal is zero, and its rows sum to zero.

    Zeros if nothing but rounding is left.

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
    centred *= 1.0 - torch.eye(n, dtype=matrix.dtype, device=matrix.device)
    length, whole = (torch.linalg.matrix_norm(values, keepdim=True) for values in (centred, matrix))
    centred *= length >= NOISE * whole
    return centred


class UCentred:
    """A stack of Grams that is U-centred a few rows at a time.

    Args:
        matrices: (layers, n, n) float64; not changed and not copied.

    >>> stack = torch.rand(2, 6, 6, dtype=torch.float64)
    >>> torch.allclose(UCentred(stack).rows(2, 5), u_centre(stack)[:, 2:5])
    True
    """

    def __init__(self, matrices: Tensor):
        self.matrices, self.shape, n = matrices, matrices.shape, matrices.shape[-1]
        sums = matrices.sum(dim=-1) - matrices.diagonal(dim1=-2, dim2=-1)
        self.row_terms = sums / (n - 2) - sums.sum(dim=-1, keepdim=True) / (2 * (n - 1) * (n - 2))

    def __len__(self) -> int:
        return len(self.matrices)

    def __getitem__(self, layers: slice | Tensor) -> "UCentred":
        """Return some of the layers."""
        return UCentred(self.matrices[layers])

    def entries(self, layer: int, images: Tensor) -> Tensor:
        """Return the entries of some images, (m, m), of a layer; the diagonal is not zero."""
        terms = self.row_terms[layer, images]
        part: Tensor = self.matrices[layer][images[:, None], images] - terms[:, None] - terms
        return part

    def gram_rows(self, start: int, stop: int) -> Tensor:
        """Return some rows before centring, (layers, stop - start, n)."""
        return self.matrices[:, start:stop]

    def rows(self, start: int, stop: int) -> Tensor:
        """Return some rows, (layers, stop - start, n)."""
        block = self.gram_rows(start, stop) - self.row_terms[:, start:stop, None]
        block -= self.row_terms[:, None]
        block.diagonal(offset=start, dim1=1, dim2=2).zero_()
        return block


Centred = Tensor | UCentred
"""The centred Grams of one batch, from `centre_batches`."""


def row_blocks(x: Centred, y: Centred, per_image: int = 1) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield a first row, and the rows of both sides from there on, (rows, r, n) and (columns, r, n), with r in images.

    Args:
        x: (rows, n, n).
        y: (columns, n, n), of the same images.
        per_image: Examples per image.
    """
    n = x.shape[-1]
    large = max(len(x), len(y)) * n**2 > LARGE
    step = per_image * max(1, BLOCK // (n * (len(x) + len(y)) * per_image)) if large else n
    for start in range(0, n, step):
        yield start, rows_of(x, start, start + step), rows_of(y, start, start + step)


def rows_of(batch: Centred, start: int, stop: int) -> Tensor:
    """Return some rows of the centred Grams of a batch, (layers, stop - start, n)."""
    return batch[:, start:stop] if isinstance(batch, Tensor) else batch.rows(start, stop)


@dataclass(frozen=True)
class Estimator:
    """One way to estimate HSIC: `<centre(K), centre(L)> / divisor(n)`, from Grams stored as `H K H`.

    Attributes:
        centre: Centres a stack of Grams.
        divisor: Of the inner product of n examples, of a number or of a tensor of numbers.
        recentring: Factors of the last two terms in `similarity.jackknife`, of the numbers of examples left.
        fewest: Least number of examples that have an HSIC.
    """

    centre: Callable[[Tensor], Centred]
    divisor: Callable[[Any], Any]
    recentring: Callable[[Tensor], tuple[Tensor, Tensor]]
    fewest: int


ESTIMATORS: dict[str, Estimator] = {
    "unbiased": Estimator(
        lambda matrix: UCentred(matrix) if matrix.numel() > LARGE else u_centre(matrix),
        lambda n: n * (n - 3),
        lambda n: (2 / (n - 2), 1 / ((n - 1) * (n - 2))),
        fewest=4,
    ),
    "biased": Estimator(lambda matrix: matrix, lambda n: (n - 1) ** 2, lambda n: (2 / n, 1 / n**2), fewest=2),
}


DOUBLY_UNBIASED = "doubly_unbiased"
"""Name of the estimator of infinitely many features, of which a sample is known: `similarity.feature_sampling`."""


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

    def of(self, rows: slice | Tensor, columns: slice | Tensor) -> "Terms":
        """Return the terms of some of the rows and columns."""
        return Terms(self.xy[:, rows][:, :, columns], self.xx[:, rows], self.yy[:, columns], self.weights)


def centre_batches(grams: Sequence[Centred], estimator: Estimator) -> list[Centred]:
    """Return each batch's stack of Grams, (layers, n, n) float64, centred for an estimator."""
    return [stack if isinstance(stack, UCentred) else estimator.centre(stack) for stack in grams]


def hsic_terms(x: Sequence[Centred], y: Sequence[Centred], estimator: Estimator, per_image: int = 1) -> Terms:
    """Return the HSIC of every pair of layers in every batch, matrix products of flattened Grams.

    Args:
        x: Per batch, (rows, n, n) float64, from `centre_batches`.
        y: Per batch, (columns, n, n) float64, of the same images.
        estimator: The estimator that the matrices were centred for.
        per_image: Examples per image (more than 1 if the examples are tokens).
    """
    batches = [_inner_products(*batch) for batch in zip(x, y, strict=True)]
    sizes = torch.tensor([batch.shape[-1] for batch in x], dtype=torch.float64)
    divisors = torch.tensor([estimator.divisor(batch.shape[-1]) for batch in x], dtype=torch.float64)
    xy, xx, yy = (torch.stack(terms) for terms in zip(*batches, strict=True))
    return Terms(xy / divisors[:, None, None], xx / divisors[:, None], yy / divisors[:, None], sizes / per_image)


def _inner_products(x: Centred, y: Centred) -> tuple[Tensor, Tensor, Tensor]:
    """Return `<K, L>` of every pair of layers, (rows, columns), and `<K, K>` and `<L, L>`, in one batch."""
    xy, xx, yy = (torch.zeros(shape, dtype=torch.float64) for shape in ((len(x), len(y)), len(x), len(y)))
    for _, rows_x, rows_y in row_blocks(x, y):
        flat_x, flat_y = rows_x.flatten(1), rows_y.flatten(1)
        xy += flat_x @ flat_y.mT
        xx += flat_x.square().sum(dim=1)
        yy += flat_y.square().sum(dim=1)
    for batch, squares in ((x, xx), (y, yy)):
        if isinstance(batch, UCentred):  # as in `u_centre`
            squares *= squares.sqrt() >= NOISE * torch.linalg.matrix_norm(batch.matrices)
    return xy, xx, yy


def cka(terms: Terms) -> Tensor:
    """Return CKA, (rows, columns) float64; NaN where a layer's HSIC with itself is not positive, or not in `RANGE`.

    That HSIC is 0 for a layer that does not vary, and its unbiased estimate can be negative if there are too few
    images. Neither is a similarity of 0.

    >>> x = torch.randn(16, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> grams = [u_centre((x @ x.mT)[None])]  # one batch of one layer
    >>> cka(hsic_terms(grams, grams, ESTIMATORS["unbiased"])).round(decimals=6)
    tensor([[1.]], dtype=torch.float64)
    """
    xy, xx, yy = terms.sums()
    xx, yy = (torch.where((sums > RANGE[0]) & (sums < RANGE[1]), sums, torch.nan) for sums in (xx, yy))
    return xy / (xx.sqrt()[:, None] * yy.sqrt()[None, :])
