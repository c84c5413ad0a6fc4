"""The layout of an activation: which axes are channels and which are positions.

| layout | shape | networks |
|---|---|---|
| NC | (n, C) | anything after pooling |
| NLC | (n, L, C) | vision transformers: tokens, of which the last h w are the grid of patches, row by row |
| NCHW | (n, C, h, w) | convolutional networks |
| NHWC | (n, h, w, C) | timm's Swin transformers |

`channel_layout` finds the channels. `infer_layout` also finds the grid of patches among tokens, which may follow a
class token and registers: the model declares it, or exactly one grid of square patches fits. A layout that is not
certain is an error there: a map drawn along the wrong axes still looks like a map.
"""

import re
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from cka_probe.errors import LayerError

CHANNELS_FIRST = (
    nn.Conv2d,
    nn.ConvTranspose2d,
    nn.BatchNorm2d,
    nn.GroupNorm,
    nn.InstanceNorm2d,
    nn.MaxPool2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.Upsample,
)
CHANNELS_LAST = (nn.Linear, nn.LayerNorm)
"""These and not their subclasses: LayerNorm2d of timm or torchvision is a LayerNorm with its channels first."""

MAX_PREFIX_TOKENS = 8
"""Class token and registers that are considered before the patches of a model that does not declare their number."""

GRID = re.compile(r"([1-9]\d*)x([1-9]\d*)")


def channel_layout(
    shape: tuple[int, ...], pixels: tuple[int, int] | None, module: nn.Module, model: nn.Module
) -> str | None:
    """Return the layout of an activation, or `None` if it is not certain.

    Of a feature map it follows from the kind of module (a convolution puts out NCHW, a linear layer has its channels
    last), from what the model declares (`output_fmt` of timm, or convolutions without a layer norm), or from the
    proportions of the image, in this order.

    Args:
        shape: (n, ...) of the activation.
        pixels: (height, width) of the input of the model, if it is an image.
        module: The module that put it out.
        model: The encoder or head that the module is part of.

    >>> channel_layout((8, 12, 12, 768), (192, 192), nn.Identity(), nn.Sequential())
    'NHWC'
    """
    if len(shape) != 4:
        return {2: "NC", 3: "NLC"}.get(len(shape))
    if (order := module_layout(module)) is not None or pixels is None:
        return order
    fits = {
        layout: abs(height * pixels[1] - width * pixels[0]) < max(pixels) and height <= pixels[0]
        for layout, (height, width) in {"NCHW": shape[2:], "NHWC": shape[1:3]}.items()
    }
    declared: Any = getattr(model, "output_fmt", None)
    if fits.get(declared or ("NCHW" if is_convolutional(model) else "")):
        return declared or "NCHW"
    possible = [layout for layout, fit in fits.items() if fit]
    return possible[0] if len(possible) == 1 else None


def module_layout(module: nn.Module) -> str | None:
    """Return the layout of a module's feature maps where its kind determines it."""
    if isinstance(module, CHANNELS_FIRST):
        return "NCHW"
    return "NHWC" if type(module) in CHANNELS_LAST else None


@dataclass(frozen=True)
class Layout:
    """The layout of a layer that has positions.

    Attributes:
        order: `NCHW`, `NHWC` or `NLC`.
        grid: (height, width) in patches, for `NLC` only.
    """

    order: str
    grid: tuple[int, int] = (0, 0)

    def __str__(self) -> str:
        return f"{self.grid[0]}x{self.grid[1]}" if self.order == "NLC" else self.order

    def feature_map(self, activation: Tensor) -> Tensor:
        """Return an activation, or its gradient, as (n, C, h, w): a view."""
        if self.order == "NLC":
            grid: Tensor = activation[:, -self.grid[0] * self.grid[1] :].unflatten(1, self.grid)
            return grid.permute(0, 3, 1, 2)
        return activation.permute(0, 3, 1, 2) if self.order == "NHWC" else activation


def parse_layout(word: str) -> Layout:
    """Return the layout `NCHW`, `NHWC` or a grid of patches such as `14x14` (height x width).

    Raises:
        LayerError: The word is none of these.
    """
    if word in ("NCHW", "NHWC"):
        return Layout(word)
    grid = GRID.fullmatch(word)
    if grid is None:
        raise LayerError(f"expected a layout NCHW, NHWC or a grid of patches such as 14x14, found {word!r}")
    return Layout("NLC", (int(grid[1]), int(grid[2])))


def check_layout(layout: Layout, shape: tuple[int, ...], name: str, module: nn.Module) -> None:
    """Raise `LayerError` unless the activation of a module, of this shape, can have a layout that the user gave."""
    tokens, known = layout.grid[0] * layout.grid[1], module_layout(module)
    fits = len(shape) == 3 and shape[1] >= tokens if layout.order == "NLC" else len(shape) == 4
    if not fits or (len(shape) == 4 and known not in (None, layout.order)):
        raise LayerError(
            f"layer {name!r}, {type(module).__name__}, returns {shape}, which cannot have the layout {layout}; "
            f"write {name} alone"
        )


def infer_layout(shape: tuple[int, ...], pixels: tuple[int, int], name: str, network: nn.Module) -> Layout:
    """Return the layout of a layer that has positions.

    Args:
        shape: (n, ...) of its activation.
        pixels: (height, width) of the network's input.
        name: Dotted path of the layer in `network`.
        network: The encoder, which may declare `output_fmt`, `num_prefix_tokens` and `patch_embed`, or the head.

    Raises:
        LayerError: The layer has no positions, or they cannot be told from its channels.
    """
    if len(shape) == 4:
        order = channel_layout(shape, pixels, network.get_submodule(name), network)
        if order is None:
            raise LayerError(
                f"cannot tell the channels of layer {name!r} from its positions: it returns {tuple(shape)} for images "
                f"of {pixels[1]}x{pixels[0]}; write {name}@NCHW or {name}@NHWC"
            )
        return Layout(order)
    if len(shape) == 3:
        return Layout("NLC", _patch_grid(shape[1], pixels, name, network))
    raise LayerError(
        f"layer {name!r} returns {tuple(shape)}, which has no positions in the image; name a layer before pooling"
    )


def is_convolutional(model: nn.Module) -> bool:
    """Return whether a model has convolutions and no layer norm, which is what puts channels last."""
    kinds = {type(module) for module in model.modules()}
    return any(issubclass(kind, nn.Conv2d) for kind in kinds) and not any(issubclass(k, nn.LayerNorm) for k in kinds)


def _patch_grid(tokens: int, pixels: tuple[int, int], name: str, network: nn.Module) -> tuple[int, int]:
    """Return the (height, width) of the grid of patches among so many tokens."""
    prefixes, embedding = _prefix_counts(network), getattr(network, "patch_embed", None)
    grid_of = getattr(embedding, "dynamic_feat_size", None)
    if hasattr(network, "num_prefix_tokens") and grid_of is not None:  # a ViT of timm
        height, width = grid_of(pixels)
        if tokens - height * width in prefixes:
            return height, width
    grids = [
        (pixels[0] // stride, pixels[1] // stride)
        for stride in range(1, min(pixels) + 1)
        if pixels[0] % stride == pixels[1] % stride == 0
    ]
    possible = [grid for grid in grids if tokens - grid[0] * grid[1] in prefixes]
    if len(possible) == 1:
        return possible[0]
    words = [f"{height}x{width}" for height, width in possible]
    raise LayerError(
        f"cannot tell the grid of the {tokens} tokens of layer {name!r} for images of {pixels[1]}x{pixels[0]} "
        f"(possible: {' or '.join(words) or 'none'}); give its height and width, {name}@{(*words, '14x14')[0]}"
    )


def _prefix_counts(network: nn.Module) -> tuple[int, ...]:
    """Return how many tokens may precede the patches: none in a Swin; none or all prefix tokens in a ViT."""
    prefix = getattr(network, "num_prefix_tokens", None)
    if prefix is not None:
        return 0, prefix
    return (0,) if hasattr(network, "output_fmt") else tuple(range(MAX_PREFIX_TOKENS + 1))
