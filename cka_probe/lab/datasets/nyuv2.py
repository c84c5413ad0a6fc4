"""NYU Depth v2 (Silberman, Hoiem, Kohli & Fergus 2012): indoor images with measured depth.

Three layouts are recognised by what is at the root:

1. `nyu_depth_v2_labeled.mat`, with `splits.mat` next to it for "train" and "test".
2. The folders of BTS, AdaBins and MIM-Depth, at the root or in `nyu_depth_v2` below it:
   `<scene>/rgb_00045.jpg` with `<scene>/sync_depth_00045.png` for "train" and the same below
   `official_splits/test/` for "test". List files (`nyu_train.txt`, `nyu_test.txt`; lines of "rgb depth [focal]")
   select the frames; without them every pair is used.
3. `images/` and `depth_mm/` with the same names. "test" is the last third of the sorted names and "train" the rest:
   NYU numbers its frames scene by scene, so this cut splits at most a few rooms, whereas taking every third frame
   would put the neighbours of each test frame into training.

**Files.** Depth is 16-bit PNG in millimetres. Where a frame has no `cam.txt` and the root no `intrinsics.json`, K is
that of NYU's Kinect, for the size at which the frame is stored.

| layout | labels | camera | poses |
|---|---|---|---|
| scenes | `labels13_00045.png` or `labels40_00045.png` with `rgb_00045.jpg` | `cam.txt` in the folder | `poses.txt` |
| pairs | `labels13/` or `labels40/` next to `images/` | `intrinsics.json` at the root | |

Label images hold class numbers from 0 (see `images.classes.NYU13`, `NYU40`), 255 = none. 40 classes are mapped to 13
by a table; there is no mapping in the other direction. `poses.txt` has one line for each image of its folder.

**The .mat file** is HDF5 (MATLAB v7.3) with 1449 frames, whose arrays h5py returns with the axes reversed: `images`
(1449, 3, W, H) uint8 and `rawDepths` (1449, W, H) float32 metres, 0 where the Kinect measured nothing. The in-painted
`depths` are not read, because papers evaluate on measured depth. `splits.mat` is MATLAB v5: `trainNdxs` and
`testNdxs`, counted from 1. `labels` (1449, W, H) uint16 distinguish 894 kinds of objects, 0 = no label; `mapClass` of
`classMapping40.mat` (1, 894), placed next to the file, maps them to 40 classes counted from 1 (Gupta et al. 2013),
and those to 13. `instances` count the objects of one kind within an image; kind and count together identify one.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.io import loadmat
from torch import Tensor

from cka_probe.errors import DataError
from cka_probe.images.classes import NYU13, NYU40, NYU40_TO_13
from cka_probe.images.datasets import Dataset, check_split
from cka_probe.images.reading import SUFFIXES, image_size, images_in, walk_images
from cka_probe.images.sample import IGNORE
from cka_probe.lab.datasets import fields
from cka_probe.lab.datasets.frames import Frame, Frames
from cka_probe.lab.datasets.numbers import (
    NYUV2,
    camera_matrix,
    camera_of,
    path_below,
    read_camera,
    read_lines,
    read_poses,
)

if TYPE_CHECKING:
    import h5py

CLASSES = {13: NYU13, 40: NYU40}

LabelPath = Callable[[Path, int], Path]
"""Returns the expected path of the labels of an image in 13 or 40 classes."""

Pair = tuple[Path, Path]
"""An image and its depth map."""


def labels_in_scene(image: Path, classes: int) -> Path:
    """Return the expected path of the labels of an image in a folder of a scene."""
    return image.with_name(f"labels{classes}_{image.stem.removeprefix('rgb_')}.png")


def labels_next_to_images(image: Path, classes: int) -> Path:
    """Return the expected path of the labels of an image in `images/`."""
    return image.parents[1] / f"labels{classes}" / f"{image.stem}.png"


def paired_frames(
    root: Path, pairs: Sequence[Pair], classes: int, label_path: LabelPath, camera: dict[str, float] | None = None
) -> list[Frame]:
    """Return frames of images with a depth map each.

    Args:
        root: The folder that names are relative to.
        pairs: The files.
        classes: 13 or 40 classes of labels, which have to exist; 0 for 13 if there are labels.
        label_path: Expected paths of labels.
        camera: Intrinsics of all frames, see `camera_matrix`; by default those of `cam.txt` next to each image.

    Raises:
        DataError: Labels are missing; the camera or the poses are broken.
    """
    images, depths = [image for image, _ in pairs], [depth for _, depth in pairs]
    paths, numbering = _labels(root, images, classes, label_path)
    cameras, poses = lru_cache(maxsize=None)(_camera), lru_cache(maxsize=None)(_poses)
    readers = {
        "depth": fields.each(_depth, depths, images),
        "K": fields.each(camera_of, [camera or cameras(image.parent) for image in images], images),
        "labels": fields.each(fields.read_labels, paths, numbering=numbering),
    }
    frames = fields.list_frames(root, images, readers)
    for index, image in enumerate(images):
        pose = poses(image.parent).get(image.stem)
        if pose is not None:
            pose_reader = {"world_T_target": partial(torch.tensor, pose)}
            frames[index] = replace(frames[index], fields={**frames[index].fields, **pose_reader})
    return frames


def _labels(
    root: Path, images: list[Path], classes: int, label_path: LabelPath
) -> tuple[list[Path] | None, np.ndarray | None]:
    """Return the label images, and the table from their numbers to classes."""
    count, where = classes or len(NYU13), f"NYU Depth v2 at {root}"
    paths = fields.partners(images, lambda image: label_path(image, count), where)
    if paths is None and count == len(NYU13):
        forty = fields.partners(images, lambda image: label_path(image, len(NYU40)), where)
        if forty is not None:
            return forty, NYU40_TO_13
    if paths is None and classes:
        other = f" or {label_path(images[0], 40)}" if classes == len(NYU13) else ""
        raise DataError(
            f"{where}: expected labels of {classes} classes for each image, as {label_path(images[0], classes)}"
            f"{other}, found none; add them or omit classes="
        )
    return paths, fields.plain_numbering(count)


def _depth(path: Path, image: Path) -> Tensor:
    """Return the depth of an image, (1, H, W) float32 metres, which has to be of its size."""
    depth, (height, width) = fields.read_depth(path), image_size(image)
    if depth.shape[1:] != (height, width):
        raise DataError(
            f"expected an image and depth of one size, found {width}x{height} in {image} and "
            f"{depth.shape[2]}x{depth.shape[1]} in {path}; register one to the other first"
        )
    return depth


def _camera(folder: Path, name: str = "cam.txt") -> dict[str, float]:
    """Return the camera in a file of a folder, or the Kinect's."""
    path = folder / name
    return read_camera(path) if path.is_file() else NYUV2


def _poses(folder: Path) -> dict[str, list[list[float]]]:
    """Return the poses of the images of a scene by name without suffix; none without `poses.txt`."""
    path = folder / "poses.txt"
    if not path.is_file():
        return {}
    names = [image.stem for image in images_in(folder) if image.stem.startswith("rgb_")]
    return dict(zip(names, read_poses(path, len(names)).astype(np.float32).tolist(), strict=True))


MAT = "nyu_depth_v2_labeled.mat"
MAPPING = "classMapping40.mat"
_NDXS = {"train": "trainNdxs", "test": "testNdxs"}


DAMAGED = (AttributeError, KeyError, RuntimeError, TypeError, ValueError)
"""What h5py raises for a damaged file, besides OSError."""


class LabeledMat:
    """The frames of `nyu_depth_v2_labeled.mat`.

    The file is opened by the first read in each process, because an HDF5 handle must not cross a fork.

    Args:
        path: The .mat file.
        split: "train" or "test", as listed in `splits.mat` next to it, or "all".
        classes: 13 or 40 classes of labels, which need the mapping; 0 for 13 if the mapping exists, else no labels.

    Raises:
        DataError: The file is truncated or not HDF5, a variable is missing, or there is no `splits.mat`.
    """

    def __init__(self, path: str | Path, split: str = "all", classes: int = 0):
        self.path = Path(path)
        self._file: h5py.File | None = None
        self._process: int | None = None
        try:
            with _opened(self.path) as file:
                variables = frozenset(file)
                if not {"images", "rawDepths"} <= variables:
                    names = ", ".join(sorted(key for key in variables if not key.startswith("#"))) or "nothing"
                    raise DataError(
                        f"{self.path}: expected variables images and rawDepths, found {names}; fetch it again"
                    )
                frames = len(file["images"])
        except DAMAGED as error:
            raise DataError(
                f"{self.path}: expected NYU Depth v2, found a damaged one ({error}); get it again"
            ) from error
        self.frames = np.arange(frames) if split == "all" else _split(self.path.with_name("splits.mat"), split, frames)
        self.camera = _camera(self.path.parent, "intrinsics.json")
        self.numbering = _numbering(self.path, "labels" in variables, classes)
        self.classes = None if self.numbering is None else NYU40 if classes == 40 else NYU13
        self.gives = frozenset({"image", "depth", "K"})
        if self.numbering is not None:
            self.gives |= {"labels"}
        if {"labels", "instances"} <= variables:
            self.gives |= {"instances"}

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        image = self.image(index)
        depth = torch.from_numpy(np.ascontiguousarray(self._read("rawDepths", index).T, dtype=np.float32))
        sample = {"image": image, "depth": depth[None], "K": camera_matrix(self.camera, *image.shape[1:])}
        if self.gives & {"labels", "instances"}:
            kinds = self._read("labels", index).T.astype(np.int64)
        if self.numbering is not None:
            where = f"{self.path}, labels of {self.describe(index)}"
            sample["labels"] = torch.from_numpy(fields.renumbered(kinds, self.numbering, where))
        if "instances" in self.gives:
            number = self._read("instances", index).T.astype(np.int64)
            things = np.where((kinds > 0) & (number > 0), kinds * 256 + number, 0)
            sample["instances"] = torch.from_numpy(things)
        return sample

    def image(self, index: int) -> Tensor:
        """Return image `index`, (3, H, W) float32 RGB in [0, 1]."""
        pixels = np.ascontiguousarray(self._read("images", index).transpose(0, 2, 1))  # (3, W, H) as stored
        return torch.from_numpy(pixels).float().div_(255.0)

    def describe(self, index: int) -> str:
        """Return the file's name and the frame's number, from 0 as the extracted files are numbered."""
        return f"{self.path.name}#{int(self.frames[index]):05d}"

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_file": None, "_process": None}

    def _read(self, name: str, index: int) -> np.ndarray:
        """Return one frame of a variable, as stored."""
        if self._file is None or self._process != os.getpid():
            self._file, self._process = _opened(self.path), os.getpid()
        try:
            value = np.asarray(self._file[name][int(self.frames[index])])
            if value.ndim != 2 + (name == "images") or value.dtype.kind not in "uif":
                raise ValueError(f"values of shape {value.shape} and type {value.dtype}")
            return value
        except (OSError, *DAMAGED) as error:
            raise DataError(f"{self.path}: cannot read {name} of {self.describe(index)}: {error}") from error


def _opened(path: Path) -> "h5py.File":
    """Return the open file.

    Raises:
        DataError: It cannot be opened.
    """
    import h5py  # only the .mat file needs the extra

    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DataError(
            f"{path}: expected the whole HDF5 file (MATLAB v7.3) of NYU Depth v2, found one that does not open "
            f"({error}); fetch it again"
        ) from error


def _numbering(path: Path, labelled: bool, classes: int) -> np.ndarray | None:
    """Return the table from the 894 kinds of objects in the file to classes; None if it has no labels or no mapping."""
    mapping = path.with_name(MAPPING)
    if not (labelled and mapping.is_file()):
        if classes:
            lacks = f"{mapping} (mapClass: the 40 classes of the 894)" if labelled else f"the variable labels in {path}"
            raise DataError(f"labels of {classes} classes need {lacks}, found none; add it or omit classes=")
        return None
    forty = _read_integers(mapping, "mapClass")
    if not len(forty) or forty.min() < 1 or forty.max() > len(NYU40):
        raise DataError(f"{mapping}: expected classes 1 to 40 in mapClass, found another; fetch it again")
    return np.concatenate([[IGNORE], forty - 1 if classes == len(NYU40) else NYU40_TO_13[forty - 1]])


def _read_integers(path: Path, name: str) -> np.ndarray:
    """Return a variable of a MATLAB v5 file, (n,) int64."""
    try:
        return loadmat(path)[name].ravel().astype(np.int64)
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError) as error:
        raise DataError(f"{path}: expected {name} (MATLAB v5), found none ({error!r}); fetch it again") from error


def _split(path: Path, split: str, count: int) -> np.ndarray:
    """Return the frames of a split, counted from 0, in the order of the file; there are `count` in all."""
    if not path.is_file():
        raise DataError(f"the split {split!r} needs {path}, found none; add it or use the split 'all'")
    frames = _read_integers(path, _NDXS[split]) - 1
    if len(frames) and not (frames.min() >= 0 and frames.max() < count):
        raise DataError(f"{path} counts to {frames.max() + 1}, but the .mat file has {count} frames: not a pair")
    return frames


LISTS = {
    "train": ("nyu_train.txt", "train_list.txt", "nyudepthv2_train_files_with_gt.txt"),
    "test": ("nyu_test.txt", "test_list.txt", "nyudepthv2_test_files_with_gt.txt"),
}
BELOW = {"train": (".", "sync", "train"), "test": ("official_splits/test", ".", "test")}


def nyuv2(root: str | Path, split: str = "all", *, classes: int = 0) -> Dataset:
    """Return NYU Depth v2, in any of its three layouts.

    Args:
        root: The folder (or the .mat file itself).
        split: "train", "test", or "all", which is both.
        classes: 13 or 40 classes of labels, which have to exist; 0 for 13 if there are labels.

    Returns:
        A dataset that gives `image`, `depth`, `K` and, where they exist, `labels`, `instances` and `world_T_target`.

    Raises:
        UnknownNameError: No dataset has a split of this name.
        DataError: The folder has none of the layouts, or something in it is missing or broken.
    """
    root = Path(root)
    check_split(split, ("train", "test", "all"), f"NYU Depth v2 at {root}")
    if classes not in (0, *CLASSES):
        raise DataError(f"classes={classes}: expected 13 or 40")
    if not root.exists():
        raise DataError(f"expected NYU Depth v2 at {root}, found nothing there; check the path")
    mat = root if root.is_file() else root / MAT
    if mat.is_file():
        return LabeledMat(mat, split, classes)
    if (root / "images").is_dir() and (root / "depth_mm").is_dir():
        pairs, camera = _part(_pairs_by_stem(root), split), _camera(root, "intrinsics.json")
        frames = paired_frames(root, pairs, classes, labels_next_to_images, camera)
    else:
        base = root / "nyu_depth_v2" if (root / "nyu_depth_v2").is_dir() else root
        parts = [_scene_pairs(root, base, part) for part in (("train", "test") if split == "all" else (split,))]
        if not any(parts):
            raise DataError(_expectation(root, base, split))
        frames = [frame for part in parts if part for frame in paired_frames(root, part, classes, labels_in_scene)]
    labelled = all("labels" in frame.fields for frame in frames)
    meaning = CLASSES[classes or len(NYU13)] if labelled else None
    return Frames([[frame] for frame in frames], where=f"NYU Depth v2 at {root}", classes=meaning)


def _expectation(root: Path, base: Path, split: str) -> str:
    """Return the message for a root without any frame of a split."""
    if split != "all" and any(_scene_pairs(root, base, part) for part in LISTS):
        return (
            f"no split {split!r} in NYU Depth v2 at {root}: expected {LISTS[split][0]} or frames "
            f"below {BELOW[split][0]}; use the split 'all', or add them"
        )
    names = ", ".join(sorted(path.name for path in root.iterdir())[:5]) or "an empty folder"
    return (
        f"expected NYU Depth v2 at {root}: {MAT}, or nyu_depth_v2/<scene>/rgb_*.jpg with sync_depth_*.png, "
        f"or images/ with depth_mm/; found {names}; give the folder that holds one of these"
    )


def _scene_pairs(root: Path, base: Path, part: str) -> list[Pair]:
    """Return the frames of one part of layout 2: those in its list, or every pair."""
    for path in (folder / name for folder in dict.fromkeys((root, base)) for name in LISTS[part]):
        if path.is_file():
            return _listed_pairs(path, base, part)
    test = base / "official_splits"
    if part == "test":
        return _pairs_by_number(test / "test")
    return [(image, depth) for image, depth in _pairs_by_number(base) if test not in image.parents]


def _pairs_by_number(folder: Path) -> list[Pair]:
    """Return every rgb_NAME with sync_depth_NAME.png next to it, sorted by path."""
    pairs: list[Pair] = []
    files = (folder / below / name for below, names in walk_images(folder) for name in names)
    for depth in sorted(file for file in files if file.match("sync_depth_*.png")):
        stem = depth.stem.replace("sync_depth_", "rgb_")
        images = [path for path in depth.parent.glob(f"{stem}.*") if path.suffix.lower() in SUFFIXES]
        pairs += [(image, depth) for image in images[:1]]
    return pairs


def _listed_pairs(path: Path, base: Path, part: str) -> list[Pair]:
    """Return the frames of a list file, all of which have to exist.

    A line is "rgb depth [focal]". Some lists begin paths with a slash, and some are relative to a folder below the
    base.
    """
    lines = [line.split() for _, line in read_lines(path, "lines of 'rgb depth [focal]'")]
    for line in lines:
        if len(line) < 2:
            raise DataError(f"{path}: expected lines of 'rgb depth [focal]', found {' '.join(line)!r}; fix the list")
    names = [(line[0].lstrip("/"), line[1].lstrip("/")) for line in lines]
    folders = [base / below for below in BELOW[part]]
    # the first image decides for the whole list: 24 231 lookups in several folders are slow on a network disk
    folder = next((folder for folder in folders if names and (folder / names[0][0]).is_file()), folders[0])
    where = str(path)
    pairs = [(path_below(folder, image, where), path_below(folder, depth, where)) for image, depth in names]
    missing = fields.missing_files(file for pair in pairs for file in pair)
    if missing:
        raise DataError(f"{path} names {missing[0]}, which does not exist; complete the data or shorten the list")
    return pairs


def _pairs_by_stem(root: Path) -> list[Pair]:
    """Return the frames of layout 3, sorted by name; an image without depth is an error."""
    images = sorted(images_in(root / "images"))
    if not images:
        raise DataError(f"no images in {root / 'images'}: expected files ending in {', '.join(sorted(SUFFIXES))}")
    return list(zip(images, fields.same_names(root / "depth_mm", images), strict=True))


def _part(pairs: list[Pair], split: str) -> list[Pair]:
    """Return a split of layout 3: the last third is "test"."""
    cut = len(pairs) - len(pairs) // 3
    return {"train": pairs[:cut], "test": pairs[cut:], "all": pairs}[split]
