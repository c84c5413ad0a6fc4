"""A data frame as the cells of a table: what is read, what is sorted by, and the CSV that is taken away.

Numbers of one column have the same number of decimals, so that their points stand below each other; the exact
numbers are in the CSV and are what a sort compares.
"""

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd

from cka_probe.report.escaping import data_uri
from cka_probe.report.page import Worded

MOST_ROWS = 2000
DASH = "\N{EM DASH}"
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: What is read.
        key: What is sorted by where it is not the text: an exact number, or "" for a missing one.
        missing: There is no value.
    """

    text: str
    key: str | None = None
    missing: bool = False


@dataclass(frozen=True)
class Column:
    """A heading, and whether numbers stand below it."""

    title: str
    numeric: bool


@dataclass(frozen=True)
class Table:
    """What the template draws.

    Attributes:
        columns: Headings.
        rows: Cells, at most `MOST_ROWS` of them.
        left_out: Rows that only the CSV has.
        csv: All of it, as a data URI.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    left_out: int
    csv: str


def table_of(frame: pd.DataFrame) -> Table:
    """Return the cells of a frame; its index is not shown.

    Args:
        frame: Any columns; whatever is no number, truth value or missing value is shown as text.
    """
    columns, cells = [], []
    for position, title in enumerate(frame.columns):
        values = [_plain(value) for value in frame.iloc[:MOST_ROWS, position]]
        numeric = any(_is_number(value) for value in values) and all(v is None or _is_number(v) for v in values)
        columns.append(Column(_title(title), numeric))
        decimals = _decimals([value for value in values if value is not None]) if numeric else 0
        cells.append([_cell(value, decimals) for value in values])
    csv = frame.to_csv(index=False, lineterminator="\n").encode("utf-8")
    return Table(
        tuple(columns),
        tuple(zip(*cells, strict=True)),
        max(0, len(frame) - MOST_ROWS),
        data_uri(csv, "text/csv"),
    )


def _title(title: Any) -> str:
    return " ".join(str(part) for part in title) if isinstance(title, tuple) else str(title)


def _plain(value: Any) -> Any:
    """Return None for what is missing, and the value otherwise."""
    return None if pd.api.types.is_scalar(value) and pd.isna(value) else value


def _is_number(value: Any) -> bool:
    return isinstance(value, Real | np.number) and not isinstance(value, bool | np.bool_)


def _decimals(values: list[Any]) -> int | None:
    """Return how many decimals a column needs for three or four digits; None where powers of ten are needed."""
    finite = [abs(float(value)) for value in values if math.isfinite(value)]
    if all(isinstance(value, Integral) for value in values) or all(value == int(value) for value in finite):
        return 0
    largest = max(finite)
    if largest >= 1e7 or largest < 1e-3:
        return None
    return max(1, 3 - math.floor(math.log10(largest)) - (largest < 1))


def _cell(value: Any, decimals: int | None) -> Cell:
    if value is None:
        return Cell(DASH, "", missing=True)
    if isinstance(value, bool | np.bool_):
        return Cell("yes" if value else "no")
    if isinstance(value, Worded):
        return Cell(value.text, "" if math.isnan(value.number) else repr(float(value.number)))
    if not _is_number(value):
        return Cell(str(value))
    if not math.isfinite(value):
        return Cell("\N{INFINITY}" if value > 0 else f"{MINUS}\N{INFINITY}", "1e999" if value > 0 else "-1e999")
    return Cell(number_text(value, decimals), repr(value.item() if isinstance(value, np.number) else value))


def number_text(value: float, decimals: int | None) -> str:
    """Return a number with so many decimals (None: four digits and a power of ten), and a real minus sign.

    >>> number_text(0.12345, 3), number_text(1.5e9, None), number_text(-12345, 0) == f"{MINUS}12345"
    ('0.123', '1.500e9', True)
    """
    text = f"{value:.3e}".replace("e-0", "e-").replace("e+0", "e") if decimals is None else f"{value:.{decimals}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", MINUS)  # what is rounded to 0 has no sign
