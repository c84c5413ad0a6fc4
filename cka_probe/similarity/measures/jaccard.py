"""Jaccard similarity of neighbours: the share of A_i or B_i that is in both, the mean over images i.

A_i and B_i are the k nearest images of i in x and in y, k as in `mutual_knn`.
"""

from torch import Tensor

from cka_probe.similarity.measures.measure import Measure
from cka_probe.similarity.measures.mutual_knn import NEIGHBOURS, neighbours


def overlaps(x: Tensor, y: Tensor) -> Tensor:
    """Return the mean overlap of the rows of x and y for all pairs, (rows, columns).

    It is `<a, b> / (|a|^2 + |b|^2 - <a, b>)`, which is 1 for a = b even where images share a place.
    """
    common = x.transpose(0, 1) @ y.permute(1, 2, 0)  # (n, rows, columns)
    union = x.square().sum(dim=2).T[:, :, None] + y.square().sum(dim=2).T[:, None, :] - common
    return (common / union).mean(dim=0)


JACCARD = Measure(
    "jaccard",
    f"Jaccard of {NEIGHBOURS} nearest neighbours",
    "share of the images near in either layer that are near in both; stricter than mutual_knn",
    "Klabunde et al., Similarity of Neural Network Models, ACM Computing Surveys 2025",
    neighbours,
    overlaps,
    invariances=("order",),
    chance="about k / (2 (n - 1) - k)",
)
