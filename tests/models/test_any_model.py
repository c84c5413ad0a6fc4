"""Model files as people have them load with no architecture named, and compute what their original model computes."""

import pytest
from helpers import model_files, original_files

ROWS = [
    pytest.param(row, id=row.name, marks=[pytest.mark.slow] if row.cost == "slow" else [])
    for row in (*model_files.ROWS, *original_files.ROWS)
    if row.cost != "large"
]


@pytest.mark.parametrize("row", ROWS)
def test_features_are_the_original_models(row, tmp_path):
    comparison = model_files.compare_case(row.make(tmp_path))
    assert comparison.difference < 1e-4
    assert comparison.backbone.layers
