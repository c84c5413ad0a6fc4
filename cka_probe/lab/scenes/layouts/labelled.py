"""Pascal VOC and ADE20K: images with a map of classes; streets, whose classes become theirs.

    ROOT/JPEGImages/street_0000_0.jpg           VOC 2012
    ROOT/SegmentationClass/….png, SegmentationClassAug/….png    uint8: 0 = background, 1 ... 20
    ROOT/ImageSets/Segmentation/{train,train_aug,val}.txt

    ROOT/images/{training,validation}/….jpg     ADE20K
    ROOT/annotations/{training,validation}/….png                uint8: 0 = none, 1 ... 150

Of VOC the augmented set, which has more images, is the same as the other. What is no object of VOC is its background.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from cka_probe.images.classes import CITYSCAPES, VOC21
from cka_probe.images.sample import IGNORE
from cka_probe.lab.scenes.layouts.files import write_image
from cka_probe.lab.scenes.layouts.layout import Layout, SetFolders, Unit, Written, labels_in, nothing_left, write_lists

VOC_OF: Mapping[str, str] = {
    name: name for name in CITYSCAPES.names if name in VOC21.names
} | {"rider": "person", "truck": "car", "motorcycle": "motorbike"}  # fmt: skip
"""VOC's class of each of Cityscapes'; all others are background."""

ADE_OF: Mapping[str, int] = {
    "road": 7, "sidewalk": 12, "building": 2, "wall": 1, "fence": 33, "pole": 94, "traffic light": 137,
    "traffic sign": 44, "vegetation": 5, "terrain": 10, "sky": 3, "person": 13, "rider": 13, "car": 21, "truck": 84,
    "bus": 81, "motorcycle": 117, "bicycle": 128,
}  # fmt: skip
"""ADE20K's number, from 1, of each of Cityscapes' classes; it has no train."""


def numbers_of(numbers: Mapping[str, int]) -> np.ndarray:
    """Return (256,) uint8: from a class of Cityscapes to its number in a file, by name; 0 for all others."""
    table = np.zeros(256, np.uint8)
    for name, number in numbers.items():
        table[CITYSCAPES.names.index(name)] = number
    return table


VOC_NUMBERS = numbers_of({name: VOC21.names.index(voc) for name, voc in VOC_OF.items()})
VOC_NUMBERS[IGNORE] = IGNORE
ADE_NUMBERS = numbers_of(ADE_OF)


def write_voc(unit: Unit, folders: SetFolders) -> list[str]:
    """Write the images of one scene; its lines are their names."""
    names = []
    for frame, view, _ in unit.views():
        names.append(f"{unit.name}_{frame}")
        write_image(folders.tree / f"JPEGImages/{names[-1]}.jpg", view.image)
        for folder in ("SegmentationClass", "SegmentationClassAug"):
            labels = VOC_NUMBERS[labels_in(view, unit.scene, CITYSCAPES)]
            write_image(folders.tree / f"{folder}/{names[-1]}.png", labels)
    return names


def finish_voc(written: Iterable[Written], folders: SetFolders) -> None:
    """Write the lists."""
    lists, scenes = folders.tree / "ImageSets" / "Segmentation", list(written)
    write_lists(scenes, {False: lists / "train.txt", True: lists / "val.txt"})
    write_lists([one for one in scenes if not one.test], {False: lists / "train_aug.txt"})


def write_ade20k(unit: Unit, folders: SetFolders) -> list[str]:
    """Write the images of one scene."""
    split = "validation" if unit.test else "training"
    for frame, view, _ in unit.views():
        labels = ADE_NUMBERS[labels_in(view, unit.scene, CITYSCAPES)]
        write_image(folders.tree / f"images/{split}/{unit.name}_{frame}.jpg", view.image)
        write_image(folders.tree / f"annotations/{split}/{unit.name}_{frame}.png", labels)
    return []


HOLDS = frozenset({"image", "labels"})

VOC = Layout(reader="voc", kinds=("streets",), holds=HOLDS, write=write_voc, finish=finish_voc)
ADE20K = Layout(reader="ade20k", kinds=("streets",), holds=HOLDS, write=write_ade20k, finish=nothing_left)
