"""Images with a class at each pixel: ADE20K and PASCAL VOC.

**ADE20K**'s scene parsing benchmark (Zhou et al. 2017) has 150 classes of everyday scenes:

    <root>/{images,annotations}/{training,validation}/ADE_train_00000001.{jpg,png}
    <root>/objectInfo150.txt          names, optional (tab-separated: Idx, Ratio, Train, Val, Stuff, Name)

The root is `ADEChallengeData2016` or the folder that holds it. In the files 0 is everything else and the classes
begin at 1: 0 is ignored here and 1 … 150 become 0 … 149.

**PASCAL VOC 2012** segmentation (Everingham et al. 2010) has 20 kinds of objects and the background:

    <root>/ImageSets/Segmentation/{train,val,trainval,test,train_aug}.txt
    <root>/JPEGImages/2007_000032.jpg
    <root>/SegmentationClass/2007_000032.png          255 = void, the rim around each object
    <root>/SegmentationObject/2007_000032.png         the number of each object
    <root>/SegmentationClassAug/2007_000032.png       labels for 10 582 training images (Hariharan et al. 2011)

The root is `VOC2012` or a folder that holds it (`VOCdevkit/`). A line of a list is the name of an image, or, in some
copies of the augmented one, the paths of the image and of its labels. Labels and objects are palette PNGs, or drawn in
the colours of that palette (RGB), as some copies have them. `trainval` is not part of "all", which has them.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from torch import Tensor

from cka_probe.errors import DataError
from cka_probe.images.classes import ADE150, VOC21, Classes, table, voc_colours
from cka_probe.images.reading import find_images
from cka_probe.images.sample import IGNORE
from cka_probe.lab.datasets import fields
from cka_probe.lab.datasets.camvid import read_drawn
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
    parts = [images_and_labels(base / "images" / folder, base / "annotations" / folder) for folder in folders]
    return labelled_frames(root, parts, f"ADE20K at {root}", ADE_NUMBERING, _ade_classes(base))


def images_and_labels(images: Path, labels: Path) -> tuple[list[Path], LabelPath]:
    """Return the images of a folder, and where their labels would be: at the same path below another folder."""
    return find_images(images), lambda path: (labels / path.relative_to(images)).with_suffix(".png")


def labelled_frames(
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


TRAINVAL = "trainval"
_VOC_FOLDERS = (".", "VOC2012", "VOCdevkit/VOC2012")


def voc(root: str | Path, split: str = "all", *, augmented: bool = False) -> Frames:
    """Return VOC 2012.

    Args:
        root: `VOC2012`, or a folder that holds it.
        split: "train", "val", "trainval" or "test" if there is a list of that name, or "all" of them.
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
    if split == TRAINVAL and not augmented:
        lists[TRAINVAL] = lists["val"].with_name(f"{TRAINVAL}.txt")
    splits = [name for name, path in lists.items() if path.is_file()]
    frames = []
    for name in fields.chosen_splits(split, splits, f"VOC 2012 at {root}"):
        folder = "SegmentationClassAug" if augmented and name == "train" else "SegmentationClass"
        images = _voc_images(base, lists[name])
        labels = _voc_maps(root, base, images, folder)
        readers = {"labels": fields.each(read_numbers_or_colours, labels, numbering=fields.plain_numbering(21))}
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
    numbers = read_numbers_or_colours(path)
    return numbers.masked_fill(numbers == IGNORE, 0)


def read_numbers_or_colours(path: Path, numbering: np.ndarray | None = None) -> Tensor:
    """Return the labels of a palette PNG, or of an image drawn in the colours of VOC's palette.

    Args:
        path: The image.
        numbering: As in `fields.read_labels`.

    Returns:
        (H, W) int64.

    Raises:
        DataError: It cannot be read, has a colour that is not in the palette, or a number that is no class.
    """
    with fields.opened_image(path, "labels") as file:
        is_drawn = file.mode == "RGB"
    if not is_drawn:
        return fields.read_labels(path, numbering)
    return read_drawn(path, voc_colours(256), np.arange(256) if numbering is None else numbering)
