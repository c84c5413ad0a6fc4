"""CKA as a function of arrays: the number of `compare`, and of the formula."""

import numpy as np
import pytest
import torch

import cka_probe
from cka_probe.errors import CkaProbeError, CkaProbeWarning


def features(n=60, width=7, seed=0):
    return np.random.default_rng(seed).normal(size=(n, width))


def biased_by_formula(x, y):
    x, y = x - x.mean(0), y - y.mean(0)
    return np.sum((x.T @ y) ** 2) / np.linalg.norm(x.T @ x) / np.linalg.norm(y.T @ y)


def unbiased_by_formula(x, y):
    def hsic(k, m):
        n, ones = len(k), np.ones(len(k))
        k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
        mixed = (ones @ k @ ones) * (ones @ m @ ones) / ((n - 1) * (n - 2)) - 2 * (ones @ k @ m @ ones) / (n - 2)
        return (np.trace(k @ m) + mixed) / (n * (n - 3))

    k, m = x @ x.T, y @ y.T
    return hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m))


@pytest.mark.parametrize("n", [4, 5, 60])
def test_it_is_the_formula_for_arrays_and_tensors(n):
    x, y = features(n), features(n, 5, seed=1) + features(n)[:, :5]
    for estimator, formula in (("biased", biased_by_formula), ("unbiased", unbiased_by_formula)):
        value = cka_probe.cka(x, y, estimator=estimator)
        assert type(value) is float
        assert abs(value - formula(x, y)) < 1e-6
        assert abs(cka_probe.cka(torch.tensor(x), y.tolist(), estimator=estimator) - value) < 1e-9
        if n == 60:
            assert abs(cka_probe.cka(x.astype(np.float32), y, estimator=estimator) - value) < 1e-5


def test_activations_are_flattened():
    x = np.random.default_rng(0).normal(size=(20, 3, 4, 4)).astype(np.float32)
    y = features(20)
    assert cka_probe.cka(x, y) == pytest.approx(cka_probe.cka(x.reshape(20, -1), y), abs=1e-6)


def test_the_matrix_has_the_value_and_interval_of_each_pair():
    xs = {"a": features(), "b": features(width=3, seed=1)}
    ys = [features()[:, :4], features(seed=2), features(seed=3)]
    values, low, high = cka_probe.cka_matrix(xs, ys, interval=True)
    assert values.shape == low.shape == high.shape == (2, 3)
    assert values.dtype == np.float64
    for i, x in enumerate(xs.values()):
        for j, y in enumerate(ys):
            estimate = cka_probe.cka(x, y, interval=True)
            assert estimate == pytest.approx((values[i, j], low[i, j], high[i, j]), abs=1e-9)
            assert estimate.low <= estimate.value <= estimate.high
    square = cka_probe.cka_matrix(ys)
    assert np.allclose(square, square.T, atol=1e-12)
    assert np.allclose(square.diagonal(), 1)
    assert cka_probe.cka_matrix(xs, ys)[0, 1] == values[0, 1]


def test_what_is_undefined_is_nan_with_a_warning():
    x = features()
    with pytest.warns(CkaProbeWarning, match="where y is compared: it is the same for every row"):
        assert np.isnan(cka_probe.cka(x, np.ones((60, 3))))
    x[3, 1] = np.inf
    with pytest.warns(CkaProbeWarning, match="where x, array 0 is compared: it puts out NaN or infinite"):
        assert np.isnan(cka_probe.cka_matrix([x, features(seed=4)], [features(seed=5)])).tolist() == [[True], [False]]


def test_wrong_arrays_are_refused():
    for arguments, message in [
        ((features(), features(59)), "60 and 59"),
        ((features(3), features(3)), "at least 4"),
        ((features(), np.array(["a"] * 60)), "array of numbers"),
    ]:
        with pytest.raises(CkaProbeError, match=message):
            cka_probe.cka(*arguments)
    with pytest.raises(CkaProbeError, match=r"there is cka\(x, y\)"):
        cka_probe.cka_matrix(features())
    with pytest.raises(CkaProbeError, match="no array"):
        cka_probe.cka_matrix([])
    with pytest.raises(CkaProbeError, match="biased"):
        cka_probe.cka(features(), features(), estimator="debiased")
