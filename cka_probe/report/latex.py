r"""A result as tables of LaTeX, for the appendix of a paper.

The tables need the packages booktabs and graphicx. Each is a float over the width of the page (`table*`, which is the
same as `table` in one column) and never wider than it; a large matrix becomes several tables. Names with letters that
pdfTeX does not know, such as Chinese ones, need XeLaTeX or LuaLaTeX.
"""

import numpy as np

from cka_probe.comparison.results import DifferenceMatrix, SimilarityMatrix
from cka_probe.plotting import labels
from cka_probe.report.blocks import without_folders
from cka_probe.report.tables import number_text

MAX_COLUMNS, MAX_ROWS = 10, 24
"""Layers of y and of x in one table."""
NAME_WIDTH = 24.0  # em for a layer's name

DASH = "\N{EN DASH}"
SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "[": "{[}", "]": "{]}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}",
    "\N{PLUS-MINUS SIGN}": r"$\pm$", "\N{MINUS SIGN}": "$-$", DASH: "--", "\N{HORIZONTAL ELLIPSIS}": r"\dots{}",
    "\N{DOWNWARDS ARROW}": r"$\downarrow$", "\N{UPWARDS ARROW}": r"$\uparrow$", "\N{DEGREE SIGN}": r"$^\circ$",
    "\N{INFINITY}": r"$\infty$", "\N{GREEK SMALL LETTER DELTA}": r"$\delta$", "\N{MULTIPLICATION SIGN}": r"$\times$",
}  # fmt: skip
"""Characters that LaTeX reads as markup or does not know; a bracket after a line's end would be read as its option."""

FLOAT = r"""\begin{table*}
\centering
\caption{%s}
\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%%
\begin{tabular}{l*{%d}{c}}
\toprule
%s \\
\midrule
%s
\bottomrule
\end{tabular}}
\end{table*}
"""


def escape(text: str) -> str:
    r"""Return a text as LaTeX that prints it, on one line.

    >>> escape("layers_0 [50 %]")
    'layers\\_0 {[}50 \\%{]}'
    """
    return "".join(SPECIAL.get(letter, letter) for letter in text).replace("\n", " ")


def matrix_tables(result: SimilarityMatrix | DifferenceMatrix) -> str:
    """Return a matrix as tables: in each cell the value above its 95 % interval.

    Args:
        result: A comparison, whose cells that are not above chance are marked, or a difference, whose cells that differ
            are marked.
    """
    caption, marks, mark = _difference(result) if isinstance(result, DifferenceMatrix) else _similarity(result)
    undefined = ~np.isfinite(result.values)
    if undefined.any():
        caption += f" {escape(DASH)}: undefined."
    names = [
        [escape(name) for name in labels.short_names([axis.name for axis in axes], NAME_WIDTH)]
        for axes in (result.rows, result.columns)
    ]
    tables: list[str] = []
    for top in range(0, len(result.rows), MAX_ROWS):
        for left in range(0, len(result.columns), MAX_COLUMNS):
            columns = range(left, min(left + MAX_COLUMNS, len(result.columns)))
            head = " & ".join(["", *(rf"\rotatebox{{90}}{{{names[1][column]}}}" for column in columns)])
            lines = []
            for row in range(top, min(top + MAX_ROWS, len(result.rows))):
                cells = [_cell(result, row, column, mark if marks[row, column] else "") for column in columns]
                for name, parts, end in zip((names[0][row], ""), zip(*cells, strict=True), ("", "[2pt]"), strict=True):
                    lines.append(" & ".join([name, *parts]) + rf" \\{end}")
            continued = " (continued)" if tables else ""
            tables.append(FLOAT % (caption + continued, len(columns), head.lstrip(), "\n".join(lines)))
    reasons = [f"% undefined: {' '.join(line.split())}\n" for line in getattr(result, "undefined", ())]
    return "".join(["% \\usepackage{booktabs,graphicx}\n", *reasons, "\n".join(tables)])


def _cell(result: SimilarityMatrix | DifferenceMatrix, row: int, column: int, mark: str) -> tuple[str, str]:
    """Return the value and the interval of a cell, "" where there is none."""
    value, low, high = (
        escape(number_text(float(number), 3)) if np.isfinite(number) else ""
        for number in (result.values[row, column], result.low[row, column], result.high[row, column])
    )
    return (value or escape(DASH)) + mark, rf"{{\tiny [{low}, {high}]}}" if low and high else ""


def _similarity(result: SimilarityMatrix) -> tuple[str, np.ndarray, str]:
    """Return the caption of a comparison, which cells are marked, and how."""
    x, y = (escape(name) for name in labels.model_names(result, labels.LONGEST))
    caption = f"{escape(labels.measure_name(result))} of the layers of {x} (rows) with those of {y} (columns), over "
    caption += f"{escape(without_folders(result.images_text))}."
    if np.isfinite(result.low).any():
        caption += r" Brackets: 95\,\% intervals."
    with np.errstate(invalid="ignore"):
        marks = result.values <= result.null
    mark = r"$^{\circ}$"
    if np.isfinite(result.null).any():
        highest = number_text(float(np.nanmax(result.null)), 3)
        caption += rf" Chance, the 95\,\% quantile of permuted pairings, is {escape(highest)} at most."
    if marks.any():
        caption += f" {mark}: not above chance."
    return caption, marks, mark


def _difference(result: DifferenceMatrix) -> tuple[str, np.ndarray, str]:
    """Return the caption of a difference, which cells are marked, and how."""
    first, second = (escape(labels.short_pair(name)) for name in (result.first, result.second))
    mark = r"$^{*}$"
    caption = f"Similarity of layers in {first} minus that in {second}, over {result.num_examples} "
    caption += rf"{escape(result.examples)}. Brackets: 95\,\% intervals, {escape(result.how)}."
    if result.significant.any():
        caption += f" {mark}: differs ({escape(str(result.settings['correction']))}, "
        caption += rf"{100 * result.settings['level']:g}\,\%)."
    return caption, result.significant, mark
