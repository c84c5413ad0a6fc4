"""Read pictures: which there are, and one as a tensor."""

from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from cka_probe.errors import DataError

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})


def find_pictures(folder: str | Path) -> list[Path]:
    """Return every picture below a folder, sorted by path.

    Raises:
        DataError: There is no such folder, or no picture in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(
            f"expected a folder of pictures at {folder}, found {'a file' if folder.exists() else 'nothing'}"
        )
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise DataError(f"no pictures below {folder}: expected files ending in {', '.join(sorted(SUFFIXES))}")
    return found


def pictures_in(folder: str | Path) -> list[Path]:
    """Return the pictures in a folder and not below it, sorted by name without suffix; none where it is missing."""
    folder = Path(folder)
    found = (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES) if folder.is_dir() else ()
    return sorted(found, key=lambda path: (path.stem, path.suffix))


def picture_size(path: str | Path) -> tuple[int, int]:
    """Return (height, width) of a picture as `read_picture` gives it, from the file's first bytes alone.

    Raises:
        DataError: It cannot be read.
    """
    try:
        with Image.open(path) as file:
            width, height = file.size
            lying = file.getexif().get(0x0112, 1) >= 5  # EXIF orientations 5 to 8 are a quarter turn
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(f"unreadable picture {path}: {error}; mend or remove it") from error
    return (width, height) if lying else (height, width)


def read_picture(path: str | Path) -> Tensor:
    """Return a picture, turned upright as its camera noted.

    Args:
        path: Any 8-bit picture Pillow reads; grey, palette and transparent ones become RGB.

    Returns:
        (3, H, W) float32 RGB in [0, 1].

    Raises:
        DataError: It cannot be read, or is no photograph (16 bits or floats: a depth map, say).
    """
    return _decoded(path, path)


def decode_picture(data: bytes, name: str) -> Tensor:
    """Return a picture that is not a file of its own, whatever its encoding, as `read_picture` does.

    Args:
        data: The bytes of a JPEG, PNG, WebP, … file.
        name: What messages call it.

    Returns:
        (3, H, W) float32 RGB in [0, 1].

    Raises:
        DataError: As `read_picture`.
    """
    return _decoded(BytesIO(data), name)


def _decoded(source: str | Path | BytesIO, name: object) -> Tensor:
    """Return the picture a file or its bytes hold, (3, H, W) float32 RGB in [0, 1]."""
    try:
        with Image.open(source) as file:
            if file.mode.startswith(("I", "F")):
                raise DataError(
                    f"{name}: expected an 8-bit picture, found mode {file.mode!r}, perhaps a depth map; remove it, or "
                    "pass --skip-bad"
                )
            pixels = np.array(ImageOps.exif_transpose(file).convert("RGB"))
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise DataError(f"unreadable picture {name}: {error}; mend or remove it, or pass --skip-bad") from error
    return torch.from_numpy(pixels).permute(2, 0, 1).float().div_(255.0)
