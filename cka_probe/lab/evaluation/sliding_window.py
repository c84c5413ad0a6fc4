"""The depth of a whole image at its own size, from a network that sees windows of one size.

A network is fine-tuned on views as high as the image and narrower than it, so that is what it is shown: the
image is scaled until it just covers the network's input, windows of that input lie along its longer side, the
first at one end and the last at the other, and where they overlap their predictions are averaged. Of a 640 x 480
image and a 480 x 480 network with two windows these begin at columns 0 and 160, as in Xie et al., "Revealing
the Dark Secrets of Masked Image Modeling" (CVPR 2023). The mean of all is scaled back to the image's size.

A convolution sees zeros beyond its window's border, so a network's depth is off there, and a mean of windows steps
where one of them begins: what looks for depth edges finds the seams. Feathered windows count the less the nearer
their border is, and leave none.

A network whose scale and shift mean nothing need not agree with itself from one window to the next; it can be shown
the whole image at once, squeezed into its input.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.transforms.v2 import functional as F

from cka_probe.errors import RecipeError


def window_starts(length: int, window: int, crops: int) -> list[int]:
    """Return where windows begin along a side: evenly, from one end to the other.

    Args:
        length: Of the side, pixels.
        window: Pixels, at most `length`.
        crops: So many windows, or as many as it takes to leave no gap; one where `length` is `window`.

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
        size: (h, w), what `predict` takes.
        crops: Windows along the longer side; more where so few would leave gaps. 0 is the whole image, squeezed.
        flip_test: Average each window's prediction with that of its mirror image, mirrored back.
        feathered: Let windows fade into each other, instead of the plain mean that is published.

    Returns:
        (n, 1, H, W) float32, in the unit of `predict`.

    Raises:
        RecipeError: `crops` is below 0, or `predict` gives another shape.
    """
    if crops < 0:
        raise RecipeError(f"expected a number of crops, or 0 for the whole image squeezed, found {crops}")
    stored, scaled = images.shape[-2:], _resized(images, _covering(images, size) if crops else list(size))
    canvas = scaled.shape[-2:]
    places = [
        (top, left)
        for top in window_starts(canvas[0], size[0], crops)
        for left in window_starts(canvas[1], size[1], crops)
    ]
    windows = torch.cat([scaled[..., top : top + size[0], left : left + size[1]] for top, left in places])
    depths = _predicted(predict, windows, flip_test).chunk(len(places))
    weight = _feather(canvas, size).to(images) if feathered else images.new_ones(size)
    total, count = (images.new_zeros(len(images), 1, *canvas) for _ in range(2))
    for (top, left), depth in zip(places, depths, strict=True):
        total[..., top : top + size[0], left : left + size[1]] += weight * depth
        count[..., top : top + size[0], left : left + size[1]] += weight
    depth = total / count
    return depth if canvas == stored else interpolate(depth, stored, mode="bilinear", align_corners=False)


def _feather(canvas: torch.Size, size: tuple[int, int]) -> Tensor:
    """Return how much each pixel of a window counts, (h, w): its distance to the nearest border that others overlap."""
    sides = []
    for whole, window in zip(canvas, size, strict=True):
        place = torch.arange(window) + 0.5
        sides.append(torch.minimum(place, window - place) if whole > window else torch.ones(window))
    return sides[0][:, None] * sides[1]


def _covering(images: Tensor, size: tuple[int, int]) -> list[int]:
    """Return the size of images scaled so that one side is the window's and the other no shorter."""
    scale = max(wanted / got for wanted, got in zip(size, images.shape[-2:], strict=True))
    return [max(wanted, round(scale * got)) for wanted, got in zip(size, images.shape[-2:], strict=True)]


def _resized(images: Tensor, size: list[int]) -> Tensor:
    return images if list(images.shape[-2:]) == size else F.resize(images, size, antialias=True)


def _predicted(predict: Callable[[Tensor], Tensor], windows: Tensor, flip_test: bool) -> Tensor:
    """Return the depth of windows, (m, 1, h, w) float32, averaged with what their mirror images give."""
    shown = torch.cat([windows, windows.flip(-1)]) if flip_test else windows
    depth = predict(shown).float()
    if depth.shape != (len(shown), 1, *windows.shape[-2:]):
        raise RecipeError(
            f"expected depth of shape {(len(shown), 1, *windows.shape[-2:])} from the task's `predict`, found "
            f"{tuple(depth.shape)}; let it return a value a pixel"
        )
    if not flip_test:
        return depth
    straight, mirrored = depth.chunk(2)
    return (straight + mirrored.flip(-1)) / 2
