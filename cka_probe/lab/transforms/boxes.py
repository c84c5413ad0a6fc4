"""Where to cut a view out of an image: boxes and flips drawn from a generator.

torchvision's random transforms draw from the global generator, where the number of draws before this one
matters; here a view is a function of its generator alone.
"""

import math

import torch
from torch import Generator

from cka_probe.errors import DataError

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
