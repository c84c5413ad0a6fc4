"""Whether a map changes where the labels change: a number for "aligned with semantic boundaries".

A Grad-CAM map that is said to follow the objects of an image should be steep at their outlines and flat inside them.
Of a map L (h, w) at the size of the labels, the steepness at a pixel (u right, v down) is

    g(u, v) = sqrt(gx² + gy²),   gx = (L(u + 1, v) - L(u - 1, v)) / 2,   gy = (L(u, v + 1) - L(u, v - 1)) / 2

(central differences; at the border of the image the one-sided ones). The labels have a boundary at a pixel whose
right or lower neighbour is of another class, neither of them ignored; with a tolerance r > 0, also at every pixel no
farther than r pixels (Euclidean) from such a one, since a map that was made at a quarter of the pixels cannot say
which of two neighbours an outline goes through. A pixel is not counted if it is ignored, or no farther than max(1, r)
from one that is: whether there is a boundary is not known there. Over the counted pixels, with b = 1 at a boundary,

    correlation         Pearson's, of g and b
    average precision   sum over thresholds t of (R(t) - R(t-)) P(t), P and R precision and recall of {g >= t} for b

The second asks whether a boundary can be found by g, and needs no scale; equal g are one threshold. A ranking by
chance has a precision of the share of boundary pixels at every recall, so that share is its average precision, up to
(ln n + 1) / n of n pixels. Neither number is changed by a L + c, a > 0. Not even the labels themselves reach 1, as an
outline at the layer's pixels is steep beside a boundary too: what they reach is the `ceiling`.

A map that copies the edges of an image, whatever it has understood, scores above chance, as outlines are edges. So
two controls go through the same pixels as the map did (`seen_at`): the image's grey value, whose g is an edge
detector, and the size of the image's gradient, as a map that lights up at edges.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt

from cka_probe.errors import DataError
from cka_probe.images.sample import IGNORE

LUMA = np.array([0.299, 0.587, 0.114])
"""Of red, green and blue in a grey value (ITU-R BT.601)."""

NO_LABEL, NO_BOUNDARY, ALL_BOUNDARY = "no counted pixel has a label", "no boundary", "a boundary at every pixel"
ZERO, CONSTANT, EVEN = "the map is zero everywhere", "the map is constant", "the map is equally steep everywhere"


@dataclass(frozen=True, eq=False)
class Boundaries:
    """Where the classes of one image change.

    Attributes:
        there: (h, w) bool, a boundary.
        counted: (h, w) bool, pixels of which it is known whether there is one.
    """

    there: np.ndarray
    counted: np.ndarray

    @property
    def share(self) -> float:
        """Share of the counted pixels that are a boundary: what chance gets; NaN where none is counted."""
        return float(self.there[self.counted].mean()) if self.counted.any() else float("nan")


@dataclass(frozen=True)
class Alignment:
    """How well one map follows the boundaries of one image.

    Attributes:
        correlation: Pearson's, of the map's steepness and the boundaries; NaN where undefined.
        ap: Average precision of the steepness for the boundaries; NaN where undefined.
        undefined: Why they are NaN, or "".
    """

    correlation: float
    ap: float
    undefined: str = ""


def boundaries(labels: np.ndarray, tolerance: float = 0.0) -> Boundaries:
    """Return where classes change.

    Args:
        labels: (h, w) whole numbers; 255 = ignore.
        tolerance: Pixels; how far from a boundary still counts as one.

    Raises:
        DataError: `labels` is no map, or the tolerance is negative or no number.

    >>> boundaries(np.array([[0, 0, 1, 1]])).there.astype(int).tolist()
    [[0, 1, 0, 0]]
    >>> boundaries(np.array([[0, 0, 1, 1]]), tolerance=1).there.astype(int).tolist()
    [[1, 1, 1, 0]]
    """
    if np.ndim(labels) != 2 or not 0 <= tolerance < np.inf:
        raise DataError(
            "expected labels (height, width) and a tolerance of 0 pixels or more, found "
            f"{np.shape(labels)} and {tolerance}; mend them"
        )
    known = labels != IGNORE
    there = np.zeros(labels.shape, dtype=bool)
    there[:, :-1] |= (labels[:, :-1] != labels[:, 1:]) & known[:, :-1] & known[:, 1:]
    there[:-1] |= (labels[:-1] != labels[1:]) & known[:-1] & known[1:]
    return Boundaries(_around(there, tolerance), ~_around(~known, max(1.0, tolerance)))


def steepness(shown: np.ndarray) -> np.ndarray:
    """Return the size of the gradient of a map (h, w) at every pixel, float64, in units of the map per pixel.

    A side of one pixel has no gradient along it.

    >>> steepness(np.array([[0.0, 0.0, 1.0, 1.0]])).tolist()
    [[0.0, 0.5, 0.5, 0.0]]
    """
    shown = np.asarray(shown, dtype=np.float64)
    down, across = (np.gradient(shown, axis=axis) if shown.shape[axis] > 1 else 0.0 * shown for axis in (0, 1))
    return np.hypot(down, across)


def average_precision(scores: np.ndarray, positive: np.ndarray) -> float:
    """Return the average precision of a ranking, highest scores first, equal scores at once.

    Args:
        scores: (n,) float.
        positive: (n,) bool, what is to be ranked high.

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


def alignment(shown: np.ndarray, of: Boundaries) -> Alignment:
    """Return how well a map follows boundaries.

    Args:
        shown: (h, w) float, finite.
        of: The image's, of the same size.

    Raises:
        DataError: The sizes differ, or the map is not finite.
    """
    if shown.shape != of.there.shape or not np.isfinite(shown).all():
        raise DataError(
            f"expected a finite map of the size of the labels {of.there.shape}, found {shown.shape}; resize the labels"
        )
    steep, positive = steepness(shown)[of.counted], of.there[of.counted]
    if why := _undefined(shown, steep, positive):
        return Alignment(float("nan"), float("nan"), why)
    g, b = steep - steep.mean(), positive - positive.mean()
    return Alignment(float((g @ b) / np.sqrt((g @ g) * (b @ b))), average_precision(steep, positive))


def ceiling(labels: np.ndarray, of: Boundaries, size: tuple[int, int]) -> float:
    """Return the average precision of the true labels, as a layer of `size` could tell them; NaN without a boundary.

    The steepness is that of as many maps as there are classes, 1 in the class and 0 elsewhere: the root of the sum of
    their squares.
    """
    each = [steepness(seen_at((labels == number).astype(np.float64), size)) for number in np.unique(labels)]
    steep = np.sqrt(np.square(each).sum(0))[of.counted]
    return average_precision(steep, of.there[of.counted]) if 0 < of.share < 1 else float("nan")


def controls(image: np.ndarray, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Return maps that have understood nothing of an image.

    Args:
        image: (h, w, 3) float in [0, 1].
        size: Height and width of the layer whose map stands beside them, pixels.

    Returns:
        `image`, its grey value, and `edges`, the size of the gradient of that; (h, w) float64 each, brought to the
        layer's pixels and back as its map is.
    """
    grey = np.asarray(image, dtype=np.float64) @ LUMA
    return {"image": seen_at(grey, size), "edges": seen_at(steepness(grey), size)}


def seen_at(value: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a map (h, w) as a layer of `size` could tell it: means over its pixels' areas, bilinear between them.

    A layer with no coarser pixels than the map leaves it as it is.

    >>> seen_at(np.array([[0.0, 0.0, 1.0, 1.0]]), (1, 2)).tolist()
    [[0.0, 0.25, 0.75, 1.0]]
    """
    for axis, (old, new) in enumerate(zip(value.shape, size, strict=True)):
        if new < old:
            value = np.moveaxis(_bilinear(new, old) @ (_areas(old, new) @ np.moveaxis(value, axis, 0)), 0, axis)
    return value


def _around(there: np.ndarray, radius: float) -> np.ndarray:
    """Return pixels no farther than `radius` from one that is true."""
    return distance_transform_edt(~there) <= radius if there.any() and radius > 0 else there


def _undefined(shown: np.ndarray, steep: np.ndarray, positive: np.ndarray) -> str:
    """Return why there is no number, or ""."""
    if not positive.size:
        return NO_LABEL
    if positive.all() or not positive.any():
        return ALL_BOUNDARY if positive.all() else NO_BOUNDARY
    if shown.min() == shown.max():
        return CONSTANT if shown.any() else ZERO
    return EVEN if np.ptp(steep) <= 1e-12 * np.abs(shown).max() else ""


def _areas(old: int, new: int) -> np.ndarray:
    """Return the matrix (new, old) that takes means over `new` equal parts of `old` pixels."""
    ends = np.arange(new + 1) * old / new
    overlap = np.minimum(ends[1:, None], np.arange(1, old + 1)) - np.maximum(ends[:-1, None], np.arange(old))
    return overlap.clip(min=0) * new / old


def _bilinear(old: int, new: int) -> np.ndarray:
    """Return the matrix (new, old) that scales by linear interpolation, pixels being areas (align_corners=False)."""
    place = ((np.arange(new) + 0.5) * old / new - 0.5).clip(0, old - 1)
    low = np.minimum(place.astype(int), max(old - 2, 0))
    matrix = np.zeros((new, old))
    matrix[np.arange(new), low] += 1 - (place - low)
    matrix[np.arange(new), np.minimum(low + 1, old - 1)] += place - low
    return matrix
