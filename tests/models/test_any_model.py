"""Model files as people have them load with no architecture named, and compute what their original model computes."""

import pytest
from helpers.model_files import LIBRARY_ROWS, compare_case
from helpers.openmmlab_files import OPENMMLAB_ROWS
from helpers.original_files import ORIGINAL_ROWS

TABLE = [row for row in (*LIBRARY_ROWS, *ORIGINAL_ROWS, *OPENMMLAB_ROWS) if row.cost != "large"]
ONE_OF_EACH = {row.family: row.name for row in TABLE}.values()
QUICK = [row.name for row in TABLE if row.name in ONE_OF_EACH or row.family == "transformers folder"]
"""One model of each kind of file, and those of a few kilobytes."""
ROWS = [pytest.param(row, id=row.name, marks=[pytest.mark.slow] * (row.name not in QUICK)) for row in TABLE]


@pytest.mark.parametrize("row", ROWS)
def test_features_are_the_original_models(row, tmp_path):
    comparison = compare_case(row.make(tmp_path))
    assert comparison.difference < 1e-4
    assert comparison.backbone.layers
