"""Leaving out images or groups, against Grams that are made again; and intervals of heavy tails."""

import numpy as np
import pytest
import torch

from cka_probe.similarity import ESTIMATORS, centre_batches, cka, hsic_terms
from cka_probe.similarity.intervals import jackknife
from cka_probe.similarity.jackknife import Units, deviations, effective_freedom, leave_one_out

SIZES = (12, 8)
GROUPS = (torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 4, 4, 5, 5]), torch.tensor([0, 1, 2, 3, 6, 6, 4, 7]))
"""Groups in one batch and in both, in one place and in several."""


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def compared(x, y, rows, estimator, per_image=1):
    """Terms and centred Grams of some rows of each batch."""
    sides = []
    for side in (x, y):
        features = [batch[:, index] for batch, index in zip(side, rows, strict=True)]
        features = [batch - batch.mean(dim=1, keepdim=True) for batch in features]
        sides.append(centre_batches([batch @ batch.mT for batch in features], estimator))
    return hsic_terms(*sides, estimator, per_image), sides


@pytest.mark.parametrize("unit", ["images", "tokens", "groups"])
@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_without_a_unit_it_is_cka_of_the_others(name, unit, monkeypatch):
    estimator, per_image = ESTIMATORS[name], 4 if unit == "tokens" else 1
    x = [normal(3, n, 5, seed=n) for n in SIZES]
    y = [torch.cat([normal(2, n, 4, seed=n + 1), batch[:2, :, :4]]) for n, batch in zip(SIZES, x, strict=True)]
    terms, sides = compared(x, y, [torch.arange(n) for n in SIZES], estimator, per_image)
    units = Units(GROUPS) if unit == "groups" else Units.of_images(sides[0], per_image)
    monkeypatch.setattr("cka_probe.similarity.jackknife.ELEMENTS", 1)  # one row at a time
    result = torch.cat([values for _, values, _ in leave_one_out(*sides, terms, estimator, units)], dim=1)
    for group in range(len(units.sizes)):
        rows = [(index != group).nonzero().flatten() for index in units.indices]
        expected = cka(compared(x, y, rows, estimator, per_image)[0])
        torch.testing.assert_close(result[group], expected, rtol=0, atol=1e-12)


def test_shares_of_single_images_are_those_of_the_jackknife():
    without = normal(10, 3)
    shares = deviations(without.mean(dim=0) + 0.1, without, torch.ones(10, dtype=torch.float64))
    expected = 9 / 10 * (without - without.mean(dim=0)).square().sum(dim=0)
    torch.testing.assert_close(shares.square().sum(dim=0), expected)


def test_few_images_with_all_of_the_noise_have_few_degrees_of_freedom():
    shares = torch.tensor([[1.0, 1.0], [0.01, 1.0], *[[0.01, 1.0]] * 98], dtype=torch.float64)
    freedom = effective_freedom(shares.square().sum(0), shares.pow(4).sum(0), 100)
    assert freedom[0] < 3
    assert freedom[1] == 99
    gaussian = normal(4000, 1)
    near = effective_freedom(gaussian.square().sum(0), gaussian.pow(4).sum(0), 4000)
    assert float(near) == pytest.approx(4000, rel=0.2)


SCALES = {
    "gaussian": lambda n, seed: torch.ones(n, 1, dtype=torch.float64),
    "t3": lambda n, seed: (3 / normal(n, 3, seed=seed).square().sum(dim=1, keepdim=True)).sqrt(),
    "lognormal": lambda n, seed: (0.7 * normal(n, 1, seed=seed)).exp(),
    "outliers": lambda n, seed: torch.where(normal(n, 1, seed=seed) > 2.326, 10.0, 1.0).double(),
}
"""The scale of each image, common to both sides; the true CKA is that without it."""


@pytest.mark.parametrize("kind", sorted(SCALES))
def test_the_interval_covers_the_truth_where_tails_are_heavy(kind):
    """`benchmarks/coverage.py` has more studies, numbers of images and truths."""
    estimator, rho, hits = ESTIMATORS["unbiased"], 0.6**0.5, []
    widths = torch.arange(1, 41, dtype=torch.float64) ** -0.25
    for seed in range(150):
        x, noise = normal(64, 40, seed=3 * seed) * widths, normal(64, 40, seed=3 * seed + 1) * widths
        scale = SCALES[kind](64, 3 * seed + 2)
        y = rho * x + (1 - rho**2) ** 0.5 * noise
        terms, sides = compared([(scale * x)[None]], [(scale * y)[None]], [torch.arange(64)], estimator)
        low, high = jackknife(*sides, terms, estimator, Units.of_images(sides[0])).interval()
        hits.append(float(low) <= rho**2 <= float(high))
    assert 0.90 <= np.mean(hits) <= 0.99
