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

**Splits.** A split is a list: `splits/train_files.txt`, `val_files.txt` and `test_files.txt` at the root, or any file
as `?list=`. Its lines are those of Monodepth2 and others, of BTS and AdaBins, of Monodepth, or of SfMLearner:

    2011_09_26/2011_09_26_drive_0001_sync 69 [l|r]
    2011_09_26/2011_09_26_drive_0001_sync/image_02/data/0000000069.png <improved depth or None> <focal length>
    2011_09_26/2011_09_26_drive_0001_sync/image_02/data/0000000069.jpg [<image of the other camera>]
    2011_09_26_drive_0001_sync_02 0000000069

An image is found whatever its suffix. Frames outside the list are read only as neighbours of listed frames. Samples are
ordered by drive, camera and frame, not as in the list.

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
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from cka_probe import registry
from cka_probe.errors import DataError
from cka_probe.images.datasets import check_split
from cka_probe.images.reading import image_size, read_aligned_image
from cka_probe.lab.datasets import numbers
from cka_probe.lab.datasets.fields import read_depth
from cka_probe.lab.datasets.frames import PARTNER, STEREO, Frame, Frames, parse_sources
from cka_probe.lab.datasets.numbers import camera_of, numbered, rigid

CAMERAS = {"left": 2, "right": 3}
SIDES = {"l": 2, "r": 3}
DEPTHS = ("any", "improved", "lidar", "none")
MEASURED = ("improved", "lidar")
"""Kinds of depth that only frames with a file of that kind have."""
IMU = "calib_imu_to_velo.txt"
IMPROVED = ("data_depth_annotated/val", "data_depth_annotated/train", "val", "train", "")
"""Folders that may hold the improved depth of a drive; the last one takes precedence."""


def kitti(
    root: str | Path, split: str = "all", *, sources: str = "", camera: str = "left", depth: str = "any", list: str = ""
) -> Frames:
    """Return KITTI raw.

    Args:
        root: The folder that holds the dates.
        split: "all", or "train", "val" or "test" if `splits/<split>_files.txt` exists.
        sources: Sources of each sample: offsets in frames, and "s" for the other camera: "-1,1,s".
        camera: "left" or "right", where no list names it.
        depth: "improved" (only frames that have it), "lidar" (only frames with a scan), "any" (improved, else the
            scan, else zeros: nothing measured), or "none".
        list: A split file, relative to the working folder or to the root.

    Raises:
        UnknownNameError: There is no such split, camera or kind of depth.
        DataError: The folder has another layout, or something in it is missing or broken.
    """
    root, where = Path(root), f"KITTI at {root}"
    registry.get(CAMERAS, camera, "camera")
    registry.get(dict.fromkeys(DEPTHS), depth, "kind of depth")
    offsets = parse_sources(sources)
    path = _split_file(root, split, list, where)
    views = _listed(path, camera) if path else dict.fromkeys((name, CAMERAS[camera]) for name in _drives(root, where))
    drive = lru_cache(maxsize=None)(partial(Drive.at, root))
    scenes = []
    for (name, number), listed in sorted(views.items()):
        scenes += _scenes(drive(name), number, listed, offsets, depth)
    targets = [frame for scene in scenes for frame in scene if frame.target]
    if depth in MEASURED and not targets:
        raise DataError(f"no frame with {depth} depth in {where}: complete the data or omit 'depth={depth}'")
    if depth == "any" and any("depth" in frame.fields for frame in targets):
        scenes = [[_with_depth(frame, root) for frame in scene] for scene in scenes]
    return Frames(scenes, offsets, where)


def _with_depth(frame: Frame, root: Path) -> Frame:
    """Return a frame that has depth if it is a target: zeros where nothing was measured."""
    if not frame.target or "depth" in frame.fields:
        return frame
    return replace(frame, fields={**frame.fields, "depth": partial(nothing_measured, str(root / frame.name))})


@dataclass(frozen=True)
class Drive:
    """The files of a drive by frame number; images and improved depth also by camera."""

    name: str
    images: dict[int, dict[int, str]]
    improved: dict[int, dict[int, str]]
    scans: dict[int, str]
    positions: dict[int, str]
    calibration: Path

    @classmethod
    def at(cls, root: Path, name: str) -> "Drive":
        """List the files of the drive `<date>/<drive>`."""
        folder = root / name
        improved: dict[int, dict[int, str]] = {2: {}, 3: {}}
        for base in (root / part / folder.name if part else folder for part in IMPROVED):
            for camera, files in improved.items():
                files.update(numbered(base / "proj_depth" / "groundtruth" / f"image_0{camera}"))
        return cls(
            name,
            {camera: numbered(folder / f"image_0{camera}" / "data") for camera in improved},
            improved,
            numbered(folder / "velodyne_points" / "data", (".bin",)),
            numbered(folder / "oxts" / "data", (".txt",)),
            folder.parent,
        )


def _drives(root: Path, where: str) -> list[str]:
    """Return the names of all drives, `<date>/<drive>`."""
    names = sorted(
        path.parents[1].relative_to(root).as_posix() for path in root.glob("[!.]*/[!.]*_sync/image_0[23]/data")
    )
    if not names:
        raise DataError(
            f"expected {where}: <date>/<date>_drive_NNNN_sync/image_02/data, found none; give the folder of the dates"
        )
    return [*dict.fromkeys(names)]


def _split_file(root: Path, split: str, listed: str, where: str) -> Path | None:
    """Return the list of the frames to read; None for all frames."""
    splits = {name: root / "splits" / f"{name}_files.txt" for name in ("train", "val", "test")}
    check_split(split, [*(name for name, path in splits.items() if path.is_file()), "all"], where)
    if not listed:
        return splits.get(split)
    if split != "all":
        raise DataError(f"expected a split or a list, found split={split} and list={listed}; omit one")
    return Path(listed) if Path(listed).is_file() else root / listed


@dataclass(frozen=True)
class Line:
    """The line of a list: where it stands, for messages, and whether it names improved depth."""

    where: str
    depth: bool


IMAGE = r"(?P<drive>[^/.\s][^/\s]*/[^/.\s][^/\s]*)/image_0(?P<camera>[23])/data/(?P<frame>[0-9]+)\.(?:png|jpe?g)"
LINES = (
    re.compile(r"/?(?P<drive>[^/.\s][^/\s]*/[^/.\s][^/\s]*)/?\s+(?P<frame>[0-9]+)(?:\s+(?P<side>[lr]))?"),
    re.compile(IMAGE + r"(?:\s+\S+/image_0[23]/\S+\.(?:png|jpe?g))?"),
    re.compile(IMAGE + r"\s+(?:None|(?P<depth>\S+/groundtruth/\S+\.png))\s+[0-9.]+"),
    re.compile(r"(?P<sequence>(?P<date>\d{4}_\d\d_\d\d)_drive_\d{4}_sync)_0(?P<camera>[23])\s+(?P<frame>[0-9]+)"),
)
"""The lines of lists: Monodepth2's, Monodepth's, those of BTS, SfMLearner's."""


def _listed(path: Path, camera: str) -> dict[tuple[str, int], dict[int, Line]]:
    """Return the lines of a list by drive, camera and frame number."""
    views: dict[tuple[str, int], dict[int, Line]] = {}
    for number, text in numbers.read_lines(path, "a split's frames"):
        where = f"{path}, line {number}"
        match = next((match for line in LINES if (match := line.fullmatch(text))), None)
        if match is None:
            raise DataError(
                f"{where}: expected '<date>/<drive> <frame> l' or r, or the path of an image, found {text[:80]!r}; "
                "fix the list"
            )
        names = match.groupdict()
        drive = names.get("drive") or f"{names['date']}/{names['sequence']}"
        side = int(names.get("camera") or SIDES.get(names.get("side") or "", CAMERAS[camera]))
        views.setdefault((drive, side), {})[int(names["frame"])] = Line(where, bool(names.get("depth")))
    if not views:
        raise DataError(f"{path}: expected lines of '<date>/<drive> <frame> l', found none; give another list")
    return views


def _scenes(
    drive: Drive, camera: int, listed: dict[int, Line] | None, sources: Collection[int | str], depth: str
) -> list[list[Frame]]:
    """Return the frames of one camera of a drive, split where a number is missing; None lists all."""
    images = drive.images[camera]
    for number, line in (listed or {}).items():
        if number not in images:
            raise DataError(
                f"{line.where}: names frame {number} of {drive.name}/image_0{camera}/data, which does not exist; "
                "complete the data or shorten the list"
            )
        if line.depth and depth in ("any", "improved") and number not in drive.improved[camera]:
            raise DataError(
                f"{line.where}: names improved depth of frame {number} of {drive.name}, which does not exist; "
                "complete the data, or choose depth=lidar or none"
            )
    fields_of = _Fields(drive, camera, depth).of
    frames = {}
    for number in images if sources or listed is None else sorted(listed):
        fields, target = fields_of(number), listed is None or number in listed
        if target and STEREO in sources and PARTNER[0] not in fields:
            raise DataError(f"no partner of {images[number]} in image_0{5 - camera}: add it, or omit 's'")
        if depth in MEASURED:
            target &= "depth" in fields
        if not target:
            fields = {name: read for name, read in fields.items() if name in ("image", "world_T_target")}
        name = f"{drive.name}/image_0{camera}/data/{os.path.basename(images[number])}"
        frames[number] = Frame(name, fields, target)
    return numbers.runs(frames)


class _Fields:
    """Readers of the fields of one camera of a drive."""

    def __init__(self, drive: Drive, camera: int, depth: str):
        self.drive, self.camera, self.depth = drive, camera, depth
        date = drive.calibration
        cameras, rectify = read_rectified_cameras(date / "calib_cam_to_cam.txt")
        self.intrinsics, offset = cameras[camera].intrinsics, cameras[camera].offset
        self.partner_T_target = rigid(translation=cameras[5 - camera].offset - offset)
        self.camera_T_scanner: np.ndarray | None = None
        self.camera_T_imu: np.ndarray | None = None
        located = bool(drive.positions) and (date / IMU).is_file()
        if located or (drive.scans and depth in ("any", "lidar")):
            self.camera_T_scanner = rigid(translation=offset) @ rectify @ read_rigid(date / "calib_velo_to_cam.txt")
        if located:
            self.camera_T_imu = self.camera_T_scanner @ read_rigid(date / IMU)

    def of(self, number: int) -> dict[str, Callable[[], Tensor]]:
        """Return the readers of one frame."""
        drive, camera, image = self.drive, self.camera, self.drive.images[self.camera][number]
        fields: dict[str, Callable[[], Tensor]] = {
            "image": partial(read_aligned_image, image),
            "K": partial(camera_of, self.intrinsics, image),
        }
        if self.depth in ("any", "improved") and number in drive.improved[camera]:
            fields["depth"] = partial(read_depth, drive.improved[camera][number], 1 / 256)
        elif self.camera_T_scanner is not None and self.depth in ("any", "lidar") and number in drive.scans:
            fields["depth"] = partial(scan_depth, drive.scans[number], self.camera_T_scanner, self.intrinsics, image)
        if self.camera_T_imu is not None and number in drive.positions:
            first = next(iter(drive.positions.values()))
            fields["world_T_target"] = partial(camera_pose, drive.positions[number], first, self.camera_T_imu)
        if number in drive.images[5 - camera]:
            fields[PARTNER[0]] = partial(read_aligned_image, drive.images[5 - camera][number])
            fields[PARTNER[1]] = partial(_float32, self.partner_T_target)
        return fields


def _float32(matrix: np.ndarray) -> Tensor:
    """Return a matrix as a float32 tensor."""
    return torch.from_numpy(matrix).float()


@dataclass(frozen=True)
class RectifiedCamera:
    """One rectified camera.

    Attributes:
        intrinsics: `fx`, `fy`, `cx`, `cy`, and `width` and `height` if the calibration has them.
        offset: t, (3,) metres: added to points in the axes of rectified camera 0.
    """

    intrinsics: dict[str, float]
    offset: np.ndarray


def camera_from_projection(P: np.ndarray, path: Path, size: tuple[float, ...] = ()) -> RectifiedCamera:
    """Return the camera of a projection P = K [I | t].

    Args:
        P: (12,) by rows.
        path: Its file, for messages.
        size: Width and height of its images, if known.

    Raises:
        DataError: P is no projection of a rectified camera.
    """
    P = P.reshape(3, 4)
    if not (P[0, 0] > 0 and P[1, 1] > 0 and np.allclose(P[[0, 1, 2, 2, 2], [1, 0, 0, 1, 2]], [0, 0, 0, 0, 1])):
        raise DataError(f"{path}: expected P = K [I | t] of a rectified camera, found {P.tolist()}; fetch it again")
    values = (P[0, 0], P[1, 1], P[0, 2], P[1, 2], *size)
    intrinsics = dict(zip(("fx", "fy", "cx", "cy", "width", "height"), map(float, values), strict=False))
    return RectifiedCamera(intrinsics, np.linalg.solve(P[:, :3], P[:, 3]))


def read_rectified_cameras(path: Path) -> tuple[dict[int, RectifiedCamera], np.ndarray]:
    """Return cameras 2 and 3 of a `calib_cam_to_cam.txt`, and R_rect_00 as (4, 4).

    Raises:
        DataError: The file is missing or broken.
    """
    sizes = {"R_rect_00": 9, "P_rect_02": 12, "P_rect_03": 12, "S_rect_02": 2, "S_rect_03": 2}
    rows = numbers.read_named_numbers(path, sizes, "KITTI's camera calibration")
    cameras = {
        number: camera_from_projection(rows[f"P_rect_0{number}"], path, tuple(rows[f"S_rect_0{number}"]))
        for number in (2, 3)
    }
    rectify = rigid(rows["R_rect_00"].reshape(3, 3))
    numbers.check_poses(rectify[None], path)
    return cameras, rectify


def read_rigid(path: Path) -> np.ndarray:
    """Return the motion of a `calib_velo_to_cam.txt` or `calib_imu_to_velo.txt`, (4, 4).

    Raises:
        DataError: The file is missing or broken.
    """
    rows = numbers.read_named_numbers(path, {"R": 9, "T": 3}, "KITTI's calibration")
    motion = rigid(rows["R"].reshape(3, 3), rows["T"])
    numbers.check_poses(motion[None], path)
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
        values = np.fromfile(path, dtype="<f4")
        excess = Path(path).stat().st_size % 16
    except OSError as error:
        raise DataError(f"expected a laser scan at {path}, found none that can be read ({error.strerror})") from error
    if excess or not len(values) or not np.isfinite(values).all():
        raise DataError(f"{path}: expected points of four finite float32, found a truncated file; fetch it again")
    return values.reshape(-1, 4)


def scan_depth(path: str | Path, camera_T_scanner: np.ndarray, camera: dict[str, float], image: str | Path) -> Tensor:
    """Return the depth map of a laser scan: at each pixel the nearest point that is projected onto it.

    Args:
        path: The scan.
        camera_T_scanner: (4, 4).
        camera: Intrinsics, as for `camera_matrix`.
        image: The file of the image, whose size the map has.

    Returns:
        (1, H, W) float32 metres; 0 = no point.

    Raises:
        DataError: The scan or the image cannot be read.
    """
    height, width = image_size(image)
    points = read_scan(path)[:, :3].astype(np.float64) @ camera_T_scanner[:3, :3].T + camera_T_scanner[:3, 3]
    points = points[points[:, 2] > 0]
    pixels = points @ camera_of(camera, image).double().numpy().T
    across, down = np.rint(pixels[:, :2] / pixels[:, 2:]).T
    inside = (across >= 0) & (across < width) & (down >= 0) & (down < height)
    depth = np.full(height * width, np.inf)
    np.minimum.at(depth, (down[inside] * width + across[inside]).astype(np.int64), points[inside, 2])
    depth[np.isinf(depth)] = 0
    return torch.from_numpy(depth.reshape(1, height, width)).float()


def nothing_measured(image: str | Path) -> Tensor:
    """Return the depth map of a frame without a scan: (1, H, W) zeros of the size of the image."""
    return torch.zeros(1, *image_size(image))


RADIUS = 6378137.0
NUMBERS = 30


def camera_pose(path: str | Path, first: str | Path, camera_T_imu: np.ndarray) -> Tensor:
    """Return the pose of a camera.

    Args:
        path: The navigation file of this frame.
        first: That of the first frame of the drive.
        camera_T_imu: (4, 4), from the axes of the inertial unit to those of the camera.

    Returns:
        (4, 4) float32, `world_T_camera`; the world is the camera at the first frame.

    Raises:
        DataError: A file is missing or broken.
    """
    position, start = _read_position(path), _read_position(first)
    scale = np.cos(np.radians(start[0]))
    imu_T_imu = np.linalg.solve(_unit_pose(start, scale), _unit_pose(position, scale))
    return torch.from_numpy(camera_T_imu @ imu_T_imu @ np.linalg.inv(camera_T_imu)).float()


def _read_position(path: str | Path) -> np.ndarray:
    """Return latitude, longitude, altitude, roll, pitch and yaw of a navigation file, (6,)."""
    what = "latitude, longitude, altitude, roll, pitch, yaw and 24 more"
    position = numbers.read_numbers(path, (NUMBERS,), what)[0, :6]
    if abs(position[0]) >= 90:
        raise DataError(f"{path}: expected a latitude in degrees first, found {position[0]:g}; fetch it again")
    return position


def _unit_pose(position: np.ndarray, scale: float) -> np.ndarray:
    """Return the pose of the inertial unit on the scaled map, (4, 4)."""
    latitude, longitude, altitude, *angles = position
    x = scale * RADIUS * np.radians(longitude)
    y = scale * RADIUS * np.log(np.tan(np.radians(90 + latitude) / 2))
    return rigid(Rotation.from_euler("xyz", angles).as_matrix(), (x, y, altitude))
