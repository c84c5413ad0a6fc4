"""Tables as text: Markdown for reports, LaTeX (booktabs) for papers, CSV for whoever computes further.

A cell is an `Estimate` (a value, perhaps with the ends of its interval, perhaps beside a published one), a plain number
or words. Rules that keep a table honest:

- what is missing is a dash, in every place where it would stand;
- a column has `value ± half-width` only if all its intervals have their value in the middle as printed, else
  `value [low, high]`;
- the best of a column is bold only if its interval is apart from that of every other, the second's above all.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cka_probe.errors import DataError

DASH = "\N{EN DASH}"
ARROWS = {"lower": "\N{DOWNWARDS ARROW}", "higher": "\N{UPWARDS ARROW}"}
PAIR = "ours / paper"
LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "[": "{[}", "]": "{]}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}",
    "\N{PLUS-MINUS SIGN}": r"$\pm$", "\N{MINUS SIGN}": "$-$", DASH: "--", "\N{HORIZONTAL ELLIPSIS}": r"\dots{}",
    "\N{DOWNWARDS ARROW}": r"$\downarrow$", "\N{UPWARDS ARROW}": r"$\uparrow$", "\N{DEGREE SIGN}": r"$^\circ$",
    "\N{INFINITY}": r"$\infty$", "\N{GREEK SMALL LETTER DELTA}": r"$\delta$", "\N{MULTIPLICATION SIGN}": r"$\times$",
}  # fmt: skip
"""What has a meaning in LaTeX, or is not known to it; a bracket after a line's end would be an option of the end."""


@dataclass(frozen=True)
class Estimate:
    """One cell.

    Attributes:
        value: NaN: missing.
        low: Lower end of the interval; NaN: there is none.
        high: Upper end.
        paper: The published value it stands beside; NaN: there is none.
    """

    value: float = np.nan
    low: float = np.nan
    high: float = np.nan
    paper: float = np.nan


def as_markdown(
    frame: pd.DataFrame, *, digits: int | Mapping[str, int] = 3, best: Mapping[str, str] | None = None
) -> str:
    """Return a table of Markdown, the index as its first column.

    Args:
        frame: Cells are `Estimate`, numbers, words or missing (None, NaN).
        digits: Decimals, of all columns or by column (3 for those not named).
        best: Columns whose best cell may be bold, to "lower" or "higher"; an arrow after their name says which.

    Returns:
        Lines that end with a newline each.

    Raises:
        DataError: Columns, or names in `digits` and `best`, that are not there or twice; intervals without their value.
    """
    header, rows = _written(frame, digits, best, bold=lambda text: f"**{text}**", escape=_escape_markdown)
    lines = [header, ["---", *["---:"] * len(frame.columns)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def as_latex(frame: pd.DataFrame, *, digits: int | Mapping[str, int] = 3, best: Mapping[str, str] | None = None) -> str:
    r"""Return a `tabular` with the lines of the package booktabs; all else is escaped.

    Args:
        frame: As for `as_markdown`.
        digits: As for `as_markdown`.
        best: As for `as_markdown`.

    Returns:
        Lines that end with a newline each.

    Raises:
        DataError: As for `as_markdown`.
    """
    header, rows = _written(frame, digits, best, bold=lambda text: rf"\textbf{{{text}}}", escape=_escape_latex)
    lines = [f"{' & '.join(line)} \\\\" for line in (header, *rows)]
    columns = "l" + "r" * len(frame.columns)
    inside = [r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]
    return "\n".join([rf"\begin{{tabular}}{{{columns}}}", *inside, r"\end{tabular}", ""])


def as_csv(frame: pd.DataFrame) -> str:
    """Return a table of CSV with every digit: missing is empty, and a column of estimates is up to four.

    Args:
        frame: As for `as_markdown`; a column C of estimates becomes C, C_low, C_high, C_paper, as far as it has them.

    Raises:
        DataError: Columns that are there twice; intervals without their value.
    """
    _check(frame, {})
    columns: list[tuple[str, list]] = []
    for name in frame.columns:
        cells = list(frame[name])
        if not any(isinstance(cell, Estimate) for cell in cells):
            columns.append((str(name), [None if _missing(cell) else cell for cell in cells]))
            continue
        estimates = [_estimate(cell) for cell in cells]
        for part in ("value", "low", "high", "paper"):
            numbers = [getattr(estimate, part, np.nan) for estimate in estimates]
            if part == "value" or np.isfinite(numbers).any():
                columns.append((str(name) if part == "value" else f"{name}_{part}", numbers))
    names = [name for name, _ in columns]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"the column {twice[0]!r} is named as a part of another; rename one")
    return pd.DataFrame(dict(columns), index=frame.index).to_csv(lineterminator="\n")


def _written(frame: pd.DataFrame, digits: int | Mapping[str, int], best: Mapping[str, str] | None, **how) -> tuple:
    """Return the header and the rows as written cells; how: `bold` and `escape`, functions of a string."""
    best = dict(best or {})
    _check(frame, best)
    if isinstance(digits, Mapping):
        _known(frame, digits, "digits")
    escape = how["escape"]
    columns, header = [], [escape(str(frame.index.name or ""))]
    for name in frame.columns:
        decimals = digits.get(name, 3) if isinstance(digits, Mapping) else digits
        columns.append(_column(list(frame[name]), decimals, best.get(name), **how))
        arrow = f" {ARROWS[best[name]]}" if name in best else ""
        pair = f" ({PAIR})" if any(np.isfinite(_paper(cell)) for cell in frame[name]) else ""
        header.append(escape(f"{name}{arrow}{pair}"))
    labels = [escape(str(label)) for label in frame.index]
    return header, [list(row) for row in zip(labels, *columns, strict=True)]


def _check(frame: pd.DataFrame, best: Mapping[str, str]) -> None:
    if frame.columns.duplicated().any():
        raise DataError(f"expected columns of different names, found {list(frame.columns)}; rename one")
    _known(frame, best, "best")
    for name, way in best.items():
        if way not in ARROWS:
            raise DataError(f'expected "lower" or "higher" as what is best in {name}, found {way!r}')
    for name in frame.columns:
        for label, cell in zip(frame.index, frame[name], strict=True):
            known = isinstance(cell, Estimate) and np.isfinite([cell.low, cell.high]).any()
            if known and not cell.low <= cell.value <= cell.high:
                raise DataError(
                    f"{name} of {label}: expected a value in its interval, found {cell.value} and [{cell.low}, "
                    f"{cell.high}]; compute them from the same numbers"
                )


def _known(frame: pd.DataFrame, names: Mapping[str, object], what: str) -> None:
    for name in names:
        if name not in frame.columns:
            raise DataError(f"no column {name!r}, named in {what}; there are: {', '.join(map(str, frame.columns))}")


def _column(cells: list, decimals: int, best: str | None, **how) -> list[str]:
    """Return the cells of a column, written."""
    found = {place: cell for place, cell in enumerate(map(_estimate, cells)) if cell is not None}
    pairs = any(np.isfinite(cell.paper) for cell in found.values())
    centred = all(_centred(cell, decimals) for cell in found.values())
    first = _best(found, best) if best else None
    written = []
    for place, cell in enumerate(cells):
        if place not in found:
            written.append(DASH if _missing(cell) else str(cell))
            written[-1] = how["escape"](written[-1])
            continue
        text = _ours(found[place], decimals, centred)
        value, more = text.split(" ", 1) if " " in text else (text, "")
        value = how["bold"](how["escape"](value)) if place == first else how["escape"](value)
        more = f" {how['escape'](more)}" if more else ""
        paper = f" / {how['escape'](_number(found[place].paper, decimals))}" if pairs else ""
        written.append(value + more + paper)
    return written


def _best(found: Mapping[int, Estimate], way: str) -> int | None:
    """Return the place of the best cell, if its interval is apart from every other's."""
    there = {place: cell for place, cell in found.items() if np.isfinite(cell.value)}
    if len(there) < 2:
        return None
    sign = 1 if way == "lower" else -1
    first = min(there, key=lambda place: sign * there[place].value)
    near = there[first].high if way == "lower" else there[first].low
    others = [cell.low if way == "lower" else cell.high for place, cell in there.items() if place != first]
    return first if all(sign * near < sign * other for other in others) else None  # NaN, no interval, is not apart


def _centred(cell: Estimate, decimals: int) -> bool:
    """Return whether a value is in the middle of its interval as far as is printed; without one it is."""
    if not np.isfinite([cell.low, cell.high]).all():
        return not np.isfinite([cell.low, cell.high]).any()
    return round(cell.value - cell.low, decimals) == round(cell.high - cell.value, decimals)


def _ours(cell: Estimate, decimals: int, centred: bool) -> str:
    value = _number(cell.value, decimals)
    if not np.isfinite([cell.low, cell.high]).any():
        return value
    if centred:
        return f"{value} \N{PLUS-MINUS SIGN} {_number((cell.high - cell.low) / 2, decimals)}"
    return f"{value} [{_number(cell.low, decimals)}, {_number(cell.high, decimals)}]"


def _number(value: float, decimals: int) -> str:
    """Return a number with a real minus, never before a zero; a dash where there is none."""
    if not np.isfinite(value):
        return DASH if np.isnan(value) else ("\N{INFINITY}" if value > 0 else "\N{MINUS SIGN}\N{INFINITY}")
    text = f"{value:.{decimals}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def _estimate(cell: object) -> Estimate | None:
    """Return a cell of numbers; None where it holds nothing, words, or a count, which has no decimals."""
    if isinstance(cell, Estimate):
        return cell
    return Estimate(float(cell)) if isinstance(cell, float | np.floating) and not np.isnan(cell) else None


def _missing(cell: object) -> bool:
    return cell is None or cell is pd.NA or (isinstance(cell, float | np.floating) and np.isnan(cell)) or cell == ""


def _paper(cell: object) -> float:
    return cell.paper if isinstance(cell, Estimate) else np.nan


def _escape_markdown(text: str) -> str:
    return re.sub(r"([\\|*_`<])", r"\\\1", text).replace("\n", " ")


def _escape_latex(text: str) -> str:
    return "".join(LATEX.get(letter, letter) for letter in text).replace("\n", " ")
