"""Read the maps that datasets store per pixel: depth, optical flow and labels.

**Depth** is mostly a 16-bit image of v steps:

| dataset | file | metres |
|---|---|---|
| NYU Depth v2, ScanNet, 7-Scenes | 16-bit PNG | v / 1000 (7-Scenes: 65535 = none) |
| TUM RGB-D; NYU as distributed with SC-Depth | 16-bit PNG | v / 5000 |
| KITTI depth | 16-bit PNG | v / 256 |
| iBims-1 | 16-bit PNG | v · 50 / 65535 |
| KITTI and DDAD as distributed with SC-Depth | sparse matrix, .npz | v |

**Optical flow** follows KITTI (Menze & Geiger 2015): a PNG of three 16-bit channels,

    u = (R - 2^15) / 64 pixels to the right,    v = (G - 2^15) / 64 pixels down,    B = 1 where the flow is known

KITTI stores it twice: `flow_occ` for every measured pixel, `flow_noc` only for pixels that are also visible in the
next frame. A pixel in the first but not in the second is occluded.

**Labels** are grey or palette images with one integer per pixel. The pixels of a palette PNG are class numbers; the
palette only assigns colours to them. Converting such a file to grey would return brightness, so it is read without
conversion. Labels are never interpolated or compressed with loss.

A folder may explain its numbers in a `classes.json`, {"0": "road", "1": "lane markings", …}. The numbers may have
gaps (category ids); classes are renumbered without gaps, in the same order. A name that starts with "void",
"unlabel" or "ignore" is not a class, and neither is 255.
"""

import json
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.sparse import load_npz
from torch import Tensor

from cka_probe.errors import DataError
from cka_probe.images.classes import UNKNOWN, Classes, table
from cka_probe.images.reading import FORMATS, read_aligned_image, read_image
from cka_probe.images.sample import IGNORE
from cka_probe.lab.datasets.frames import Frame

Reader = Callable[[], Tensor]


def read_depth(path: str | Path, unit: float = 0.001, nothing: int = 0) -> Tensor:
    """Return a depth map.

    Args:
        path: A 16-bit grey PNG; 0 means that nothing was measured.
        unit: Metres per step: 0.001 for millimetres.
        nothing: Another value that means the same (65535 in 7-Scenes).

    Returns:
        (1, H, W) float32 in metres; 0 = not measured.

    Raises:
        DataError: It cannot be read, or is not 16 bits deep.
    """
    steps = read_steps(path).astype(np.float64)
    steps[steps == nothing] = 0
    return torch.from_numpy(steps * unit).float()[None]


def read_steps(path: str | Path) -> np.ndarray:
    """Return the numbers of a 16-bit image as they are stored, (H, W).

    Raises:
        DataError: It cannot be read, or is not 16 bits deep.
    """
    try:
        with Image.open(path, formats=FORMATS) as file:
            if not file.mode.startswith("I"):  # "I;16", or "I" from Pillow before 11.3
                raise DataError(
                    f"{path}: expected a 16-bit depth map, found mode {file.mode!r} (8 bits); "
                    "give the raw depth, not an image of it"
                )
            return np.array(file)
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"unreadable depth map {path}: {error}; fix or remove it and its image") from error


def read_pseudo_depth(path: str | Path) -> Tensor:
    """Return what another network took depth to be, in no unit: (1, H, W) float32, 0 = none.

    Args:
        path: A 16-bit grey PNG. It is read as it is: its scale and its shift are unknown, from frame to frame
            too, so dividing it by anything would only pretend to a unit.

    Raises:
        DataError: It cannot be read, or is not 16 bits deep.
    """
    return torch.from_numpy(read_steps(path).astype(np.float32))[None]


def read_sparse_depth(path: str | Path) -> Tensor:
    """Return a depth map kept as a sparse matrix of metres: (1, H, W) float32, 0 = not measured.

    Args:
        path: An .npz file of `scipy.sparse`.

    Raises:
        DataError: It is none.
    """
    try:
        with Path(path).open("rb") as file:  # numpy leaves a file open that it cannot read
            metres = load_npz(file).toarray()
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: expected a sparse matrix of scipy (.npz), found something else ({error})") from error
    return torch.from_numpy(metres.astype(np.float32))[None]


BIG_ENDIAN = "RGB;16B"
"""What Pillow calls a PNG's three channels of 16 bits."""


def read_flow(path: str | Path) -> Tensor:
    """Return optical flow.

    Args:
        path: A PNG of three channels of 16 bits.

    Returns:
        (2, H, W) float32 pixels right and down; NaN where it is not known.

    Raises:
        DataError: It cannot be read, or is another kind of image.
    """
    numbers = _channels(path)
    flow = (numbers[:2] - (1 << 15)).float() / 64
    return flow.masked_fill(numbers[2:] == 0, torch.nan)


def read_occluded(of_all: str | Path, of_seen: str | Path) -> Tensor:
    """Return which pixels are hidden or outside in the next frame.

    Args:
        of_all: The flow of every pixel that was measured (`flow_occ`).
        of_seen: The flow of those that are seen in the next frame too (`flow_noc`).

    Returns:
        (1, H, W) bool; False also where nothing is known.

    Raises:
        DataError: One cannot be read, or they differ in size.
    """
    known, seen = (_channels(path)[2:] != 0 for path in (of_all, of_seen))
    if known.shape != seen.shape:
        raise DataError(
            f"{of_seen}: expected {known.shape[2]}x{known.shape[1]} pixels as in {of_all}, found "
            f"{seen.shape[2]}x{seen.shape[1]}; fetch both again"
        )
    return known & ~seen


def _channels(path: str | Path) -> Tensor:
    """Return the three channels as they are stored, (3, H, W) int32."""
    first, second = (_bytes(path, order) for order in (BIG_ENDIAN, "RGB;16L"))
    numbers = first.astype(np.int32) * 256 + second
    return torch.from_numpy(np.ascontiguousarray(numbers.transpose(2, 0, 1)))


def _bytes(path: str | Path, order: str) -> np.ndarray:
    """Return one byte of each number, (H, W, 3) uint8: the first, or with the other byte order the second.

    Pillow makes 8 bits of 16 by keeping the byte it takes for the more significant one. Told that the numbers are
    little-endian, which in a PNG they are not, it keeps the other: two readings give the whole.
    """
    try:
        with Image.open(path, formats=FORMATS) as file:
            if len(file.tile) != 1 or file.tile[0][3] != BIG_ENDIAN:
                raise DataError(
                    f"{path}: expected flow as a PNG of 3 channels of 16 bits, found {file.format} of mode "
                    f"{file.mode!r}; give the flow itself, not a drawing of it"
                )
            file.tile = [(*file.tile[0][:3], order)]
            return np.array(file)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"unreadable flow {path}: {error}; fix or remove it") from error


LOSSLESS = ("L", "P", "I", "I;16", "I;16B")
"""Pillow's modes of one whole number per pixel; "I" is what it calls 16 bits in some versions."""

_NO_CLASS = ("void", "unlabel", "ignore")


def read_labels(path: str | Path, numbering: np.ndarray | None = None) -> Tensor:
    """Return the numbers a label image holds.

    Args:
        path: A grey image of 8 or 16 bits, or a palette image, kept without loss (PNG).
        numbering: (n,) int64: from the number in the file to the class; `UNKNOWN` where it should not be there.
            None: the numbers as they are.

    Returns:
        (H, W) int64.

    Raises:
        DataError: It cannot be read, is a colour image or a JPEG, or holds a number that is no class.
    """
    try:
        with Image.open(path, formats=FORMATS) as file:
            if file.mode not in LOSSLESS or file.format in ("JPEG", "WEBP"):
                raise DataError(
                    f"{path}: expected labels as a grey or palette PNG, found {file.format} of mode {file.mode!r}; "
                    "give the image of class numbers, not a drawing of it"
                )
            numbers = np.array(file).astype(np.int64)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"unreadable labels {path}: {error}; fix or remove them and their image") from error
    return torch.from_numpy(numbers if numbering is None else renumbered(numbers, numbering, path))


def renumbered(numbers: np.ndarray, numbering: np.ndarray, where: object) -> np.ndarray:
    """Return numbers taken through a table.

    Args:
        numbers: Of any shape, whole.
        numbering: (n,) int64, as `cka_probe.images.classes.table` makes one.
        where: What the message calls them: their file.

    Returns:
        int64 of the same shape.

    Raises:
        DataError: One of them is no class.
    """
    inside = (numbers >= 0) & (numbers < len(numbering))
    found = np.where(inside, numbering[np.where(inside, numbers, 0)], UNKNOWN)
    if (found == UNKNOWN).any():
        wrong = np.unique(numbers[found == UNKNOWN])
        shown = ", ".join(map(str, wrong[:4])) + (", …" if len(wrong) > 4 else "")
        known = int(((numbering != UNKNOWN) & (numbering != IGNORE)).sum())
        raise DataError(
            f"{where}: expected the numbers of {known} classes, found {shown} in {(found == UNKNOWN).sum()} of "
            f"{found.size} pixels; give the data set whose labels these are, or fix them"
        )
    return found


def plain_numbering(count: int) -> np.ndarray:
    """Return the table of labels that are numbered as they should be: 0 … count - 1, and 255 to ignore."""
    return table({**{number: number for number in range(count)}, IGNORE: IGNORE})


def read_classes(path: Path) -> tuple[np.ndarray, Classes]:
    """Return what a `classes.json` says: the table of its numbers, and the classes.

    Raises:
        DataError: It cannot be read, or is no object of whole numbers and names.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        named = {int(number): name for number, name in document.items()}
        if not all(isinstance(name, str) and 0 <= number < 1 << 16 for number, name in named.items()):
            raise ValueError("a name that is no string, or a number that is no pixel's")
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(
            f'{path}: expected {{"0": "road", "1": …}}, from numbers in the labels to names, found something else '
            f"({error}); fix it"
        ) from error
    kept = [number for number in sorted(named) if number != IGNORE and not named[number].lower().startswith(_NO_CLASS)]
    if not 0 < len(kept) < IGNORE:
        raise DataError(f"{path}: expected 1 to {IGNORE - 1} classes, found {len(kept)}; labels number them below 255")
    pairs = dict.fromkeys((*named, IGNORE), IGNORE) | {number: place for place, number in enumerate(kept)}
    return table(pairs, max(256, *(number + 1 for number in named))), Classes(tuple(named[number] for number in kept))


def partners(
    images: Sequence[Path], partner: Callable[[Path], Path], where: object, kind: str = "label"
) -> list[Path] | None:
    """Return the file that belongs to each image, or None where no image has one.

    Args:
        images: The images of a split.
        partner: From an image to where its file should be.
        where: What the message calls the data.
        kind: What the message calls the file.

    Raises:
        DataError: Some images have one and others have not.
    """
    found = [partner(image) for image in images]
    there = lru_cache(maxsize=None)(lambda folder: frozenset(os.listdir(folder)) if folder.is_dir() else frozenset())
    lacking = [(image, file) for image, file in zip(images, found, strict=True) if file.name not in there(file.parent)]
    if lacking and len(lacking) < len(images):
        image, file = lacking[0]
        raise DataError(
            f"{where}: {len(lacking)} of {len(images)} images have no {kind}, first: {image} (expected {file}); "
            "complete the data or remove these images"
        )
    return None if lacking or not found else found


def each(read: Callable[..., Tensor], *columns: Sequence | None, **options: object) -> list[Reader] | None:
    """Return `read` with the arguments of each image, or None if a column of arguments is None: the field is not there.

    >>> [reader.args for reader in each(read_labels, ["a.png", "b.png"])]
    [('a.png',), ('b.png',)]
    """
    if any(column is None for column in columns):
        return None
    return [partial(read, *arguments, **options) for arguments in zip(*columns, strict=True)]


def list_frames(root: Path, images: Sequence[Path], fields: Mapping[str, Sequence[Reader] | None]) -> list[Frame]:
    """Return a frame for each image, with its other fields.

    Args:
        root: The folder that names are relative to.
        images: The images.
        fields: Readers of each field, one per image (see `each`); None if the field is not there.
    """
    dense = any(readers is not None for readers in fields.values())
    columns = {"image": each(read_aligned_image if dense else read_image, images), **fields}
    return [
        Frame(
            image.relative_to(root).as_posix(),
            {name: readers[index] for name, readers in columns.items() if readers is not None},
        )
        for index, image in enumerate(images)
    ]


def check_folder(root: Path, name: str) -> None:
    """Check that there is a folder.

    Raises:
        DataError: There is none.
    """
    if not root.is_dir():
        raise DataError(f"expected {name} at {root}, found {'a file' if root.exists() else 'nothing there'}")
