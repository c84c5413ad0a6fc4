"""HSIC over images of distinct groups, against sums over all tuples of images."""

from itertools import permutations

import pytest
import torch

from cka_probe.similarity import ESTIMATORS, centre_batches, cka, hsic_terms
from cka_probe.similarity.groups import group_jackknife, group_permuted_values, group_terms
from cka_probe.similarity.intervals import jackknife
from cka_probe.similarity.jackknife import Units

UNBIASED = ESTIMATORS["unbiased"]


def grams(layers, n, seed=0, p=5):
    x = torch.randn(layers, n, p, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x = x - x.mean(dim=1, keepdim=True)
    return x @ x.mT


def by_tuples(k, m, groups):
    """HSIC of two Grams, one tuple of images of distinct groups at a time."""
    means = []
    products = (lambda a, b: k[a, b] * m[a, b], lambda a, b, c: k[a, b] * m[a, c], lambda a, b, c, d: k[a, b] * m[c, d])
    for count, product in enumerate(products, 2):
        tuples = [
            images for images in permutations(range(len(k)), count) if len({*groups[[*images]].tolist()}) == count
        ]
        means.append(torch.stack([product(*images) for images in tuples]).mean())
    return means[0] - 2 * means[1] + means[2]


def test_it_is_the_sum_over_images_of_distinct_groups():
    groups = torch.tensor([3, 0, 0, 1, 2, 2, 2, 1, 0])
    x, y = grams(2, 9), grams(1, 9, seed=1)
    terms = group_terms([x], [y], Units((groups,)))
    assert float(terms.xy[0, 1, 0]) == pytest.approx(float(by_tuples(x[1], y[0], groups)), abs=1e-10)
    assert float(terms.xx[0, 1]) == pytest.approx(float(by_tuples(x[1], x[1], groups)), abs=1e-10)
    assert float(terms.yy[0, 0]) == pytest.approx(float(by_tuples(y[0], y[0], groups)), abs=1e-10)


def test_groups_of_one_image_are_images():
    sides = [[grams(2, 12, seed), grams(2, 8, seed + 2)] for seed in (0, 1)]
    units = Units.of_images(sides[0])
    terms = group_terms(*sides, units)
    centred = [centre_batches(side, UNBIASED) for side in sides]
    expected = hsic_terms(*centred, UNBIASED)
    for name in ("xy", "xx", "yy", "weights"):
        torch.testing.assert_close(getattr(terms, name), getattr(expected, name))
    squares = group_jackknife(*sides, terms, units).error
    assert (squares >= jackknife(*centred, expected, UNBIASED, units).error - 1e-9).all()  # pairs count twice


def test_a_batch_of_three_groups_has_no_value():
    terms = group_terms([grams(1, 9)], [grams(1, 9, 1)], Units((torch.arange(9) % 3,)))
    assert cka(terms).isnan().all()


def test_groups_of_different_sizes_or_in_two_batches_are_not_exchanged():
    x, y = [grams(1, 10), grams(1, 10, 2)], [grams(1, 10, 1), grams(1, 10, 3)]
    sizes = torch.tensor([0, 1, 1, 2, 2, 2, 3, 3, 3, 3])
    for units in (Units((sizes, sizes + 4)), Units((torch.arange(10) // 2, torch.arange(10) // 2))):
        terms = group_terms(x, y, units)
        assert not len(group_permuted_values(x, y, terms, units, permutations=9, seed=0))
    units = Units((torch.arange(10) // 2, 5 + torch.arange(10) // 2))
    values = group_permuted_values(x, y, group_terms(x, y, units), units, permutations=9, seed=0)
    assert values.shape == (9, 1, 1)
    assert values.isfinite().all()
