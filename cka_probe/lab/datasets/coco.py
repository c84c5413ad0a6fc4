"""Images with masks beside them: COCO (Lin et al. 2014) and its stuff, comma10k, and whatever else lies so.

1. `images/**` with `masks/**` or `labels/**` of the same names (.png), and `classes.json` (see `labels`). Where
   `images` has folders train, val or test, these are the splits.
2. COCO-Stuff (Caesar et al. 2018): `{train2017,val2017}/*.jpg`, at the root or in `images`, with
   `stuffthingmaps/{train2017,val2017}/*.png` and perhaps `labels.txt` (lines of "1: person").

What the numbers mean. In form 1 it is what `classes.json` says: COCO's category ids have gaps (12 is no category),
so its classes are numbered anew in their order, and "unlabeled" is ignored. The pixel maps of COCO-Stuff hold the
category id less one, 255 where nothing is labelled; the eleven ids that name no category are left out and the 171
others are numbered anew in their order: 0 … 79 are things, 80 … 170 stuff.
"""

import re
from pathlib import Path

import numpy as np

from cka_probe.errors import DataError
from cka_probe.images.classes import Classes, table
from cka_probe.images.datasets import check_split
from cka_probe.images.reading import find_images
from cka_probe.images.sample import IGNORE
from cka_probe.lab.datasets.fields import check_folder, each, list_frames, partners, read_classes, read_labels
from cka_probe.lab.datasets.frames import Frames
from cka_probe.lab.datasets.numbers import read_lines

_NO_CATEGORY = frozenset({12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91})
CATEGORIES = tuple(number for number in range(1, 183) if number not in _NO_CATEGORY)
"""COCO-Stuff's 171 category ids."""

STUFF = table({**{number - 1: place for place, number in enumerate(CATEGORIES)}, IGNORE: IGNORE})
"""(256,) int64: from a pixel of COCO-Stuff to its class."""

_YEARS = {"train": "train2017", "val": "val2017"}


def coco(root: str | Path, split: str = "all") -> Frames:
    """Return images with their masks.

    Args:
        root: The folder.
        split: "train", "val" or "test" where there are such folders, or "all".

    Returns:
        A dataset that gives `image` and, where they are there, `labels`; `classes` says what they mean.

    Raises:
        UnknownNameError: There is no such split.
        DataError: Neither form is there, `classes.json` is missing or broken, or some images have no labels.
    """
    root = Path(root)
    check_folder(root, "images with masks")
    if (root / "stuffthingmaps").is_dir():
        return _stuff(root, split)
    masks = next((root / name for name in ("masks", "labels") if (root / name).is_dir()), None)
    if masks is None or not (root / "images").is_dir():
        raise DataError(
            f"expected images/ with masks/ or labels/, or train2017/ with stuffthingmaps/ at {root}, found "
            f"{', '.join(sorted(path.name for path in root.iterdir())[:5]) or 'an empty folder'}; give their folder"
        )
    if not (root / "classes.json").is_file():
        raise DataError(f'expected {root / "classes.json"} with what the labels mean, {{"0": "road", …}}; write it')
    numbering, classes = read_classes(root / "classes.json")
    splits = [name for name in ("train", "val", "test") if (root / "images" / name).is_dir()]
    check_split(split, [*splits, "all"], f"the images at {root}")
    parts = [name for name in splits if split in (name, "all")] if splits else ["."]
    return _frames(root, [(root / "images" / name, masks / name) for name in parts], numbering, classes)


def _stuff(root: Path, split: str) -> Frames:
    """Return COCO-Stuff."""
    base = root / "images" if (root / "images").is_dir() else root
    splits = [name for name, folder in _YEARS.items() if (base / folder).is_dir()]
    check_split(split, [*splits, "all"], f"COCO-Stuff at {root}")
    maps = root / "stuffthingmaps"
    parts = [(base / _YEARS[name], maps / _YEARS[name]) for name in splits if split in (name, "all")]
    return _frames(root, parts, STUFF, _names(root / "labels.txt"))


def _frames(root: Path, parts: list[tuple[Path, Path]], numbering: np.ndarray, classes: Classes) -> Frames:
    """Return the images of some folders, each with the folder of its masks; names and paths below are the same."""
    where, frames = f"the images at {root}", []
    for images_at, masks_at in parts:
        images = find_images(images_at)
        places = {path: (masks_at / path.relative_to(images_at)).with_suffix(".png") for path in images}
        labels = partners(images, places.__getitem__, where)
        frames += list_frames(root, images, {"labels": each(read_labels, labels, numbering=numbering)})
    return Frames([[frame] for frame in frames], where=where, classes=classes)


def _names(path: Path) -> Classes:
    """Return COCO-Stuff's classes, with the names of `labels.txt` where it is there and their ids otherwise."""
    if not path.is_file():
        return Classes(tuple(map(str, CATEGORIES)))
    lines = read_lines(path, "the names of COCO's categories")
    matches = (re.fullmatch(r"(\d+):\s*(.+)", line) for _, line in lines)
    names = {match[1]: match[2] for match in matches if match}
    lacking = [number for number in CATEGORIES if str(number) not in names]
    if lacking:
        raise DataError(f"{path}: expected lines of '1: person' for 171 categories, none for {lacking[0]}; fix it")
    return Classes(tuple(names[str(number)] for number in CATEGORIES))
