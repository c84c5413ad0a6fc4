"""Readers of labelled streets: KITTI's benchmark of 2015 with flow, Cityscapes with stereo and disparity."""

import pickle
import shutil

import numpy as np
import pytest
import torch
from helpers.label_files import cut, drop, write_image, write_labels
from helpers.street_files import HEIGHT, WIDTH, cityscapes_root, kitti_root, write_flow, write_png16
from PIL import Image

from cka_probe.errors import CkaProbeError, DataError
from cka_probe.images.datasets import open_dataset
from cka_probe.images.sample import IGNORE
from cka_probe.lab.datasets.fields import read_flow, read_occluded


def names(dataset):
    return [dataset.describe(index) for index in range(len(dataset))]


# flow


def test_flow_is_what_was_written_to_a_64th_of_a_pixel(tmp_path):
    flow = np.random.default_rng(0).uniform(-500, 500, (HEIGHT, WIDTH, 2))
    known = np.resize([1, 1, 0], (HEIGHT, WIDTH)).astype(bool)
    write_flow(tmp_path / "a.png", flow, known)
    found = read_flow(tmp_path / "a.png")
    assert found.shape == (2, HEIGHT, WIDTH)
    assert found.dtype == torch.float32
    np.testing.assert_array_equal(np.isfinite(found.numpy()), [known] * 2)
    assert np.abs(found.numpy().transpose(1, 2, 0) - flow)[known].max() <= 1 / 128 + 1e-6


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: write_image(p), r"expected flow as a PNG of 3 channels of 16 bits, found PNG of mode 'RGB'"),
        (
            lambda p: write_labels(p, [1], "I;16"),
            r"found PNG of mode 'I;16'; give the flow itself",
        ),
        (
            lambda p: write_png16(p, np.ones((40, 40, 3))) or cut(p),
            r"unreadable flow .*a.png: .*; fix it, or remove it and its image",
        ),
        (lambda p: None, r"unreadable flow .*a.png: .*; fix it, or remove it and its image"),
    ],
)
def test_what_is_no_flow_is_named(tmp_path, make, message):
    make(tmp_path / "a.png")
    with pytest.raises(DataError, match=message) as caught:
        read_flow(tmp_path / "a.png")
    assert "\n" not in str(caught.value)


def test_flows_of_two_sizes_are_no_occlusion(tmp_path):
    for width in (4, 5):
        write_png16(tmp_path / f"{width}.png", np.ones((3, width, 3)))
    with pytest.raises(DataError, match=r"5.png: expected 4x3 pixels as in .*4.png, found 5x3; fetch both again"):
        read_occluded(tmp_path / "4.png", tmp_path / "5.png")


# KITTI


def test_kitti_has_labels_things_flow_and_stereo(tmp_path):
    root = kitti_root(tmp_path)
    dataset = open_dataset(f"kitti_semantics:{root}?split=train&validation=0&sources=1,s")
    assert len(dataset) == 5
    assert dataset.gives == {
        "image", "labels", "instances", "flow", "occluded", "K", "sources", "source_T_target",
    }  # fmt: skip
    sample = dataset[2]
    assert set(sample) == dataset.gives
    assert dataset.classes.names[sample["labels"][0, 0]] == "road"
    assert sample["labels"][0, :5].tolist() == [0, 13, 2, IGNORE, IGNORE]
    assert sample["instances"][0, :3].tolist() == [0, 26 * 256 + 1, 26 * 256 + 2]
    assert sample["flow"][0, 0, :3].isfinite().tolist() == [True, True, False]
    assert sample["occluded"][0, 0, :3].tolist() == [False, True, False]
    assert sample["K"].tolist() == [[10, 0, 4], [0, 10, 3], [0, 0, 1]]
    assert sample["source_T_target"][1, :3, 3].tolist() == pytest.approx([-0.54, 0, 0])  # right: x - baseline
    assert sample["source_T_target"][0].isnan().all()
    for place, seed in enumerate((102, 202)):
        pixels = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        np.testing.assert_array_equal((sample["sources"][place] * 255).round().permute(1, 2, 0).numpy(), pixels)
    torch.testing.assert_close(pickle.loads(pickle.dumps(dataset))[2], sample, rtol=0, atol=0, equal_nan=True)


def test_kitti_is_split_by_a_seed_and_its_test_has_no_labels(tmp_path):
    root = kitti_root(tmp_path)
    parts = [names(open_dataset(f"kitti_semantics:{root}?split={split}&validation=2")) for split in ("train", "val")]
    assert [len(part) for part in parts] == [3, 2]
    everything = open_dataset(f"kitti_semantics:{root}?validation=2")
    test = open_dataset(f"kitti_semantics:{root}:test?validation=2")
    assert sorted(parts[0] + parts[1]) + names(test) == names(everything)
    assert everything.gives == test.gives == {"image"}
    assert names(test) == ["testing/image_2/000000_10.png", "testing/image_2/000001_10.png"]
    others = {tuple(names(open_dataset(f"kitti_semantics:{root}:val?validation=2&seed={n}"))) for n in range(12)}
    assert len(others) > 3
    with pytest.raises(DataError, match=r"KITTI semantics at .*: no image in this split; ask for validation=1"):
        open_dataset(f"kitti_semantics:{root}:val?validation=0")
    assert set(names(open_dataset(f"kitti_semantics:{root}:val?validation=1"))) < set(parts[1])


@pytest.mark.parametrize(
    ("spoil", "options", "message"),
    [
        (lambda r: drop(r / "training/semantic/000001_10.png"), "", r"1 of 5 images have no label, first: .*01_10"),
        (lambda r: drop(r / "training/instance/000001_10.png"), "", r"1 of 5 images have no instances"),
        (lambda r: drop(r / "training/flow_occ/000001_10.png"), "", r"1 of 5 images have no flow"),
        (lambda r: drop(r / "training/calib_cam_to_cam/000001.txt"), "", r"1 of 5 images have no calibration"),
        (lambda r: [p.unlink() for p in r.glob("training/image_3/*")],
         "&validation=0&sources=s", r"no stereo partner in KITTI"),
        (lambda r: [p.unlink() for p in r.glob("training/image_2/*_11*")], "&validation=0&sources=1",
         r"expected frames with sources 1 in KITTI semantics at .*, found none"),
        (lambda r: [p.unlink() for p in r.glob("training/image_2/*_10*")], "", r"named 000000_10.png in .*, found"),
        (lambda r: None, "&validation=5", r"validation=5: expected fewer than the 5 labelled images"),
        (lambda r: write_labels(r / "training/semantic/000000_10.png", [77]), "", r"000000_10.png: .* found 77 in 48"),
        (lambda r: cut(r / "training/instance/000000_10.png"), "", r"unreadable labels .*instance/000000_10.png"),
        (lambda r: (r / "training/calib_cam_to_cam/000000.txt").write_text("S_rect_02: 8\n"), "", r"000000.txt.*: "),
        (lambda r: r.joinpath("training").rename(r / "t"), "", r"KITTI semantics at .*found no training/image_2"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_kitti_is_said_in_one_line(tmp_path, spoil, options, message):
    root = kitti_root(tmp_path)
    spoil(root)
    with pytest.raises(CkaProbeError, match=message) as caught:
        open_dataset(f"kitti_semantics:{root}?split=train" + (options or "&validation=0"))[0]
    assert "\n" not in str(caught.value)


# Cityscapes


def test_cityscapes_has_labels_things_depth_and_stereo(tmp_path):
    dataset = open_dataset(f"cityscapes:{cityscapes_root(tmp_path)}?sources=s")
    assert len(dataset) == 3
    assert dataset.gives == {"image", "labels", "instances", "depth", "K", "sources", "source_T_target"}
    sample = dataset[0]
    assert sample["labels"][0, :4].tolist() == [0, 13, IGNORE, 18]
    assert sample["instances"][0, :4].tolist() == [0, 26000, 0, 33001]
    # p = 0 was not measured, p = 1 is infinitely far; z = fx baseline / ((p - 1) / 256)
    assert sample["depth"][0, 0, :4].tolist() == [0, 0, 20 * 0.25 / 1, 20 * 0.25 / 2.5]
    torch.testing.assert_close(sample["K"], torch.tensor([[20, 0, 4.1], [0, 20, 2.9], [0, 0, 1]]))
    assert sample["source_T_target"][0, :3, 3].tolist() == [-0.25, 0, 0]
    torch.testing.assert_close(pickle.loads(pickle.dumps(dataset))[0], sample, rtol=0, atol=0)


def test_neighbours_come_from_the_labelled_frames_and_from_the_video(tmp_path):
    root = cityscapes_root(tmp_path)
    assert names(open_dataset(f"cityscapes:{root}?sources=1")) == [
        "leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png"
    ]
    write_image(root / "leftImg8bit_sequence/val/ulm/ulm_000000_000020_leftImg8bit.png", 7)
    dataset = open_dataset(f"cityscapes:{root}:val?sources=1")
    assert names(dataset) == ["leftImg8bit/val/ulm/ulm_000000_000019_leftImg8bit.png"]
    assert "labels" in dataset[0]
    assert dataset[0]["sources"].shape == (1, 3, HEIGHT, WIDTH)


def test_labels_of_the_training_classes_are_taken_as_they_are(tmp_path):
    root = cityscapes_root(tmp_path)
    for path in root.rglob("*_labelIds.png"):
        write_labels(path.with_name(path.name.replace("labelIds", "labelTrainIds")), [0, 18, 255])
        path.unlink()
    assert open_dataset(f"cityscapes:{root}")[0]["labels"][0, :3].tolist() == [0, 18, IGNORE]


NAME = "train/aachen/aachen_000000_000019"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda r: drop(r / f"gtFine/{NAME}_gtFine_labelIds.png"), r"1 of 2 images have no label, first: .*19_left"),
        (lambda r: drop(r / f"gtFine/{NAME}_gtFine_instanceIds.png"), r"1 of 2 images have no instances"),
        (lambda r: drop(r / f"disparity/{NAME}_disparity.png"), r"1 of 2 images have no disparity"),
        (lambda r: drop(r / f"camera/{NAME}_camera.json"), r"1 of 2 images have no camera"),
        (lambda r: drop(r / f"rightImg8bit/{NAME}_rightImg8bit.png"), r"1 of 2 images have no right image"),
        (lambda r: cut(r / f"camera/{NAME}_camera.json"), r"camera.json: expected intrinsic fx, fy, u0, v0 and"),
        (lambda r: (r / f"camera/{NAME}_camera.json").write_text(
            (r / f"camera/{NAME}_camera.json").read_text().replace("0.25", "0")), r"a baseline above 0, found"),
        (lambda r: (r / f"camera/{NAME}_camera.json").write_text(
            (r / f"camera/{NAME}_camera.json").read_text().replace("4.1", "1096.98")),
         r"expected the camera of the 8x6 pixels of .*, found its centre at 1096.98, 2.9; scale the camera with"),
        (lambda r: Image.new("L", (8, 6)).save(r / f"disparity/{NAME}_disparity.png"), r"a 16-bit depth map, found"),
        (lambda r: cut(r / f"disparity/{NAME}_disparity.png"), r"unreadable depth map .*_disparity.png"),
        (lambda r: write_labels(r / f"gtFine/{NAME}_gtFine_labelIds.png", [34]), r"labelIds.png: .* found 34 in 48"),
        (lambda r: r.joinpath("leftImg8bit").rename(r / "left"), r"expected Cityscapes at .*: leftImg8bit/train/<c"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_cityscapes_is_said_in_one_line(tmp_path, spoil, message):
    root = cityscapes_root(tmp_path)
    spoil(root)
    with pytest.raises(CkaProbeError, match=message) as caught:
        open_dataset(f"cityscapes:{root}:train")[0]
    assert "\n" not in str(caught.value)


def test_the_extra_images_of_cityscapes_are_read_only_if_named(tmp_path):
    root = cityscapes_root(tmp_path)
    before = names(open_dataset(f"cityscapes:{root}"))
    for kind in ("leftImg8bit", "disparity", "camera"):
        shutil.copytree(root / kind / "train", root / kind / "train_extra")
    extra = open_dataset(f"cityscapes:{root}:train_extra")
    assert names(extra)
    assert all("train_extra" in name for name in names(extra))
    assert {"image", "depth"} <= extra.gives
    assert "labels" not in extra.gives
    assert names(open_dataset(f"cityscapes:{root}")) == before


def test_coarse_labels_are_read_only_if_asked_for(tmp_path):
    root = cityscapes_root(tmp_path)
    with pytest.raises(DataError, match=r"expected the coarse labels of .* in gtCoarse, found none"):
        open_dataset(f"cityscapes:{root}?coarse=true")
    shutil.copytree(root / "leftImg8bit" / "val", root / "leftImg8bit" / "train_extra")
    for image in root.glob("leftImg8bit/*/*/*.png"):
        name = image.relative_to(root / "leftImg8bit").as_posix().replace("leftImg8bit.png", "gtCoarse")
        write_labels(root / "gtCoarse" / f"{name}_labelIds.png", [11, 0])
        write_labels(root / "gtCoarse" / f"{name}_instanceIds.png", [11, 26003], "I;16")
    assert open_dataset(f"cityscapes:{root}:val")[0]["labels"][0, :2].tolist() == [0, 13]
    assert "labels" not in open_dataset(f"cityscapes:{root}:train_extra").gives
    for split in ("train", "val", "train_extra"):
        sample = open_dataset(f"cityscapes:{root}?split={split}&coarse=true")[0]
        assert sample["labels"][0, :2].tolist() == [2, IGNORE]
        assert sample["instances"][0, :2].tolist() == [0, 26003]


def test_labels_and_depth_of_cityscapes_are_found_next_to_images_of_any_format(tmp_path):
    cityscapes_root(tmp_path)
    gives = open_dataset(f"cityscapes:{tmp_path}:train").gives
    for path in [*tmp_path.glob("leftImg8bit/*/*/*.png"), *tmp_path.glob("rightImg8bit/*/*/*.png")]:
        with Image.open(path) as image:
            image.save(path.with_suffix(".jpg"))
        path.unlink()
    assert {"labels", "depth", "K"} <= gives
    assert open_dataset(f"cityscapes:{tmp_path}:train").gives == gives
