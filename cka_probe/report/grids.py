"""Tables of a report with the numbers behind them: what can be sorted, from what can only be read.

A table of claims takes its numbers from `claims.csv`; every other stands as it is written, sorted by the number that
each cell begins with. The `tables/*.csv` that has all digits of it is named below it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cka_probe.errors import DataError
from cka_probe.report.markdown import Grid, read_markdown
from cka_probe.report.page import TableItem, Worded

CLAIM = "claim"
COUNT = re.compile(r"\d{1,15}")
NUMBER = re.compile(r"[-\N{MINUS SIGN}]?\d[\d \N{NO-BREAK SPACE}]*(\.\d+)?(e[-+]?\d+)?")
AROUND = re.compile(r"(?P<number>" + NUMBER.pattern + r")(?P<more>$| ?%.*| [\N{PLUS-MINUS SIGN}\[(/].*)")
"""A number with its interval, its unit of percent or a published one behind it."""
MISSING = ("", "\N{EN DASH}", "\N{EM DASH}", "-")
"""Cells that say nothing."""


@dataclass(frozen=True, eq=False)
class Numbers:
    """The tables of a folder.

    Attributes:
        claims: Rows of `claims.csv`; empty where there is none.
        files: Each table that a `tables/*.md` holds, to the `.csv` beside it that has all its numbers.
    """

    claims: pd.DataFrame
    files: dict[Grid, str]

    @classmethod
    def of(cls, folder: Path) -> "Numbers":
        """Return the tables of a report's folder.

        Raises:
            DataError: One of them cannot be read.
        """
        claims = folder / "claims.csv"
        files = {}
        for path in sorted((folder / "tables").glob("*.csv")):
            written = path.with_suffix(".md")
            blocks = read_markdown(written.read_text("utf-8")) if written.is_file() else ()
            files |= {block: f"tables/{path.name}" for block in blocks if isinstance(block, Grid)}
        return cls(_read(claims) if claims.is_file() else pd.DataFrame(), files)

    def table(self, grid: Grid, heading: str, lead: str = "") -> TableItem:
        """Return a table of a report, with the numbers behind it where they are known.

        Args:
            grid: As it is written.
            heading: What it stands under.
            lead: The words that announce it, if any do.
        """
        name = _slug(heading)
        caption = lead.rstrip(":") if lead else heading
        if grid.head[0] == CLAIM and (frame := self._claims(grid)) is not None:
            return TableItem(frame, "Claims with their 95 % intervals, from `claims.csv`.", f"claims_{name}")
        exact = f" Every number with its interval is in `{self.files[grid]}`." if grid in self.files else ""
        return TableItem(_frame(grid), f"{caption}.{exact}", name)

    def _claims(self, grid: Grid) -> pd.DataFrame | None:
        """Return claims with the numbers of their file, in the order of the text; None where the file has others."""
        if not {"statement", "value", "low", "high"} <= set(self.claims.columns):
            return None
        places, used = [], set()
        for row in grid.rows:
            same = [place for place in self.claims.index[self.claims["statement"] == row[0]] if place not in used]
            if not same:
                return None
            used.add(same[0])
            places.append(same[0])
        rows = self.claims.loc[places]
        verdicts = (
            dict(enumerate(row[grid.head.index("verdict")] for row in grid.rows)) if "verdict" in grid.head else {}
        )
        frame = pd.DataFrame({"claim": rows["statement"].tolist()})
        frame["verdict"] = [
            verdicts.get(place, said) for place, said in enumerate(rows.get("verdict", [""] * len(rows)))
        ]
        for column in ("value", "low", "high", "unit", "p_holm"):
            if column in rows and (column != "p_holm" or rows[column].notna().any()):
                frame[column.replace("p_holm", "p (Holm)")] = rows[column].tolist()
        return frame


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise DataError(f"expected a table at {path}, found: {error}") from error


def _frame(grid: Grid) -> pd.DataFrame:
    """Return a table as it is written; columns of counts hold numbers, those of other numbers the digits they had."""
    columns: dict[str, Sequence[object]] = {}
    for place, head in enumerate(grid.head):
        cells = [row[place] for row in grid.rows]
        name = head or ("name" if place == 0 else f"column {place}")
        name = name if name not in columns else f"{name} ({place})"
        columns[name] = _counts(cells) or _worded(cells) or cells
    return pd.DataFrame(columns)


def _counts(cells: Sequence[str]) -> list[int] | None:
    """Return cells as whole numbers; None where one is none."""
    return [int(cell) for cell in cells] if all(COUNT.fullmatch(cell) for cell in cells) else None


def _worded(cells: Sequence[str]) -> list[Worded] | None:
    """Return cells as words with the number they begin with; None where more than half begin with none."""
    found = [AROUND.fullmatch(cell.replace("**", "")) for cell in cells]
    missing = sum(cell in MISSING for cell in cells)
    if 2 * sum(map(bool, found)) < len(cells) - missing or missing == len(cells):
        return None
    numbers = [float(_plain(match["number"])) if match else float("nan") for match in found]
    return [Worded(cell, number) for cell, number in zip(cells, numbers, strict=True)]


def _plain(cell: str) -> str:
    return cell.replace("\N{MINUS SIGN}", "-").replace(" ", "").replace("\N{NO-BREAK SPACE}", "")


def _slug(heading: str) -> str:
    """Return a heading as the name of a file.

    >>> _slug("Table 1: in distribution")
    'table_1_in_distribution'
    """
    return re.sub(r"[^a-z0-9]+", "_", heading.lower()).strip("_")[:60] or "table"
