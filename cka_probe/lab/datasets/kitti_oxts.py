"""Where KITTI's car was: its satellite and inertial navigation as poses.

Each `oxts/data/NNNNNNNNNN.txt` has 30 numbers, of which the first six are latitude and longitude in degrees,
altitude in metres, and roll, pitch and yaw in radians. A position on the map is Mercator's, scaled at the drive's
first latitude so that a metre is a metre there:

    s = cos(lat_0 π / 180)
    x = s r lon π / 180,   y = s r log(tan((90 + lat) π / 360)),   z = alt,   r = 6 378 137 m

and the pose of the inertial unit is [R_z(yaw) R_y(pitch) R_x(roll) | x, y, z]. The scene is the drive's first
pose, because a position on the globe leaves float32 nothing for centimetres.

After the development kit of Geiger et al., "Vision meets robotics: the KITTI dataset", IJRR 2013.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cka_probe.errors import DataError
from cka_probe.lab.datasets.numbers import read_numbers

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
