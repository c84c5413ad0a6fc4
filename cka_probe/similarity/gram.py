"""Gram matrices of activations, centred, right to float32's last digits, without a second copy of the layer.

CKA does not see the mean of a feature over the pictures; float32 does. A raw Gram `X X^T` of features with a
large common mean has a large common entry, and centring it afterwards subtracts nearly all of its digits. So
the product is made in column chunks that fit the cache, each chunk in float32 and their sum in float64, and
where the first product shows that the mean is large against what is left (the Gram itself tells), the mean of
each feature is subtracted from each chunk before its product.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK_ELEMENTS = 2**19
"""Elements of a chunk: 2 MiB of float32, so that a centred chunk is still in the cache when it is multiplied."""

MEAN_TOLERANCE = 16.0
"""Largest ratio of a raw Gram's entries to its centred off-diagonal ones, both root mean square, that is not
worth a second product. Float32 leaves about 6e-8 times this ratio as the relative error of an entry, and the
errors of n (n - 1) entries average out in HSIC."""

CONSTANT = 1e-6
"""Spread over root mean square below which the float32 rounding of a constant is all the variation there is."""


@dataclass(frozen=True)
class Gram:
    """The centred Gram of one layer over one batch.

    Attributes:
        matrix: (n, n) float64, `H X X^T H` with `H = I - 1/n`.
        size: Root mean square over pictures and features of the activation itself.
        spread: Root mean square over pictures and features of the activation less its feature means.
        finite: Whether all features were finite numbers.
        varies: Whether the layer tells any two pictures apart, rounding aside.
        uneven: Whether the means had to be subtracted first; worth remembering for the next batch.
    """

    matrix: Tensor
    size: float
    spread: float
    finite: bool
    varies: bool
    uneven: bool


def double_centre(matrix: Tensor) -> Tensor:
    """Return `H K H` with `H = I - 1/n`: rows and columns sum to zero.

    Args:
        matrix: (..., n, n), symmetric.
    """
    rows = matrix.mean(dim=-1, keepdim=True)
    return matrix - rows - rows.mT + rows.mean(dim=-2, keepdim=True)


def centred_gram(features: Tensor, *, uneven: bool = False) -> Gram:
    """Return the centred Gram of a batch.

    Args:
        features: (n, p), any floating dtype and any strides; read only.
        uneven: Subtract the feature means from the start, as the batch before had to.

    Returns:
        `Gram`, its matrix on the device of `features` (on the CPU where the device has no float64).
    """
    p = features.shape[1]
    if not uneven:
        raw = _product(features, centre=False)
        matrix = double_centre(raw)
        mean_square = float(raw.diagonal().mean()) / p
        off_diagonal = matrix - torch.diag(matrix.diagonal())
        uneven = not float(raw.square().mean()) <= MEAN_TOLERANCE**2 * float(off_diagonal.square().mean())
    if uneven:
        raw = _product(features, centre=True)
        matrix = double_centre(raw)
        mean_square = _mean_square(features)
    variance = float(matrix.diagonal().mean()) / p
    return Gram(
        matrix=matrix,
        size=mean_square**0.5,
        spread=max(variance, 0.0) ** 0.5,
        finite=math.isfinite(mean_square),
        varies=variance > CONSTANT**2 * mean_square,
        uneven=uneven,
    )


def _chunks(features: Tensor) -> Iterator[Tensor]:
    """Yield column blocks of (n, p) as (n, w) float32."""
    width = max(1, CHUNK_ELEMENTS // features.shape[0])
    for start in range(0, features.shape[1], width):
        yield features[:, start : start + width].float()


def _product(features: Tensor, *, centre: bool) -> Tensor:
    """Return `X X^T`, (n, n) float64, optionally of features less their means over the batch."""
    n = features.shape[0]
    wide = torch.float64 if features.device.type != "mps" else torch.float32
    total = torch.zeros(n, n, dtype=wide, device=features.device)
    for chunk in _chunks(features):
        if centre:
            chunk = chunk - chunk.mean(dim=0, keepdim=True)
        total += chunk @ chunk.mT
    return total.cpu().double() if wide is torch.float32 else total


def _mean_square(features: Tensor) -> float:
    """Return the mean of the squared features."""
    norms = torch.stack([chunk.square().mean(dim=1).double().mean() * chunk.shape[1] for chunk in _chunks(features)])
    return float(norms.sum()) / features.shape[1]
