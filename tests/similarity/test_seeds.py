"""Means over trainings: the variance of tables of trainings in closed form, and the coverage of their intervals."""

import pytest
import torch

from cka_probe.similarity import ESTIMATORS, centre_batches, cka, hsic_terms
from cka_probe.similarity.intervals import mean_error
from cka_probe.similarity.seeds import _one_recipe, _two_recipes, seeds_jackknife

UNBIASED = ESTIMATORS["unbiased"]


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def layers(features, batch=32):
    """Centred Grams per batch, (trainings, batch, batch), of features (trainings, n, p)."""
    parts = [part - part.mean(dim=1, keepdim=True) for part in features.split(batch, dim=1)]
    return centre_batches([part @ part.mT for part in parts], UNBIASED)


def test_effects_of_trainings_alone_have_the_variance_of_their_means():
    a, b = normal(5), normal(4, seed=1)
    variance = _two_recipes(a[:, None] + b).variance
    torch.testing.assert_close(variance, a.var() / 5 + b.var() / 4)
    torch.testing.assert_close(_two_recipes(a[:, None] + 3).variance, a.var() / 5)  # the other side is one model
    torch.testing.assert_close(_one_recipe(a[:, None] + a).variance, 4 * a.var() / 5)


def test_the_noise_of_single_pairs_counts_once():
    tables = normal(20_000, 8, 8)
    assert 1 / 64 < float(_two_recipes(tables).variance.mean()) < 1.5 / 64  # A + B is 2 / 64
    pairs = tables.triu(1) + tables.triu(1).mT
    assert 1 / 28 < float(_one_recipe(pairs).variance.mean()) < 1.7 / 28  # J is 2.3 / 28


def test_the_same_training_many_times_adds_nothing_to_the_noise_of_images():
    x = normal(1, 64, 12)
    x, y = layers(x.expand(4, -1, -1)), layers((x + normal(1, 64, 12, seed=1)).expand(3, -1, -1))
    mean, terms = seeds_jackknife(x, y, UNBIASED), hsic_terms(x, y, UNBIASED)
    error, freedom = mean_error(x, y, terms, torch.full((4, 3), 1 / 12, dtype=torch.float64), UNBIASED)
    assert float(mean.values) == pytest.approx(float(cka(terms)[0, 0]), abs=1e-12)
    assert float(mean.error * (1 - mean.values**2)) == pytest.approx(float(error), rel=1e-9)
    assert float(mean.freedom) == pytest.approx(float(freedom), rel=1e-6)


def study(seed, trainings, same):
    """Layers of both sides, whose true mean CKA is known: each training sees its own share of the signal."""
    signal, noise = normal(1, 64, 30, seed=4 * seed), normal(2 * trainings, 64, 30, seed=4 * seed + 1)
    shares = 0.7 + 0.1 * normal(2 * trainings, seed=4 * seed + 2).clamp(-2, 2)[:, None, None]
    features = shares.sqrt() * signal + (1 - shares).sqrt() * noise
    x = layers(features[:trainings], 64)
    return (x, x) if same else (x, layers(features[trainings:], 64))


@pytest.mark.parametrize("same", [False, True])
def test_the_interval_covers_new_images_and_new_trainings(same):
    """`benchmarks/coverage.py` has more numbers of trainings and images, and more studies."""
    hits, alone = 0, 0
    for seed in range(120):
        x, y = study(seed, 4, same)
        low, high = seeds_jackknife(x, y, UNBIASED, same=same).interval()
        hits += bool(low <= 0.49 <= high)  # the mean of the product of two independent shares
        terms = hsic_terms(x, y, UNBIASED)
        weights = torch.ones(4, 4, dtype=torch.float64).fill_diagonal_(float(not same))
        weights /= weights.sum()
        error, _ = mean_error(x, y, terms, weights, UNBIASED)
        alone += bool(abs((weights * cka(terms)).sum() - 0.49) <= 2 * error)
    assert 0.89 <= hits / 120 <= 1
    assert alone / 120 < 0.85  # images alone are not enough
