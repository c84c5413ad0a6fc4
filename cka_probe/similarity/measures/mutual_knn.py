"""Mutual k nearest neighbours: the share of each image's k nearest images in x that are among its k nearest in y."""

import torch
from torch import Tensor

from cka_probe.similarity.measures.measure import Measure, inner_products, normed, squared_distances

NEIGHBOURS = 10
"""k, as in Huh et al.; at most half of the other images in a batch are used."""


def neighbours(grams: Tensor) -> Tensor:
    """Return whether image j is among the k nearest of i (i in rows), (layers, n, n); rows sum to k.

    Images that are tied for the last places share them, so that the result does not depend on the order of images.
    """
    n = grams.shape[-1]
    k = min(NEIGHBOURS, max(1, (n - 1) // 2))
    distances = squared_distances(grams).masked_fill(torch.eye(n, dtype=torch.bool), torch.inf)
    last = distances.sort(dim=-1).values[..., k - 1 : k]
    closer, tied = (distances < last).double(), (distances == last).double()
    share = (k - closer.sum(-1, keepdim=True)) / tied.sum(-1, keepdim=True)
    return closer + share * tied


MUTUAL_KNN = Measure(
    "mutual_knn",
    f"Mutual {NEIGHBOURS} nearest neighbours",
    "share of an image's nearest images that the two layers agree on; of its distances only the least count",
    "Huh et al., ICML 2024 (there by inner products of normalised features, here by Euclidean distance)",
    lambda grams: normed(neighbours(grams)),
    inner_products,
    invariances=("order",),
    chance="k / (n - 1)",
)
