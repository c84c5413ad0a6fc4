"""Similarity measures, each a function of the centred Grams of two layers over one batch of images.

    cka         <U(K), U(L)> / (|U(K)| |U(L)|)                      linear CKA, its HSICs summed over batches
    rsa         Spearman's correlation of |x_i - x_j| with |y_i - y_j| over the pairs i < j
    mutual_knn  share of each image's k nearest images in x that are among its k nearest in y, k = 10
    procrustes  |K^(1/2) L^(1/2)|_* / sqrt(tr K tr L) = |X^T Y|_* / (|X|_F |Y|_F)

All are invariant to rotation, isotropic scaling and translation of the features, as a centred Gram is: the squared
distance of two images is `K_ii + K_jj - 2 K_ij`. CKA is a ratio of sums over batches and depends on their size by no
more than noise. **The others are weighted means over batches and depend on it**: among more images, neighbours are
nearer and are others, and a rotation fits worse. Their values are valid for one batch size.

A measure has two steps: `prepare` turns each Gram into an (n, n) matrix whose rows and columns are the images, and
`pair` computes the value of every two of these. So each layer is prepared once, for all other layers and for all
permutations of the null.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import ceil, floor, isfinite
from typing import Any

import torch
from torch import Tensor

from cka_probe import registry
from cka_probe.errors import DataError
from cka_probe.similarity.cka import ESTIMATORS, u_centre

NEIGHBOURS = 10
"""k of `mutual_knn`, as in Huh et al.; at most half of the other images in a batch are used."""


@dataclass(frozen=True)
class Measure:
    """A similarity measure.

    Attributes:
        name: Key in `MEASURES`; also on the command line and in the settings of a result.
        title: Name in figures.
        meaning: What a value means, in one line.
        reference: Publication.
        prepare: Maps centred Grams of one batch, (layers, n, n) float64, to one matrix per layer, (layers, n, n).
        pair: Maps prepared matrices (rows, n, n) and (columns, n, n) to values, (rows, columns) float64.
        range: Lowest and highest possible value; `None` if not known.
        sums: Whether it is a ratio of sums over batches (CKA, which has several estimators) or a mean over batches.
    """

    name: str
    title: str
    meaning: str
    reference: str
    prepare: Callable[[Tensor], Tensor]
    pair: Callable[[Tensor, Tensor], Tensor]
    range: tuple[float, float] | None = (0.0, 1.0)
    sums: bool = False

    def function(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the value of every layer of x with every layer of y over one batch, (rows, columns) float64.

        Args:
            x: (rows, n, n) float64, the centred Grams of x, `K = H X X^T H`.
            y: (columns, n, n) float64, those of y.
        """
        return self.pair_prepared(self.prepare_varying(x), self.prepare_varying(y))

    def prepare_varying(self, grams: Tensor) -> Tensor:
        """Return centred Grams prepared, (layers, n, n); all NaN for a layer that does not vary.

        Raises:
            DataError: What `prepare` returns has another shape.
        """
        varies = grams.diagonal(dim1=-2, dim2=-1).sum(-1) > 0
        prepared = torch.full_like(grams, torch.nan)
        matrices = self.prepare(grams[varies])
        if matrices.shape != grams[varies].shape:  # a smaller one would be broadcast silently
            raise DataError(
                f"measure {self.name!r}: expected prepare to return one matrix per layer, "
                f"{tuple(grams[varies].shape)}, found {tuple(matrices.shape)}; leave reductions to pair"
            )
        prepared[varies] = matrices
        return prepared

    def pair_prepared(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the values of prepared layers, (rows, columns) float64; NaN where undefined."""
        rows, columns = (stack.isfinite().all(dim=2).all(dim=1).nonzero().flatten() for stack in (x, y))
        values = torch.full((len(x), len(y)), torch.nan, dtype=torch.float64)
        if len(rows) and len(columns):
            values[rows[:, None], columns[None, :]] = self.pair(x[rows], y[columns]).double()
        return values

    def span(self, values: Tensor) -> list[float]:
        """Return `range`, or where it is not known the least whole numbers that enclose 0, 1 and all values."""
        if self.range is not None:
            return list(self.range)
        finite = [value for value in values.flatten().tolist() if isfinite(value)]
        return [float(floor(min([*finite, 0.0]))), float(ceil(max([*finite, 1.0])))]


def squared_distances(grams: Tensor) -> Tensor:
    """Return the squared distances of all images, (..., n, n), from Grams of the same shape."""
    lengths = grams.diagonal(dim1=-2, dim2=-1)
    distances = (lengths[..., :, None] + lengths[..., None, :] - 2 * grams).clamp_min(0)
    return distances * (1.0 - torch.eye(grams.shape[-1], dtype=grams.dtype))


def inner_products(x: Tensor, y: Tensor) -> Tensor:
    """Return `<x_r, y_c>` of all pairs of matrices, (rows, columns)."""
    return x.flatten(1) @ y.flatten(1).mT


def unbiased_hsic(grams: Tensor) -> Tensor:
    """Return U-centred Grams of norm 1; NaN where the unbiased HSIC of a layer with itself is 0."""
    return _normed(u_centre(grams))


def ranked_distances(grams: Tensor) -> Tensor:
    """Return the ranks of the distances (ties share their mean rank), centred and of norm 1; the diagonal is 0.

    Distances and their squares have the same ranks.
    """
    n = grams.shape[-1]
    rows, columns = torch.triu_indices(n, n, offset=1)
    distances = squared_distances(grams)[:, rows, columns].contiguous()
    ordered = distances.sort(dim=1).values
    below, above = (torch.searchsorted(ordered, distances, right=right) for right in (False, True))
    ranks = (below + above).double()
    ranks = ranks - ranks.mean(dim=1, keepdim=True)
    ranked = torch.zeros_like(grams)
    ranked[:, rows, columns] = ranked[:, columns, rows] = ranks
    return _normed(ranked)


def nearest(grams: Tensor) -> Tensor:
    """Return whether image j is among the k nearest of i (i in rows), scaled to norm 1.

    Images that are tied for the last places share them, so that the result does not depend on the order of images.
    """
    n = grams.shape[-1]
    k = min(NEIGHBOURS, (n - 1) // 2)
    distances = squared_distances(grams).masked_fill(torch.eye(n, dtype=torch.bool), torch.inf)
    last = distances.sort(dim=-1).values[..., k - 1 : k]
    closer, tied = (distances < last).double(), (distances == last).double()
    share = (k - closer.sum(-1, keepdim=True)) / tied.sum(-1, keepdim=True)
    return _normed(closer + share * tied)


def square_root(grams: Tensor) -> Tensor:
    """Return `K^(1/2) / sqrt(tr K)`, of norm 1."""
    values, vectors = torch.linalg.eigh(grams)
    roots = (vectors * values.clamp_min(0).sqrt()[:, None, :]) @ vectors.mT
    return _normed(roots)


def nuclear_norms(x: Tensor, y: Tensor) -> Tensor:
    """Return the sum of the singular values of `x_r y_c` for all pairs, (rows, columns)."""

    def row(matrix: Tensor) -> Tensor:
        norms: Tensor = torch.linalg.svdvals(matrix @ y).sum(dim=-1)
        return norms

    with ThreadPoolExecutor(torch.get_num_threads()) as threads:  # LAPACK works on one small matrix at a time
        return torch.stack(list(threads.map(row, x)))


def _normed(matrices: Tensor) -> Tensor:
    """Return matrices of Frobenius norm 1; NaN where it is 0."""
    norms: Tensor = torch.linalg.matrix_norm(matrices)
    return matrices / norms[:, None, None]


MEASURES: dict[str, Measure] = {
    "cka": Measure(
        "cka",
        "CKA",
        "how far the two layers agree on which images are alike, the widest directions counting most",
        "Kornblith et al., ICML 2019; unbiased by Song et al., JMLR 2012; in batches by Nguyen et al., ICLR 2021",
        unbiased_hsic,
        inner_products,
        sums=True,
    ),
    "rsa": Measure(
        "rsa",
        "RSA (Spearman)",
        "how far the two layers put the pairs of images in the same order of distance",
        "Kriegeskorte, Mur & Bandettini, Frontiers in Systems Neuroscience 2008",
        ranked_distances,
        inner_products,
        range=(-1.0, 1.0),
    ),
    "mutual_knn": Measure(
        "mutual_knn",
        f"Mutual {NEIGHBOURS} nearest neighbours",
        "share of an image's nearest images that the two layers agree on; of its distances only the least count",
        "Huh et al., ICML 2024 (there by inner products of normalised features, here by Euclidean distance)",
        nearest,
        inner_products,
    ),
    "procrustes": Measure(
        "procrustes",
        "Procrustes similarity",
        "how much of one layer is the other after the best rotation; its arc cosine is a metric",
        "Williams et al., NeurIPS 2021",
        square_root,
        nuclear_norms,
    ),
}
"""Measures by name."""


def choose_measure(measure: str | Measure | Callable[[Tensor, Tensor], Any], estimator: str = "unbiased") -> Measure:
    """Return the measure of a name or a function.

    Args:
        measure: A name in `MEASURES`, a `Measure`, or any function of two centred Grams, (n, n) float64 each, that
            returns one number. The function is called for each pair of layers and each batch.
        estimator: Estimator of HSIC; only CKA has more than one.

    Raises:
        UnknownNameError: There is no measure or estimator of that name.
        DataError: It is neither a name nor a measure, or has no such estimator.

    >>> choose_measure("rsa").range
    (-1.0, 1.0)
    """
    registry.get(ESTIMATORS, estimator, "estimator")
    method = registry.get(MEASURES, measure, "measure") if isinstance(measure, str) else measure
    if not isinstance(method, Measure):
        method = _from_function(method)
    if not method.sums and estimator != "unbiased":
        raise DataError(f"estimator {estimator!r} is one of CKA; {method.name} has none: omit it")
    return method


def _from_function(function: Callable[[Tensor, Tensor], Any]) -> Measure:
    """Return a function of two Grams as a measure."""
    if not callable(function):
        raise DataError(
            f"expected the name of a measure ({', '.join(MEASURES)}) or a function of two Grams, found "
            f"{type(function).__name__}"
        )
    name = getattr(function, "__name__", type(function).__name__)
    meaning = (getattr(function, "__doc__", None) or "a user-defined measure").strip().splitlines()[0]

    def number(row: Tensor, column: Tensor) -> float:
        value = function(row, column)
        try:
            return float(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise DataError(
                f"expected the measure {name!r} to return one number for two Grams, found {type(value).__name__}: "
                f"{error}"
            ) from error

    def pair(x: Tensor, y: Tensor) -> Tensor:
        return torch.tensor([[number(row, column) for column in y] for row in x], dtype=torch.float64)

    return Measure(name, name, meaning, "", lambda grams: grams, pair, range=None)
