"""Lines are the values of arms, bands their intervals, and marks the numbers of images that were tried."""

import numpy as np
import pytest
from helpers.figures_of_lines import FIGURES, NAN, SIZE_CURVES, TWELVE
from helpers.pages import sheet_of, words

from cka_probe.errors import DataError
from cka_probe.plotting.size_curve import SizeCurve, SizedArm


def test_lines_are_the_values_and_bands_the_intervals():
    figure = FIGURES["size_curve"]
    sheet = sheet_of(figure)
    (ax,) = sheet.axes
    assert ax.get_xscale() == "log"
    for line, band, arm in zip(ax.lines, ax.collections, figure.arms, strict=True):
        np.testing.assert_array_equal(line.get_xdata(), arm.nums)
        np.testing.assert_array_equal(line.get_ydata(), arm.values)
        corners = {tuple(np.round(corner, 9)) for corner in band.get_paths()[0].vertices}
        ends = [corner for end in (arm.low, arm.high) for corner in zip(arm.nums, end, strict=True)]
        assert corners == {tuple(np.round(corner, 9)) for corner in ends}
    assert {"4", "16", "64", "labelled training images", "mIoU", "Sizes", *TWELVE[:4]} <= set(words(sheet))


def test_an_arm_of_one_number_has_a_bar_and_one_without_intervals_nothing():
    (ax,) = sheet_of(SIZE_CURVES["one number"]).axes
    bars = [lines.get_segments()[0][:, 1] for lines in ax.collections]
    np.testing.assert_allclose(bars, [(arm.low[0], arm.high[0]) for arm in SIZE_CURVES["one number"].arms])
    (ax,) = sheet_of(SIZE_CURVES["without intervals"]).axes
    assert not any(lines.get_segments() for lines in ax.collections)


def test_marks_that_would_touch_are_omitted():
    (ax,) = sheet_of(SIZE_CURVES["crowded"]).axes
    names = [label.get_text() for label in ax.get_xticklabels()]
    assert (names[0], names[-1]) == ("60", "69")
    assert len(names) < 10


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(DataError, match="at least one value to draw, found none"):
        SizeCurve([SizedArm("a", [4], [NAN], [NAN], [NAN])], "mIoU")
    for nums in ([16, 4, 64], [0, 4, 16], [4, 16]):
        with pytest.raises(DataError, match="a: expected increasing numbers of images"):
            SizedArm("a", nums, [0.1] * 3, [NAN] * 3, [NAN] * 3)
