"""KITTI's benchmark of 2015 (Menze & Geiger; Alhaija et al. 2018): 200 street pictures with labels and flow.

    <root>/training/image_2/000000_10.png       the picture; 000000_11.png is the next one
                    image_3/000000_10.png       the right camera's
                    semantic/000000_10.png      Cityscapes ids; 255 = none
                    instance/000000_10.png      16 bits: 256 id + number, number 0 = no thing
                    flow_occ, flow_noc          see `flow`
                    calib_cam_to_cam/000000.txt
    <root>/testing/…                            pictures without labels

All but the pictures may be missing. The benchmark has no validation pictures: "val" is a random choice among the
labelled ones, the same on every machine, and "train" the rest.
"""

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from cka_probe.data.classes import CITYSCAPES, CITYSCAPES_IDS
from cka_probe.data.dataset import check_split
from cka_probe.data.flow import read_flow, read_occluded
from cka_probe.data.frames import PARTNER, STEREO, Frame, Frames, parse_sources
from cka_probe.data.intrinsics import camera_of
from cka_probe.data.kitti_calibration import read_rectified_cameras, shift
from cka_probe.data.labels import check_folder, labelled_frames, partners, read_labels
from cka_probe.data.numbering import runs
from cka_probe.data.pictures import find_pictures, read_picture
from cka_probe.errors import DataError

LABELLED = 10
"""The number of the frame that has labels; its neighbours are 9, 11 and, in the multi-view extension, 0 … 20."""

Fields = dict[str, Callable[[], Tensor]]


def kitti_semantics(
    root: str | Path, split: str = "all", *, sources: str = "", validation: int = 40, seed: int = 0
) -> Frames:
    """Return KITTI's labelled pictures.

    Args:
        root: The folder of `training` and `testing`.
        split: "train", "val" (both of `training`), "test" (`testing`, which has no labels), or "all", which is every
            picture and therefore has labels only where there is no `testing`.
        sources: Offsets in frames, and s for the right camera, by commas.
        validation: How many of the labelled pictures are "val".
        seed: Which ones.

    Returns:
        A dataset that gives `image` and what is there of `labels`, `instances`, `flow`, `occluded`, `K`, `sources`
        and `source_T_target`.

    Raises:
        UnknownNameError: There is no such split.
        DataError: The folders are not there, a file some pictures have is missing for others, or a source is.
    """
    root = Path(root)
    where, wanted = f"KITTI semantics at {root}", parse_sources(sources)
    check_folder(root, "KITTI semantics")
    if not (root / "training" / "image_2").is_dir():
        raise DataError(f"expected {where}: training/image_2 and training/semantic; found no training/image_2")
    testing = ["test"] if (root / "testing" / "image_2").is_dir() else []
    check_split(split, ["train", "val", *testing, "all"], where)
    scenes = []
    if split != "test":
        pictures = _split(_labelled(root / "training", where), split, validation, seed)
        scenes += _scenes(root, pictures, wanted, where)
    if testing and split in ("test", "all"):
        scenes += _scenes(root, _labelled(root / "testing", where), wanted, where)
    return Frames(scenes, wanted, where, CITYSCAPES)


def _labelled(folder: Path, where: str) -> list[Path]:
    """Return the pictures of a part that have labels, or would have."""
    pictures = [path for path in find_pictures(folder / "image_2") if path.stem.endswith(f"_{LABELLED}")]
    if not pictures:
        raise DataError(f"expected {where}: pictures named 000000_10.png in {folder / 'image_2'}, found none of them")
    return pictures


def _split(pictures: list[Path], split: str, validation: int, seed: int) -> list[Path]:
    """Return the part of the labelled pictures that is meant: "val" are those whose names mix to the least hash."""
    if split == "all":
        return pictures
    if not 0 <= validation < len(pictures):
        raise DataError(
            f"validation={validation}: expected fewer than the {len(pictures)} labelled pictures; say how many are "
            "for validation"
        )
    mixed = sorted(pictures, key=lambda path: hashlib.sha256(f"{seed}/{path.stem}".encode()).digest())
    held = set(mixed[:validation])
    return [path for path in pictures if (path in held) == (split == "val")]


def _scenes(root: Path, pictures: list[Path], sources: tuple[int | str, ...], where: str) -> list[list[Frame]]:
    """Return a scene for each picture: itself and, if sources are wanted, its neighbours."""
    if not pictures:
        raise DataError(f"{where}: no picture in this split; ask for validation=1 or more")
    base = pictures[0].parents[1]
    fields = _fields(base, pictures, where)
    labels = partners(pictures, lambda path: base / "semantic" / path.name, where)
    frames = labelled_frames(root, pictures, labels, CITYSCAPES_IDS)
    scenes = []
    for picture, frame, more in zip(pictures, frames, fields, strict=True):
        around = {LABELLED: Frame(frame.name, {**frame.fields, **more})}
        if any(source != STEREO for source in sources):
            for path in sorted(picture.parent.glob(f"{picture.stem[:-2]}[0-9][0-9].png")):
                seen = {"image": partial(read_picture, path)}
                around.setdefault(int(path.stem[-2:]), Frame(path.relative_to(root).as_posix(), seen, target=False))
        scenes += runs(around)
    return scenes


def _fields(base: Path, pictures: list[Path], where: str) -> list[Fields]:
    """Return what is known of each picture besides its labels."""

    def beside(folder: str, kind: str) -> list[Path] | None:
        return partners(pictures, lambda path: base / folder / path.name, where, kind)

    fields: list[Fields] = [{} for _ in pictures]
    things, flow, seen = beside("instance", "instances"), beside("flow_occ", "flow"), beside("flow_noc", "flow_noc")
    right = beside("image_3", "right picture")
    calibration = partners(
        pictures, lambda path: base / "calib_cam_to_cam" / f"{path.stem[:-3]}.txt", where, "calibration"
    )
    for place, known in enumerate(fields):
        if things:
            known["instances"] = partial(read_things, things[place])
        if flow:
            known["flow"] = partial(read_flow, flow[place])
        if flow and seen:
            known["occluded"] = partial(read_occluded, flow[place], seen[place])
        if calibration:
            known["K"] = partial(_intrinsics, calibration[place], pictures[place])
        if right and calibration:
            known[PARTNER[0]] = partial(read_picture, right[place])
            known[PARTNER[1]] = partial(_right_T_left, calibration[place])
    return fields


def read_things(path: Path) -> Tensor:
    """Return the number of the thing at each pixel, 256 id + number, (H, W) int64; 0 = none."""
    numbers = read_labels(path)
    return numbers.masked_fill(numbers % 256 == 0, 0)


def _intrinsics(calibration: Path, picture: Path) -> Tensor:
    """Return K of the left colour camera, (3, 3)."""
    return camera_of(read_rectified_cameras(calibration)[0][2].intrinsics, picture)


def _right_T_left(calibration: Path) -> Tensor:
    """Return the pose from the left to the right colour camera, (4, 4)."""
    cameras = read_rectified_cameras(calibration)[0]
    return torch.from_numpy(shift(cameras[3].offset - cameras[2].offset)).float()
