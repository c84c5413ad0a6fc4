"""KITTI raw (Geiger et al. 2013): driving video in stereo, with laser scans and the car's position.

    <date>/calib_cam_to_cam.txt, calib_velo_to_cam.txt, calib_imu_to_velo.txt
    <date>/<date>_drive_NNNN_sync/image_02/data/*.png or .jpg        left colour camera
    <date>/<date>_drive_NNNN_sync/image_03/data/*.png or .jpg        right colour camera
    <date>/<date>_drive_NNNN_sync/velodyne_points/data/*.bin         laser scans
    <date>/<date>_drive_NNNN_sync/oxts/data/*.txt                    where the car was
    <drive>/proj_depth/groundtruth/image_02/*.png                    improved depth (Uhrig et al. 2017), v / 256 m:
        in the drive's own folder, or below train/ or val/, or below data_depth_annotated/train/ or val/

Frames whose numbers follow each other are a scene; where a number is missing the video is cut. Depth is the
improved one where a frame has it (eleven scans brought together, what moved taken out; the first and last five
frames of a drive have none) and otherwise the frame's own scan. Poses are those of the navigation, see
`kitti_oxts`; calibration and scans, see `kitti_calibration`.

A split is a list of lines `<date>/<drive> <frame> [l|r]`, as Eigen et al., Zhou et al. and Monodepth2 have
them: `splits/train_files.txt`, `val_files.txt` and `test_files.txt` at the root, or any file as `?list=`. Frames
that it does not name are read only as neighbours of those it does. Samples come in the order of drives, cameras
and frames, not in the list's.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cka_probe import registry
from cka_probe.errors import DataError
from cka_probe.images.datasets import check_split
from cka_probe.images.reading import read_image
from cka_probe.lab.datasets.depth import read_depth
from cka_probe.lab.datasets.frames import PARTNER, STEREO, Frame, Frames, parse_sources
from cka_probe.lab.datasets.intrinsics import camera_of
from cka_probe.lab.datasets.kitti_calibration import read_rectified_cameras, read_rigid, shift
from cka_probe.lab.datasets.kitti_oxts import camera_pose
from cka_probe.lab.datasets.laser import nothing_measured, scan_depth
from cka_probe.lab.datasets.numbering import numbered, runs
from cka_probe.lab.datasets.numbers import read_lines

CAMERAS = {"left": 2, "right": 3}
SIDES = {"l": 2, "r": 3}
DEPTHS = ("any", "improved", "lidar", "none")
IMU = "calib_imu_to_velo.txt"
IMPROVED = ("", "train", "val", "data_depth_annotated/train", "data_depth_annotated/val")


def kitti(
    root: str | Path, split: str = "all", *, sources: str = "", camera: str = "left", depth: str = "any", list: str = ""
) -> Frames:
    """Return KITTI raw.

    Args:
        root: The folder that holds the dates.
        split: "all", or "train", "val" or "test" where `splits/<split>_files.txt` is there.
        sources: What each sample brings along: offsets in frames, and "s" for the other camera: "-1,1,s".
        camera: "left" or "right", where no list says it.
        depth: "improved" (only frames that have it), "lidar" (only frames with a scan), "any" (improved, else the
            scan, else zeros: nothing measured), or "none".
        list: A split file, from here or from the root.

    Raises:
        UnknownNameError: There is no such split, camera or kind of depth anywhere.
        DataError: The layout is not there, or something in it is missing or broken.
    """
    root, where = Path(root), f"KITTI at {root}"
    registry.get(CAMERAS, camera, "camera")
    registry.get(dict.fromkeys(DEPTHS), depth, "kind of depth")
    asked = parse_sources(sources)
    path = _split_file(root, split, list, where)
    views = _listed(path, camera) if path else dict.fromkeys((name, CAMERAS[camera]) for name in _drives(root, where))
    drive = lru_cache(maxsize=None)(partial(Drive.at, root))
    scenes = []
    for (name, number), wanted in sorted(views.items()):
        scenes += _scenes(drive(name), number, wanted, asked, depth)
    frames = [frame for scene in scenes for frame in scene if frame.target]
    if depth in ("improved", "lidar") and not frames:
        raise DataError(f"no frame with {depth} depth in {where}: complete the data or leave out 'depth={depth}'")
    if depth == "any" and any("depth" in frame.fields for frame in frames):
        for frame in frames:
            frame.fields.setdefault("depth", partial(nothing_measured, str(root / frame.name)))
    return Frames(scenes, asked, where)


@dataclass(frozen=True)
class Drive:
    """What lies in one drive's folder: paths by frame number, those of images and improved depth by camera too."""

    name: str
    images: dict[int, dict[int, str]]
    improved: dict[int, dict[int, str]]
    scans: dict[int, str]
    positions: dict[int, str]
    calibration: Path

    @classmethod
    def at(cls, root: Path, name: str) -> "Drive":
        """Look through the drive `<date>/<drive>`."""
        folder = root / name
        places = [folder, *(root / part / folder.name for part in IMPROVED[1:])]
        return cls(
            name,
            {camera: numbered(folder / f"image_0{camera}" / "data") for camera in (2, 3)},
            {
                camera: {
                    number: path
                    for place in reversed(places)
                    for number, path in numbered(place / "proj_depth" / "groundtruth" / f"image_0{camera}").items()
                }
                for camera in (2, 3)
            },
            numbered(folder / "velodyne_points" / "data", (".bin",)),
            numbered(folder / "oxts" / "data", (".txt",)),
            folder.parent,
        )


def _drives(root: Path, where: str) -> list[str]:
    """Return the names of all drives, `<date>/<drive>`."""
    found = sorted(path.parents[1].relative_to(root).as_posix() for path in root.glob("*/*_sync/image_0[23]/data"))
    if not found:
        raise DataError(
            f"expected {where}: <date>/<date>_drive_NNNN_sync/image_02/data, found none; give the folder of the dates"
        )
    return [*dict.fromkeys(found)]


def _split_file(root: Path, split: str, listed: str, where: str) -> Path | None:
    """Return the list that says which frames; None: all."""
    splits = {name: root / "splits" / f"{name}_files.txt" for name in ("train", "val", "test")}
    check_split(split, [*(name for name, path in splits.items() if path.is_file()), "all"], where)
    if not listed:
        return splits.get(split)
    if split != "all":
        raise DataError(f"expected a split or a list, found split={split} and list={listed}; leave one out")
    return Path(listed) if Path(listed).is_file() else root / listed


def _listed(path: Path, camera: str) -> dict[tuple[str, int], dict[int, str]]:
    """Return a list's frames: by drive and camera their numbers, each with where it stands."""
    views: dict[tuple[str, int], dict[int, str]] = {}
    for line, text in read_lines(path, "a split's frames"):
        words, here = text.split(), f"{path}, line {line}"
        if not (len(words) in (2, 3) and words[1].isascii() and words[1].isdigit() and set(words[2:]) <= set(SIDES)):
            raise DataError(f"{here}: expected '<date>/<drive> <frame> l' or r, found {text[:80]!r}; mend the list")
        side = SIDES[words[2]] if len(words) == 3 else CAMERAS[camera]
        views.setdefault((words[0].strip("/"), side), {})[int(words[1])] = here
    if not views:
        raise DataError(f"{path}: expected lines of '<date>/<drive> <frame> l', found none; give another list")
    return views


def _scenes(
    drive: Drive, camera: int, wanted: dict[int, str] | None, sources: tuple[int | str, ...], depth: str
) -> list[list[Frame]]:
    """Return one camera's frames of a drive, cut where a number is missing."""
    images = drive.images[camera]
    for number, here in (wanted or {}).items():
        if number not in images:
            raise DataError(
                f"{here}: names frame {number} of {drive.name}/image_0{camera}/data, which is not there; "
                "complete the data or shorten the list"
            )
    fields = _Fields(drive, camera, depth)
    frames = {}
    for number in images if sources or wanted is None else sorted(wanted):
        known, target = fields.of(number), wanted is None or number in wanted
        if target and STEREO in sources and PARTNER[0] not in known:
            raise DataError(f"no partner of {images[number]} in image_0{5 - camera}: add it, or leave out 's'")
        if depth in ("improved", "lidar"):
            target &= "depth" in known
        if not target:
            known = {name: read for name, read in known.items() if name in ("image", "world_T_target")}
        name = f"{drive.name}/image_0{camera}/data/{os.path.basename(images[number])}"
        frames[number] = Frame(name, known, target)
    return runs(frames)


class _Fields:
    """How to read what is known of one camera's frames in a drive."""

    def __init__(self, drive: Drive, camera: int, depth: str):
        self.drive, self.camera, self.depth = drive, camera, depth
        date = drive.calibration
        cameras, rectify = read_rectified_cameras(date / "calib_cam_to_cam.txt")
        self.intrinsics, other = cameras[camera].intrinsics, cameras[5 - camera]
        self.partner_T_target = shift(other.offset - cameras[camera].offset)
        self.camera_T_scanner = self.camera_T_imu = None
        if (drive.scans and depth in ("any", "lidar")) or (drive.positions and (date / IMU).is_file()):
            self.camera_T_scanner = shift(cameras[camera].offset) @ rectify @ read_rigid(date / "calib_velo_to_cam.txt")
        if drive.positions and (date / IMU).is_file():
            self.camera_T_imu = self.camera_T_scanner @ read_rigid(date / IMU)

    def of(self, number: int) -> dict[str, Callable[[], Tensor]]:
        """Return the fields of one frame."""
        drive, image = self.drive, self.drive.images[self.camera][number]
        known = {"image": partial(read_image, image), "K": partial(camera_of, self.intrinsics, image)}
        if self.depth in ("any", "improved") and number in drive.improved[self.camera]:
            known["depth"] = partial(read_depth, drive.improved[self.camera][number], 1 / 256)
        elif self.depth in ("any", "lidar") and number in drive.scans:
            known["depth"] = partial(scan_depth, drive.scans[number], self.camera_T_scanner, self.intrinsics, image)
        if self.camera_T_imu is not None and number in drive.positions:
            first = next(iter(drive.positions.values()))
            known["world_T_target"] = partial(camera_pose, drive.positions[number], first, self.camera_T_imu)
        if number in drive.images[5 - self.camera]:
            known[PARTNER[0]] = partial(read_image, drive.images[5 - self.camera][number])
            known[PARTNER[1]] = partial(_float32, self.partner_T_target)
        return known


def _float32(matrix: np.ndarray) -> Tensor:
    """Return a matrix as a float32 tensor."""
    return torch.from_numpy(matrix).float()
