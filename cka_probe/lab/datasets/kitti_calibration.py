"""KITTI's calibration: how a scanned point, a camera and the car's own pose hang together.

A point p of the laser scanner appears in rectified camera i (2 left colour, 3 right colour) at

    u = P_rect_0i · R_rect_00 · velo_to_cam · p,    P_rect_0i = K [I | t_i]

All rectified cameras share their axes; t_i shifts them along x: with t_2 about 0.06 m and t_3 about -0.47 m, a
point of the left camera is in the right one's axes at x - 0.53 m. The third number of u is the depth in camera i.

Geiger, Lenz, Stiller & Urtasun, "Vision meets robotics: the KITTI dataset", IJRR 2013.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cka_probe.errors import DataError
from cka_probe.lab.datasets.numbers import read_named_numbers
from cka_probe.lab.datasets.poses import check_poses


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
