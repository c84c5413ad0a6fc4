"""The theorems of CKA, against brute force in float64."""

from importlib import import_module
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cka_probe.similarity import (
    ESTIMATORS,
    Terms,
    anchored_product,
    centre_batches,
    centred_grams,
    cka,
    cka_cells,
    hsic_terms,
    influences,
    jackknife_interval,
    permuted_values,
    u_centre,
)
from cka_probe.similarity.null import TIE, quantile_and_p_values

settings.register_profile("theorems", deadline=None, derandomize=True, max_examples=25)
settings.load_profile("theorems")


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def grams(x):
    """The centred Gram of one layer, as a stack of one."""
    return centred_grams([anchored_product(x)])


def similarity(x, y, estimator="unbiased", batch=None):
    """CKA of two feature matrices (n, p), in batches."""
    rows = range(0, len(x), batch or len(x))
    centred = [
        centre_batches([grams(z[i : i + (batch or len(x))]).matrices for i in rows], ESTIMATORS[estimator])
        for z in (x, y)
    ]
    return float(cka(hsic_terms(*centred, ESTIMATORS[estimator])))


def brute_force_hsic(k, l):  # noqa: E741
    """Song et al. 2012, eq. 4: the U-statistic over ordered quadruples of different images."""
    quadruples = list(permutations(range(len(k)), 4))
    return sum(k[i, j] * (l[i, j] + l[q, r] - 2 * l[i, q]) for i, j, q, r in quadruples) / len(quadruples)


def test_unbiased_hsic_is_the_u_statistic():
    x, y = normal(7, 3), normal(7, 5, seed=1) + normal(7, 1, seed=2)
    k, l = x @ x.T, y @ y.T  # noqa: E741
    expected = brute_force_hsic(k.numpy(), l.numpy())
    got = (u_centre(k) * u_centre(l)).sum() / (7 * 4)
    assert float(got) == pytest.approx(expected, rel=1e-10)


def test_minibatch_cka_is_the_ratio_of_summed_u_statistics():
    x, y = normal(15, 4), normal(15, 6, seed=1) + 0.7 * normal(15, 4) @ normal(4, 6, seed=2)
    x, y = x.float(), y.float()
    sums = np.zeros(3)
    for rows in (slice(0, 5), slice(5, 10), slice(10, 15)):
        k, l = (z[rows].double().numpy() @ z[rows].double().numpy().T for z in (x, y))  # noqa: E741
        sums += [brute_force_hsic(k, l), brute_force_hsic(k, k), brute_force_hsic(l, l)]
    assert similarity(x, y, batch=5) == pytest.approx(sums[0] / np.sqrt(sums[1] * sums[2]), abs=1e-6)


@given(seed=st.integers(0, 10**6), scale=st.floats(1e-3, 1e3), estimator=st.sampled_from(sorted(ESTIMATORS)))
def test_rotation_scale_and_translation_change_nothing(seed, scale, estimator):
    x, y = normal(12, 6, seed=seed), normal(12, 9, seed=seed + 1)
    rotation = torch.linalg.qr(normal(6, 6, seed=seed + 2)).Q
    moved = scale * (x @ rotation + 5 * normal(1, 6, seed=seed + 3))
    assert similarity(moved.float(), y.float(), estimator) == pytest.approx(similarity(x, y, estimator), abs=2e-6)


@given(seed=st.integers(0, 10**6))
def test_symmetry_bound_and_self_similarity(seed):
    x, y = normal(10, 4, seed=seed), normal(10, 7, seed=seed + 1)
    assert similarity(x, y) == pytest.approx(similarity(y, x), abs=1e-12)
    assert abs(similarity(x, y)) <= 1 + 1e-12
    assert similarity(x, x) == pytest.approx(1, abs=1e-12)


def test_channels_are_not_rescaled():
    """Not invariant to a scale per channel: facts, section 1.5."""
    x = normal(64, 20)
    assert similarity(x, x * torch.linspace(0.1, 3, 20)) < 0.95


def test_every_batch_counts_and_batches_commute():
    x, y = normal(24, 5), normal(24, 5, seed=1) + normal(24, 5)
    order = torch.cat([torch.arange(16, 24), torch.arange(0, 16)])
    assert similarity(x, y, batch=8) == pytest.approx(similarity(x[order], y[order], batch=8), abs=1e-12)
    for start in (0, 8, 16):
        changed = y.clone()
        changed[start : start + 8] = normal(8, 5, seed=9 + start)
        assert abs(similarity(x, changed, batch=8) - similarity(x, y, batch=8)) > 1e-3


def test_rows_of_a_u_centred_matrix_sum_to_zero_with_an_empty_diagonal():
    centred = u_centre((x := normal(2, 9, 4)) @ x.mT)
    assert centred.sum(-1).abs().max() < 1e-12
    assert centred.diagonal(dim1=-2, dim2=-1).abs().max() == 0


@pytest.mark.slow
def test_independent_features_are_dissimilar_unless_biased():
    """n much smaller than p: facts, section 0, point 7."""
    x, y = normal(512, 13824).float(), normal(512, 13824, seed=1).float()
    assert abs(similarity(x, y)) < 0.02
    assert similarity(x, y, "biased") == pytest.approx(0.96, abs=0.01)


def test_a_large_common_mean_costs_no_digits():
    x, y = normal(48, 300), normal(48, 300, seed=1) + 0.5 * normal(48, 300)
    far = (x + 1000).float(), (y - 300).float()
    exact = similarity(far[0].double() - 1000, far[1].double() + 300)
    assert similarity(*far) == pytest.approx(exact, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("start", [0, 3000, 5990])
@pytest.mark.parametrize("mean", [0.0, 5.0, 6.5, 1e3])
def test_a_mean_of_some_features_costs_no_digits(monkeypatch, mean, start, dtype):
    monkeypatch.setattr("cka_probe.similarity.gram.BLOCK_ELEMENTS", 2**10)  # blocks of 64 features, in sections of 1024
    monkeypatch.setattr("cka_probe.similarity.gram.TOGETHER", 1)
    x = normal(16, 6000)
    x[:, start:] += mean
    x = x.to(dtype)
    exact = x.double() - x.double().mean(dim=0)
    matrix = grams(x).matrices[0]
    torch.testing.assert_close(matrix, exact @ exact.mT, rtol=0, atol=1e-6 * float(matrix.abs().max()))


def test_large_grams_are_centred_by_rows_without_a_change(monkeypatch):
    x, y = ([normal(2, 30, 30, seed=seed)] for seed in (0, 1))
    x, y = ([stack @ stack.mT for stack in side] for side in (x, y))
    whole = cka_cells(x, y, ESTIMATORS["unbiased"], permutations=9, seed=0, per_image=1)
    module = import_module("cka_probe.similarity.cka")  # the package has a function of this name
    monkeypatch.setattr(module, "LARGE", 100)
    monkeypatch.setattr(module, "BLOCK", 700)
    monkeypatch.setattr("cka_probe.similarity.null.PAIRS", 100)
    rows = cka_cells(x, y, ESTIMATORS["unbiased"], permutations=9, seed=0, per_image=1)
    for name in ("values", "low", "high", "null", "p_values"):
        torch.testing.assert_close(getattr(rows, name), getattr(whole, name), rtol=0, atol=1e-6)


def test_many_images_do_not_change_the_gram(monkeypatch):
    x = normal(40, 100).float() + 3
    whole = grams(x).matrices
    monkeypatch.setattr("cka_probe.similarity.gram.MANY", 10)
    monkeypatch.setattr("cka_probe.similarity.gram.WIDE", 30)
    monkeypatch.setattr("cka_probe.similarity.gram.TILE", 500)
    torch.testing.assert_close(grams(x).matrices, whole, rtol=0, atol=1e-3)


@pytest.mark.parametrize(("n", "p"), [(64, 5000), (600, 2100)])
def test_the_large_blocks_of_a_gpu_are_exact_to_float32(monkeypatch, n, p):
    gram = import_module("cka_probe.similarity.gram")
    width, together, rows = gram._block_shape(n, torch.device("cuda"))
    assert (width, rows) == (1024, n)
    assert together * n * max(n, width) <= gram.CUDA_ELEMENTS
    monkeypatch.setattr(gram, "_block_shape", lambda n, device: (width, together, rows))
    monkeypatch.setattr(gram, "RAW", ())  # a GPU subtracts anchors everywhere
    x = normal(n, p).float() + 3
    exact = x.double() - x.double().mean(dim=0)
    matrix = grams(x).matrices[0]
    torch.testing.assert_close(matrix, exact @ exact.mT, rtol=0, atol=1e-6 * float(matrix.abs().max()))


def test_blocks_do_not_change_the_gram(monkeypatch):
    x = normal(16, 1000).float() + 3
    whole = grams(x).matrices
    monkeypatch.setattr("cka_probe.similarity.gram.BLOCK_ELEMENTS", 16 * 7)
    rounding = 143**0.5 * 2**-24 * float((x @ x.mT).max())  # of a float32 sum over the blocks, before centring
    torch.testing.assert_close(grams(x).matrices, whole, rtol=0, atol=rounding)


@pytest.mark.parametrize("value", [0.0, 3.7, -1e4])
def test_a_layer_that_does_not_vary_says_so_and_is_undefined(value):
    constant = grams(torch.full((16, 501), value))
    assert not constant.varies
    assert constant.finite
    assert float(constant.size) == pytest.approx(abs(value), rel=1e-6)


def test_non_finite_features_are_told_apart_from_constant_ones():
    x = torch.randn(8, 10)
    x[3, 3] = torch.nan
    assert not grams(x).finite


def test_half_precision_features_are_read():
    x = normal(32, 64)
    assert similarity(x.half(), x) == pytest.approx(1, abs=1e-3)
    assert similarity(x.bfloat16(), x) == pytest.approx(1, abs=1e-3)


def test_undefined_is_nan_and_not_zero():
    terms = Terms(torch.zeros(1, 1, 1), torch.zeros(1, 1), torch.ones(1, 1), torch.ones(1))
    assert cka(terms).isnan().all()


@pytest.mark.parametrize("large", [2**24, 100])
@pytest.mark.parametrize("offset", [0.0, 0.3])
def test_one_active_image_has_no_unbiased_similarity(monkeypatch, large, offset):
    monkeypatch.setattr(import_module("cka_probe.similarity.cka"), "LARGE", large)
    x, y = (torch.full((64, 5), offset) for _ in range(2))
    x[0], y[0] = normal(5).float(), normal(5, seed=1).float()
    assert np.isnan(similarity(x, y))
    assert similarity(x, y, "biased") == pytest.approx(1)
    x[1:] += 1e-4 * normal(63, 5, seed=2).float()  # much less than the first image, and not rounding
    assert similarity(x, x) == pytest.approx(1)


def test_terms_beyond_float64_are_undefined():
    terms = Terms(torch.ones(1, 1, 1), torch.full((1, 1), torch.inf), torch.ones(1, 1), torch.ones(1))
    assert cka(terms).isnan().all()


def correlated_pair(n, seed, rho=0.6, p=40, decay=0.5):
    """Gaussian features whose population CKA is rho^2."""
    widths = torch.arange(1, p + 1, dtype=torch.float64) ** (-decay / 2)
    x, noise = normal(n, p, seed=seed) * widths, normal(n, p, seed=seed + 500_000) * widths
    return x, rho * x + (1 - rho**2) ** 0.5 * noise


def interval(x, y, batch, estimator="unbiased"):
    estimator = ESTIMATORS[estimator]
    centred = []
    for z in (x, y):
        stacks = [grams(z[i : i + batch]).matrices for i in range(0, len(z), batch)]
        centred.append(centre_batches(stacks, estimator))
    terms = hsic_terms(*centred, estimator)
    low, high = jackknife_interval(*centred, terms, estimator)
    return float(low), float(cka(terms)), float(high)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "batch"), [(64, 64), (128, 64), (128, 16), (256, 64)])
@pytest.mark.parametrize("rho", [0.0, 0.6, 0.95])
def test_the_interval_covers_the_truth(n, batch, rho):
    """95 % intervals hold the population value in 90 to 98 % of 300 simulated studies."""
    hits = 0
    for seed in range(300):
        low, _, high = interval(*correlated_pair(n, 1000 * seed, rho), batch)
        hits += low <= rho**2 <= high
    assert 0.90 <= hits / 300 <= 0.98


@pytest.mark.slow
def test_the_infinitesimal_jackknife_agrees_with_leaving_one_image_out():
    """Where images carry the noise, the closed form is the ordinary jackknife of n - 1 images."""
    x, y = correlated_pair(300, 7, rho=0.8, p=5, decay=2.0)
    low, value, high = interval(x, y, 300)
    left_out = np.array([similarity(*(torch.cat([z[:i], z[i + 1 :]]) for z in (x, y))) for i in range(300)])
    error = np.sqrt(299 / 300 * ((left_out - left_out.mean()) ** 2).sum())
    assert (high - low) / 2 / 1.968 == pytest.approx(error, rel=0.05)
    assert low < value < high


@pytest.mark.parametrize(("estimator", "batch"), [("unbiased", 60), ("biased", 60), ("unbiased", 20)])
def test_an_influence_is_what_is_lost_without_the_image(estimator, batch):
    sides, hsic = correlated_pair(60, 7, rho=0.8, p=5, decay=2.0), ESTIMATORS[estimator]

    def centred_without(image):
        rows = [[i for i in range(start, start + batch) if i != image] for start in range(0, 60, batch)]
        return [centre_batches([grams(z[part]).matrices for part in rows], hsic) for z in sides]

    centred = centred_without(None)
    terms = hsic_terms(*centred, hsic)
    values = influences(*centred, terms, hsic)[:, 0, 0].numpy()
    losses = [float(cka(terms) - cka(hsic_terms(*centred_without(image), hsic))) for image in range(60)]
    assert np.corrcoef(losses, values)[0, 1] > 0.95
    assert np.polyfit(values, losses, 1)[0] == pytest.approx(1, abs=0.2)


def test_the_interval_of_a_model_with_itself_is_one_point():
    x = normal(32, 10)
    low, value, high = interval(x, x, 16)
    assert (low, value, high) == pytest.approx((1, 1, 1), abs=1e-9)


def null(x, y, batch, permutations=199):
    estimator = ESTIMATORS["unbiased"]
    centred = []
    for z in (x, y):
        stacks = [grams(z[i : i + batch]).matrices for i in range(0, len(z), batch)]
        centred.append(centre_batches(stacks, estimator))
    terms = hsic_terms(*centred, estimator)
    permuted = permuted_values(*centred, terms, estimator, permutations=permutations, seed=0)
    return map(float, quantile_and_p_values(permuted, cka(terms), TIE))


def test_the_null_tells_kin_from_strangers():
    x, y = correlated_pair(64, 3)
    quantile, p_value = null(x, y, 32)
    assert quantile < 0.1
    assert p_value == 1 / 200
    rejected = [
        next(reversed([*null(normal(32, 8, seed=s), normal(32, 8, seed=s + 999), 16)])) <= 0.05 for s in range(60)
    ]
    assert np.mean(rejected) < 0.15


def test_tokens_of_an_image_move_together_and_keep_the_value():
    x, y = normal(40, 6), normal(40, 6, seed=1)
    estimator = ESTIMATORS["unbiased"]
    cx, cy = ([u_centre((z @ z.T)[None])] for z in (x, y))
    one, four = (hsic_terms(cx, cy, estimator, per_image) for per_image in (1, 4))
    torch.testing.assert_close(cka(one), cka(four))
    low, high = jackknife_interval(cx, cy, four, estimator, per_image=4)
    assert low < cka(four) < high
