"""The bootstrap over images: scipy's beside ours, loops, what is degenerate, coverage; and paired differences."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.stats import bootstrap

from cka_probe.errors import DataError
from cka_probe.lab.evaluation.scores import Scores, bootstrap_interval, paired_difference
from cka_probe.similarity.resampling import holm

SKEWED = np.random.default_rng(0).gamma(0.7, 0.3, 80)


def scores(columns, names=None):
    names = names or [f"office/{number:04d}.png" for number in range(len(next(iter(columns.values()))))]
    model = {
        "reference": "a.safetensors",
        "architecture": "swinv2_micro",
        "task": "depth",
        "hash": "",
        "stage": "depth",
    }
    data = {"source": "nyuv2:nyu:test", "hash": "0", "num": len(names)}
    return Scores(pd.DataFrame(columns, index=names), model, data, {"resamples": 500, "seed": 0}, {})


@pytest.mark.parametrize("method", ["bca", "percentile"])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_against_scipy(method, level):
    low, high = bootstrap_interval(SKEWED[:, None], level, 20_000, seed=1, method=method)
    name = {"bca": "BCa"}.get(method, method)
    # 20 000 draws of each: their ends differ by chance by a hundredth
    there = bootstrap(
        (SKEWED,), np.mean, confidence_level=level, n_resamples=20_000, method=name, random_state=2, vectorized=True
    ).confidence_interval
    assert (low[0], high[0]) == pytest.approx((there.low, there.high), rel=0.02)


def test_the_percentiles_are_those_of_means_by_a_loop():
    values, seed, resamples = np.random.default_rng(3).random(9), 5, 40
    counts = np.random.default_rng(seed).multinomial(9, np.full(9, 1 / 9), size=resamples)
    means = [sum(count * value for count, value in zip(row, values, strict=True)) / 9 for row in counts]
    low, high = bootstrap_interval(values[:, None], 0.9, resamples, seed, "percentile")
    assert (low[0], high[0]) == pytest.approx((np.quantile(means, 0.05), np.quantile(means, 0.95)))


def test_bca_leans_to_the_long_tail():
    low, high = bootstrap_interval(SKEWED[:, None], method="bca")
    plain = bootstrap_interval(SKEWED[:, None], method="percentile")
    assert low > plain[0]
    assert high > plain[1]


def test_shift_and_scale_go_along_and_the_same_seed_gives_the_same():
    values = np.stack([SKEWED, 1000 + 3 * SKEWED], 1)
    low, high = bootstrap_interval(values, seed=7)
    np.testing.assert_allclose([low[1], high[1]], [1000 + 3 * low[0], 1000 + 3 * high[0]], rtol=1e-12)
    np.testing.assert_array_equal(bootstrap_interval(values, seed=7), (low, high))
    assert (bootstrap_interval(values, seed=8)[0] != low).any()


def test_images_that_say_nothing_take_no_part():
    holes = np.where(np.arange(80) % 2, SKEWED, np.nan)
    low, high = bootstrap_interval(holes[:, None], resamples=20_000)
    alone = bootstrap_interval(SKEWED[1::2, None], resamples=20_000)
    assert (low[0], high[0]) == pytest.approx((alone[0][0], alone[1][0]), rel=0.04)


def test_what_is_degenerate():
    values = np.full((6, 4), np.nan)
    values[0, 1] = 2.0  # one value: nothing is known of its spread
    values[:, 2] = 0.1  # no spread
    values[:2, 3] = [1.0, 2.0]  # most draws of six hold only one of the two, or none
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        low, high = bootstrap_interval(values)
    assert np.isnan([low[:2], high[:2]]).all()
    assert (low[2], high[2]) == (0.1, 0.1)
    assert 1.0 <= low[3] < high[3] <= 2.0
    assert np.isnan(bootstrap_interval(np.empty((0, 1)))).all()


def test_many_images_in_parts_are_the_same_as_at_once(monkeypatch):
    values = np.random.default_rng(0).random((50, 2))
    whole = bootstrap_interval(values, resamples=100)
    monkeypatch.setattr("cka_probe.similarity.resampling.BLOCK_ELEMENTS", 700)  # 14 draws at a time
    np.testing.assert_allclose(bootstrap_interval(values, resamples=100), whole, rtol=1e-12)


@pytest.mark.slow
def test_it_covers_the_true_mean_as_often_as_it_says():
    rng, covered = np.random.default_rng(0), 0
    for seed in range(400):
        low, high = bootstrap_interval(rng.gamma(2, 0.5, (100, 1)), 0.9, 500, seed)
        covered += low[0] <= 1.0 <= high[0]
    assert 0.86 <= covered / 400 <= 0.94


def test_bad_input_is_one_line():
    for wrong in ({"level": 1.0}, {"resamples": 0}, {"method": "bcaa"}):
        with pytest.raises(DataError, match="expected a level between 0 and 1, at least one resample and method 'bca'"):
            bootstrap_interval(SKEWED[:, None], **wrong)


def test_a_paired_difference_sees_what_two_intervals_do_not():
    hard = np.random.default_rng(0).gamma(2, 0.2, 60)  # images differ far more than models
    first = scores({"abs_rel": hard, "delta1": 1 - hard / 4, "planes": hard})
    second = scores({"abs_rel": hard * 0.95, "delta1": 1 - hard / 4 - 0.01, "planes": hard + 1})
    apart = [model.intervals().loc["abs_rel"] for model in (first, second)]
    assert apart[1]["high"] > apart[0]["low"]
    found = paired_difference(first, second)
    assert found.loc["abs_rel", "value"] == pytest.approx(-0.05 * hard.mean())
    assert found.loc["abs_rel", "high"] < 0
    # less of abs_rel is better, less of delta1 worse, and more planes neither
    assert found["better"].to_dict() == {"abs_rel": "second", "delta1": "first", "planes": ""}


def test_a_paired_difference_the_other_way_round_changes_its_sign():
    rng = np.random.default_rng(1)
    first, second = (scores({"rmse_median": rng.random(40)}) for _ in range(2))
    there, back = (
        paired_difference(*pair, method="percentile").loc["rmse_median"] for pair in ((first, second), (second, first))
    )
    assert (there["value"], there["low"], there["high"]) == pytest.approx((-back["value"], -back["high"], -back["low"]))
    assert there["better"] == back["better"] == ""


def test_images_are_paired_by_name_and_those_of_one_model_alone_do_not_count():
    first = scores({"rmse": [1.0, 2.0, np.nan]}, ["a", "b", "c"])
    second = scores({"rmse": [9.0, 2.5, 1.25]}, ["c", "b", "a"])
    found = paired_difference(first, second).loc["rmse"]
    assert (found["value"], found["num"]) == (pytest.approx((0.25 + 0.5) / 2), 2)


def test_tables_that_cannot_be_paired_are_one_line():
    first = scores({"rmse": [1.0, 2.0]}, ["a", "b"])
    with pytest.raises(DataError, match=r"expected scores of the same images, found 2 that only one .* \('b' for"):
        paired_difference(first, scores({"rmse": [1.0, 2.0]}, ["a", "c"]))
    with pytest.raises(DataError, match="a measure in common, found none"):
        paired_difference(first, scores({"abs_rel": [1.0, 2.0]}, ["a", "b"]))


def test_holm_by_hand_and_its_properties():
    np.testing.assert_allclose(holm(np.array([0.01, np.nan, 0.04, 0.03])), [0.03, np.nan, 0.06, 0.06])
    p = np.random.default_rng(0).uniform(size=12)
    corrected = holm(p)
    assert (corrected >= p).all()
    assert corrected.max() <= 1
    assert (np.diff(corrected[np.argsort(p)]) >= 0).all()
    assert holm(np.empty(0)).shape == (0,)
    assert holm(np.array([0.02])) == [0.02]


def test_holm_rejects_from_the_least_on_until_one_holds():
    p = np.array([[0.012, 0.04], [0.005, np.nan]])
    np.testing.assert_array_equal(holm(p) <= 0.05, [[True, True], [True, False]])
    np.testing.assert_array_equal(holm(np.array([0.03, 0.03])) <= 0.05, [False, False])
    assert not (holm(np.full(3, np.nan)) <= 0.05).any()
