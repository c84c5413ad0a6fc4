"""How flat predicted walls, tables and floors are, and whether they stand as they should: iBims-1's planarity errors.

For each labelled plane that covers at least a twentieth of the image, the prediction is scaled so that its median
over the plane is the truth's (so no factor matters, neither the model's unit nor one wrong distance), its pixels
become points, and a plane is fitted to them by their principal components:

    pe_plan  100 * standard deviation of the points' signed distances to the fitted plane     cm
    pe_orie  angle between its normal and the true one                                        degrees, at most 90

The points are those of a sample's axes and its K, whose first pixel is (0, 0); the authors' script counts pixels from
1 and so does its calibration, which comes to the same. An image's value here is the mean over its planes; the mean of
a dataset that the authors show is one over all planes of all images, for which the planes' own values are returned
too.

Koch et al., "Evaluation of CNN-based Single-Image Depth Estimation Methods", ECCV workshops 2018.
"""

import numpy as np
import pandas as pd

from cka_probe.errors import DataError
from cka_probe.lab.datasets.ibims1 import PLANES

SMALLEST = 0.05
"""Of the image: smaller planes do not count."""

PLANARITY = ("pe_plan", "pe_orie")


def plane_errors(
    depth_predicted: np.ndarray, depth: np.ndarray, planes: np.ndarray, normals: np.ndarray, K: np.ndarray
) -> pd.DataFrame:
    """Return the errors of each plane of one image.

    Args:
        depth_predicted: (H, W), any unit, above 0.
        depth: (H, W) metres, 0 = not measured or not to be used.
        planes: (3, H, W) int, numbers of the wall, the table, the floor of each pixel; 0 = none.
        normals: (3, H, W), unit normals in the camera's axes (x right, y down, z forward); sign does not matter.
        K: (3, 3) in pixels of this image.

    Returns:
        One row a plane: kind, number, pixels, pe_plan (cm), pe_orie (degrees); float64. No row for a plane that is
        too small, and NaN for one of which fewer than three points that span a plane were measured.

    Raises:
        DataError: The sizes differ.
    """
    size = depth.shape
    if not (depth_predicted.shape == size == planes.shape[1:] == normals.shape[1:]):
        raise DataError(
            f"expected planes, normals and prediction of the depth's size {size}, found {planes.shape[1:]}, "
            f"{normals.shape[1:]} and {depth_predicted.shape}"
        )
    rays = _rays(size, K.astype(np.float64))
    measured = (depth > 0) & (depth_predicted > 0)
    rows = []
    for kind, numbers in zip(PLANES, planes, strict=True):
        for number in np.unique(numbers[numbers > 0]):
            plane = numbers == number
            if plane.sum() < SMALLEST * depth.size:
                continue
            inside = plane & measured
            predicted, true = depth_predicted[inside].astype(np.float64), depth[inside].astype(np.float64)
            normal = normals[:, plane].astype(np.float64).mean(1)
            errors = _fitted(predicted, true, rays[:, inside], normal)
            rows.append((kind, int(number), int(inside.sum()), *errors))
    return pd.DataFrame(rows, columns=["kind", "number", "pixels", *PLANARITY]).astype(
        dict.fromkeys(PLANARITY, np.float64)
    )


def _rays(size: tuple[int, int], K: np.ndarray) -> np.ndarray:
    """Return the point at depth 1 of each pixel, (3, H, W)."""
    down, across = np.mgrid[: size[0], : size[1]]
    pixels = np.stack([across, down, np.ones(size)]).reshape(3, -1)
    return np.linalg.solve(K, pixels).reshape(3, *size)


def _fitted(predicted: np.ndarray, true: np.ndarray, rays: np.ndarray, normal: np.ndarray) -> tuple[float, float]:
    """Return (cm, degrees) of one plane, from its (m,) depths, (3, m) rays and true normal (3,)."""
    if len(predicted) < 3:
        return np.nan, np.nan
    points = rays * predicted * np.median(true) / np.median(predicted)
    points -= points.mean(1, keepdims=True)
    variances, axes = np.linalg.eigh(points @ points.T / points.shape[1])  # ascending: the first is the plane's normal
    if variances[1] <= 1e-12 * variances[2] or not normal.any():
        return np.nan, np.nan  # one line of points, or no truth to hold it against
    fitted = axes[:, 0]
    # the angle by its sine and cosine: near 0 a cosine alone has no digits left
    angle = np.arctan2(np.linalg.norm(np.cross(fitted, normal)), abs(fitted @ normal))
    return 100 * float(np.std(fitted @ points)), float(np.degrees(angle))
