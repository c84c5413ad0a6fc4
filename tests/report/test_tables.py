"""Data frames as tables of a page."""

import base64

import numpy as np
import pandas as pd
import pytest

from cka_probe.report.tables import table_of


def test_numbers_of_a_column_have_the_same_decimals_and_exact_sort_keys():
    frame = pd.DataFrame({"a": [0.5, np.nan, -0.25], "n": [1, 2, 3], "t": ["x", None, "z"], "b": [True, False, True]})
    table = table_of(frame)
    assert [numeric for _, numeric in table.columns] == [True, True, False, False]
    assert [row[0][0] for row in table.rows] == ["0.500", "—", "−0.250"]
    assert [row[0][1] for row in table.rows] == ["0.5", "", "-0.25"]
    assert [row[1][0] for row in table.rows] == ["1", "2", "3"]
    assert [row[3][0] for row in table.rows] == ["yes", "no", "yes"]
    assert base64.b64decode(table.csv.split(",")[1]).decode() == frame.to_csv(index=False)


@pytest.mark.slow
def test_rows_of_long_tables_are_only_in_the_csv():
    table = table_of(pd.DataFrame({"a": range(2001)}))
    assert (len(table.rows), table.omitted) == (2000, 1)
    assert base64.b64decode(table.csv.split(",")[1]).decode().endswith("2000\n")
