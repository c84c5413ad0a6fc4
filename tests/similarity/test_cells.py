"""The interval of a mean of cells, which share their images."""

import numpy as np
import pytest
import torch

from cka_probe.similarity import (
    ESTIMATORS,
    MEASURES,
    anchored_product,
    centred_grams,
    cka_cells,
    mean_interval,
    measured_cells,
)
from cka_probe.similarity.cka import centre_batches, cka, hsic_terms

UNBIASED = ESTIMATORS["unbiased"]


def layers(seed, n=48, count=3, kin=None):
    """Features of layers over n images; each is similar to the layer of the same index in `kin`."""
    draw = torch.Generator().manual_seed(seed)
    own = [torch.randn(n, 6, generator=draw, dtype=torch.float64) for _ in range(count)]
    return own if kin is None else [0.8 * x + 0.6 * z for x, z in zip(kin, own, strict=True)]


def batches(features, batch=24):
    count = len(features[0])
    parts = [[feature[i : i + batch] for feature in features] for i in range(0, count, batch)]
    return [centred_grams([anchored_product(feature) for feature in part]).matrices for part in parts]


def only(row, column, shape=(3, 3)):
    shares = torch.zeros(shape, dtype=torch.float64)
    shares[row, column] = 1.0
    return shares


@pytest.mark.parametrize("per_image", [1, 2])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_mean_of_one_cell_has_the_interval_of_the_cell(estimator, per_image):
    x = layers(0)
    x, y = batches(x), batches(layers(1, kin=x))
    cells = cka_cells(x, y, ESTIMATORS[estimator], permutations=0, seed=0, per_image=per_image)
    half = [
        [mean_interval(x, y, only(i, j), MEASURES["cka"], ESTIMATORS[estimator], per_image) for j in range(3)]
        for i in range(3)
    ]
    expected = (cells.high - cells.low) / 2  # of arctanh CKA, so only nearly the same
    torch.testing.assert_close(torch.tensor(half, dtype=torch.float64), expected, rtol=0.2, atol=0)


def test_the_mean_of_one_cell_has_its_interval_by_a_measure_that_is_a_mean_over_batches():
    x = layers(0)
    x, y = batches(x), batches(layers(1, kin=x))
    cells = measured_cells(x, y, MEASURES["rsa"], permutations=0, seed=0, per_image=1)
    half = mean_interval(x, y, only(1, 1), MEASURES["rsa"], UNBIASED)
    assert half == pytest.approx(float(cells.high[1, 1] - cells.values[1, 1]))


def test_the_mean_of_the_same_layer_twice_is_as_uncertain_as_the_layer():
    """Noise that cells share does not average out."""
    x = layers(0, count=1)
    x, y = batches(x * 2), batches(layers(1, count=1, kin=x) * 2)
    one = mean_interval(x, y, only(0, 0, (2, 2)), MEASURES["cka"], UNBIASED)
    mean = mean_interval(x, y, torch.eye(2, dtype=torch.float64) / 2, MEASURES["cka"], UNBIASED)
    assert mean == pytest.approx(one)


def test_the_interval_of_a_mean_agrees_with_leaving_one_image_out():
    kin = layers(0, n=120)
    x, y = kin, layers(1, n=120, kin=kin)

    def mean(rows):
        sides = [centre_batches(batches([feature[rows] for feature in side], 120), UNBIASED) for side in (x, y)]
        return float(cka(hsic_terms(*sides, UNBIASED)).diagonal().mean())

    everyone = torch.arange(120)
    left_out = np.array([mean(everyone[everyone != image]) for image in range(120)])
    error = np.sqrt(119 / 120 * ((left_out - left_out.mean()) ** 2).sum())
    half = mean_interval(
        batches(x, 120), batches(y, 120), torch.eye(3, dtype=torch.float64) / 3, MEASURES["cka"], UNBIASED
    )
    assert half / 1.98 == pytest.approx(error, rel=0.1)


def test_layers_without_a_weight_may_be_undefined():
    x = layers(0)
    x, y = batches(x), batches(layers(1, kin=x))
    half = mean_interval(x, y, only(0, 0), MEASURES["cka"], UNBIASED)
    broken = [torch.cat([stack[:2], stack[2:] * torch.nan]) for stack in x]
    assert mean_interval(broken, y, only(0, 0), MEASURES["cka"], UNBIASED) == half
