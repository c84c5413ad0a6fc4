"""CKA that is unbiased for few images and few features, from its definition, by loops."""

from itertools import permutations

import numpy as np


def hsic(x, y, same):
    """Return the mean of k_ij l_ij + k_ij l_ab - 2 k_ij l_ia over all distinct images i, j, a, b.

    k is of one feature of x and l of one of y; the mean is over all pairs of features, of distinct ones if they are the
    same features (Chun et al. 2025, arXiv 2502.15104).
    """
    total = 0.0
    pairs = [(u, v) for u in range(x.shape[1]) for v in range(y.shape[1]) if not (same and u == v)]
    quadruples = list(permutations(range(len(x)), 4))
    for u, v in pairs:
        k, m = np.outer(x[:, u], x[:, u]), np.outer(y[:, v], y[:, v])
        total += sum(k[i, j] * m[i, j] + k[i, j] * m[a, b] - 2 * k[i, j] * m[i, a] for i, j, a, b in quadruples)
    return total / (len(pairs) * len(quadruples))


def doubly_unbiased_cka(x, y, same=False):
    """Return CKA of features (n, p) and (n, q); `same` if column u of both is of one feature."""
    return hsic(x, y, same) / np.sqrt(hsic(x, x, True) * hsic(y, y, True))
