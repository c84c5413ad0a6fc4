"""KITTI's benchmark of 2015 (Menze & Geiger; Alhaija et al. 2018): 200 street images with labels and flow.

    <root>/training/image_2/000000_10.png       the image; 000000_11.png is the next one
                    image_3/000000_10.png       the right camera's
                    semantic/000000_10.png      Cityscapes ids; 255 = none
                    instance/000000_10.png      16 bits: 256 id + number, number 0 = no thing
                    flow_occ, flow_noc          see `flow`
                    calib_cam_to_cam/000000.txt
    <root>/testing/…                            images without labels

All but the images may be missing. The benchmark has no validation images: "val" is a random choice among the
labelled ones, the same on every machine, and "train" the rest.
"""

import hashlib
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from cka_probe.errors import DataError
from cka_probe.images.classes import CITYSCAPES, CITYSCAPES_IDS
from cka_probe.images.datasets import check_split
from cka_probe.images.reading import find_images, read_image
from cka_probe.lab.datasets.fields import (
    check_folder,
    each,
    list_frames,
    partners,
    read_flow,
    read_labels,
    read_occluded,
)
from cka_probe.lab.datasets.frames import PARTNER, STEREO, Frame, Frames, parse_sources
from cka_probe.lab.datasets.kitti import read_rectified_cameras, shift
from cka_probe.lab.datasets.numbers import camera_of, runs

LABELLED = 10
"""The number of the frame that has labels; its neighbours are 9, 11 and, in the multi-view extension, 0 … 20."""


def kitti_semantics(
    root: str | Path, split: str = "all", *, sources: str = "", validation: int = 40, seed: int = 0
) -> Frames:
    """Return KITTI's labelled images.

    Args:
        root: The folder of `training` and `testing`.
        split: "train", "val" (both of `training`), "test" (`testing`, which has no labels), or "all", which is every
            image and therefore has labels only where there is no `testing`.
        sources: Offsets in frames, and s for the right camera, by commas.
        validation: How many of the labelled images are "val".
        seed: Which ones.

    Returns:
        A dataset that gives `image` and what is there of `labels`, `instances`, `flow`, `occluded`, `K`, `sources`
        and `source_T_target`.

    Raises:
        UnknownNameError: There is no such split.
        DataError: The folders are not there, a file some images have is missing for others, or a source is.
    """
    root = Path(root)
    where, neighbours = f"KITTI semantics at {root}", parse_sources(sources)
    check_folder(root, "KITTI semantics")
    if not (root / "training" / "image_2").is_dir():
        raise DataError(f"expected {where}: training/image_2 and training/semantic; found no training/image_2")
    testing = ["test"] if (root / "testing" / "image_2").is_dir() else []
    check_split(split, ["train", "val", *testing, "all"], where)
    scenes = []
    if split != "test":
        images = _split(_labelled(root / "training", where), split, validation, seed)
        scenes += _scenes(root, images, neighbours, where)
    if testing and split in ("test", "all"):
        scenes += _scenes(root, _labelled(root / "testing", where), neighbours, where)
    return Frames(scenes, neighbours, where, CITYSCAPES)


def _labelled(folder: Path, where: str) -> list[Path]:
    """Return the images of a part that have labels, or would have."""
    images = [path for path in find_images(folder / "image_2") if path.stem.endswith(f"_{LABELLED}")]
    if not images:
        raise DataError(f"expected {where}: images named 000000_10.png in {folder / 'image_2'}, found none of them")
    return images


def _split(images: list[Path], split: str, validation: int, seed: int) -> list[Path]:
    """Return the part of the labelled images that is meant: "val" are those whose names mix to the least hash."""
    if split == "all":
        return images
    if not 0 <= validation < len(images):
        raise DataError(
            f"validation={validation}: expected fewer than the {len(images)} labelled images; say how many are "
            "for validation"
        )
    mixed = sorted(images, key=lambda path: hashlib.sha256(f"{seed}/{path.stem}".encode()).digest())
    held = set(mixed[:validation])
    return [path for path in images if (path in held) == (split == "val")]


def _scenes(root: Path, images: list[Path], sources: tuple[int | str, ...], where: str) -> list[list[Frame]]:
    """Return a scene for each image: itself and, if sources are wanted, its neighbours."""
    if not images:
        raise DataError(f"{where}: no image in this split; ask for validation=1 or more")
    frames = _frames(root, images, where)
    scenes = []
    for image, frame in zip(images, frames, strict=True):
        around = {LABELLED: frame}
        if any(source != STEREO for source in sources):
            for path in sorted(image.parent.glob(f"{image.stem[:-2]}[0-9][0-9].png")):
                seen = {"image": partial(read_image, path)}
                around.setdefault(int(path.stem[-2:]), Frame(path.relative_to(root).as_posix(), seen, target=False))
        scenes += runs(around)
    return scenes


def _frames(root: Path, images: list[Path], where: str) -> list[Frame]:
    """Return the frame of each image with all its fields."""
    base = images[0].parents[1]

    def beside(folder: str, kind: str) -> list[Path] | None:
        return partners(images, lambda path: base / folder / f"{path.stem}.png", where, kind)

    flow, right = (
        beside("flow_occ", "flow"),
        partners(images, lambda path: base / "image_3" / path.name, where, "right image"),
    )
    calibration = partners(
        images, lambda path: base / "calib_cam_to_cam" / f"{path.stem[:-3]}.txt", where, "calibration"
    )
    fields = {
        "labels": each(read_labels, beside("semantic", "label"), numbering=CITYSCAPES_IDS),
        "instances": each(read_things, beside("instance", "instances")),
        "flow": each(read_flow, flow),
        "occluded": each(read_occluded, flow, beside("flow_noc", "flow_noc")),
        "K": each(_intrinsics, calibration, images),
    }
    if calibration and right:
        fields |= {PARTNER[0]: each(read_image, right), PARTNER[1]: each(_right_T_left, calibration)}
    return list_frames(root, images, fields)


def read_things(path: Path) -> Tensor:
    """Return the number of the thing at each pixel, 256 id + number, (H, W) int64; 0 = none."""
    numbers = read_labels(path)
    return numbers.masked_fill(numbers % 256 == 0, 0)


def _intrinsics(calibration: Path, image: Path) -> Tensor:
    """Return K of the left colour camera, (3, 3)."""
    return camera_of(read_rectified_cameras(calibration)[0][2].intrinsics, image)


def _right_T_left(calibration: Path) -> Tensor:
    """Return the pose from the left to the right colour camera, (4, 4)."""
    cameras = read_rectified_cameras(calibration)[0]
    return torch.from_numpy(shift(cameras[3].offset - cameras[2].offset)).float()
