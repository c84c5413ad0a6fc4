"""What the compared images look like: a strip of thumbnails of the first of them.

They are read from where the comparison read them, by the same choice in the same order, so that thumbnail i is image
i. Each is the middle square of its image, scaled to 96 pixels: what a model that crops its input to a square sees of
it, at a size a page can show. The strip is one JPEG, always of the same bytes for the same images.
"""

from collections.abc import Generator
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image
from torch import Tensor

from cka_probe.errors import DataError
from cka_probe.files import atomic_write
from cka_probe.images.stream import stream_images

SIDE = 96
"""Pixels along each side of a thumbnail."""
MOST = 24
"""Thumbnails in a strip."""
QUALITY = 85


class Choice(Protocol):
    """How images are chosen; `cka_probe.Settings` is one."""

    num: int | None
    batch: int | None
    seed: int
    skip_bad: bool


def thumbnails(images: Any, settings: Choice, count: int = MOST) -> list[np.ndarray]:
    """Return the first images of a comparison as small squares.

    Args:
        images: What was compared, as `stream_images` takes it; read anew from its beginning, so an iterator that is
            used up, or a loader that shuffles, cannot be shown.
        settings: Those of the comparison.
        count: At most so many.

    Returns:
        (96, 96, 3) uint8 RGB each.

    Raises:
        DataError: The images cannot be read, or are no images of one or three channels in [0, 1].
    """
    stream = stream_images(
        images, num=settings.num, batch=settings.batch, seed=settings.seed, skip_bad=settings.skip_bad
    )
    rows = stream.rows(stream)
    try:
        return [_thumbnail(image) for image in islice(rows, count)]
    finally:
        if isinstance(rows, Generator):
            rows.close()  # lets go of the threads that read ahead


def _thumbnail(image: Tensor) -> np.ndarray:
    """Return the middle square of an image (1 or 3, H, W), float in [0, 1], as (96, 96, 3) uint8."""
    if image.dim() != 3 or image.shape[0] not in (1, 3) or not image.is_floating_point():
        raise DataError(
            f"expected images (3, H, W), floats in [0, 1], to make thumbnails of, found {image.dtype} of shape "
            f"{tuple(image.shape)}"
        )
    pixels = (image.clamp(0, 1) * 255).round().byte().expand(3, -1, -1).permute(1, 2, 0).cpu().numpy()
    height, width = pixels.shape[:2]
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    image = Image.fromarray(np.ascontiguousarray(pixels[top : top + side, left : left + side]))
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def save_strip(images: list[np.ndarray], path: str | Path) -> Path:
    """Write thumbnails side by side as one JPEG; same images, same bytes.

    Args:
        images: (96, 96, 3) uint8 RGB each, at most 24 of them are written.
        path: The file that is wanted.

    Raises:
        DataError: There is none.
        OutputError: The place cannot be written to.
    """
    if not images:
        raise DataError("expected at least one thumbnail to write, found none")
    with atomic_write(path) as beside:
        strip = Image.fromarray(np.concatenate(images[:MOST], axis=1))
        strip.save(beside, format="JPEG", quality=QUALITY, subsampling=0)
    return Path(path)


def read_strip(path: str | Path) -> list[np.ndarray]:
    """Return the thumbnails of a strip written by `save_strip`, (96, 96, 3) uint8 each.

    Raises:
        DataError: It is none.
    """
    try:
        with Image.open(path) as file:
            pixels = np.asarray(file.convert("RGB"))
    except OSError as error:
        raise DataError(f"expected a strip of thumbnails at {path}, found: {error}") from error
    if pixels.shape[0] != SIDE or pixels.shape[1] % SIDE:
        raise DataError(
            f"{path}: expected squares of {SIDE} pixels in a row, found {pixels.shape[1]}x{pixels.shape[0]}"
        )
    return np.split(pixels, pixels.shape[1] // SIDE, axis=1)
