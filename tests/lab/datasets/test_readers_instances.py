"""Readers of objects: their boxes, classes, crowds and masks, in the true formats."""

import json

import numpy as np
import pytest
import torch
from helpers.instance_files import ade_objects_root, cityscapes_objects_root, coco_objects_root
from PIL import Image

from cka_probe.errors import DataError
from cka_probe.images.datasets import open_dataset
from cka_probe.images.sample import OBJECTS
from cka_probe.lab.datasets.check import validate_sample

ROOTS = {
    "coco_instances": coco_objects_root,
    "cityscapes_instances": cityscapes_objects_root,
    "ade20k_instances": ade_objects_root,
}


@pytest.mark.parametrize("name", ROOTS)
def test_samples_keep_the_contract(name, tmp_path):
    dataset = open_dataset(f"{name}:{ROOTS[name](tmp_path)}")
    assert dataset.gives == {"image", *OBJECTS}
    for index in range(len(dataset)):
        sample = dataset[index]
        arrays = {field: value.numpy() for field, value in sample.items()}
        assert validate_sample(arrays, dataset.gives, {}) == {}
        assert sample["box_masks"].shape[0] == len(sample["boxes"]) == len(sample["box_classes"])


def test_coco_has_the_boxes_of_its_file_and_masks_of_polygons_and_run_lengths(tmp_path):
    dataset = open_dataset(f"coco_instances:{coco_objects_root(tmp_path)}:val")
    assert dataset.classes.names == ("person", "dog")  # in the order of their ids
    first, second = dataset[0], dataset[1]
    assert first["boxes"].tolist() == [[1.25, 1, 4.25, 3.5], [6, 0, 8, 6], [0, 0, 1, 6]]
    assert first["box_classes"].tolist() == [1, 0, 1]
    assert first["box_crowds"].tolist() == [False, False, True]
    expected = torch.zeros(3, 6, 8, dtype=torch.bool)
    expected[0, 1:4, 1:4], expected[1, :, 6:], expected[2, :, :1] = True, True, True
    assert torch.equal(first["box_masks"], expected)
    assert (second["boxes"].shape, second["box_masks"].shape) == ((0, 4), (0, 6, 8))


def test_cityscapes_boxes_are_around_its_instances_and_groups_are_crowds(tmp_path):
    dataset = open_dataset(f"cityscapes_instances:{cityscapes_objects_root(tmp_path)}:train")
    sample = dataset[0]
    names = [dataset.classes.names[number] for number in sample["box_classes"]]
    assert names == ["person", "car", "car"]
    assert sample["box_crowds"].tolist() == [True, False, False]
    assert sample["boxes"].tolist() == [[7, 0, 8, 6], [0, 1, 2, 3], [2, 3, 6, 5]]
    assert sample["box_masks"].sum((1, 2)).tolist() == [6, 4, 8]


def test_ade20k_has_classes_in_red_and_objects_in_green(tmp_path):
    root = ade_objects_root(tmp_path)
    dataset = open_dataset(f"ade20k_instances:{root}:val")
    sample = dataset[0]
    assert sample["box_classes"].tolist() == [2, 2, 99]
    assert sample["boxes"].tolist() == [[0, 0, 3, 2], [0, 4, 3, 6], [6, 0, 8, 6]]
    assert dataset.classes.names[2] == "3"
    lines = ["Instance id\tScene id\tName", *(f"{number}\t{number + 7}\tthing {number}" for number in range(1, 101))]
    (root / "categoryMapping.txt").write_text("\n".join(lines))
    assert open_dataset(f"ade20k_instances:{root}").classes.names[2] == "thing 3"


def test_broken_files_are_refused_by_name(tmp_path):
    root = coco_objects_root(tmp_path / "coco")
    path = root / "annotations" / "instances_val2017.json"
    document = json.loads(path.read_text())
    document["annotations"][1]["segmentation"]["counts"] = [40, 12]
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"instances_val2017.json: expected bbox, segmentation .* annotation 2"):
        open_dataset(f"coco_instances:{root}")[0]
    (root / "val2017" / "b.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of its 2 images are missing, first: .*b.jpg"):
        open_dataset(f"coco_instances:{root}")
    root = ade_objects_root(tmp_path / "ade")
    path = root / "annotations_instance/validation/ADE_val_00000001.png"
    Image.fromarray(np.full((6, 8, 3), 101, np.uint8)).save(path)
    with pytest.raises(DataError, match="expected classes 1 to 100 in red, found 101"):
        open_dataset(f"ade20k_instances:{root}")[0]
    root = cityscapes_objects_root(tmp_path / "city")
    for path in root.glob("gtFine/*/*/*.png"):
        path.unlink()
    with pytest.raises(DataError, match=r"aachen_000000_000019_gtFine_instanceIds.png, found none; complete"):
        open_dataset(f"cityscapes_instances:{root}")


@pytest.mark.parametrize("height", [0, -4, 10**9, 1e400, "six"])
def test_coco_refuses_sizes_that_no_image_has(height, tmp_path):
    root = coco_objects_root(tmp_path)
    path = root / "annotations" / "instances_val2017.json"
    document = json.loads(path.read_text())
    document["images"][0]["height"] = height
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"instances_val2017\.json: expected"):
        open_dataset(f"coco_instances:{root}:val")
