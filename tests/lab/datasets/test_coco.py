"""COCO's panoptic and instance annotations, as JSON, polygons and run lengths."""

import json
import pickle

import numpy as np
import pytest
import torch
from helpers.coco_files import instances_root, panoptic_root, write_json
from helpers.dataset_files import check_refused
from helpers.label_files import HEIGHT, WIDTH, write_image

from cka_probe.errors import DataError
from cka_probe.images.datasets import open_dataset
from cka_probe.images.sample import IGNORE
from cka_probe.lab.datasets.coco import object_mask


def test_panoptic_segments_are_classes_and_objects(tmp_path):
    dataset = open_dataset(f"coco:{panoptic_root(tmp_path)}")
    assert dataset.classes.names == ("person", "toothbrush", "rug")
    sample = dataset[0]
    assert sample["labels"][0, :5].tolist() == [2, 1, IGNORE, 0, 0]
    assert sample["instances"][0, :5].tolist() == [0, 2, 0, 3, 0]
    torch.testing.assert_close(pickle.loads(pickle.dumps(dataset))[0], sample, rtol=0, atol=0)


def test_instances_are_classes_on_a_background(tmp_path):
    dataset = open_dataset(f"coco:{instances_root(tmp_path)}:train")
    assert dataset.classes.names == ("background", "person", "toothbrush")
    sample = dataset[0]
    assert sample["labels"][0].tolist() == [2, IGNORE, IGNORE, 2, 0, 0, 0, 0]  # two objects in columns 1 and 2
    assert sample["labels"][2].tolist() == [0, 1, 1, 0, 0, 0, 0, 0]
    assert sample["instances"][0].tolist() == [1, 0, 0, 1, 0, 0, 0, 0]
    assert dataset[1]["labels"].unique().tolist() == [0]
    torch.testing.assert_close(pickle.loads(pickle.dumps(dataset))[0], sample, rtol=0, atol=0)


def test_polygons_cover_the_pixels_whose_centres_are_inside():
    """Of large polygons COCO's pixels and those of exact geometry differ at the border only."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        angles = np.sort(rng.uniform(0, 2 * np.pi, 7))
        corners = np.stack([30 + 22 * np.cos(angles), 25 + 18 * np.sin(angles)], -1)
        mask = object_mask([corners.ravel().tolist()], (50, 60))
        y, x = np.mgrid[:50, :60] + 0.5
        inside = np.zeros((50, 60), bool)
        for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, 0), strict=True):
            crosses = (y0 > y) != (y1 > y)
            inside ^= crosses & (x < x0 + (y - y0) * (x1 - x0) / np.where(y1 == y0, 1, y1 - y0))
        assert (mask ^ inside).sum() <= 0.25 * np.hypot(*(corners - np.roll(corners, 1, 0)).T).sum()
        assert abs(int(mask.sum()) - int(inside.sum())) <= 0.1 * inside.sum()


def compressed(counts):
    """Write run lengths as COCO does."""
    text = ""
    for index, count in enumerate(counts):
        number, more = count - (counts[index - 2] if index > 2 else 0), True
        while more:
            bits, number = number & 31, number >> 5
            more = number != (-1 if bits & 16 else 0)
            text += chr((bits | 32 * more) + 48)
    return text


def test_run_lengths_are_the_same_as_a_list_and_as_text():
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = np.repeat(rng.integers(0, 2, 300), rng.integers(1, 9, 300))[:600].reshape(30, 20).T.astype(bool)
        flat = mask.T.ravel()
        edges = np.flatnonzero(np.diff(np.concatenate([[False], flat])))
        counts = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
        for form in (counts, compressed(counts)):
            np.testing.assert_array_equal(object_mask({"size": [20, 30], "counts": form}, (20, 30)), mask)


@pytest.mark.parametrize(
    "segmentation",
    [
        [[0, 0, 1]], [[0, 0, 1, 1]], [[0, 0, 1e9, 0, 1, 1]], [[0, 0, float("nan"), 0, 1, 1]], [["a"] * 6], 3, {},
        {"size": [HEIGHT, WIDTH], "counts": [6, -6, 48]}, {"size": [1 << 40, 1], "counts": [1 << 40]},
        {"size": [HEIGHT, WIDTH], "counts": "\x7f" * 99}, {"size": [HEIGHT, WIDTH], "counts": "é"},
        {"size": [HEIGHT, WIDTH], "counts": [47]}, {"size": None, "counts": [48]},
    ],
)  # fmt: skip
def test_broken_segmentations_are_named_with_their_image(tmp_path, segmentation):
    annotation = {"image_id": 9, "category_id": 1, "iscrowd": 0, "segmentation": segmentation}
    root = instances_root(tmp_path, [annotation])
    check_refused(f"coco:{root}", r"train2017.json, image 9: expected polygons or run lengths .*object 1, found")


def change(path, **keys):
    write_json(path, json.loads(path.read_text()) | keys)


PANOPTIC, INSTANCES = "annotations/panoptic_val2017.json", "annotations/instances_train2017.json"


@pytest.mark.parametrize(
    ("make", "spoil", "message"),
    [
        (panoptic_root, lambda r: (r / PANOPTIC).write_text("["), r"panoptic_val2017.json: expected images, anno"),
        (panoptic_root, lambda r: (r / PANOPTIC).write_text("[" * 99999), r"expected images, annotations and"),
        (panoptic_root, lambda r: change(r / PANOPTIC, categories=[]), r"expected images, annotations and categories"),
        (panoptic_root, lambda r: change(r / PANOPTIC, annotations=[{}]), r"expected images, annotations"),
        (panoptic_root, lambda r: change(r / PANOPTIC, annotations=[]), r"1 in one only, first: 000000000009.jpg is"),
        (panoptic_root, lambda r: write_image(r / "val2017/1.jpg"), r"1 in one only, first: 1.jpg is not listed"),
        (panoptic_root, lambda r: write_image(r / "annotations/panoptic_val2017/000000000009.png"),
         r"000000000009.png: expected the 4 segments in its JSON, found \d+"),
        (instances_root, lambda r: (r / "images/train2017/000000000025.jpg").unlink(), r"25.jpg is not in .*train2017"),
        (instances_root, lambda r: change(r / INSTANCES, images=[{"id": 9, "file_name": "a", "height": 1 << 40,
         "width": 1 << 40}]), r"expected the height and width of images|expected images, annotations"),
        (lambda r: panoptic_root(instances_root(r)), lambda r: None, r"found panoptic and instances; add \?form=pan"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_annotations_is_said_in_one_line(tmp_path, make, spoil, message):
    root = make(tmp_path)
    spoil(root)
    check_refused(f"coco:{root}", message)


def test_a_form_is_chosen_by_name(tmp_path):
    root = panoptic_root(tmp_path)
    instances_root(root)
    (root / "val2017").rename(root / "images" / "val2017")
    assert len(open_dataset(f"coco:{root}?form=panoptic")) == 1
    assert len(open_dataset(f"coco:{root}?form=instances")) == 2
    with pytest.raises(DataError, match=r"expected stuffthingmaps at .*, found neither"):
        open_dataset(f"coco:{root}?form=stuff")
