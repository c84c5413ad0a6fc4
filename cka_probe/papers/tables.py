"""Tables of a study as text: Markdown for pages, LaTeX (booktabs) for papers.

A cell is a `Cell` (a value, with or without an interval and a published value), a plain number, or words. Three rules:

- a missing value is a dash, wherever it would be written;
- a column shows `value ± half-width` only if every interval has its value in the middle as printed, and otherwise
  `value [low, high]`;
- the best of a column is bold only if its interval is apart from every other.
"""

import csv
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.errors import DataError
from cka_probe.papers.claims import NOT_RUN, UNDEFINED, Finding, TestedClaim, judge
from cka_probe.papers.evidence import mean_of_cells
from cka_probe.report.latex import escape

DASH = "\N{EN DASH}"
ARROWS = {"lower": "\N{DOWNWARDS ARROW}", "higher": "\N{UPWARDS ARROW}"}
PAIR = "ours / paper"

DIGITS = {"pixels": 2, "cm": 2, "degrees": 2, "%": 2, "points": 2}
"""Decimals by unit; 3 for every other."""


class Published(NamedTuple):
    """A cell of a paper: a row of its `published.csv`.

    Attributes:
        table: Where it is printed, "Table 1" or "text"; `row` and `column` are as printed there.
        encoder: The architecture it is of, where the paper has several; else "".
        text: The value as printed, in `unit`; "" where a dash is printed.
        key: What of a study it corresponds to, as the paper's tables name it; "" if nothing.
        measures: The measures of a study that it corresponds to.
        note: What is not printed in the cell.
    """

    table: str
    row: str
    column: str
    encoder: str
    text: str
    unit: str
    key: str
    measures: tuple[str, ...]
    note: str

    @property
    def value(self) -> float:
        """The value, if it is one number, in the unit of the measure."""
        return float(self.text)

    @property
    def source(self) -> str:
        """Where it is printed, and its note."""
        place = self.table if self.table[-1].isdecimal() else f"{self.table}, {self.row}"
        return ", ".join(filter(None, [place, self.encoder])) + (f" ({self.note})" if self.note else "")


def read_published(path: Path) -> tuple[Published, ...]:
    """Return everything that a paper prints, from a CSV file with a column for each attribute of `Published`."""
    with path.open(encoding="utf-8", newline="") as file:
        return tuple(
            Published(
                table=row["table"],
                row=row["row"],
                column=row["column"],
                encoder=row["encoder"],
                text=row["value"],
                unit=row["unit"],
                key=row["key"],
                measures=tuple(row["measure"].split()),
                note=row["note"],
            )
            for row in csv.DictReader(file)
        )


def find_published(
    cells: Iterable[Published], key: str, measure: str, *, tables: Collection[str] = (), encoder: str = ""
) -> Published | None:
    """Return the first of some cells that a cell of a study corresponds to, or `None`.

    Args:
        cells: In the order of preference.
        key: As in `Published`; `measure` is one of its measures.
        tables: Those of the paper that count; all if empty.
        encoder: The architecture.
    """
    for cell in cells:
        belongs = cell.key == key and measure in cell.measures and cell.encoder == encoder
        if belongs and (not tables or cell.table in tables):
            return cell
    return None


@dataclass(frozen=True)
class Cell:
    """One cell: our value, the ends of its interval, and the published value; NaN where there is none.

    Raises:
        DataError: The value is outside its interval.
    """

    value: float = np.nan
    low: float = np.nan
    high: float = np.nan
    paper: float = np.nan

    def __post_init__(self) -> None:
        if np.isfinite([self.low, self.high]).any() and not self.low <= self.value <= self.high:
            raise DataError(
                f"expected a value in its interval, found {self.value} and [{self.low}, {self.high}]; compute them "
                "from the same numbers"
            )


class _Markup(NamedTuple):
    """How a language writes bold text and special characters."""

    bold: Callable[[str], str]
    escape: Callable[[str], str]


_MARKDOWN = _Markup("**{}**".format, lambda text: re.sub(r"([\\|*_`<])", r"\\\1", text).replace("\n", " "))
_LATEX = _Markup(r"\textbf{{{}}}".format, escape)


def as_markdown(
    frame: pd.DataFrame, *, digits: int | Mapping[str, int] = 3, best: Mapping[str, str] | None = None
) -> str:
    """Return a table of Markdown, the index as its first column.

    Args:
        frame: Cells are `Cell`, numbers, words or missing (None, NaN).
        digits: Decimals, of all columns or by column (3 for those not named).
        best: Columns whose best cell may be bold, to "lower" or "higher"; an arrow after their name shows which.
    """
    header, *rows = _written(frame, digits, best or {}, _MARKDOWN)
    lines = [header, ["---", *["---:"] * len(frame.columns)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def as_latex(frame: pd.DataFrame, *, digits: int | Mapping[str, int] = 3, best: Mapping[str, str] | None = None) -> str:
    r"""Return a `tabular` with the rules of the package booktabs; everything else as in `as_markdown`."""
    header, *rows = (f"{' & '.join(line)} \\\\" for line in _written(frame, digits, best or {}, _LATEX))
    columns = "l" + "r" * len(frame.columns)
    inside = [r"\toprule", header, r"\midrule", *rows, r"\bottomrule"]
    return "\n".join([rf"\begin{{tabular}}{{{columns}}}", *inside, r"\end{tabular}", ""])


def both_formats(frame: pd.DataFrame, **options: Any) -> tuple[str, str]:
    """Return a table as Markdown and as LaTeX; options of `as_markdown`."""
    return as_markdown(frame, **options), as_latex(frame, **options)


def score_texts(rows: pd.DataFrame) -> tuple[str, str]:
    """Return rows of scores as Markdown and as LaTeX, an arm a row and a measure a column."""
    heads = {row.measure: row.measure + (f" ({row.unit})" if row.unit else "") for row in rows.itertuples()}
    cells: dict[str, dict[str, Cell | str]] = {}
    for _, row in rows.iterrows():
        cells.setdefault(row["arm"], {})[heads[row["measure"]]] = _cell(row, "", row["paper"])
    digits = {heads[row.measure]: DIGITS.get(row.unit, 3) for row in rows.itertuples()}
    best = {heads[row.measure]: row.better for row in rows.itertuples() if row.better}
    return both_formats(pd.DataFrame.from_dict(cells, orient="index"), digits=digits, best=best)


def layer_texts(rows: pd.DataFrame, column: str) -> tuple[str, str]:
    """Return rows of layers as Markdown and as LaTeX, an arm a row and a layer a column.

    `column` is "top" or "diagonal", with their intervals, or "spread" or "spread_tuned". Arms of which nothing was run
    are left out; numbers of a pre-trained network alone are shown once.
    """

    def text(row: pd.Series) -> Cell | str:
        if not column.startswith("spread"):
            return _cell(row, f"{column}_")
        return f"{row[column]:.2g}" if math.isfinite(row[column]) else DASH  # it spans many orders of magnitude

    cells: dict[str, dict[str, Cell | str]] = {}
    selected = rows.drop_duplicates(["pre", "index"]) if column in ("top", "spread") and len(rows) else rows
    for _, row in selected.iterrows():
        cells.setdefault(row["arm"], {})[str(row["index"])] = text(row)
    cells = {arm: row for arm, row in cells.items() if any(cell not in (DASH, NOT_RUN) for cell in row.values())}
    if not cells:
        return "Not run.\n", "Not run.\n"
    return both_formats(pd.DataFrame.from_dict(cells, orient="index"), digits=2)


def claim_texts(rows: Sequence[TestedClaim], figures: Collection[str], repeats: str = "seed") -> str:
    """Return claims as Markdown: a table, and the statements of those that were not run in a line below it.

    A claim has a link to its figure if that is among the stems of those drawn.
    """
    run = [row for row in rows if row.verdict != NOT_RUN]

    def run_value(value: float | None) -> str:
        return NOT_RUN if value is None else signed(value) if math.isfinite(value) else UNDEFINED

    table = [
        {
            "number": Cell(row.value, row.low, row.high),
            "unit": row.unit,
            f"each {repeats}": ", ".join(run_value(value) for value in row.runs.values()),
            "verdict": row.verdict_text,
            "p (Holm)": row.p_holm,
            "figure": f"[{row.figure}](figures/{row.figure}.png)" if row.figure in figures else None,
        }
        for row in run
    ]
    text = as_markdown(pd.DataFrame(table, index=pd.Index([row.statement for row in run], name="claim"))) if run else ""
    text = re.sub(r"\]\(.*?\)", lambda target: target[0].replace("\\", ""), text)  # link targets are not escaped
    absent = [f'"{row.statement}"' for row in rows if row.verdict == NOT_RUN]
    return "\n\n".join(filter(None, [text, f"Not run: {'; '.join(absent)}." if absent else ""]))


def finding_columns(finding: Finding, repeats: str = "seed") -> dict[str, Any]:
    """Return the columns of a finding: value, interval, what that is over, and why there is none."""
    runs = sum(value is not None for value in finding.runs.values())
    state = finding.verdict if finding.verdict in (NOT_RUN, UNDEFINED) else ""
    over = "" if state else f"{repeats}s" if runs > 1 else "images"
    numbers = {"value": finding.value, "low": finding.low, "high": finding.high}
    return numbers | {"over": over, f"{repeats}s": runs, "state": state, "reason": finding.reason if state else ""}


def score_row(
    labels: Mapping[str, Any],
    measure: str,
    finding: Finding,
    *,
    unit: str = "",
    better: str = "",
    repeats: str = "seed",
    published: Published | None = None,
) -> dict[str, Any]:
    """Return a row of a table of scores: labels, measure, unit, better ("lower", "higher", ""), finding, paper, source.

    `labels` are the first columns: the arm, and its key. `paper` is NaN where no number is published.
    """
    paper, source = (published.value, published.source) if published else (math.nan, "")
    words = {"measure": measure, "unit": unit, "better": better}
    return {**labels, **words, **finding_columns(finding, repeats), "paper": paper, "source": source}


def layer_rows(
    labels: Mapping[str, Any],
    tuned: Mapping[int, SimilarityMatrix | None],
    pretrained: Mapping[int, SimilarityMatrix | None] | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield a row for each layer of an arm whose networks were compared.

    Args:
        labels: The first columns.
        tuned: The pre-trained network against itself after fine-tuning, by seed; `diagonal_` is each layer with itself.
        pretrained: The pre-trained network against itself, by seed; `top_` is each layer with the first.

    Yields:
        labels, index, layer; spread, the root mean square of what varies over images before fine-tuning, and
        spread_tuned, that after it, both means over seeds; the columns of findings over seeds.
    """
    after = [matrix for matrix in tuned.values() if matrix is not None]
    matrices = [*(matrix for matrix in (pretrained or {}).values() if matrix is not None), *after]
    for index, axis in enumerate(matrices[0].rows if matrices else ()):
        row = {**labels, "index": index, "layer": axis.name}
        row["spread"] = _mean([matrix.rows[index].rms for matrix in matrices])
        row["spread_tuned"] = _mean([matrix.columns[index].rms for matrix in after])
        cells = {} if pretrained is None else {"top": judge_cell(pretrained, 0, index)}
        for name, finding in (cells | {"diagonal": judge_cell(tuned, index, index)}).items():
            row |= {f"{name}_{key}": value for key, value in finding_columns(finding).items()}
        yield row


def judge_cell(matrices: Mapping[int, SimilarityMatrix | None], row: int, column: int) -> Finding:
    """Return the finding of one cell over the matrices of all seeds."""
    return judge({seed: None if m is None else mean_of_cells(m, [row], [column]) for seed, m in matrices.items()})


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def signed(value: float, decimals: int = 3) -> str:
    """Return a number with a real minus, but never before a zero; a dash for NaN.

    >>> signed(0.25), signed(-0.0001), signed(-2.0) == "\N{MINUS SIGN}2.000"
    ('0.250', '0.000', True)
    """
    if not np.isfinite(value):
        return DASH if np.isnan(value) else ("\N{INFINITY}" if value > 0 else "\N{MINUS SIGN}\N{INFINITY}")
    text = f"{value:.{decimals}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def pixels(stage: Mapping[str, Any]) -> str:
    """Return the size of a stage of a recipe, width first.

    >>> pixels({"size": [64, 96]}), pixels({"size": 64})
    ('96 x 64', '64')
    """
    size = stage.get("size", "")
    return " x ".join(map(str, reversed(size))) if isinstance(size, list | tuple) else str(size)


def num_images(stage: Mapping[str, Any]) -> int:
    """Return how many images a stage of a recipe is shown; 0 if it was not run."""
    return stage.get("steps", 0) * stage.get("batch", 0)


def _cell(row: pd.Series, prefix: str, paper: float = math.nan) -> Cell | str:
    """Return value, interval and the paper's number; or why there is no value, where the paper has none either."""
    state = row[f"{prefix}state"]
    if state and math.isnan(paper):
        return state
    return Cell(row[f"{prefix}value"], row[f"{prefix}low"], row[f"{prefix}high"], paper)


def _written(
    frame: pd.DataFrame, digits: int | Mapping[str, int], best: Mapping[str, str], markup: _Markup
) -> list[list[str]]:
    """Return the header and the rows as strings."""
    columns = [[markup.escape(str(text)) for text in (frame.index.name or "", *frame.index)]]
    for name in frame.columns:
        cells = list(frame[name])
        decimals = digits.get(name, 3) if isinstance(digits, Mapping) else digits
        arrow = f" {ARROWS[best[name]]}" if name in best else ""
        pair = f" ({PAIR})" if any(isinstance(cell, Cell) and np.isfinite(cell.paper) for cell in cells) else ""
        columns.append([markup.escape(f"{name}{arrow}{pair}"), *_column(cells, decimals, best.get(name), markup)])
    return [list(row) for row in zip(*columns, strict=True)]


def _column(cells: list[Any], decimals: int, best: str | None, markup: _Markup) -> list[str]:
    """Return the cells of a column as strings."""
    numbers = {
        row: cell if isinstance(cell, Cell) else Cell(float(cell))
        for row, cell in enumerate(cells)  # words, nothing, and counts, which have no decimals, are none
        if isinstance(cell, Cell) or (isinstance(cell, float | np.floating) and not np.isnan(cell))
    }
    pairs = any(np.isfinite(cell.paper) for cell in numbers.values())
    centred = all(_is_centred(cell, decimals) for cell in numbers.values())
    best_row = _best_row(numbers, best) if best else None
    texts = []
    for row, cell in enumerate(cells):
        if row not in numbers:
            texts.append(markup.escape(DASH if pd.isna(cell) or cell == "" else str(cell)))
            continue
        value, _, interval = _with_interval(numbers[row], decimals, centred).partition(" ")
        text = markup.bold(markup.escape(value)) if row == best_row else markup.escape(value)
        text += f" {markup.escape(interval)}" if interval else ""
        texts.append(text + (f" / {markup.escape(signed(numbers[row].paper, decimals))}" if pairs else ""))
    return texts


def _best_row(cells: Mapping[int, Cell], direction: str) -> int | None:
    """Return the row of the best cell, if its interval is apart from every other."""
    sign = 1 if direction == "lower" else -1
    finite = {row: cell for row, cell in cells.items() if np.isfinite(cell.value)}
    if len(finite) < 2:
        return None
    best = min(finite, key=lambda row: sign * finite[row].value)
    near = finite[best].high if direction == "lower" else finite[best].low
    others = [cell.low if direction == "lower" else cell.high for row, cell in finite.items() if row != best]
    return best if all(sign * near < sign * other for other in others) else None  # NaN, no interval, is not apart


def _is_centred(cell: Cell, decimals: int) -> bool:
    """Return whether a value is in the middle of its interval as printed; True without an interval."""
    if not np.isfinite([cell.low, cell.high]).all():
        return not np.isfinite([cell.low, cell.high]).any()
    return round(cell.value - cell.low, decimals) == round(cell.high - cell.value, decimals)


def _with_interval(cell: Cell, decimals: int, centred: bool) -> str:
    value = signed(cell.value, decimals)
    if not np.isfinite([cell.low, cell.high]).any():
        return value
    if centred:
        return f"{value} \N{PLUS-MINUS SIGN} {signed((cell.high - cell.low) / 2, decimals)}"
    return f"{value} [{signed(cell.low, decimals)}, {signed(cell.high, decimals)}]"
