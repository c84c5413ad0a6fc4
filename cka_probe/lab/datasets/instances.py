"""Images with objects, each with a box, a class and a mask: COCO, Cityscapes and ADE20K.

**COCO** (Lin et al. 2014):

    <root>/annotations/instances_{train2017,val2017}.json
    <root>/{train2017,val2017}/000000000139.jpg          at the root or in `images`

Categories are numbered in the order of their ids, which have gaps.

**Cityscapes** (Cordts et al. 2016): its 8 classes of objects, from `gtFine/…_gtFine_instanceIds.png`, whose pixels are
1000 id + number; the id alone marks a group of objects that are not told apart.

**ADE20K**, the instances of the Places Challenge 2017 (Zhou et al. 2017), 100 classes:

    <root>/images/{training,validation}/*.jpg
    <root>/annotations_instance/{training,validation}/*.png    RGB: red = class, 1 … 100, green = number of it
    <root>/categoryMapping.txt          names, optional: a line of titles, then number, number in the benchmark, name

Boxes are (left, top, right, bottom) in pixels, edges of pixels being whole numbers: those of COCO's file, elsewhere the
least ones around the masks. COCO's crowds and Cityscapes' groups are `box_crowds`: neither objects to find nor
background.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cka_probe.errors import DataError
from cka_probe.files import read_json
from cka_probe.images.classes import Classes
from cka_probe.images.reading import find_images
from cka_probe.lab.datasets import fields
from cka_probe.lab.datasets.coco import object_mask, stated_size
from cka_probe.lab.datasets.frames import Frames
from cka_probe.lab.datasets.numbers import path_below, read_lines

YEARS = {"train": "train2017", "val": "val2017"}
ADE_SPLITS = {"train": "training", "val": "validation"}
ADE_CLASSES = 100

STREET_IDS = {
    24: "person",
    25: "rider",
    26: "car",
    27: "truck",
    28: "bus",
    31: "train",
    32: "motorcycle",
    33: "bicycle",
}
"""Cityscapes' ids of the classes of objects."""


@dataclass(frozen=True)
class Objects:
    """The objects of an image.

    Attributes:
        boxes: (N, 4) float32 left, top, right, bottom, pixels.
        classes: (N,) int64.
        crowds: (N,) bool, a crowd or group in place of one object.
        masks: (N, H, W) bool.
    """

    boxes: Tensor
    classes: Tensor
    crowds: Tensor
    masks: Tensor


FIELDS = {"boxes": "boxes", "box_classes": "classes", "box_crowds": "crowds", "box_masks": "masks"}
"""From fields of a sample to attributes of `Objects`."""


def of_masks(masks: np.ndarray, classes: Sequence[int], crowds: Sequence[bool]) -> Objects:
    """Return objects with the least boxes around masks (N, H, W) bool, none of which is empty."""
    edges = []
    for mask in masks:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        edges.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    return Objects(
        torch.tensor(np.array(edges).reshape(-1, 4), dtype=torch.float32),
        torch.tensor(list(classes), dtype=torch.int64),
        torch.tensor(list(crowds), dtype=torch.bool),
        torch.from_numpy(masks),
    )


def _readers(read: Any, *columns: Sequence) -> dict[str, Any]:
    """Return the readers of the four fields from a function that returns the objects of an image."""

    def field(name: str, arguments: tuple) -> Any:
        return partial(_field, read, name, *arguments)

    rows = list(zip(*columns, strict=True))
    return {name: [field(attribute, arguments) for arguments in rows] for name, attribute in FIELDS.items()}


def _field(read: Any, attribute: str, *arguments: Any) -> Tensor:
    values: Tensor = getattr(read(*arguments), attribute)
    return values


def cityscapes_instances(root: str | Path, split: str = "all") -> Frames:
    """Return Cityscapes' objects.

    Args:
        root: The folder of `leftImg8bit` and `gtFine`.
        split: "train" or "val", where they exist, or "all".

    Raises:
        UnknownNameError: There is no such split.
        DataError: The folders are missing, or images have no `instanceIds`.
    """
    root, where = Path(root), f"Cityscapes' objects at {root}"
    fields.check_folder(root, "Cityscapes")
    splits = [name for name in ("train", "val") if (root / "leftImg8bit" / name).is_dir()]
    if not splits:
        raise DataError(f"expected {where}: leftImg8bit/train and gtFine/train; found no leftImg8bit/train or val")
    parts = [root / "leftImg8bit" / name for name in fields.chosen_splits(split, splits, where)]
    images = [path for part in parts for path in find_images(part) if path.stem.endswith("_leftImg8bit")]

    def partner(image: Path) -> Path:
        name = image.stem.removesuffix("_leftImg8bit") + "_gtFine_instanceIds.png"
        return root / "gtFine" / image.relative_to(root / "leftImg8bit").parent / name

    return _frames(root, images, _partners(images, partner, where), read_street, where, tuple(STREET_IDS.values()))


def _partners(images: Sequence[Path], partner: Any, where: str) -> list[Path]:
    """Return the file of objects of each image, or raise `DataError`."""
    paths = fields.partners(images, partner, where, "instances")
    if paths is None:
        example = partner(images[0]) if images else "any image"
        raise DataError(f"expected {where}, such as {example}, found none; complete the data")
    return paths


def _frames(
    root: Path, images: Sequence[Path], paths: Sequence[Path], read: Any, where: str, names: tuple[str, ...]
) -> Frames:
    frames = fields.list_frames(root, images, _readers(read, paths))
    return Frames([[frame] for frame in frames], where=where, classes=Classes(names))


@lru_cache(maxsize=1)  # the fields of a sample are read one after the other
def read_street(path: Path) -> Objects:
    """Return the objects in a file of Cityscapes' `instanceIds`."""
    numbers = fields.read_labels(path).numpy()
    ids = [number for number in np.unique(numbers).tolist() if (number // 1000 or number) in STREET_IDS]
    masks = np.array([numbers == number for number in ids], bool).reshape(-1, *numbers.shape)
    order = list(STREET_IDS)
    return of_masks(masks, [order.index(number // 1000 or number) for number in ids], [number < 1000 for number in ids])


def ade20k_instances(root: str | Path, split: str = "all") -> Frames:
    """Return ADE20K's objects.

    Args:
        root: The folder of `images` and `annotations_instance`.
        split: "train", "val", or "all".

    Raises:
        UnknownNameError: There is no such split.
        DataError: The folders are missing, or images have no instances.
    """
    root, where = Path(root), f"ADE20K's objects at {root}"
    fields.check_folder(root, "ADE20K")
    splits = [name for name, folder in ADE_SPLITS.items() if (root / "annotations_instance" / folder).is_dir()]
    if not splits:
        raise DataError(f"expected {where}: annotations_instance/training; found none there")
    folders = [ADE_SPLITS[name] for name in fields.chosen_splits(split, splits, where)]
    images = [path for folder in folders for path in find_images(root / "images" / folder)]

    def partner(image: Path) -> Path:
        return (root / "annotations_instance" / image.relative_to(root / "images")).with_suffix(".png")

    return _frames(root, images, _partners(images, partner, where), read_ade, where, _ade_names(root))


def _ade_names(root: Path) -> tuple[str, ...]:
    """Return the names of the classes, or their numbers without a file of names."""
    path = root / "categoryMapping.txt"
    if not path.is_file():
        return tuple(map(str, range(1, ADE_CLASSES + 1)))
    rows = [line.split(maxsplit=2) for _, line in read_lines(path, "ADE20K's classes of objects")]
    names = {row[0]: row[2].strip() for row in rows if len(row) == 3 and row[0].isdecimal()}
    if missing := [number for number in range(1, ADE_CLASSES + 1) if str(number) not in names]:
        raise DataError(f"{path}: expected {ADE_CLASSES} lines of number, number and name, found none for {missing[0]}")
    return tuple(names[str(number)] for number in range(1, ADE_CLASSES + 1))


@lru_cache(maxsize=1)
def read_ade(path: Path) -> Objects:
    """Return the objects in a file of `annotations_instance`."""
    with fields.opened_image(path, "instances") as file:
        if file.mode != "RGB":
            raise DataError(f"{path}: expected RGB, class in red and number in green, found mode {file.mode}; fix it")
        pixels = np.array(file).astype(np.int64)
    numbers = np.where(pixels[..., 0] > 0, pixels[..., 0] * 256 + pixels[..., 1], 0)
    ids = [number for number in np.unique(numbers).tolist() if number]
    if wrong := [number // 256 for number in ids if number // 256 > ADE_CLASSES]:
        raise DataError(f"{path}: expected classes 1 to {ADE_CLASSES} in red, found {wrong[0]}; give its own files")
    masks = np.array([numbers == number for number in ids], bool).reshape(-1, *numbers.shape)
    return of_masks(masks, [number // 256 - 1 for number in ids], [False] * len(ids))


def coco_instances(root: str | Path, split: str = "all") -> Frames:
    """Return COCO's objects.

    Args:
        root: The folder of `annotations`.
        split: "train", "val", or "all".

    Raises:
        UnknownNameError: There is no such split.
        DataError: A file is missing or broken.
    """
    root, where = Path(root), f"COCO's objects at {root}"
    fields.check_folder(root, "COCO")
    files = {name: root / "annotations" / f"instances_{year}.json" for name, year in YEARS.items()}
    splits = [name for name, path in files.items() if path.is_file()]
    if not splits:
        raise DataError(f"expected {where}: annotations/instances_train2017.json or …_val2017.json; found neither")
    frames, names = [], None
    base = root / "images" if (root / "images").is_dir() else root
    for name in fields.chosen_splits(split, splits, where):
        images, rows, classes = _read_coco(files[name], base / YEARS[name])
        if names not in (None, classes):
            raise DataError(f"{files[name]}: expected the categories of the other split, found others; give one data")
        names = classes
        frames += fields.list_frames(root, images, _readers(_coco_objects, range(len(rows)), rows))
    return Frames([[frame] for frame in frames], where=where, classes=Classes(names or ()))


def _read_coco(path: Path, folder: Path) -> tuple[list[Path], list["_Annotations"], tuple[str, ...]]:
    """Return the images of a file, their annotations, and the names of its categories."""
    try:
        document = read_json(path)
        categories = sorted(document["categories"], key=lambda category: category["id"])
        numbers = {category["id"]: number for number, category in enumerate(categories)}
        rows: dict[int, list[Mapping[str, Any]]] = {image["id"]: [] for image in document["images"]}
        for annotation in document["annotations"]:
            rows[annotation["image_id"]].append(annotation)
        images = [path_below(folder, str(image["file_name"]), str(path)) for image in document["images"]]
        annotations = [
            _Annotations(str(path), *stated_size(image, path), tuple(rows[image["id"]]), numbers)
            for image in document["images"]
        ]
        names = tuple(str(category["name"]) for category in categories)
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise DataError(
            f"{path}: expected COCO's images, annotations and categories, found something else ({error!r}); fetch it "
            "again"
        ) from error
    if missing := fields.missing_files(images):
        raise DataError(f"{path}: {len(missing)} of its {len(images)} images are missing, first: {missing[0]}")
    return images, annotations, names


@dataclass(frozen=True, eq=False)
class _Annotations:
    """What a file says of one image."""

    path: str
    height: int
    width: int
    rows: tuple[Mapping[str, Any], ...]
    numbers: Mapping[int, int]


@lru_cache(maxsize=1)
def _coco_objects(index: int, image: _Annotations) -> Objects:
    """Return the objects of one image; `index` tells images of one file apart."""
    boxes, classes, crowds, masks = [], [], [], []
    for row in image.rows:
        try:
            left, top, width, height = (float(number) for number in row["bbox"])
            mask = object_mask(row["segmentation"], (image.height, image.width))
            classes.append(image.numbers[row["category_id"]])
        except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
            raise DataError(
                f"{image.path}: expected bbox, segmentation and a known category_id of annotation {row.get('id')}, "
                f"found something else ({error!r}); fetch it again"
            ) from error
        boxes.append((left, top, left + width, top + height))
        crowds.append(bool(row.get("iscrowd", 0)))
        masks.append(mask)
    return Objects(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(classes, dtype=torch.int64),
        torch.tensor(crowds, dtype=torch.bool),
        torch.from_numpy(np.array(masks, bool).reshape(-1, image.height, image.width)),
    )
