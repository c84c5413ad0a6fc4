"""Readers of labelled images: label files of every kind, VOC, ADE20K, COCO, CamVid."""

import pickle

import numpy as np
import pytest
import torch
from helpers.label_files import (
    HEIGHT,
    VOC,
    WIDTH,
    ade_root,
    cut,
    drawn_root,
    drop,
    masks_root,
    segnet_root,
    stuff_root,
    voc_root,
    write_image,
    write_labels,
)
from helpers.paths import REAL
from PIL import Image

from cka_probe.errors import CkaProbeError, DataError
from cka_probe.images.classes import CAMVID11, table, voc_colours
from cka_probe.images.datasets import open_dataset
from cka_probe.images.sample import IGNORE
from cka_probe.lab.datasets.coco import CATEGORIES, STUFF
from cka_probe.lab.datasets.fields import plain_numbering, read_labels

real_data = pytest.mark.skipif(not REAL.is_dir(), reason="the real images (../shared/data) are not here")


# label images


@pytest.mark.parametrize("kind", ["L", "P", "I;16"])
def test_labels_are_the_numbers_in_the_file(tmp_path, kind):
    numbers = write_labels(tmp_path / "a.png", [0, 1, 15, 20, 255], kind)
    with Image.open(tmp_path / "a.png") as file:
        assert file.mode.startswith(kind[0])
    labels = read_labels(tmp_path / "a.png")
    assert labels.dtype == torch.int64
    np.testing.assert_array_equal(labels.numpy(), numbers)
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png", plain_numbering(21)).numpy(), numbers)


def test_numbers_go_through_a_table_and_beyond_255(tmp_path):
    write_labels(tmp_path / "a.png", [7, 1000, 0], "I;16")
    labels = read_labels(tmp_path / "a.png", table({7: 1, 1000: 0, 0: IGNORE}, 1001))
    assert labels[0, :3].tolist() == [1, 0, IGNORE]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: write_labels(p, [0, 3, 200, 65]), r"the numbers of 3 classes, found 3, 65, 200 in 36 of 48"),
        (lambda p: write_labels(p, [0, 700], "I;16"), r"the numbers of 3 classes, found 700 in 24 of 48 pixels"),
        (lambda p: Image.new("RGB", (8, 6)).save(p), r"as a grey or palette PNG, found PNG of mode 'RGB'; give the"),
        (lambda p: Image.new("L", (8, 6)).save(p, "JPEG"), r"as a grey or palette PNG, found JPEG of mode 'L'"),
        (lambda p: write_labels(p, [0]) is cut(p), r"unreadable labels .*a.png: .*; fix it, or remove it"),
        (lambda p: None, r"unreadable labels .*a.png: .*No such file"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_label_image_is_said(tmp_path, make, message):
    make(tmp_path / "a.png")
    with pytest.raises(DataError, match=message) as caught:
        read_labels(tmp_path / "a.png", plain_numbering(3))
    assert str(tmp_path / "a.png") in str(caught.value)
    assert "\n" not in str(caught.value)


# the data sets


CASES = {  # reader, root, string's end, number of frames, first labels
    "voc": (voc_root, "voc:{}", 3, [0, 1, 15, 20, 255]),
    "voc train": (voc_root, "voc:{}:train", 2, [0, 1, 15, 20, 255]),
    "voc augmented": (voc_root, "voc:{}?split=train&augmented=true", 2, [0, 2, 255]),
    "ade20k": (ade_root, "ade20k:{}", 3, [255, 0, 149]),
    "ade20k val": (ade_root, "ade20k:{}/ADEChallengeData2016:val", 1, [255, 0, 149]),
    "coco": (masks_root, "coco:{}", 3, [255, 0, 1, 2]),
    "coco stuff": (stuff_root, "coco:{}:val", 1, [0, 11, 79, 80, 170, 255]),
    "camvid": (segnet_root, "camvid:{}", 3, [0, 5, 10, 255]),
    "camvid train": (segnet_root, "camvid:{}?split=train&sources=1", 1, [0, 5, 10, 255]),
    "camvid drawn": (drawn_root, "camvid:{}", 2, [0, 1, 255]),
}


@pytest.mark.parametrize("case", CASES)
def test_labels_are_numbered_as_their_classes_are(tmp_path, case):
    make, spec, count, first = CASES[case]
    dataset = open_dataset(spec.format(make(tmp_path / "data")))
    assert len(dataset) == count
    assert {"image", "labels"} <= dataset.gives
    for index in range(count):
        sample = dataset[index]
        assert set(sample) == dataset.gives
        assert sample["labels"].shape == sample["image"].shape[1:] == (HEIGHT, WIDTH)
        assert sample["labels"].dtype == torch.int64
        dataset.classes.paint(sample["labels"].numpy())  # refuses what is no class
    assert dataset[0]["labels"].flatten()[: len(first)].tolist() == first
    assert len({dataset.describe(index) for index in range(count)}) == count
    again = pickle.loads(pickle.dumps(dataset))
    torch.testing.assert_close(again[0], dataset[0], rtol=0, atol=0)


def test_what_the_classes_are_called(tmp_path):
    assert open_dataset(f"voc:{voc_root(tmp_path / 'v')}").classes.names[15] == "person"
    masks = open_dataset(f"coco:{masks_root(tmp_path / 'c')}")
    assert masks.classes.names == ("bicycle", "stop sign", "brush")  # in the order of their numbers, without gaps
    stuff = stuff_root(tmp_path / "s")
    assert open_dataset(f"coco:{stuff}").classes.names[11:13] == ("13", "14")
    (stuff / "labels.txt").write_text("".join(f"{number}: thing {number}\n" for number in range(183)))
    assert open_dataset(f"coco:{stuff}").classes.names[170] == "thing 182"
    ade = ade_root(tmp_path / "a")
    assert open_dataset(f"ade20k:{ade}").classes.names[:2] == ("0", "1")
    rows = ["Idx\tRatio\tTrain\tVal\tStuff\tName", *(f"{n}\t0.1\t1\t1\t1\tname {n}, other" for n in range(1, 151))]
    (ade / "ADEChallengeData2016" / "objectInfo150.txt").write_text("\n".join(rows))
    assert open_dataset(f"ade20k:{ade}").classes.names[149] == "name 150"
    assert open_dataset(f"camvid:{segnet_root(tmp_path / 'n')}").classes is CAMVID11
    assert open_dataset(f"camvid:{drawn_root(tmp_path / 'd')}").classes.colours == ((64, 128, 64), (64, 0, 128))


def test_stuff_has_171_classes_the_first_80_of_them_things():
    assert len(CATEGORIES) == 171
    assert [number for number in CATEGORIES if number <= 91][79] == 90
    assert sorted(STUFF[(STUFF >= 0) & (STUFF != IGNORE)].tolist()) == list(range(171))


def test_objects_are_numbered_and_their_rims_are_nothing(tmp_path):
    sample = open_dataset(f"voc:{voc_root(tmp_path)}:val")[0]
    assert sample["instances"].flatten()[:5].tolist() == [0, 1, 2, 3, 0]


def test_a_list_of_paths_is_one_of_names(tmp_path):
    root = voc_root(tmp_path, "/JPEGImages/{0}.jpg /SegmentationClassAug/{0}.png")
    assert len(open_dataset(f"voc:{root}?split=train&augmented=true")) == 2


def test_a_split_without_labels_does_not_give_them(tmp_path):
    root = ade_root(tmp_path)
    drop(root / "ADEChallengeData2016/annotations/validation/ADE_val_00000001.png")
    assert open_dataset(f"ade20k:{root}:val").gives == {"image"}
    assert open_dataset(f"ade20k:{root}:train").gives == {"image", "labels"}
    assert open_dataset(f"ade20k:{root}").gives == {"image"}  # what all frames have


def test_neighbours_are_frames_of_one_video_without_a_gap(tmp_path):
    root = segnet_root(tmp_path)
    drop(root / "train.txt")
    dataset = open_dataset(f"camvid:{root}?sources=1")
    assert [dataset.describe(index) for index in range(len(dataset))] == ["train/0001TP_006690.png"]


# real images


@real_data
@pytest.mark.parametrize(
    ("spec", "frames", "classes", "gives"),
    [
        ("camvid:{}/camvid", 367, 11, {"image", "labels"}),
        ("camvid:{}/camvid?video=true&sources=-1,1", 99, 11, {"image", "labels", "sources"}),
        ("coco:{}/coco_semantic", 100, 129, {"image", "labels"}),
        ("coco:{}/comma10k", 6, 5, {"image", "labels"}),
    ],
)
def test_real_labels_are_classes(spec, frames, classes, gives):
    dataset = open_dataset(spec.format(REAL))
    assert (len(dataset), len(dataset.classes), dataset.gives) == (frames, classes, gives)
    seen = set()
    for index in range(0, frames, -(-frames // 12)):
        seen |= set(dataset[index]["labels"].unique().tolist())
    assert len(seen - {IGNORE}) >= min(classes, 11) - 1
    assert seen <= {*range(classes), IGNORE}


# VOC's further forms


def test_trainval_is_a_split_but_no_part_of_all(tmp_path):
    root = voc_root(tmp_path)
    everything = len(open_dataset(f"voc:{root}"))
    with pytest.raises(CkaProbeError, match="no split 'trainval'"):
        open_dataset(f"voc:{root}:trainval")
    listed = root / VOC / "ImageSets" / "Segmentation" / "trainval.txt"
    listed.write_text("2007_000033\n2007_000032\n2007_000039\n")
    assert len(open_dataset(f"voc:{root}:trainval")) == 3
    assert len(open_dataset(f"voc:{root}")) == everything == 3


def test_labels_drawn_in_the_colours_of_the_palette_are_those_of_the_palette(tmp_path):
    root = voc_root(tmp_path)
    before = list(open_dataset(f"voc:{root}"))
    for folder in ("SegmentationClass", "SegmentationObject"):
        for path in (root / VOC / folder).glob("*.png"):
            with Image.open(path) as file:
                numbers = np.array(file)
            Image.fromarray(np.array(voc_colours(256), np.uint8)[numbers]).save(path)
    for old, new in zip(before, open_dataset(f"voc:{root}"), strict=True):
        torch.testing.assert_close(new, old, rtol=0, atol=0)
    write_image(root / VOC / "SegmentationClass" / "2007_000033.png")
    with pytest.raises(DataError, match=r"2007_000033.png: expected 256 colours of classes, found \("):
        open_dataset(f"voc:{root}:val")[0]
