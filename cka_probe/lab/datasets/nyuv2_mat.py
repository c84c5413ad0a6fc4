"""NYU Depth v2 as its authors publish it: one MATLAB file of 1449 frames, and one that splits them.

`nyu_depth_v2_labeled.mat` is HDF5 (MATLAB v7.3), whose arrays h5py sees with the axes reversed: `images`
(1449, 3, W, H) uint8 and `rawDepths` (1449, W, H) float32 metres, 0 where the Kinect saw nothing (`depths` is
the same in-painted). `splits.mat` is MATLAB v5: `trainNdxs` and `testNdxs`, counted from 1.

Papers evaluate on `rawDepths`: what was measured and not what was filled in, so that is what is read here.

`labels` (1449, W, H) uint16 are 894 kinds of things, 0 where there is no label. Nobody learns these: `mapClass` of
`classMapping40.mat` (1, 894), put beside the file, takes them to 40 classes counted from 1 (Gupta et al. 2013), and
those become 13. `instances` count the things of one kind in an image, so that a thing is known by both numbers.
"""

import os
from pathlib import Path

import h5py
import numpy as np
import torch
from scipy.io import loadmat
from torch import Tensor

from cka_probe.errors import DataError
from cka_probe.images.classes import NYU13, NYU40, NYU40_TO_13
from cka_probe.images.sample import IGNORE
from cka_probe.lab.datasets.intrinsics import NYUV2, camera_matrix, read_camera
from cka_probe.lab.datasets.labels import renumbered

MAT = "nyu_depth_v2_labeled.mat"
MAPPING = "classMapping40.mat"
_NDXS = {"train": "trainNdxs", "test": "testNdxs"}


class LabeledMat:
    """The frames of `nyu_depth_v2_labeled.mat`.

    The file is opened by the first read in each process, because an HDF5 handle must not cross a fork.

    Args:
        path: The .mat file.
        split: "train" or "test" by the `splits.mat` beside it, or "all".
        classes: 13 or 40 classes of labels, which need the mapping; 0: 13 if it is there, else no labels.

    Raises:
        DataError: The file is cut short or not HDF5, a variable is missing, or there is no `splits.mat`.
    """

    def __init__(self, path: str | Path, split: str = "all", classes: int = 0):
        self.path = Path(path)
        self._file, self._process = None, None
        with _opened(self.path) as file:
            for name in ("images", "rawDepths"):
                if name not in file:
                    there = ", ".join(key for key in file if not key.startswith("#")) or "nothing"
                    raise DataError(f"{self.path}: expected variables images and rawDepths, found {there}")
            frames, variables = len(file["images"]), frozenset(file)
        self.frames = np.arange(frames) if split == "all" else _split(self.path.with_name("splits.mat"), split, frames)
        beside = self.path.with_name("intrinsics.json")
        self.camera = read_camera(beside) if beside.is_file() else NYUV2
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
        if "labels" in self.gives:
            where = f"{self.path}, labels of {self.describe(index)}"
            sample["labels"] = torch.from_numpy(renumbered(kinds, self.numbering, where))
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
        if self._process != os.getpid():
            self._file, self._process = _opened(self.path), os.getpid()
        try:
            return self._file[name][int(self.frames[index])]
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path}: cannot read {name} of {self.describe(index)}: {error}") from error


def _opened(path: Path) -> h5py.File:
    """Return the open file, or say why it is none."""
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise DataError(
            f"{path}: expected the whole HDF5 file (MATLAB v7.3) of NYU Depth v2, found one that does not open "
            f"({error}); fetch it again"
        ) from error


def _numbering(path: Path, labelled: bool, classes: int) -> np.ndarray | None:
    """Return the table from the file's 894 kinds of things to classes; None: no labels can be given."""
    mapping = path.with_name(MAPPING)
    if not (labelled and mapping.is_file()):
        if classes:
            lacks = f"{mapping} (mapClass: the 40 classes of the 894)" if labelled else f"the variable labels in {path}"
            raise DataError(f"labels of {classes} classes need {lacks}, found none; put it there or leave out classes=")
        return None
    try:
        forty = loadmat(mapping)["mapClass"].ravel().astype(np.int64)
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError) as error:
        raise DataError(f"{mapping}: expected mapClass (MATLAB v5), found none ({error!r}); fetch it again") from error
    if not len(forty) or forty.min() < 1 or forty.max() > len(NYU40):
        raise DataError(f"{mapping}: expected classes 1 to 40 in mapClass, found another; fetch it again")
    return np.concatenate([[IGNORE], forty - 1 if classes == len(NYU40) else NYU40_TO_13[forty - 1]])


def _split(path: Path, split: str, frames: int) -> np.ndarray:
    """Return the frames of a split, counted from 0, sorted as the file has them."""
    if not path.is_file():
        raise DataError(f"the split {split!r} needs {path}, found none; put it there or use the split 'all'")
    try:
        numbers = loadmat(path)[_NDXS[split]].ravel().astype(np.int64) - 1
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError) as error:
        raise DataError(f"{path}: expected trainNdxs and testNdxs (MATLAB v5), found neither ({error!r})") from error
    if len(numbers) and not (numbers.min() >= 0 and numbers.max() < frames):
        raise DataError(f"{path} counts to {numbers.max() + 1}, but the .mat file has {frames} frames: not a pair")
    return numbers
