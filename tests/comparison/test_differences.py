"""Differences of comparisons: what they subtract, and that they say no more than is known."""

import numpy as np
import pytest
import torch
from helpers.prints import normal, print_of, stacks
from scipy.special import stdtrit

from cka_probe import DifferenceMatrix, LayerMap, compare_fingerprints, difference
from cka_probe.comparison.results import BOUND, INDEPENDENT, PAIRED
from cka_probe.errors import CkaProbeError, DataError, FingerprintError
from cka_probe.similarity import ESTIMATORS, centre_batches, cka, hsic_terms, jackknife_interval
from cka_probe.similarity.intervals import paired_error


def kin(x, seed, rho):
    """Features that share rho of their variance's root with x: their population CKA with it is rho^2."""
    return rho * x + (1 - rho**2) ** 0.5 * normal(*x.shape, seed=seed)


def three(seed=0, n=96, p=12, layers=2, rhos=(0.8, 0.7), batch=32, **named):
    """Fingerprints of a model and of two others that are more and less like it."""
    base = [normal(n, p, seed=1000 * seed + i) for i in range(layers)]
    others = [[kin(z, 1000 * seed + 100 * k + i, rho) for i, z in enumerate(base)] for k, rho in enumerate(rhos, 1)]
    return [print_of(side, batch, name=name, **named) for side, name in zip([base, *others], "xab", strict=True)]


def test_first_less_second():
    x, a, b = three()
    result = difference((x, a), (x, b))
    expected = compare_fingerprints(x, a).values - compare_fingerprints(x, b).values
    np.testing.assert_array_equal(result.values, expected)
    assert result.how == PAIRED
    assert (result.first, result.second) == ("x against a", "x against b")
    assert (result.low < result.values).all()
    assert (result.values < result.high).all()


@pytest.mark.parametrize("measure", ["cka", "rsa", "mutual_knn"])
def test_a_comparison_less_itself_is_nothing(measure):
    x, a, _ = three(n=48, batch=24)
    result = difference((x, a), (x, a), measure=measure)
    for matrix in (result.values, result.low, result.high):
        assert not matrix.any()
    assert (result.p_values == 1).all()
    assert not result.significant.any()


@pytest.mark.parametrize("measure", ["cka", "rsa"])
def test_exchanging_the_two_changes_the_sign_and_nothing_else(measure):
    x, a, b = three(n=48, batch=24)
    one, other = difference((x, a), (x, b), measure=measure), difference((x, b), (x, a), measure=measure)
    np.testing.assert_allclose(one.values, -other.values, atol=1e-15)
    np.testing.assert_allclose(one.low, -other.high, atol=1e-12)
    np.testing.assert_allclose(one.p_values, other.p_values, atol=1e-12)
    np.testing.assert_array_equal(one.significant, other.significant)


@pytest.mark.parametrize("estimator", sorted(ESTIMATORS))
@pytest.mark.parametrize("per_image", [1, 4])
def test_less_a_constant_the_paired_error_is_that_of_one_value(estimator, per_image):
    """CKA of a layer with itself is 1 whatever the images, so nothing is added to the noise of the other."""
    estimator = ESTIMATORS[estimator]
    z = normal(40, 6)
    x, y = stacks([z], 20), stacks([kin(z, 1, 0.7)], 20)
    error, freedom = paired_error((x, y), (x, x), estimator, per_image)
    centred = [centre_batches(side, estimator) for side in (x, y)]
    terms = hsic_terms(*centred, estimator, per_image)
    low, high = jackknife_interval(*centred, terms, estimator, per_image)
    assert 2 < freedom <= 40 / per_image - 1
    assert float(error * stdtrit(float(freedom), 0.975)) == pytest.approx(float(high - low) / 2, rel=0.1)


def test_the_paired_error_agrees_with_leaving_one_image_out():
    n = 200
    z = [normal(n, 4) * torch.tensor([3, 1, 0.5, 0.2], dtype=torch.float64)]
    a, b = [kin(z[0], 1, 0.9)], [kin(z[0], 2, 0.6)]
    estimator = ESTIMATORS["unbiased"]

    def value(rows):
        x, *others = (centre_batches(stacks([side[0][rows]]), estimator) for side in (z, a, b))
        return np.subtract(*(float(cka(hsic_terms(x, y, estimator))) for y in others))

    left = np.array([value([i for i in range(n) if i != out]) for out in range(n)])
    expected = np.sqrt((n - 1) / n * ((left - left.mean()) ** 2).sum())
    error, _ = paired_error((stacks(z), stacks(a)), (stacks(z), stacks(b)), estimator)
    assert float(error) == pytest.approx(expected, rel=0.05)


def test_shared_images_make_it_surer_than_the_bound():
    x, a, b = three()
    paired = difference((x, a), (x, b))
    bound = difference(compare_fingerprints(x, a), compare_fingerprints(x, b))
    assert bound.how == BOUND
    np.testing.assert_array_equal(paired.values, bound.values)
    assert ((bound.high - bound.low) > (paired.high - paired.low)).all()
    assert (bound.p_values >= paired.p_values).all()


def test_the_bound_is_the_sum_of_the_two_margins():
    results = [compare_fingerprints(x, a) for x, a, _ in [three(), three(1)]]
    bound = difference(*results)
    margins = [np.maximum(result.high - result.values, result.values - result.low) for result in results]
    np.testing.assert_allclose(bound.high - bound.values, sum(margins), rtol=1e-12)


def test_other_images_are_independent_and_some_of_the_same_are_not():
    x, a, _ = three()
    x2, a2, _ = three(1, images="q")
    apart = difference((x, a), (x2, a2))
    assert apart.how == INDEPENDENT
    margins = [compare_fingerprints(*pair) for pair in ((x, a), (x2, a2))]
    roots = np.sqrt(sum(np.maximum(m.high - m.values, m.values - m.low) ** 2 for m in margins))
    np.testing.assert_allclose(apart.high - apart.values, roots, rtol=0.02)  # Welch has more degrees of freedom
    assert difference(*margins).how == INDEPENDENT
    x3, a3, _ = three(1, first=90)
    assert difference((x, a), (x3, a3)).how == BOUND
    assert difference((x, a), compare_fingerprints(x3, a3)).how == BOUND  # of one source: perhaps some of the same


def test_folders_with_and_without_kept_fingerprints(tmp_path):
    prints = dict(zip("xab", three(), strict=True))
    for other in "ab":
        compare_fingerprints(prints["x"], prints[other]).save(tmp_path / other / "result.json")
        prints["x"].save(tmp_path / other / "x.fingerprint")
        prints[other].save(tmp_path / other / "y.fingerprint")
    kept = difference(tmp_path / "a", str(tmp_path / "b"))
    direct = difference((prints["x"], prints["a"]), (prints["x"], prints["b"]))
    assert kept.how == PAIRED
    np.testing.assert_array_equal(kept.low, direct.low)
    assert difference(tmp_path / "a" / "result.json", tmp_path / "b").how == BOUND
    by_rank = difference(tmp_path / "a", tmp_path / "b", measure="rsa")
    assert by_rank.settings["measure"] == "rsa"
    assert by_rank.settings["range"] == [-2, 2]
    prints["b"].save(tmp_path / "a" / "y.fingerprint")
    with pytest.raises(FingerprintError, match=r"y.fingerprint does not belong to the result.json"):
        difference(tmp_path / "a", tmp_path / "b")


def test_undefined_cells_stay_undefined():
    x, a, _ = three()
    b = print_of([normal(96, 12, seed=5), torch.zeros(96, 12).double()], 32, name="b")
    result = difference((x, a), (x, b))
    assert np.isnan(result.values[:, 1]).all()
    assert np.isnan(result.p_values[:, 1]).all()
    assert not result.significant[:, 1].any()
    assert np.isfinite(result.values[:, 0]).all()


def test_a_file_and_a_table(tmp_path):
    x, a, b = three()
    result = difference((x, a), (x, b))
    path = result.save(tmp_path / "difference.json")
    loaded = DifferenceMatrix.load(path)
    assert loaded.save(tmp_path / "again.json").read_bytes() == path.read_bytes()
    np.testing.assert_array_equal(loaded.significant, result.significant)
    assert loaded.rows == result.rows
    assert result.save(tmp_path / "difference.csv").read_text().count("\n") == 5
    assert "first minus second over 96 images; intervals: paired over images" in repr(result)
    with pytest.raises(DataError, match=r"differences are saved as .json, .csv or .tex, found '.txt'"):
        result.save(tmp_path / "difference.txt")
    with pytest.raises(DataError, match="expected a difference of format"):
        DifferenceMatrix.load(compare_fingerprints(x, a).save(tmp_path / "result.json"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda x, a, b: ((x, a), (x, b.subset(LayerMap(b.layers.layers[:1])))),
            "expected the same layers of y in both comparisons, found",
        ),
        (lambda x, a, b: ((x, a), 5), "expected as second comparison two fingerprints"),
        (lambda x, a, b: ((x, a), "nowhere"), "expected a result.json of `ckaprobe compare` at nowhere"),
        (
            lambda x, a, b: (compare_fingerprints(x, a, measure="rsa"), compare_fingerprints(x, b)),
            "expected two comparisons by the same measure, found rsa and cka",
        ),
        (
            lambda x, a, b: (compare_fingerprints(x, a, estimator="biased"), compare_fingerprints(x, b)),
            "expected two comparisons by the same estimator, found biased and unbiased",
        ),
    ],
)
def test_what_cannot_be_subtracted_is_one_line(change, message):
    with pytest.raises(CkaProbeError, match=message) as caught:
        difference(*change(*three(n=24, batch=12)))
    assert "\n" not in str(caught.value)


def test_a_measure_that_no_result_is_of_needs_fingerprints():
    x, a, b = three(n=24, batch=12)
    with pytest.raises(DataError, match="no fingerprints to compute it from"):
        difference(compare_fingerprints(x, a), (x, b), measure="rsa")


@pytest.mark.slow
@pytest.mark.parametrize(("rhos", "p"), [((0.8, 0.8), 12), ((0.9, 0.6), 12), ((0.3, 0.3), 200)])
def test_paired_intervals_cover_the_truth(rhos, p):
    """95 % intervals hold the true difference in 92 to 99 % of 300 studies."""
    truth, hits = rhos[0] ** 2 - rhos[1] ** 2, 0
    for seed in range(300):
        x, a, b = three(seed + 1, n=64, p=p, layers=1, rhos=rhos, batch=32)
        result = difference((x, a), (x, b))
        hits += result.low.item() <= truth <= result.high.item()
    assert 0.92 <= hits / 300 <= 0.99


def test_four_images_in_one_batch_say_nothing_of_how_sure_a_value_is():
    x, a, b = three(n=4, batch=4)
    one = compare_fingerprints(x, a)
    assert (one.low == -1).all()
    assert (one.high == 1).all()
    result = difference((x, a), (x, b))
    assert (result.how, result.significant.any()) == (PAIRED, False)
    assert (result.p_values == 1).all()
    by_results = difference(one, compare_fingerprints(*three(n=96)[::2]))
    assert not by_results.significant.any()
    for more in ({"n": 8, "batch": 4}, {"n": 5, "batch": 5}):
        width = np.ptp([compare_fingerprints(*three(**more)[:2]).low, np.ones((2, 2))], axis=0)
        assert (width > 0).all()
        assert np.isfinite(difference(three(**more)[:2], three(**more)[::2]).p_values).all()
    biased = compare_fingerprints(x, a, estimator="biased")
    assert (biased.high - biased.low < 2).all()


def test_four_images_cannot_be_surer_than_their_permutations_allow():
    x, a, _ = three(n=4, batch=4)
    p_values = compare_fingerprints(x, a).p_values
    assert (p_values > 0.1).all()  # U-centred, 4 images can be paired in 3 ways, each as likely as the others
