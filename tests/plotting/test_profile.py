"""Profiles are diagonals with their intervals over what chance reaches; of pairs, the steepest fall is thick."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.figures_of_lines import DIVERGENCES, FIGURES
from helpers.matrices import CASES, NINE, TEN, made
from helpers.pages import sheet_of, words
from helpers.semantic_study import matrix
from matplotlib.collections import LineCollection
from matplotlib.patches import StepPatch

from cka_probe.errors import DataError
from cka_probe.plotting import Profile
from cka_probe.plotting.profile import LayerDivergence, Pair, steepest


def drawn(result):
    """The axes of a result, laid out."""
    return sheet_of(Profile(result)).axes[0]


def test_draws_the_diagonal_its_intervals_and_chance():
    result = CASES["undefined"]
    ax = drawn(result)
    (line,) = ax.lines
    np.testing.assert_array_equal(line.get_xdata(), range(9))
    np.testing.assert_array_equal(line.get_ydata(), np.diagonal(result.values))
    (bars,) = [artist for artist in ax.collections if isinstance(artist, LineCollection)]
    ends = np.array([segment[:, 1] for segment in bars.get_segments() if len(segment)])
    known = np.isfinite(np.diagonal(result.values))
    np.testing.assert_array_equal(ends, np.stack([np.diagonal(result.low), np.diagonal(result.high)], 1)[known])
    (chance,) = [patch for patch in ax.patches if isinstance(patch, StepPatch)]
    np.testing.assert_array_equal(chance.get_data().values, np.nan_to_num(np.diagonal(result.null)))


def test_hatches_exactly_the_undefined_layers():
    ax = drawn(CASES["undefined"])
    assert {patch.get_x() + 0.5 for patch in ax.patches if patch.get_hatch()} == {2, 8}
    entries = [text.get_text() for text in ax.get_legend().get_texts()]
    assert entries == ["95 % interval", "chance, 95 % quantile", "undefined"]


def test_names_layers_models_measure_and_images():
    ax = drawn(CASES["nine"])
    assert ax.get_xticklabels()[1].get_text() == "1.downsample.norm  1"
    assert ax.get_title(loc="left") == "pretrained and fine$tuned$"
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("CKA (unbiased)", "layer (n = 64 images)")


def test_without_permutations_chance_is_not_explained():
    result = replace(CASES["nine"], null=np.full((9, 9), np.nan))
    assert [text.get_text() for text in drawn(result).get_legend().get_texts()] == ["95 % interval"]


def test_shows_0_to_1_and_goes_below_0_where_values_do():
    assert drawn(CASES["nine"]).get_ylim() == (0, 1)
    assert drawn(CASES["negative"]).get_ylim() == (-0.3, 1)


def test_refuses_a_rectangle_in_one_line():
    with pytest.raises(
        DataError, match=r"^a profile is the diagonal .* found 9 layers of x and 10 of y; draw the heat"
    ):
        Profile(CASES["rectangle"])


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
