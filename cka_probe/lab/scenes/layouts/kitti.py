"""The layouts of KITTI: raw, odometry and semantics, with the cameras, the laser scanner and the GPS of the car.

All four cameras are rectified: their axes are parallel, and a point X in the axes of camera 0 is projected to

    x ~ P_i [X; 1],    P_i = K [I | (-c_i, 0, 0)]

in camera i, where c_i is the distance of camera i to the right of camera 0: camera 2, the camera of the scene, is 6 cm
to its left as on the car, and camera 3 a baseline to the right of camera 2. Scanner and GPS have their positions and
slight rotations on the car, so that a reader that omits a step of the chain gps -> velo -> cam -> rect -> camera 2
fails a test.

GPS fixes are on the Mercator map of KITTI (development kit of the raw data), with r = 6378137 m, s = cos(latitude_0)

    x = s r pi lon / 180,    y = s r ln tan(pi (90 + lat) / 360),    z = altitude,    R = Rz(yaw) Ry(pitch) Rx(roll)

Source: Geiger et al. 2013, "Vision meets Robotics: The KITTI Dataset".
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cka_probe.images.classes import CITYSCAPES
from cka_probe.lab.datasets.numbers import rigid
from cka_probe.lab.scenes.layouts.files import (
    ids_of,
    numbers,
    street_things,
    write_depth,
    write_flow,
    write_image,
    write_matrix,
    write_text,
)
from cka_probe.lab.scenes.layouts.layout import Layout, SetFolders, Unit, Written, labels_in, nothing_left, write_lists
from cka_probe.lab.scenes.scene import View
from cka_probe.lab.scenes.sensor import FARTHEST, lidar_pixels

Floats = NDArray[np.float64]

LEFT = -0.06
"""Metres from camera 0 to camera 2, to the right."""

START = datetime(2011, 9, 26, 13, 0, 0)
EARTH = 6378137.0
LATITUDE, LONGITUDE = 49.0, 8.4


def turn(roll: float, pitch: float, yaw: float) -> Floats:
    """Return the rotation Rz(yaw) Ry(pitch) Rx(roll), (3, 3), of angles in radians."""
    (a, b, c), (s, t, u) = np.cos([roll, pitch, yaw]), np.sin([roll, pitch, yaw])
    about_x = np.array([[1, 0, 0], [0, a, -s], [0, s, a]])
    about_y = np.array([[b, 0, t], [0, 1, 0], [-t, 0, b]])
    about_z = np.array([[c, -u, 0], [u, c, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


_FORWARD = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])  # x ahead, y left, z up -> x right, y down, z ahead
CAM_T_VELO = rigid(turn(0.008, -0.004, 0.006) @ _FORWARD, (-0.004, -0.076, -0.272))
VELO_T_IMU = rigid(turn(0.0003, 0.0008, -0.015), (-0.809, 0.320, -0.800))
RECT = rigid(turn(-0.004, 0.010, 0.009))


def projections(K: Floats, baseline: float) -> list[Floats]:
    """Return P of cameras 0 to 3, (3, 4) each."""
    return [K @ np.column_stack([np.eye(3), (-c, 0, 0)]) for c in (0.0, baseline, LEFT, LEFT + baseline)]


def camera_T_velo() -> Floats:
    """Return the (4, 4) motion from the axes of the scanner to those of camera 2."""
    return rigid(translation=(-LEFT, 0, 0)) @ RECT @ CAM_T_VELO


def write_rig(folder: Path, K: Floats, baseline: float, size: tuple[int, int]) -> None:
    """Write the three calibration files of a date into its folder."""
    write_text(folder / "calib_cam_to_cam.txt", calibration(K, baseline, size))
    for name, T in (("calib_velo_to_cam.txt", CAM_T_VELO), ("calib_imu_to_velo.txt", VELO_T_IMU)):
        lines = [f"calib_time: {START:%d-%b-%Y %H:%M:%S}", f"R: {numbers(T[:3, :3])}", f"T: {numbers(T[:3, 3])}"]
        if "velo_to_cam" in name:
            lines += ["delta_f: 0.0 0.0", "delta_c: 0.0 0.0"]
        write_text(folder / name, "".join(f"{line}\n" for line in lines))


def calibration(K: Floats, baseline: float, size: tuple[int, int]) -> str:
    """Return the text of calib_cam_to_cam.txt, of four cameras without distortion."""
    lines = [f"calib_time: {START:%d-%b-%Y %H:%M:%S}", "corner_dist: 9.950000e-02"]
    pixels = f"{size[1]:.6e} {size[0]:.6e}"
    for camera, P in enumerate(projections(K, baseline)):
        shift = np.linalg.solve(K, P[:, 3])
        rows = {"S": pixels, "K": numbers(K), "D": numbers(np.zeros(5)), "R": numbers(np.eye(3)), "T": numbers(shift)}
        rows |= {"S_rect": pixels, "R_rect": numbers(RECT[:3, :3]), "P_rect": numbers(P)}
        lines += [f"{name}_{camera:02d}: {row}" for name, row in rows.items()]
    return "".join(f"{line}\n" for line in lines)


def gps(poses: Floats, times: Floats) -> list[str]:
    """Return a line of 30 numbers (oxts) for each frame.

    Args:
        poses: (frames, 4, 4) of camera 2 in the world, z up.
        times: (frames,) seconds.
    """
    imu = poses @ camera_T_velo() @ VELO_T_IMU
    scale = np.cos(np.radians(LATITUDE))
    x = imu[:, 0, 3] - imu[0, 0, 3] + scale * EARTH * np.radians(LONGITUDE)
    y = imu[:, 1, 3] - imu[0, 1, 3] + scale * EARTH * np.log(np.tan(np.radians(90 + LATITUDE) / 2))
    latitude = np.degrees(2 * np.arctan(np.exp(y / (scale * EARTH)))) - 90
    longitude = np.degrees(x / (scale * EARTH))
    speed = np.gradient(imu[:, :3, 3], times, axis=0) if len(times) > 1 else np.zeros((len(times), 3))
    lines = []
    for index, T in enumerate(imu):
        R = T[:3, :3]
        angles = (np.arctan2(R[2, 1], R[2, 2]), -np.arcsin(R[2, 0]), np.arctan2(R[1, 0], R[0, 0]))
        head = [latitude[index], longitude[index], T[2, 3], *angles]
        ahead, left, up = R.T @ speed[index]
        motion = [speed[index][1], speed[index][0], ahead, left, up, *np.zeros(12)]
        fixed = " ".join(f"{value + 0.0:.15g}" for value in [*head, *motion])
        lines.append(f"{fixed} 0.02 0.01 4 9 6 6 6")
    return lines


def stamps(times: Floats) -> str:
    """Return the text of timestamps.txt, with the date and time of each frame."""
    moments = (START + timedelta(seconds=float(time)) for time in times)
    return "".join(f"{moment:%Y-%m-%d %H:%M:%S.%f}000\n" for moment in moments)


STEP = 1 / 256


def write_raw(unit: Unit, folders: SetFolders) -> list[str]:
    """Write one drive, and return its lines for a split file."""
    date = f"{START + timedelta(days=unit.index):%Y_%m_%d}"
    name = f"{date}/{date}_drive_0001_sync"
    folder = folders.tree / name
    camera = unit.scene.camera
    write_rig(folder.parent, unit.K, camera.baseline, unit.size)
    for sensor in ("image_02", "image_03", "velodyne_points", "oxts"):
        write_text(folder / sensor / "timestamps.txt", stamps(camera.times))
    fixes = gps(camera.poses, camera.times)
    for frame, view, _ in unit.views():
        number = f"{frame:010d}"
        write_image(folder / f"image_02/data/{number}.png", view.image)
        write_image(folder / f"image_03/data/{number}.png", view.right)
        write_depth(folder / f"proj_depth/groundtruth/image_02/{number}.png", view.depth, STEP)
        write_text(folder / f"oxts/data/{number}.txt", f"{fixes[frame]}\n")
        _write_scan(folder / f"velodyne_points/data/{number}.bin", view)
    return [f"{name} {frame} l" for frame in range(len(camera.poses))]


def _write_scan(path: Path, view: View) -> None:
    """Write the points of a scan in the axes of the scanner, with the brightness of the pixel as reflectance."""
    v, u = np.nonzero(
        lidar_pixels(view.K, view.depth.shape, camera_T_velo()) & (view.depth > 0) & (view.depth <= FARTHEST)
    )
    rays = np.linalg.solve(view.K, np.stack([u, v, np.ones(len(u))]))
    points = np.linalg.inv(camera_T_velo()) @ np.vstack([rays * view.depth[v, u], np.ones(len(u))])
    scan = np.column_stack([points[:3].T, view.image[v, u].mean(axis=1) / 255])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(scan.astype("<f4").tobytes())


def finish(written: Iterable[Written], folders: SetFolders) -> None:
    """Write the split files."""
    paths = {name: folders.tree / "splits" / f"{name}_files.txt" for name in ("train", "val", "test")}
    write_lists(written, paths, lambda scene: "train" if not scene.test else "val" if scene.index % 2 else "test")


RAW = Layout(
    reader="kitti",
    kinds=("streets",),
    holds=frozenset({"image", "depth", "K", "world_T_target", "sources", "source_T_target"}),
    write=write_raw,
    finish=finish,
    partner=True,
)


def write_odometry(unit: Unit, folders: SetFolders) -> list[str]:
    """Write one sequence."""
    camera = unit.scene.camera
    folder = folders.tree / "sequences" / f"{unit.index:02d}"
    for frame, view, _ in unit.views():
        write_image(folder / f"image_2/{frame:06d}.png", view.image)
        write_image(folder / f"image_3/{frame:06d}.png", view.right)
    rows = dict(enumerate(projections(unit.K, camera.baseline)))
    lines = [f"P{number}: {numbers(P)}\n" for number, P in rows.items()]
    write_text(folder / "calib.txt", "".join([*lines, f"Tr: {numbers((RECT @ CAM_T_VELO)[:3])}\n"]))
    write_text(folder / "times.txt", "".join(f"{time - camera.times[0]:e}\n" for time in camera.times))
    world_T_0 = camera.poses @ rigid(translation=(-LEFT, 0, 0))
    poses = np.linalg.solve(world_T_0[0], world_T_0)[:, :3].reshape(-1, 12)
    write_matrix(folders.tree / "poses" / f"{unit.index:02d}.txt", poses)
    return []


ODOMETRY = Layout(
    reader="kitti_odometry",
    kinds=("streets",),
    holds=frozenset({"image", "K", "world_T_target", "sources", "source_T_target"}),
    write=write_odometry,
    finish=nothing_left,
    partner=True,
    most_scenes=100,
)


def write_semantics(unit: Unit, folders: SetFolders) -> list[str]:
    """Write the two frames of a scene, and the ground truth of the first."""
    folder, number = folders.tree / "training", f"{unit.index:06d}"
    for frame, view, _ in unit.views():
        name = f"{number}_{10 + frame}.png"
        write_image(folder / "image_2" / name, view.image)
        write_image(folder / "image_3" / name, view.right)
        if frame:
            continue
        labels = labels_in(view, unit.scene, CITYSCAPES)
        ids = ids_of(labels, none=255)
        write_image(folder / "semantic" / name, ids)
        write_image(folder / "instance" / name, _instances(labels, ids, view.instances))
        if view.flow is not None and view.occluded is not None:
            write_flow(folder / "flow_occ" / name, view.flow, np.ones_like(view.occluded))
            write_flow(folder / "flow_noc" / name, view.flow, ~view.occluded)
    text = calibration(unit.K, unit.scene.camera.baseline, unit.size)
    write_text(folder / "calib_cam_to_cam" / f"{number}.txt", text)
    return []


def _instances(labels: NDArray[np.uint8], ids: NDArray[np.uint8], pieces: NDArray[np.int32]) -> NDArray[np.uint16]:
    """Return 256 id + number, objects numbered from 1 in each class."""
    things = street_things(labels, pieces, most=255)
    return np.where(labels == 255, 0, ids.astype(np.uint16) * 256 + things).astype(np.uint16)


SEMANTICS = Layout(
    reader="kitti_semantics",
    kinds=("streets",),
    holds=frozenset({"image", "labels", "instances", "flow", "occluded", "K", "sources", "source_T_target"}),
    write=write_semantics,
    finish=nothing_left,
    partner=True,
    flow=True,
    most=2,
)
