"""RSA: the correlation of `|x_i - x_j|` with `|y_i - y_j|` over the pairs i < j, of ranks or of distances."""

import torch
from torch import Tensor

from cka_probe.similarity.measures.measure import (
    ROUNDING,
    Measure,
    inner_products,
    normed,
    over_pairs,
    squared_distances,
)

EQUALLY_FAR = "all its images are equally far apart"


def ranked_distances(grams: Tensor) -> Tensor:
    """Return the ranks of the distances (ties share their mean rank), centred and of norm 1; the diagonal is 0.

    Distances and their squares have the same ranks.
    """
    return normed(over_pairs(squared_distances(grams), _centred_ranks))


def centred_distances(grams: Tensor) -> Tensor:
    """Return the distances minus their mean, of norm 1; the diagonal is 0. NaN where all are equal."""
    distances = squared_distances(grams).sqrt()
    centred = over_pairs(distances, lambda pairs: pairs - pairs.mean(dim=1, keepdim=True))
    noise = ROUNDING * torch.linalg.matrix_norm(distances)
    return normed(centred * (torch.linalg.matrix_norm(centred) > noise)[:, None, None])


def _centred_ranks(distances: Tensor) -> Tensor:
    """Return the ranks in each row of (layers, pairs), minus their mean."""
    ordered = distances.sort(dim=1).values
    below, above = (torch.searchsorted(ordered, distances, right=right) for right in (False, True))
    ranks = (below + above).double()
    return ranks - ranks.mean(dim=1, keepdim=True)


RSA = Measure(
    "rsa",
    "RSA (Spearman)",
    "how far the two layers put the pairs of images in the same order of distance",
    "Kriegeskorte, Mur & Bandettini, Frontiers in Systems Neuroscience 2008",
    ranked_distances,
    inner_products,
    range=(-1.0, 1.0),
    invariances=("order",),
    chance="0",
    undefined=EQUALLY_FAR,
)
RSA_PEARSON = Measure(
    "rsa_pearson",
    "RSA (Pearson)",
    "how far the distances between images in the two layers are proportional, up to a constant",
    "Kriegeskorte, Mur & Bandettini, Frontiers in Systems Neuroscience 2008 (here of Euclidean distances)",
    centred_distances,
    inner_products,
    range=(-1.0, 1.0),
    chance="0",
    undefined=EQUALLY_FAR,
)
