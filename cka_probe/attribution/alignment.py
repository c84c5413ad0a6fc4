"""Alignment of a map with label boundaries: does the map change where the labels change?

A Grad-CAM map that follows the objects of an image is steep at their outlines and flat inside them. For a map L (h, w)
of the size of the labels, the steepness at a pixel (u right, v down) is

    g(u, v) = sqrt(gx² + gy²),   gx = (L(u + 1, v) - L(u - 1, v)) / 2,   gy = (L(u, v + 1) - L(u, v - 1)) / 2

(central differences; one-sided at the border of the image). A pixel is on a boundary if its right or lower neighbour
has another class and neither of them is ignored; with a tolerance r > 0, also if it is within r pixels (Euclidean) of
such a pixel, because a map made at a quarter of the pixels cannot tell which of two neighbours an outline passes.
Pixels within max(1, r) of an ignored one are not counted: whether they are on a boundary is unknown. Over the counted
pixels, with b = 1 on a boundary,

    correlation         Pearson's, of g and b
    average precision   sum over thresholds t of (R(t) - R(t-)) P(t), P and R precision and recall of {g >= t} for b

The second asks whether g finds boundaries, and needs no scale; equal g share one threshold. The precision of a random
ranking is the share of boundary pixels at every recall, so this share is its average precision, up to (ln n + 1) / n
for n pixels. Neither number changes with a L + c, a > 0. Even the labels themselves do not reach 1, because at the
layer's resolution an outline is steep next to a boundary too: the value they do reach is the `ceiling`.

A map that copies the edges of an image scores above chance without understanding it, because outlines are edges. Two
controls are therefore resampled like the map (`at_resolution`): the grey value of the image, whose g is an edge
detector, and the gradient magnitude of the image, as a map that lights up at edges.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch.nn.functional import interpolate

from cka_probe.errors import DataError
from cka_probe.images.sample import IGNORE

LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in a grey value (ITU-R BT.601)."""

NO_LABEL, NO_BOUNDARY, ALL_BOUNDARY = "no counted pixel has a label", "no boundary", "a boundary at every pixel"
ZERO, CONSTANT, EVEN = "the map is zero everywhere", "the map is constant", "the map is equally steep everywhere"


@dataclass(frozen=True, eq=False)
class Boundaries:
    """The boundaries between the classes of one image.

    Attributes:
        mask: (h, w) bool, pixels on a boundary.
        counted: (h, w) bool, pixels for which that is known.
    """

    mask: np.ndarray
    counted: np.ndarray

    @property
    def share(self) -> float:
        """Share of the counted pixels on a boundary, which is chance level; NaN if none is counted."""
        return float(self.mask[self.counted].mean()) if self.counted.any() else float("nan")


@dataclass(frozen=True)
class Alignment:
    """How well one map follows the boundaries of one image.

    Attributes:
        correlation: Pearson's, of the map's steepness and the boundaries; NaN if undefined.
        ap: Average precision of the steepness for the boundaries; NaN if undefined.
        undefined: Why they are NaN, or "".
    """

    correlation: float
    ap: float
    undefined: str = ""


def find_boundaries(labels: np.ndarray, tolerance: float = 0.0) -> Boundaries:
    """Return the pixels where classes change.

    Args:
        labels: (h, w) integers; 255 = ignore.
        tolerance: Distance in pixels that still counts as on a boundary.

    Raises:
        DataError: `labels` does not have two axes, or the tolerance is negative or not finite.

    >>> find_boundaries(np.array([[0, 0, 1, 1]])).mask.astype(int).tolist()
    [[0, 1, 0, 0]]
    >>> find_boundaries(np.array([[0, 0, 1, 1]]), tolerance=1).mask.astype(int).tolist()
    [[1, 1, 1, 0]]
    """
    if np.ndim(labels) != 2 or not 0 <= tolerance < np.inf:
        raise DataError(
            "expected labels (height, width) and a tolerance of 0 pixels or more, found "
            f"{np.shape(labels)} and {tolerance}; correct them"
        )
    known = labels != IGNORE
    mask = np.zeros(labels.shape, dtype=bool)
    mask[:, :-1] |= (labels[:, :-1] != labels[:, 1:]) & known[:, :-1] & known[:, 1:]
    mask[:-1] |= (labels[:-1] != labels[1:]) & known[:-1] & known[1:]
    return Boundaries(_dilate(mask, tolerance), ~_dilate(~known, max(1.0, tolerance)))


def steepness(values: np.ndarray) -> np.ndarray:
    """Return the gradient magnitude of a map (h, w) at every pixel, float64, in units of the map per pixel.

    A side of one pixel has no gradient along it.

    >>> steepness(np.array([[0.0, 0.0, 1.0, 1.0]])).tolist()
    [[0.0, 0.5, 0.5, 0.0]]
    """
    values = np.asarray(values, dtype=np.float64)
    down, across = (np.gradient(values, axis=axis) if values.shape[axis] > 1 else 0.0 * values for axis in (0, 1))
    return np.hypot(down, across)


def average_precision(scores: np.ndarray, positive: np.ndarray) -> float:
    """Return the average precision of a ranking, highest scores first, equal scores at once.

    Args:
        scores: (n,) float.
        positive: (n,) bool, what should be ranked high.

    Returns:
        In (0, 1]; NaN without a positive.

    >>> average_precision(np.array([0.9, 0.8, 0.7, 0.1]), np.array([True, False, True, False]))
    0.8333333333333333
    """
    if not positive.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(positive[order])
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # of each group of equal scores
    recall, precision = hits[last] / hits[-1], hits[last] / (last + 1)
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def alignment(values: np.ndarray, boundaries: Boundaries) -> Alignment:
    """Return how well a map follows boundaries.

    Args:
        values: (h, w) float, finite.
        boundaries: Of the same size.

    Raises:
        DataError: The sizes differ, or the map is not finite.
    """
    if values.shape != boundaries.mask.shape or not np.isfinite(values).all():
        raise DataError(
            f"expected a finite map of the size of the labels {boundaries.mask.shape}, found {values.shape}; resize "
            "the labels"
        )
    steep, positive = steepness(values)[boundaries.counted], boundaries.mask[boundaries.counted]
    if reason := _undefined_reason(values, steep, positive):
        return Alignment(float("nan"), float("nan"), reason)
    g, b = steep - steep.mean(), positive - positive.mean()
    return Alignment(float((g @ b) / np.sqrt((g @ g) * (b @ b))), average_precision(steep, positive))


def ceiling(labels: np.ndarray, boundaries: Boundaries, size: tuple[int, int]) -> float:
    """Return the average precision of the true labels at the resolution of a layer; NaN without a boundary.

    The steepness is that of one map per class, 1 in the class and 0 elsewhere: the root of the sum of their squares.
    """
    steep = [steepness(at_resolution((labels == k).astype(np.float64), size)) for k in np.unique(labels)]
    total = np.sqrt(np.square(steep).sum(0))[boundaries.counted]
    return average_precision(total, boundaries.mask[boundaries.counted]) if 0 < boundaries.share < 1 else float("nan")


def controls(image: np.ndarray, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Return maps that depend on the image but not on a network.

    Args:
        image: (h, w, 3) float in [0, 1].
        size: Height and width of the layer whose map they are compared with, in pixels.

    Returns:
        `image`, its grey value, and `edges`, the gradient magnitude of that; (h, w) float64 each, at the resolution of
        the layer.
    """
    grey = np.asarray(image, dtype=np.float64) @ LUMA
    return {"image": at_resolution(grey, size), "edges": at_resolution(steepness(grey), size)}


def at_resolution(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a map (h, w) at the resolution of a layer, in its own size: means over areas, bilinear between them.

    A layer whose pixels are not coarser than those of the map changes nothing.

    >>> at_resolution(np.array([[0.0, 0.0, 1.0, 1.0]]), (1, 2)).tolist()
    [[0.0, 0.25, 0.75, 1.0]]
    """
    means = values
    for axis, (old, new) in enumerate(zip(values.shape, size, strict=True)):
        if new < old:
            means = np.moveaxis(_area_means(old, new) @ np.moveaxis(means, axis, 0), 0, axis)
    tensor = torch.from_numpy(np.ascontiguousarray(means))[None, None]
    return interpolate(tensor, values.shape, mode="bilinear", align_corners=False)[0, 0].numpy()


def _dilate(mask: np.ndarray, radius: float) -> np.ndarray:
    """Return the pixels within `radius` of one that is true."""
    return distance_transform_edt(~mask) <= radius if mask.any() and radius > 0 else mask


def _undefined_reason(values: np.ndarray, steep: np.ndarray, positive: np.ndarray) -> str:
    """Return why an alignment is undefined, or ""."""
    if not positive.size:
        return NO_LABEL
    if positive.all() or not positive.any():
        return ALL_BOUNDARY if positive.all() else NO_BOUNDARY
    if values.min() == values.max():
        return CONSTANT if values.any() else ZERO
    return EVEN if np.ptp(steep) <= 1e-12 * np.abs(values).max() else ""


def _area_means(old: int, new: int) -> np.ndarray:
    """Return the matrix (new, old) that takes means over `new` equal parts of `old` pixels."""
    ends = np.arange(new + 1) * old / new
    overlap = np.minimum(ends[1:, None], np.arange(1, old + 1)) - np.maximum(ends[:-1, None], np.arange(old))
    return overlap.clip(min=0) * new / old
