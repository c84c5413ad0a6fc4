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

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFile
from scipy.sparse import load_npz
from torch import Tensor

from cka_probe.errors import DataError
from cka_probe.files import read_json
from cka_probe.images.classes import UNKNOWN, Classes, table
from cka_probe.images.datasets import check_split
from cka_probe.images.reading import UNREADABLE, images_in, opened, read_aligned_image, read_image
from cka_probe.images.sample import IGNORE
from cka_probe.lab.datasets.frames import Frame

Reader = Callable[[], Tensor]

MAX_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 1 << 26)
"""Of a map whose size is only declared: as many as Pillow reads of an image."""


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
    with opened_image(path, "depth map") as file:
        if not file.mode.startswith("I"):  # "I;16", or "I" from Pillow before 11.3
            raise DataError(
                f"{path}: expected a 16-bit depth map, found mode {file.mode!r} (8 bits); "
                "give the raw depth, not an image of it"
            )
        return np.array(file)


@contextmanager
def opened_image(path: str | Path, kind: str) -> Iterator[ImageFile.ImageFile]:
    """Open an image file of some kind, to be decoded inside the context.

    Raises:
        DataError: It cannot be read.
    """
    try:
        with opened(path) as file:
            yield file
    except UNREADABLE as error:
        raise DataError(f"unreadable {kind} {path}: {error}; fix it, or remove it and its image") from error


def read_pseudo_depth(path: str | Path) -> Tensor:
    """Return the depth that another network predicted, without a unit: (1, H, W) float32, 0 = none.

    Args:
        path: A 16-bit grey PNG. Its numbers are returned as stored, because their scale and shift are unknown and
            may differ between frames.

    Raises:
        DataError: It cannot be read, or is not 16 bits deep.
    """
    return torch.from_numpy(read_steps(path).astype(np.float32))[None]


def read_sparse_depth(path: str | Path) -> Tensor:
    """Return a depth map that is stored as a sparse matrix of metres: (1, H, W) float32, 0 = not measured.

    Args:
        path: An .npz file of `scipy.sparse`.

    Raises:
        DataError: It is no such file.
    """
    try:
        with Path(path).open("rb") as file:  # numpy leaves a file open that it cannot read
            matrix = load_npz(file)
        if math.prod(matrix.shape) > MAX_PIXELS:
            raise ValueError(f"one of {' x '.join(map(str, matrix.shape))}")
        metres = matrix.toarray()
    except Exception as error:  # a damaged archive can fail in any way
        raise DataError(f"{path}: expected a sparse matrix of scipy (.npz), found something else ({error})") from error
    return torch.from_numpy(metres.astype(np.float32))[None]


BIG_ENDIAN = "RGB;16B"
"""Pillow's name for three channels of 16 bits in a PNG."""


def read_flow(path: str | Path) -> Tensor:
    """Return optical flow.

    Args:
        path: A PNG of three channels of 16 bits.

    Returns:
        (2, H, W) float32 pixels right and down; NaN = unknown.

    Raises:
        DataError: It cannot be read, or is another kind of image.
    """
    channels = _channels(path)
    flow = (channels[:2] - (1 << 15)).float() / 64
    return flow.masked_fill(channels[2:] == 0, torch.nan)


def read_occluded(measured_path: str | Path, visible_path: str | Path) -> Tensor:
    """Return which pixels are hidden or outside in the next frame.

    Args:
        measured_path: The flow of every measured pixel (`flow_occ`).
        visible_path: The flow of the pixels that are also visible in the next frame (`flow_noc`).

    Returns:
        (1, H, W) bool; False also where the flow is unknown.

    Raises:
        DataError: One cannot be read, or they differ in size.
    """
    measured, visible = (_channels(path)[2:] != 0 for path in (measured_path, visible_path))
    if measured.shape != visible.shape:
        raise DataError(
            f"{visible_path}: expected {measured.shape[2]}x{measured.shape[1]} pixels as in {measured_path}, found "
            f"{visible.shape[2]}x{visible.shape[1]}; fetch both again"
        )
    return measured & ~visible


def _channels(path: str | Path) -> Tensor:
    """Return the three channels as stored, (3, H, W) int32."""
    high, low = (_channel_bytes(path, order) for order in (BIG_ENDIAN, "RGB;16L"))
    numbers = high.astype(np.int32) * 256 + low
    return torch.from_numpy(np.ascontiguousarray(numbers.transpose(2, 0, 1)))


def _channel_bytes(path: str | Path, order: str) -> np.ndarray:
    """Return one byte of each number, (H, W, 3) uint8: the high one, or the low one with the other byte order.

    Pillow converts 16 bits to 8 by keeping the high byte. If it is told that the numbers are little-endian, which
    they are not in a PNG, it keeps the low byte instead: two readings give the whole number.
    """
    with opened_image(path, "flow") as file:
        if len(file.tile) != 1 or file.tile[0][3] != BIG_ENDIAN:
            raise DataError(
                f"{path}: expected flow as a PNG of 3 channels of 16 bits, found {file.format} of mode "
                f"{file.mode!r}; give the flow itself, not a drawing of it"
            )
        tile: Any = (*file.tile[0][:3], order)
        file.tile = [tile]
        return np.array(file)


LOSSLESS = ("L", "P", "I", "I;16", "I;16B")
"""Pillow's modes with one integer per pixel; some versions call 16 bits "I"."""

_NO_CLASS = ("void", "unlabel", "ignore")


def read_labels(path: str | Path, numbering: np.ndarray | None = None) -> Tensor:
    """Return the numbers of a label image.

    Args:
        path: A grey or palette image of 8 or 16 bits, stored without loss (PNG).
        numbering: (n,) int64, from the number in the file to the class; `UNKNOWN` for numbers that must not occur.
            By default the numbers are returned as stored.

    Returns:
        (H, W) int64.

    Raises:
        DataError: It cannot be read, is a colour image or a JPEG, or contains a number that is no class.
    """
    with opened_image(path, "labels") as file:
        if file.mode not in LOSSLESS or file.format in ("JPEG", "WEBP"):
            raise DataError(
                f"{path}: expected labels as a grey or palette PNG, found {file.format} of mode {file.mode!r}; "
                "give the image of class numbers, not a drawing of it"
            )
        numbers = np.array(file).astype(np.int64)
    return torch.from_numpy(numbers if numbering is None else renumbered(numbers, numbering, path))


def renumbered(numbers: np.ndarray, numbering: np.ndarray, where: object) -> np.ndarray:
    """Return the classes of numbers, int64 of the same shape.

    Args:
        numbers: Integers, any shape.
        numbering: (n,) int64, as `cka_probe.images.classes.table` returns it.
        where: The file, for messages.

    Raises:
        DataError: One of them is no class.
    """
    inside = (numbers >= 0) & (numbers < len(numbering))
    classes = np.where(inside, numbering[np.where(inside, numbers, 0)], UNKNOWN)
    unknown = classes == UNKNOWN
    if unknown.any():
        wrong = np.unique(numbers[unknown])
        examples = ", ".join(map(str, wrong[:4])) + (", …" if len(wrong) > 4 else "")
        count = int(((numbering != UNKNOWN) & (numbering != IGNORE)).sum())
        raise DataError(
            f"{where}: expected the numbers of {count} classes, found {examples} in {unknown.sum()} of "
            f"{classes.size} pixels; give the data set whose labels these are, or fix them"
        )
    return classes


def plain_numbering(count: int) -> np.ndarray:
    """Return the table of labels that are stored as classes: 0 … count - 1, and 255 = ignore."""
    return table({**{number: number for number in range(count)}, IGNORE: IGNORE})


def read_classes(path: Path) -> tuple[np.ndarray, Classes]:
    """Return the table of a `classes.json` from numbers to classes, and its classes.

    Raises:
        DataError: It cannot be read, or is no object of integers and names.
    """
    try:
        document = read_json(path)
        names = {int(number): name for number, name in document.items()}
        if not all(isinstance(name, str) and 0 <= number < 1 << 16 for number, name in names.items()):
            raise ValueError("a name that is no string, or a number that no pixel can have")
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(
            f'{path}: expected {{"0": "road", "1": …}}, from numbers in the labels to names, found something else '
            f"({error}); fix it"
        ) from error
    classes = {
        number: name
        for number, name in sorted(names.items())
        if number != IGNORE and not name.lower().startswith(_NO_CLASS)
    }
    if not 0 < len(classes) < IGNORE:
        raise DataError(f"{path}: expected 1 to {IGNORE - 1} classes, found {len(classes)}; labels are below {IGNORE}")
    pairs = dict.fromkeys((*names, IGNORE), IGNORE) | {number: index for index, number in enumerate(classes)}
    return table(pairs, max(256, 1 + max(names))), Classes(tuple(classes.values()))


def partners(
    images: Sequence[Path], partner: Callable[[Path], Path], where: object, kind: str = "label"
) -> list[Path] | None:
    """Return the file that belongs to each image, or None if no image has one.

    Args:
        images: The images of a split.
        partner: Returns the expected path of the file of an image.
        where: The data, for messages.
        kind: The kind of file, for messages.

    Raises:
        DataError: Some images have one and others do not.
    """
    paths = [partner(image) for image in images]
    missing = missing_files(paths)
    if missing and len(missing) < len(images):
        image = images[paths.index(missing[0])]
        raise DataError(
            f"{where}: {len(missing)} of {len(images)} images have no {kind}, first: {image} (expected {missing[0]}); "
            "complete the data or remove these images"
        )
    return None if missing or not paths else paths


def missing_files(paths: Iterable[Path]) -> list[Path]:
    """Return the paths at which there is no file; each folder is listed once, which is fast on network disks."""
    names = lru_cache(maxsize=None)(lambda folder: frozenset(os.listdir(folder)) if folder.is_dir() else frozenset())
    return [path for path in paths if path.name not in names(path.parent)]


def same_names(folder: Path, images: Sequence[Path]) -> list[Path]:
    """Return the image in a folder that has the name of each image, whatever their suffixes.

    Raises:
        DataError: One does not exist.
    """
    paths = {path.stem: path for path in images_in(folder)}
    for image in images:
        if image.stem not in paths:
            raise DataError(f"expected {folder / image.stem}.* for {image}, found none; add or remove")
    return [paths[image.stem] for image in images]


def each(read: Callable[..., Tensor], *columns: Sequence | None, **options: object) -> list[Reader] | None:
    """Return `read` with the arguments of each image; None if a column of arguments is None: the field is missing.

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
        fields: Readers of each field, one per image (see `each`); None for a missing field.
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


def chosen_splits(split: str, splits: Sequence[str], where: str) -> list[str]:
    """Return the splits that are asked for: the one named, or with "all" every one there is.

    Args:
        split: The split asked for.
        splits: Those that this dataset has.
        where: What messages call the data.

    Raises:
        UnknownNameError: No dataset has a split of this name.
        DataError: This one has none.
    """
    check_split(split, [*splits, "all"], where)
    return [name for name in splits if split in (name, "all")]


def check_folder(root: Path, name: str) -> None:
    """Check that a folder exists.

    Raises:
        DataError: It does not.
    """
    if not root.is_dir():
        raise DataError(f"expected {name} at {root}, found {'a file' if root.exists() else 'nothing there'}")
