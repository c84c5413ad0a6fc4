"""A forest plot puts each claim's number on its side of 0, and says the verdict in words."""

from dataclasses import dataclass

import numpy as np
import pytest
from helpers.pages import check_page, check_same_bytes, drawn, words

from cka_probe.errors import DataError, UnknownNameError
from cka_probe.plotting.claims import VERDICTS, claims, claims_size, save_claims


@dataclass(frozen=True)
class Row:
    name: str
    statement: str
    unit: str
    value: float
    low: float
    high: float
    verdict: str


@dataclass(frozen=True)
class Said(Row):
    verdict_text: str = "undecided (one seed of 3; two were not run)"


ROWS = [
    Row("u", "The top row of MP is a U: its middle layers are least like layer 0", "CKA", 0.2, 0.1, 0.3, "holds"),
    Row("rmse", "GP lowers rmse", "m", -0.03, -0.05, -0.01, "does not hold"),
    Row("far", "SP lowers rmse further than GP, which is a long statement " * 3, "m", 0.01, -0.02, 0.04, "undecided"),
    Said("one", "Edges", "pixels", 12.3, 10.0, 14.6, "undecided"),
    Row("gap", "Nothing to compare", "CKA", np.nan, np.nan, np.nan, "undefined"),
    Row("not", "Left for later", "degrees", np.nan, np.nan, np.nan, "not run"),
    Row("bare", "A number without an interval", "", 0.5, np.nan, np.nan, "undecided"),
    Row("zero", "Exactly nothing", "CKA", 0.0, 0.0, 0.0, "undecided"),
]


@pytest.fixture(scope="module")
def page():
    return drawn(claims, claims_size, ROWS)


def markers(ax):
    """Place across, marker and colour of each row's value, from above."""
    (panel,) = ax.child_axes
    found = [line for line in panel.lines if line.get_marker() not in ("None", None, "")]
    found = sorted((line.get_ydata()[0], line.get_xdata()[0], line.get_marker(), line.get_color()) for line in found)
    return [(x, marker, colour) for _, x, marker, colour in found]


def test_nothing_is_cut_off_too_small_or_over_something_else(page):
    check_page(page)
    check_page(drawn(claims, claims_size, ROWS[:1]))


def test_values_stand_on_their_side_of_0_in_parts_of_their_unit(page):
    places = [x for x, _, _ in markers(page)]
    assert places == pytest.approx([0.2 / 0.3, -0.03 / 0.05, 0.01 / 0.05, 12.3 / 14.6, 1.0, 0.0])


def test_intervals_are_drawn_to_the_same_scale(page):
    (panel,) = page.child_axes
    ends = [(line.get_xdata().min(), line.get_xdata().max()) for line in panel.lines if len(line.get_xdata()) == 6]
    expected = [(0.1 / 0.3, 1.0), (-1.0, -0.2), (-0.4, 0.8), (10 / 14.6, 1.0), (0, 0)]
    np.testing.assert_allclose(ends, expected)


def test_verdicts_differ_by_word_marker_and_colour(page):
    said = words(page)
    assert {"holds", "does not hold", "undefined", "not run"} <= set(said)
    assert "undecided (one" in " ".join(said)
    assert [marker for _, marker, _ in markers(page)] == ["o", "X", "D", "D", "D", "D"]
    drawable = [(colour, marker) for colour, marker, _ in VERDICTS.values() if marker]
    assert len({marker for _, marker in drawable}) == len({colour for colour, _ in drawable}) == 3


def test_numbers_stand_beside_with_units_and_digits_of_their_interval(page):
    said = words(page)
    assert "0.20 [0.10, 0.30] CKA" in said
    assert "\N{MINUS SIGN}0.030 [\N{MINUS SIGN}0.050, \N{MINUS SIGN}0.010] m" in said
    assert "12.3 [10.0, 14.6] pixels" in said
    assert "0.50" in said
    assert said.count("\N{EN DASH}") == 2
    assert any("0.3 CKA, 0.05 m, 15 pixels, 0.5" in line for line in said)


def test_what_cannot_be_drawn_is_said():
    with pytest.raises(DataError, match="at least one claim"):
        claims_size([])
    with pytest.raises(DataError, match=r"u: expected a value in its interval, found 5 and \[1, 2\]"):
        claims_size([Row("u", "", "", 5.0, 1.0, 2.0, "holds")])
    with pytest.raises(DataError, match="u: expected a value in its interval"):
        claims_size([Row("u", "", "", np.nan, 1.0, 2.0, "undefined")])
    with pytest.raises(UnknownNameError, match="no verdict 'hold'; did you mean 'holds'"):
        claims_size([Row("u", "", "", 1.0, 0.0, 2.0, "hold")])


def test_same_bytes(tmp_path):
    check_same_bytes(save_claims, ROWS, tmp_path, ("png", "svg"))
