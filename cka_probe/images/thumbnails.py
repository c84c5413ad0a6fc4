"""Thumbnails of the first images of a comparison, in one strip.

They are read from the same source, with the same choice and in the same order as in the comparison, so thumbnail i
shows image i. Each is the centre square of its image, which is what a model with a square input sees, resized to 96
pixels. The strip is one JPEG, with the same bytes for the same images.
"""

from collections.abc import Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cka_probe.errors import DataError
from cka_probe.files import atomic_write
from cka_probe.images.pairing import stream_pairs
from cka_probe.images.stream import ImageStream, examples, stream_images

SIDE = 96
"""Height and width of a thumbnail in pixels."""
MOST = 24
"""Largest number of thumbnails in a strip."""
QUALITY = 85


def thumbnails(
    images: Any, *, num: int | None = None, seed: int = 0, skip_bad: bool = False, count: int = MOST
) -> list[np.ndarray]:
    """Return the first images of a comparison as small squares.

    Args:
        images: The compared images, as `stream_images` takes them. They are read again from the start, so an exhausted
            iterator or a loader that shuffles has no thumbnails.
        num: As in the comparison, like `seed` and `skip_bad`.
        seed: Seed of the choice of images.
        skip_bad: Skip unreadable images.
        count: Largest number of thumbnails.

    Returns:
        (96, 96, 3) uint8 RGB each.

    Raises:
        DataError: The images cannot be read, or are not images of one or three channels in [0, 1].
    """
    return _thumbnails([stream_images(images, num=num, seed=seed, skip_bad=skip_bad)], count)[0]


def paired_thumbnails(
    images: Any,
    images_y: Any,
    *,
    pair: str | None = None,
    num: int | None = None,
    seed: int = 0,
    skip_bad: bool = False,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the first pairs of images of a comparison as small squares, those of x and those of y; see `thumbnails`.

    Args:
        images: Of x.
        images_y: Of y.
        pair: `name` or `order`, as in the comparison.
        num: As in the comparison, like `seed` and `skip_bad`.
        seed: Seed of the choice of pairs.
        skip_bad: Skip pairs with an unreadable image.
    """
    streams, _ = stream_pairs(images, images_y, pair=pair, num=num, seed=seed, skip_bad=skip_bad)
    x, y = _thumbnails(streams, MOST)
    return x, y


def _thumbnails(streams: Sequence[ImageStream], count: int) -> list[list[np.ndarray]]:
    """Return the first images of each stream as small squares."""
    with closing(examples(streams, lambda image, _: _thumbnail(image), ahead=count)) as rows:  # which stops the threads
        squares = list(islice(rows, count))
    return [list(column) for column in zip(*squares, strict=True)] or [[] for _ in streams]


def _thumbnail(image: Tensor) -> np.ndarray:
    """Return the centre square of an image (1 or 3, H, W), uint8 or float in [0, 1], as (96, 96, 3) uint8."""
    is_byte = image.dtype == torch.uint8
    if image.dim() != 3 or image.shape[0] not in (1, 3) or not (is_byte or image.is_floating_point()):
        raise DataError(
            f"expected images (3, H, W), floats in [0, 1], to make thumbnails of, found {image.dtype} of shape "
            f"{tuple(image.shape)}"
        )
    steps = image if is_byte else (image.clamp(0, 1) * 255).round().byte()
    pixels = steps.expand(3, -1, -1).permute(1, 2, 0).cpu().numpy()
    height, width = pixels.shape[:2]
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    square = Image.fromarray(np.ascontiguousarray(pixels[top : top + side, left : left + side]))
    return np.asarray(square.resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def save_strip(images: list[np.ndarray], path: str | Path, most: int = MOST) -> Path:
    """Write thumbnails side by side as one JPEG, with the same bytes for the same images.

    Args:
        images: (96, 96, 3) uint8 RGB each.
        path: The file to write.
        most: How many of them are written.

    Raises:
        DataError: There is no thumbnail.
        OutputError: The path cannot be written.
    """
    if not images:
        raise DataError("expected at least one thumbnail to write, found none")
    strip = Image.fromarray(np.concatenate(images[:most], axis=1))
    with atomic_write(path) as temporary:
        strip.save(temporary, format="JPEG", quality=QUALITY, subsampling=0)
    return Path(path)
