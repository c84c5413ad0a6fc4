"""KITTI raw (Geiger et al. 2013): stereo driving video with laser scans and the car's position.

    <date>/calib_cam_to_cam.txt, calib_velo_to_cam.txt, calib_imu_to_velo.txt
    <date>/<date>_drive_NNNN_sync/image_02/data/*.png or .jpg        left colour camera
    <date>/<date>_drive_NNNN_sync/image_03/data/*.png or .jpg        right colour camera
    <date>/<date>_drive_NNNN_sync/velodyne_points/data/*.bin         laser scans
    <date>/<date>_drive_NNNN_sync/oxts/data/*.txt                    position of the car
    <drive>/proj_depth/groundtruth/image_02/*.png                    improved depth (Uhrig et al. 2017), v / 256 m:
        in the drive's folder, or below train/ or val/, or below data_depth_annotated/train/ or val/

**Frames.** Frames with consecutive numbers form a scene; a missing number ends the video. Depth is the improved map
where a frame has one (eleven scans accumulated, moving objects removed; the first and last five frames of a drive
have none) and otherwise the frame's own scan.

**Splits.** A split is a list of lines `<date>/<drive> <frame> [l|r]`, as used by Eigen et al., Zhou et al. and
Monodepth2: `splits/train_files.txt`, `val_files.txt` and `test_files.txt` at the root, or any file as `?list=`.
Frames outside the list are read only as neighbours of listed frames. Samples are ordered by drive, camera and frame,
not as in the list.

**Calibration.** A point p of the laser scanner appears in rectified camera i (2 left colour, 3 right colour) at

    u = P_rect_0i · R_rect_00 · velo_to_cam · p,    P_rect_0i = K [I | t_i]

All rectified cameras share their axes; t_i shifts them along x: with t_2 about 0.06 m and t_3 about -0.47 m, a
point of the left camera lies at x - 0.53 m in the right camera's axes. The third component of u is the depth in
camera i. Pixel centres are integers, as in KITTI's C++ tools. The depth maps of Monodepth2 and its predecessors
subtract one more pixel after rounding, for images counted from 1 as in MATLAB; this moves depth one pixel to the left
and up, and is not done here.

**Poses** come from satellite and inertial navigation. Each `oxts/data/NNNNNNNNNN.txt` has 30 numbers, the first six
of which are latitude and longitude in degrees, altitude in metres, and roll, pitch and yaw in radians. Positions use
the Mercator projection, scaled at the drive's first latitude so that lengths are metres:

    s = cos(lat_0 π / 180)
    x = s r lon π / 180,   y = s r log(tan((90 + lat) π / 360)),   z = alt,   r = 6 378 137 m

The pose of the inertial unit is [R_z(yaw) R_y(pitch) R_x(roll) | x, y, z], as in KITTI's development kit. Poses are
relative to the first one of the drive, because float32 cannot hold a position on the globe to the centimetre.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cka_probe import registry
from cka_probe.errors import DataError
from cka_probe.images.datasets import check_split
from cka_probe.images.reading import image_size, read_image
from cka_probe.lab.datasets.fields import read_depth
from cka_probe.lab.datasets.frames import PARTNER, STEREO, Frame, Frames, parse_sources
from cka_probe.lab.datasets.numbers import (
    camera_of,
    check_poses,
    numbered,
    read_lines,
    read_named_numbers,
    read_numbers,
    runs,
)

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
        scenes = [[_with_depth(frame, root) for frame in scene] for scene in scenes]
    return Frames(scenes, asked, where)


def _with_depth(frame: Frame, root: Path) -> Frame:
    """Return a frame that has depth if it is a target, empty where nothing was measured."""
    if not frame.target or "depth" in frame.fields:
        return frame
    return replace(frame, fields={**frame.fields, "depth": partial(nothing_measured, str(root / frame.name))})


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
            raise DataError(f"{here}: expected '<date>/<drive> <frame> l' or r, found {text[:80]!r}; fix the list")
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
        self.camera_T_scanner: np.ndarray | None = None
        self.camera_T_imu: np.ndarray | None = None
        if (drive.scans and depth in ("any", "lidar")) or (drive.positions and (date / IMU).is_file()):
            self.camera_T_scanner = shift(cameras[camera].offset) @ rectify @ read_rigid(date / "calib_velo_to_cam.txt")
        if drive.positions and (date / IMU).is_file():
            self.camera_T_imu = self.camera_T_scanner @ read_rigid(date / IMU)

    def of(self, number: int) -> dict[str, Callable[[], Tensor]]:
        """Return the fields of one frame."""
        drive, image = self.drive, self.drive.images[self.camera][number]
        known: dict[str, Callable[[], Tensor]] = {
            "image": partial(read_image, image),
            "K": partial(camera_of, self.intrinsics, image),
        }
        if self.depth in ("any", "improved") and number in drive.improved[self.camera]:
            known["depth"] = partial(read_depth, drive.improved[self.camera][number], 1 / 256)
        elif self.camera_T_scanner is not None and self.depth in ("any", "lidar") and number in drive.scans:
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


@dataclass(frozen=True)
class RectifiedCamera:
    """One rectified camera.

    Attributes:
        intrinsics: `fx`, `fy`, `cx`, `cy`, and `width` and `height` where the calibration says them.
        offset: t, (3,) metres: adds to points in the axes of rectified camera 0.
    """

    intrinsics: dict[str, float]
    offset: np.ndarray


def camera_from_projection(P: np.ndarray, path: Path, size: tuple[float, float] | None = None) -> RectifiedCamera:
    """Take P = K [I | t] apart.

    Args:
        P: (12,) by rows.
        path: Where it stands, for messages.
        size: Width and height of the images it is for, when the file says it.

    Raises:
        DataError: It is no projection of a rectified camera.
    """
    P = P.reshape(3, 4)
    if not (P[0, 0] > 0 and P[1, 1] > 0 and np.allclose(P[[0, 1, 2, 2, 2], [1, 0, 0, 1, 2]], [0, 0, 0, 0, 1])):
        raise DataError(f"{path}: expected P = K [I | t] of a rectified camera, found {P.tolist()}; fetch it again")
    intrinsics = {"fx": P[0, 0], "fy": P[1, 1], "cx": P[0, 2], "cy": P[1, 2]}
    if size is not None:
        intrinsics |= {"width": size[0], "height": size[1]}
    intrinsics = {name: float(value) for name, value in intrinsics.items()}
    return RectifiedCamera(intrinsics, np.linalg.solve(P[:, :3], P[:, 3]))


def read_rectified_cameras(path: Path) -> tuple[dict[int, RectifiedCamera], np.ndarray]:
    """Return cameras 2 and 3 of a `calib_cam_to_cam.txt`, and R_rect_00 as (4, 4).

    Raises:
        DataError: The file is not there or broken.
    """
    sizes = {"R_rect_00": 9, "P_rect_02": 12, "P_rect_03": 12, "S_rect_02": 2, "S_rect_03": 2}
    found = read_named_numbers(path, sizes, "KITTI's camera calibration")
    cameras = {
        number: camera_from_projection(found[f"P_rect_0{number}"], path, tuple(found[f"S_rect_0{number}"]))
        for number in (2, 3)
    }
    rectify = np.eye(4)
    rectify[:3, :3] = found["R_rect_00"].reshape(3, 3)
    check_poses(rectify[None], path)
    return cameras, rectify


def read_rigid(path: Path) -> np.ndarray:
    """Return the motion in a `calib_velo_to_cam.txt` or `calib_imu_to_velo.txt`, (4, 4).

    Raises:
        DataError: The file is not there or broken.
    """
    found = read_named_numbers(path, {"R": 9, "T": 3}, "KITTI's calibration")
    motion = np.eye(4)
    motion[:3, :3], motion[:3, 3] = found["R"].reshape(3, 3), found["T"]
    check_poses(motion[None], path)
    return motion


def shift(offset: np.ndarray) -> np.ndarray:
    """Return the motion that only adds `offset`, (4, 4)."""
    motion = np.eye(4)
    motion[:3, 3] = offset
    return motion


def read_scan(path: str | Path) -> np.ndarray:
    """Return the points of a scan.

    Args:
        path: A file of float32: x forward, y left, z up, reflectance, point after point.

    Returns:
        (points, 4) float32, metres.

    Raises:
        DataError: It cannot be read, or is no whole number of points.
    """
    try:
        numbers = np.fromfile(path, dtype="<f4")
        left_over = Path(path).stat().st_size % 16
    except OSError as error:
        raise DataError(f"expected a laser scan at {path}, found none that can be read ({error.strerror})") from error
    if left_over or not len(numbers) or not np.isfinite(numbers).all():
        raise DataError(
            f"{path}: expected points of four finite float32, found a file cut short or no scan; fetch it again"
        )
    return numbers.reshape(-1, 4)


def scan_depth(path: str | Path, camera_T_scanner: np.ndarray, camera: dict[str, float], image: str | Path) -> Tensor:
    """Return the depth map of a laser scan: at each pixel the nearest point that falls on it.

    Args:
        path: The scan.
        camera_T_scanner: (4, 4).
        camera: Intrinsics, as `camera_matrix` takes them.
        image: The image's file, whose size the map has.

    Returns:
        (1, H, W) float32 metres; 0 where no point fell.

    Raises:
        DataError: The scan or the image cannot be read.
    """
    height, width = image_size(image)
    points = read_scan(path)[:, :3].astype(np.float64) @ camera_T_scanner[:3, :3].T + camera_T_scanner[:3, 3]
    points = points[points[:, 2] > 0]
    pixels = points @ camera_of(camera, image).double().numpy().T
    across, down = np.rint(pixels[:, :2] / pixels[:, 2:]).T
    seen = (across >= 0) & (across < width) & (down >= 0) & (down < height)
    depth = np.full(height * width, np.inf)
    places = (down[seen] * width + across[seen]).astype(np.int64)
    np.minimum.at(depth, places, points[seen, 2])
    depth[np.isinf(depth)] = 0
    return torch.from_numpy(depth.reshape(1, height, width)).float()


def nothing_measured(image: str | Path) -> Tensor:
    """Return the depth map of a frame for which there is no scan: (1, H, W) zeros of the image's size."""
    return torch.zeros(1, *image_size(image))


RADIUS = 6378137.0
NUMBERS = 30


def camera_pose(path: str | Path, first: str | Path, camera_T_imu: np.ndarray) -> Tensor:
    """Return a camera's pose.

    Args:
        path: The navigation file of this frame.
        first: That of the drive's first frame.
        camera_T_imu: (4, 4): from the inertial unit's axes to the camera's.

    Returns:
        (4, 4) float32, `world_T_camera`; the scene is the camera at the first frame.

    Raises:
        DataError: A file is not there or holds something else.
    """
    here, start = _read(path), _read(first)
    scale = np.cos(np.radians(start[0]))
    imu_T_imu = np.linalg.solve(_unit_pose(start, scale), _unit_pose(here, scale))
    return torch.from_numpy(camera_T_imu @ imu_T_imu @ np.linalg.inv(camera_T_imu)).float()


def _read(path: str | Path) -> np.ndarray:
    """Return the six numbers of a pose from a navigation file."""
    numbers = read_numbers(path, (NUMBERS,), "latitude, longitude, altitude, roll, pitch, yaw and 24 more")[0, :6]
    if abs(numbers[0]) >= 90:
        raise DataError(f"{path}: expected a latitude in degrees first, found {numbers[0]:g}; fetch it again")
    return numbers


def _unit_pose(numbers: np.ndarray, scale: float) -> np.ndarray:
    """Return the inertial unit's pose on the scaled map, (4, 4)."""
    latitude, longitude, altitude, roll, pitch, yaw = numbers
    pose = np.eye(4)
    pose[:3, :3] = _turn(yaw, 0, 1) @ _turn(pitch, 2, 0) @ _turn(roll, 1, 2)
    pose[:3, 3] = (
        scale * RADIUS * np.radians(longitude),
        scale * RADIUS * np.log(np.tan(np.radians(90 + latitude) / 2)),
        altitude,
    )
    return pose


def _turn(angle: float, a: int, b: int) -> np.ndarray:
    """Return the rotation that turns axis a towards axis b, (3, 3)."""
    turn = np.eye(3)
    turn[[a, b], [a, b]] = np.cos(angle)
    turn[b, a], turn[a, b] = np.sin(angle), -np.sin(angle)
    return turn
