"""Read images: which there are, and one as a tensor."""

from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from cka_probe.errors import DataError

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})


def find_images(folder: str | Path) -> list[Path]:
    """Return every image below a folder, sorted by path.

    Raises:
        DataError: There is no such folder, or no image in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"expected a folder of images at {folder}, found {'a file' if folder.exists() else 'nothing'}")
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise DataError(f"no images below {folder}: expected files ending in {', '.join(sorted(SUFFIXES))}")
    return found


def images_in(folder: str | Path) -> list[Path]:
    """Return the images in a folder and not below it, sorted by name without suffix; none where it is missing."""
    folder = Path(folder)
    found = (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES) if folder.is_dir() else ()
    return sorted(found, key=lambda path: (path.stem, path.suffix))


def image_size(path: str | Path) -> tuple[int, int]:
    """Return (height, width) of an image as `read_image` gives it, from the file's first bytes alone.

    Raises:
        DataError: It cannot be read.
    """
    try:
        with Image.open(path) as file:
            width, height = file.size
            lying = file.getexif().get(0x0112, 1) >= 5  # EXIF orientations 5 to 8 are a quarter turn
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(f"unreadable image {path}: {error}; mend or remove it") from error
    return (width, height) if lying else (height, width)


def read_image(path: str | Path) -> Tensor:
    """Return an image, turned upright as its camera noted.

    Args:
        path: Any 8-bit image Pillow reads; grey, palette and transparent ones become RGB.

    Returns:
        (3, H, W) float32 RGB in [0, 1].

    Raises:
        DataError: It cannot be read, or is no image (16 bits or floats: a depth map, say).
    """
    return _decoded(path, path)


def decode_image(data: bytes, name: str) -> Tensor:
    """Return an image that is not a file of its own, whatever its encoding, as `read_image` does.

    Args:
        data: The bytes of a JPEG, PNG, WebP, … file.
        name: What messages call it.

    Returns:
        (3, H, W) float32 RGB in [0, 1].

    Raises:
        DataError: As `read_image`.
    """
    return _decoded(BytesIO(data), name)


def _decoded(source: str | Path | BytesIO, name: object) -> Tensor:
    """Return the image a file or its bytes hold, (3, H, W) float32 RGB in [0, 1]."""
    try:
        with Image.open(source) as file:
            if file.mode.startswith(("I", "F")):
                raise DataError(
                    f"{name}: expected an 8-bit image, found mode {file.mode!r}, perhaps a depth map; remove it, or "
                    "pass --skip-bad"
                )
            pixels = np.array(ImageOps.exif_transpose(file).convert("RGB"))
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(f"unreadable image {name}: {error}; mend or remove it, or pass --skip-bad") from error
    return torch.from_numpy(pixels).permute(2, 0, 1).float().div_(255.0)
