from itertools import combinations

import pytest
import torch
from helpers.doubly_unbiased import doubly_unbiased_cka
from helpers.prints import normal

from cka_probe.similarity import ESTIMATORS, centre_batches, cka, cka_cells
from cka_probe.similarity.cka import u_centre
from cka_probe.similarity.feature_sampling import (
    FeatureSample,
    feature_hsic,
    feature_hsic_without,
    sampled_cells,
    sampled_cka,
)
from cka_probe.similarity.features import sample_features

UNBIASED = ESTIMATORS["unbiased"]


def related(n, p, q, seed=0):
    """Return features (n, p) and (n, q) that vary in one direction most, and of which the first are alike."""
    x, both = normal(n, p, seed=seed) + 2 * normal(n, 1, seed=seed + 3), min(p, q)
    return x, torch.cat(
        [x[:, :both] + 0.5 * normal(n, both, seed=seed + 1), x[:, : q - both] + normal(n, q - both, seed=seed + 2)],
        dim=1,
    )


def sample(*layers, total=None, batch=None):
    """Return a sample of features (n, p) of layers with as many, or a `total` of, features."""
    batches = [[part - part.mean(dim=0) for part in layer.split(batch or len(layer))] for layer in layers]
    return FeatureSample(
        tuple(zip(*batches, strict=True)), tuple(layer.shape[1] if total is None else total for layer in layers)
    )


def without(x, column):
    return torch.cat([x[:, :column], x[:, column + 1 :]], dim=1)


def jackknifed(values):
    values = torch.tensor(values, dtype=torch.float64)
    return (len(values) - 1) * values.var(correction=0)


def value(x, y, **options):
    return float(sampled_cka(x, y, **options).values)


@pytest.mark.parametrize("q", [6, 7])
def test_apart_it_is_the_published_estimator(q):
    x, y = related(7, 6, q)
    result = value(sample(x), sample(y), population=True, shared=torch.zeros(1, 1, dtype=torch.bool))
    assert result == pytest.approx(doubly_unbiased_cka(x.numpy(), y.numpy()), abs=1e-9)


def test_with_shared_features_it_is_the_published_estimator():
    x, y = related(7, 6, 6)
    result = value(sample(x), sample(y), population=True)
    assert result == pytest.approx(doubly_unbiased_cka(x.numpy(), y.numpy(), same=True), abs=1e-9)


@pytest.mark.parametrize("shared", [True, False])
def test_the_mean_over_all_samples_is_the_hsic_of_the_whole_layer(shared):
    x, y = related(8, 6, 6)
    whole = sampled_cells(sample(x), sample(y)).terms
    chosen = list(combinations(range(6), 3))
    pairs = [(a, a) for a in chosen] if shared else [(a, b) for a in chosen for b in chosen]
    flag = torch.tensor([[shared]])
    terms = [sampled_cells(sample(x[:, a], total=6), sample(y[:, b], total=6), shared=flag).terms for a, b in pairs]
    for name in ("xy", "xx", "yy"):
        mean = torch.stack([getattr(each, name) for each in terms]).mean(dim=0)
        torch.testing.assert_close(mean, getattr(whole, name))


def test_all_features_give_unbiased_cka():
    x, y = related(24, 5, 5)
    sides = sample(x, y[:, :3], batch=8), sample(y, batch=8)
    grams = [[torch.stack([v @ v.mT for v in batch]) for batch in side.values] for side in sides]
    expected = cka_cells(
        *(centre_batches(g, UNBIASED) for g in grams), UNBIASED, permutations=20, seed=0, per_image=1, centred=True
    )
    cells = sampled_cells(*sides, permutations=20)
    torch.testing.assert_close(cells.values, expected.values)
    torch.testing.assert_close(cells.null, expected.null, rtol=0, atol=1e-5)


@pytest.mark.parametrize("population", [True, False])
def test_a_sample_is_like_itself(population):
    x = sample(normal(32, 20), total=50)
    cells = sampled_cells(x, x, population=population)
    for matrix in (cells.values, cells.low, cells.high):
        assert float(matrix) == pytest.approx(1)


def test_hsic_of_features_without_each_image():
    x, y = (side - side.mean(dim=0) for side in related(9, 4, 4))
    expected = []
    for image in range(9):
        rest = [part[[i for i in range(9) if i != image]] for part in (x, y)]
        expected.append(feature_hsic(*(part - part.mean(dim=0) for part in rest)).sum())
    torch.testing.assert_close(feature_hsic_without(x, y), torch.stack(expected))


def counted_again(x, y, total, shared, population):
    """Return what the variances over images, and over features of each side, count again, feature by feature."""
    (n, p), q, centred = x.shape, y.shape[1], [side - side.mean(dim=0) for side in (x, y)]
    k, l = (u_centre((side @ side.T)[None])[0] for side in centred)  # noqa: E741
    x, y, off = *centred, 1 - torch.eye(n, dtype=torch.float64)

    def entries(one, other):
        return [off * torch.outer(a * b, a * b) for a, b in zip(one.T, other.T, strict=True)]

    pairs = [1 / (m * (m - 1)) if population else total * (total - 1) / (m * (m - 1)) for m in (p, q)]
    equal = [0.0 if population else total / m for m in (p, q)]
    target = [pairs[side] * gram.square() + (equal[side] - pairs[side]) * sum(entries(z, z))
              for side, (gram, z) in enumerate(((k, x), (l, y)))]  # fmt: skip
    sums = sampled_cells(sample(x, total=total), sample(y, total=total), population=population, shared=shared).terms
    xx, yy, value = float(sums.xx) * n * (n - 3), float(sums.yy) * n * (n - 3), float(cka(sums))
    scale, a, b = (xx * yy) ** -0.5, value / (2 * xx), value / (2 * yy)
    both = pairs[0] if shared else (1 / (p * q) if population else total**2 / (p * q))
    cross = both * k * l
    if shared:
        cross += (equal[0] - pairs[0]) * sum(entries(x, y))
    e = scale * cross - a * target[0] - b * target[1]

    def of_side(z, gram, other, factor, own_factor, share):
        own, own_factor = entries(z, z), own_factor - factor
        return [
            torch.outer(u, u) * (scale * both * other - 2 * share * factor * gram)
            - 2 * share * own_factor * own[number]
            for number, u in enumerate(z.T)
        ]

    parts = of_side(x, k, l, pairs[0], equal[0], a), of_side(y, l, k, pairs[1], equal[1], b)
    if shared:
        own = [2 * scale * (equal[0] - pairs[0]) * part for part in entries(x, y)]
        parts = ([sum(each) for each in zip(*parts, own, strict=True)],)
    noise = []
    for part in parts:
        part = torch.stack(part)
        rows = part.sum(dim=2) - part.sum(dim=2).mean(dim=0)
        rows = rows - rows.mean(dim=1, keepdim=True)
        noise.append(4 * rows.square().sum() - 2 * (part - part.mean(dim=0)).square().sum())
    return 2 * e.square().sum(), noise


@pytest.mark.parametrize("population", [True, False])
@pytest.mark.parametrize("q", [9, 8])
def test_the_interval_is_that_of_leaving_out_images_and_features_with_noise_counted_once(population, q):
    x, y = related(40, 9, q)
    total, shared = 12, q == 9
    flag = torch.tensor([[shared]])

    def of(x, y):
        return value(sample(x, total=total), sample(y, total=total), population=population, shared=flag)

    noise = [1.0 if population else 1 - p / total for p in (9, q)]
    images = [[i for i in range(40) if i != image] for image in range(40)]
    variance = jackknifed([of(x[rest], y[rest]) for rest in images])
    if shared:
        features = [jackknifed([of(without(x, u), without(y, u)) for u in range(9)])]
    else:
        features = [
            jackknifed([of(without(x, u), y) for u in range(9)]),
            jackknifed([of(x, without(y, u)) for u in range(q)]),
        ]
    pairs, again = counted_again(x, y, total, flag, population)
    assert pairs > 0.01 * variance
    variance = max(variance - pairs, variance / 2)
    for part, share, more in zip(features, noise, again, strict=False):
        assert abs(more) > 0.01 * part
        variance += share * max(part - more, 0)
    sides = sample(x, total=total), sample(y, total=total)
    estimate = sampled_cka(*sides, population=population, shared=flag)
    assert float(estimate.variance) == pytest.approx(float(variance))
    cells = sampled_cells(*sides, population=population, shared=flag)
    assert float(cells.values) == pytest.approx(float(estimate.values - estimate.bias))
    assert cells.low <= cells.values - 1.96 * estimate.variance.sqrt()
    assert cells.low <= cells.values <= cells.high


@pytest.mark.slow
def test_sixty_four_features_are_enough_without_bias():
    generator = torch.Generator().manual_seed(0)
    spectrum = torch.arange(1, 65, dtype=torch.float64) ** -0.5
    errors = []
    for _ in range(150):
        z, noise = torch.randn(2, 128, 64, generator=generator, dtype=torch.float64) * spectrum
        weights = torch.randn(2, 64, 64, generator=generator, dtype=torch.float64)
        x, y = z @ weights[0], (0.8**0.5 * z + 0.2**0.5 * noise) @ weights[1]
        apart = torch.zeros(1, 1, dtype=torch.bool)
        cells = sampled_cells(sample(x, batch=64), sample(y, batch=64), population=True, shared=apart)
        errors.append(float(cells.values) - 0.8)
    assert abs(sum(errors) / len(errors)) < 0.02


def test_layers_of_one_size_get_the_same_features_whatever_their_memory_format():
    activation = normal(3, 4, 5, 6).float()
    first, total = sample_features(activation, "NCHW", "flatten", 16, seed=3)
    again, _ = sample_features(activation.to(memory_format=torch.channels_last), "NCHW", "flatten", 16, seed=3)
    assert total == 120
    assert first.shape == (3, 16)
    assert torch.equal(first, again)
    assert not torch.equal(first, sample_features(activation, "NCHW", "flatten", 16, seed=4)[0])
    pooled, total = sample_features(activation, "NCHW", "gap", 16, seed=3)
    assert (total, pooled.shape) == (4, (3, 4))


def test_layers_that_are_undefined():
    x = sample(normal(16, 20), torch.zeros(16, 20, dtype=torch.float64), total=40)
    cells = sampled_cells(x, x, permutations=5)
    assert cells.values.isnan().tolist() == [[False, True], [True, True]]
    assert cells.low.isnan().equal(cells.values.isnan())
