"""Every dataset keeps the contract, and what is wrong with one is said in one line."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from helpers.dataset_files import (
    HEIGHT,
    WIDTH,
    cut_short,
    folder_root,
    listed_root,
    mat_root,
    pairs_root,
    real_data,
    scenes_root,
    write_depth,
    write_pair,
)
from helpers.paths import REAL, ROOT
from PIL import Image
from scipy.io import savemat

from cka_probe import registry
from cka_probe.errors import DataError, UnknownNameError
from cka_probe.images.datasets import DATASETS, open_dataset
from cka_probe.images.sample import FIELDS
from cka_probe.lab.datasets.fields import read_depth
from cka_probe.lab.datasets.numbers import NYUV2, camera_matrix

ROOTS = {
    "folder": ("folder", folder_root),
    "nyuv2 mat": ("nyuv2", mat_root),
    "nyuv2 scenes": ("nyuv2", scenes_root),
    "nyuv2 lists": ("nyuv2", listed_root),
    "nyuv2 pairs": ("nyuv2", pairs_root),
}


@pytest.fixture(params=ROOTS)
def made(request, tmp_path):
    name, make = ROOTS[request.param]
    return name, make(tmp_path / "data")


def test_every_dataset_is_tried():
    places = [*Path(__file__).parent.glob("test_readers_*.py"), ROOT / "tests" / "lab" / "scenes" / "test_scenes.py"]
    elsewhere = "".join(path.read_text() for path in places)
    here = {name for name, _ in ROOTS.values()}
    assert here <= set(DATASETS)
    assert [name for name in DATASETS if name not in here and f"{name}:{{" not in elsewhere] == []


def test_a_sample_has_what_the_dataset_gives(made):
    name, root = made
    dataset = open_dataset(f"{name}:{root}")
    assert dataset.gives <= set(FIELDS)
    for index in range(len(dataset)):
        sample = dataset[index]
        assert set(sample) == dataset.gives
        assert sample["image"].shape == (3, HEIGHT, WIDTH)
        assert all(field.dtype == torch.float32 for field in sample.values())
        assert sample["image"].min() >= 0
        assert 0.5 < sample["image"].max() <= 1
        torch.testing.assert_close(dataset.image(index), sample["image"], rtol=0, atol=0)
        if "depth" in sample:
            assert sample["depth"].shape == (1, HEIGHT, WIDTH)
            assert 1 < sample["depth"].max() < 10
            assert sample["K"].shape == (3, 3)


def test_iterating_ends(made):
    name, root = made
    dataset = open_dataset(f"{name}:{root}")
    assert len(list(dataset)) == len(dataset)


# one dataset from one word


def test_a_bare_path_is_a_folder(tmp_path):
    root = folder_root(tmp_path / "a:b")
    assert len(open_dataset(root)) == len(open_dataset(str(root))) == len(open_dataset(f"folder:{root}")) == 5
    assert len(open_dataset(f"folder:{root}:val")) == 2


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nyu2:{root}", "no dataset 'nyu2'; did you mean 'nyuv2'"),
        ("folder:{root}:tran", "no split 'tran'; did you mean 'train'"),
        ("nyuv2:{root}:vall", "no split 'vall'; did you mean 'val'"),
    ],
)
def test_an_unknown_name_says_what_was_meant(tmp_path, spec, message):
    with pytest.raises(UnknownNameError, match=message):
        open_dataset(spec.format(root=folder_root(tmp_path / "data")))


def test_a_word_without_a_path_says_what_a_dataset_looks_like():
    with pytest.raises(DataError, match="expected NAME:PATH or NAME:PATH:SPLIT, found 'folder:' without a path"):
        open_dataset("folder:")


def test_a_split_that_is_not_there_says_which_are(tmp_path):
    with pytest.raises(DataError, match=r"no split 'test' in folder .*; there are: train, val, all"):
        open_dataset(f"folder:{folder_root(tmp_path / 'data')}:test")
    with pytest.raises(DataError, match=r"no split 'val' in NYU Depth v2 at .*; there are: train, test, all"):
        open_dataset(f"nyuv2:{pairs_root(tmp_path / 'pairs')}:val")


def test_a_folder_that_is_not_there_or_empty_says_so(tmp_path):
    with pytest.raises(DataError, match=r"expected a folder of images at .*, found nothing"):
        open_dataset(tmp_path / "absent")
    with pytest.raises(DataError, match=r"no images below .*: expected files ending in"):
        open_dataset(tmp_path)


# NYU Depth v2


def test_the_mat_file_is_read_with_its_axes_turned_back(tmp_path):
    root = mat_root(tmp_path)
    with h5py.File(root / "nyu_depth_v2_labeled.mat") as file:
        image, raw = file["images"][4], file["rawDepths"][4]
    test = open_dataset(f"nyuv2:{root}:test")
    assert [test.describe(i) for i in range(2)] == ["nyu_depth_v2_labeled.mat#00001", "nyu_depth_v2_labeled.mat#00004"]
    np.testing.assert_array_equal((test[1]["image"] * 255).round().numpy(), image.transpose(0, 2, 1))
    np.testing.assert_array_equal(test[1]["depth"][0].numpy(), raw.T)
    assert (test[1]["depth"] == 0).any()
    assert len(open_dataset(f"nyuv2:{root}:train")) == 4
    assert len(registry.get(DATASETS, "nyuv2", "dataset")(root / "nyu_depth_v2_labeled.mat", "all")) == 6


def test_lists_say_which_frames(tmp_path):
    root = listed_root(tmp_path)
    train, test = (open_dataset(f"nyuv2:{root}:{split}") for split in ("train", "test"))
    assert [train.describe(i) for i in range(len(train))] == [
        "nyu_depth_v2/bedroom_0001/rgb_00000.png",
        "nyu_depth_v2/kitchen_0002/rgb_00007.png",
    ]
    assert test.describe(0) == "nyu_depth_v2/official_splits/test/bathroom/rgb_00045.png"
    assert len(open_dataset(f"nyuv2:{root / 'nyu_depth_v2'}:train")) == 4  # below the lists: every pair


def test_lists_may_lie_with_the_frames_and_below_sync(tmp_path):
    write_pair(tmp_path / "sync" / "office_0001", 3)
    (tmp_path / "train_list.txt").write_text("/office_0001/rgb_00003.png /office_0001/sync_depth_00003.png 518.8579\n")
    assert open_dataset(f"nyuv2:{tmp_path}:train").describe(0) == "sync/office_0001/rgb_00003.png"


def test_two_folders_are_cut_so_that_the_last_third_is_for_testing(tmp_path):
    root = pairs_root(tmp_path)
    train, test = (open_dataset(f"nyuv2:{root}:{split}") for split in ("train", "test"))
    assert [train.describe(i)[7:11] for i in range(len(train))] == ["0000", "0001", "0002", "0003", "0004"]
    assert [test.describe(i)[7:11] for i in range(len(test))] == ["0005", "0006"]


def test_depth_is_metres_and_keeps_its_zeros(tmp_path):
    steps = write_depth(tmp_path / "depth.png")
    steps[0, 0], steps[0, 1] = 0, 65535
    Image.fromarray(steps).save(tmp_path / "depth.png")
    depth = read_depth(tmp_path / "depth.png")
    np.testing.assert_allclose(depth[0].numpy() * 1000, steps, rtol=1e-6)
    assert depth[0, 0, 0] == 0
    assert depth[0, 0, 1] == pytest.approx(65.535)


def test_the_camera_follows_the_size_it_is_stored_at(tmp_path):
    K = open_dataset(f"nyuv2:{pairs_root(tmp_path)}")[0]["K"]
    assert K[0, 0] == pytest.approx(518.8579 * WIDTH / 640)
    assert K[1, 2] == pytest.approx((253.7362 + 0.5) * HEIGHT / 480 - 0.5)
    torch.testing.assert_close(camera_matrix(NYUV2, 480, 640)[0], torch.tensor([518.8579, 0, 325.5824]))


def test_a_camera_beside_the_frames_goes_before_the_kinects(tmp_path):
    root = pairs_root(tmp_path / "pairs")
    (root / "intrinsics.json").write_text(
        json.dumps({"width": 32, "height": 24, "fx": 30, "fy": 28, "cx": 15.5, "cy": 11.5})
    )
    expected = torch.tensor([[15, 0, 7.5], [0, 14, 5.5], [0, 0, 1]])
    torch.testing.assert_close(open_dataset(f"nyuv2:{root}")[0]["K"], expected)
    scenes = scenes_root(tmp_path / "scenes")
    (scenes / "nyu_depth_v2" / "bedroom_0001" / "cam.txt").write_text("15 0 7.5\n0 14 5.5\n0 0 1\n")
    dataset = open_dataset(f"nyuv2:{scenes}")
    torch.testing.assert_close(dataset[0]["K"], expected)
    assert dataset[2]["K"][0, 0] == pytest.approx(518.8579 * WIDTH / 640)


def test_a_frame_of_two_sizes_names_both_files(tmp_path):
    root = pairs_root(tmp_path)
    write_depth(root / "depth_mm" / "0000.png", width=8)
    with pytest.raises(
        DataError, match=r"of one size, found 16x12 in .*images/0000.png and 8x12 in .*depth_mm/0000.png"
    ):
        open_dataset(f"nyuv2:{root}")[0]


def test_depth_of_8_bits_is_refused(tmp_path):
    root = pairs_root(tmp_path)
    Image.new("L", (WIDTH, HEIGHT), 7).save(root / "depth_mm" / "0000.png")
    with pytest.raises(DataError, match=r"expected a 16-bit depth map, found mode 'L' \(8 bits\); give the raw depth"):
        open_dataset(f"nyuv2:{root}")[0]


@pytest.mark.parametrize(
    ("make", "spoil", "split", "message"),
    [
        (lambda r: r.mkdir() or r, lambda r: None, "all", r"found an empty folder; give the folder that holds one"),
        (folder_root, lambda r: None, "all", r"nyu_depth_v2_labeled.mat, or .*rgb_\*.jpg.*, or images/ with depth_mm/"),
        (folder_root, lambda r: None, "test", r"found train, val; give the folder"),
        (lambda r: r, lambda r: None, "all", r"expected NYU Depth v2 at .*, found nothing there; check the path"),
        (listed_root, lambda r: (r / "nyu_depth_v2/kitchen_0002/sync_depth_00007.png").unlink(), "train",
         r"nyu_train.txt names .*kitchen_0002/sync_depth_00007.png, which does not exist; complete the data"),
        (listed_root, lambda r: (r / "nyu_test.txt").write_text("one_word\n"), "test",
         r"nyu_test.txt: expected lines of 'rgb depth \[focal\]', found 'one_word'; fix the list"),
        (scenes_root, lambda r: [p.unlink() for p in r.rglob("official_splits/test/*/sync*")], "test",
         r"no split 'test' in NYU Depth v2 at .*: expected nyu_test.txt or frames below official_splits/test"),
        (pairs_root, lambda r: (r / "depth_mm/0003.png").unlink(), "all",
         r"expected .*depth_mm/0003\.\* for .*images/0003.png, found none; add or remove"),
        (pairs_root, lambda r: [p.unlink() for p in (r / "images").iterdir()], "all", r"no images in .*images"),
        (pairs_root, lambda r: (r / "intrinsics.json").write_text("{}"), "all",
         r"intrinsics.json: expected fx, fy, cx, cy, found something else .*; fix or remove it"),
        (pairs_root, lambda r: cut_short(r / "depth_mm/0000.png"), "all", r"unreadable depth map .*0000.png"),
        (mat_root, lambda r: cut_short(r / "nyu_depth_v2_labeled.mat"), "all",
         r"expected the whole HDF5 file .*, found one that does not open .*; fetch it again"),
        (mat_root, lambda r: (r / "nyu_depth_v2_labeled.mat").write_bytes(b"MATLAB 5.0"), "all", "fetch it again"),
        (mat_root, lambda r: (r / "splits.mat").unlink(), "train",
         r"the split 'train' needs .*splits.mat, found none; add it or use the split 'all'"),
        (mat_root, lambda r: savemat(r / "splits.mat", {"other": 1}), "test", r"expected testNdxs .*, found none"),
        (mat_root, lambda r: savemat(r / "splits.mat", {"testNdxs": [[1449]]}), "test",
         r"splits.mat counts to 1449, but the .mat file has 6 frames: not a pair"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_nyuv2_is_said_in_one_line(tmp_path, make, spoil, split, message):
    root = make(tmp_path / "data")
    spoil(root)
    with pytest.raises(DataError, match=message) as caught:
        open_dataset(f"nyuv2:{root}:{split}")[0]
    assert "\n" not in str(caught.value)


def test_a_mat_without_the_depth_says_what_it_has(tmp_path):
    with h5py.File(tmp_path / "nyu_depth_v2_labeled.mat", "w") as file:
        file["images"] = np.zeros((1, 3, 4, 4), np.uint8)
    with pytest.raises(DataError, match="expected variables images and rawDepths, found images"):
        open_dataset(f"nyuv2:{tmp_path}")


# real images


@real_data
def test_real_frames_are_indoor_rooms_in_metres():
    train, test = (open_dataset(f"nyuv2:{REAL / 'nyuv2'}:{split}") for split in ("train", "test"))
    assert (len(train), len(test)) == (266, 132)
    assert train.describe(len(train) - 1) < test.describe(0)
    sample = test[0]
    assert sample["image"].shape[1:] == sample["depth"].shape[1:] == (240, 320)
    assert 1 < sample["depth"].median() < 10
    assert sample["K"][0, 0] == pytest.approx(518.8579 / 2)
    assert sample["K"][0, 2] == pytest.approx(162.5412)


@real_data
def test_real_images_are_a_folder():
    dataset = open_dataset(REAL / "caltech101")
    assert len(dataset) == 600
    assert dataset.describe(0) == "Faces/image_0001.jpg"
