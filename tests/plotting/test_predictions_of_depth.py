"""A depth panel shows each map's own numbers in colours that mean the same in every row."""

import matplotlib
import numpy as np
import pytest
from helpers.figures_of_images import EIGHT, LONG_NAMES
from helpers.figures_of_images import depth_row as row
from helpers.pages import check_legible, each, images, sheet_of, words

from cka_probe.errors import DataError, UnknownNameError
from cka_probe.plotting import colouring
from cka_probe.plotting.predictions import (
    EDGES,
    ERRORS,
    DepthPanel,
    PredictionRow,
    relative_error,
)

MODELS = ("MP", "MP+GP", "MP+GP+SP")
TRUE, FOUND, BOTH = (np.array(colour) / 255 for colour in EDGES.values())


CASES = {
    "three models": DepthPanel([row(0), row(1), row(2, share=0.05)]),
    "one model": DepthPanel([row(0, ("MP",))], ("depth", "error", "edges")),
    "edges": DepthPanel([row(0), row(1)], ("edges",)),
    "eight models": DepthPanel([row(0, EIGHT)], ("depth",)),
    "long names": DepthPanel([row(0, LONG_NAMES)]),
    "shapes": DepthPanel([row(0), row(1, shape=(16, 12))]),
    "nothing measured": DepthPanel([row(0, share=0.0)]),
    "all measured": DepthPanel([row(0, share=2.0)]),
}


@pytest.fixture(scope="module", params=each(CASES))
def case(request):
    return CASES[request.param], sheet_of(CASES[request.param])


def columns(shown):
    return 2 + len(shown.rows[0].predictions) * len(shown.parts)


def test_nothing_is_cut_off_too_small_or_over_something_else(case):
    check_legible(case[1], least=6.0)


def test_images_keep_their_proportions(case):
    panel, sheet = case
    drawn = [ax for ax in sheet.axes if ax.images]
    for index, shown in enumerate(panel.rows):
        for ax in drawn[index * columns(panel) :][: columns(panel)]:
            box = ax.get_window_extent()
            assert box.height / box.width == pytest.approx(shown.truth.shape[0] / shown.truth.shape[1], rel=0.02)


def test_colours_are_those_of_the_numbers(case):
    panel, sheet = case
    for shown, found in zip(panel.rows, images(sheet, columns(panel)), strict=True):
        np.testing.assert_allclose(found[0][..., :3], shown.image / 255)
        np.testing.assert_array_equal(found[1][..., 3] > 0, grown(shown.truth > 0))


def grown(there):
    """What of a map is coloured: points of a sparse one are enlarged."""
    return colouring.enlarged(there.astype(float)) > 0 if 0 < there.mean() < colouring.SPARSE else there


def test_equal_depth_and_equal_error_have_equal_colours_everywhere():
    truth = np.full((4, 4), 2.0)
    image = np.zeros((4, 4, 3), np.uint8)
    far = np.full((4, 4), 8.0)
    rows = [PredictionRow("a", image, truth, {"m": 1.09 * truth}), PredictionRow("b", image, far, {"m": 0.91 * far})]
    one, other = images(sheet_of(DepthPanel(rows)), 4)
    np.testing.assert_allclose(one[3], other[3])  # 9 % too far and 9 % too near
    assert (one[1] != other[1]).any()
    np.testing.assert_allclose(one[3][0, 0], matplotlib.colormaps[ERRORS](0.9))  # of 0.1, 0.09 rounded up


def test_errors_are_those_of_the_formula_and_absent_where_nothing_is_measured(case):
    panel, sheet = case
    for shown in panel.rows:
        for predicted in shown.predictions.values():
            error = relative_error(predicted, shown.truth)
            for place in np.ndindex(shown.truth.shape):
                if shown.truth[place] > 0:
                    expected = abs(predicted[place] - shown.truth[place]) / shown.truth[place]
                    assert error[place] == pytest.approx(expected)
                else:
                    assert np.isnan(error[place])
    if "error" in panel.parts and (shown.truth > 0).any():
        assert f"mean {np.nanmean(error):.3f}" in words(sheet)


def test_ground_without_a_value_is_hatched_and_said_to_be(case):
    panel, sheet = case
    hatched = [patch for ax in sheet.axes for patch in ax.patches if patch.get_hatch()]
    gaps = any((shown.truth <= 0).any() for shown in panel.rows)
    assert bool(hatched) == gaps
    assert ("not measured" in words(sheet)) == gaps


@pytest.mark.slow
def test_edges_that_are_true_found_and_both_have_their_colours():
    panel = CASES["edges"]
    for shown, found in zip(panel.rows, images(sheet_of(panel), columns(panel)), strict=True):
        for colours, model in zip(found[2:], MODELS, strict=True):
            finer = colours.shape[0] // shown.truth.shape[0]
            assert finer > 1  # pixels are far thicker than a thin line here, and stay as they are
            true, predicted = (shown.edges[name].repeat(finer, 0).repeat(finer, 1) for name in ("truth", model))
            for where, colour in (
                (true & ~predicted, TRUE), (predicted & ~true, FOUND), (true & predicted, BOTH)
            ):  # fmt: skip
                np.testing.assert_allclose(colours[where][:, :3], np.broadcast_to(colour, (where.sum(), 3)))
            np.testing.assert_allclose(colours[~true & ~predicted].std(-1) * 0, 0)


@pytest.mark.parametrize(("wide", "inches"), [(16, 1.7), (128, 0.8), (640, 0.8), (1242, 0.6)])
def test_a_line_of_one_pixel_is_seen_in_print(wide, inches):
    edges = np.zeros((wide // 2, wide), bool)
    edges[:, wide // 2] = edges[wide // 4, :] = True
    fine = colouring.thick_lines(edges, inches)
    finer = fine.shape[1] // wide
    assert fine.shape == (finer * edges.shape[0], finer * wide)
    thick = max(1 / wide * inches, colouring.THIN)  # inches
    across, down = fine[-1].sum() / fine.shape[1] * inches, fine[:, 0].sum() / fine.shape[1] * inches
    for found in (across, down):
        assert thick - 1e-9 <= found <= thick + 2.01 * inches / fine.shape[1]
    at = np.flatnonzero(fine[-1]).mean() + 0.5
    np.testing.assert_allclose(at / finer, wide // 2 + 0.5)  # it grows to both sides
    assert not colouring.thick_lines(np.zeros((4, 4), bool), inches).any()


def test_edges_are_told_apart_in_grey_and_from_the_dimmed_image():
    grey = [np.dot(colour, (0.299, 0.587, 0.114)) for colour in (FOUND, TRUE, BOTH)]
    assert np.diff(grey).min() > 0.1
    assert grey[2] > 0.55 + 0.1  # the brightest of a dimmed image


def test_errors_get_darker():
    grey = matplotlib.colormaps[ERRORS](np.linspace(0, 1, 64))[:, :3] @ (0.299, 0.587, 0.114)
    assert (np.diff(grey) < 0).all()


@pytest.mark.slow
def test_the_bars_have_numbers_and_units():
    said = words(sheet_of(CASES["three models"]))
    assert {"depth (m)", "truth (m)", "error |p \N{MINUS SIGN} g| / g", "0.2+", *MODELS} <= set(said)


def test_what_cannot_be_drawn_is_said():
    good = row(0)
    with pytest.raises(DataError, match="at least one image, one model and one part"):
        DepthPanel([])
    with pytest.raises(DataError, match=r"MP is \(3, 4\) and the truth \(12, 16\); resize"):
        DepthPanel([PredictionRow("a", good.image, good.truth, {"MP": np.ones((3, 4))})])
    with pytest.raises(DataError, match=r"expected edges of truth to draw, found none; omit"):
        DepthPanel([PredictionRow("a", good.image, good.truth, good.predictions)], ("edges",))
    with pytest.raises(DataError, match="expected predictions of MP, MP"):
        DepthPanel([good, row(1, ("MP",))])
    with pytest.raises(UnknownNameError, match="no part of a depth panel 'erors'; did you mean 'error'"):
        DepthPanel([good], ("erors",))
