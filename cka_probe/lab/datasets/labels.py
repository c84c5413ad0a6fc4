"""Read label images: one whole number per pixel, kept as a grey or a palette image.

A palette PNG looks like a colour image and is none: its pixels are the class numbers, its palette only says how
to draw them. Converting it to grey gives the brightness of the drawing, so it is opened as the numbers it holds.
Labels are never interpolated and never kept lossily: between class 3 and class 7 there is no class 5.

A folder may say what its numbers mean in a `classes.json`, {"0": "road", "1": "lane markings", …}, from the number
in the file to its name. The numbers may have gaps (category ids); the classes are numbered anew without gaps, in
their order. A name that begins with "void", "unlabel" or "ignore" is no class, and neither is 255.
"""

import json
import os
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cka_probe.errors import DataError
from cka_probe.images.classes import UNKNOWN, Classes, table
from cka_probe.images.reading import read_image
from cka_probe.images.sample import IGNORE
from cka_probe.lab.datasets.frames import Frame

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
        with Image.open(path) as file:
            if file.mode not in LOSSLESS or file.format in ("JPEG", "WEBP"):
                raise DataError(
                    f"{path}: expected labels as a grey or palette PNG, found {file.format} of mode {file.mode!r}; "
                    "give the image of class numbers, not a drawing of it"
                )
            numbers = np.array(file).astype(np.int64)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"unreadable labels {path}: {error}; mend or remove them and their image") from error
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
            f"{found.size} pixels; give the data set whose labels these are, or mend them"
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
        said = json.loads(path.read_text(encoding="utf-8"))
        named = {int(number): name for number, name in said.items()}
        if not all(isinstance(name, str) and 0 <= number < 1 << 16 for number, name in named.items()):
            raise ValueError("a name that is no string, or a number that is no pixel's")
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(
            f'{path}: expected {{"0": "road", "1": …}}, from numbers in the labels to names, found something else '
            f"({error}); mend it"
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


def labelled_frames(
    root: Path, images: Sequence[Path], labels: Sequence[Path] | None, numbering: np.ndarray | None = None
) -> list[Frame]:
    """Return frames of images with the labels that belong to them.

    Args:
        root: What the frames' names are relative to.
        images: The images.
        labels: The label image of each, or None: there are none.
        numbering: As for `read_labels`.
    """
    frames = []
    for place, image in enumerate(images):
        fields = {"image": partial(read_image, image)}
        if labels is not None:
            fields["labels"] = partial(read_labels, labels[place], numbering)
        frames.append(Frame(image.relative_to(root).as_posix(), fields))
    return frames


def check_folder(root: Path, name: str) -> None:
    """Check that there is a folder.

    Raises:
        DataError: There is none.
    """
    if not root.is_dir():
        raise DataError(f"expected {name} at {root}, found {'a file' if root.exists() else 'nothing there'}")
