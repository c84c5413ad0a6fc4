"""Models as points and as a tree: distances from similarities, classical MDS with its uncertainty, and clustering.

CKA is the cosine of two vectors, the centred Grams of two layers. So with a similarity s of at most 1,

    d = sqrt(2 (1 - s))

is the distance of two unit vectors, and the same holds for the mean of CKA over layers of the same index. **Classical
multidimensional scaling** (Torgerson 1952) finds points whose distances are closest to these: with `B = -H d^2 H / 2`
and `H = I - 1/m`, the coordinates are the eigenvectors of B times the roots of their eigenvalues. Its **uncertainty**
comes from resampling the images: the points of every resample are rotated, reflected and shifted onto those of all
images (orthogonal Procrustes: Schönemann 1966), and their covariance gives an ellipse for each model.
"""

from dataclasses import dataclass

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

ELLIPSE = 5.991464547107979
"""The 95 % quantile of chi-squared with two degrees of freedom: squared radius of an ellipse in standard deviations."""


@dataclass(frozen=True, eq=False)
class Embedding:
    """Models as points in a plane.

    Attributes:
        points: (models, 2) float64, centred at 0; NaN for a model without a similarity.
        covariances: (models, 2, 2) float64, of the points over resamples of the images; NaN where unknown.
        explained: Share of the two axes in the sum of all absolute eigenvalues, from 0 to 1.
    """

    points: np.ndarray
    covariances: np.ndarray
    explained: float

    def ellipses(self) -> np.ndarray:
        """Return the 95 % ellipse of every model, (models, 3): its half axes and the angle of the longer, in degrees.

        >>> Embedding(np.zeros((1, 2)), np.diag([4.0, 1.0])[None], 1.0).ellipses().round(2)
        array([[4.9 , 2.45, 0.  ]])
        """
        ellipses = np.full((len(self.points), 3), np.nan)
        for index in np.flatnonzero(np.isfinite(self.covariances).all(axis=(1, 2))):
            variances, axes = np.linalg.eigh(self.covariances[index])
            angle = np.degrees(np.arctan2(axes[1, 1], axes[0, 1])) % 180
            ellipses[index] = *np.sqrt(ELLIPSE * variances[::-1].clip(0)), angle
        return ellipses


def distances(similarities: np.ndarray) -> np.ndarray:
    """Return `sqrt(2 (1 - s))`, (..., models, models) float64, with 0 on the diagonal; NaN where undefined."""
    result: np.ndarray = np.sqrt(2 * (1 - np.minimum(similarities, 1.0)))
    diagonal = np.arange(similarities.shape[-1])
    result[..., diagonal, diagonal] = 0.0
    return result


def classical_mds(distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return points in a plane, (..., models, 2), and the share of its two axes, (...,).

    Args:
        distance: (..., models, models) float64, symmetric, without NaN.

    >>> corners = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    >>> points, explained = classical_mds(np.linalg.norm(corners[:, None] - corners, axis=-1))
    >>> np.linalg.norm(points[1] - points[2]).round(6), explained.round(6)
    (np.float64(5.0), np.float64(1.0))
    """
    squares = distance**2
    rows = squares.mean(axis=-1, keepdims=True)
    products = -(squares - rows - rows.swapaxes(-1, -2) + rows.mean(axis=-2, keepdims=True)) / 2
    values, vectors = np.linalg.eigh(products)
    sizes, values, vectors = np.abs(values), values[..., :-3:-1].clip(0), vectors[..., :-3:-1]
    if values.shape[-1] < 2:  # one model
        return np.zeros((*distance.shape[:-1], 2)), np.ones(distance.shape[:-2])
    points = vectors * np.sqrt(values)[..., None, :]
    farthest = np.take_along_axis(points, np.abs(points).argmax(axis=-2)[..., None, :], axis=-2)
    total = sizes.sum(axis=-1)
    share = np.divide(values.sum(axis=-1), total, out=np.ones_like(total), where=total > 0)
    return points * np.where(farthest < 0, -1.0, 1.0), share


def align(points: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return points rotated, reflected and shifted onto a reference, (..., models, 2), by least squares.

    >>> square = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0], [-1.0, 1.0]])
    >>> np.abs(align(square[:, ::-1] + 5, square) - square).max().round(6)
    np.float64(0.0)
    """
    centre = points.mean(axis=-2, keepdims=True), reference.mean(axis=-2, keepdims=True)
    return np.asarray((points - centre[0]) @ rotation(points - centre[0], reference - centre[1]) + centre[1])


def rotation(points: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return the rotation or reflection, (..., 2, 2), that brings points closest to a reference, both centred."""
    left, _, right = np.linalg.svd(points.swapaxes(-1, -2) @ reference)
    return np.asarray(left @ right)


def embed(similarities: np.ndarray, deviations: np.ndarray | None = None, onto: np.ndarray | None = None) -> Embedding:
    """Return models as points in a plane, with their uncertainty.

    Args:
        similarities: (models, models) float64, of at most 1; NaN on the diagonal, and for models that are left out.
        deviations: (resamples, models, models) float64, what a resample of the images adds to the similarities; None
            if that is not known.
        onto: (models, 2) float64, points that the result is rotated and reflected onto; NaN for models without one.
    """
    count = len(similarities)
    points, covariances = np.full((count, 2), np.nan), np.full((count, 2, 2), np.nan)
    defined = np.flatnonzero(np.isfinite(similarities).any(axis=1))
    if not defined.size:
        return Embedding(points, covariances, np.nan)
    cells = np.ix_(defined, defined)
    points[defined], explained = classical_mds(distances(similarities[cells]))
    if onto is not None and (both := np.isfinite(points + onto).all(axis=1)).any():
        points = points @ rotation(*(side[both] - side[both].mean(axis=0) for side in (points, onto)))
    if deviations is not None:
        resamples, _ = classical_mds(distances(similarities[cells] + deviations[:, defined[:, None], defined]))
        resamples = align(resamples, points[defined])
        resamples -= resamples.mean(axis=0)
        covariances[defined] = np.einsum("rmi,rmj->mij", resamples, resamples) / (len(resamples) - 1)
    return Embedding(points, covariances, float(explained))


def cluster(similarities: np.ndarray) -> np.ndarray:
    """Return the hierarchical clustering of models by the mean distance between groups (average linkage, UPGMA).

    Args:
        similarities: (models, models) float64, symmetric, without NaN off the diagonal.

    Returns:
        (models - 1, 4) float64, as `scipy.cluster.hierarchy.linkage` returns it; leaves in the optimal order.
    """
    condensed = squareform(distances(similarities), checks=False)
    return np.asarray(linkage(condensed, method="average", optimal_ordering=True))


def leaves(tree: np.ndarray) -> list[int]:
    """Return the models in the order of the leaves of a tree."""
    return [int(leaf) for leaf in leaves_list(tree)]
