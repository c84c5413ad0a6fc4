"""Figures show what stands in the result: each layer in its place, nothing cut off, nothing hidden, same bytes."""

import subprocess
import sys
from dataclasses import replace
from functools import cache
from itertools import pairwise

import matplotlib
import numpy as np
import pytest
import typer
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle, StepPatch
from matplotlib.text import Text
from typer.testing import CliRunner

from cka_probe.comparison.results import Axis, Side, SimilarityMatrix
from cka_probe.errors import DataError, OutputError, UnknownNameError
from cka_probe.plotting import FIGURES, SIZES, WHOLE, axes_in, figures_for, labels, new_axes, save_figure, style

NINE = [
    "layers.0.downsample.norm",
    "layers.1.downsample.norm",
    *(f"layers.2.blocks.{block}.norm1" for block in (3, 6, 9, 12, 15)),
    "layers.2.downsample.norm",
    "norm3",
]
TEN = ["maxpool", *(f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)), "fc"]
MANY = [f"layers.{block // 20}.blocks.{block % 20}.norm1" for block in range(61)]
LONG = [f"module.backbone.encoder.transformer.layers.{layer}.attention.self.output_projection" for layer in range(9)]
LONG_FILE = "checkpoint_epoch_0100_swin_v2_large_simmim_window_30_nyu.pth.tar"


def made(rows, columns, *, undefined=(), shift=0.0, x="checkpoints/pretrained.pth", y="fine$tuned$.ckpt"):
    """A result whose value at (i, j) falls with |i - j| and with depth, different in every cell."""
    i, j = np.indices((len(rows), len(columns)))
    values = 0.96 - 0.8 * np.abs(i / len(rows) - j / len(columns)) - 0.01 * i / len(rows) - shift
    values[list(undefined)] = np.nan
    null = np.where(np.isnan(values), np.nan, 0.07 + 0.01 * np.cos(i))
    return SimilarityMatrix(
        values=values,
        low=values - 0.03,
        high=values + 0.03,
        null=null,
        p_values=np.full(values.shape, 0.01),
        rows=tuple(Axis(name, name, 1.0, "does not vary" if k in undefined else "") for k, name in enumerate(rows)),
        columns=tuple(Axis(name, name, 1.0) for name in columns),
        terms={},
        num_examples=64,
        x=Side(x, "swinv2_micro", "0", {}),
        y=Side(y, "swinv2_micro", "1", {}),
        images={"hash": "2", "source": "scenes"},
        settings={"measure": "cka", "estimator": "unbiased"},
        versions={},
    )


CASES = {
    "nine": made(NINE, NINE),
    "undefined": made(NINE, NINE, undefined=(2, 8)),
    "nothing defined": made(NINE, NINE, undefined=range(9)),
    "negative": made(NINE, NINE, shift=1.2),
    "many": made(MANY, MANY, undefined=(7,)),
    "rectangle": made(NINE, TEN),
    "strip": made(NINE, MANY),
    "column": made(MANY, TEN, undefined=(7,)),
    "twelve": made(MANY[:12], MANY[:12]),
    "one": made(["fc"], ["fc"]),
    "long names": made(LONG, LONG, x=f"first/{LONG_FILE}", y=f"second/{LONG_FILE}"),
    "long names of both": made(LONG, LONG[::-1], x=f"first/{LONG_FILE}", y=f"second/{LONG_FILE}"),
}
DRAWN = [(name, case) for case, result in CASES.items() for name in figures_for(result) if name not in WHOLE]


def drawn(name, result, **options):
    """The figure laid out as in a file, and its axes."""
    with matplotlib.style.context(["default", style.FILE_STYLE]):
        figure = Figure(figsize=SIZES[name](result), layout="compressed")
        ax = FIGURES[name](result, axes_in(figure, name), **options)
        figure.draw_without_rendering()
    return ax


@cache
def laid_out(name, case):
    """The same, once for all the tests that only look at it."""
    return drawn(name, CASES[case])


def texts(artist):
    return [text for text in artist.findobj(Text) if text.get_text() and text.get_visible()]


@pytest.mark.parametrize(("name", "case"), DRAWN)
def test_nothing_is_cut_off_or_too_small(name, case):
    figure = laid_out(name, case).figure
    width, height = figure.bbox.size
    for text in texts(figure):
        box = text.get_window_extent()
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= width, text
        assert box.y1 <= height, text
        assert text.get_fontsize() >= 6, text


@pytest.mark.parametrize(("name", "case"), DRAWN)
def test_labels_of_an_axis_do_not_touch(name, case):
    ax = laid_out(name, case)
    for axis, across in ((ax.xaxis, "x"), (ax.yaxis, "y")):
        boxes = [label.get_window_extent() for label in axis.get_ticklabels()]
        ends = sorted((getattr(box, f"{across}0"), getattr(box, f"{across}1")) for box in boxes)
        assert all(first[1] <= second[0] for first, second in pairwise(ends))


@pytest.mark.parametrize(("name", "case"), DRAWN)
def test_what_stands_above_the_axes_does_not_overlap(name, case):
    ax = laid_out(name, case)
    (title,) = (
        text for text in ax.get_children() if isinstance(text, Text) and text.get_text() == ax.get_title("left")
    )
    for text in ax.get_legend().get_texts() if ax.get_legend() else ():
        assert not text.get_window_extent().overlaps(title.get_window_extent())


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_draws_on_its_axes_and_leaves_the_rest_alone(name):
    before = dict(matplotlib.rcParams)
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    ax, other = figure.subplots(1, 2)
    assert FIGURES[name](CASES["undefined"], ax) is ax
    figure.draw_without_rendering()
    assert not other.has_data()
    assert figure.axes == [ax, other]
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("name", FIGURES)
def test_letters_grow_with_the_axes(name):
    width, height = SIZES[name](CASES["nine"])
    ax = axes_in(Figure(figsize=(1.6 * width, 1.6 * height)), name)
    FIGURES[name](CASES["nine"], ax)
    assert min(text.get_fontsize() for text in texts(ax)) == pytest.approx(9.6)


def test_every_figure_has_a_size():
    assert list(FIGURES) == list(SIZES)
    for name, case in DRAWN:
        width, height = SIZES[name](CASES[case])
        assert 3.3 <= width <= 7.5
        assert 1.5 <= height <= 7.5
    for name, case in (("heatmap", "nine"), ("heatmap", "rectangle"), ("profile", "many")):
        assert SIZES[name](CASES[case])[0] == 3.5


@pytest.mark.parametrize("name", FIGURES)
def test_new_axes_are_those_of_a_figure_that_shows_itself(name):
    import matplotlib.pyplot as plt

    ax = new_axes(name, CASES["nine"])
    try:
        assert plt.fignum_exists(ax.figure.number)
        assert ax.figure.get_layout_engine() is not None
        np.testing.assert_allclose(ax.figure.get_size_inches(), SIZES[name](CASES["nine"]))
    finally:
        plt.close(ax.figure)


def test_result_draws_itself():
    import matplotlib.pyplot as plt

    ax = CASES["nine"].heatmap()
    assert ax.images
    plt.close(ax.figure)


def test_importing_figures_chooses_no_backend():
    code = "import cka_probe.plotting, sys; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# The heatmap


def test_heatmap_shows_every_cell_from_the_top_left_on_a_scale_from_0_to_1():
    result = CASES["rectangle"]
    ax = drawn("heatmap", result)
    (image,) = ax.images
    np.testing.assert_array_equal(image.get_array(), result.values)
    assert image.get_clim() == (0, 1)
    first, last = ax.transData.transform([(0, 0), (9, 8)])
    assert first[0] < last[0]
    assert first[1] > last[1]  # pixels count upward
    across, down = np.abs(last - first) / (9, 8)
    assert across == pytest.approx(down)


def test_lighter_is_more_similar():
    grey = matplotlib.colormaps[style.COLOURS](np.linspace(0, 1, 256))[:, :3] @ (0.299, 0.587, 0.114)
    assert (np.diff(grey) > 0).all()


def test_heatmap_numbers_stand_in_their_cells_and_can_be_read():
    result = CASES["rectangle"]
    ax = drawn("heatmap", result)
    assert len(ax.texts) == 90
    for text in ax.texts:
        column, row = text.get_position()
        assert float(text.get_text()) == pytest.approx(result.values[row, column], abs=0.0051)
        behind = matplotlib.colormaps[style.COLOURS](result.values[row, column])
        assert contrast(matplotlib.colors.to_rgb(text.get_color()), behind[:3]) > 4.5
        box, ((x0, y1), (x1, y0)) = text.get_window_extent(), ax.transData.transform(cell(row, column))
        assert x0 <= box.x0 < box.x1 <= x1
        assert y0 <= box.y0 < box.y1 <= y1


def cell(row, column):
    return [(column - 0.5, row - 0.5), (column + 0.5, row + 0.5)]


def contrast(one, other):
    """The contrast ratio of the web content accessibility guidelines."""
    linear = [
        np.where(np.array(c) <= 0.04045, np.array(c) / 12.92, ((np.array(c) + 0.055) / 1.055) ** 2.4)
        for c in (one, other)
    ]
    dark, light = sorted(float(c @ (0.2126, 0.7152, 0.0722)) for c in linear)
    return (light + 0.05) / (dark + 0.05)


def test_heatmap_writes_numbers_when_there_is_room_or_it_is_asked_to():
    assert len(drawn("heatmap", CASES["twelve"]).texts) == 144
    assert not [text for text in drawn("heatmap", CASES["many"]).texts if "." in text.get_text()[:1]]
    assert not drawn("heatmap", CASES["nine"], annotate=False).texts


def test_negative_values_have_the_colour_of_0_and_their_own_number():
    result = CASES["negative"]
    ax = drawn("heatmap", result)
    (image,) = ax.images
    assert result.values.max() < 0
    assert {tuple(colour) for colour in image.to_rgba(image.get_array()).reshape(-1, 4)} == {image.cmap(0.0)}
    assert ax.texts[0].get_text() == "\N{MINUS SIGN}.24"


@pytest.mark.parametrize("case", ["nine", "undefined", "nothing defined", "many"])
def test_exactly_the_undefined_cells_are_hatched_and_said_to_be(case):
    result = CASES[case]
    ax = drawn("heatmap", result)
    hatched = {patch.get_xy() for patch in ax.patches if isinstance(patch, Rectangle) and patch.get_hatch()}
    assert hatched == {(column - 0.5, row - 0.5) for row, column in np.argwhere(np.isnan(result.values))}
    assert (ax.get_legend() is not None) == bool(hatched)
    if hatched:
        assert [text.get_text() for text in ax.get_legend().get_texts()] == ["undefined"]


def test_heatmap_names_layers_models_measure_and_images():
    ax = drawn("heatmap", CASES["nine"])
    rows = [label.get_text() for label in ax.get_yticklabels()]
    assert rows[0] == "0.downsample.norm  0"
    assert rows[6] == "2.blocks.15.norm1  6"
    assert rows[8] == "norm3  8"
    assert [label.get_text() for label in ax.get_xticklabels()] == list("012345678")
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("pretrained", "fine$tuned$")
    assert ax.get_title(loc="left") == "n = 64 images"
    (bar,) = ax.child_axes
    assert bar.get_ylabel() == "CKA (unbiased)"


def test_heatmap_names_the_columns_where_they_are_other_layers():
    ax = drawn("heatmap", CASES["rectangle"])
    assert [label.get_text() for label in ax.get_xticklabels()] == [f"{name}  {k}" for k, name in enumerate(TEN)]


def test_thinned_labels_stay_with_their_layers():
    ax = drawn("heatmap", CASES["many"])
    for position, label in zip(ax.get_yticks(), ax.get_yticklabels(), strict=True):
        name, index = label.get_text().split("  ")
        assert int(index) == position
        assert f"layers.{name}" == MANY[position]
    assert list(ax.get_xticks()) == [int(label.get_text()) for label in ax.get_xticklabels()]


# The profile


def test_profile_draws_the_diagonal_its_intervals_and_chance():
    result = CASES["undefined"]
    ax = drawn("profile", result)
    (line,) = ax.lines
    np.testing.assert_array_equal(line.get_xdata(), range(9))
    np.testing.assert_array_equal(line.get_ydata(), np.diagonal(result.values))
    (bars,) = [artist for artist in ax.collections if isinstance(artist, LineCollection)]
    ends = np.array([segment[:, 1] for segment in bars.get_segments() if len(segment)])
    known = np.isfinite(np.diagonal(result.values))
    np.testing.assert_array_equal(ends, np.stack([np.diagonal(result.low), np.diagonal(result.high)], 1)[known])
    (chance,) = [patch for patch in ax.patches if isinstance(patch, StepPatch)]
    np.testing.assert_array_equal(chance.get_data().values, np.diagonal(result.null))


def test_profile_hatches_exactly_the_undefined_layers():
    ax = drawn("profile", CASES["undefined"])
    assert {patch.get_x() + 0.5 for patch in ax.patches if patch.get_hatch()} == {2, 8}
    entries = [text.get_text() for text in ax.get_legend().get_texts()]
    assert entries == ["95 % interval", "chance, 95 % quantile", "undefined"]


def test_profile_names_layers_models_measure_and_images():
    ax = drawn("profile", CASES["nine"])
    assert ax.get_xticklabels()[1].get_text() == "1.downsample.norm  1"
    assert ax.get_title(loc="left") == "pretrained and fine$tuned$"
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("CKA (unbiased)", "layer (n = 64 images)")


def test_profile_without_permutations_says_nothing_of_chance():
    result = replace(CASES["nine"], null=np.full((9, 9), np.nan))
    assert [text.get_text() for text in drawn("profile", result).get_legend().get_texts()] == ["95 % interval"]


def test_profile_shows_0_to_1_and_goes_below_0_where_values_do():
    assert drawn("profile", CASES["nine"]).get_ylim() == (0, 1)
    assert drawn("profile", CASES["negative"]).get_ylim() == (-0.3, 1)


def test_profile_refuses_a_rectangle_in_one_line():
    with pytest.raises(
        DataError, match=r"^a profile is the diagonal .* found 9 layers of x and 10 of y; draw the heat"
    ):
        FIGURES["profile"](CASES["rectangle"], Figure().add_subplot())
    assert figures_for(CASES["rectangle"]) == ["heatmap", "uncertainty"]
    assert figures_for(CASES["nine"]) == ["heatmap", "profile", "uncertainty"]


# Names


@pytest.mark.parametrize("names", [NINE, TEN, MANY, LONG, ["fc"], ["a.b", "b"], ["1.0", "1.1"]])
@pytest.mark.parametrize("room", [4, 8, 12, 40])
def test_short_names_fit(names, room):
    short = labels.short_names(names, room)
    assert len(short) == len(names)
    assert max(map(labels.width, short)) <= room
    if room >= 8:
        assert len(set(short)) == len(names)


def test_models_of_one_file_name_are_told_apart():
    assert labels.model_names(made(NINE, NINE, x="a/last.pth", y="b\\last.pth"), 18) == ("a/last", "b/last")
    assert labels.model_names(made(NINE, NINE, x="timm:vit_b.in1k", y="x/w.pth.tar"), 18) == ("timm:vit_b.in1k", "w")
    first, second = labels.model_names(CASES["long names"], 18)
    assert first.startswith("first/")
    assert second.startswith("second/")
    assert first.endswith("nyu")


# Files


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
@pytest.mark.parametrize("name", FIGURES)
def test_same_result_same_bytes_whatever_the_settings(name, suffix, tmp_path):
    before = dict(matplotlib.rcParams)
    (first,) = save_figure(CASES["undefined"], name, [tmp_path / f"first.{suffix}"])
    assert dict(matplotlib.rcParams) == before
    with matplotlib.style.context("dark_background"):
        (second,) = save_figure(CASES["undefined"], name, [tmp_path / "folder" / f"second.{suffix}"])
    assert first.read_bytes() == second.read_bytes()
    assert b"Date" not in first.read_bytes()


def test_letters_in_a_pdf_are_truetype(tmp_path):
    (path,) = save_figure(CASES["nine"], "heatmap", [tmp_path / "heatmap.pdf"])
    assert b"/Type3" not in path.read_bytes()
    assert b"/FontFile2" in path.read_bytes()


def test_what_cannot_be_drawn_is_said_and_leaves_no_file(tmp_path):
    with pytest.raises(OutputError, match=r"written as png, pdf, svg; found 'heatmap.jpg'"):
        save_figure(CASES["nine"], "heatmap", [tmp_path / "heatmap.png", tmp_path / "heatmap.jpg"])
    with pytest.raises(UnknownNameError, match="no figure 'heatmp'; did you mean 'heatmap'"):
        save_figure(CASES["nine"], "heatmp", [tmp_path / "heatmap.png"])
    with pytest.raises(DataError, match="a profile is"):
        save_figure(CASES["rectangle"], "profile", [tmp_path / "profile.png"])
    assert not list(tmp_path.iterdir())


@pytest.fixture
def app():
    from ckaprobe_cli.draw import draw

    app = typer.Typer()
    app.command()(draw)
    return app


def test_draw_redraws_beside_the_result_and_prints_what_it_wrote(app, tmp_path):
    result = CASES["undefined"].save(tmp_path / "result.json")
    ran = CliRunner().invoke(app, [str(result)])
    names = [f"{name}.{suffix}" for name in ("heatmap", "profile", "uncertainty") for suffix in ("png", "pdf")]
    assert ran.stdout.split() == [str(tmp_path / name) for name in names]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, "result.json"])
    out = tmp_path / "elsewhere"
    ran = CliRunner().invoke(app, [str(result), "--figure", "profile", "--format", "svg", "--out", str(out)])
    assert ran.stdout.split() == [str(out / "profile.svg")]


def test_draw_draws_only_what_applies(app, tmp_path):
    result = CASES["rectangle"].save(tmp_path / "result.json")
    ran = CliRunner().invoke(app, [str(result), "--format", "png"])
    assert ran.stdout.split() == [str(tmp_path / "heatmap.png"), str(tmp_path / "uncertainty.png")]
    ran = CliRunner().invoke(app, [str(result), "--figure", "profile"])
    assert isinstance(ran.exception, DataError)
