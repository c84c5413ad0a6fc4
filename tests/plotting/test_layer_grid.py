"""A grid shows every matrix on one scale, outlines what is read and draws exactly that below."""

from dataclasses import replace
from functools import cache

import matplotlib
import numpy as np
import pytest
from helpers.matrices import MANY, NINE, TEN, made
from helpers.pages import check_legible, each, sheet_of, words
from matplotlib.collections import LineCollection, QuadMesh
from matplotlib.patches import Rectangle, StepPatch

from cka_probe.comparison.results import Axis
from cka_probe.errors import DataError, UnknownNameError
from cka_probe.plotting import style
from cka_probe.plotting.layer_grid import LayerGrid


def varying(result, numbers):
    """A result whose layers vary by so much."""
    rows = tuple(Axis(axis.name, axis.module, value) for axis, value in zip(result.rows, numbers, strict=True))
    columns = tuple(
        Axis(axis.name, axis.module, 2 * value) for axis, value in zip(result.columns, numbers, strict=True)
    )
    return replace(result, rows=rows, columns=columns)


MP = varying(made(NINE, NINE), np.geomspace(0.01, 3, 9))
GAPS = varying(made(NINE, NINE, undefined=(2, 3, 8)), [1, 0.5, 0, 0, 0.1, 0.2, 0.3, 1, np.nan])
NEGATIVE = made(NINE, NINE, shift=0.6)
BIASED = replace(MP, settings={"measure": "cka", "estimator": "biased"})
TITLES = ("MP", "MP+GP", "MP+GP+SP")
CASES = {
    "row": LayerGrid([MP, GAPS, NEGATIVE], TITLES, "row", rms=True),
    "diagonal": LayerGrid([MP, GAPS, NEGATIVE], TITLES, "diagonal", rms=True),
    "plain": LayerGrid([MP], ["MP"]),
    "one with gaps": LayerGrid([GAPS], ["MP"], "diagonal", rms=True),
    "four": LayerGrid([MP] * 4, emphasis="row"),
    "long titles": LayerGrid([MP, BIASED], ["as it is in the paper itself, and longer", "b"], "diagonal"),
    "nothing defined": LayerGrid([made(NINE, NINE, undefined=range(9))], emphasis="row", rms=True),
    "rectangles": LayerGrid([made(NINE, TEN), made(TEN, NINE), MP], emphasis="row", rms=True),
    "many": LayerGrid([made(MANY, MANY, undefined=(7,))] * 2, emphasis="diagonal"),
}


@cache
def laid_out(name):
    """Once for all the tests that only look at it."""
    return sheet_of(CASES[name])


@pytest.fixture(scope="module", params=each(CASES))
def case(request):
    return CASES[request.param], laid_out(request.param)


def maps(sheet):
    return [panel for panel in sheet.axes if panel.collections and isinstance(panel.collections[0], QuadMesh)]


def lines_of(sheet):
    return [panel for panel in sheet.axes if panel.lines and panel.collections]


def cells(panel):
    rows, columns = (int(max(limits)) for limits in (panel.get_ylim(), panel.get_xlim()))
    return panel.collections[0].get_array().reshape(rows, columns).filled(np.nan)


def test_nothing_is_cut_off_too_small_or_over_something_else(case):
    check_legible(case[1], least=6.0)


def test_every_matrix_is_whole_on_one_scale_from_the_top_left(case):
    grid, ax = case
    assert len(maps(ax)) == len(grid.results)
    for result, panel in zip(grid.results, maps(ax), strict=True):
        np.testing.assert_array_equal(cells(panel), result.values)
        assert panel.collections[0].get_clim() == (0, 1)
        assert panel.collections[0].get_cmap().name == style.COLOURS
        first, last = panel.transData.transform([(0, 0), (1, 1)])
        assert first[0] < last[0]
        assert first[1] > last[1]
        if len({result.values.shape for result in grid.results}) == 1:  # else cells are stretched to maps of one size
            assert last[0] - first[0] == pytest.approx(first[1] - last[1])


def test_all_maps_are_of_one_size(case):
    sizes = [panel.get_window_extent().size for panel in maps(case[1])]
    np.testing.assert_allclose(sizes, [sizes[0]] * len(sizes), rtol=1e-3)


def test_exactly_what_is_read_is_outlined(case):
    grid, ax = case
    for result, panel in zip(grid.results, maps(ax), strict=True):
        boxes = {patch.get_bbox().bounds for patch in panel.patches if not patch.get_fill()}
        rows, columns = result.values.shape
        row = {(0, 0, columns, 1)}
        diagonal = {(k, k, 1, 1) for k in range(rows)}
        assert boxes == {None: set(), "row": row, "diagonal": diagonal}[grid.emphasis]


def test_a_frame_hides_no_cell(case):
    _, ax = case
    for panel in maps(ax):
        side = np.diff(panel.transData.transform([(0, 0), (1, 0)])[:, 0]).item() * 72 / ax.figure.dpi
        assert all(patch.get_linewidth() < side / 2 for patch in panel.patches if not patch.get_fill())


def test_undefined_cells_are_hatched_and_said_to_be(case):
    grid, ax = case
    for result, panel in zip(grid.results, maps(ax), strict=True):
        hatched = {patch.get_xy() for patch in panel.patches if isinstance(patch, Rectangle) and patch.get_hatch()}
        assert hatched == {(column, row) for row, column in np.argwhere(np.isnan(result.values))}
    assert ("undefined" in words(ax)) == any(np.isnan(result.values).any() for result in grid.results)


@pytest.mark.parametrize("emphasis", ["row", "diagonal"])
def test_the_line_has_the_outlined_values_their_intervals_and_chance(emphasis):
    grid = CASES[emphasis]
    for result, panel in zip(grid.results, lines_of(laid_out(emphasis)), strict=True):
        read = [matrix[0] if emphasis == "row" else np.diagonal(matrix) for matrix in
                (result.values, result.low, result.high, result.null)]  # fmt: skip
        (line,) = panel.lines
        np.testing.assert_array_equal(line.get_data(), [np.arange(9), read[0]])
        (bars,) = [artist for artist in panel.collections if isinstance(artist, LineCollection)]
        ends = [segment[:, 1] for segment in bars.get_segments() if len(segment)]
        np.testing.assert_array_equal(ends, np.stack(read[1:3], 1)[np.isfinite(read[0])])
        (chance,) = [patch for patch in panel.patches if isinstance(patch, StepPatch)]
        bottom = panel.get_ylim()[0]
        np.testing.assert_array_equal(chance.get_data().values, np.nan_to_num(read[3], nan=bottom))
        gaps = {patch.get_x() + 0.5 for patch in panel.patches if patch.get_hatch()}
        assert gaps == set(np.flatnonzero(np.isnan(read[0])))


def test_layer_stands_under_layer_and_lines_share_a_scale():
    ax = laid_out("diagonal")
    assert len({panel.get_ylim() for panel in lines_of(ax)}) == 1
    for above, below in zip(maps(ax), lines_of(ax), strict=True):
        for layer in range(9):
            x = above.transData.transform((layer + 0.5, 0))[0]
            assert x == pytest.approx(below.transData.transform((layer, 0))[0], abs=0.5)


@pytest.mark.slow
def test_root_mean_squares_are_bars_on_a_logarithmic_axis():
    sheet = sheet_of(LayerGrid([GAPS], emphasis="diagonal", rms=True))
    (panel,) = [panel for panel in sheet.axes if panel.get_yscale() == "log"]
    bars = [patch for patch in panel.patches if isinstance(patch, Rectangle) and not patch.get_hatch()]
    assert panel.get_ylim()[0] < 0.1 < 2 < panel.get_ylim()[1]
    tops = sorted(bar.get_y() + bar.get_height() for bar in bars)
    np.testing.assert_allclose(tops, sorted(part * value for part in (1, 2) for value in (1, 0.5, 0.1, 0.2, 0.3, 1)))
    assert {round(patch.get_x() + 0.5) for patch in panel.patches if patch.get_hatch()} == {2, 3, 8}


def test_the_outline_is_seen_on_any_colour_of_the_map():
    colours = matplotlib.colormaps[style.COLOURS](np.linspace(0, 1, 64))[:, :3]
    frame = np.array([matplotlib.colors.to_rgb(colour) for colour in ("white", style.LINE)])
    assert (np.abs(colours[:, None] - frame).sum(-1).max(1) > 0.8).all()


def test_titles_measures_and_layers_are_named():
    written = words(laid_out("row"))
    assert {*TITLES, "CKA (unbiased)", "first row (outlined)", "95 % interval", "RMS of layers"} <= set(written)
    assert any("8 norm3" in line for line in written)
    mixed = words(laid_out("long titles"))
    assert {"similarity", "CKA (unbiased), n = 64", "CKA (biased), n = 64"} <= set(mixed)


def test_what_cannot_be_drawn_is_said():
    with pytest.raises(DataError, match=r"at least one result .* found none"):
        LayerGrid([])
    with pytest.raises(DataError, match="a title for each of 2 results, found 1; give as many, or none"):
        LayerGrid([MP, MP], ["MP"])
    with pytest.raises(DataError, match=r"a diagonal pairs .* found 9 layers of .* and 10 of .*; emphasise the row"):
        LayerGrid([made(NINE, TEN)], emphasis="diagonal")
    with pytest.raises(UnknownNameError, match="no emphasis 'top'; There are: row, diagonal"):
        LayerGrid([MP], emphasis="top")
