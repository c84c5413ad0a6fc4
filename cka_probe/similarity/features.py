"""The features of an activation that are compared: all its numbers, its channel means, or its tokens.

    flatten   (n, p)            each position of each channel is a feature; the papers' choice
    gap       (n, C)            global average pooling
    tokens    (n * 2 * 2, C)    each cell of a 2 x 2 grid of the image is an example
    tokens:7  (n * 7 * 7, C)    each cell of a 7 x 7 grid, or of any other

Tokens of one image are not independent examples; see `intervals`.

Of wide layers a random sample of the features is enough for CKA: see `feature_sampling`.

`BatchFeatures` puts the features of a batch together from those of forward passes.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from itertools import accumulate
from math import isqrt, prod
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cka_probe import registry
from cka_probe.errors import LayerError

TOKEN_GRID = 2
"""Cells along each side of the grid of `tokens`, as many as the last stage of a 64-pixel Swin-v2 has."""

TOKENS = re.compile(r"tokens(?::([1-9]\d?))?")
"""`tokens`, or with the cells along each side of the grid."""


def flatten(activation: Tensor, layout: str | None) -> Tensor:
    """Return (n, p), a view, in the order of memory, which CKA does not depend on.

    Args:
        activation: (n, ...), any strides.
        layout: Ignored.
    """
    del layout
    return activation.permute(memory_order(activation)).flatten(1)


def memory_order(activation: Tensor) -> tuple[int, ...]:
    """Return the axes of an activation in the order of memory, after that of the images.

    >>> import torch
    >>> memory_order(torch.rand(4, 3, 2, 2).to(memory_format=torch.channels_last))
    (0, 2, 3, 1)
    """
    strides = activation.stride()
    return (0, *sorted(range(1, activation.dim()), key=lambda axis: -strides[axis]))


def gap(activation: Tensor, layout: str | None) -> Tensor:
    """Return (n, C) float32, the mean of each channel over its positions."""
    if layout == "NC":
        return activation.float()
    positions = activation if layout == "NLC" else _feature_map(activation, layout).flatten(2).mT
    return positions.float().mean(dim=1)


def tokens(activation: Tensor, layout: str | None, *, grid: int = TOKEN_GRID) -> Tensor:
    """Return (n * grid * grid, C) float32, the means of each channel over the cells of a grid of the image.

    Raises:
        LayerError: The activation has fewer positions than the grid has cells, in height or width.
    """
    positions = _feature_map(activation, layout).float()
    if min(positions.shape[2:]) < grid:
        height, width = positions.shape[2:]
        raise LayerError(
            f"expected at least {grid}x{grid} positions for a grid of that size, found {height}x{width}; use "
            f"--features tokens:{min(height, width)}, or omit the layer"
        )
    return F.adaptive_avg_pool2d(positions, grid).flatten(2).mT.flatten(0, 1)


FEATURES: dict[str, Callable[[Tensor, str | None], Tensor]] = {"flatten": flatten, "gap": gap, "tokens": tokens}


def choose_features(features: str) -> Callable[[Tensor, str | None], Tensor]:
    """Return the function of a name in `FEATURES`, or of `tokens:7` or another grid.

    Raises:
        UnknownNameError: There is no such name.
    """
    if tokens_per_image(features) > 1:
        return partial(tokens, grid=isqrt(tokens_per_image(features)))
    function: Callable[[Tensor, str | None], Tensor] = registry.get(FEATURES, features, "features")
    return function


@lru_cache(maxsize=256)
def sampled_indices(total: int, num: int, seed: int) -> Tensor:
    """Return the indices of the features that are sampled of a layer of `total`, in random order, int64.

    They are the same for all layers of as many features.

    >>> len(sampled_indices(100, 8, 0)), sorted(sampled_indices(4, 8, 0).tolist())
    (8, [0, 1, 2, 3])
    """
    chosen = np.random.default_rng([seed, total]).choice(total, min(num, total), replace=False)
    return torch.from_numpy(chosen.astype(np.int64))


def sample_features(activation: Tensor, layout: str | None, features: str, num: int, seed: int) -> tuple[Tensor, int]:
    """Return at most `num` random features of an activation, (n, p), and how many it has.

    Flattened features are numbered in the order of the activation's axes, whatever that of memory is.

    Args:
        activation: (n, ...), any strides.
        layout: Of its channels and positions.
        features: `flatten` or `gap`.
        num: Number of features at most.
        seed: Seed of the sample.
    """
    if features == "flatten":
        total = prod(activation.shape[1:])
        indices = sampled_indices(total, num, seed).to(activation.device)
        positions: tuple[Tensor, ...] = torch.unravel_index(indices, activation.shape[1:])
        return activation.movedim(0, -1)[positions].mT, total
    rows = choose_features(features)(activation, layout)
    return rows[:, sampled_indices(rows.shape[1], num, seed).to(rows.device)], rows.shape[1]


def tokens_per_image(features: str) -> int:
    """Return the number of examples per image.

    >>> tokens_per_image("flatten"), tokens_per_image("tokens"), tokens_per_image("tokens:7")
    (1, 4, 49)
    """
    grid = TOKENS.fullmatch(features)
    return int(grid[1] or TOKEN_GRID) ** 2 if grid else 1


def _feature_map(activation: Tensor, layout: str | None) -> Tensor:
    """Return (n, C, h, w)."""
    if layout == "NCHW":
        return activation
    if layout == "NHWC":
        return activation.permute(0, 3, 1, 2)
    if layout == "NLC":
        side = round(activation.shape[1] ** 0.5)
        if side * side == activation.shape[1]:
            grid: Tensor = activation.unflatten(1, (side, side))
            return grid.permute(0, 3, 1, 2)
    raise LayerError(
        f"cannot tell the channels of an activation of shape {tuple(activation.shape)} from its positions; "
        "use --features flatten, or name another layer"
    )


class BatchFeatures:
    """The features of layers over batches of images; those of a batch become a Gram as soon as they are complete.

    Args:
        sizes: Number of images in each batch.
        features: `flatten`, `gap`, `tokens` or `tokens:7`.
        process: What becomes of the features of a batch, called with the name of the module.
        orders: Order of each module's axes in memory, from earlier batches; by default that of these.
        num: Number of random features of a layer at most; by default all.
        seed: Seed of their choice.

    Attributes:
        products: Per batch, what `process` returns for each module.
        totals: Number of features of each module, of those of which a sample is taken.
        shapes: Shape of each module's output for one image.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        features: str,
        process: Callable[[str, Tensor], Any],
        orders: dict[str, tuple[int, ...]] | None = None,
        num: int | None = None,
        seed: int = 0,
    ) -> None:
        ends = [*accumulate(sizes)]
        self.batches = [range(end - size, end) for end, size in zip(ends, sizes, strict=True)]
        self.products: list[dict[str, Any]] = [{} for _ in sizes]
        self._process = process
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.totals: dict[str, int] = {}
        self._sample = None if num is None else partial(sample_features, features=features, num=num, seed=seed)
        self._features, self._per_image = choose_features(features), tokens_per_image(features)
        self._orders = {} if orders is None else orders
        self._incomplete: dict[str, list[Tensor]] = {}

    def add(self, module: str, activation: Tensor, layout: str | None, part: range) -> None:
        """Add the activation of a module for some of the images, (m, ...), which come one part after another."""
        order = self._orders.setdefault(module, memory_order(activation))
        if memory_order(activation) != order:  # features are in the order of memory
            activation = activation.permute(order).contiguous().permute(*np.argsort(order).tolist())
        if self._sample is None:
            features = self._features(activation, layout)
        else:
            features, self.totals[module] = self._sample(activation, layout)
        for products, batch in zip(self.products, self.batches, strict=True):
            images = range(max(part.start, batch.start), min(part.stop, batch.stop))
            if not images:
                continue
            rows = self._rows(features, images, part)
            if images.stop < batch.stop:  # a copy: the model may overwrite its activation
                self._incomplete.setdefault(module, []).append(rows.clone())
                continue
            if images != batch:
                rows = torch.cat([*self._incomplete.pop(module), rows])
            products[module] = self._process(module, rows)

    def _rows(self, features: Tensor, images: range, whole: range) -> Tensor:
        """Return the rows of some images in the features of a range of images."""
        start = (images.start - whole.start) * self._per_image
        return features[start : start + len(images) * self._per_image]
