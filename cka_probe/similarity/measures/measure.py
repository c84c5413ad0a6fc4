"""What a similarity measure is: a function of the centred Grams of two layers over one batch of images.

A measure has two steps: `prepare` turns the Gram of each layer into what is compared, and `pair` computes the value of
every two of these. So each layer is prepared once, for all other layers and for all permutations of the null.

All are invariant to rotation, isotropic scaling and translation of the features, as a normalised centred Gram is: the
squared distance of two images is `K_ii + K_jj - 2 K_ij`. CKA is a ratio of sums over batches and depends on their size
by no more than noise. **The others are weighted means over batches and depend on it**: among more images, neighbours
are nearer and are others, and a rotation fits worse. Their values are valid for one batch size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, floor, isfinite

import torch
from torch import Tensor

from cka_probe.errors import DataError

INVARIANCES = {
    "rotation": "an orthogonal map of the features",
    "scale": "one factor for all features",
    "translation": "a constant added to each feature",
    "order": "any increasing function of the distances",
    "linear": "an invertible linear map of the leading components",
}
"""What may be done to one of the layers without a change of the value; every measure has the first three."""

ROUNDING = 2.0**-42
"""Distances that differ by less than this share of the largest are equal."""


@dataclass(frozen=True)
class Measure:
    """A similarity measure; 1 for a layer with itself.

    Attributes:
        name: Key in `MEASURES`; also on the command line and in the settings of a result.
        title: Name in figures.
        meaning: What a value means, in one line.
        reference: Publication.
        prepare: Maps centred Grams of one batch, (layers, n, n) float64, to (layers, n, n), or to (layers, n, r) if
            `image_axes` is 1; NaN for a layer that has no value.
        pair: Maps prepared layers (rows, n, ...) and (columns, n, ...) to values, (rows, columns) float64.
        range: Lowest and highest possible value; `None` if not known.
        sums: Whether it is a ratio of sums over batches (CKA, which has several estimators) or a mean over batches.
        image_axes: 2 if rows and columns of what is prepared are images, 1 if only the rows are.
        invariances: In addition to rotation, scale and translation, keys of `INVARIANCES`.
        chance: What unrelated layers reach on average, if images are few and features many.
        cost: Operations for each pair of layers, in images n of a batch.
        undefined: Why a layer that varies may have no value.
    """

    name: str
    title: str
    meaning: str
    reference: str
    prepare: Callable[[Tensor], Tensor]
    pair: Callable[[Tensor, Tensor], Tensor]
    range: tuple[float, float] | None = (0.0, 1.0)
    sums: bool = False
    image_axes: int = 2
    invariances: tuple[str, ...] = ()
    chance: str = "not known"
    cost: str = "n²"
    undefined: str = "the measure is undefined for its Gram"

    def function(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the value of every layer of x with every layer of y over one batch, (rows, columns) float64.

        Args:
            x: (rows, n, n) float64, the centred Grams of x, `K = H X X^T H`.
            y: (columns, n, n) float64, those of y.
        """
        return self.pair_prepared(self.prepare_varying(x), self.prepare_varying(y))

    def prepare_varying(self, grams: Tensor) -> Tensor:
        """Return centred Grams prepared, (layers, n, ...); all NaN for a layer that has no value.

        Raises:
            DataError: What `prepare` returns has another shape.
        """
        varies = grams.diagonal(dim1=-2, dim2=-1).sum(-1) > 0
        matrices = self.prepare(grams[varies])
        shape = (int(varies.sum()), *[grams.shape[-1]] * self.image_axes)
        if matrices.dim() != 3 or matrices.shape[: len(shape)] != shape:  # a smaller one would be broadcast silently
            raise DataError(
                f"measure {self.name!r}: expected prepare to return one matrix per layer, "
                f"{tuple(grams[varies].shape)}, found {tuple(matrices.shape)}; leave reductions to pair"
            )
        prepared = matrices.new_full((len(grams), *matrices.shape[1:]), torch.nan)
        prepared[varies] = matrices
        return prepared

    def pair_prepared(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the values of prepared layers, (rows, columns) float64; NaN where undefined."""
        rows, columns = (defined(stack).nonzero().flatten() for stack in (x, y))
        values = torch.full((len(x), len(y)), torch.nan, dtype=torch.float64)
        if len(rows) and len(columns):
            values[rows[:, None], columns[None, :]] = self.pair(x[rows], y[columns]).double()
        return values

    def permute(self, prepared: Tensor, order: Tensor) -> Tensor:
        """Return prepared layers with their images in another order, (n,) int64."""
        rows = prepared[:, order]
        return rows[:, :, order] if self.image_axes == 2 else rows

    def span(self, values: Tensor) -> list[float]:
        """Return `range`, or where it is not known the least whole numbers that enclose 0, 1 and all values."""
        if self.range is not None:
            return list(self.range)
        finite = [value for value in values.flatten().tolist() if isfinite(value)]
        return [float(floor(min([*finite, 0.0]))), float(ceil(max([*finite, 1.0])))]


def defined(prepared: Tensor) -> Tensor:
    """Return which of the prepared layers have a value, (layers,) bool."""
    finite: Tensor = prepared.isfinite().flatten(1).all(dim=1)
    return finite


def squared_distances(grams: Tensor) -> Tensor:
    """Return the squared distances of all images, (..., n, n), from Grams of the same shape.

    They are multiples of `ROUNDING` times the largest, so that equal distances stay equal.
    """
    lengths = grams.diagonal(dim1=-2, dim2=-1)
    distances = (lengths[..., :, None] + lengths[..., None, :] - 2 * grams).clamp_min(0)
    distances = distances * (1.0 - torch.eye(grams.shape[-1], dtype=grams.dtype))
    step = ROUNDING * distances.amax(dim=(-2, -1), keepdim=True)
    return (distances / step).round() * step


def inner_products(x: Tensor, y: Tensor) -> Tensor:
    """Return `<x_r, y_c>` of all pairs of matrices, (rows, columns)."""
    return x.flatten(1) @ y.flatten(1).mT


def over_pairs(matrices: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Return matrices, (layers, n, n), whose pairs i < j, (layers, pairs), are mapped; the diagonal is 0."""
    n = matrices.shape[-1]
    rows, columns = torch.triu_indices(n, n, offset=1)
    mapped = torch.zeros_like(matrices)
    mapped[:, rows, columns] = mapped[:, columns, rows] = function(matrices[:, rows, columns].contiguous())
    return mapped


def normed(matrices: Tensor) -> Tensor:
    """Return matrices of Frobenius norm 1; NaN where it is 0."""
    norms: Tensor = torch.linalg.matrix_norm(matrices)
    return matrices / norms[:, None, None]
