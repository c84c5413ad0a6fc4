"""CKA of images in groups, such as the frames of a video: groups are independent, images of one group are not.

Pairs of images within a group are not pairs of independent images, and would raise HSIC. So it is the unbiased HSIC of
Song et al. 2012 with all sums over images of distinct groups,

    HSIC = A / N_A - 2 B / N_B + D / N_D,     A = sum K_ij L_ij,   B = sum K_ij L_ik,   D = sum K_ij L_kl

with the groups of i, j (of i, j, k; of i, j, k, l) distinct, and N the numbers of terms; of groups of one image it is
that of `similarity.cka`. The interval is that of `similarity.intervals`, with a group left out at a time. The null
exchanges whole groups of one size within a batch.
"""

from collections.abc import Sequence
from math import lgamma, log

import torch
from torch import Tensor

from cka_probe.similarity.cka import Terms, cka
from cka_probe.similarity.intervals import Jackknife, fisher_z, jackknife_of, slope_of
from cka_probe.similarity.jackknife import Units, deviations, of_cells, ratio, spread, tangent

FEWEST = 4
"""Least number of groups in a batch."""
DISTINCT = 1000
"""Least number of permutations that groups have to allow."""


def group_terms(x: Sequence[Tensor], y: Sequence[Tensor], units: Units) -> Terms:
    """Return the HSIC of every pair of layers in every batch; NaN in a batch of fewer than four groups.

    Args:
        x: Per batch, (rows, n, n) float64 centred Grams as in a fingerprint.
        y: Per batch, (columns, n, n) float64, of the same images.
        units: The groups.
    """
    batches = [_terms(*batch) for batch in zip(x, y, units.indices, strict=True)]
    xy, xx, yy = (torch.stack(terms) for terms in zip(*batches, strict=True))
    weights = torch.tensor([len(index) / units.per_image for index in units.indices], dtype=torch.float64)
    return Terms(xy, xx, yy, weights)


def _terms(x: Tensor, y: Tensor, groups: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return HSIC of every pair of layers, (rows, columns), and of each layer with itself, in one batch."""
    members = torch.nn.functional.one_hot(groups.unique(return_inverse=True)[1]).double()  # (n, groups)
    outside = 1 - members @ members.mT
    ones = _sums(outside[None], members)
    counts = _combine(ones, ones, own=True)
    sums_x, sums_y = (_sums(side * outside, members) for side in (x, y))
    if members.shape[1] < FEWEST:
        counts = (counts[0] * torch.nan, counts[1], counts[2])
    xy, xx, yy = (
        pairs / counts[0] - 2 * triples / counts[1] + quadruples / counts[2]
        for pairs, triples, quadruples in (
            _combine(sums_x, sums_y), _combine(sums_x, sums_x, own=True), _combine(sums_y, sums_y, own=True)
        )
    )  # fmt: skip
    return xy, xx, yy


def _sums(outside: Tensor, members: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return Grams without pairs within groups, (layers, n, n), and their sums over columns and both by group."""
    by_group = outside @ members
    return outside, by_group, members.mT @ by_group


def _combine(x: tuple[Tensor, ...], y: tuple[Tensor, ...], own: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Return A, B and D of every pair of layers, or of each layer with its `own`."""

    def inner(a: Tensor, b: Tensor) -> Tensor:
        a, b = a.flatten(1), b.flatten(1)
        return (a * b).sum(dim=1) if own else a @ b.mT

    blocks = inner(x[2], y[2])
    pairs = inner(x[0], y[0])
    triples = inner(x[1].sum(dim=-1), y[1].sum(dim=-1)) - inner(x[1], y[1])
    totals = inner(x[2].sum(dim=(1, 2))[:, None], y[2].sum(dim=(1, 2))[:, None])
    return pairs, triples, totals - 4 * inner(x[2].sum(dim=-1), y[2].sum(dim=-1)) + 2 * blocks


def group_jackknife(x: Sequence[Tensor], y: Sequence[Tensor], terms: Terms, units: Units, draws: int = 0) -> Jackknife:
    """Return the error of every cell from leaving out one group at a time; arguments as in `group_terms`."""
    whole, sizes = terms.sums(), units.sizes
    without = []
    for group in range(len(sizes)):
        sums = [part.clone() for part in whole]
        for number, index in enumerate(units.indices):
            rest = (index != group).nonzero().flatten()
            if len(rest) == len(index):
                continue
            x_rest, y_rest = (side[number][:, rest[:, None], rest] for side in (x, y))
            parts = _terms(x_rest, y_rest, index[rest])
            for total, old, new in zip(sums, (terms.xy, terms.xx, terms.yy), parts, strict=True):
                total += len(rest) / units.per_image * new.nan_to_num(0.0) - terms.weights[number] * old[number]
        without.append(sums)
    rests = [torch.stack(parts) for parts in zip(*without, strict=True)]
    values = cka(terms)
    shares = deviations(fisher_z(values), fisher_z(ratio(*of_cells(*rests))), sizes)
    others = slope_of(values) * deviations(values, tangent(of_cells(*rests), of_cells(*whole)), sizes)
    errors = jackknife_of(values, *spread(shares, others, len(sizes)), torch.zeros_like(values), len(sizes))
    return errors.with_draws(shares, draws)


def group_permuted_values(
    x: Sequence[Tensor], y: Sequence[Tensor], terms: Terms, units: Units, *, permutations: int, seed: int
) -> Tensor:
    """Return CKA where whole groups of y are exchanged, (permutations, rows, columns) float64.

    No permutation if the groups allow fewer than `DISTINCT`, or if one is in several batches. Other arguments as in
    `group_terms`.
    """
    permutations *= _are_exchangeable(units)
    generator = torch.Generator().manual_seed(seed)
    orders = [permute_groups(permutations, index, generator) for index in units.indices]
    _, xx, yy = terms.sums()
    values = torch.zeros(permutations, *terms.xy.shape[1:], dtype=torch.float64)
    for number in range(permutations):
        moved = [stack[:, part[number][:, None], part[number]] for stack, part in zip(y, orders, strict=True)]
        values[number] = group_terms(x, moved, units).sums()[0] / (xx.sqrt()[:, None] * yy.sqrt())
    return values


def permute_groups(count: int, groups: Tensor, generator: torch.Generator) -> Tensor:
    """Return permutations of n examples that exchange whole groups of one size, (count, n) int64.

    Args:
        count: Number of permutations.
        groups: (n,) int64, the group of each example.
        generator: Source of the permutations.
    """
    order = torch.arange(len(groups)).repeat(count, 1)
    for positions in _by_size(groups):
        ranks = torch.rand(count, len(positions), generator=generator, dtype=torch.float64).argsort(dim=1)
        order[:, positions.flatten()] = positions[ranks].flatten(1)
    return order


def _by_size(groups: Tensor) -> list[Tensor]:
    """Return the positions of the members of each group, (groups of a size, size), for each size."""
    numbers, sizes = groups.unique(return_counts=True)
    parts = [(groups == number).nonzero().flatten() for number in numbers]
    return [torch.stack([part for part in parts if len(part) == size]) for size in sorted({*sizes.tolist()})]


def _are_exchangeable(units: Units) -> bool:
    """Return whether each group is in one batch, and the groups allow at least `DISTINCT` permutations."""
    present = torch.cat([index.unique() for index in units.indices])
    arrangements = sum(lgamma(len(part) + 1) for index in units.indices for part in _by_size(index))
    return len(present) == len(units.sizes) and arrangements >= log(DISTINCT)
