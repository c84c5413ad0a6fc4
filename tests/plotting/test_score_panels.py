"""Panels of scores put every number at its place, ours with its interval and the paper's as what it is."""

import numpy as np
import pandas as pd
import pytest
from helpers.figures_of_lines import FIGURES, NOT_RUN, SCORES, scores
from helpers.pages import sheet_of, words
from matplotlib.collections import LineCollection

from cka_probe.errors import DataError
from cka_probe.plotting.score_panels import ScorePanels

CASES = {"usual": FIGURES["score_panels"], **SCORES}


@pytest.mark.parametrize("name", ["usual", "not run", "one measure", "one arm", "bare", "no cell for some", "large"])
def test_points_and_intervals_are_the_numbers_of_the_table(name):
    table = CASES[name].table
    arms = list(table["arm"].unique())
    for measure, ax in zip(table["measure"].unique(), sheet_of(CASES[name]).axes, strict=True):
        rows = table[table["measure"] == measure].set_index("arm").reindex(arms)
        (ours,) = [line for line in ax.lines if line.get_marker() == "o"]
        np.testing.assert_array_equal(ours.get_xdata(), rows["value"])
        np.testing.assert_array_equal(ours.get_ydata(), range(len(arms)))
        (bars,) = [artist for artist in ax.collections if isinstance(artist, LineCollection)]
        ends = [segment[:, 0] for segment in bars.get_segments() if np.isfinite(segment).all() and len(segment)]
        np.testing.assert_array_equal(np.reshape(ends, (-1, 2)), rows[["low", "high"]].dropna())
        if "paper" in table:
            (paper,) = [line for line in ax.lines if line.get_marker() == "D"]
            np.testing.assert_array_equal(paper.get_xdata(), rows["paper"])
        assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first arm on top


def test_direction_unit_and_state_are_written():
    written = words(sheet_of(SCORES["not run"]))
    assert {"rmse (m)", "the paper's", "ours, 95 % interval"} <= set(written)
    assert written.count("not run") == 4
    assert written.count("lower is better \N{LEFTWARDS ARROW}") == 3
    assert written.count("higher is better \N{RIGHTWARDS ARROW}") == 1
    assert "the paper's" not in words(sheet_of(SCORES["not a number"]))


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(DataError, match="found no low, high; add them"):
        ScorePanels(NOT_RUN[["arm", "measure", "value"]])
    with pytest.raises(DataError, match="at least one score"):
        ScorePanels(NOT_RUN[:0])
    with pytest.raises(DataError, match="found several of MP in rmse; choose one"):
        ScorePanels(pd.concat([scores(), scores()[:1]]))
    with pytest.raises(DataError, match='expected "lower", "higher" or "" as what is better, found \'up\''):
        ScorePanels(scores().assign(better="up"))
