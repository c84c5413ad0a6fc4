"""Maps of arms put every number at its place."""

import numpy as np
import pandas as pd
import pytest
from helpers.every_figure import maps
from helpers.pages import check_legible, sheet_of, words

from cka_probe.errors import DataError
from cka_probe.plotting.arm_maps import ArmMaps

MAPS = {
    "two": maps(2),
    "four": maps(4),
    "fifteen": maps(15),
    "two layers": maps(3, 2),
    "before": maps(3, 9, ("before",)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MAPS)
def test_maps_are_whole(name):
    check_legible(sheet_of(MAPS[name]), least=6.0)


def test_before_is_below_the_diagonal_after_above_and_what_is_missing_is_white():
    table = pd.DataFrame(
        [
            {"x": "a", "y": "b", "when": "before", "index": 0, "layer": "conv1", "value": 0.2},
            {"x": "b", "y": "a", "when": "after", "index": 0, "layer": "conv1", "value": 0.8},
            {"x": "a", "y": "a", "when": "self", "index": 0, "layer": "conv1", "value": 0.5},
            {"x": "a", "y": "c", "when": "before", "index": 0, "layer": "conv1", "value": np.nan},
        ]
    )
    sheet = sheet_of(ArmMaps(table, {"a": "first", "b": "second", "c": "third"}))
    panel = sheet.axes[0]
    values = panel.collections[0].get_array().reshape(3, 3)
    assert (values[1, 0], values[0, 1], values[0, 0]) == (0.2, 0.8, 0.5)
    assert values.mask[1, 1]
    assert values.mask[2, 0]
    hatched = [patch.get_xy() for patch in panel.patches if patch.get_hatch()]
    assert hatched == [(0, 2)]  # undefined, which is not the same as not compared
    assert ".80" in words(sheet)


def test_maps_refuse_what_they_cannot_draw():
    good = MAPS["two"]
    with pytest.raises(DataError, match="found no value"):
        ArmMaps(good.table.drop(columns="value"), good.arms)
    with pytest.raises(DataError, match="found none for arm1"):
        ArmMaps(good.table, {"arm0": "first"})
    with pytest.raises(DataError, match="found several"):
        ArmMaps(pd.concat([good.table, good.table]), good.arms)
    with pytest.raises(DataError, match="found none"):
        ArmMaps(good.table.iloc[:0], good.arms)
    with pytest.raises(DataError, match="found 'later'"):
        ArmMaps(good.table.assign(when="later"), good.arms)
