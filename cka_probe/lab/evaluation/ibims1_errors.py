"""The errors of iBims-1: depth boundaries, near against far, and planes.

Boundaries (`boundary_errors`). The prediction, scaled to [0, 1] by its minimum and maximum, goes through Canny's
detector; D_p and D_t are the distances of each pixel to the nearest predicted and the nearest true edge, in pixels:

    accuracy                    mean of D_t over predicted edges with D_t < 10
    completeness "v0.9"         mean of D_p over true edges; no bound
    completeness "truncated"    mean of min(D, 10) over both, D_t at predicted and D_p at true edges
    completeness "directed_truncated"   mean of min(D_p, 10) over true edges

Publications differ in the completeness they report: the authors' first script has the first (only its numbers can
exceed 10), their later one the second. Thresholds differ too: 0.1 and 0.2 in the first script, 0.15 and 0.3 in some
copies. The accuracy ignores predicted edges 10 or more pixels from any true edge. Minimum and maximum are those of the
whole prediction, unmasked: a single far pixel flattens everything else and leaves no edge.

Directed depth error (`directed_errors`). A plane parallel to the image, 3 m away, separates near from far (a pixel at
3 m is near):

    dde_0  share of pixels on the right side
    dde_m  share predicted near that are far
    dde_p  share predicted far that are near

Planes (`plane_errors`). For each labelled plane that covers at least a twentieth of the image, the prediction is scaled
so that its median over the plane is the true one (no factor matters), its pixels become points, and a plane is fitted
to them by principal components:

    pe_plan  100 * standard deviation of the points' signed distances to the fitted plane     cm
    pe_orie  angle between its normal and the true one                                        degrees, at most 90

Points use the sample's axes and its K, whose first pixel is (0, 0); the authors' script and its calibration both count
from 1, which is equivalent. An image's value is the mean over its planes. The authors report the mean over all planes
of all images, so the values of single planes are returned too.

Koch et al., "Evaluation of CNN-based Single-Image Depth Estimation Methods", ECCV workshops 2018.
"""

import numpy as np
import pandas as pd
from scipy.ndimage import distance_transform_edt
from skimage.feature import canny
from torch import Tensor

from cka_probe.errors import DataError
from cka_probe.lab.datasets.ibims1 import PLANES

SIGMA = 2**0.5
THRESHOLDS = (0.1, 0.2)
FARTHEST = 10.0
"""Pixels; edges farther away do not belong together, and bounded errors are at most this."""

BOUNDARIES = ("dbe_acc", "dbe_comp", "dbe_comp_truncated", "dbe_comp_directed_truncated")
"""The names in `boundary_errors`; completeness "v0.9" is the plain `dbe_comp`."""


def predicted_edges(depth_predicted: np.ndarray, thresholds: tuple[float, float] = THRESHOLDS) -> np.ndarray:
    """Return Canny's edges of a prediction.

    Args:
        depth_predicted: (H, W) finite, any unit; invariant to scale and shift.
        thresholds: Low and high, for the gradient of the prediction scaled to [0, 1].

    Returns:
        (H, W) bool; no edge if the prediction is constant.

    Raises:
        DataError: The thresholds are not 0 <= low <= high.
    """
    check_thresholds(thresholds)
    values = depth_predicted.astype(np.float64)
    least, greatest = values.min(), values.max()
    if greatest == least:
        return np.zeros(values.shape, bool)
    values = (values - least) / (greatest - least)
    return canny(values, sigma=SIGMA, low_threshold=thresholds[0], high_threshold=thresholds[1])


def check_thresholds(thresholds: tuple[float, float]) -> None:
    """Raise `DataError` unless Canny's thresholds are 0 <= low <= high."""
    low, high = thresholds
    if not 0 <= low <= high:
        raise DataError(f"expected Canny's thresholds 0 <= low <= high, found {low} and {high}")


def boundary_errors(
    depth_predicted: np.ndarray, edges: np.ndarray, thresholds: tuple[float, float] = THRESHOLDS
) -> dict[str, float]:
    """Return every error of `BOUNDARIES` of one image.

    Args:
        depth_predicted: (H, W) finite, any unit.
        edges: (H, W) bool, the true occluding edges.
        thresholds: Canny's.

    Returns:
        Name to pixels; NaN without a true edge; 10 if no predicted edge is within 10 pixels of a true one.

    Raises:
        DataError: The sizes differ, or the thresholds are not 0 <= low <= high.
    """
    if depth_predicted.shape != edges.shape:
        raise DataError(f"expected edges of the prediction's size {depth_predicted.shape}, found {edges.shape}")
    return edge_distances(predicted_edges(depth_predicted, thresholds), edges)


def edge_distances(predicted: np.ndarray, edges: np.ndarray) -> dict[str, float]:
    """Return every error of `BOUNDARIES` between two sets of edges.

    Args:
        predicted: (H, W) bool.
        edges: (H, W) bool, the true ones.

    Returns:
        The same as `boundary_errors`.
    """
    if not edges.any():
        return dict.fromkeys(BOUNDARIES, np.nan)
    to_true = distance_transform_edt(~edges)[predicted]
    near = to_true[to_true < FARTHEST]
    if not len(near):
        return dict.fromkeys(BOUNDARIES, FARTHEST)
    to_predicted = distance_transform_edt(~predicted)[edges]
    bounded = np.minimum(np.concatenate([to_true, to_predicted]), FARTHEST)
    means = (near, to_predicted, bounded, bounded[len(to_true) :])
    return {name: float(distances.mean()) for name, distances in zip(BOUNDARIES, means, strict=True)}


DIRECTED = ("dde_0", "dde_m", "dde_p")
PLANE_DEPTH = 3.0
"""Metres: the plane between near and far."""


def directed_errors(depth_predicted: Tensor, depth: Tensor, valid: Tensor) -> dict[str, float]:
    """Return every error of `DIRECTED` of one image.

    Args:
        depth_predicted: Any shape, metres.
        depth: Same shape, metres.
        valid: Same shape, bool.

    Returns:
        Name to share, which sum to 1; NaN if no pixel is valid.
    """
    near, truly_near = depth_predicted[valid] <= PLANE_DEPTH, depth[valid] <= PLANE_DEPTH
    shares = ((near == truly_near), (near & ~truly_near), (~near & truly_near))
    return {name: share.double().mean().item() for name, share in zip(DIRECTED, shares, strict=True)}


MIN_AREA = 0.05
"""Share of the image: smaller planes do not count."""

PLANARITY = ("pe_plan", "pe_orie")


def plane_errors(
    depth_predicted: np.ndarray, depth: np.ndarray, planes: np.ndarray, normals: np.ndarray, K: np.ndarray
) -> pd.DataFrame:
    """Return the errors of each plane of one image.

    Args:
        depth_predicted: (H, W), any unit, above 0.
        depth: (H, W) metres, 0 = not measured or excluded.
        planes: (3, H, W) int, the number of the wall, table and floor at each pixel; 0 = none.
        normals: (3, H, W), unit normals in the camera's axes (x right, y down, z forward), of either sign.
        K: (3, 3) in pixels of this image.

    Returns:
        One row per plane: kind, number, pixels, pe_plan (cm), pe_orie (degrees); float64. No row for a plane that is
        too small; NaN if its measured points do not span a plane.

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
            if plane.sum() < MIN_AREA * depth.size:
                continue
            inside = plane & measured
            predicted, true = depth_predicted[inside].astype(np.float64), depth[inside].astype(np.float64)
            normal = normals[:, plane].astype(np.float64).mean(1)
            errors = _plane_fit_errors(predicted, true, rays[:, inside], normal)
            rows.append((kind, int(number), int(inside.sum()), *errors))
    return pd.DataFrame(rows, columns=["kind", "number", "pixels", *PLANARITY]).astype(
        dict.fromkeys(PLANARITY, np.float64)
    )


def _rays(size: tuple[int, int], K: np.ndarray) -> np.ndarray:
    """Return the point at depth 1 of each pixel, (3, H, W)."""
    down, across = np.mgrid[: size[0], : size[1]]
    pixels = np.stack([across, down, np.ones(size)]).reshape(3, -1)
    return np.linalg.solve(K, pixels).reshape(3, *size)


def _plane_fit_errors(
    predicted: np.ndarray, true: np.ndarray, rays: np.ndarray, normal: np.ndarray
) -> tuple[float, float]:
    """Return (cm, degrees) of one plane, from its (m,) depths, (3, m) rays and true normal (3,)."""
    if len(predicted) < 3:
        return np.nan, np.nan
    points = rays * predicted * np.median(true) / np.median(predicted)
    points -= points.mean(1, keepdims=True)
    variances, axes = np.linalg.eigh(points @ points.T / points.shape[1])  # ascending: the first is the plane's normal
    if variances[1] <= 1e-12 * variances[2] or not normal.any():
        return np.nan, np.nan  # points on one line, or no true normal
    fitted = axes[:, 0]
    # the angle by its sine and cosine: near 0 a cosine alone has no digits left
    angle = np.arctan2(np.linalg.norm(np.cross(fitted, normal)), abs(fitted @ normal))
    return 100 * float(np.std(fitted @ points)), float(np.degrees(angle))
