"""Images with a class at each pixel: ADE20K, PASCAL VOC, COCO, and images with a mask each.

**ADE20K**'s scene parsing benchmark (Zhou et al. 2017) has 150 classes of everyday scenes:

    <root>/{images,annotations}/{training,validation}/ADE_train_00000001.{jpg,png}
    <root>/objectInfo150.txt          names, optional (tab-separated: Idx, Ratio, Train, Val, Stuff, Name)

The root is `ADEChallengeData2016` or the folder that holds it. In the files 0 is everything else and the classes
begin at 1: 0 is ignored here and 1 … 150 become 0 … 149.

**PASCAL VOC 2012** segmentation (Everingham et al. 2010) has 20 kinds of objects and the background:

    <root>/ImageSets/Segmentation/{train,val,trainval,train_aug}.txt
    <root>/JPEGImages/2007_000032.jpg
    <root>/SegmentationClass/2007_000032.png          palette PNG; 255 = void, the rim around each object
    <root>/SegmentationObject/2007_000032.png         the number of each object
    <root>/SegmentationClassAug/2007_000032.png       labels for 10 582 training images (Hariharan et al. 2011)

The root is `VOC2012` or a folder that holds it (`VOCdevkit/`). A line of a list is the name of an image, or, in some
copies of the augmented one, the paths of the image and of its labels.

**COCO** (Lin et al. 2014), comma10k and other images with masks next to them, in two forms:

1. `images/**` with `masks/**` or `labels/**` of the same names (.png), and `classes.json` (see `fields`). Where
   `images` has folders train, val or test, these are the splits.
2. COCO-Stuff (Caesar et al. 2018): `{train2017,val2017}/*.jpg`, at the root or in `images`, with
   `stuffthingmaps/{train2017,val2017}/*.png` and perhaps `labels.txt` (lines of "1: person").

In form 1 `classes.json` names the numbers. The ids of COCO have gaps (12 is no category), so its classes are renumbered
in their order, and "unlabeled" is ignored. The pixel maps of COCO-Stuff hold the category id minus one, 255 where
nothing is labelled; the eleven ids that name no category are omitted and the 171 others are renumbered in their order:
0 … 79 are things, 80 … 170 stuff.
"""

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from torch import Tensor

from cka_probe.errors import DataError
from cka_probe.images.classes import ADE150, VOC21, Classes, table
from cka_probe.images.reading import find_images
from cka_probe.images.sample import IGNORE
from cka_probe.lab.datasets import fields
from cka_probe.lab.datasets.frames import Frames
from cka_probe.lab.datasets.numbers import read_lines

LabelPath = Callable[[Path], Path]
"""From an image to where its labels would be."""

ADE_NUMBERING = table({**{number: number - 1 for number in range(1, 151)}, 0: IGNORE, IGNORE: IGNORE})
_ADE_FOLDER = "ADEChallengeData2016"
_ADE_SPLITS = {"train": "training", "val": "validation"}
_ADE_NAMES = ("objectInfo150.txt", "objectInfo.txt")


def ade20k(root: str | Path, split: str = "all") -> Frames:
    """Return ADE20K.

    Args:
        root: `ADEChallengeData2016`, or the folder that holds it.
        split: "train", "val", or "all", which is both.

    Returns:
        A dataset that gives `image` and, if they exist, `labels` of 150 classes.

    Raises:
        UnknownNameError: There is no such split.
        DataError: The folders are missing, or some images have no labels.
    """
    root = Path(root)
    fields.check_folder(root, "ADE20K")
    base = root / _ADE_FOLDER if (root / _ADE_FOLDER).is_dir() else root
    splits = [name for name, folder in _ADE_SPLITS.items() if (base / "images" / folder).is_dir()]
    if not splits:
        raise DataError(f"expected ADE20K at {root}: images/training and annotations/training; found neither there")
    folders = [_ADE_SPLITS[name] for name in fields.chosen_splits(split, splits, f"ADE20K at {root}")]
    parts = [_part(base / "images" / folder, base / "annotations" / folder) for folder in folders]
    return _frames(root, parts, f"ADE20K at {root}", ADE_NUMBERING, _ade_classes(base))


def _part(images: Path, labels: Path) -> tuple[list[Path], LabelPath]:
    """Return the images of a folder, and where their labels would be: at the same path below another folder."""
    return find_images(images), lambda path: (labels / path.relative_to(images)).with_suffix(".png")


def _frames(
    root: Path, parts: Iterable[tuple[list[Path], LabelPath]], where: str, numbering: np.ndarray, classes: Classes
) -> Frames:
    """Return the images of some parts, with labels if they exist."""
    frames = []
    for images, label_path in parts:
        labels = fields.partners(images, label_path, where)
        readers = {"labels": fields.each(fields.read_labels, labels, numbering=numbering)}
        frames += fields.list_frames(root, images, readers)
    return Frames([[frame] for frame in frames], where=where, classes=classes)


def _ade_classes(base: Path) -> Classes:
    """Return the classes, named as in the file of names, or by number without such a file."""
    path = next((base / name for name in _ADE_NAMES if (base / name).is_file()), None)
    if path is None:
        return ADE150
    rows = [line.split("\t") for _, line in read_lines(path, "ADE20K's names")][1:]
    numbers = [row[0].strip() for row in rows]
    if numbers != [str(number) for number in range(1, 151)] or any(len(row) < 2 for row in rows):
        raise DataError(
            f"{path}: expected a line of titles and 150 of tabs between number, …, name, numbered from 1, found "
            f"{len(rows)} lines; fix or remove it"
        )
    return Classes(tuple(row[-1].split(",")[0].split(";")[0].strip() for row in rows))


_VOC_FOLDERS = (".", "VOC2012", "VOCdevkit/VOC2012")


def voc(root: str | Path, split: str = "all", *, augmented: bool = False) -> Frames:
    """Return VOC 2012.

    Args:
        root: `VOC2012`, or a folder that holds it.
        split: "train", "val", "test" if there is a list of that name, or "all" of them.
        augmented: Whether "train" is `train_aug.txt` with `SegmentationClassAug`.

    Returns:
        A dataset that gives `image` and, if they exist, `labels` of 21 classes and `instances`.

    Raises:
        UnknownNameError: There is no such split.
        DataError: A list is missing, or an image it names, or the labels of some.
    """
    root = Path(root)
    fields.check_folder(root, "VOC 2012")
    base = next((root / name for name in _VOC_FOLDERS if (root / name / "JPEGImages").is_dir()), None)
    if base is None:
        raise DataError(f"expected VOC 2012 at {root}: JPEGImages, SegmentationClass, ImageSets; found no JPEGImages")
    lists = {name: base / "ImageSets" / "Segmentation" / f"{name}.txt" for name in ("train", "val", "test")}
    if augmented:
        lists["train"] = lists["train"].with_name("train_aug.txt")
    splits = [name for name, path in lists.items() if path.is_file()]
    frames = []
    for name in fields.chosen_splits(split, splits, f"VOC 2012 at {root}"):
        folder = "SegmentationClassAug" if augmented and name == "train" else "SegmentationClass"
        images = _voc_images(base, lists[name])
        labels = _voc_maps(root, base, images, folder)
        readers = {"labels": fields.each(fields.read_labels, labels, numbering=fields.plain_numbering(21))}
        if labels is not None and folder == "SegmentationClass":
            objects = _voc_maps(root, base, images, "SegmentationObject", "objects")
            readers["instances"] = fields.each(read_objects, objects)
        frames += fields.list_frames(root, images, readers)
    return Frames([[frame] for frame in frames], where=f"VOC 2012 at {root}", classes=VOC21)


def _voc_images(base: Path, listed: Path) -> list[Path]:
    """Return the images of a list, all of which have to exist; folders and suffixes in the list are ignored."""
    lines = [line.split() for _, line in read_lines(listed, "a list of VOC's images")]
    names = [line[0].rsplit("/", 1)[-1].removesuffix(".jpg") for line in lines]
    files = frozenset(os.listdir(base / "JPEGImages"))
    missing = [name for name in names if f"{name}.jpg" not in files]
    if missing or not names:
        raise DataError(
            f"{listed}: {len(missing)} of the {len(names)} images it names are not in {base / 'JPEGImages'}, first: "
            f"{missing[0] if missing else 'it names none'}; complete the data or the list"
        )
    return [base / "JPEGImages" / f"{name}.jpg" for name in names]


def _voc_maps(root: Path, base: Path, images: list[Path], folder: str, kind: str = "label") -> list[Path] | None:
    """Return the map of each image in a folder; None if there are none."""
    return fields.partners(images, lambda path: base / folder / f"{path.stem}.png", f"VOC 2012 at {root}", kind)


def read_objects(path: Path) -> Tensor:
    """Return the number of the object at each pixel, (H, W) int64; 0 = none, or the border of an object."""
    numbers = fields.read_labels(path)
    return numbers.masked_fill(numbers == IGNORE, 0)


_NO_CATEGORY = frozenset({12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91})
CATEGORIES = tuple(number for number in range(1, 183) if number not in _NO_CATEGORY)
"""COCO-Stuff's 171 category ids."""

STUFF = table({**{number - 1: index for index, number in enumerate(CATEGORIES)}, IGNORE: IGNORE})
"""(256,) int64: from a pixel of COCO-Stuff to its class."""

_YEARS = {"train": "train2017", "val": "val2017"}


def coco(root: str | Path, split: str = "all") -> Frames:
    """Return images with their masks.

    Args:
        root: The folder.
        split: "train", "val" or "test" if there are such folders, or "all".

    Returns:
        A dataset that gives `image` and, if they exist, `labels`, whose numbers `classes` names.

    Raises:
        UnknownNameError: There is no such split.
        DataError: The folder has neither form, `classes.json` is missing or broken, or some images have no labels.
    """
    root, where = Path(root), f"the images at {root}"
    fields.check_folder(root, "images with masks")
    if (root / "stuffthingmaps").is_dir():
        return _coco_stuff(root, split, where)
    masks = next((root / name for name in ("masks", "labels") if (root / name).is_dir()), None)
    if masks is None or not (root / "images").is_dir():
        raise DataError(
            f"expected images/ with masks/ or labels/, or train2017/ with stuffthingmaps/ at {root}, found "
            f"{', '.join(sorted(path.name for path in root.iterdir())[:5]) or 'an empty folder'}; give their folder"
        )
    if not (root / "classes.json").is_file():
        raise DataError(f'expected {root / "classes.json"} with what the labels mean, {{"0": "road", …}}; write it')
    numbering, classes = fields.read_classes(root / "classes.json")
    splits = [name for name in ("train", "val", "test") if (root / "images" / name).is_dir()]
    names = fields.chosen_splits(split, splits, where) if splits or split != "all" else ["."]
    parts = [_part(root / "images" / name, masks / name) for name in names]
    return _frames(root, parts, where, numbering, classes)


def _coco_stuff(root: Path, split: str, where: str) -> Frames:
    """Return COCO-Stuff."""
    base, maps = root / "images" if (root / "images").is_dir() else root, root / "stuffthingmaps"
    splits = [name for name, folder in _YEARS.items() if (base / folder).is_dir()]
    folders = [_YEARS[name] for name in fields.chosen_splits(split, splits, f"COCO-Stuff at {root}")]
    parts = [_part(base / folder, maps / folder) for folder in folders]
    return _frames(root, parts, where, STUFF, _stuff_classes(root / "labels.txt"))


def _stuff_classes(path: Path) -> Classes:
    """Return the classes of COCO-Stuff, named as in `labels.txt`, or by id without such a file."""
    if not path.is_file():
        return Classes(tuple(map(str, CATEGORIES)))
    lines = read_lines(path, "the names of COCO's categories")
    matches = (re.fullmatch(r"(\d+):\s*(.+)", line) for _, line in lines)
    names = {match[1]: match[2] for match in matches if match}
    lacking = [number for number in CATEGORIES if str(number) not in names]
    if lacking:
        raise DataError(f"{path}: expected lines of '1: person' for 171 categories, none for {lacking[0]}; fix it")
    return Classes(tuple(names[str(number)] for number in CATEGORIES))
