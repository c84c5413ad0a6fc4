"""Figures of arms among each other put every number at its place, and mark where two part ways."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from helpers.pages import check_page, check_same_bytes, drawn, words
from helpers.semantic_study import NAMES, matrix

from cka_probe.errors import DataError
from cka_probe.plotting.arm_maps import ArmMaps, arm_maps, arm_maps_size, save_arm_maps
from cka_probe.plotting.layer_divergence import Pair, parting, parting_size, save_parting, steepest


def maps(count, layers=9, whens=("before", "after", "self")):
    arms = {f"arm{i}": f"depth from something {i}" for i in range(count)}
    pairs = [(x, y, when) for x, y in combinations(arms, 2) for when in whens if when != "self"]
    pairs += [(x, x, "self") for x in arms if "self" in whens]
    rows = [
        {"x": x, "y": y, "when": when, "index": i, "layer": NAMES[i], "value": (len(x + y) + i + j) % 10 / 10}
        for j, (x, y, when) in enumerate(pairs)
        for i in range(layers)
    ]
    return ArmMaps(pd.DataFrame(rows), arms)


MAPS = {
    "two": maps(2),
    "four": maps(4),
    "fifteen": maps(15),
    "two layers": maps(3, 2),
    "before": maps(3, 9, ("before",)),
}


@pytest.mark.parametrize("name", MAPS)
def test_maps_are_whole(name):
    check_page(drawn(arm_maps, arm_maps_size, MAPS[name]))


def test_before_is_below_the_diagonal_after_above_and_what_is_missing_is_white():
    table = pd.DataFrame(
        [
            {"x": "a", "y": "b", "when": "before", "index": 0, "layer": "conv1", "value": 0.2},
            {"x": "b", "y": "a", "when": "after", "index": 0, "layer": "conv1", "value": 0.8},
            {"x": "a", "y": "a", "when": "self", "index": 0, "layer": "conv1", "value": 0.5},
            {"x": "a", "y": "c", "when": "before", "index": 0, "layer": "conv1", "value": np.nan},
        ]
    )
    ax = drawn(arm_maps, arm_maps_size, ArmMaps(table, {"a": "first", "b": "second", "c": "third"}))
    panel = ax.child_axes[0]
    values = panel.images[0].get_array()
    assert (values[1, 0], values[0, 1], values[0, 0]) == (0.2, 0.8, 0.5)
    assert values.mask[1, 1]
    assert values.mask[2, 0]
    hatched = [patch.get_xy() for patch in panel.patches if patch.get_hatch()]
    assert hatched == [(-0.5, 1.5)]  # undefined, which is not the same as not compared
    assert ".80" in words(ax)


def test_maps_refuse_what_they_cannot_draw():
    good = MAPS["two"]
    with pytest.raises(DataError, match="found no value"):
        arm_maps_size(ArmMaps(good.table.drop(columns="value"), good.arms))
    with pytest.raises(DataError, match="found none for arm1"):
        arm_maps_size(ArmMaps(good.table, {"arm0": "first"}))
    with pytest.raises(DataError, match="found several"):
        arm_maps_size(ArmMaps(pd.concat([good.table, good.table]), good.arms))
    with pytest.raises(DataError, match="found none"):
        arm_maps_size(ArmMaps(good.table.iloc[:0], good.arms))
    with pytest.raises(DataError, match="found 'later'"):
        arm_maps_size(ArmMaps(good.table.assign(when="later"), good.arms))


FALLING = np.array([0.9, 0.9, 0.8, 0.7, 0.3, 0.2, 0.2, 0.1, 0.1])
BOTH = {"before fine-tuning": matrix(FALLING, "video", "none"), "after fine-tuning": matrix(FALLING / 2, "v", "n")}
PAIRS = {
    "one": [Pair("depth and classification", BOTH)],
    "three": [Pair("depth and classification", BOTH)] * 3,
    "only before": [Pair("two", {"before fine-tuning": BOTH["before fine-tuning"]})],
    "undefined": [Pair("two", {"before fine-tuning": matrix(FALLING, "video", "none", undefined=(2,))})],
    "rising": [Pair("two", {"before fine-tuning": matrix(FALLING[::-1], "video", "none")})],
}


@pytest.mark.parametrize("name", PAIRS)
def test_profiles_are_whole(name):
    check_page(drawn(parting, parting_size, PAIRS[name]))


def test_the_steepest_fall_is_thick_and_between_its_two_layers():
    panel = drawn(parting, parting_size, PAIRS["one"]).child_axes[0]
    thick = [line for line in panel.lines if line.get_linewidth() > 2]
    assert [list(line.get_xdata()) for line in thick] == [[3, 4], [3, 4]]
    np.testing.assert_array_equal(panel.lines[0].get_ydata(), FALLING)
    assert not [x for x in drawn(parting, parting_size, PAIRS["rising"]).child_axes[0].lines if x.get_linewidth() > 2]


def test_the_steepest_fall_is_found_beside_undefined_layers():
    assert steepest(np.array([0.9, np.nan, 0.5, 0.4])) == 3
    assert steepest(np.array([np.nan, np.nan])) is None


def test_profiles_refuse_what_they_cannot_draw():
    with pytest.raises(DataError, match="found none"):
        parting_size([])
    with pytest.raises(DataError, match="found none"):
        parting_size([Pair("two", {})])


def test_the_same_drawing_gives_the_same_bytes(tmp_path):
    check_same_bytes(save_arm_maps, MAPS["two layers"], tmp_path / "maps")
    check_same_bytes(save_parting, PAIRS["one"], tmp_path / "parting")
