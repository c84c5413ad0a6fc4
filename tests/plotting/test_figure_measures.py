"""Scatter of two measures, and a measure against training-set size: what is drawn is what was given."""

import numpy as np
import pytest
from helpers.pages import check_page, check_same_bytes, drawn, words

from cka_probe.errors import DataError
from cka_probe.plotting.scatter import Point, Scatter, save_scatter, scatter, scatter_size
from cka_probe.plotting.size_curve import SizeCurve, SizedArm, save_size_curve, size_curve, size_curve_size

ARMS = (
    "no pre-training",
    "procedural object classification",
    "depth from video",
    "depth from stereo",
    "measured depth (LiDAR)",
    "optical flow",
    "inpainting",
    "contrastive (MoCo v2)",
    "masked patches",
)
NAN = float("nan")


def points(arms, num=1, *, intervals=True):
    random = np.random.default_rng(len(arms) + num)
    found = []
    for arm in arms:
        for x, y in zip(random.uniform(0.8, 0.9, num), random.uniform(0.5, 0.7, num), strict=True):
            ends = ((x - 0.01, x + 0.02), (y - 0.03, y + 0.02)) if intervals else ((NAN, NAN), (NAN, NAN))
            found.append(Point(arm, x, y, *ends))
    return found


def arm(name, nums, seed=0, *, bounded=True):
    values = np.sort(np.random.default_rng(seed).uniform(0.3, 0.7, len(nums)))
    width = np.full(len(nums), 0.03 if bounded else NAN)
    return SizedArm(name, nums, values, values - width, values + width)


SCATTERS = {
    "nine arms": Scatter(points(ARMS), "pixel accuracy", "mIoU, 7 classes", "Two measures of the same predictions"),
    "trials": Scatter(points(ARMS[:3], 4, intervals=False), "pixel accuracy", "mIoU"),
    "one point": Scatter(points(ARMS[:1]), "a", "b"),
    "without intervals": Scatter(points(ARMS[:4], intervals=False), "a", "b"),
    "some unknown": Scatter([*points(ARMS[:2]), Point("flow", NAN, 0.6)], "a", "b", "t"),
    "long names": Scatter(
        points([f"an arm of number {k} with a very long name" for k in range(5)]), "a", "b", "t" * 90
    ),
}
CURVES = {
    "four arms": SizeCurve([arm(name, [4, 16, 64], k) for k, name in enumerate(ARMS[:4])], "mIoU, 7 classes", "Sizes"),
    "nine arms": SizeCurve([arm(name, [4, 16, 64], k) for k, name in enumerate(ARMS)], "mIoU"),
    "different numbers": SizeCurve([arm("a", [4, 64]), arm("b", [16], 1), arm("c", [8, 16, 128], 2)], "mIoU"),
    "crowded": SizeCurve([arm("a", list(range(60, 70)))], "mIoU"),
    "one number": SizeCurve([arm("a", [16]), arm("b", [16], 1)], "mIoU"),
    "no intervals": SizeCurve([arm("a", [1, 10, 1000], bounded=False)], "mIoU"),
}
ALL = [
    *[(scatter, scatter_size, thing, name) for name, thing in SCATTERS.items()],
    *[(size_curve, size_curve_size, thing, name) for name, thing in CURVES.items()],
]


@pytest.mark.parametrize(("draw", "size", "thing"), [case[:3] for case in ALL], ids=[case[3] for case in ALL])
def test_nothing_is_cut_off_too_small_or_over_something_else(draw, size, thing):
    check_page(drawn(draw, size, thing))


@pytest.mark.parametrize("zoom", [1.0, 1.4, 2.5])
def test_they_are_the_same_pages_at_every_size(zoom):
    check_page(drawn(scatter, scatter_size, SCATTERS["nine arms"], zoom=zoom))
    check_page(drawn(size_curve, size_curve_size, CURVES["four arms"], zoom=zoom))


def test_points_are_where_their_values_are_and_crosses_where_their_intervals_are():
    given = SCATTERS["nine arms"].points
    (panel,) = drawn(scatter, scatter_size, SCATTERS["nine arms"]).child_axes
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in panel.lines] == [(p.x, p.y) for p in given]
    crosses = [segment for lines in panel.collections for segment in lines.get_segments()]
    for number, point in enumerate(given):
        np.testing.assert_allclose(crosses[2 * number][:, 0], point.x_interval)
        np.testing.assert_allclose(crosses[2 * number + 1][:, 1], point.y_interval)
    looks = {(line.get_color(), line.get_marker()) for line in panel.lines}
    assert len(looks) == len(ARMS)


def test_the_mean_of_trials_is_larger_than_they_are():
    shown = SCATTERS["trials"]
    ax = drawn(scatter, scatter_size, shown)
    large = [line for line in ax.child_axes[0].lines if line.get_markersize() > 5]
    assert len(large) == 3
    for line, name in zip(large, shown.arms, strict=True):
        own = [(point.x, point.y) for point in shown.points if point.arm == name]
        np.testing.assert_allclose([line.get_xdata()[0], line.get_ydata()[0]], np.mean(own, axis=0))
    assert len(ax.child_axes[0].lines) == 15
    assert "large: mean of an arm" in words(ax)
    assert "large: mean of an arm" not in words(drawn(scatter, scatter_size, SCATTERS["nine arms"]))


def test_a_point_without_a_value_is_not_drawn():
    ax = drawn(scatter, scatter_size, SCATTERS["some unknown"])
    assert len(ax.child_axes[0].lines) == 2


def test_lines_are_the_values_and_bands_the_intervals():
    shown = CURVES["four arms"]
    (panel,) = drawn(size_curve, size_curve_size, shown).child_axes
    assert panel.get_xscale() == "log"
    for line, band, given in zip(panel.lines, panel.collections, shown.arms, strict=True):
        np.testing.assert_array_equal(line.get_xdata(), given.nums)
        np.testing.assert_array_equal(line.get_ydata(), given.values)
        corners = band.get_paths()[0].vertices
        assert {tuple(np.round(corner, 9)) for corner in corners} == {
            tuple(np.round(corner, 9))
            for ends in (given.low, given.high)
            for corner in zip(given.nums, ends, strict=True)
        }
    said = words(panel.figure.axes[0])
    assert {"4", "16", "64", "labelled training images", "mIoU, 7 classes", "Sizes", *ARMS[:4]} <= set(said)


def test_an_arm_of_one_number_has_a_bar_and_one_without_intervals_nothing():
    (panel,) = drawn(size_curve, size_curve_size, CURVES["one number"]).child_axes
    bars = [lines.get_segments()[0][:, 1] for lines in panel.collections]
    np.testing.assert_allclose(bars, [(given.low[0], given.high[0]) for given in CURVES["one number"].arms])
    (panel,) = drawn(size_curve, size_curve_size, CURVES["no intervals"]).child_axes
    assert not any(lines.get_segments() for lines in panel.collections)


def test_marks_that_would_touch_are_left_out():
    (panel,) = drawn(size_curve, size_curve_size, CURVES["crowded"]).child_axes
    said = [label.get_text() for label in panel.get_xticklabels()]
    assert said[0] == "60"
    assert said[-1] == "69"


def test_what_cannot_be_drawn_is_said():
    with pytest.raises(DataError, match="at least one point with two values to draw, found none"):
        scatter_size(Scatter([Point("a", NAN, 1)], "a", "b"))
    with pytest.raises(DataError, match=r"a: expected a value in its interval, found 1 and \[2, 3\]"):
        scatter_size(Scatter([Point("a", 1, 1, (2, 3))], "a", "b"))
    with pytest.raises(DataError, match="at least one value to draw, found none"):
        size_curve_size(SizeCurve([SizedArm("a", [4], [NAN], [NAN], [NAN])], "mIoU"))
    for nums in ([16, 4, 64], [0, 4, 16], [4, 16]):
        with pytest.raises(DataError, match="a: expected increasing numbers of images"):
            size_curve_size(SizeCurve([SizedArm("a", nums, [0.1] * 3, [NAN] * 3, [NAN] * 3)], "mIoU"))


def test_same_bytes(tmp_path):
    check_same_bytes(save_scatter, SCATTERS["trials"], tmp_path / "scatter")
    check_same_bytes(save_size_curve, CURVES["four arms"], tmp_path / "curve")
