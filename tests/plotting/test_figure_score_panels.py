"""Panels of scores put every number at its place, ours with its interval and the paper's as what it is."""

import numpy as np
import pandas as pd
import pytest
from helpers.pages import check_page, check_same_bytes, drawn, words
from matplotlib.collections import LineCollection

from cka_probe.errors import DataError
from cka_probe.plotting.score_panels import save_score_panels, score_panels, score_panels_size


def table(measures=("rmse", "delta1", "abs_rel", "pe_orie"), arms=("MP", "MP+GP", "a rather long name of an arm")):
    rows = []
    for i, measure in enumerate(measures):
        for j, arm in enumerate(arms):
            value = (i + 1) * (0.3 - 0.02 * j)
            row = {"arm": arm, "measure": measure, "unit": "m" if measure == "rmse" else "", "value": value}
            row |= {"better": "higher" if measure == "delta1" else "lower", "low": value - 0.01, "high": value + 0.02}
            rows.append(row | {"paper": 0.287 if (measure, arm) == ("rmse", "MP") else np.nan, "state": ""})
    return pd.DataFrame(rows)


SCORES = table()
NOT_RUN = SCORES.copy()
NOT_RUN.loc[NOT_RUN["arm"] == "MP+GP", ["value", "low", "high"]] = np.nan
NOT_RUN.loc[NOT_RUN["arm"] == "MP+GP", "state"] = "not run"
NOTHING = SCORES.assign(value=np.nan, low=np.nan, high=np.nan, paper=np.nan, state="undefined")
CASES = {
    "whole": SCORES,
    "not run": NOT_RUN,
    "nothing": NOTHING,
    "one measure": table(("rmse",)),
    "one arm": table(("rmse", "delta1"), ("MP",)),
    "bare": SCORES[["arm", "measure", "value", "low", "high"]],
    "no cell for some": SCORES.drop(index=[1, 5]),
}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return CASES[request.param], drawn(score_panels, score_panels_size, CASES[request.param])


def test_nothing_is_cut_off_too_small_or_over_something_else(case):
    check_page(case[1])


def test_points_and_intervals_are_the_numbers_of_the_table(case):
    scores, ax = case
    arms = list(scores["arm"].unique())
    for measure, panel in zip(scores["measure"].unique(), ax.child_axes, strict=True):
        rows = scores[scores["measure"] == measure].set_index("arm").reindex(arms)
        (ours,) = [line for line in panel.lines if line.get_marker() == "o"]
        np.testing.assert_array_equal(ours.get_xdata(), rows["value"])
        np.testing.assert_array_equal(ours.get_ydata(), range(len(arms)))
        (bars,) = [artist for artist in panel.collections if isinstance(artist, LineCollection)]
        ends = [segment[:, 0] for segment in bars.get_segments() if np.isfinite(segment).all() and len(segment)]
        np.testing.assert_array_equal(np.reshape(ends, (-1, 2)), rows[["low", "high"]].dropna())
        if "paper" in scores:
            (paper,) = [line for line in panel.lines if line.get_marker() == "D"]
            np.testing.assert_array_equal(paper.get_xdata(), rows["paper"])
        assert panel.get_ylim()[0] > panel.get_ylim()[1]  # the first arm on top


def test_direction_unit_and_state_are_written():
    said = words(drawn(score_panels, score_panels_size, NOT_RUN))
    assert "rmse (m)" in said
    assert "the paper's" in said
    assert said.count("not run") == 4
    assert said.count("lower is better \N{LEFTWARDS ARROW}") == 3
    assert said.count("higher is better \N{RIGHTWARDS ARROW}") == 1
    assert "the paper's" not in words(drawn(score_panels, score_panels_size, NOTHING))


def test_what_cannot_be_drawn_is_said():
    with pytest.raises(DataError, match="found no low, high; add them"):
        score_panels_size(SCORES[["arm", "measure", "value"]])
    with pytest.raises(DataError, match="at least one score"):
        score_panels_size(SCORES[:0])
    with pytest.raises(DataError, match="found several of MP in rmse; choose one"):
        score_panels_size(pd.concat([SCORES, SCORES[:1]]))
    with pytest.raises(DataError, match='expected "lower", "higher" or "" as what is better, found \'up\''):
        score_panels_size(SCORES.assign(better="up"))


def test_same_bytes(tmp_path):
    check_same_bytes(save_score_panels, NOT_RUN, tmp_path)
