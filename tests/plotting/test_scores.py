"""Scores, pairs of measures and sizes of data sets are where their values are, with their intervals."""

import numpy as np
import pandas as pd
import pytest
from helpers.figures_of_lines import (
    FIGURES,
    NAN,
    NOT_RUN,
    SCATTERS,
    SCORES,
    SIZE_CURVES,
    TWELVE,
    point,
    points,
    scores,
    size_curve,
    sized,
)
from helpers.pages import sheet_of, words
from matplotlib.collections import LineCollection

from cka_probe.errors import DataError
from cka_probe.plotting.scores import Scatter, ScorePanels, Trajectories

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


def test_scores_that_cannot_be_drawn_are_refused():
    with pytest.raises(DataError, match="found no low, high; add them"):
        ScorePanels(NOT_RUN[["arm", "measure", "value"]])
    with pytest.raises(DataError, match="expected scores to draw, found none"):
        ScorePanels(NOT_RUN[:0])
    with pytest.raises(DataError, match="found several of MP in rmse; choose one"):
        ScorePanels(pd.concat([scores(), scores()[:1]]))
    with pytest.raises(DataError, match='expected "lower", "higher" or "" as what is better, found \'up\''):
        ScorePanels(scores().assign(better="up"))


def test_points_are_where_their_values_are_and_crosses_where_their_intervals_are():
    figure = FIGURES["scatter"]
    (ax,) = sheet_of(figure).axes
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in ax.lines] == [
        (row.x, row.y) for row in figure.table.itertuples()
    ]
    crosses = [segment for lines in ax.collections for segment in lines.get_segments()]
    for number, row in enumerate(figure.table.itertuples()):
        np.testing.assert_allclose(crosses[2 * number][:, 0], (row.x_low, row.x_high))
        np.testing.assert_allclose(crosses[2 * number + 1][:, 1], (row.y_low, row.y_high))
    assert len({(line.get_color(), line.get_marker()) for line in ax.lines}) == len(TWELVE)


def test_a_run_is_a_line_that_ends_in_a_marker():
    figure = FIGURES["trajectories"]
    (ax,) = sheet_of(figure).axes
    runs = [run for _, run in figure.table.groupby(["arm", "run"], sort=False)]
    for line, end, run in zip(ax.lines[::2], ax.lines[1::2], runs, strict=True):
        np.testing.assert_array_equal(line.get_xydata(), run[["x", "y"]])
        np.testing.assert_array_equal(end.get_xydata(), run[["x", "y"]][-1:])
    with pytest.raises(DataError, match="expected points along training to draw, found none"):
        Trajectories(figure.table.assign(x=NAN), "a", "b")


def test_the_mean_of_trials_is_larger_than_they_are():
    figure = SCATTERS["trials"]
    sheet = sheet_of(figure)
    lines = sheet.axes[0].lines
    large = [line for line in lines if line.get_markersize() > 5]
    assert len(large) == 4
    for line, name in zip(large, TWELVE, strict=False):
        trials = figure.table.loc[figure.table["arm"] == name, ["x", "y"]]
        np.testing.assert_allclose([line.get_xdata()[0], line.get_ydata()[0]], trials.mean())
    assert sum(len(line.get_xdata()) for line in lines) == 4 * 4 + 4
    assert "large: mean of an arm" in words(sheet)
    assert "large: mean of an arm" not in words(sheet_of(FIGURES["scatter"]))


def test_numbers_of_the_legend_stand_next_to_the_points_and_not_over_each_other():
    sheet = sheet_of(SCATTERS["all equal"])
    assert {str(number + 1) for number in range(12)} <= set(words(sheet))
    assert "12  arm 11 of an experiment" in words(sheet)
    assert "a" in words(sheet_of(Scatter(points(["a"]), "", "")))  # no number where there is one arm


def test_a_point_without_a_value_is_not_drawn():
    (ax,) = sheet_of(SCATTERS["not a number"]).axes
    assert len(ax.lines) == 1


def test_points_that_cannot_be_drawn_are_refused():
    with pytest.raises(DataError, match="at least one point with two values to draw, found none"):
        Scatter(point("a", NAN, 1), "a", "b")
    with pytest.raises(DataError, match=r"a: expected a value in its interval, found 1 and \[2, 3\]"):
        Scatter(point("a", 1, 1).assign(x_low=2, x_high=3), "a", "b")


def test_lines_are_the_values_and_bands_the_intervals():
    figure = FIGURES["size_curve"]
    sheet = sheet_of(figure)
    (ax,) = sheet.axes
    assert ax.get_xscale() == "log"
    arms = [rows for _, rows in figure.table.groupby("arm", sort=False)]
    for line, band, arm in zip(ax.lines, ax.collections, arms, strict=True):
        np.testing.assert_array_equal(line.get_xdata(), arm["num"])
        np.testing.assert_array_equal(line.get_ydata(), arm["value"])
        corners = {tuple(np.round(corner, 9)) for corner in band.get_paths()[0].vertices}
        ends = [corner for end in ("low", "high") for corner in zip(arm["num"], arm[end], strict=True)]
        assert corners == {tuple(np.round(corner, 9)) for corner in ends}
    assert {"4", "16", "64", "labelled training images", "mIoU", "Sizes", *TWELVE[:4]} <= set(words(sheet))


def test_an_arm_of_one_number_has_a_bar_and_one_without_intervals_nothing():
    (ax,) = sheet_of(SIZE_CURVES["one number"]).axes
    bars = [lines.get_segments()[0][:, 1] for lines in ax.collections]
    np.testing.assert_allclose(bars, SIZE_CURVES["one number"].table[["low", "high"]])
    (ax,) = sheet_of(SIZE_CURVES["without intervals"]).axes
    assert not any(lines.get_segments() for lines in ax.collections)


def test_marks_that_would_touch_are_omitted():
    (ax,) = sheet_of(SIZE_CURVES["crowded"]).axes
    names = [label.get_text() for label in ax.get_xticklabels()]
    assert (names[0], names[-1]) == ("60", "69")
    assert len(names) < 10


def test_sizes_that_cannot_be_drawn_are_refused():
    with pytest.raises(DataError, match="at least one value to draw, found none"):
        size_curve(sized("a", [4], value=NAN))
    for nums in ([16, 4, 64], [0, 4, 16], [4, 4, 16]):
        with pytest.raises(DataError, match="a: expected increasing numbers of images"):
            size_curve(sized("a", nums))
