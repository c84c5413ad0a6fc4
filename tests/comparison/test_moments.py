"""One batch of all images, against a batch of Grams of as many."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from cka_probe import SimilarityMatrix, compare, fingerprint
from cka_probe.comparison.warnings import warnings_for
from cka_probe.errors import DataError, FingerprintError


def network(seed=0, width=6):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.Conv2d(width, 4, 3)).eval()


IMAGES = torch.rand(90, 3, 12, 12, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
def test_pooled_features_of_models_have_the_values_and_intervals_of_their_grams(estimator, tmp_path):
    x, y = network(), network(1, 5)
    options = {"layers": ["0", "1", "2"], "layers_y": ["1", "2"], "features": "gap", "estimator": estimator, "seed": 3}
    moments = compare(x, y, IMAGES, batch="all", **options)
    grams = compare(x, y, IMAGES, batch=90, **options)
    for name in ("values", "low", "high"):
        np.testing.assert_allclose(getattr(moments, name), getattr(grams, name), atol=1e-5)
    np.testing.assert_allclose([axis.rms for axis in moments.rows], [axis.rms for axis in grams.rows], rtol=1e-5)
    assert moments.images == grams.images
    assert moments.num_examples == 90
    assert moments.settings["batch"] == "all"
    assert moments.settings["null"] == "Pearson type III"
    assert moments.settings["permutations"] is None
    moments.save(tmp_path / "result.json")
    np.testing.assert_array_equal(SimilarityMatrix.load(tmp_path / "result.json").values, moments.values)


def test_the_warning_of_chance_names_the_approximation():
    result = compare(torch.randn(40, 3), torch.randn(40, 3), batch="all")
    result = replace(result, null=np.ones_like(result.null))
    assert any("approximated by Pearson type III" in warning for warning in warnings_for(result))


def test_one_model_on_both_sides_runs_once():
    x = network()
    moments = compare(x, x, IMAGES, layers="*", layers_y=["2"], batch="all", features="gap")
    assert moments.values.shape == (3, 1)
    assert moments.values[2, 0] == pytest.approx(1)


def test_feature_matrices_have_the_values_of_their_grams():
    x = {"a": torch.randn(300, 5), "constant": torch.full((300, 2), 3.0), "zero": torch.zeros(300, 2)}
    y = {"b": x["a"] @ torch.randn(5, 7) + torch.randn(300, 7)}
    x["broken"] = x["a"].clone()
    x["broken"][200, 1] = torch.nan
    moments, grams = compare(x, y, batch="all"), compare(x, y, batch=300)
    np.testing.assert_allclose(moments.values, grams.values, atol=1e-6)
    assert [axis.undefined for axis in moments.rows] == [axis.undefined for axis in grams.rows]
    assert moments.num_examples == 300


def test_what_needs_grams_is_refused():
    x = torch.randn(20, 3)
    with pytest.raises(DataError, match="rsa"):
        compare(x, x, batch="all", measure="rsa")
    with pytest.raises(DataError, match="found tokens"):
        compare(network(), network(1), IMAGES, batch="all", features="tokens")
    with pytest.raises(FingerprintError, match="found a fingerprint"):
        compare(fingerprint(x), x, batch="all")


def test_four_images_have_no_approximate_null():
    x, y = torch.randn(4, 3), torch.randn(4, 2)
    with pytest.raises(DataError, match="expected at least 5 images for the null"):
        compare(x, y, batch="all")
    assert np.isnan(compare(x, y, batch="all", permutations=0).p_values).all()


BEYOND = [(1e100, "large"), (1e50, "large"), (1e-50, "small"), (1e-100, "small")]


@pytest.mark.parametrize("batch", ["all", 40])
@pytest.mark.parametrize(("factor", "problem"), BEYOND)
def test_features_whose_hsic_leaves_float64_are_undefined(batch, factor, problem):
    x = torch.randn(40, 3, dtype=torch.float64)
    for estimator in ("unbiased", "biased"):
        result = compare(factor * x, x, batch=batch, estimator=estimator, permutations=0)
        assert np.isnan(result.values).all()
        assert f"too {problem} for float64" in result.rows[0].undefined


@pytest.mark.parametrize("batch", ["all", 40])
@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_small_and_large_features_have_the_interval_of_others(batch, factor):
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(40, 3, dtype=torch.float64, generator=generator) for _ in range(2))
    plain, scaled = (compare(x * scale, y * scale, batch=batch, permutations=0) for scale in (1, factor))
    for name in ("values", "low", "high"):
        np.testing.assert_allclose(getattr(scaled, name), getattr(plain, name), atol=1e-6)


@pytest.mark.parametrize("batch", ["all", 40])
def test_the_digits_of_float64_tell_what_varies(batch):
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(40, 8, dtype=torch.float64, generator=generator) for _ in range(2))
    plain, shifted = (compare(features, y, batch=batch, permutations=0) for features in (x, x + 1e9))
    np.testing.assert_allclose(shifted.values, plain.values, atol=1e-5)
    constant = compare(torch.full((40, 8), 0.1, dtype=torch.float64).mul(1 / 3), y, batch=batch, permutations=0)
    assert "the same for every" in constant.rows[0].undefined
