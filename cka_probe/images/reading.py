"""Find image files, and read them as tensors."""

from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from cka_probe.errors import DataError

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM", "GIF")
"""Formats that are read, whatever the suffix; Pillow has others, of which EPS runs a program."""

UNREADABLE = (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError)
"""What Pillow raises for files that it cannot decode."""


def find_images(folder: str | Path) -> list[Path]:
    """Return every image below a folder, sorted by path.

    Raises:
        DataError: There is no such folder, or no image in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        problem = "a file" if folder.exists() else "nothing"
        raise DataError(
            f"expected a folder of images at {folder}, found {problem}; give a folder of images, or a data set as "
            "NAME:FOLDER or NAME:FOLDER:SPLIT"
        )
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise DataError(f"no images below {folder}: expected files ending in {', '.join(sorted(SUFFIXES))}")
    return paths


def images_in(folder: str | Path) -> list[Path]:
    """Return the images directly in a folder, sorted by name without suffix; none if the folder is missing."""
    folder = Path(folder)
    paths = (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES) if folder.is_dir() else ()
    return sorted(paths, key=lambda path: (path.stem, path.suffix))


def image_size(path: str | Path) -> tuple[int, int]:
    """Return (height, width) of an image as `read_image` gives it, from the header of the file.

    Raises:
        DataError: It cannot be read.
    """
    try:
        with Image.open(path, formats=FORMATS) as file:
            width, height = file.size
            rotated = file.getexif().get(0x0112, 1) >= 5  # EXIF orientations 5 to 8 are a quarter turn
    except UNREADABLE as error:
        raise DataError(f"unreadable image {path}: {error}; replace or remove it") from error
    return (width, height) if rotated else (height, width)


def read_image(path: str | Path) -> Tensor:
    """Return an image, rotated as its EXIF orientation says.

    Args:
        path: Any 8-bit image that Pillow can read; grey, palette and transparent images become RGB.

    Returns:
        (3, H, W) float32 RGB in [0, 1].

    Raises:
        DataError: It cannot be read, or is not an 8-bit image (such as a depth map of 16 bits or floats).
    """
    return decode_image(path, path)


def decode_image(source: str | Path | bytes, name: object) -> Tensor:
    """Return an image as `read_image` does, from a file or from encoded bytes.

    Args:
        source: A file, or the bytes of one (JPEG, PNG, WebP …).
        name: Its name in error messages.

    Raises:
        DataError: It cannot be read, or is not an 8-bit image.
    """
    try:
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as file:
            return pil_pixels(file, name, "RGB")
    except UNREADABLE as error:
        raise DataError(f"unreadable image {name}: {error}; replace or remove it, or pass --skip-bad") from error


def pil_pixels(image: Image.Image, name: object, mode: str) -> Tensor:
    """Return a PIL image in mode "RGB" or "L", (3 or 1, H, W) float32 in [0, 1], upright by its EXIF orientation.

    Raises:
        DataError: It has more than 8 bits.
    """
    if image.mode.startswith(("I", "F")):
        raise DataError(
            f"{name}: expected an 8-bit image, found mode {image.mode!r}, perhaps a depth map; remove it, or pass "
            "--skip-bad"
        )
    upright = ImageOps.exif_transpose(image)
    pixels = np.array(upright if upright.mode == mode else upright.convert(mode))
    channels_first = torch.from_numpy(pixels).permute(2, 0, 1) if pixels.ndim == 3 else torch.from_numpy(pixels)[None]
    return channels_first.float().div_(255.0)
