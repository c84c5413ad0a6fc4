"""Readers of labelled images: label files of every kind, VOC, ADE20K, COCO, CamVid."""

import json
import pickle

import numpy as np
import pytest
import torch
from helpers.paths import REAL
from PIL import Image

from cka_probe.errors import DataError
from cka_probe.images.classes import CAMVID11, VOC21, table
from cka_probe.images.datasets import open_dataset
from cka_probe.images.sample import IGNORE
from cka_probe.lab.datasets.coco import CATEGORIES, STUFF
from cka_probe.lab.datasets.labels import plain_numbering, read_labels

HEIGHT, WIDTH = 6, 8
real_data = pytest.mark.skipif(not REAL.is_dir(), reason="the real images (../shared/data) are not here")


def write_image(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)).save(path)


def write_labels(path, numbers, kind="L", width=WIDTH):
    """Write labels that go through the numbers in turn."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.resize(np.array(numbers), (HEIGHT, width))
    file = Image.fromarray(pixels.astype(np.uint16 if kind == "I;16" else np.uint8))
    if kind == "P":
        file = file.convert("L")
        file.putpalette([value for colour in VOC21.colours for value in colour])
    file.save(path)
    return pixels


def drop(path):
    path.unlink()


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


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
        (lambda p: write_labels(p, [0]) is cut(p), r"unreadable labels .*a.png: .*; mend or remove them"),
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


def voc_root(root, form="{}"):
    base = root / "VOCdevkit" / "VOC2012"
    names = {
        "train": ["2007_000032", "2007_000039"],
        "val": ["2007_000033"],
        "train_aug": ["2007_000032", "2008_000002"],
    }
    for name in sorted({name for listed in names.values() for name in listed}):
        write_image(base / "JPEGImages" / f"{name}.jpg", int(name[-2:]))
        folder = "SegmentationClassAug" if name.startswith("2008") else "SegmentationClass"
        write_labels(base / folder / f"{name}.png", [0, 1, 15, 20, 255], "P")
        if folder == "SegmentationClass":
            write_labels(base / "SegmentationObject" / f"{name}.png", [0, 1, 2, 3, 255], "P")
    write_labels(base / "SegmentationClassAug" / "2007_000032.png", [0, 2, 255])
    for name, listed in names.items():
        path = base / "ImageSets" / "Segmentation" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(form.format(line) for line in listed))  # the last line has no end
    return root


def ade_root(root):
    for part, name, count in (("training", "train", 2), ("validation", "val", 1)):
        for number in range(count):
            stem = f"{part}/ADE_{name}_{number + 1:08d}"
            write_image(root / "ADEChallengeData2016" / "images" / f"{stem}.jpg", number)
            write_labels(root / "ADEChallengeData2016" / "annotations" / f"{stem}.png", [0, 1, 150])
    return root


def masks_root(root):
    for number in range(3):
        write_image(root / "images" / f"{number}.jpg", number)
        write_labels(root / "masks" / f"{number}.png", [0, 2, 13, 90])
    (root / "classes.json").write_text(json.dumps({"13": "stop sign", "0": "unlabeled", "2": "bicycle", "90": "brush"}))
    return root


def stuff_root(root):
    for part in ("train2017", "val2017"):
        write_image(root / "images" / part / "000000000009.jpg")
        write_labels(root / "stuffthingmaps" / part / "000000000009.png", [0, 12, 89, 91, 181, 255])
    return root


def segnet_root(root):
    for part, names in {
        "train": ["0001TP_006690", "0001TP_006720", "0001TP_006780"],
        "test": ["0001TP_008550"],
    }.items():
        for number, name in enumerate(names):
            write_image(root / part / f"{name}.png", number)
            write_labels(root / f"{part}annot" / f"{name}.png", [0, 5, 10, 11])
    lines = [
        f"/SegNet/CamVid/train/0001TP_{n}.png /SegNet/CamVid/trainannot/0001TP_{n}.png" for n in ("006690", "006720")
    ]
    (root / "train.txt").write_text("\n".join(lines))
    return root


def drawn_root(root):
    colours = {"Animal": (64, 128, 64), "Car": (64, 0, 128), "Void": (0, 0, 0)}
    for name in ("0006R0_f00930", "0016E5_00390"):
        write_image(root / "701_StillsRaw_full" / f"{name}.png")
        path = root / "LabeledApproved_full" / f"{name}_L.png"
        path.parent.mkdir(exist_ok=True)
        pixels = np.array(list(colours.values()), np.uint8)[np.resize([0, 1, 2], (HEIGHT, WIDTH))]
        Image.fromarray(pixels).save(path)
    text = "".join(f"{r} {g} {b}\t{name}\n" for name, (r, g, b) in colours.items())
    (root / "label_colors.txt").write_text(text)
    return root


VOC = "VOCdevkit/VOC2012"
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
