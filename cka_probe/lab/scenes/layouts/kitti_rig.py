"""The cameras, the laser scanner and the GPS of KITTI's car, for images of worlds.

All four cameras are rectified: axes alike, and a point X of camera 0's rectified axes has in camera i

    x ~ P_i [X; 1],    P_i = K [I | (-c_i, 0, 0)]

where c_i is how far camera i stands to the right of camera 0: camera 2, which is the world's camera, 6 cm to its
left as on the car, and camera 3 a baseline to the right of camera 2. Scanner and GPS stand where they do on the car,
turned a little too, so that a reader that leaves out a step of the chain gps -> velo -> cam -> rect -> camera 2 is
found out.

GPS fixes are on KITTI's Mercator map (the raw data's development kit): with r = 6378137 m, s = cos(first latitude)

    x = s r pi lon / 180,    y = s r ln tan(pi (90 + lat) / 360),    z = altitude,    R = Rz(yaw) Ry(pitch) Rx(roll)

Source: Geiger et al. 2013, "Vision meets Robotics: The KITTI Dataset".
"""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cka_probe.lab.scenes.layouts.files import numbers, write_text

Floats = NDArray[np.float64]

LEFT = -0.06
"""Metres from camera 0 to the right to camera 2."""

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


def _placed(R: Floats, t: tuple[float, float, float]) -> Floats:
    """Return [R t; 0 1]."""
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = R, t
    return T


_FORWARD = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])  # x ahead, y left, z up -> x right, y down, z ahead
CAM_T_VELO = _placed(turn(0.008, -0.004, 0.006) @ _FORWARD, (-0.004, -0.076, -0.272))
VELO_T_IMU = _placed(turn(0.0003, 0.0008, -0.015), (-0.809, 0.320, -0.800))
RECT = _placed(turn(-0.004, 0.010, 0.009), (0.0, 0.0, 0.0))


def projections(K: Floats, baseline: float) -> list[Floats]:
    """Return P of cameras 0 to 3, (3, 4) each."""
    return [K @ np.column_stack([np.eye(3), (-c, 0, 0)]) for c in (0.0, baseline, LEFT, LEFT + baseline)]


def camera_T_velo() -> Floats:
    """Return (4, 4) from the scanner's axes to camera 2's."""
    return _placed(np.eye(3), (-LEFT, 0, 0)) @ RECT @ CAM_T_VELO


def write_rig(folder: Path, K: Floats, baseline: float, size: tuple[int, int]) -> None:
    """Write the three calibration files of a day into its folder."""
    write_text(folder / "calib_cam_to_cam.txt", calibration(K, baseline, size))
    for name, T in (("calib_velo_to_cam.txt", CAM_T_VELO), ("calib_imu_to_velo.txt", VELO_T_IMU)):
        lines = [f"calib_time: {START:%d-%b-%Y %H:%M:%S}", f"R: {numbers(T[:3, :3])}", f"T: {numbers(T[:3, 3])}"]
        if "velo_to_cam" in name:
            lines += ["delta_f: 0.0 0.0", "delta_c: 0.0 0.0"]
        write_text(folder / name, "".join(f"{line}\n" for line in lines))


def calibration(K: Floats, baseline: float, size: tuple[int, int]) -> str:
    """Return calib_cam_to_cam.txt of four cameras without distortion."""
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
    for place, T in enumerate(imu):
        R = T[:3, :3]
        angles = (np.arctan2(R[2, 1], R[2, 2]), -np.arcsin(R[2, 0]), np.arctan2(R[1, 0], R[0, 0]))
        head = [latitude[place], longitude[place], T[2, 3], *angles]
        ahead, left, up = R.T @ speed[place]
        motion = [speed[place][1], speed[place][0], ahead, left, up, *np.zeros(12)]
        fixed = " ".join(f"{value + 0.0:.15g}" for value in [*head, *motion])
        lines.append(f"{fixed} 0.02 0.01 4 9 6 6 6")
    return lines


def stamps(times: Floats) -> str:
    """Return timestamps.txt: the day and the time of each frame."""
    said = (START + timedelta(seconds=float(time)) for time in times)
    return "".join(f"{moment:%Y-%m-%d %H:%M:%S.%f}000\n" for moment in said)
