"""The statistics of Depth-to-Semantic: values by hand, invariances, and what has no value."""

import math

import numpy as np
import pandas as pd
import pytest
from helpers.semantic_study import IMAGES, iou_of, matrix, scores

from cka_probe.errors import DataError
from cka_probe.papers.claims import average
from cka_probe.papers.depth_to_semantic import claims as statistics
from cka_probe.papers.depth_to_semantic.study import Case
from cka_probe.papers.evidence import Estimate, least

NONE, VIDEO, ROOMS = Case("none"), Case("video"), Case("none", data="rooms")


def curve(*values, steps=(10, 20, 40), name="miou_subset"):
    return pd.DataFrame({"step": steps, name: values})


def test_a_gain_is_the_difference_in_points_and_has_its_value_with_and_without_an_interval():
    better, worse = scores(VIDEO, 0.8, spread=0.05), scores(NONE, 0.6, spread=0.02)
    found = statistics.gain(better, worse, statistics.MAIN)
    assert found.value == pytest.approx(100 * (iou_of(0.8) - iou_of(0.6)), abs=0.05)
    assert found.low < found.value < found.high
    bare = statistics.gain(better, worse, statistics.MAIN, interval=False)
    assert (bare.value, math.isnan(bare.low)) == (found.value, True)
    assert statistics.gain(worse, better, statistics.MAIN, interval=False).value == -bare.value


def test_cross_entropy_stays_in_nats_and_the_main_score_of_data_without_a_subset_is_over_all_classes():
    assert statistics.value_of(scores(NONE, 0.5), "cross_entropy").value == pytest.approx(math.log(2))
    rooms = scores(ROOMS, 0.6)
    assert statistics.named(rooms, statistics.MAIN) == "miou"
    assert statistics.value_of(rooms, statistics.MAIN).value == pytest.approx(100 * iou_of(0.6), abs=0.05)
    assert statistics.value_of(rooms, "miou_subset").undefined == "no image has miou_subset"


def test_a_gain_over_other_images_is_an_error():
    better, worse = scores(VIDEO, 0.8), scores(NONE, 0.6)
    object.__setattr__(worse, "images", tuple(f"other{i}" for i in range(IMAGES)))
    for interval in (True, False):
        with pytest.raises(DataError, match="same images"):
            statistics.gain(better, worse, "accuracy", interval)


def test_the_area_gain_by_hand_and_of_a_curve_that_is_only_sooner():
    # areas: (10 (0.2 + 0.6) / 2 + 20 (0.6 + 0.8) / 2) / 30 = 0.6 and (10 · 0.4 / 2 + 20 · 1.2 / 2) / 30 = 0.4667
    found = statistics.area_gain(curve(0.2, 0.6, 0.8), curve(0.0, 0.4, 0.8))
    assert found.value == pytest.approx(100 * (0.6 - 14 / 30))
    assert statistics.area_gain(curve(0.3, 0.3, 0.3), curve(0.1, 0.1, 0.1)).value == pytest.approx(20)


def test_an_area_does_not_change_where_a_step_is_put_in_on_a_line():
    steps, values = np.array([0.0, 10.0, 40.0]), np.array([0.0, 0.5, 0.8])
    finer, between = np.array([0.0, 5.0, 10.0, 20.0, 40.0]), np.array([0.0, 0.25, 0.5, 0.6, 0.8])
    assert statistics.area(finer, between) == pytest.approx(statistics.area(steps, values))


def test_sooner_by_hand():
    # the level is 0.9 · 0.6 = 0.54: between 10 and 20 at 0.3 … 0.6 it is at 18, between 20 and 40 at 0.4 … 0.6 at 34
    found = statistics.sooner(curve(0.3, 0.6, 0.6), curve(0.1, 0.4, 0.6))
    assert found.value == pytest.approx(100 * (34 - 18) / 40)
    assert statistics.sooner(curve(0.1, 0.4, 0.6), curve(0.1, 0.4, 0.6)).value == 0
    assert "not reached" in statistics.sooner(curve(0.1, 0.2, 0.3), curve(0.1, 0.4, 0.6)).undefined


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (curve(0.1, 0.2, 0.3, steps=(10, 20, 30)), "same two or more steps"),
        (curve(0.1, math.nan, 0.3), "not a number"),
        (curve(0.1, 0.2, 0.3, name="accuracy"), "no mIoU"),
    ],
)
def test_curves_that_cannot_be_compared_say_why(other, why):
    for statistic in (statistics.area_gain, statistics.sooner):
        assert why in statistic(curve(0.1, 0.2, 0.3), other).undefined


def test_the_least_of_several_and_one_without_a_value():
    several = [Estimate(3.0, 2.0, 4.0), Estimate(1.0, -2.0, 9.0)]
    assert least(several) == Estimate(1.0, -2.0, 4.0)
    broken = least([*several, Estimate(math.nan, math.nan, math.nan, "diverged")])
    assert (math.isnan(broken.value), broken.undefined) == (True, "diverged")


def test_layers_by_hand():
    diagonal = [0.9] * 5 + [0.5] * 4
    assert statistics.change(matrix(diagonal, "a", "b")).value == pytest.approx(1 - (4.5 + 2) / 9)
    assert statistics.later_change_more(matrix(diagonal, "a", "b")).value == pytest.approx(0.5 - 0.1)
    assert statistics.layer_divergence(matrix(diagonal, "a", "b")).value == pytest.approx(0.4)
    found = statistics.layer_divergence(matrix(diagonal, "a", "b"))
    assert (found.low, found.high) == pytest.approx((0.4 - 0.02, 0.4 + 0.02))
    assert statistics.later_change_more(matrix([1.0] * 9, "a", "b")).value == 0
    assert math.isnan(statistics.layer_divergence(matrix(diagonal, "a", "b", undefined=(3,))).value)


def test_trials_of_a_seed_are_averaged_and_one_undefined_makes_it_so():
    assert average([None, None]) is None
    assert average([Estimate(1.0, 0.0, 2.0), None, Estimate(3.0, 1.0, 4.0)]) == Estimate(2.0, 0.5, 3.0)
    assert average([Estimate(1.0, 0.0, 2.0), Estimate(math.nan, 0, 0, "diverged")]).undefined == "diverged"
