"""Find image files, and read them as tensors."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, BytesIO, FileIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError
from torch import Tensor

from cka_probe.errors import DataError
from cka_probe.files import check_regular

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM", "GIF")
"""Formats that are read, whatever the suffix; Pillow has others, of which EPS runs a program."""

UNREADABLE = (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError)
"""What Pillow raises for files that it cannot decode."""


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is not data by its name: hidden, or what macOS adds to archives.

    >>> is_hidden("._a.jpg"), is_hidden("__MACOSX"), is_hidden("a.jpg")
    (True, True, False)
    """
    return name.startswith(".") or name == "__MACOSX"


def walk_images(folder: str | Path) -> Iterator[tuple[str, list[str]]]:
    """Yield each folder below a folder with the names of the images in it; see `walk_files`."""
    for below, names in walk_files(folder):
        yield below, [name for name in names if is_image(name)]


def is_image(name: str) -> bool:
    """Return whether a file is an image by the ending of its name."""
    return os.path.splitext(name)[1].lower() in SUFFIXES


def walk_files(folder: str | Path) -> Iterator[tuple[str, list[str]]]:
    """Yield each folder below a folder, itself first, with the names of the files in it, in no particular order.

    Links to folders are followed, except to a folder that they are in. Hidden files and folders are left out.

    Yields:
        The path below the folder, "" or with a slash at its end, and the names of the files; nothing if there is no
        such folder.

    Raises:
        DataError: A folder cannot be read.
    """
    real = Path(folder).resolve()
    pending = [("", tuple(map(str, (real, *real.parents))))] if real.is_dir() else []
    while pending:
        below, parents = pending.pop()
        names = []
        try:
            with os.scandir(os.path.join(folder, below)) as scan:
                entries = [entry for entry in scan if not is_hidden(entry.name)]
        except OSError as error:
            raise DataError(f"unreadable folder {os.path.join(folder, below)}: {error}; fix or remove it") from error
        for entry in entries:
            if not entry.is_dir():
                names.append(entry.name)
            elif (target := os.path.realpath(entry.path)) not in parents:
                pending.append((f"{below}{entry.name}/", (*parents, target)))
        yield below, names


def find_images(folder: str | Path) -> list[Path]:
    """Return every image below a folder, sorted by path; see `walk_images`.

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
    paths = sorted(folder / below / name for below, names in walk_images(folder) for name in names)
    if not paths:
        raise DataError(f"no images below {folder}: expected files ending in {', '.join(sorted(SUFFIXES))}")
    return paths


def unread_files(folder: str | Path) -> str:
    """Return a sentence that counts and names the files below a folder that `find_images` leaves out, or "".

    Hidden files are not counted.
    """
    names: dict[str, list[str]] = {}
    paths = (below + name for below, files in walk_files(folder) for name in files if not is_image(name))
    for path in sorted(paths, key=lambda path: path.split("/")):
        names.setdefault(os.path.splitext(path)[1].lower() or "without an ending", []).append(path)
    if not names:
        return ""
    kinds = ", ".join(
        f"{len(files)} {suffix} ({files[0]}{' …' * (len(files) > 1)})" for suffix, files in sorted(names.items())
    )
    count = sum(map(len, names.values()))
    return f"{count} file{'s' * (count > 1)} below {folder} not read, by the ending no images: {kinds}"


def images_in(folder: str | Path) -> list[Path]:
    """Return the images directly in a folder, sorted by name without suffix; none if the folder is missing."""
    folder = Path(folder)
    paths = folder.iterdir() if folder.is_dir() else ()
    images = (path for path in paths if path.suffix.lower() in SUFFIXES and not is_hidden(path.name))
    return sorted(images, key=lambda path: (path.stem, path.suffix))


class _File(BufferedReader):
    """A file of which no more is asked for at once than there is; a chunk of a PNG may declare 4 GB."""

    def __init__(self, path: str | Path):
        check_regular(path)
        super().__init__(FileIO(path))
        self._size = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1) -> bytes:
        """Return so many of the remaining bytes, by default all."""
        left = max(0, self._size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


@contextmanager
def opened(source: str | Path | bytes) -> Iterator[ImageFile.ImageFile]:
    """Open a file of an image, or the bytes of one, of a format in `FORMATS`; raises what is in `UNREADABLE`."""
    with (
        BytesIO(source) if isinstance(source, bytes) else _File(source) as content,
        Image.open(content, formats=FORMATS) as file,
    ):
        yield file


def image_size(path: str | Path) -> tuple[int, int]:
    """Return (height, width) of an image as `read_image` gives it, from the header of the file.

    Raises:
        DataError: It cannot be read.
    """
    try:
        with opened(path) as file:
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
    return read_pixels(path).float().div_(255.0)


def read_pixels(path: str | Path, decode_size: int | None = None) -> Tensor:
    """Return an image as `read_image` does, but as (3, H, W) uint8; `decode_size` as in `decode_pixels`."""
    return decode_pixels(path, path, decode_size)


def read_aligned_image(path: str | Path) -> Tensor:
    """Return an image whose pixels belong to those of labels or depth; see `read_image`.

    Raises:
        DataError: It cannot be read, or its EXIF orientation turns it: labels and depth have none.
    """
    try:
        with opened(path) as file:
            orientation = file.getexif().get(0x0112, 1)
    except UNREADABLE as error:
        raise DataError(f"unreadable image {path}: {error}; replace or remove it") from error
    if orientation in range(2, 9):
        raise DataError(
            f"{path}: expected an upright image, found EXIF orientation {orientation}, which turns it but not its "
            "labels or depth; save it as it is shown, or without the tag, whichever fits them"
        )
    return read_image(path)


def decode_image(source: str | Path | bytes, name: object) -> Tensor:
    """Return an image as `read_image` does, from a file or from encoded bytes; arguments as in `decode_pixels`."""
    return decode_pixels(source, name).float().div_(255.0)


def decode_pixels(source: str | Path | bytes, name: object, decode_size: int | None = None) -> Tensor:
    """Return an image, (3, H, W) uint8 RGB, from a file or from encoded bytes.

    Args:
        source: A file, or the bytes of one (JPEG, PNG, WebP …).
        name: Its name in error messages.
        decode_size: Decode JPEGs at 1/2, 1/4 or 1/8 of their size, the smallest at which both sides are whole numbers
            of at least so many pixels; by default, and for other formats, at full size.

    Raises:
        DataError: It cannot be read, or is not an 8-bit image.
    """
    try:
        with opened(source) as file:
            if decode_size is not None:
                file.draft(None, _reduced_size(file.size, decode_size))
            return pil_pixels(file, name, "RGB")
    except UNREADABLE as error:
        raise DataError(f"unreadable image {name}: {error}; replace or remove it, or pass --skip-bad") from error


def _reduced_size(size: tuple[int, int], decode_size: int) -> tuple[int, int]:
    """Return the size at which an image is decoded, (width, height); with a part of a pixel it would not be aligned.

    >>> _reduced_size((3000, 2000), 448), _reduced_size((3000, 2002), 448), _reduced_size((500, 375), 448)
    ((750, 500), (1500, 1001), (500, 375))
    """
    divisors = (
        divisor
        for divisor in (8, 4, 2, 1)
        if divisor == 1 or all(side % divisor == 0 and side // divisor >= decode_size for side in size)
    )
    divisor = next(divisors)
    return size[0] // divisor, size[1] // divisor


def pil_pixels(image: Image.Image, name: object, mode: str) -> Tensor:
    """Return a PIL image in mode "RGB" or "L", (3 or 1, H, W) uint8, upright by its EXIF orientation.

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
    return torch.from_numpy(pixels).permute(2, 0, 1) if pixels.ndim == 3 else torch.from_numpy(pixels)[None]
