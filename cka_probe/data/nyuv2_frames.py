"""What is known of a frame of NYU Depth v2 that lies in files: depth, camera, labels, and a pose where there is one.

| layout | labels | camera | poses |
|---|---|---|---|
| scenes | `labels13_00045.png` or `labels40_00045.png` beside `rgb_00045.jpg` | `cam.txt` beside | `poses.txt` beside |
| pairs | `labels13/` or `labels40/` beside `images/` | `intrinsics.json` at the root | |

Label pictures hold the number of the class from 0 (see `classes.NYU13`, `classes.NYU40`), 255 = none. From 40 classes
the 13 are found by a table; the other way there is none. `poses.txt` has one line for each picture of its folder.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cka_probe.data.classes import NYU13, NYU40, NYU40_TO_13
from cka_probe.data.depth import read_depth
from cka_probe.data.frames import Frame
from cka_probe.data.intrinsics import NYUV2, camera_of, read_camera
from cka_probe.data.labels import partners, plain_numbering, read_labels
from cka_probe.data.pictures import picture_size, pictures_in, read_picture
from cka_probe.data.poses import read_poses
from cka_probe.errors import DataError

CLASSES = {13: NYU13, 40: NYU40}

LabelPlace = Callable[[Path, int], Path]
"""From a picture and the number of classes to where its labels would be."""


@dataclass(frozen=True)
class Pair:
    """A picture and its depth map."""

    picture: Path
    depth: Path


def beside_scene(picture: Path, classes: int) -> Path:
    """Return where the labels of a picture in a scene's folder would be."""
    return picture.with_name(f"labels{classes}_{picture.stem.removeprefix('rgb_')}.png")


def beside_images(picture: Path, classes: int) -> Path:
    """Return where the labels of a picture in `images/` would be."""
    return picture.parents[1] / f"labels{classes}" / f"{picture.stem}.png"


def paired_frames(
    root: Path,
    pairs: Sequence[Pair],
    classes: int,
    place: LabelPlace,
    camera: dict[str, float] | None = None,
) -> list[Frame]:
    """Return frames of pictures with a depth map each.

    Args:
        root: What their names are relative to.
        pairs: The files.
        classes: 13 or 40 classes of labels, which must be there; 0: 13 if there are labels.
        place: Where labels would be.
        camera: Intrinsics of all frames, as `camera_matrix` takes them; None: look for a `cam.txt` beside each.

    Raises:
        DataError: Labels are wanted or had by some, and lacking; a camera or poses are broken.
    """
    labels, numbering = _labels(root, [pair.picture for pair in pairs], classes, place)
    cameras, poses = lru_cache(maxsize=None)(_camera), lru_cache(maxsize=None)(_poses)
    frames = []
    for number, (picture, depth) in enumerate((pair.picture, pair.depth) for pair in pairs):
        fields = {
            "image": partial(read_picture, picture),
            "depth": partial(_depth, depth, picture),
            "K": partial(camera_of, camera or cameras(picture.parent), picture),
        }
        if labels is not None:
            fields["labels"] = partial(read_labels, labels[number], numbering)
        pose = poses(picture.parent).get(picture.stem)
        if pose is not None:
            fields["world_T_target"] = partial(torch.tensor, pose)
        frames.append(Frame(picture.relative_to(root).as_posix(), fields))
    return frames


def _labels(
    root: Path, pictures: list[Path], classes: int, place: LabelPlace
) -> tuple[list[Path] | None, np.ndarray | None]:
    """Return the label pictures and the table that their numbers go through."""
    wanted, where = classes or len(NYU13), f"NYU Depth v2 at {root}"
    found = partners(pictures, lambda path: place(path, wanted), where)
    if found is None and wanted == len(NYU13):
        forty = partners(pictures, lambda path: place(path, len(NYU40)), where)
        if forty is not None:
            return forty, NYU40_TO_13
    if found is None and classes:
        other = f" or {place(pictures[0], 40)}" if classes == len(NYU13) else ""
        raise DataError(
            f"{where}: expected labels of {classes} classes for each picture, as {place(pictures[0], classes)}{other}, "
            "found none; put them there or leave out classes="
        )
    return found, plain_numbering(wanted)


def _depth(path: Path, picture: Path) -> Tensor:
    """Return depth of a picture, (1, H, W) float32 metres, which must be of its size."""
    depth, (height, width) = read_depth(path), picture_size(picture)
    if depth.shape[1:] != (height, width):
        raise DataError(
            f"expected a picture and depth of one size, found {width}x{height} in {picture} and "
            f"{depth.shape[2]}x{depth.shape[1]} in {path}; register one to the other first"
        )
    return depth


def _camera(folder: Path) -> dict[str, float]:
    """Return the camera of a scene's folder: its cam.txt (as SC-Depth writes one), or the Kinect's."""
    path = folder / "cam.txt"
    return read_camera(path) if path.is_file() else NYUV2


def _poses(folder: Path) -> dict[str, list[list[float]]]:
    """Return the poses of a scene's pictures by name without suffix; none where it has no `poses.txt`."""
    path = folder / "poses.txt"
    if not path.is_file():
        return {}
    names = [picture.stem for picture in pictures_in(folder) if picture.stem.startswith("rgb_")]
    return dict(zip(names, read_poses(path, len(names)).astype(np.float32).tolist(), strict=True))
