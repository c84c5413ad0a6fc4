"""NYU Depth v2 with labels on disk, in each of its layouts."""

import h5py
import numpy as np
from helpers.dataset_files import mat_root, pairs_root, scenes_root
from PIL import Image
from scipy.io import savemat

from cka_probe.images.sample import IGNORE

HEIGHT, WIDTH = 12, 16


MAPPING = np.random.default_rng(5).permutation(np.resize(np.arange(1, 41), 894))


def labelled_mat(root, mapping=True):
    root = mat_root(root)
    rng = np.random.default_rng(1)
    with h5py.File(root / "nyu_depth_v2_labeled.mat", "a") as file:
        file["labels"] = rng.integers(0, 895, (6, WIDTH, HEIGHT)).astype(np.uint16)
        file["instances"] = np.where(file["labels"][()] > 0, rng.integers(1, 4, (6, WIDTH, HEIGHT)), 0).astype(np.uint8)
    if mapping:
        savemat(root / "classMapping40.mat", {"mapClass": MAPPING[None], "classMapping40": "…"})
    return root


def write_labels(path, count):
    path.parent.mkdir(parents=True, exist_ok=True)
    numbers = np.resize([*range(count), IGNORE], (HEIGHT, WIDTH)).astype(np.uint8)
    Image.fromarray(numbers).save(path)
    return numbers


def labelled_pairs(root, count):
    root = pairs_root(root)
    for image in (root / "images").iterdir():
        numbers = write_labels(root / f"labels{count}" / image.name, count)
    return root, numbers


def labelled_scenes(root, count):
    root = scenes_root(root)
    for image in root.rglob("rgb_*.png"):
        numbers = write_labels(image.with_name(image.name.replace("rgb_", f"labels{count}_")), count)
    return root, numbers
