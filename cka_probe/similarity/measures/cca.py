"""CCA of the leading principal components of both layers: SVCCA, and PWCCA.

With Q_x and Q_y the leading eigenvectors of the centred Grams, the canonical correlations are the singular values r_i
of `Q_x^T Q_y = U diag(r) V^T`.

    svcca   mean of r_i
    pwcca   sum_i a_i r_i / sum_i a_i,  a_i = sum_j s_j |U_ji|, s_j the length of component j; the mean of this and of
            the same for y, so that it is symmetric

CCA of all components would give 1 wherever there are as many features as images.
"""

import torch
from torch import Tensor

from cka_probe.similarity.measures.measure import Measure

COMPONENTS = 10
"""Number of leading components; at most a quarter of the images in a batch."""
RANK = 1e-6
"""Eigenvalues below this share of the largest are rounding of the Gram."""
CHANCE = "about 0.85 sqrt(k / n)"


def components(grams: Tensor) -> Tensor:
    """Return the leading principal components of the images, (layers, n, k), each as long as it is in the layer.

    Columns beyond the rank of a layer are 0.
    """
    k = max(1, min(COMPONENTS, grams.shape[-1] // 4))
    values, vectors = torch.linalg.eigh(grams)
    values, vectors = values[:, -k:], vectors[:, :, -k:]
    values = torch.where(values > RANK * values[:, -1:], values, 0.0)
    scores: Tensor = vectors * values.sqrt()[:, None, :]
    return scores


def mean_correlations(x: Tensor, y: Tensor) -> Tensor:
    """Return the mean canonical correlation of all pairs of layers, (rows, columns)."""
    (x, _, rank_x), (y, _, rank_y) = map(_orthonormal, (x, y))
    correlations: Tensor = torch.linalg.svdvals(torch.einsum("rik,cil->rckl", x, y))
    return correlations.sum(dim=2) / torch.minimum(rank_x[:, None], rank_y[None, :])


def weighted_correlations(x: Tensor, y: Tensor) -> Tensor:
    """Return the weighted mean canonical correlation of all pairs of layers, (rows, columns)."""
    (x, lengths_x, rank_x), (y, lengths_y, rank_y) = map(_orthonormal, (x, y))
    left, correlations, right = torch.linalg.svd(torch.einsum("rik,cil->rckl", x, y))
    number = torch.arange(correlations.shape[-1])
    exists = number < torch.minimum(rank_x[:, None], rank_y[None, :])[:, :, None]
    weights_x = torch.einsum("rj,rcji->rci", lengths_x, left.abs()) * exists
    weights_y = torch.einsum("cj,rcij->rci", lengths_y, right.abs()) * exists
    means: list[Tensor] = [(weights * correlations).sum(2) / weights.sum(2) for weights in (weights_x, weights_y)]
    return (means[0] + means[1]) / 2


def _orthonormal(components: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return components of length 1, (layers, n, k), their lengths, (layers, k), and their number, (layers,)."""
    lengths = torch.linalg.vector_norm(components, dim=1)
    return components / torch.where(lengths > 0, lengths, 1.0)[:, None, :], lengths, (lengths > 0).sum(dim=1)


SVCCA = Measure(
    "svcca",
    f"SVCCA, {COMPONENTS} components",
    "how far the leading components of the two layers span the same space, all counting alike",
    f"Raghu et al., NeurIPS 2017 (there as many components as explain 99 % of the variance, here {COMPONENTS})",
    components,
    mean_correlations,
    image_axes=1,
    invariances=("linear",),
    chance=CHANCE,
    cost="n k²",
)
PWCCA = Measure(
    "pwcca",
    f"PWCCA, {COMPONENTS} components",
    "as svcca, directions counting as much as they carry of the two layers",
    f"Morcos, Raghu & Bengio, NeurIPS 2018 (here of the {COMPONENTS} leading components, and symmetric)",
    components,
    weighted_correlations,
    image_axes=1,
    chance=CHANCE,
    cost="n k²",
)
