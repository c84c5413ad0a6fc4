"""Maps of a matrix from 9 to 120 layers and as strips: cells can be seen, and what is marked is so."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from helpers.matrices import CASES, LONG, NINE, TEN, made
from helpers.pages import check_legible, sheet_of, texts, words
from matplotlib.colors import to_rgb

from cka_probe.comparison.results import DifferenceMatrix
from cka_probe.errors import DataError
from cka_probe.plotting import Heatmap, Uncertainty
from cka_probe.plotting.heatmap import Difference

DEEP = ["conv1", "bn1", "act1", "maxpool"]
DEEP += [f"layer{stage}.{block}.conv{k}" for stage, blocks in ((1, 8), (2, 9), (3, 14), (4, 7))
         for block in range(blocks) for k in (1, 2, 3)]  # fmt: skip
DEEP += ["global_pool", "fc"]
SIZES = {
    "nine": (NINE, NINE),
    "sixty": (DEEP[:61], DEEP[:61]),
    "deep": (DEEP, DEEP),
    "strip": (NINE, DEEP),
    "column": (DEEP, TEN),
    "other": (NINE, TEN),
    "long": (LONG, LONG),
}


def similar(size):
    """A result with intervals of different widths, two layers undefined, and some cells that are not above chance."""
    rows, columns = SIZES[size]
    result = made(rows, columns, undefined=(2,))
    half = 0.01 + 0.05 * np.abs(np.sin(np.arange(result.values.size))).reshape(result.values.shape)
    null = np.where(np.isnan(result.values), np.nan, np.quantile(result.values[np.isfinite(result.values)], 0.1))
    return replace(result, low=result.values - half, high=result.values + half, null=null)


def subtracted(size):
    """A difference of both signs, some of it significant."""
    result = similar(size)
    i, j = np.indices(result.values.shape)
    values = np.where(np.isnan(result.values), np.nan, 0.27 * np.sin(i / 5 + 0.1) * np.cos(j / 7))
    return DifferenceMatrix(
        values=values, low=values - 0.1, high=values + 0.1, p_values=np.full(values.shape, 0.5),
        significant=np.abs(np.nan_to_num(values)) > 0.15, rows=result.rows, columns=result.columns, num_examples=64,
        first="runs/mp.safetensors against runs/mp_depth.safetensors", second="runs/sp.pth against runs/sp_depth.pth",
        how="paired over images",
        settings={"measure": "cka", "title": "CKA", "estimator": "unbiased", "level": 0.05, "correction": "Holm"},
    )  # fmt: skip


@cache
def sheet(kind, size):
    """A figure laid out once for all the tests that only look at it."""
    if kind == "difference":
        return sheet_of(Difference(subtracted(size)))
    return sheet_of((Heatmap if kind == "heatmap" else Uncertainty)(similar(size)))


def cells(ax):
    """The numbers that the colours of a map stand for, NaN where hatched."""
    rows, columns = (int(max(limits)) for limits in (ax.get_ylim(), ax.get_xlim()))
    return ax.collections[0].get_array().reshape(rows, columns).filled(np.nan)


def dots(ax):
    """The cells with a dot, and the colour of each."""
    points = ax.collections[-1]
    colours = points.get_facecolors()
    return {(int(y), int(x)): tuple(colour[:3]) for (x, y), colour in zip(points.get_offsets(), colours, strict=True)}


def contrast(one, other):
    """The contrast ratio of the web content accessibility guidelines."""
    linear = [
        np.where(np.array(c) <= 0.04045, np.array(c) / 12.92, ((np.array(c) + 0.055) / 1.055) ** 2.4)
        for c in (one, other)
    ]
    dark, light = sorted(float(c @ (0.2126, 0.7152, 0.0722)) for c in linear)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["heatmap", "difference", "uncertainty"])
@pytest.mark.parametrize(
    "size", [pytest.param(size, marks=[] if size == "deep" else pytest.mark.slow) for size in SIZES]
)
def test_nothing_is_cut_too_small_or_over_something_else(kind, size):
    check_legible(sheet(kind, size), least=6.0)


@pytest.mark.parametrize("kind", ["heatmap", "difference"])
@pytest.mark.parametrize("size", SIZES)
def test_cells_can_be_seen_and_a_page_holds_the_figure(kind, size):
    ax = sheet(kind, size).axes[0]
    first, second = ax.transData.transform([(0, 0), (1, 1)])
    across, down = np.abs(second - first) * 72 / ax.figure.dpi
    assert min(across, down) > 1.85
    assert ax.figure.get_figwidth() <= 5.76  # 5 points on the 4.8 inches of an LNCS page
    rows, columns = (len(names) for names in SIZES[size])
    if max(rows, columns) <= 3 * min(rows, columns):
        assert across == pytest.approx(down, rel=1e-3)


def test_stages_of_a_deep_network_are_marked_where_they_change():
    ax = sheet("heatmap", "deep").axes[0]
    ends = [next(k for k, name in enumerate(DEEP) if name.startswith(word))
            for word in ("layer1", "layer2", "layer3", "layer4", "global_pool")]  # fmt: skip
    for axis in (ax.xaxis, ax.yaxis):
        np.testing.assert_array_equal(axis.get_ticklocs(minor=True), ends)
    assert [text.get_text() for text in ax.texts if text.get_text()] == ["layer1", "layer2", "layer3", "layer4"]
    assert not len(sheet("heatmap", "nine").axes[0].xaxis.get_ticklocs(minor=True))


def test_the_range_of_a_measure_is_that_of_the_colours():
    result = replace(CASES["nine"], settings={"measure": "rsa", "title": "RSA (Spearman)", "range": [-1.0, 1.0]})
    page = sheet_of(Heatmap(result))
    (bar,) = page.axes[0].child_axes
    assert page.axes[0].collections[0].get_clim() == (-1, 1)
    assert bar.get_ylabel() == "RSA (Spearman)"
    assert bar.get_yticklabels()[0].get_text() == "\N{MINUS SIGN}1.0"
    check_legible(page, least=6.0)


def test_values_and_half_widths_are_next_to_each_other_cell_by_cell():
    result, (left, right) = similar("other"), sheet("uncertainty", "other").axes
    np.testing.assert_array_equal(cells(left), result.values)
    np.testing.assert_allclose(cells(right), (result.high - result.low) / 2)
    assert right.collections[0].get_clim() == (0, 0.06)
    numbers = [float(text.get_text()) for text in right.texts if text.get_text().startswith(".")]
    half = (result.high - result.low)[np.isfinite(result.values)] / 2
    np.testing.assert_allclose(numbers, half, atol=0.00051)
    for row in (0, 8):
        assert left.transData.transform((0, row))[1] == pytest.approx(right.transData.transform((0, row))[1])


@pytest.mark.parametrize("size", SIZES)
def test_exactly_the_cells_that_are_not_above_chance_are_dotted(size):
    result, page = similar(size), sheet("uncertainty", size)
    assert set(dots(page.axes[0])) == set(map(tuple, np.argwhere(result.values <= result.null)))
    count = int((result.values <= result.null).sum())
    assert any(f"chance (its 95 % quantile): {count} of" in text for text in words(page))


@pytest.mark.parametrize("size", SIZES)
def test_exactly_the_significant_cells_are_dotted_and_counted(size):
    result, ax = subtracted(size), sheet("difference", size).axes[0]
    colours = dots(ax)
    assert set(colours) == set(map(tuple, np.argwhere(result.significant)))
    legend = " ".join(ax.get_xlabel().split())
    count = f"dotted: {result.significant.sum()} of {np.isfinite(result.values).sum()} cells differ"
    assert f"{count} (5%, Holm); paired over images; hatched: undefined" in legend
    for cell, colour in colours.items():
        assert contrast(colour, ax.collections[0].to_rgba(result.values[cell])[:3]) > 4.5


@pytest.mark.parametrize("kind", ["heatmap", "difference", "uncertainty"])
def test_numbers_have_contrast_to_their_cells(kind):
    for ax in sheet(kind, "nine").axes:
        mesh = ax.collections[0]
        shades = mesh.to_rgba(mesh.get_array().reshape(9, 9))
        for text in ax.texts:
            column, row = (int(at) for at in text.get_position())
            assert contrast(to_rgb(text.get_color()), shades[row, column][:3]) > 4.5


def test_dots_leave_the_numbers_free():
    ax = sheet("difference", "nine").axes[0]
    points = ax.transData.transform(ax.collections[-1].get_offsets())
    for text in ax.texts:
        box = text.get_window_extent().padded(0.3 * ax.figure.dpi / 72)
        assert not [point for point in points if box.contains(*point)]


def test_the_scale_of_a_difference_is_as_long_on_both_sides():
    ax = sheet("difference", "nine").axes[0]
    assert ax.collections[0].get_clim() == (-0.3, 0.3)
    (bar,) = ax.child_axes
    assert bar.get_ylabel() == "difference of CKA (unbiased)"
    assert ax.get_title("left").startswith("mp against mp_depth \N{MINUS SIGN} sp against sp_depth\n")


def test_a_result_without_intervals_has_no_such_figure():
    nothing = replace(CASES["nine"], low=np.full((9, 9), np.nan), high=np.full((9, 9), np.nan))
    with pytest.raises(DataError, match="expected intervals to draw, found none in any cell"):
        Uncertainty(nothing)
    without = replace(CASES["nine"], null=np.full((9, 9), np.nan))
    assert not [text for text in texts(sheet_of(Uncertainty(without))) if "chance" in text.get_text()]


def test_a_comparison_of_the_same_models_twice_is_called_by_their_short_names():
    pair = "runs/a_long_way_down/first.safetensors against runs/a_long_way_down/second.safetensors"
    page = sheet_of(Difference(replace(subtracted("nine"), first=pair, second=pair)))
    title = page.axes[0].get_title(loc="left")
    assert "first against second" in title
    assert "safetensors" not in title
