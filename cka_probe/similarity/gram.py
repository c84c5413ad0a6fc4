"""Gram matrices of activations, centred, right to float32's last digits, without a second copy of the layer.

CKA does not see the mean of a feature over the images; float32 does. A raw Gram `X X^T` of features with a
large common mean has a large common entry, and centring it afterwards subtracts nearly all of its digits. So an
anchor near the mean, the average of the first four images, is subtracted from each feature first: what is left
of the mean is no larger than the deviations from it, and float64 subtracts it from the Gram. The product is computed
in column blocks that fit the cache, each block in float32 and their sum in float64.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from threading import local

import torch
from torch import Tensor

BLOCK_ELEMENTS, TOGETHER = 2**15, 8
"""Elements of a column block, and how many blocks are shifted at a time: 128 KiB and 1 MiB of float32, so that what was
just written is still in the cache when it is multiplied, by all cores in one call."""

ANCHOR = 4
"""Images whose average is subtracted: the fewest there can be, and a power of two, so that the average of equal
numbers is that number."""

CONSTANT = 1e-6
"""`rms` over `size` below which the float32 rounding of a constant is all the variation there is."""


@dataclass(frozen=True)
class Product:
    """What is left of an activation when its hook returns.

    Attributes:
        matrix: (n, n) float64, `(X - a)(X - a)^T` with the anchor `a`.
        first: () float32, the squared length of the first image's features.
        features: p.
    """

    matrix: Tensor
    first: Tensor
    features: int


@dataclass(frozen=True)
class Grams:
    """The centred Grams of several layers over one batch.

    Attributes:
        matrices: (layers, n, n) float64 on the CPU, `H X X^T H` with `H = I - 1/n`; zeros where
            the layer does not vary.
        size: (layers,) root mean square of the first image's features: the scale of the activation.
        rms: (layers,) root mean square, over images and features, of the activation minus its feature means.
        finite: (layers,) whether all features were finite numbers.
        varies: (layers,) whether the layer tells any two images apart, rounding aside.
    """

    matrices: Tensor
    size: Tensor
    rms: Tensor
    finite: Tensor
    varies: Tensor


def double_centre(matrix: Tensor) -> Tensor:
    """Return `H K H` with `H = I - 1/n`: rows and columns sum to zero.

    Args:
        matrix: (..., n, n), symmetric.
    """
    rows = matrix.mean(dim=-1, keepdim=True)
    centred = matrix - rows - rows.mT + rows.mean(dim=-2, keepdim=True)
    return (centred + centred.mT) / 2  # symmetric to the last bit: a fingerprint keeps one triangle


def centred_grams(products: Sequence[Product]) -> Grams:
    """Return the centred Grams of the layers of a batch, all at once.

    Args:
        products: Of the same images, from `anchored_product`.
    """
    raw = torch.stack([product.matrix for product in products]).cpu()
    first = torch.stack([product.first for product in products]).cpu().double()
    features = torch.tensor([product.features for product in products], dtype=torch.float64)
    matrices = double_centre(raw)
    variance = matrices.diagonal(dim1=1, dim2=2).mean(dim=1) / features
    finite = raw.isfinite().all(dim=2).all(dim=1)
    varies = variance > CONSTANT**2 * first / features
    return Grams(
        matrices=torch.where(varies[:, None, None], matrices, 0.0),
        size=(first / features).sqrt(),
        rms=variance.clamp_min(0).sqrt(),
        finite=finite,
        varies=varies,
    )


def anchored_product(features: Tensor) -> Product:
    """Return `(X - a)(X - a)^T` with the anchor `a`, block by block.

    Args:
        features: (n, p), any floating dtype and any strides; read only.
    """
    n, p = features.shape
    width = min(p, max(1, BLOCK_ELEMENTS // n))
    whole = p - p % width
    blocks = features[:, :whole].unflatten(1, (-1, width)).transpose(0, 1)  # (blocks, n, width), no copy
    parts = [*blocks.split(TOGETHER)] + [features[None, :, whole:]] * (whole < p)
    # MPS has no float64: there the sum over blocks is float32 as well
    wide = torch.float64 if features.device.type != "mps" else torch.float32
    total = torch.zeros(n, n, dtype=wide, device=features.device)
    for part in parts:
        part = part.float()
        anchor = part[:, :ANCHOR].mean(dim=1, keepdim=True)
        shifted = torch.sub(part, anchor, out=_scratch(part.device, part.numel()).view(part.shape))
        total += torch.bmm(shifted, shifted.mT).sum(dim=0, dtype=wide)
    first = torch.linalg.vector_norm(features[0].float()).square()
    return Product(total.double() if wide is torch.float64 else total.cpu().double(), first, p)


def _scratch(device: torch.device, elements: int) -> Tensor:
    """Return a stretch of this thread's scratch memory, (elements,) float32; fresh memory for each block costs more
    time than what is written to it."""
    memory: Tensor | None = getattr(_HELD, str(device), None)
    if memory is None or len(memory) < elements:
        memory = torch.empty(max(elements, BLOCK_ELEMENTS * TOGETHER), device=device)
        setattr(_HELD, str(device), memory)
    return memory[:elements]


_HELD = local()
