"""Numbers and rows as text for the page."""

import math
from collections.abc import Iterable

import pandas as pd

DASH = "\N{EN DASH}"


def number(value: float) -> str:
    """Return a number to three decimals, fewer where it is large; a dash for none.

    >>> number(0.12345), number(24.321), number(240.0), number(-0.0001), number(float("nan")) == DASH
    ('0.123', '24.32', '240.0', '0.000', True)
    """
    if value is None or not math.isfinite(value):
        return DASH
    decimals = 3 if abs(value) < 10 else 2 if abs(value) < 100 else 1
    return f"{round(value, decimals) + 0.0:.{decimals}f}"  # + 0.0: no -0.000


def interval(value: float, low: float, high: float) -> str:
    """Return a value with its interval; a dash for none.

    >>> interval(0.5, 0.4, 0.625)
    '0.500 [0.400, 0.625]'
    """
    return f"{number(value)} [{number(low)}, {number(high)}]" if math.isfinite(value) else DASH


def score_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows of `summaries.score_rows` as cells of text, an arm a row and a measure a column."""
    names = list(dict.fromkeys(rows["measure"]))
    heads = {name: _head(rows[rows["measure"] == name].iloc[0]) for name in names}
    table = []
    for arm, own in rows.groupby("arm", sort=False):
        cells = {heads[row["measure"]]: _score(row) for _, row in own.iterrows()}
        table.append({"": arm} | cells)
    return pd.DataFrame(table)


def layer_table(rows: pd.DataFrame, what: str) -> pd.DataFrame:
    """Return rows of `summaries.layer_rows` as cells of text, an arm a row and a layer a column.

    Args:
        rows: The rows.
        what: "top" or "diagonal", with half the width of the interval, or "spread" or "spread_tuned".

    Returns:
        Arms of which nothing was run are left out.
    """
    table = []
    for arm, own in rows.groupby("arm", sort=False) if len(rows) else ():
        cells = {str(row["index"]): _of_layer(row, what) for _, row in own.iterrows()}
        if set(cells.values()) - {DASH, "not run"}:
            table.append({"": arm} | cells)
    return pd.DataFrame(table)


def _of_layer(row: pd.Series, what: str) -> str:
    if what.startswith("spread"):
        return small(row[what])
    half = (row[f"{what}_high"] - row[f"{what}_low"]) / 2
    return row[f"{what}_state"] or f"{row[f'{what}_value']:.2f} ± {half:.2f}"


def small(value: float) -> str:
    """Return a size over many orders of magnitude to two digits; a dash for none.

    >>> small(0.000234), small(1.5)
    ('0.00023', '1.5')
    """
    return f"{value:.2g}" if math.isfinite(value) else DASH


def markdown(table: pd.DataFrame) -> list[str]:
    """Return cells of text as the lines of a Markdown table; strokes within a cell are escaped."""
    rows = [list(table.columns), ["---"] * len(table.columns), *table.astype(str).to_numpy().tolist()]
    return [_line(row) for row in rows] if len(table) else ["Nothing was run."]


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _head(row: pd.Series) -> str:
    """Return the head of a column: the measure, its unit, which way is better."""
    arrow = {"lower": " \N{DOWNWARDS ARROW}", "higher": " \N{UPWARDS ARROW}"}.get(row["better"], "")
    return row["measure"] + (f" ({row['unit']})" if row["unit"] else "") + arrow


def _score(row: pd.Series) -> str:
    paper = "" if math.isnan(row["paper"]) else f" / {row['paper']:g}"
    return (row["state"] or interval(row["value"], row["low"], row["high"])) + paper
