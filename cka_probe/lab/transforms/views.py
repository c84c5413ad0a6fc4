"""Boxes and flips drawn from a generator, and the functions that apply them to a sample.

torchvision's random transforms draw from the global generator, so their result depends on all earlier draws. Here a
box is a function of its generator alone, and `cropped`, `resized`, `resized_crop` and `flipped` draw nothing.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Generator, Tensor

from cka_probe.errors import DataError
from cka_probe.lab.transforms.fields import functional as F
from cka_probe.lab.transforms.fields import plain, size_of, typed

Box = tuple[int, int, int, int]
"""Top, left, height, width in pixels."""


def uniform(generator: Generator, low: float = 0.0, high: float = 1.0) -> float:
    """Return one number from [low, high)."""
    return low + (high - low) * torch.rand((), generator=generator, dtype=torch.float64).item()


def flips(generator: Generator) -> bool:
    """Return whether to mirror, one time in two."""
    return uniform(generator) < 0.5


def random_area(height: int, width: int, generator: Generator, scale: tuple[float, float], shape: float = 1.0) -> Box:
    """Return a box with a random share of the area, a random shape and a random place.

    Args:
        height: Of the image.
        width: Of the image.
        generator: Drawn from.
        scale: Least and most share of the area; the ratio of the sides is log-uniform in 3/4 to 4/3.
        shape: Width over height of what is shown of it, which that ratio multiplies: boxes for a wide network are
            wide, or it would see all things stretched.
    """
    for _ in range(10):
        area = height * width * uniform(generator, *scale)
        ratio = shape * math.exp(uniform(generator, math.log(3 / 4), math.log(4 / 3)))
        h, w = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if 0 < h <= height and 0 < w <= width:
            return _place(height, width, h, w, uniform(generator), uniform(generator))
    # an image too long for such a box: the largest with the ratio nearest to its own
    nearest = (3, 4 * shape) if width > height * shape else (4, 3 * shape)
    return largest(height, width, nearest, uniform(generator), uniform(generator))


def largest(height: int, width: int, size: tuple[float, float], down: float, across: float) -> Box:
    """Return the largest box with the sides' ratio of `size`, placed at a share of the room left.

    Args:
        height: Of the image.
        width: Of the image.
        size: (height, width) whose ratio is wanted.
        down: 0 = top, 0.5 = middle, 1 = bottom.
        across: 0 = left, 0.5 = middle, 1 = right.

    >>> largest(480, 640, (192, 192), 0.5, 0.5)
    (0, 80, 480, 480)
    """
    scale = min(height / size[0], width / size[1])
    h, w = min(height, round(scale * size[0])), min(width, round(scale * size[1]))
    return _place(height, width, h, w, down, across)


def native(height: int, width: int, size: tuple[int, int], down: float, across: float) -> Box:
    """Return a box of a size, to be shown without scaling, placed at a share of the room left.

    Args:
        height: Of the image.
        width: Of the image.
        size: (height, width) of the box, pixels.
        down: 0 = top, 0.5 = middle, 1 = bottom.
        across: 0 = left, 0.5 = middle, 1 = right.

    Raises:
        DataError: The image is smaller.

    >>> native(480, 640, (192, 192), 0.5, 1.0)
    (144, 448, 192, 192)
    """
    if height < size[0] or width < size[1]:
        raise DataError(
            f"expected an image of at least {size[1]}x{size[0]} pixels to cut a view of that size from, found "
            f"{width}x{height}; take a smaller size, or the largest box, which is scaled"
        )
    return _place(height, width, *size, down, across)


def _place(height: int, width: int, h: int, w: int, down: float, across: float) -> Box:
    return int(down * (height - h) + 0.5), int(across * (width - w) + 0.5), h, w


Sample = Mapping[str, Tensor]


def resized(sample: Sample, size: tuple[int, int]) -> dict[str, Tensor]:
    """Return a sample at another size.

    Args:
        sample: Fields of `cka_probe.images.sample`; it stays as it is.
        size: (height, width) in pixels; a side grows or shrinks on its own, and K with it.

    Raises:
        DataError: The sample's maps are not of one size, or the size is none.
    """
    _check_size(size)
    return _each(sample, F.resize, size=list(size), antialias=True)


def cropped(sample: Sample, box: Box) -> dict[str, Tensor]:
    """Return what a box shows of a sample.

    Args:
        sample: Fields of `cka_probe.images.sample`; it stays as it is.
        box: (top, left, height, width) in pixels, inside the image.

    Raises:
        DataError: The sample's maps are not of one size, or the box is not inside.
    """
    _check_box(sample, box)
    return _each(sample, F.crop, *box)


def resized_crop(sample: Sample, box: Box, size: tuple[int, int]) -> dict[str, Tensor]:
    """Return what a box shows of a sample, at another size.

    Args:
        sample: Fields of `cka_probe.images.sample`; it stays as it is.
        box: (top, left, height, width) in pixels, inside the image.
        size: (height, width) of the view.

    Raises:
        DataError: The sample's maps are not of one size, the box is not inside, or the size is none.
    """
    _check_box(sample, box)
    _check_size(size)
    return _each(sample, F.resized_crop, *box, size=list(size), antialias=True)


def placed(
    sample: Sample, size: tuple[int, int], scale: float = 1.0, down: float = 0.0, across: float = 0.0
) -> dict[str, Tensor]:
    """Return a sample on a canvas, its sides scaled alike: black below and to the right of it where it is smaller.

    Args:
        sample: Fields of `cka_probe.images.sample`; it stays as it is.
        size: (height, width) of the canvas.
        scale: 1 = as large as fits; of a larger image a part is shown.
        down: Where that part is: 0 = top, 1 = bottom.
        across: 0 = left, 1 = right.
    """
    rows, columns = size_of(sample)
    factor = scale * fitting(rows, columns, size)
    height, width = max(1, round(factor * rows)), max(1, round(factor * columns))
    top, left = int(down * max(0, height - size[0]) + 0.5), int(across * max(0, width - size[1]) + 0.5)
    return _each(resized(sample, (height, width)), F.crop, top, left, *size)


def fitting(height: int, width: int, size: tuple[int, int]) -> float:
    """Return the factor by which an image is scaled to just fit into a canvas.

    >>> fitting(480, 640, (320, 320))
    0.5
    """
    return min(size[0] / height, size[1] / width)


def flipped(sample: Sample) -> dict[str, Tensor]:
    """Return a sample mirrored left to right: the image of a mirrored scene.

    A stereo pair becomes one whose other camera stands on the other side.

    Raises:
        DataError: The sample's maps are not of one size.
    """
    return _each(sample, F.horizontal_flip)


def _each(sample: Sample, functional: Callable, *how: Any, **more: Any) -> dict[str, Tensor]:
    """Return a sample with a function of torchvision applied to all but its category."""
    changed = typed(sample)
    for name in changed.keys() - {"category", "box_classes", "box_crowds"}:
        changed[name] = functional(changed[name], *how, **more)
    return plain(changed)


def _check_size(size: tuple[int, int]) -> None:
    if min(size) < 1:
        raise DataError(f"expected a view of at least 1x1 pixels, found {size[1]}x{size[0]}")


def _check_box(sample: Sample, box: Box) -> None:
    """Check that a box lies inside a sample's image: beyond it, a view would hold what no camera saw."""
    top, left, height, width = box
    rows, columns = size_of(sample)
    if min(top, left) < 0 or not (0 < height <= rows - top and 0 < width <= columns - left):
        raise DataError(f"expected a box (top, left, height, width) inside {rows}x{columns} pixels, found {tuple(box)}")
