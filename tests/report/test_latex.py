"""Tables of LaTeX: every cell in its place, balanced markup, and a document that compiles where LaTeX is installed."""

import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from helpers.matrices import CASES, MANY, made, result_of

from cka_probe.comparison.results import DifferenceMatrix, Side
from cka_probe.errors import DataError
from cka_probe.report.latex import MAX_COLUMNS, MAX_ROWS, SPECIAL, escape, matrix_tables

ODD = 'a_b%&#{}$^~\\[1]<x>|"…'


def tables(text):
    return re.findall(r"\\begin\{tabular\}.*?\\end\{tabular\}", text, re.DOTALL)


def rows(table):
    """Return the cells of the lines of a table below its head."""
    body = table.split("\\midrule\n")[1].split("\\bottomrule")[0]
    lines = [re.sub(r"\\\\(\[2pt\])?$", "", line) for line in body.splitlines()]
    return [[cell.strip() for cell in re.split(r"(?<!\\)&", line)] for line in lines if line]


def check_markup(text):
    """Braces and environments are balanced, and every line of a table has as many cells as columns."""
    bare = re.sub(r"\\[\\{}&%$#_]", "", re.sub(r"(?m)(?<!\\)%.*$", "", text))
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    stack = []
    for word, name in re.findall(r"\\(begin|end)\{([a-z*]+)\}", bare):
        assert word == "begin" or stack.pop() == name
        stack += [name] * (word == "begin")
    assert stack == []
    for table in tables(text):
        columns = 1 + int(re.search(r"\{l\*\{(\d+)\}\{c\}\}", table)[1])
        assert {len(cells) for cells in rows(table)} == {columns}


def difference_of(result):
    return DifferenceMatrix(
        values=result.values, low=result.low, high=result.high, p_values=result.p_values,
        significant=result.values > 0.5, rows=result.rows, columns=result.columns, num_examples=64,
        first="runs/a_1.pth against b.pth", second="c.pth against b.pth", how="paired over images",
        settings={"level": 0.05, "correction": "Holm"},
    )  # fmt: skip


def test_a_cell_has_its_value_above_its_interval(tmp_path):
    result = result_of(4, 3, undefined=(1,))
    result = replace(result, null=np.where(result.values < 0.3, 0.3, result.null))
    text = result.save(tmp_path / "table.tex").read_text("utf-8")
    check_markup(text)
    (table,) = tables(text)
    lines = rows(table)
    number = "{:.3f}".format
    for row in range(4):
        for column in range(3):
            cells = [line[1 + column].replace("$-$", "-") for line in lines[2 * row : 2 * row + 2]]
            value, low, high = (matrix[row, column] for matrix in (result.values, result.low, result.high))
            mark = r"$^{\circ}$" if value <= result.null[row, column] else ""
            expected = [number(value) + mark, rf"{{\tiny [{number(low)}, {number(high)}]}}"]
            assert cells == (["--", ""] if row == 1 else expected)
    assert [line[0] for line in lines[::2]] == [axis.name for axis in result.rows]
    assert "% undefined: x layer0.1: does not vary\n" in text
    assert "over 65 images from rooms" in text
    assert "is 0.300 at most" in text
    assert r"$^{\circ}$: not above chance" in text


def test_a_result_without_intervals_and_null_claims_none():
    result = result_of(2, 2)
    nothing = np.full((2, 2), np.nan)
    text = matrix_tables(replace(result, low=nothing, high=nothing, null=nothing, p_values=nothing))
    check_markup(text)
    assert not re.search("interval|chance|Chance|circ|tiny", text)


def test_a_large_matrix_is_several_tables_of_all_cells():
    result = CASES["many"]
    text = matrix_tables(result)
    check_markup(text)
    found = tables(text)
    down, across = -(-len(MANY) // MAX_ROWS), -(-len(MANY) // MAX_COLUMNS)
    assert len(found) == down * across
    values = [[cell for line in rows(table)[::2] for cell in line[1:]] for table in found]
    assert sum(map(len, values)) == result.values.size
    assert values[1][0] == f"{result.values[0, MAX_COLUMNS]:.3f}"
    assert text.count("(continued)") == len(found) - 1


def test_a_difference_marks_the_cells_that_differ(tmp_path):
    result = difference_of(result_of(3, 3))
    text = result.save(tmp_path / "difference.tex").read_text("utf-8")
    check_markup(text)
    assert text.count(r"$^{*}$") == result.significant.sum() + 1
    assert r"a\_1 against b minus that in c against b" in text
    assert r"$^{*}$: differs (Holm, 5\,\%)" in text


def test_names_are_escaped_and_folders_omitted():
    result = made([ODD, "b"], ["c", "d"], x=f"/home/me/{ODD}.pth")
    result = replace(result, images=result.images | {"source": "/home/me/photos_1"})
    text = matrix_tables(result)
    check_markup(text)
    assert r"a\_b\%\&\#\{\}\$\textasciicircum{}\textasciitilde{}\textbackslash{}{[}1{]}" in text
    assert "/home/me" not in text
    assert r"…/photos\_1".replace("…", r"\dots{}") in text
    assert escape("a\nb") == "a b"


def test_another_suffix_is_refused():
    with pytest.raises(DataError, match=r"results are saved as .json, .csv or .tex, found '.txt'"):
        result_of(2, 2).save("a.txt")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX here: apt-get install texlive-latex-recommended")
def test_the_tables_compile(tmp_path):
    odd = replace(made(["".join(SPECIAL), "b"], ["c", "d"]), x=Side(ODD, "", "0", {}))
    parts = [matrix_tables(case) for case in (result_of(undefined=(2,)), CASES["many"], odd, difference_of(odd))]
    head = "\\documentclass[twocolumn]{article}\n\\usepackage{booktabs,graphicx}\n\\begin{document}\n"
    (tmp_path / "a.tex").write_text(head + "\n\\clearpage\n".join(parts) + "\\end{document}\n", encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "a.tex"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-1500:]
    assert "Overfull" not in run.stdout
