"""CKA with a Gaussian kernel: `<U(A), U(B)> / (|U(A)| |U(B)|)`, `A_ij = exp(-|x_i - x_j|^2 / (2 s^2))`.

The bandwidth s is the median of the distances between the images of the batch, so the measure has no scale.
"""

import torch
from torch import Tensor

from cka_probe.similarity.measures.cka import unbiased_hsic
from cka_probe.similarity.measures.measure import Measure, inner_products, over_pairs, squared_distances


def gaussian(squares: Tensor) -> Tensor:
    """Return the kernel of squared distances, (layers, pairs); NaN where the median distance is 0."""
    ordered, middle = squares.sort(dim=1).values, squares.shape[1] // 2
    median = (ordered[:, middle].sqrt() + ordered[:, squares.shape[1] - 1 - middle].sqrt()) / 2
    width = torch.where(median > 0, median, torch.nan)[:, None]
    return torch.exp(-squares / (2 * width.square()))


RBF_CKA = Measure(
    "rbf_cka",
    "RBF CKA",
    "how far the two layers agree on which images are alike, near images counting most",
    "Kornblith et al., ICML 2019; debiased by Song et al., JMLR 2012; bandwidth by Gretton et al., JMLR 2012",
    lambda grams: unbiased_hsic(over_pairs(squared_distances(grams), gaussian)),
    inner_products,
    range=(-1.0, 1.0),
    chance="0 (debiased)",
    undefined="most of its images are equal, or all are equally far apart",
)
