"""KITTI's benchmark of 2015 (Menze & Geiger; Alhaija et al. 2018): 200 street images with labels and flow.

    <root>/training/image_2/000000_10.png       the image; 000000_11.png is the next one
                    image_3/000000_10.png       the right camera's
                    semantic/000000_10.png      Cityscapes ids; 255 = none
                    instance/000000_10.png      16 bits: 256 id + number, number 0 = no thing
                    flow_occ, flow_noc          see `fields`
                    calib_cam_to_cam/000000.txt
    <root>/testing/…                            images without labels

Only the images are required. The benchmark has no validation images: "val" is a random choice of the labelled images,
the same on every machine, and "train" is the rest.
"""

import hashlib
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from cka_probe.errors import DataError
from cka_probe.images.classes import CITYSCAPES, CITYSCAPES_IDS
from cka_probe.images.datasets import check_split
from cka_probe.images.reading import find_images, read_aligned_image
from cka_probe.lab.datasets import fields
from cka_probe.lab.datasets.frames import PARTNER, STEREO, Frame, Frames, parse_sources
from cka_probe.lab.datasets.kitti import read_rectified_cameras
from cka_probe.lab.datasets.numbers import camera_of, rigid, runs

LABELLED = 10
"""Number of the frame that has labels; its neighbours are 9, 11 and, in the multi-view extension, 0 … 20."""

FILES = {
    "label": "semantic/{stem}.png",
    "instances": "instance/{stem}.png",
    "flow": "flow_occ/{stem}.png",
    "flow_noc": "flow_noc/{stem}.png",
    "right image": "image_3/{name}",
    "calibration": "calib_cam_to_cam/{scene}.txt",
}
"""Files of an image, next to `image_2`."""


def kitti_semantics(
    root: str | Path, split: str = "all", *, sources: str = "", validation: int = 40, seed: int = 0
) -> Frames:
    """Return the labelled images of KITTI.

    Args:
        root: The folder of `training` and `testing`.
        split: "train", "val" (both of `training`), "test" (`testing`, without labels), or "all": every image, with
            labels only if there is no `testing`.
        sources: Offsets in frames, and "s" for the right camera: "-1,1,s".
        validation: Number of labelled images in "val".
        seed: Seed of the choice of these.

    Returns:
        A dataset that gives `image` and, where they exist, `labels`, `instances`, `flow`, `occluded`, `K`, `sources`
        and `source_T_target`.

    Raises:
        UnknownNameError: There is no such split.
        DataError: The folders are missing, or a file exists for some images only.
    """
    root = Path(root)
    where, offsets = f"KITTI semantics at {root}", parse_sources(sources)
    fields.check_folder(root, "KITTI semantics")
    if not (root / "training" / "image_2").is_dir():
        raise DataError(f"expected {where}: training/image_2 and training/semantic; found no training/image_2")
    testing = ["test"] if (root / "testing" / "image_2").is_dir() else []
    check_split(split, ["train", "val", *testing, "all"], where)
    scenes = []
    if split != "test":
        images = _part(_labelled(root / "training", where), split, validation, seed)
        scenes += _scenes(root, images, offsets, where)
    if testing and split in ("test", "all"):
        scenes += _scenes(root, _labelled(root / "testing", where), offsets, where)
    return Frames(scenes, offsets, where, CITYSCAPES)


def _labelled(folder: Path, where: str) -> list[Path]:
    """Return the images for which there can be labels."""
    images = [path for path in find_images(folder / "image_2") if path.stem.endswith(f"_{LABELLED}")]
    if not images:
        raise DataError(f"expected {where}: images named 000000_10.png in {folder / 'image_2'}, found none of them")
    return images


def _part(images: list[Path], split: str, validation: int, seed: int) -> list[Path]:
    """Return the labelled images of a split; "val" are those whose names have the smallest hashes with the seed."""
    if split == "all":
        return images
    if not 0 <= validation < len(images):
        raise DataError(
            f"validation={validation}: expected fewer than the {len(images)} labelled images; ask for fewer"
        )
    ranked = sorted(images, key=lambda path: hashlib.sha256(f"{seed}/{path.stem}".encode()).digest())
    held_out = set(ranked[:validation])
    return [path for path in images if (path in held_out) == (split == "val")]


def _scenes(root: Path, images: list[Path], sources: tuple[int | str, ...], where: str) -> list[list[Frame]]:
    """Return a scene for each image: its frame and, if there are sources in time, its neighbours."""
    if not images:
        raise DataError(f"{where}: no image in this split; ask for validation=1 or more")
    scenes = []
    for image, frame in zip(images, _frames(root, images, where), strict=True):
        video = {LABELLED: frame}
        if any(source != STEREO for source in sources):
            for path in sorted(image.parent.glob(f"{image.stem[:-2]}[0-9][0-9].png")):
                readers = {"image": partial(read_aligned_image, path)}
                video.setdefault(int(path.stem[-2:]), Frame(path.relative_to(root).as_posix(), readers, target=False))
        scenes += runs(video)
    return scenes


def _frames(root: Path, images: list[Path], where: str) -> list[Frame]:
    """Return the frame of each image with all its fields."""
    base = images[0].parents[1]

    def paths(kind: str) -> list[Path] | None:
        def path(image: Path) -> Path:
            return base / FILES[kind].format(stem=image.stem, name=image.name, scene=image.stem[:-3])

        return fields.partners(images, path, where, kind)

    flow, right, calibration = paths("flow"), paths("right image"), paths("calibration")
    readers = {
        "labels": fields.each(fields.read_labels, paths("label"), numbering=CITYSCAPES_IDS),
        "instances": fields.each(read_things, paths("instances")),
        "flow": fields.each(fields.read_flow, flow),
        "occluded": fields.each(fields.read_occluded, flow, paths("flow_noc")),
        "K": fields.each(_intrinsics, calibration, images),
    }
    if calibration and right:
        readers |= {
            PARTNER[0]: fields.each(read_aligned_image, right),
            PARTNER[1]: fields.each(_right_T_left, calibration),
        }
    return fields.list_frames(root, images, readers)


def read_things(path: Path) -> Tensor:
    """Return the number of the object at each pixel, 256 id + number, (H, W) int64; 0 = none."""
    numbers = fields.read_labels(path)
    return numbers.masked_fill(numbers % 256 == 0, 0)


def _intrinsics(calibration: Path, image: Path) -> Tensor:
    """Return K of the left colour camera, (3, 3)."""
    return camera_of(read_rectified_cameras(calibration)[0][2].intrinsics, image)


def _right_T_left(calibration: Path) -> Tensor:
    """Return the pose from the left to the right colour camera, (4, 4)."""
    cameras = read_rectified_cameras(calibration)[0]
    return torch.from_numpy(rigid(translation=cameras[3].offset - cameras[2].offset)).float()
