"""What is wrong with a folder of labelled images is said in one line, with the file's path."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.label_files import (
    VOC,
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
from PIL import Image

from cka_probe.errors import CkaProbeError, DataError
from cka_probe.images.datasets import open_dataset
from cka_probe.lab.datasets.fields import read_flow, read_labels, read_steps

ADE = "ADEChallengeData2016"


def keep(root):
    """Spoil nothing."""


@pytest.mark.parametrize(
    ("make", "spoil", "spec", "message"),
    [
        # an image without labels, a split that is not there, a root that is none
        (voc_root, lambda r: drop(r / VOC / "SegmentationClass/2007_000039.png"), "voc:{}:train",
         r"VOC 2012 at .*: 1 of 2 images have no label, first: .*2007_000039.jpg \(expected .*2007_000039.png\)"),
        (ade_root, lambda r: drop(r / ADE / "annotations/training/ADE_train_00000002.png"), "ade20k:{}",
         r"ADE20K at .*: 1 of 2 images have no label, first: .*ADE_train_00000002.jpg"),
        (masks_root, lambda r: drop(r / "masks/1.png"), "coco:{}", r"1 of 3 images have no label, first: .*1.jpg"),
        (segnet_root, lambda r: drop(r / "trainannot/0001TP_006720.png"), "camvid:{}:train", r"1 of 2 images have"),
        (voc_root, lambda r: drop(r / VOC / "SegmentationObject/2007_000039.png"), "voc:{}:train", "have no objects"),
        (voc_root, keep, "voc:{}:test", r"no split 'test' in VOC 2012 at .*; there are: train, val, all"),
        (stuff_root, keep, "coco:{}:test", r"no split 'test' in COCO-Stuff at .*; there are: train, val, all"),
        (segnet_root, keep, "camvid:{}:val", r"no split 'val' in CamVid at .*; there are: train, test, all"),
        (segnet_root, keep, "camvid:{}:vall", r"no split 'vall'; did you mean 'val'"),
        (segnet_root, keep, "camvid:{}?video=true", r"expected the video of CamVid at .*; omit video=true"),
        (segnet_root, keep, "camvid:{}?sources=s", r"no stereo partner in CamVid at .*: omit 's'"),
        (segnet_root, keep, "camvid:{}?sources=-5", r"expected frames with sources -5 in CamVid .*, found none"),
        (drawn_root, keep, "camvid:{}:train", r"no split 'train' in CamVid at .*; there are: all"),
        (voc_root, keep, "ade20k:{}", r"expected ADE20K at .*: images/training and annotations/training"),
        (voc_root, keep, "coco:{}", r"expected images/ with masks/ or labels/.* found VOCdevkit; give"),
        (ade_root, keep, "voc:{}", r"expected VOC 2012 at .*: JPEGImages, SegmentationClass, ImageSets; found"),
        (ade_root, keep, "camvid:{}", r"expected CamVid at .*: train/images with train/labels, or train with"),
        *[(ade_root, keep, name + ":{}/absent", f"expected {what} at .*absent, found nothing there")
          for name, what in {"voc": "VOC 2012", "ade20k": "ADE20K", "coco": "images with masks",
                             "camvid": "CamVid"}.items()],
        # lists and tables
        (voc_root, lambda r: drop(r / VOC / "JPEGImages/2007_000033.jpg"), "voc:{}:val",
         r"val.txt: 1 of the 1 images it names are not in .*JPEGImages, first: 2007_000033; complete"),
        (voc_root, lambda r: (r / VOC / "ImageSets/Segmentation/val.txt").write_text("\n"), "voc:{}:val", "names none"),
        (voc_root, lambda r: (r / VOC / "ImageSets/Segmentation/val.txt").write_bytes(b"\xff\xfe"), "voc:{}:val",
         r"val.txt: expected a list of VOC's images as text, found other bytes"),
        (segnet_root, lambda r: (r / "train.txt").write_text("\na/b.png c"), "camvid:{}:train",
         r"train.txt, line 2: names b.png, which is not in .*train; complete it"),
        (masks_root, lambda r: drop(r / "classes.json"), "coco:{}", r"expected .*classes.json with what the labels"),
        (masks_root, lambda r: (r / "classes.json").write_text('{"a": "b"}'), "coco:{}",
         r'classes.json: expected \{"0": "road", .* found something else .*; fix it'),
        (masks_root, lambda r: (r / "classes.json").write_text('{"0": 1}'), "coco:{}", r"a name that is no string"),
        (masks_root, lambda r: (r / "classes.json").write_text("[1]"), "coco:{}", r"found something else"),
        (masks_root, lambda r: cut(r / "classes.json"), "coco:{}", r"found something else"),
        (masks_root, lambda r: (r / "classes.json").write_text('{"0": "void"}'), "coco:{}", r"254 classes, found 0"),
        (masks_root, lambda r: (r / "classes.json").write_text(json.dumps({n: str(n) for n in range(300)})), "coco:{}",
         r"expected 1 to 254 classes, found 299; labels are below 255"),
        (stuff_root, lambda r: (r / "labels.txt").write_text("1: person\n"), "coco:{}",
         r"labels.txt: expected lines of '1: person' for 171 categories, none for 2; fix it"),
        (ade_root, lambda r: (r / ADE / "objectInfo150.txt").write_text("Idx\tName\n1\twall\n"), "ade20k:{}",
         r"objectInfo150.txt: expected a line of titles and 150 of tabs between .*, found 1 lines"),
        (drawn_root, lambda r: (r / "label_colors.txt").write_text("64 128\tAnimal\n"), "camvid:{}",
         r"label_colors.txt: expected lines of '64 128 64 Animal', found something else"),
        (drawn_root, lambda r: (r / "label_colors.txt").write_text("64 128 640\tAnimal\n"), "camvid:{}", "beyond 255"),
        # what is in a label image
        (masks_root, lambda r: write_labels(r / "masks/0.png", [0, 5]), "coco:{}",
         r"masks/0.png: expected the numbers of 3 classes, found 5 in 24 of 48 pixels"),
        (masks_root, lambda r: write_labels(r / "masks/0.png", [0, 2], width=5), "coco:{}",
         r"0.jpg: expected labels of the image's 8x6 pixels, found 5x6"),
        (ade_root, lambda r: write_labels(r / ADE / "annotations/training/ADE_train_00000001.png", [151]), "ade20k:{}",
         r"expected the numbers of 150 classes, found 151"),
        (segnet_root, lambda r: cut(r / "trainannot/0001TP_006690.png"), "camvid:{}:train", "unreadable labels"),
        (stuff_root, lambda r: write_labels(r / "stuffthingmaps/train2017/000000000009.png", [11]), "coco:{}",
         r"expected the numbers of 171 classes, found 11"),
        (drawn_root, lambda r: write_image(r / "LabeledApproved_full/0006R0_f00930_L.png"), "camvid:{}",
         r"0006R0_f00930_L.png: expected 3 colours of classes, found \(\d+, \d+, \d+\), which is none; fix it"),
        (drawn_root, lambda r: write_labels(r / "LabeledApproved_full/0006R0_f00930_L.png", [1]), "camvid:{}",
         r"expected labels drawn in colours, found PNG of mode 'L'"),
        (drawn_root, lambda r: cut(r / "LabeledApproved_full/0006R0_f00930_L.png"), "camvid:{}", r"unreadable labels"),
        (drawn_root, lambda r: Image.new("RGB", (8, 6)).save(r / "701_StillsRaw_full/odd.png"), "camvid:{}",
         r"1 of 3 images have no label, first: .*odd.png"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(tmp_path, make, spoil, spec, message):
    root = make(tmp_path / "data")
    spoil(root)
    with pytest.raises(CkaProbeError, match=message) as caught:
        open_dataset(spec.format(root))[0]
    assert "\n" not in str(caught.value)


def test_a_frame_of_camvid_without_a_number_is_named(tmp_path):
    root = segnet_root(tmp_path)
    for folder in ("test", "testannot"):
        path: Path = root / folder / "0001TP_008550.png"
        path.rename(path.with_name("odd.png"))
    with pytest.raises(DataError, match=r"expected a name of video and number, as 0016E5_07959, found test/odd.png"):
        open_dataset(f"camvid:{root}:test")


@pytest.mark.parametrize("read", [read_steps, read_labels, read_flow])
def test_a_map_of_too_many_pixels_is_refused_in_one_line(tmp_path, monkeypatch, read):
    Image.fromarray(np.ones((8, 8), np.uint16)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 8)  # Pillow refuses images of more than twice that
    with pytest.raises(DataError, match=r"unreadable .* .*a.png: .*decompression bomb") as caught:
        read(tmp_path / "a.png")
    assert "\n" not in str(caught.value)
