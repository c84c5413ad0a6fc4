"""What is known of a frame of NYU Depth v2 that lies in files: depth, camera, labels, and a pose where there is one.

| layout | labels | camera | poses |
|---|---|---|---|
| scenes | `labels13_00045.png` or `labels40_00045.png` beside `rgb_00045.jpg` | `cam.txt` beside | `poses.txt` beside |
| pairs | `labels13/` or `labels40/` beside `images/` | `intrinsics.json` at the root | |

Label images hold the number of the class from 0 (see `classes.NYU13`, `classes.NYU40`), 255 = none. From 40 classes
the 13 are found by a table; the other way there is none. `poses.txt` has one line for each image of its folder.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cka_probe.errors import DataError
from cka_probe.images.classes import NYU13, NYU40, NYU40_TO_13
from cka_probe.images.reading import image_size, images_in, read_image
from cka_probe.lab.datasets.depth import read_depth
from cka_probe.lab.datasets.frames import Frame
from cka_probe.lab.datasets.intrinsics import NYUV2, camera_of, read_camera
from cka_probe.lab.datasets.labels import partners, plain_numbering, read_labels
from cka_probe.lab.datasets.poses import read_poses

CLASSES = {13: NYU13, 40: NYU40}

LabelPlace = Callable[[Path, int], Path]
"""From an image and the number of classes to where its labels would be."""


@dataclass(frozen=True)
class Pair:
    """An image and its depth map."""

    image: Path
    depth: Path


def beside_scene(image: Path, classes: int) -> Path:
    """Return where the labels of an image in a scene's folder would be."""
    return image.with_name(f"labels{classes}_{image.stem.removeprefix('rgb_')}.png")


def beside_images(image: Path, classes: int) -> Path:
    """Return where the labels of an image in `images/` would be."""
    return image.parents[1] / f"labels{classes}" / f"{image.stem}.png"


def paired_frames(
    root: Path,
    pairs: Sequence[Pair],
    classes: int,
    place: LabelPlace,
    camera: dict[str, float] | None = None,
) -> list[Frame]:
    """Return frames of images with a depth map each.

    Args:
        root: What their names are relative to.
        pairs: The files.
        classes: 13 or 40 classes of labels, which must be there; 0: 13 if there are labels.
        place: Where labels would be.
        camera: Intrinsics of all frames, as `camera_matrix` takes them; None: look for a `cam.txt` beside each.

    Raises:
        DataError: Labels are wanted or had by some, and lacking; a camera or poses are broken.
    """
    labels, numbering = _labels(root, [pair.image for pair in pairs], classes, place)
    cameras, poses = lru_cache(maxsize=None)(_camera), lru_cache(maxsize=None)(_poses)
    frames = []
    for number, (image, depth) in enumerate((pair.image, pair.depth) for pair in pairs):
        fields = {
            "image": partial(read_image, image),
            "depth": partial(_depth, depth, image),
            "K": partial(camera_of, camera or cameras(image.parent), image),
        }
        if labels is not None:
            fields["labels"] = partial(read_labels, labels[number], numbering)
        pose = poses(image.parent).get(image.stem)
        if pose is not None:
            fields["world_T_target"] = partial(torch.tensor, pose)
        frames.append(Frame(image.relative_to(root).as_posix(), fields))
    return frames


def _labels(
    root: Path, images: list[Path], classes: int, place: LabelPlace
) -> tuple[list[Path] | None, np.ndarray | None]:
    """Return the label images and the table that their numbers go through."""
    wanted, where = classes or len(NYU13), f"NYU Depth v2 at {root}"
    found = partners(images, lambda path: place(path, wanted), where)
    if found is None and wanted == len(NYU13):
        forty = partners(images, lambda path: place(path, len(NYU40)), where)
        if forty is not None:
            return forty, NYU40_TO_13
    if found is None and classes:
        other = f" or {place(images[0], 40)}" if classes == len(NYU13) else ""
        raise DataError(
            f"{where}: expected labels of {classes} classes for each image, as {place(images[0], classes)}{other}, "
            "found none; put them there or leave out classes="
        )
    return found, plain_numbering(wanted)


def _depth(path: Path, image: Path) -> Tensor:
    """Return depth of an image, (1, H, W) float32 metres, which must be of its size."""
    depth, (height, width) = read_depth(path), image_size(image)
    if depth.shape[1:] != (height, width):
        raise DataError(
            f"expected an image and depth of one size, found {width}x{height} in {image} and "
            f"{depth.shape[2]}x{depth.shape[1]} in {path}; register one to the other first"
        )
    return depth


def _camera(folder: Path) -> dict[str, float]:
    """Return the camera of a scene's folder: its cam.txt (as SC-Depth writes one), or the Kinect's."""
    path = folder / "cam.txt"
    return read_camera(path) if path.is_file() else NYUV2


def _poses(folder: Path) -> dict[str, list[list[float]]]:
    """Return the poses of a scene's images by name without suffix; none where it has no `poses.txt`."""
    path = folder / "poses.txt"
    if not path.is_file():
        return {}
    names = [image.stem for image in images_in(folder) if image.stem.startswith("rgb_")]
    return dict(zip(names, read_poses(path, len(names)).astype(np.float32).tolist(), strict=True))
