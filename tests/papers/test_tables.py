"""Tables say what is known and no more: hand-worked cells, and bold only where it is earned."""

import numpy as np
import pandas as pd
import pytest

from cka_probe.errors import DataError
from cka_probe.papers.tables import DASH, Cell, as_latex, as_markdown

FRAME = pd.DataFrame(
    {
        "rmse": [Cell(0.31, 0.30, 0.32, paper=0.287), Cell(0.28, 0.27, 0.29), Cell(paper=0.265)],
        "delta_1": [Cell(0.9, 0.85, 0.97), 0.88, None],
        "num": [654, 654, 0],
        "note": ["a|b & 3%", "", "[x]"],
    },
    index=pd.Index(["MP", "[MP]_GP", "SP"], name="arm"),
)


def column(*cells, best=None, **how):
    """The written cells of a table of one column."""
    frame = pd.DataFrame({"c": list(cells)}, dtype=object)
    lines = as_markdown(frame, best={"c": best} if best else None, **how).splitlines()[2:]
    return [line.split(" | ")[1].removesuffix(" |") for line in lines]


def test_markdown_by_hand():
    assert as_markdown(FRAME, digits={"rmse": 3, "delta_1": 2}, best={"rmse": "lower"}) == (
        "| arm | rmse ↓ (ours / paper) | delta\\_1 | num | note |\n"
        "| --- | ---: | ---: | ---: | ---: |\n"
        "| MP | 0.310 ± 0.010 / 0.287 | 0.90 [0.85, 0.97] | 654 | a\\|b & 3% |\n"
        "| [MP]\\_GP | **0.280** ± 0.010 / – | 0.88 | 654 | – |\n"
        "| SP | – / 0.265 | – | 0 | [x] |\n"
    )


def test_latex_by_hand():
    assert as_latex(FRAME, digits=2, best={"rmse": "lower"}).splitlines() == [
        r"\begin{tabular}{lrrrr}",
        r"\toprule",
        r"arm & rmse $\downarrow$ (ours / paper) & delta\_1 & num & note \\",
        r"\midrule",
        r"MP & 0.31 $\pm$ 0.01 / 0.29 & 0.90 {[}0.85, 0.97{]} & 654 & a\textbar{}b \& 3\% \\",
        r"{[}MP{]}\_GP & \textbf{0.28} $\pm$ 0.01 / -- & 0.88 & 654 & -- \\",
        r"SP & -- / 0.27 & -- & 0 & {[}x{]} \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_every_letter_with_a_meaning_is_escaped_in_latex():
    frame = pd.DataFrame({"x": [r"\&%$#_{}~^"]})
    (line,) = [line for line in as_latex(frame).splitlines() if line.startswith("0 &")]
    assert line == r"0 & \textbackslash{}\&\%\$\#\_\{\}\textasciitilde{}\textasciicircum{} \\"


def test_plus_minus_only_where_every_value_is_in_the_middle_as_printed():
    middle, aside = Cell(1.0, 0.9, 1.1), Cell(2.0, 1.9, 2.3)
    assert column(middle, digits=1) == ["1.0 ± 0.1"]
    assert column(middle, aside, digits=1) == ["1.0 [0.9, 1.1]", "2.0 [1.9, 2.3]"]
    assert column(Cell(1.0, 0.901, 1.1), digits=1) == ["1.0 ± 0.1"]
    assert column(Cell(1.0, 0.901, 1.1), digits=3) == ["1.000 [0.901, 1.100]"]


@pytest.mark.parametrize("way", ["lower", "higher"])
def test_best_is_bold_only_if_its_interval_is_apart_from_every_other(way):
    sign = 1 if way == "lower" else -1

    def bold(*cells):
        flipped = [Cell(sign * value, *sorted((sign * (value - half), sign * (value + half)))) for value, half in cells]
        return [place for place, text in enumerate(column(*flipped, best=way)) if text.startswith("**")]

    assert bold((2.0, 0.1), (1.0, 0.1), (3.0, 0.1)) == [1]
    assert bold((1.1, 0.1), (1.0, 0.1)) == []  # they touch
    assert bold((1.0, 0.1), (1.5, 0.1), (2.0, 1.5)) == []  # apart from the second and not from the third
    assert bold((1.0, 0.1)) == []  # of nothing else
    assert bold((1.0, np.nan), (2.0, np.nan)) == []  # no interval is not apart
    assert bold((1.0, 0.1), (2.0, np.nan)) == []


def test_bold_is_opt_in():
    assert "**" not in as_markdown(FRAME)
    assert r"\textbf" not in as_latex(FRAME)


def test_numbers_have_a_real_minus_and_none_before_zero():
    assert column(-0.25, -0.0001, float("inf"), digits=2) == ["−0.25", "0.00", "∞"]
    assert "$-$0.25" in as_latex(pd.DataFrame({"c": [-0.25]}))


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, "", np.float32("nan"), Cell()])
def test_missing_is_a_dash(missing):
    assert column(missing, "x") == [DASH, "x"]


def test_a_value_outside_its_interval_is_refused():
    with pytest.raises(DataError, match=r"expected a value in its interval, found 3.0 and \[1.0, 2.0\]"):
        Cell(3.0, 1.0, 2.0)
