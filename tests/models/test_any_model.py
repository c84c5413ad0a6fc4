"""Model files as people have them load with no architecture named, and compute what their original model computes."""

import pytest
from helpers.model_files import LIBRARY_ROWS, compare_case
from helpers.openmmlab_files import OPENMMLAB_ROWS
from helpers.original_files import ORIGINAL_ROWS

ROWS = [
    pytest.param(row, id=row.name, marks=[pytest.mark.slow] if row.cost == "slow" else [])
    for row in (*LIBRARY_ROWS, *ORIGINAL_ROWS, *OPENMMLAB_ROWS)
    if row.cost != "large"
]


@pytest.mark.parametrize("row", ROWS)
def test_features_are_the_original_models(row, tmp_path):
    comparison = compare_case(row.make(tmp_path))
    assert comparison.difference < 1e-4
    assert comparison.backbone.layers
