"""Maps of a matrix from 9 to 120 layers and as strips, in every style: nothing is cut, and what is marked is so."""

from dataclasses import replace
from functools import cache

import matplotlib
import numpy as np
import pytest
from helpers.pages import check_page
from matplotlib.figure import Figure
from test_figures import CASES, LONG, NINE, TEN, cell, contrast, made, texts

from cka_probe.comparison.results import DifferenceMatrix
from cka_probe.errors import DataError
from cka_probe.plotting import axes_in, labels, style
from cka_probe.plotting.difference import difference, difference_size, save_difference
from cka_probe.plotting.heatmap import heatmap, heatmap_size
from cka_probe.plotting.uncertainty import uncertainty, uncertainty_size

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
LOOKS = [(size, 1.0) for size in SIZES] + [("nine", 1.5), ("nine", 2.4)]
LOOKS += [
    pytest.param(size, scale, marks=pytest.mark.slow) for size in ("sixty", "deep", "strip") for scale in (1.5, 2.4)
]


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


def laid_out(draw, size, thing, name, scale):
    """The figure as in a file of a style."""
    width, height = size(thing)
    with matplotlib.style.context(["default", style.FILE_STYLE]):
        figure = Figure(figsize=(width * scale, height * scale), layout="compressed")
        ax = draw(thing, axes_in(figure, name))
        figure.draw_without_rendering()
    return ax


@cache
def drawn(kind, size, scale=1.0):
    if kind == "heatmap":
        return laid_out(heatmap, heatmap_size, similar(size), kind, scale)
    if kind == "uncertainty":
        return laid_out(uncertainty, uncertainty_size, similar(size), kind, scale)
    return laid_out(difference, difference_size, subtracted(size), kind, scale)


def check_plot(ax, least):
    """Nothing is cut or too small, and nothing that is written is over something else that is."""
    found = texts(ax.figure)
    boxes = np.array([text.get_window_extent().padded(-0.5).extents for text in found])
    assert min(text.get_fontsize() for text in found) >= least
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] <= ax.figure.bbox.size).all()
    over = (boxes[:, None, :2] < boxes[None, :, 2:]).all(-1)
    over &= over.T
    assert not [(str(found[i]), str(found[j])) for i, j in np.argwhere(over) if i < j]


@pytest.mark.parametrize(("size", "scale"), LOOKS)
@pytest.mark.parametrize("kind", ["heatmap", "difference"])
def test_nothing_is_cut_too_small_or_over_something_else(kind, size, scale):
    check_plot(drawn(kind, size, scale), 5.99 * scale)


@pytest.mark.parametrize(("size", "scale"), LOOKS)
def test_the_pair_of_maps_is_a_page_on_which_nothing_touches(size, scale):
    check_page(drawn("uncertainty", size, scale))


@pytest.mark.parametrize("kind", ["heatmap", "difference"])
@pytest.mark.parametrize("size", SIZES)
def test_cells_can_be_seen_and_a_page_holds_the_figure(kind, size):
    ax = drawn(kind, size)
    first, second = ax.transData.transform([(0, 0), (1, 1)])
    across, down = np.abs(second - first) * 72 / ax.figure.dpi
    assert min(across, down) > 2.0
    assert ax.figure.get_figwidth() <= 5.76  # 5 points on the 4.8 inches of an LNCS page
    rows, columns = (len(names) for names in SIZES[size])
    if max(rows, columns) <= 3 * min(rows, columns):
        assert across == pytest.approx(down, rel=1e-3)


def test_stages_of_a_deep_network_are_marked_where_they_change():
    ax = drawn("heatmap", "deep")
    ends = [next(k for k, name in enumerate(DEEP) if name.startswith(word)) - 0.5
            for word in ("layer1", "layer2", "layer3", "layer4", "global_pool")]  # fmt: skip
    beside, above = (line for line in ax.lines if len(line.get_xdata()) == len(ends))
    np.testing.assert_array_equal(beside.get_ydata(), ends)
    np.testing.assert_array_equal(above.get_xdata(), ends)
    assert [text.get_text() for text in ax.texts] == ["layer1", "layer2", "layer3", "layer4"]
    assert not [line for line in drawn("heatmap", "nine").lines if len(line.get_xdata())]


def test_stages_of_networks():
    swin = [f"encoder.layers.{stage}.blocks.{block}.norm1" for stage in range(4) for block in range(3)]
    assert [name for name, _, _ in labels.stages(swin)] == [f"encoder.layers.{stage}" for stage in range(4)]
    assert labels.stages(["a.b", "c.d", "e.f"]) == []
    assert labels.stages([f"features.{k}" for k in range(20)]) == []


def test_the_range_of_a_measure_is_that_of_the_colours():
    result = replace(CASES["nine"], settings={"measure": "rsa", "title": "RSA (Spearman)", "range": [-1.0, 1.0]})
    ax = laid_out(heatmap, heatmap_size, result, "heatmap", 1.0)
    assert ax.images[0].get_clim() == (-1, 1)
    (bar,) = ax.child_axes
    assert bar.get_ylabel() == "RSA (Spearman)"
    assert bar.get_yticklabels()[0].get_text() == "\N{MINUS SIGN}1.0"
    check_plot(ax, 5.99)


def test_values_and_half_widths_stand_beside_each_other_cell_by_cell():
    result, ax = similar("other"), drawn("uncertainty", "other")
    left, right = (panel for panel in ax.child_axes if panel.images)
    np.testing.assert_array_equal(left.images[0].get_array().filled(np.nan), result.values)
    np.testing.assert_allclose(right.images[0].get_array().filled(np.nan), (result.high - result.low) / 2)
    assert right.images[0].get_clim() == (0, 0.06)
    written = [float(text.get_text()) for text in right.texts if text.get_text().startswith(".")]
    half = (result.high - result.low)[np.isfinite(result.values)] / 2
    np.testing.assert_allclose(written, half, atol=0.00051)
    for row in (0, 8):
        assert left.transData.transform((0, row))[1] == pytest.approx(right.transData.transform((0, row))[1])


def dotted(panel):
    """The cells with a dot, and the colour of each."""
    found = {}
    for line in panel.lines:
        if line.get_marker() == "o":
            for x, y in zip(*line.get_data(), strict=True):
                found[int(np.floor(y + 0.5)), int(np.floor(x + 0.5))] = line.get_color()
    return found


@pytest.mark.parametrize("size", SIZES)
def test_exactly_the_cells_that_are_not_above_chance_are_dotted(size):
    result, ax = similar(size), drawn("uncertainty", size)
    panel = next(panel for panel in ax.child_axes if panel.images)
    assert set(dotted(panel)) == set(map(tuple, np.argwhere(result.values <= result.null)))
    count = int((result.values <= result.null).sum())
    assert any(f"chance (its 95 % quantile): {count} of" in text.get_text() for text in texts(ax.figure))


@pytest.mark.parametrize("size", SIZES)
def test_exactly_the_significant_cells_are_dotted_and_counted(size):
    result, ax = subtracted(size), drawn("difference", size)
    dots = dotted(ax)
    assert set(dots) == set(map(tuple, np.argwhere(result.significant)))
    said = " ".join(ax.get_xlabel().split())
    count = f"dotted: {result.significant.sum()} of {np.isfinite(result.values).sum()} cells differ"
    assert f"{count} (5%, Holm); paired over images; hatched: undefined" in said
    for place, colour in dots.items():
        behind = ax.images[0].to_rgba(result.values[place])[:3]
        assert contrast(matplotlib.colors.to_rgb(colour), behind) > 4.5


def test_dots_leave_the_numbers_free():
    ax = drawn("difference", "nine")
    dots = [ax.transData.transform(point) for line in ax.lines for point in zip(*line.get_data(), strict=True)]
    for text in ax.texts:
        box = text.get_window_extent().padded(0.3 * ax.figure.dpi / 72)
        assert not [dot for dot in dots if box.contains(*dot)]
        column, row = text.get_position()
        (x0, y1), (x1, y0) = ax.transData.transform(cell(row, column))
        assert x0 <= text.get_window_extent().x0 < text.get_window_extent().x1 <= x1
        assert y0 <= box.y0 < box.y1 <= y1


def test_the_scale_of_a_difference_is_as_long_on_both_sides():
    ax = drawn("difference", "nine")
    assert ax.images[0].get_clim() == (-0.3, 0.3)
    (bar,) = ax.child_axes
    assert bar.get_ylabel() == "difference of CKA (unbiased)"
    assert ax.get_title("left").startswith("mp against mp_depth \N{MINUS SIGN} sp against sp_depth\n")


def test_a_result_without_intervals_has_no_such_figure():
    nothing = replace(CASES["nine"], low=np.full((9, 9), np.nan), high=np.full((9, 9), np.nan))
    with pytest.raises(DataError, match="expected intervals to draw, found none in any cell"):
        uncertainty_size(nothing)
    silent = replace(CASES["nine"], null=np.full((9, 9), np.nan))
    ax = laid_out(uncertainty, uncertainty_size, silent, "uncertainty", 1.0)
    assert not [text for text in texts(ax.figure) if "chance" in text.get_text()]


def test_same_difference_same_bytes(tmp_path):
    one, two = (save_difference(subtracted("nine"), [tmp_path / f"{turn}.svg"], style="talk")[0] for turn in (1, 2))
    assert one.read_bytes() == two.read_bytes()


def test_a_comparison_of_the_same_models_twice_is_called_by_their_short_names():
    pair = "runs/a_long_way_down/first.safetensors against runs/a_long_way_down/second.safetensors"
    result = replace(subtracted("nine"), first=pair, second=pair)
    figure = Figure(figsize=difference_size(result))
    title = difference(result, axes_in(figure, "difference")).get_title(loc="left")
    assert "first against second" in title
    assert "safetensors" not in title
