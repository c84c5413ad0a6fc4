"""Dimensions of a layer: by numpy from features, what does not change them, and where they are undefined."""

import numpy as np
import pytest
import torch
from helpers.prints import normal, print_of, stacks
from scipy.spatial.distance import cdist

from cka_probe.comparison.dimensions import layer_dimensions
from cka_probe.similarity.dimensions import DIMENSIONS, intrinsic_dimension
from cka_probe.similarity.gram import double_centre


def brute(x):
    """The three, from features."""
    singular = np.linalg.svd(x - x.mean(0), compute_uv=False)
    shares = singular[singular > 1e-9] / singular.sum()
    far = np.sort(cdist(x, x), axis=1)[:, 1:3]
    return [
        np.exp(-(shares * np.log(shares)).sum()),
        (singular**2).sum() ** 2 / (singular**4).sum(),
        (len(x) - 1) / np.log(far[:, 1] / far[:, 0]).sum(),
    ]


@pytest.mark.parametrize("seed", range(5))
def test_as_from_features_and_unchanged_by_rotation_scale_and_translation(seed):
    x = normal(30, 6, seed=seed) * torch.arange(1, 7)
    turned = 3 * (x @ torch.linalg.qr(normal(6, 6, seed=seed + 9)).Q) + 5
    for features in (x, turned):
        gram = double_centre(features @ features.mT)[None]
        np.testing.assert_allclose([float(function(gram)) for function in DIMENSIONS.values()], brute(x.numpy()), 1e-6)


def test_the_intrinsic_dimension_of_a_curved_surface_is_two():
    """A Swiss roll in a space of 50 dimensions."""
    angle, height = 3 + 9 * torch.rand(600, dtype=torch.float64), 20 * torch.rand(600, dtype=torch.float64)
    roll = torch.stack([angle * angle.cos(), angle * angle.sin(), height], dim=1) @ normal(3, 50)
    assert intrinsic_dimension(stacks([roll])[0]).item() == pytest.approx(2, abs=0.25)


def test_layers_of_a_fingerprint_have_intervals_and_undefined_ones_none():
    copies = torch.cat([normal(16, 3)] * 2)
    table = layer_dimensions(print_of([normal(32, 8), torch.zeros(32, 3).double(), copies], 16))
    assert (table["effective_rank_low"] < table["effective_rank"]).tolist() == [True, False, True]
    assert table.loc["layer 1"].isna().all()
    twins = layer_dimensions(print_of([copies], 32))
    assert np.isnan(twins["intrinsic_dimension"].item())
    assert np.isfinite(twins["participation_ratio_high"].item())


@pytest.mark.slow
def test_intervals_hold_the_mean_of_studies():
    tables = [layer_dimensions(print_of([normal(128, 6, seed=seed)], 64)) for seed in range(60)]
    for name in DIMENSIONS:
        low, value, high = (np.array([table[name + end].item() for table in tables]) for end in ("_low", "", "_high"))
        assert ((low <= value.mean()) & (value.mean() <= high)).mean() >= 0.9, name
        assert (high - low).mean() <= 2.5 * 4 * value.std(), name
