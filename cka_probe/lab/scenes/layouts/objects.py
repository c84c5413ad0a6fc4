"""COCO and ADE20K with objects: the persons and vehicles of streets, numbered as Cityscapes' classes.

    ROOT/{train2017,val2017}/….jpg, ROOT/annotations/instances_{train2017,val2017}.json                 COCO
    ROOT/images/{training,validation}/….jpg, ROOT/annotations_instance/{training,validation}/….png      ADE20K

The categories that no street has are there too, as in the real files: 80 of COCO, 100 of ADE20K.
"""

import json
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from cka_probe.images.classes import CITYSCAPES
from cka_probe.lab.scenes.layouts.files import FIRST_THING, street_things, write_image, write_text
from cka_probe.lab.scenes.layouts.layout import Layout, SetFolders, Unit, Written, labels_in, nothing_left
from cka_probe.lab.scenes.scene import View

COCO_CATEGORIES = 80
YEARS = {False: "train2017", True: "val2017"}
"""Folders of the scenes for training and of those held out."""


def objects_in(unit: Unit, view: View) -> list[tuple[int, NDArray[np.bool_]]]:
    """Return the number of the class, from 1, and the mask (H, W) of each object."""
    labels = labels_in(view, unit.scene, CITYSCAPES)
    numbers = street_things(labels, view.instances, most=255)
    pairs = np.unique(np.stack([labels[numbers > 0], numbers[numbers > 0]]), axis=1).T
    return [(int(kind) - FIRST_THING + 1, (labels == kind) & (numbers == number)) for kind, number in pairs]


def write_coco(unit: Unit, folders: SetFolders) -> list[str]:
    """Write the images of one scene; a line is an image with its annotations, as JSON."""
    lines = []
    for frame, view, _ in unit.views():
        name = f"{unit.name}_{frame}.jpg"
        write_image(folders.tree / YEARS[unit.test] / name, view.image)
        height, width = unit.size
        image = {"file_name": name, "height": height, "width": width}
        lines.append(json.dumps(image | {"annotations": [_annotation(*each) for each in objects_in(unit, view)]}))
    return lines


def _annotation(kind: int, mask: NDArray[np.bool_]) -> dict[str, object]:
    """Return an object with its box and run lengths, down the columns and beginning with those outside."""
    columns = mask.T.ravel()
    edges = np.flatnonzero(np.diff(columns)) + 1
    counts = np.diff([0, *edges.tolist(), len(columns)]).tolist()
    down, across = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = [across[0], down[0], across[-1] - across[0] + 1, down[-1] - down[0] + 1]
    return {
        "category_id": kind,
        "bbox": [int(number) for number in box],
        "segmentation": {"size": list(mask.shape), "counts": [0, *counts] if columns[0] else counts},
        "area": int(mask.sum()),
        "iscrowd": 0,
    }


def finish_coco(written: Iterable[Written], folders: SetFolders) -> None:
    """Write the annotations of both splits."""
    names = [*CITYSCAPES.names[FIRST_THING:], *(f"thing {number}" for number in range(COCO_CATEGORIES))]
    categories = [{"id": number + 1, "name": name} for number, name in enumerate(names[:COCO_CATEGORIES])]
    scenes = list(written)
    for test, year in YEARS.items():
        images = [json.loads(line) for scene in scenes if scene.test == test for line in scene.lines]
        rows = [row | {"image_id": number} for number, image in enumerate(images) for row in image.pop("annotations")]
        document = {
            "images": [{"id": number} | image for number, image in enumerate(images)],
            "annotations": [{"id": number} | row for number, row in enumerate(rows)],
            "categories": categories,
        }
        write_text(folders.tree / "annotations" / f"instances_{year}.json", json.dumps(document) + "\n")


def write_ade20k(unit: Unit, folders: SetFolders) -> list[str]:
    """Write the images of one scene."""
    split = "validation" if unit.test else "training"
    for frame, view, _ in unit.views():
        pixels = np.zeros((*unit.size, 3), np.uint8)
        for number, (kind, mask) in enumerate(objects_in(unit, view), 1):
            pixels[mask, 0], pixels[mask, 1] = kind, number
        write_image(folders.tree / f"images/{split}/{unit.name}_{frame}.jpg", view.image)
        write_image(folders.tree / f"annotations_instance/{split}/{unit.name}_{frame}.png", pixels)
    return []


IMAGES = frozenset({"image"})

COCO = Layout(reader="coco_instances", kinds=("streets",), holds=IMAGES, write=write_coco, finish=finish_coco)
ADE20K = Layout(reader="ade20k_instances", kinds=("streets",), holds=IMAGES, write=write_ade20k, finish=nothing_left)
