"""A data frame as the cells of a table: displayed text, sort keys, and a CSV download.

All numbers of a column have the same number of decimals, so that their points align. The CSV and the sort keys are
exact.
"""

import math
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cka_probe.report.images import data_uri

MAX_ROWS = 2000
DASH = "\N{EM DASH}"
MINUS = "\N{MINUS SIGN}"
Cell = tuple[str, str | None]


class Table(NamedTuple):
    """A table for the template.

    Attributes:
        columns: (heading, whether the column is numeric).
        rows: Cells (text, sort key) of at most `MAX_ROWS` rows. The key is an exact number, "" for a missing one, or
            None for a cell that is sorted by its text.
        omitted: Number of rows that only the CSV has.
        csv: All rows, as a data URI.
    """

    columns: list[tuple[str, bool]]
    rows: list[tuple[Cell, ...]]
    omitted: int
    csv: str


def table_of(frame: pd.DataFrame) -> Table:
    """Return the cells of a frame; its index is not shown.

    Args:
        frame: Any columns; values that are not numbers, booleans or missing are shown as text.
    """
    columns, cells = [], []
    for title, column in frame.iloc[:MAX_ROWS].items():
        values = [None if pd.api.types.is_scalar(value) and pd.isna(value) else value for value in column]
        numbers = [value for value in values if value is not None]
        is_numeric = bool(numbers) and all(map(_is_number, numbers))
        columns.append((str(title), is_numeric))
        decimals = _decimals(numbers) if is_numeric else 0
        cells.append([_cell(value, decimals) for value in values])
    csv = data_uri(frame.to_csv(index=False, lineterminator="\n").encode("utf-8"), "text/csv")
    return Table(columns, list(zip(*cells, strict=True)), max(0, len(frame) - MAX_ROWS), csv)


def number_text(value: float, decimals: int | None) -> str:
    """Return a number with this many decimals (None: four digits and a power of ten) and a typographic minus sign.

    >>> number_text(0.12345, 3), number_text(1.5e9, None), number_text(-12345, 0) == f"{MINUS}12345"
    ('0.123', '1.500e9', True)
    """
    text = f"{value:.3e}".replace("e-0", "e-").replace("e+0", "e") if decimals is None else f"{value:.{decimals}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", MINUS)  # a number rounded to 0 has no sign


def _is_number(value: Any) -> bool:
    return isinstance(value, Real | np.number) and not isinstance(value, bool | np.bool_)


def _decimals(values: list[Any]) -> int | None:
    """Return the number of decimals that show three or four digits of a column; None where it needs powers of ten."""
    finite = [abs(float(value)) for value in values if math.isfinite(value)]
    if all(isinstance(value, Integral) for value in values) or all(value == int(value) for value in finite):
        return 0
    largest = max(finite)
    if largest >= 1e7 or largest < 1e-3:
        return None
    return max(1, 3 - math.floor(math.log10(largest)) - (largest < 1))


def _cell(value: Any, decimals: int | None) -> Cell:
    if value is None:
        return DASH, ""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no", None
    if not _is_number(value):
        return str(value), None
    if not math.isfinite(value):
        return ("\N{INFINITY}", "1e999") if value > 0 else (f"{MINUS}\N{INFINITY}", "-1e999")
    return number_text(value, decimals), repr(value.item() if isinstance(value, np.number) else value)
