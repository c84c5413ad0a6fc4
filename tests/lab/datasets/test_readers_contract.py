"""Every reader of labelled and plain images keeps the contract of a dataset, in every layout it knows."""

import pickle
from itertools import combinations

import pytest
import torch
from helpers.dataset_files import folder_root, listed_root, mat_root, pairs_root, scenes_root
from helpers.image_files import exported_root, imagenet_root, lsun_root
from helpers.label_files import (
    ade_root,
    drawn_root,
    masks_root,
    segnet_root,
    stuff_root,
    voc_root,
    write_image,
    write_labels,
)
from helpers.labelled_nyuv2 import labelled_mat, labelled_pairs, labelled_scenes
from helpers.street_files import cityscapes_root, kitti_root
from torch.utils.data import DataLoader

from cka_probe.errors import DataError
from cka_probe.images.datasets import SPLITS, open_dataset
from cka_probe.images.sample import FIELDS
from cka_probe.lab.datasets.check import validate_sample


def split_masks_root(root):
    masks_root(root)
    for split in ("train", "val"):
        for name in ("a/0", "b/1"):
            write_image(root / "images" / split / f"{name}.jpg")
            write_labels(root / "masks" / split / f"{name}.png", [0, 2, 13])
    for number in range(3):  # those that lie beside the splits
        (root / "images" / f"{number}.jpg").unlink()
    return root


CASES = {
    "ade20k": (ade_root, "ade20k:{}"),
    "camvid drawn": (drawn_root, "camvid:{}"),
    "camvid segnet": (segnet_root, "camvid:{}"),
    "cityscapes": (cityscapes_root, "cityscapes:{}"),
    "coco": (masks_root, "coco:{}"),
    "coco split": (split_masks_root, "coco:{}"),
    "coco stuff": (stuff_root, "coco:{}"),
    "folder": (folder_root, "folder:{}"),
    "imagenet": (imagenet_root, "imagenet:{}"),
    "kitti_semantics": (lambda root: kitti_root(root, testing=0), "kitti_semantics:{}?validation=2"),
    "kitti_semantics test": (kitti_root, "kitti_semantics:{}?validation=2"),
    "lsun": (lsun_root, "lsun:{}"),
    "lsun exported": (exported_root, "lsun:{}?each=3"),
    "nyuv2 mat": (labelled_mat, "nyuv2:{}?classes=40"),
    "nyuv2 pairs": (lambda root: labelled_pairs(root, 13)[0], "nyuv2:{}"),
    "nyuv2 scenes": (lambda root: labelled_scenes(root, 40)[0], "nyuv2:{}"),
    "nyuv2 mat without labels": (mat_root, "nyuv2:{}"),
    "nyuv2 pairs without labels": (pairs_root, "nyuv2:{}"),
    "nyuv2 scenes in lists": (listed_root, "nyuv2:{}"),
    "nyuv2 scenes without labels": (scenes_root, "nyuv2:{}"),
    "voc": (voc_root, "voc:{}"),
}


@pytest.fixture(params=CASES)
def made(request, tmp_path):
    make, spec = CASES[request.param]
    return make(tmp_path / "data"), spec


def names(dataset):
    return [dataset.describe(index) for index in range(len(dataset))]


def test_a_sample_is_what_the_contract_says(made):
    root, spec = made
    dataset = open_dataset(spec.format(root))
    classes = getattr(dataset, "classes", None)
    count = None if classes is None else len(classes)
    assert "image" in dataset.gives <= set(FIELDS)
    for index in range(len(dataset)):
        sample = dataset[index]
        arrays = {name: field.numpy() for name, field in sample.items()}
        assert validate_sample(arrays, dataset.gives, {"labels": count, "category": count}) == {}
        torch.testing.assert_close(dataset.image(index), sample["image"], rtol=0, atol=0)
    assert len(list(dataset)) == len(dataset)


def test_an_image_is_called_the_same_wherever_the_data_lies(made, tmp_path):
    root, spec = made
    before = names(open_dataset(spec.format(root)))
    assert len(set(before)) == len(before)
    assert not any(str(tmp_path) in name or "\\" in name for name in before)
    root.rename(tmp_path / "elsewhere")
    assert names(open_dataset(spec.format(tmp_path / "elsewhere"))) == before


def test_the_splits_are_parts_of_all_and_share_nothing(made):
    root, spec = made
    parts = {}
    for split in SPLITS[:-1]:
        joined = spec.format(root) + ("&" if "?" in spec else "?") + f"split={split}"
        try:
            parts[split] = names(open_dataset(joined))
        except DataError as error:
            assert f"no split '{split}'" in str(error)  # noqa: PT017
    everything = names(open_dataset(spec.format(root)))
    for one, other in combinations(parts.values(), 2):
        assert not set(one) & set(other)
    if parts and "each" not in spec:  # so many of all are fewer than so many of each split
        assert sorted(name for part in parts.values() for name in part) == sorted(everything)


def test_workers_read_the_same(made):
    root, spec = made
    dataset = open_dataset(spec.format(root))
    sent = pickle.loads(pickle.dumps(dataset))
    torch.testing.assert_close(sent[0], dataset[0], rtol=0, atol=0, equal_nan=True)
    assert getattr(sent, "classes", None) == getattr(dataset, "classes", None)


@pytest.mark.parametrize("case", ["lsun", "nyuv2 mat", "camvid segnet"])
def test_a_loader_with_workers_reads_what_one_process_does(tmp_path, case):
    make, spec = CASES[case]
    dataset = open_dataset(spec.format(make(tmp_path / "data")))
    alone = [dataset[index] for index in range(len(dataset))]
    loader = DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context="fork")
    for one, other in zip(alone, loader, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
