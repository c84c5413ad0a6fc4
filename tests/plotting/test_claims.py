"""A forest plot puts each claim's number on its side of 0, and gives the verdict in words."""

import numpy as np
import pytest
from helpers.figures_of_lines import FIGURES, NAN
from helpers.pages import sheet_of, words

from cka_probe.errors import DataError, UnknownNameError
from cka_probe.plotting.claims import VERDICTS, Claims


@pytest.fixture(scope="module")
def page():
    return sheet_of(FIGURES["claims"])


def values(sheet):
    """The markers of values from above: place across, marker and colour."""
    (ax,) = sheet.axes
    lines = [line for line in ax.lines if line.get_transform() == ax.transData and line.get_markersize() > 4]
    markers = [(line.get_ydata()[0], line.get_xdata()[0], line.get_marker(), line.get_color()) for line in lines]
    return [(x, marker, colour) for _, x, marker, colour in sorted(markers) if marker and np.isfinite(x)]


def test_values_stand_on_their_side_of_0_in_parts_of_their_unit(page):
    expected = [0.2 / 0.3, -0.03 / 0.05, 0.01 / 0.05, 12.3 / 14.6, 1.0, 0.0]
    assert [x for x, _, _ in values(page)] == pytest.approx(expected)


def test_intervals_are_drawn_to_the_same_scale(page):
    segments = [segment for lines in page.axes[0].collections for segment in lines.get_segments()]
    ends = [segment[:, 0] for segment in segments if len(segment) and np.isfinite(segment).all()]
    expected = [(0.1 / 0.3, 1.0), (-1.0, -0.2), (-0.4, 0.8), (10 / 14.6, 1.0), (0, 0)]
    np.testing.assert_allclose(ends, expected, atol=1e-12)


def test_verdicts_differ_by_word_marker_and_colour(page):
    written = " / ".join(text.replace("\n", " ") for text in words(page))
    for verdict in ("holds", "does not hold", "undefined", "not run", "undecided (one seed of 3; two were not run)"):
        assert f"/ {verdict}" in written
    assert [marker for _, marker, _ in values(page)] == ["o", "X", "D", "D", "D", "D"]
    looks = [(colour, marker) for colour, marker, _ in VERDICTS.values() if marker]
    assert len({marker for _, marker in looks}) == len({colour for colour, _ in looks}) == 3


def test_numbers_have_units_and_the_digits_of_their_interval(page):
    written = words(page)
    assert "holds\n0.20 [0.10, 0.30] CKA" in written
    assert "does not hold\n\N{MINUS SIGN}0.030 [\N{MINUS SIGN}0.050, \N{MINUS SIGN}0.010] m" in written
    assert any("12.3 [10.0, 14.6] pixels" in text for text in written)
    assert "undecided\n0.50" in written
    assert any("0.3 CKA, 0.05 m, 15 pixels, 0.5" in text for text in written)


def test_what_cannot_be_drawn_is_refused():
    table = FIGURES["claims"].table[:1]
    with pytest.raises(DataError, match="expected claims to draw, found none"):
        Claims(table[:0])
    with pytest.raises(DataError, match=r"u: expected a value in its interval, found 5 and \[0.1, 0.3\]"):
        Claims(table.assign(value=5.0))
    with pytest.raises(DataError, match="u: expected a value in its interval"):
        Claims(table.assign(value=NAN))
    with pytest.raises(UnknownNameError, match="no verdict 'hold'; did you mean 'holds'"):
        Claims(table.assign(verdict="hold"))
