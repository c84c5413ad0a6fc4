"""CKA over all images from sums, against the Grams of the same images."""

import pytest
import torch

from cka_probe.similarity import ESTIMATORS, cka_cells
from cka_probe.similarity.gram import double_centre
from cka_probe.similarity.moments import Moments, Reservoir, Spectrum, null_of_moments


def sides(n, mean=0.0):
    draw = torch.Generator().manual_seed(0)
    x, z = (torch.randn(n, width, generator=draw, dtype=torch.float64) for width in (6, 6))
    return [x + mean, x[:, :3] ** 2], [0.3 * x + z - mean, z.exp(), z]


def cells_of_moments(x, y, estimator, batch=64, kept=4096):
    moments = Moments(seed=0, kept=kept)
    for start in range(0, len(x[0]), batch):
        moments.add(*([layer[start : start + batch] for layer in side] for side in (x, y)))
    return moments.cells(ESTIMATORS[estimator])


def cells_of_grams(x, y, estimator, permutations=0):
    grams = [
        [double_centre(torch.stack([(layer - layer.mean(0)) @ (layer - layer.mean(0)).mT for layer in side]))]
        for side in (x, y)
    ]
    return cka_cells(*grams, ESTIMATORS[estimator], permutations=permutations, seed=0, per_image=1)


@pytest.mark.parametrize("mean", [0.0, 1e4])
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("n", [5, 300])
def test_values_and_intervals_are_those_of_the_grams(n, estimator, mean):
    x, y = sides(n, mean)
    moments, grams = cells_of_moments(x, y, estimator), cells_of_grams(x, y, estimator)
    for name in ("values", "low", "high"):
        torch.testing.assert_close(getattr(moments, name), getattr(grams, name), rtol=0, atol=1e-8)


def test_two_thousand_images_in_sorted_batches_agree_to_eight_digits():
    x, y = sides(2000)
    order = x[0][:, 0].argsort()  # the mean of the first batch is not that of all
    x, y = ([layer[order] for layer in side] for side in (x, y))
    moments, grams = cells_of_moments(x, y, "unbiased"), cells_of_grams(x, y, "unbiased")
    torch.testing.assert_close(moments.values, grams.values, rtol=0, atol=1e-8)


def test_a_sample_of_images_gives_half_widths_within_five_percent():
    draw = torch.Generator().manual_seed(2)
    x, z = (torch.randn(2000, 8, generator=draw, dtype=torch.float64) for _ in range(2))
    x, y = [x], [0.6 * x + z]
    sampled, exact = cells_of_moments(x, y, "unbiased", kept=1500), cells_of_grams(x, y, "unbiased")
    ratio = (sampled.high - sampled.low) / (exact.high - exact.low)
    assert ratio.item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_null_is_close_to_that_of_permutations(estimator):
    x, y = sides(200)
    moments, grams = cells_of_moments(x, y, estimator), cells_of_grams(x, y, estimator, permutations=1000)
    torch.testing.assert_close(moments.null, grams.null, rtol=0.1, atol=0)
    torch.testing.assert_close(moments.p_values, grams.p_values, rtol=0, atol=0.05)


@pytest.mark.parametrize("n", [10, 7000, 1_000_000])
def test_the_null_of_u_centred_grams_has_the_variance_of_permutations_for_any_number_of_images(n):
    zero = torch.zeros(1, dtype=torch.float64)
    spectrum = Spectrum(zero, zero, zero)  # no skewness
    deviation = (2 / (n * (n - 3))) ** 0.5
    quantile, p_values = null_of_moments(torch.tensor([[deviation]], dtype=torch.float64), spectrum, spectrum, n)
    assert float(quantile) == pytest.approx(1.6449 * deviation, rel=1e-3)
    assert float(p_values) == pytest.approx(0.1587, rel=1e-3)


def test_layers_that_do_not_vary_or_are_not_finite_are_undefined():
    x, y = sides(100)
    broken = x[0].clone()
    broken[70, 2] = torch.inf
    moments = Moments(seed=0)
    for start in range(0, 100, 50):
        moments.add(
            [layer[start : start + 50] for layer in (x[0], torch.full((100, 4), 3.0), broken)],
            [layer[start : start + 50] for layer in y],
        )
    assert moments.x.varies.tolist() == [True, False, False]
    assert moments.x.finite.tolist() == [True, True, False]
    cells = moments.cells(ESTIMATORS["unbiased"])
    for name in ("values", "low", "high", "null", "p_values"):
        assert getattr(cells, name).isnan().all(dim=1).tolist() == [False, True, True]
    torch.testing.assert_close(cells.values[0], cells_of_moments(x, y, "unbiased").values[0])


def test_every_image_is_as_likely_to_be_in_the_sample():
    counts = torch.zeros(20)
    for seed in range(2000):
        reservoir, sample = Reservoir(5, seed), {}
        for start in range(0, 20, 4):
            sample |= {place: start + image for place, image in reservoir.slots(4).items()}
        counts[list(sample.values())] += 1
    torch.testing.assert_close(counts / 2000, torch.full((20,), 0.25), rtol=0, atol=0.05)


@pytest.mark.parametrize("offset", [0.0, 0.3])
def test_one_active_image_has_no_unbiased_similarity(offset):
    x, y = (torch.full((64, 5), offset) for _ in range(2))
    x[0], y[0] = torch.arange(5.0), torch.ones(5)
    assert cells_of_moments([x], [y], "unbiased").values.isnan().all()
