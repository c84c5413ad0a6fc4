"""Procrustes: `|K^(1/2) L^(1/2)|_* / sqrt(tr K tr L) = |X^T Y|_* / (|X|_F |Y|_F)`.

The fidelity of the Grams, `|K^(1/2) L^(1/2)|_*`, is what the Bures distance is made of, so the normalised Bures
similarity is the same number (Harvey, Larsen & Williams 2023).
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import torch
from torch import Tensor

from cka_probe.similarity.measures.measure import Measure, normed


def square_root(grams: Tensor) -> Tensor:
    """Return `K^(1/2) / sqrt(tr K)`, of norm 1."""
    values, vectors = torch.linalg.eigh(grams)
    roots = (vectors * values.clamp_min(0).sqrt()[:, None, :]) @ vectors.mT
    return normed(roots)


def nuclear_norms(x: Tensor, y: Tensor) -> Tensor:
    """Return the sum of the singular values of `x_r y_c` for all pairs, (rows, columns)."""

    def row(matrix: Tensor) -> Tensor:
        norms: Tensor = torch.linalg.svdvals(matrix @ y).sum(dim=-1)
        return norms

    with ThreadPoolExecutor(torch.get_num_threads()) as threads:  # LAPACK works on one small matrix at a time
        return torch.stack(list(threads.map(row, x)))


PROCRUSTES = Measure(
    "procrustes",
    "Procrustes similarity",
    "how much of one layer is the other after the best rotation; its arc cosine is a metric",
    "Williams et al., NeurIPS 2021",
    square_root,
    nuclear_norms,
    chance="near 1",
    cost="n³",
)
BURES = replace(
    PROCRUSTES,
    name="bures",
    title="Normalised Bures similarity",
    meaning="how alike the Grams are as covariances of images; the same number as procrustes",
    reference="Tang et al., 2020; equal to Procrustes by Harvey, Larsen & Williams, UniReps 2023",
)
