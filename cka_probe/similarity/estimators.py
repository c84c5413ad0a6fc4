"""The two ways to estimate HSIC from Grams, each an inner product of centred matrices.

With `U` the U-centring of Székely & Rizzo (2014, eq. 4.1),

    HSIC_1(K, L) = <U(K), U(L)> / (n (n - 3))      unbiased: Song et al. 2012, eq. 5
    HSIC_0(K, L) = <H K H, H L H> / (n - 1)^2      biased: Gretton et al. 2005

Both see a Gram only through its centring, so a stack of centred Grams, flattened, gives every pair of layers in
one matrix product.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


def u_centre(matrix: Tensor) -> Tensor:
    """Return the U-centred matrix: zero diagonal, and off it rows that sum to zero.

    `U_ij = K_ij - sum_l K_il / (n - 2) - sum_k K_kj / (n - 2) + sum_kl K_kl / ((n - 1)(n - 2))` for i != j, the
    sums over a K whose diagonal has been set to zero.

    Args:
        matrix: (..., n, n) symmetric, n >= 4; not changed.

    >>> u = u_centre(torch.rand(5, 3, dtype=torch.float64) @ torch.rand(3, 5, dtype=torch.float64))
    >>> bool(u.sum(dim=-1).abs().max() < 1e-12)
    True
    """
    n = matrix.shape[-1]
    hollow = matrix * (1.0 - torch.eye(n, dtype=matrix.dtype, device=matrix.device))
    rows = hollow.sum(dim=-1, keepdim=True)
    total = rows.sum(dim=-2, keepdim=True) / ((n - 1) * (n - 2))
    centred = hollow - rows / (n - 2) - rows.mT / (n - 2) + total
    return centred * (1.0 - torch.eye(n, dtype=matrix.dtype, device=matrix.device))


@dataclass(frozen=True)
class Estimator:
    """One way to estimate HSIC: `<centre(K), centre(L)> / divisor(n)`."""

    centre: Callable[[Tensor], Tensor]
    divisor: Callable[[int], float]


def _as_stored(matrix: Tensor) -> Tensor:
    """Return `H K H`, which is how Grams are kept."""
    return matrix


ESTIMATORS: dict[str, Estimator] = {
    "unbiased": Estimator(u_centre, lambda n: n * (n - 3)),
    "biased": Estimator(_as_stored, lambda n: (n - 1) ** 2),
}
