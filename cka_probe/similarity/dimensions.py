"""How many dimensions a layer uses, from its centred Gram over one batch of images.

With l_1, l_2, … the eigenvalues of the Gram (the squared singular values of the centred features), and r_1 and r_2 the
distances of an image to its nearest and second nearest other image,

    effective_rank         exp(-sum_i p_i log p_i), p_i = sqrt(l_i) / sum_j sqrt(l_j)    Roy & Vetterli, EUSIPCO 2007
    participation_ratio    (sum_i l_i)^2 / sum_i l_i^2 = (tr K)^2 / |K|^2
    intrinsic_dimension    (n - 1) / sum_i log(r_2 / r_1)                                Facco et al., Sci. Rep. 2017

Rotation, translation and scale of the features change none of them. The first two are at most n - 1 and depend on the
number of images; compare them only between batches of one size. The third needs no two equal images, and is too low if
there are fewer images than it takes to fill so many dimensions.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from cka_probe.similarity.measures.measure import squared_distances

ROUNDING = 1e-12
"""Eigenvalues below this share of the largest are rounding."""


def effective_rank(grams: Tensor) -> Tensor:
    """Return the exponential of the entropy of the normalised singular values, (layers,), from (layers, n, n).

    >>> effective_rank(torch.diag(torch.tensor([4.0, 4.0, 0.0], dtype=torch.float64))[None]).round(decimals=6)
    tensor([2.], dtype=torch.float64)
    """
    values: Tensor = torch.linalg.eigvalsh(grams)
    singular = torch.where(values > ROUNDING * values[:, -1:], values, 0.0).sqrt()
    shares = singular / singular.sum(dim=1, keepdim=True)
    ranks: Tensor = torch.special.entr(shares).sum(dim=1).exp()
    return ranks


def participation_ratio(grams: Tensor) -> Tensor:
    """Return `(tr K)^2 / |K|^2`, (layers,), from (layers, n, n)."""
    return grams.diagonal(dim1=1, dim2=2).sum(dim=1).square() / grams.square().sum(dim=(1, 2))


def intrinsic_dimension(grams: Tensor) -> Tensor:
    """Return the TwoNN estimate, (layers,), from (layers, n, n); NaN where two images are equal."""
    n = grams.shape[-1]
    distances = squared_distances(grams).masked_fill(torch.eye(n, dtype=torch.bool), torch.inf)
    first, second = distances.topk(2, dim=2, largest=False).values.unbind(dim=2)
    logs = (second / first).log().sum(dim=1) / 2
    return torch.where((first > 0).all(dim=1) & (logs > 0), (n - 1) / logs, torch.nan)


DIMENSIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "effective_rank": effective_rank,
    "participation_ratio": participation_ratio,
    "intrinsic_dimension": intrinsic_dimension,
}
"""Measures of one layer by name: functions of centred Grams (layers, n, n) float64 that return (layers,)."""
