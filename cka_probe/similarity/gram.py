"""Centred Gram matrices of activations, exact to the last digits of float32, without a second copy of the layer.

The product is computed in blocks of columns that fit the cache, each block in float32 and their sum in float64, and the
sum is centred. CKA does not depend on the mean of a feature over the images, but float32 does. If features have a large
common mean, the raw Gram `X X^T` has a large common entry, and centring cancels nearly all digits. Blocks of which
centring would leave less than a `SHARE` are computed again from deviations: an anchor is subtracted from each feature,
its median over five images, which two outliers among them do not move. What remains of the mean is no larger than the
deviations from it. Activations whose squares would leave the range of float32 are first scaled by a power of two, which
changes no digit.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from threading import local

import torch
from torch import Tensor

BLOCK_ELEMENTS, TOGETHER = 2**13, 64
"""Elements of a block, and blocks that are shifted together: 128 KiB and 2 MiB of float32, which are still in the cache
when all cores multiply them in one call."""

MANY, WIDE = 512, 256
"""Of more than `MANY` images, blocks are `WIDE` features wide; narrower ones would be added to the Gram too often."""

CUDA_WIDE, CUDA_ELEMENTS = 1024, 2**26
"""Features of a block on a GPU of CUDA, and elements of the blocks or of their Grams that one call multiplies there."""

SECTION = 16
"""Number of times so many blocks whose Gram is checked at once for what centring leaves of it."""

RAW = (torch.float32, torch.bfloat16, torch.float16)
"""Types of features that become float32 without loss; others become float32 only as deviations."""

TILE = 2**18
"""Elements of the rows of a large Gram that are processed together, few enough for the cache."""

SQUARES = (1e-24, 1e24)
"""Range of the mean square of deviations in which no square that matters leaves the range of float32."""

SHARE = 1 / 32
"""Of the trace of a raw Gram, what centring has to leave: cells then stay within 1e-6 of those from float64."""

DIGITS = 8
"""A layer whose `rms` is below so many times the precision of its dtype, relative to its `size`, only has rounding."""


@dataclass(frozen=True)
class Product:
    """What a hook computes from an activation.

    Attributes:
        matrix: (n, n) float64, `(X - a)(X - a)^T`; `a` has no influence on the matrix once it is centred.
        first: () float64, the squared length of the first image's features.
        features: p.
        rounding: `rounding_share` of the activation's dtype.
        values: (n, p) float32 on the CPU, the features minus their means, where they are kept.
    """

    matrix: Tensor
    first: Tensor
    features: int
    rounding: float
    values: Tensor | None = None


@dataclass(frozen=True)
class Grams:
    """The centred Grams of several layers over one batch.

    Attributes:
        matrices: (layers, n, n) float64 on the CPU, `H X X^T H` with `H = I - 1/n`; zeros if the layer does not vary.
        size: (layers,) root mean square of the first image's features: the scale of the activation.
        rms: (layers,) root mean square, over images and features, of the activation minus its feature means.
        finite: (layers,) whether all features were finite numbers.
        varies: (layers,) whether the layer differs between images by more than rounding.
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
    return _centre_in_place(matrix.clone())


def _centre_in_place(matrix: Tensor) -> Tensor:
    """Centre (..., n, n), and return it."""
    rows = matrix.mean(dim=-1, keepdim=True)
    matrix -= rows
    matrix -= rows.mT
    matrix += rows.mean(dim=-2, keepdim=True)
    n = matrix.shape[-1]
    step = max(1, TILE // n)
    for start in range(0, n, step):  # exactly symmetric: a fingerprint stores one triangle
        upper = matrix[..., start : start + step, start:]
        lower = matrix[..., start:, start : start + step].mT
        mean = (upper + lower) / 2
        upper.copy_(mean)
        lower.copy_(mean)
    return matrix


def centred_grams(products: list[Product]) -> Grams:
    """Return the centred Grams of all layers over one batch.

    Args:
        products: Of the same images, from `anchored_product`; the list is emptied, so that large ones are let go.
    """
    first = torch.stack([product.first for product in products]).cpu()
    features, rounding = (
        torch.tensor([getattr(product, name) for product in products], dtype=torch.float64)
        for name in ("features", "rounding")
    )
    matrices = torch.empty(len(products), *products[0].matrix.shape, dtype=torch.float64)
    for part in matrices.split(max(1, 4 * TILE // matrices[0].numel())):
        stack = [product.matrix for product in products[: len(part)]]
        part.copy_(torch.stack(stack) if len(stack) > 1 else stack[0])  # one copy to the CPU
        del stack, products[: len(part)]
        _centre_in_place(part)
    diagonals = matrices.diagonal(dim1=1, dim2=2)  # with the square of every feature, so NaN or infinite if one is
    variance = diagonals.mean(dim=1) / features
    varies = variance > rounding.square() * first / features
    finite = diagonals.isfinite().all(dim=1)
    matrices[~varies] = 0.0
    return Grams(
        matrices=matrices,
        size=(first / features).sqrt(),
        rms=variance.clamp_min(0).sqrt(),
        finite=finite,
        varies=varies,
    )


def anchored_product(features: Tensor, scaled: bool | None = None) -> Product:
    """Return `(X - a)(X - a)^T`, where `a` is 0 or, for blocks of features with a large mean, the anchor.

    Args:
        features: (n, p), any floating dtype and any strides; not changed.
        scaled: Whether they are scaled first; by default if the product shows that they have to be. To look at it, the
            CPU waits for a GPU; `need_scale` looks at several products at once.

    >>> anchored_product(torch.ones(4, 6)).matrix.abs().max()
    tensor(0., dtype=torch.float64)
    """
    n, p = features.shape
    # MPS has no float64: there the sum over blocks is float32 as well
    wide = torch.float64 if features.device.type != "mps" else torch.float32
    scale = _unit_scale(features) if scaled else 1.0
    total = _product(features, scale, wide)
    if scaled is None and not _in_range(float(total.trace()), n * p) and (scale := _unit_scale(features)) != 1.0:
        total = _product(features, scale, wide)
    row = features[0] if scale == 1.0 else features[0] * scale
    first = torch.linalg.vector_norm(row.float(), dtype=wide).square()
    matrix, first = ((value.double() if wide is torch.float64 else value.cpu().double()) for value in (total, first))
    if scale != 1.0:
        matrix, first = matrix / scale / scale, first / scale / scale
    return Product(matrix, first, p, rounding_share(features.dtype))


def rounding_share(dtype: torch.dtype) -> float:
    """Return the `rms` of a layer, relative to its `size`, below which it varies by nothing but rounding.

    >>> rounding_share(torch.float32) < 1e-6, rounding_share(torch.float64) < 2e-15
    (True, True)
    """
    return DIGITS * torch.finfo(torch.promote_types(dtype, torch.float32)).eps


def need_scale(products: Sequence[Product]) -> list[bool]:
    """Return for products of the same images, that were not scaled, whether their features have to be."""
    traces = torch.stack([product.matrix.trace() for product in products]).tolist()
    return [
        not _in_range(trace, len(product.matrix) * product.features)
        for trace, product in zip(traces, products, strict=True)
    ]


def _in_range(trace: float, elements: int) -> bool:
    """Return whether no square that matters left the range of float32; not if one is NaN."""
    return SQUARES[0] < trace / elements < SQUARES[1]


def _block_shape(n: int, device: torch.device) -> tuple[int, int, int]:
    """Return how many features a block has, and how many blocks and rows of their Grams one call multiplies."""
    if device.type == "cuda":
        return CUDA_WIDE, max(1, CUDA_ELEMENTS // (n * max(n, CUDA_WIDE))), n
    width, together = (BLOCK_ELEMENTS // n, TOGETHER) if n <= MANY else (WIDE, 1)
    return width, together, max(1, TILE // n)


def _product(features: Tensor, scale: float, wide: torch.dtype) -> Tensor:
    """Return `s^2 (X - a)(X - a)^T`, (n, n), summed over blocks in a dtype."""
    n, p = features.shape
    width, together, step = _block_shape(n, features.device)
    width = p // max(1, p // width)  # at most twice as wide, so that few features are left over
    if scale != 1.0:
        features = features * scale
    parts = _parts(features, width, together)
    total, anchors = torch.zeros(n, n, dtype=wide, device=features.device), None
    raw = features.is_cpu and features.dtype in RAW and n <= MANY
    for start in range(0, len(parts), SECTION):
        section = slice(start, start + SECTION)
        if raw:
            gram = _add_gram(torch.zeros_like(total), parts[section], None, step)
            trace = float(gram.trace())
            if raw := trace - float(gram.sum()) / n >= SHARE * trace:  # also False for NaN
                total += gram
        if not raw:
            anchors = anchors or _parts(_anchor(features)[None], width, together)
            _add_gram(total, parts[section], anchors[section], step)
    return total


def _parts(features: Tensor, width: int, together: int) -> list[Tensor]:
    """Return the columns of a matrix, (n, p), as views of so many blocks, (blocks, n, width), and what is left over."""
    whole = features.shape[1] // width * width
    blocks = features[:, :whole].unflatten(1, (-1, width)).transpose(0, 1)
    left = [features[None, :, whole:]] if whole < features.shape[1] else []
    return [*blocks.split(together), *left]


def _add_gram(total: Tensor, parts: Sequence[Tensor], anchors: Sequence[Tensor] | None, step: int) -> Tensor:
    """Add the Grams of blocks, (blocks, n, width), minus their anchors, (blocks, 1, width), to a sum and return it."""
    for number, part in enumerate(parts):
        if anchors is not None:
            part = torch.sub(part, anchors[number], out=_scratch(part.device, part.numel()).view(part.shape))
        elif part.dtype != torch.float32:
            part = _scratch(part.device, part.numel()).view(part.shape).copy_(part)
        for rows in range(0, len(total), step):
            gram = torch.bmm(part[:, rows : rows + step], part.mT)
            total[rows : rows + step] += gram.sum(dim=0, dtype=total.dtype)
    return total


def _anchor(features: Tensor) -> Tensor:
    """Return the median over five of the images, of three if there are four, (p,) float32, or float64 as they are."""
    n = len(features)
    count = 5 if n > 4 else 3
    dtype = torch.promote_types(features.dtype, torch.float32)
    rows = [features[number * (n - 1) // (count - 1)].to(dtype) for number in range(count)]
    if count == 5:
        a, b, c, d, e = rows
        low, high = torch.minimum(a, b), torch.maximum(a, b)
        rows = [torch.maximum(low, torch.minimum(c, d)), torch.minimum(high, torch.maximum(c, d)), e]
    a, b, c = rows
    return torch.maximum(torch.minimum(a, b), torch.minimum(torch.maximum(a, b), c))


def _unit_scale(features: Tensor) -> float:
    """Return the power of two that scales the largest absolute value to between 1/2 and 1."""
    largest = float(torch.stack(torch.aminmax(features)).abs().max())
    return power_of_two(largest)


def power_of_two(value: float) -> float:
    """Return the power of two that scales a value to between 1/2 and 1; 1 if it is not positive and finite.

    >>> power_of_two(3.0), power_of_two(0.0)
    (0.25, 1.0)
    """
    return math.ldexp(1.0, min(1023, -math.frexp(value)[1])) if 0 < value < math.inf else 1.0


_SCRATCH = local()


def _scratch(device: torch.device, elements: int) -> Tensor:
    """Return memory of this thread, (elements,) float32; allocating it for each block would cost more than its use.

    The allocator of CUDA keeps memory itself, and lends it to others in between.
    """
    if device.type == "cuda":
        return torch.empty(elements, device=device)
    memory: Tensor | None = getattr(_SCRATCH, str(device), None)
    if memory is None or len(memory) < elements:
        memory = torch.empty(max(elements, BLOCK_ELEMENTS * TOGETHER), device=device)
        setattr(_SCRATCH, str(device), memory)
    return memory[:elements]
