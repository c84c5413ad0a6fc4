"""Gram matrices of activations, centred, right to float32's last digits, without a second copy of the layer.

CKA does not see the mean of a feature over the pictures; float32 does. A raw Gram `X X^T` of features with a
large common mean has a large common entry, and centring it afterwards subtracts nearly all of its digits. So
the product is made in column chunks that fit the cache, each chunk in float32 and their sum in float64, and
where the first product shows that the mean is large against what is left (the Gram itself tells), the mean of
each feature is subtracted from each chunk before its product.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK_ELEMENTS = 2**18
"""Elements of a chunk: 1 MiB of float32, so that a centred block is still in the cache when it is multiplied."""

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
    centred = matrix - rows - rows.mT + rows.mean(dim=-2, keepdim=True)
    return (centred + centred.mT) / 2  # symmetric to the last bit: a fingerprint keeps one triangle


def centred_gram(features: Tensor, *, uneven: bool | None = None) -> Gram:
    """Return the centred Gram of a batch.

    Args:
        features: (n, p), any floating dtype and any strides; read only.
        uneven: Whether the batch before had to subtract the feature means, which this one then does from the
            start; `None` if there was none.

    Returns:
        `Gram`, its matrix on the device of `features` (on the CPU where the device has no float64).
    """
    if uneven is None:
        # a look at the first block spares most uneven layers a vain product over all of them
        block = features[:, : max(1, CHUNK_ELEMENTS // len(features))]
        uneven = block.shape[1] < features.shape[1] and _is_uneven(_product(block, centre=False)[0])
    if not uneven:
        raw, _ = _product(features, centre=False)
        uneven = _is_uneven(raw)
        total = raw.diagonal().sum()
    if uneven:
        raw, means = _product(features, centre=True)
        total = raw.diagonal().sum() + len(raw) * means
    matrix = double_centre(raw)
    mean_square = float(total) / features.numel()
    variance = float(matrix.diagonal().sum()) / features.numel()
    return Gram(
        matrix=matrix,
        size=mean_square**0.5,
        spread=max(variance, 0.0) ** 0.5,
        finite=math.isfinite(mean_square),
        varies=variance > CONSTANT**2 * mean_square,
        uneven=uneven,
    )


def _is_uneven(raw: Tensor) -> bool:
    """Return whether a raw Gram, (n, n), is so much larger than what centring leaves that float32 has lost it."""
    matrix = double_centre(raw)
    left = matrix.square().sum() - matrix.diagonal().square().sum()
    return not float(raw.square().sum()) <= MEAN_TOLERANCE**2 * float(left)


def _product(features: Tensor, *, centre: bool) -> tuple[Tensor, Tensor]:
    """Return `X X^T` in column blocks, optionally of features less their means over the batch.

    Args:
        features: (n, p), any floating dtype.
        centre: Subtract the means, block by block, into one scratch block that stays in the cache.

    Returns:
        The product, (n, n) float64, and the sum of the squared means that were subtracted, () float64.
    """
    n, p = features.shape
    width = min(p, max(1, CHUNK_ELEMENTS // n))
    # MPS has no float64: there the sum over blocks is float32 as well
    wide = {"dtype": torch.float64 if features.device.type != "mps" else torch.float32, "device": features.device}
    total, squares = torch.zeros(n, n, **wide), torch.zeros((), **wide)
    averaging = features.new_full((1, n), 1.0 / n, dtype=torch.float32)
    scratch = features.new_empty((n, width), dtype=torch.float32) if centre else None
    for start in range(0, p, width):
        block = features[:, start : start + width].float()
        if centre:
            mean = averaging @ block
            squares += mean.square().sum()
            block = torch.sub(block, mean, out=scratch[:, : block.shape[1]])
        total += block @ block.mT
    return total.double() if total.device.type != "mps" else total.cpu().double(), squares.cpu().double()
