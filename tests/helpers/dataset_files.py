"""Small datasets on disk: folders of images, and NYU Depth v2 in each of its layouts."""

import h5py
import numpy as np
import pytest
from helpers.paths import REAL
from PIL import Image
from scipy.io import savemat

from cka_probe.errors import DataError
from cka_probe.images.datasets import open_dataset

HEIGHT, WIDTH = 12, 16


def check_refused(spec, message):
    """Check that opening and reading all of a dataset raises an error of one line like `message`."""
    with pytest.raises(DataError, match=message) as caught:
        list(open_dataset(spec))
    assert "\n" not in str(caught.value)


real_data = pytest.mark.skipif(not REAL.is_dir(), reason="the real images (../shared/data) are not here")


def write_image(path, seed=0, height=HEIGHT, width=WIDTH):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def write_depth(path, seed=0, height=HEIGHT, width=WIDTH):
    path.parent.mkdir(parents=True, exist_ok=True)
    steps = np.random.default_rng(seed).integers(0, 9999, (height, width)).astype(np.uint16)
    Image.fromarray(steps).save(path)
    return steps


def write_pair(folder, number, seed=None):
    seed = number if seed is None else seed
    write_image(folder / f"rgb_{number:05d}.png", seed)
    write_depth(folder / f"sync_depth_{number:05d}.png", seed)


def folder_root(root):
    for split, count in (("train", 3), ("val", 2)):
        for number in range(count):
            write_image(root / split / f"class_{number % 2}" / f"{number}.png", number)
    return root


def mat_root(root):
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    with h5py.File(root / "nyu_depth_v2_labeled.mat", "w") as file:
        file["images"] = rng.integers(0, 256, (6, 3, WIDTH, HEIGHT), np.uint8)
        file["depths"] = rng.uniform(1, 9, (6, WIDTH, HEIGHT)).astype(np.float32)
        file["rawDepths"] = file["depths"][()] * (rng.uniform(size=(6, WIDTH, HEIGHT)) > 0.3).astype(np.float32)
    savemat(root / "splits.mat", {"trainNdxs": [[1], [3], [4], [6]], "testNdxs": [[2], [5]]})
    return root


def scenes_root(root):
    for scene in ("bedroom_0001", "kitchen_0002"):
        for number in (0, 7):
            write_pair(root / "nyu_depth_v2" / scene, number)
    write_pair(root / "nyu_depth_v2" / "official_splits" / "test" / "bathroom", 45)
    return root


def listed_root(root):
    scenes_root(root)
    lines = [
        "/bedroom_0001/rgb_00000.png /bedroom_0001/sync_depth_00000.png 518.8579",
        "kitchen_0002/rgb_00007.png kitchen_0002/sync_depth_00007.png",
    ]
    (root / "nyu_train.txt").write_text("\n".join(lines) + "\n")
    (root / "nyu_test.txt").write_text("bathroom/rgb_00045.png bathroom/sync_depth_00045.png 518.8579")  # no newline
    return root


def pairs_root(root):
    for number in range(7):
        write_image(root / "images" / f"{number:04d}.png", number)
        write_depth(root / "depth_mm" / f"{number:04d}.png", number)
    return root


def cut_short(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
