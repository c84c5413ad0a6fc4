"""The rule over seeds: intervals, verdicts, and what is missing or undefined."""

import math

import numpy as np
import pytest
from scipy import stats

from cka_probe.papers.claims import average, judge, over_runs
from cka_probe.papers.evidence import Estimate, combine


def estimate(value, width=0.1):
    return Estimate(value, value - width, value + width)


def test_t_interval_is_scipys():
    values = [0.3, 0.1, 0.25, 0.4]
    mean, low, high, p = over_runs(values)
    theirs = stats.ttest_1samp(values, 0.0)
    assert (low, high) == pytest.approx(tuple(theirs.confidence_interval(0.95)))
    assert (mean, p) == pytest.approx((np.mean(values), theirs.pvalue))


@pytest.mark.parametrize("n", [2, 3, 5])
def test_t_interval_covers_19_of_20_and_false_claims_hold_in_1_of_40(n):
    rng = np.random.default_rng(n)
    ends = np.array([over_runs(rng.normal(0.2, 1.0, n))[1:3] for _ in range(4000)]) - 0.2
    inside = ((ends[:, 0] < 0) & (ends[:, 1] > 0)).mean()
    assert inside == pytest.approx(0.95, abs=0.012)  # 3.5 standard errors of 4000 draws
    assert (ends[:, 0] > 0).mean() == pytest.approx(0.025, abs=0.009)


@pytest.mark.parametrize(
    ("values", "verdict", "reason"),
    [
        ([0.30, 0.31, 0.29], "holds", ""),
        ([-0.30, -0.31, -0.29], "does not hold", ""),
        ([0.30, -0.31, 0.29], "undecided", ""),
        ([0.5], "undecided", "one seed"),
        ([0.5, None], "undecided", "1 of 2 seeds"),
        ([0.30, 0.31, 0.29, None], "holds", "3 of 4 seeds"),
        ([0.5, 0.5], "undecided", "equal seeds: not different runs"),
        ([0.6 - 0.5, 0.1], "undecided", "equal seeds: not different runs"),  # but for rounding
        ([0.0, 0.0], "undecided", ""),
        ([0.3, 0.5], "undecided", ""),  # t is 12.7 for two seeds
        ([None, None], "not run", ""),
    ],
)
def test_verdicts(values, verdict, reason):
    finding = judge({k: None if value is None else estimate(value) for k, value in enumerate(values)})
    assert (finding.verdict, finding.reason) == (verdict, reason)
    assert list(finding.runs.values()) == values


def test_one_undefined_seed_makes_it_undefined_and_is_named():
    bad = Estimate(np.nan, np.nan, np.nan, "norm3 of y: its activation is 0")
    finding = judge({0: estimate(0.3), 1: bad, 2: estimate(0.31)})
    assert (finding.verdict, finding.reason) == ("undefined", "seed 1: norm3 of y: its activation is 0")
    assert math.isnan(finding.value)


def test_one_seed_shows_the_interval_over_images():
    finding = judge({0: estimate(0.5, width=0.2)})
    assert (finding.value, finding.low, finding.high) == pytest.approx((0.5, 0.3, 0.7))
    assert math.isnan(finding.p)


def test_the_least_of_several_and_one_without_a_value():
    several = [Estimate(3.0, 2.0, 4.0), Estimate(1.0, -2.0, 9.0)]
    assert combine(several, np.min) == Estimate(1.0, -2.0, 4.0)
    broken = combine([*several, Estimate(math.nan, math.nan, math.nan, "diverged")], np.min)
    assert (math.isnan(broken.value), broken.undefined) == (True, "diverged")


def test_trials_of_a_seed_are_averaged_and_one_undefined_makes_it_so():
    assert average([None, None]) is None
    assert average([Estimate(1.0, 0.0, 2.0), None, Estimate(3.0, 1.0, 4.0)]) == Estimate(2.0, 0.5, 3.0)
    assert average([Estimate(1.0, 0.0, 2.0), Estimate(math.nan, 0, 0, "diverged")]).undefined == "diverged"
