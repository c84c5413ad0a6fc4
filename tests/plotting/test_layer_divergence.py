"""Lines are the diagonals of the matrices, and the step at which one falls most is thick."""

import numpy as np
import pytest
from helpers.figures_of_lines import DIVERGENCES, FIGURES
from helpers.matrices import NINE, TEN, made
from helpers.pages import sheet_of, words
from helpers.semantic_study import matrix

from cka_probe.errors import DataError
from cka_probe.plotting.layer_divergence import LayerDivergence, Pair, steepest

FALLING = np.array([0.9, 0.9, 0.8, 0.7, 0.3, 0.2, 0.2, 0.1, 0.1])


def lines_of(diagonals):
    """The lines of one panel."""
    profiles = {f"line {number}": matrix(values, "video", "none") for number, values in enumerate(diagonals)}
    return sheet_of(LayerDivergence([Pair("two", profiles)])).axes[0].lines


def test_the_steepest_fall_is_thick_and_between_its_two_layers():
    lines = lines_of([FALLING, FALLING / 2])
    thick = [line for line in lines if line.get_linewidth() > 2]
    assert [list(line.get_xdata()) for line in thick] == [[3, 4], [3, 4]]
    np.testing.assert_array_equal(lines[0].get_ydata(), FALLING)
    assert not [line for line in lines_of([FALLING[::-1]]) if line.get_linewidth() > 2]


def test_the_steepest_fall_is_found_next_to_undefined_layers():
    assert steepest(np.array([0.9, np.nan, 0.5, 0.4])) == 3
    assert steepest(np.array([np.nan, np.nan])) is None


def test_lines_layers_and_what_is_undefined_are_named():
    written = words(sheet_of(FIGURES["layer_divergence"]))
    assert {"video and none", "before fine-tuning", "after fine-tuning", "steepest fall", "norm3  8"} <= set(written)
    assert "chance, 95 % quantile" in written
    assert "undefined" not in written
    assert "undefined" in words(sheet_of(DIVERGENCES["undefined"]))


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(DataError, match="found none"):
        LayerDivergence([])
    with pytest.raises(DataError, match="found none"):
        LayerDivergence([Pair("two", {})])
    with pytest.raises(DataError, match="expected the same layers in all matrices"):
        LayerDivergence([Pair("two", {"before": made(NINE, TEN)})])
    with pytest.raises(DataError, match="expected at most 4 lines"):
        LayerDivergence([Pair("two", {str(number): made(NINE, NINE) for number in range(5)})])
