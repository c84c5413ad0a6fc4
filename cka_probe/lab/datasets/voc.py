"""PASCAL VOC 2012 segmentation (Everingham et al. 2010): 20 kinds of objects and the background.

    <root>/ImageSets/Segmentation/{train,val,trainval,train_aug}.txt
    <root>/JPEGImages/2007_000032.jpg
    <root>/SegmentationClass/2007_000032.png          palette PNG; 255 = void, the rim around each object
    <root>/SegmentationObject/2007_000032.png         the number of each object
    <root>/SegmentationClassAug/2007_000032.png       labels for 10 582 training images (Hariharan et al. 2011)

The root is `VOC2012` or a folder that holds it (`VOCdevkit/`). A line of a list is an image's name, or, in the
augmented one as some hand it on, the paths of the image and of its labels.
"""

import os
from pathlib import Path

from torch import Tensor

from cka_probe.errors import DataError
from cka_probe.images.classes import VOC21
from cka_probe.images.datasets import check_split
from cka_probe.images.sample import IGNORE
from cka_probe.lab.datasets.fields import check_folder, each, list_frames, partners, plain_numbering, read_labels
from cka_probe.lab.datasets.frames import Frame, Frames
from cka_probe.lab.datasets.numbers import read_lines

_FOLDERS = (".", "VOC2012", "VOCdevkit/VOC2012")


def voc(root: str | Path, split: str = "all", *, augmented: bool = False) -> Frames:
    """Return VOC 2012.

    Args:
        root: `VOC2012`, or a folder that holds it.
        split: "train", "val", "test" where there is a list of that name, or "all" of them.
        augmented: Train on `train_aug.txt` and `SegmentationClassAug` instead.

    Returns:
        A dataset that gives `image` and, where they are there, `labels` of 21 classes and `instances`.

    Raises:
        UnknownNameError: There is no such split.
        DataError: A list is missing, or an image it names, or the labels of some.
    """
    root = Path(root)
    check_folder(root, "VOC 2012")
    base = next((root / name for name in _FOLDERS if (root / name / "JPEGImages").is_dir()), None)
    if base is None:
        raise DataError(f"expected VOC 2012 at {root}: JPEGImages, SegmentationClass, ImageSets; found no JPEGImages")
    lists = {name: base / "ImageSets" / "Segmentation" / f"{name}.txt" for name in ("train", "val", "test")}
    if augmented:
        lists["train"] = lists["train"].with_name("train_aug.txt")
    there = [name for name, path in lists.items() if path.is_file()]
    check_split(split, [*there, "all"], f"VOC 2012 at {root}")
    frames = []
    for name in there if split == "all" else [split]:
        folder = "SegmentationClassAug" if augmented and name == "train" else "SegmentationClass"
        frames += _frames(root, base, lists[name], folder)
    return Frames([[frame] for frame in frames], where=f"VOC 2012 at {root}", classes=VOC21)


def _frames(root: Path, base: Path, listed: Path, folder: str) -> list[Frame]:
    """Return the frames of a list, with labels from a folder."""
    names, there = _names(listed), frozenset(os.listdir(base / "JPEGImages"))
    missing = [name for name in names if f"{name}.jpg" not in there]
    if missing or not names:
        raise DataError(
            f"{listed}: {len(missing)} of the {len(names)} images it names are not in {base / 'JPEGImages'}, first: "
            f"{missing[0] if missing else 'it names none'}; complete the data or the list"
        )
    images = [base / "JPEGImages" / f"{name}.jpg" for name in names]
    labels = partners(images, lambda path: base / folder / f"{path.stem}.png", f"VOC 2012 at {root}")
    fields = {"labels": each(read_labels, labels, numbering=plain_numbering(21))}
    if labels is not None and folder == "SegmentationClass":
        objects = partners(
            images, lambda path: base / "SegmentationObject" / f"{path.stem}.png", f"VOC 2012 at {root}", "objects"
        )
        fields["instances"] = each(read_objects, objects)
    return list_frames(root, images, fields)


def read_objects(path: Path) -> Tensor:
    """Return the number of the object at each pixel, (H, W) int64; 0 = none, or the void around one."""
    numbers = read_labels(path)
    return numbers.masked_fill(numbers == IGNORE, 0)


def _names(listed: Path) -> list[str]:
    """Return the images' names of a list, without folder and suffix."""
    lines = [line.split() for _, line in read_lines(listed, "a list of VOC's images")]
    return [line[0].rsplit("/", 1)[-1].removesuffix(".jpg") for line in lines]
