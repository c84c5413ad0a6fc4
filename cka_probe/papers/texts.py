"""Rows of a study as tables to be written: an arm a row, cells with their interval and the paper's number."""

import math
import re
from collections.abc import Collection, Sequence

import pandas as pd

from cka_probe.papers.claims import TestedClaim
from cka_probe.papers.text_tables import DASH, as_latex, as_markdown
from cka_probe.papers.text_tables import Estimate as Cell
from cka_probe.papers.verdicts import NOT_RUN, UNDEFINED, Finding

DIGITS = {"pixels": 2, "cm": 2, "degrees": 2, "%": 2}
"""Decimals by unit; 3 for every other."""


def score_texts(rows: pd.DataFrame) -> tuple[str, str]:
    """Return rows of scores as Markdown and as LaTeX, an arm a row and a measure a column."""
    heads = {row.measure: row.measure + (f" ({row.unit})" if row.unit else "") for row in rows.itertuples()}
    cells: dict[str, dict[str, Cell | str]] = {}
    for _, row in rows.iterrows():
        cells.setdefault(row["arm"], {})[heads[row["measure"]]] = _cell(row, "", row["paper"])
    digits = {heads[row.measure]: DIGITS.get(row.unit, 3) for row in rows.itertuples()}
    best = {heads[row.measure]: row.better for row in rows.itertuples() if row.better}
    frame = pd.DataFrame.from_dict(cells, orient="index")
    return tuple(write(frame, digits=digits, best=best) for write in (as_markdown, as_latex))


def layer_texts(rows: pd.DataFrame, what: str) -> tuple[str, str]:
    """Return rows of layers as Markdown and as LaTeX, an arm a row and a layer a column.

    Args:
        rows: The rows.
        what: "top" or "diagonal", with their intervals, or "spread" or "spread_tuned".

    Returns:
        Arms of which nothing was run are left out; what is of a pre-trained network alone stands there once.
    """
    alone = what in ("top", "spread")
    cells: dict[str, dict[str, Cell | str]] = {}
    for _, row in rows.drop_duplicates(["pre", "index"]).iterrows() if alone and len(rows) else rows.iterrows():
        cell = small(row[what]) if what.startswith("spread") else _cell(row, f"{what}_")
        cells.setdefault(row["arm"], {})[str(row["index"])] = cell
    kept = {arm: own for arm, own in cells.items() if any(cell not in (DASH, NOT_RUN) for cell in own.values())}
    frame = pd.DataFrame.from_dict(kept, orient="index")
    return tuple(write(frame, digits=2) if kept else "Not run.\n" for write in (as_markdown, as_latex))


def claim_texts(rows: Sequence[TestedClaim], figures: Collection[str], run: str = "seed") -> str:
    """Return claims as Markdown, each with a link to its figure, if that is among those drawn.

    Args:
        rows: The claims.
        figures: Stems of those that were drawn.
        run: What a run is called: "seed" or "trial".
    """
    table = [
        {
            "number": interval(row),
            "unit": row.unit,
            f"each {run}": ", ".join(_run(value) for value in row.finding.runs.values()),
            "verdict": row.said,
            "p (Holm)": row.p_holm,
            "figure": f"[{row.claim.figure}](figures/{row.claim.figure}.png)" if row.claim.figure in figures else None,
        }
        for row in rows
    ]
    text = as_markdown(pd.DataFrame(table, index=pd.Index([row.statement for row in rows], name="claim")))
    return re.sub(r"\]\(.*?\)", lambda target: target[0].replace("\\", ""), text)  # where a link leads is no text


def shown(finding: Finding, run: str = "seed") -> dict[str, object]:
    """Return value and interval of a finding, over what, and why there are none."""
    runs = sum(value is not None for value in finding.runs.values())
    state = finding.verdict if finding.verdict in (NOT_RUN, UNDEFINED) else ""
    over = "" if state else f"{run}s" if runs > 1 else "images"
    numbers = {"value": finding.value, "low": finding.low, "high": finding.high}
    return numbers | {"over": over, f"{run}s": runs, "state": state, "reason": finding.reason if state else ""}


def interval(row: TestedClaim) -> Cell:
    """Return the number of a claim as a cell."""
    return Cell(row.value, row.low, row.high)


def small(value: float) -> str:
    """Return a size over many orders of magnitude to two digits; a dash for none.

    >>> small(0.000234), small(1.5)
    ('0.00023', '1.5')
    """
    return f"{value:.2g}" if math.isfinite(value) else DASH


def signed(value: float) -> str:
    """Return a number to three decimals with a real minus, as the tables have it.

    >>> signed(0.25), signed(-0.0001), signed(-2.0) == "\N{MINUS SIGN}2.000"
    ('0.250', '0.000', True)
    """
    return f"{round(value, 3) + 0.0:.3f}".replace("-", "\N{MINUS SIGN}")


def plain_table(rows: pd.DataFrame) -> str:
    """Return rows of words and counts as Markdown, the first column as the names of the rows."""
    return as_markdown(rows.set_index(rows.columns[0]))


def _run(value: float | None) -> str:
    return NOT_RUN if value is None else signed(value) if math.isfinite(value) else UNDEFINED


def _cell(row: pd.Series, prefix: str, paper: float = math.nan) -> Cell | str:
    """Return value, interval and the paper's number, or why there is no value where there is no number at all."""
    state = row[f"{prefix}state"]
    if state and math.isnan(paper):
        return state
    return Cell(*(row[f"{prefix}{end}"] for end in ("value", "low", "high")), paper)
