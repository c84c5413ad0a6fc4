"""The heatmap of a result shows every cell at its place, with names, numbers and what is undefined."""

from dataclasses import replace
from functools import cache
from itertools import pairwise

import matplotlib
import numpy as np
import pytest
from helpers.matrices import CASES, MANY, TEN, made
from helpers.pages import sheet_of
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from cka_probe.errors import CkaProbeError
from cka_probe.plotting import FIGURES, Heatmap, figures_of, style
from cka_probe.plotting.matrix import MOST_NUMBERS


@cache
def drawn(case):
    """The axes of a case, laid out once for all the tests that only look at them."""
    return sheet_of(Heatmap(CASES[case])).axes[0]


def cells(ax):
    """The numbers that the colours of a map stand for, NaN where hatched."""
    rows, columns = (int(max(limits)) for limits in (ax.get_ylim(), ax.get_xlim()))
    return ax.collections[0].get_array().reshape(rows, columns).filled(np.nan)


def test_every_cell_is_drawn_from_the_top_left_on_a_scale_from_0_to_1():
    ax = drawn("rectangle")
    np.testing.assert_array_equal(cells(ax), CASES["rectangle"].values)
    assert ax.collections[0].get_clim() == (0, 1)
    first, last = ax.transData.transform([(0.5, 0.5), (9.5, 8.5)])
    assert first[0] < last[0]
    assert first[1] > last[1]  # pixels count upward
    across, down = np.abs(last - first) / (9, 8)
    assert across == pytest.approx(down)


def test_lighter_is_more_similar():
    grey = matplotlib.colormaps[style.COLOURS](np.linspace(0, 1, 256))[:, :3] @ (0.299, 0.587, 0.114)
    assert (np.diff(grey) > 0).all()


def test_numbers_are_in_their_cells():
    result, ax = CASES["rectangle"], drawn("rectangle")
    assert len(ax.texts) == 90
    for text in ax.texts:
        column, row = (int(at) for at in text.get_position())
        assert float(text.get_text()) == pytest.approx(result.values[row, column], abs=0.0051)
        box = text.get_window_extent()
        (x0, y1), (x1, y0) = ax.transData.transform([(column, row), (column + 1, row + 1)])
        assert x0 <= box.x0 < box.x1 <= x1
        assert y0 <= box.y0 < box.y1 <= y1


@pytest.mark.slow
def test_cells_of_few_layers_have_numbers():
    assert len(drawn("twelve").texts) == MOST_NUMBERS**2
    assert not [text for text in drawn("many").texts if text.get_text().startswith(".")]


def test_negative_values_have_the_colour_of_0_and_their_own_number():
    ax = drawn("negative")
    mesh = ax.collections[0]
    assert CASES["negative"].values.max() < 0
    assert {tuple(colour) for colour in mesh.get_facecolors()} == {mesh.cmap(0.0)}
    assert ax.texts[0].get_text() == "\N{MINUS SIGN}.24"


@pytest.mark.parametrize("case", ["nine", "undefined", "nothing defined", "many"])
def test_exactly_the_undefined_cells_are_hatched_and_explained(case):
    ax = drawn(case)
    hatched = {patch.get_xy() for patch in ax.patches if isinstance(patch, Rectangle) and patch.get_hatch()}
    assert hatched == {(column, row) for row, column in np.argwhere(np.isnan(CASES[case].values))}
    assert (ax.get_legend() is not None) == bool(hatched)
    if hatched:
        assert [text.get_text() for text in ax.get_legend().get_texts()] == ["undefined"]


def test_layers_models_measure_and_images_are_named():
    ax = drawn("nine")
    rows = [label.get_text() for label in ax.get_yticklabels()]
    assert (rows[0], rows[5], rows[8]) == ("0.downsample.norm  0", "2.blocks.12.norm1  5", "norm3  8")
    assert [label.get_text() for label in ax.get_xticklabels()] == list("012345678")
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("pretrained", "fine$tuned$")
    assert ax.get_title(loc="left") == "n = 64 images"
    (bar,) = ax.child_axes
    assert bar.get_ylabel() == "CKA (unbiased)"


def test_columns_that_are_other_layers_are_named():
    ax = drawn("rectangle")
    assert [label.get_text() for label in ax.get_xticklabels()] == [f"{name}  {k}" for k, name in enumerate(TEN)]


def test_thinned_labels_stay_with_their_layers():
    ax = drawn("many")
    for position, label in zip(ax.get_yticks(), ax.get_yticklabels(), strict=True):
        name, index = label.get_text().split("  ")
        assert int(index) == position - 0.5
        stage, _, block, _ = name.split(".")
        assert f"layers.{stage}.blocks.{block}.norm1" == MANY[int(index)]
    assert list(ax.get_xticks() - 0.5) == [int(label.get_text()) for label in ax.get_xticklabels()]


@pytest.mark.parametrize("name", ["heatmap", "profile"])
def test_a_figure_draws_on_axes_of_another_figure_and_leaves_the_rest_alone(name):
    before = dict(matplotlib.rcParams)
    sheet = Figure(figsize=(7, 3.5), layout="constrained")
    ax, other = sheet.subplots(1, 2)
    assert FIGURES[name](CASES["undefined"]).draw_on(ax) is ax
    sheet.draw_without_rendering()
    assert not other.has_data()
    assert sheet.axes == [ax, other]
    assert dict(matplotlib.rcParams) == before


def test_a_result_draws_itself():
    import matplotlib.pyplot as plt

    for ax in (CASES["nine"].heatmap(), CASES["nine"].profile()):
        assert ax.has_data()
        assert ax.figure.get_figwidth() == style.COLUMN
        plt.close(ax.figure)


def test_only_figures_that_a_result_has_are_drawn():
    assert list(figures_of(CASES["rectangle"])) == ["heatmap", "uncertainty"]
    assert list(figures_of(CASES["nine"])) == ["heatmap", "profile", "uncertainty"]


def scaled(low, high):
    """The nine layers with values from `low` to `high`."""
    values = CASES["nine"].values
    share = (values - np.nanmin(values)) / (np.nanmax(values) - np.nanmin(values))
    return replace(CASES["nine"], values=low + (high - low) * share)


def bar_numbers(ax):
    return [float(label.get_text()) for label in ax.child_axes[0].get_yticklabels()]


def test_a_scale_that_follows_the_values_spreads_the_colours_over_them():
    plain, auto = Heatmap(scaled(0.931, 0.998)), Heatmap(scaled(0.931, 0.998), vmin="auto", vmax="auto")
    assert plain.narrow_range == pytest.approx((0.931, 0.998))
    assert auto.narrow_range is None
    assert Heatmap(CASES["nine"]).narrow_range is None
    ax = sheet_of(auto).axes[0]
    low, high = ax.collections[0].get_clim()
    assert (low, high) == (0.92, 1.0)
    assert bar_numbers(ax)[0] == low
    assert bar_numbers(ax)[-1] == high
    assert {len(text.get_text().lstrip("0").partition(".")[2]) for text in ax.texts} == {3}  # numbers differ, too


@pytest.mark.slow
def test_one_end_of_the_scale_may_be_given():
    assert sheet_of(Heatmap(scaled(0.2, 0.9), vmin=0.5)).axes[0].collections[0].get_clim() == (0.5, 1.0)
    assert sheet_of(Heatmap(scaled(0.2, 0.9), vmax="auto")).axes[0].collections[0].get_clim() == (0.0, 1.0)
    assert sheet_of(Heatmap(scaled(0.2, 0.6), vmax="auto")).axes[0].collections[0].get_clim() == (0.0, 0.6)


@pytest.mark.slow
def test_values_beyond_the_scale_are_marked_on_the_colour_bar():
    for vmin, vmax, extend in ((0.4, 0.6, "both"), (0.4, None, "min"), (None, 0.6, "max"), (None, None, "neither")):
        assert sheet_of(Heatmap(scaled(0.2, 0.9), vmin, vmax)).axes[0].collections[0].colorbar.extend == extend


def test_a_similarity_of_1_and_a_rounding_is_not_beyond_the_scale():
    assert sheet_of(Heatmap(scaled(0.2, 1 + 1e-9))).axes[0].collections[0].colorbar.extend == "neither"


def test_a_layer_that_is_the_same_everywhere_has_a_scale():
    low, high = sheet_of(Heatmap(scaled(0.5, 0.5), "auto", "auto")).axes[0].collections[0].get_clim()
    assert 0 < low < 0.5 < high < 1


def test_another_colour_map():
    assert sheet_of(Heatmap(CASES["nine"], cmap="viridis")).axes[0].collections[0].get_cmap().name == "viridis"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vmin": 0.5, "vmax": 0.5}, "vmin below vmax, found 0.5 and 0.5"),
        ({"vmin": 2}, "ends above its start, found 2 to 1"),
        ({"vmax": "high"}, "expected a number or auto for vmax, found 'high'"),
        ({"vmin": float("nan")}, "expected finite numbers"),
        ({"cmap": "viridsi"}, "no colour map 'viridsi'; did you mean 'viridis'"),
    ],
)
def test_a_scale_that_makes_no_sense_is_one_line(settings, message):
    with pytest.raises(CkaProbeError, match=message):
        Heatmap(CASES["nine"], **settings)


@pytest.mark.parametrize(("rows", "columns"), [(13, 19), (25, 19), (40, 13)])
def test_up_to_forty_layers_are_all_named_on_both_sides(rows, columns):
    names = [f"stages.{index // 8}.blocks.{index % 8}" for index in range(rows)]
    ax = sheet_of(Heatmap(made(names, [f"blocks.{index}" for index in range(columns)]))).axes[0]
    assert len(ax.get_yticklabels()) == rows
    assert len(ax.get_xticklabels()) == columns
    for labels, low, high in ((ax.get_yticklabels(), "y0", "y1"), (ax.get_xticklabels(), "x0", "x1")):
        boxes = sorted((label.get_window_extent() for label in labels), key=lambda box: getattr(box, low))
        assert all(getattr(a, high) <= getattr(b, low) + 0.5 for a, b in pairwise(boxes))  # no two overlap
