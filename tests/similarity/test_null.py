"""The null of the largest cell and of the mean, against permutations one at a time."""

from dataclasses import replace
from math import ceil

import numpy as np
import pytest
import torch

from cka_probe.similarity import (
    ESTIMATORS,
    calibrated_scores,
    centre_batches,
    cka,
    family_null,
    familywise_p_values,
    hsic_terms,
    permuted_values,
)
from cka_probe.similarity.groups import permute_groups
from cka_probe.similarity.intervals import jackknife
from cka_probe.similarity.jackknife import Units
from cka_probe.similarity.null import permute_images

UNBIASED = ESTIMATORS["unbiased"]


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sides(n=24, layers=(3, 2), share=0.5):
    """Features (layers, n, 6) of the second of two models, and the centred Grams of both in one batch."""
    x, y = normal(layers[0], n, 6), normal(layers[1], n, 6, seed=1)
    y = share * x[: layers[1]] + y
    return y, grams(x), grams(y)


def grams(features):
    features = features - features.mean(dim=1, keepdim=True)
    return centre_batches([features @ features.mT], UNBIASED)


@pytest.mark.parametrize("statistic", ["max", "mean"])
def test_it_is_the_calibration_of_one_permutation_after_the_other(statistic):
    """Algorithm 2 of arXiv 2602.14486, as in the package calibrated-similarity."""
    y, *centred = sides()
    terms = hsic_terms(*centred, UNBIASED)
    permuted = permuted_values(*centred, terms, UNBIASED, permutations=59, seed=4)
    orders = permute_images(59, 24, 1, torch.Generator().manual_seed(4))
    values = [cka(hsic_terms(centred[0], grams(y[:, order]), UNBIASED)) for order in orders]
    torch.testing.assert_close(permuted, torch.stack(values), rtol=0, atol=1e-5)
    reduce = torch.amax if statistic == "max" else torch.mean
    draws, observed = torch.stack([reduce(value, dim=(0, 1)) for value in values]), reduce(cka(terms), dim=(0, 1))
    null = family_null(cka(terms), permuted, statistic)
    tau = torch.cat([draws, observed[None]]).sort().values[ceil(0.95 * 60) - 1]
    assert null.value == pytest.approx(float(observed))
    assert null.tau == pytest.approx(float(tau), abs=1e-5)
    assert null.p_value == pytest.approx(float(1 + (draws >= observed).sum()) / 60)
    score = calibrated_scores(cka(terms), null.tau)
    torch.testing.assert_close(score, ((cka(terms) - null.tau) / (1 - null.tau)).clamp(0, 1))


def test_corrected_p_values_are_no_smaller_and_the_least_is_that_of_the_largest():
    _, *centred = sides(share=0.2)
    terms = hsic_terms(*centred, UNBIASED)
    permuted = permuted_values(*centred, terms, UNBIASED, permutations=99, seed=0)
    corrected = familywise_p_values(cka(terms), permuted)
    single = (1 + (permuted >= cka(terms) - 1e-5).sum(dim=0)) / 100
    assert (corrected >= single - 1e-12).all()
    assert float(corrected.min()) == family_null(cka(terms), permuted).p_value


def test_undefined_cells_are_in_no_family():
    _, *centred = sides()
    centred[0][0][1] = torch.nan
    terms = hsic_terms(*centred, UNBIASED)
    permuted = permuted_values(*centred, terms, UNBIASED, permutations=9, seed=0)
    assert np.isfinite(family_null(cka(terms), permuted).tau)
    assert familywise_p_values(cka(terms), permuted).isnan().tolist() == [[False] * 2, [True] * 2, [False] * 2]
    low, high = jackknife(*centred, terms, UNBIASED, Units.of_images(centred[0]), 100).band(torch.ones(3, 2).bool())
    assert low.isnan().tolist() == high.isnan().tolist() == [[False] * 2, [True] * 2, [False] * 2]
    errors = jackknife(*centred, terms, UNBIASED, Units.of_images(centred[0]), 100)
    assert errors.row_bands()[0].isnan().tolist() == low.isnan().tolist()
    assert np.isnan(family_null(cka(terms), permuted[:0]).tau)


def test_a_band_of_more_cells_is_wider_and_that_of_one_is_its_interval():
    _, *centred = sides(64, (3, 3))
    errors = jackknife(*centred, hsic_terms(*centred, UNBIASED), UNBIASED, Units.of_images(centred[0]), 4000)
    low, high = replace(errors, error=errors.wide).interval()
    one = torch.zeros(3, 3).bool()
    one[1, 2] = True
    widths = [float((end[1] - end[0])[1, 2]) for end in (errors.band(one), errors.band(torch.ones(3, 3).bool()))]
    assert widths[0] == pytest.approx(float((high - low)[1, 2]), rel=0.05)
    assert widths[1] > 1.15 * widths[0]
    rows = [torch.zeros(3, 3).bool().index_fill(0, torch.tensor([row]), True) for row in range(3)]
    expected = torch.stack([torch.stack(errors.band(mask))[:, row] for row, mask in enumerate(rows)], dim=1)
    torch.testing.assert_close(torch.stack(errors.row_bands()), expected)


def test_groups_are_exchanged_as_a_whole():
    groups = torch.tensor([0, 0, 1, 1, 2, 2, 2, 3, 4, 4, 4])
    orders = permute_groups(200, groups, torch.Generator().manual_seed(0))
    for order in orders:
        assert order.sort().values.tolist() == list(range(11))
        for group in range(5):
            members = groups[order[groups == group]]
            assert (members == members[0]).all()
    assert (orders[:, 7] == 7).all()  # no other group has its size
    assert {int(order[0]) for order in orders} == {0, 2}
    assert {int(order[4]) for order in orders} == {4, 8}
