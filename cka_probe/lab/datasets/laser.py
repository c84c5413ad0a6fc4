"""Depth from a laser scan: its points, seen by a camera.

Pixel centres are whole numbers, as in the C++ that KITTI's calibration was made with. The depth maps of Monodepth2
and its ancestors round to a pixel and then subtract one more, to agree with an image counted from 1 in MATLAB;
that moves depth one pixel to the left and up in the image, and is not done here.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cka_probe.errors import DataError
from cka_probe.images.reading import image_size
from cka_probe.lab.datasets.intrinsics import camera_of


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
