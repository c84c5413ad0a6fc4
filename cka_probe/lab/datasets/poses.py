"""Camera poses from text: matrices by row, and positions with quaternions.

A pose here is `world_T_camera`, (4, 4): it takes points in the camera's axes (x right, y down, z forward) to
the scene's, in metres. KITTI writes its first three rows (12 numbers a line), other datasets all four (16);
TUM RGB-D a position and a unit quaternion, for which

    R = [[1 - 2 (y² + z²), 2 (x y - z w), 2 (x z + y w)], …]

Both are checked to be rotations: what is not was read in another order than it was written in.
"""

from pathlib import Path

import numpy as np

from cka_probe.errors import DataError
from cka_probe.lab.datasets.numbers import read_numbers

TOLERANCE = 0.01
"""How far R Rᵀ may be from the identity: files keep as few as four digits."""


def read_poses(path: str | Path, count: int) -> np.ndarray:
    """Return one pose for each image.

    Args:
        path: A text file; each line has 12 or 16 numbers, the first three or all four rows of a pose.
        count: How many there must be.

    Returns:
        (count, 4, 4) float64.

    Raises:
        DataError: It is not there, a line is broken or no pose, or their number is another.
    """
    rows = read_numbers(path, (12, 16), "a pose by rows")
    if len(rows) != count:
        raise DataError(f"{path}: expected {count} poses, one an image, found {len(rows)}; complete or remove it")
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, : rows.shape[1] // 4] = rows.reshape(count, -1, 4)
    check_poses(poses, path)
    return poses


def check_poses(poses: np.ndarray, path: str | Path) -> None:
    """Check that matrices (n, 4, 4) are rotations with a translation.

    Raises:
        DataError: One is not; the message counts it from 1.
    """
    R = poses[:, :3, :3]
    bent = np.abs(R @ R.transpose(0, 2, 1) - np.eye(3)).max((1, 2)) > TOLERANCE
    bent |= (np.linalg.det(R) < 0) | (np.abs(poses[:, 3] - [0, 0, 0, 1]).max(1) > TOLERANCE)
    if bent.any():
        raise DataError(
            f"{path}: expected matrices of motions by rows, found one that is no rotation with a translation "
            f"(matrix {int(bent.argmax()) + 1}); write rotations with determinant 1 and a last row of 0 0 0 1"
        )


def pose_from_quaternion(position: np.ndarray, quaternion: np.ndarray) -> np.ndarray:
    """Return a pose, (4, 4) float64.

    Args:
        position: (3,) metres.
        quaternion: (4,) x, y, z, w; of about unit length.

    >>> pose_from_quaternion(np.zeros(3), np.array([0, 0, 1, 0]))[:2, :2]  # half a turn about z
    array([[-1.,  0.],
           [ 0., -1.]])
    """
    x, y, z, w = quaternion / np.linalg.norm(quaternion)
    pose = np.eye(4)
    pose[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    pose[:3, 3] = position
    return pose
