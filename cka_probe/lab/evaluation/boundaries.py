"""How far predicted depth edges lie from true ones: the depth boundary errors of iBims-1.

The prediction, scaled to [0, 1] by its least and greatest value, goes through Canny's detector; D_p and D_t are
the distances of each pixel to the nearest predicted and the nearest true edge, in pixels:

    accuracy                    mean of D_t over predicted edges with D_t < 10
    completeness "v0.9"         mean of D_p over true edges; no bound
    completeness "truncated"    mean of min(D, 10) over both, D_t at predicted and D_p at true edges
    completeness "directed_truncated"   mean of min(D_p, 10) over true edges

Published numbers differ by which completeness they are: the authors' first script has the first (and only its
numbers can be above 10), their later one the second. So do the thresholds, 0.1 and 0.2 in the first script, 0.15
and 0.3 in some copies. The accuracy does not see edges 10 pixels from any truth. The least and the greatest value are
of the whole prediction, unmasked: a single far pixel flattens all else, and leaves no edge.

Koch et al., "Evaluation of CNN-based Single-Image Depth Estimation Methods", ECCV workshops 2018.
"""

import numpy as np
from scipy.ndimage import distance_transform_edt
from skimage.feature import canny

from cka_probe.errors import DataError

SIGMA = 2**0.5
THRESHOLDS = (0.1, 0.2)
FARTHEST = 10.0
"""Pixels; what is no nearer has nothing to do with the edge, and an error is at most this where it is bounded."""

BOUNDARIES = ("dbe_acc", "dbe_comp", "dbe_comp_truncated", "dbe_comp_directed_truncated")
"""What `boundary_errors` returns; completeness "v0.9" is the plain `dbe_comp`."""


def predicted_edges(depth_predicted: np.ndarray, thresholds: tuple[float, float] = THRESHOLDS) -> np.ndarray:
    """Return Canny's edges of a prediction.

    Args:
        depth_predicted: (H, W) finite, any unit; scale and shift change nothing.
        thresholds: Low and high, of the gradient of the prediction scaled to [0, 1].

    Returns:
        (H, W) bool; none at all where the prediction is the same everywhere.

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
        Name to pixels; NaN without a true edge; all 10 without a predicted one within 10 pixels of a true one.

    Raises:
        DataError: The sizes differ, or the thresholds are none.
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
        As `boundary_errors`.
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
