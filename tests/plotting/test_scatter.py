"""Points are where their values are, with their intervals as crosses and the numbers of their arms next to them."""

import numpy as np
import pytest
from helpers.figures_of_lines import FIGURES, NAN, SCATTERS, TWELVE, points
from helpers.pages import sheet_of, words

from cka_probe.errors import DataError
from cka_probe.plotting.scatter import Point, Scatter


def test_points_are_where_their_values_are_and_crosses_where_their_intervals_are():
    figure = FIGURES["scatter"]
    (ax,) = sheet_of(figure).axes
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in ax.lines] == [(p.x, p.y) for p in figure.points]
    crosses = [segment for lines in ax.collections for segment in lines.get_segments()]
    for number, point in enumerate(figure.points):
        np.testing.assert_allclose(crosses[2 * number][:, 0], point.x_interval)
        np.testing.assert_allclose(crosses[2 * number + 1][:, 1], point.y_interval)
    assert len({(line.get_color(), line.get_marker()) for line in ax.lines}) == len(TWELVE)


def test_the_mean_of_trials_is_larger_than_they_are():
    figure = SCATTERS["trials"]
    sheet = sheet_of(figure)
    lines = sheet.axes[0].lines
    large = [line for line in lines if line.get_markersize() > 5]
    assert len(large) == 4
    for line, name in zip(large, TWELVE, strict=False):
        trials = [(point.x, point.y) for point in figure.points if point.arm == name]
        np.testing.assert_allclose([line.get_xdata()[0], line.get_ydata()[0]], np.mean(trials, axis=0))
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


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(DataError, match="at least one point with two values to draw, found none"):
        Scatter([Point("a", NAN, 1)], "a", "b")
    with pytest.raises(DataError, match=r"a: expected a value in its interval, found 1 and \[2, 3\]"):
        Point("a", 1, 1, (2, 3))
