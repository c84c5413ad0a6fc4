"""An activation as a map: (n, C, h, w), whatever order a network keeps its numbers in.

| layout | shape | who |
|---|---|---|
| NCHW | (n, C, h, w) | convolutional networks |
| NHWC | (n, h, w, C) | Swin transformers of timm |
| h x w | (n, L, C), L >= h w | tokens: the image's cells are the last, row by row |

Before the tokens of the image's cells there may be a class token and registers. Where the channels are is inferred by
`models.layouts`; how many tokens are not cells follows from the model, or from the one grid of square cells that fits.
What is not certain is an error: a map drawn along the wrong axes still looks like a map.
"""

import re
from dataclasses import dataclass

from torch import Tensor, nn

from cka_probe.errors import LayerError
from cka_probe.models.layouts import channel_layout, module_layout

MOST_PREFIXES = 8
"""Tokens before the image's that are thought possible where the model does not say: a class token, registers."""

GRID = re.compile(r"(\d+)x(\d+)")


@dataclass(frozen=True)
class Layout:
    """How the numbers of a layer lie.

    Attributes:
        order: `NCHW`, `NHWC` or `NLC`.
        grid: (height, width) in cells, of `NLC` alone.
    """

    order: str
    grid: tuple[int, int] = (0, 0)

    def map(self, activation: Tensor) -> Tensor:
        """Return (n, C, h, w), a view; the same for an activation and its gradient."""
        if self.order == "NHWC":
            return activation.permute(0, 3, 1, 2)
        if self.order == "NLC":
            return activation[:, -self.grid[0] * self.grid[1] :].unflatten(1, self.grid).permute(0, 3, 1, 2)
        return activation


def parse_layout(word: str) -> Layout:
    """Return the layout that a user names: `NCHW`, `NHWC` or a grid of tokens, `14x14` (height x width).

    Raises:
        LayerError: It is none of these.
    """
    if word in ("NCHW", "NHWC"):
        return Layout(word)
    grid = GRID.fullmatch(word)
    if grid is None or "0" in grid.groups():
        raise LayerError(f"expected a layout NCHW, NHWC or a grid of tokens such as 14x14, found {word!r}")
    return Layout("NLC", (int(grid[1]), int(grid[2])))


def check_layout(layout: Layout, shape: tuple[int, ...], name: str, module: nn.Module) -> None:
    """Raise `LayerError` unless the activation of a module, of this shape, can have a layout that a user named."""
    tokens, known = layout.grid[0] * layout.grid[1], module_layout(module)
    fits = len(shape) == 3 and shape[1] >= tokens if layout.order == "NLC" else len(shape) == 4
    if not fits or (len(shape) == 4 and known not in (None, layout.order)):
        wanted = f"{layout.grid[0]}x{layout.grid[1]}" if layout.order == "NLC" else layout.order
        raise LayerError(
            f"layer {name!r}, {type(module).__name__}, puts out {shape}, which is not laid out as {wanted}; "
            f"write {name} alone"
        )


def infer_layout(shape: tuple[int, ...], pixels: tuple[int, int], name: str, owner: nn.Module) -> Layout:
    """Return the layout of a layer's activation.

    Args:
        shape: (n, ...) of the activation.
        pixels: (height, width) of the network's input.
        name: Of the layer, relative to `owner`.
        owner: The encoder it is part of, with what it says of itself (`output_fmt`, `num_prefix_tokens`,
            `patch_embed`), or the head.

    Raises:
        LayerError: It has no positions, or they cannot be told from the channels.
    """
    if len(shape) == 4:
        order = channel_layout(shape, pixels, owner.get_submodule(name), owner)
        if order is not None:
            return Layout(order)
        raise LayerError(
            f"cannot tell the channels of layer {name!r} from its positions: it puts out {tuple(shape)} for images "
            f"of {pixels[1]}x{pixels[0]}; say which it is, {name}@NCHW or {name}@NHWC"
        )
    if len(shape) == 3:
        return Layout("NLC", _grid(shape, pixels, name, owner))
    raise LayerError(
        f"layer {name!r} puts out {tuple(shape)}, which has no positions in the image; name a layer before pooling"
    )


def _grid(shape: tuple[int, ...], pixels: tuple[int, int], name: str, owner: nn.Module) -> tuple[int, int]:
    """Return the (height, width) of the cells among tokens."""
    told, before = _told_grid(owner, pixels), _prefixes(owner)
    if told is not None and shape[1] - told[0] * told[1] in before:
        return told
    grids = [
        (pixels[0] // stride, pixels[1] // stride)
        for stride in range(1, min(pixels) + 1)
        if pixels[0] % stride == pixels[1] % stride == 0
    ]
    fits = [grid for grid in grids if shape[1] - grid[0] * grid[1] in before]
    if len(fits) == 1:
        return fits[0]
    found = " or ".join(f"{height}x{width}" for height, width in fits) or "none"
    raise LayerError(
        f"cannot tell how the {shape[1]} tokens of layer {name!r} lie in images of {pixels[1]}x{pixels[0]} (grids "
        f"that fit: {found}); say it as height x width, {name}@{'x'.join(map(str, fits[0])) if fits else '14x14'}"
    )


def _prefixes(owner: nn.Module) -> tuple[int, ...]:
    """Return how many tokens may stand before the image's: none, in a Swin; none or all, in a vision transformer."""
    prefix = getattr(owner, "num_prefix_tokens", None)
    if prefix is not None:
        return 0, prefix
    return (0,) if hasattr(owner, "output_fmt") else tuple(range(MOST_PREFIXES + 1))


def _told_grid(owner: nn.Module, pixels: tuple[int, int]) -> tuple[int, int] | None:
    """Return the grid of cells of a vision transformer of timm, as its patch embedding says it."""
    embedding = getattr(owner, "patch_embed", None)
    if embedding is None or not hasattr(owner, "num_prefix_tokens") or not hasattr(embedding, "dynamic_feat_size"):
        return None
    height, width = embedding.dynamic_feat_size(pixels)
    return height, width
