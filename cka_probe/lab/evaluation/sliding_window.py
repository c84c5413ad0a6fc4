"""The depth of a whole image at its own size, from a network that sees windows of one size.

A network is fine-tuned on crops as high as the image and narrower than it, so it is evaluated on the same: the image
is scaled until it just covers the network's input, windows of that size lie along its longer side from one end to the
other, and their predictions are averaged where they overlap. For a 640 x 480 image and a 480 x 480 network, two windows
begin at columns 0 and 160, as in Xie et al., "Revealing the Dark Secrets of Masked Image Modeling" (CVPR 2023). The
mean is scaled back to the image's size.

A convolution pads its window with zeros, so depth is inaccurate near the border of a window, and the mean of windows
has a step where one of them begins: a detector of depth edges finds these seams. Feathered windows have smaller weights
near their border, and no seams.

A network whose scale and shift are arbitrary need not agree from one window to the next; it can predict the whole image
at once, squeezed into its input.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.transforms.v2 import functional as F

from cka_probe.errors import RecipeError


def window_starts(length: int, window: int, crops: int) -> list[int]:
    """Return where windows begin along a side, evenly spaced from one end to the other.

    Args:
        length: The side, pixels.
        window: Pixels, at most `length`.
        crops: Number of windows; more if there would be gaps, one if `length` is `window`.

    >>> window_starts(640, 480, 2)
    [0, 160]
    >>> window_starts(1000, 300, 2)
    [0, 233, 467, 700]
    """
    count = max(crops, -(-length // window))
    room = length - window
    return sorted({round(room * number / (count - 1)) for number in range(count)}) if room else [0]


def predict_whole(
    predict: Callable[[Tensor], Tensor],
    images: Tensor,
    size: tuple[int, int],
    *,
    crops: int = 2,
    flip_test: bool = True,
    feathered: bool = False,
) -> Tensor:
    """Return the depth of whole images.

    Args:
        predict: Takes (m, 3, h, w) and returns depth, (m, 1, h, w).
        images: (n, 3, H, W) float32 in [0, 1], of any size.
        size: (h, w), the input of `predict`.
        crops: Windows along the longer side; more if there would be gaps. 0 is the whole image, squeezed.
        flip_test: Average each window's prediction with that of its mirror image, mirrored back.
        feathered: Blend windows where they overlap, instead of the plain mean of published numbers.

    Returns:
        (n, 1, H, W) float32, in the unit of `predict`.

    Raises:
        RecipeError: `crops` is below 0, or `predict` returns another shape.
    """
    if crops < 0:
        raise RecipeError(f"expected a number of crops, or 0 for the whole image squeezed, found {crops}")
    stored, scaled = images.shape[-2:], _resized(images, _covering(images, size) if crops else list(size))
    canvas = scaled.shape[-2:]
    corners = [
        (top, left)
        for top in window_starts(canvas[0], size[0], crops)
        for left in window_starts(canvas[1], size[1], crops)
    ]
    windows = torch.cat([scaled[..., top : top + size[0], left : left + size[1]] for top, left in corners])
    depths = _predicted(predict, windows, flip_test).chunk(len(corners))
    weight = _feather(canvas, size).to(images) if feathered else images.new_ones(size)
    total, count = (images.new_zeros(len(images), 1, *canvas) for _ in range(2))
    for (top, left), depth in zip(corners, depths, strict=True):
        total[..., top : top + size[0], left : left + size[1]] += weight * depth
        count[..., top : top + size[0], left : left + size[1]] += weight
    depth = total / count
    return depth if canvas == stored else interpolate(depth, stored, mode="bilinear", align_corners=False)


def _feather(canvas: torch.Size, size: tuple[int, int]) -> Tensor:
    """Return the weight of each pixel of a window, (h, w): its distance to the nearest border that others overlap."""
    sides = []
    for whole, window in zip(canvas, size, strict=True):
        position = torch.arange(window) + 0.5
        sides.append(torch.minimum(position, window - position) if whole > window else torch.ones(window))
    return sides[0][:, None] * sides[1]


def _covering(images: Tensor, size: tuple[int, int]) -> list[int]:
    """Return the size of images scaled so that one side is the window's and the other no shorter."""
    scale = max(window / side for window, side in zip(size, images.shape[-2:], strict=True))
    return [max(window, round(scale * side)) for window, side in zip(size, images.shape[-2:], strict=True)]


def _resized(images: Tensor, size: list[int]) -> Tensor:
    return images if list(images.shape[-2:]) == size else F.resize(images, size, antialias=True)


def _predicted(predict: Callable[[Tensor], Tensor], windows: Tensor, flip_test: bool) -> Tensor:
    """Return the depth of windows, (m, 1, h, w) float32, averaged with that of their mirror images."""
    inputs = torch.cat([windows, windows.flip(-1)]) if flip_test else windows
    depth = predict(inputs).float()
    if depth.shape != (len(inputs), 1, *windows.shape[-2:]):
        raise RecipeError(
            f"expected depth of shape {(len(inputs), 1, *windows.shape[-2:])} from the task's `predict`, found "
            f"{tuple(depth.shape)}; return one value per pixel"
        )
    if not flip_test:
        return depth
    straight, mirrored = depth.chunk(2)
    return (straight + mirrored.flip(-1)) / 2
