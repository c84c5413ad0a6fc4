"""Saving is the same for every figure: its size in print, its styles and venues, its height and its bytes."""

import struct
from dataclasses import dataclass

import numpy as np
import pytest
from helpers.matrices import CASES
from helpers.pages import check_same_bytes, sheet_of, texts
from matplotlib.lines import Line2D

from cka_probe.errors import OutputError, UnknownNameError
from cka_probe.plotting import Heatmap, Profile, check_format, save, style
from cka_probe.plotting.figure import add_legend, panels, width_and_scale


@dataclass(frozen=True)
class Panels:
    """A grid of panels of one shape, with a legend."""

    count: int = 3
    width: float = style.PAGE
    narrowest: float = style.COLUMN
    entries: int = 0

    def draw(self, figure):
        for ax in panels(figure, self.count, most=3, narrowest=2.0, aspect=0.5)[0]:
            ax.plot([0, 1])
        add_legend(figure, [Line2D([], [], label=f"entry number {k}") for k in range(self.entries)])


def png_size(path):
    return struct.unpack(">II", path.read_bytes()[16:24])


@pytest.mark.slow
@pytest.mark.parametrize("look", style.STYLES)
def test_a_style_is_a_size_and_a_number_of_pixels(look, tmp_path):
    (path,) = save(Heatmap(CASES["nine"]), [tmp_path / "figure.png"], style=look)
    chosen = style.STYLES[look]
    assert png_size(path)[0] == pytest.approx(3.5 * chosen.scale * chosen.dpi, abs=1)


def test_pixels_on_request_are_those_of_print(tmp_path):
    paths = [save(Panels(1, 3.5), [tmp_path / f"{look}.png"], dpi=100, style=look)[0] for look in style.STYLES]
    assert [png_size(path)[0] for path in paths] == [350, 1680, 1008]


@pytest.mark.slow
def test_the_height_is_that_of_the_content():
    one, rows = sheet_of(Panels(3)), sheet_of(Panels(6))
    assert one.get_figwidth() == rows.get_figwidth() == style.PAGE
    assert 1.9 < rows.get_figheight() / one.get_figheight() < 2.1
    for sheet in (one, rows):
        boxes = np.array([ax.get_tightbbox().extents for ax in sheet.axes]) / sheet.dpi
        assert boxes[:, 1].min() < 0.1
        assert boxes[:, 3].max() > sheet.get_figheight() - 0.1
    assert sheet_of(Panels(3, entries=9)).get_figheight() > one.get_figheight() + 0.1


@pytest.mark.slow
def test_panels_without_room_stand_below_the_others():
    for width, across in ((7.2, 3), (5.0, 2), (3.5, 1)):
        sheet = sheet_of(Panels(3, width))
        lefts = {round(ax.get_position().x0, 3) for ax in sheet.axes}
        assert len(lefts) == across
        for ax in sheet.axes:
            box = ax.get_window_extent()
            assert box.height / box.width == pytest.approx(0.5, rel=1e-2)


@pytest.mark.parametrize("venue", style.VENUES)
@pytest.mark.parametrize("look", style.STYLES)
@pytest.mark.parametrize("width", [3.5, 4.5, 5.7, 7.2])
def test_a_venue_takes_the_narrower_width_in_which_letters_have_5_points(venue, width, look):
    widths, scale = style.VENUES[venue], style.STYLES[look].scale
    fitting = [wide for wide in sorted((widths.column, widths.page)) if 6 * wide / width >= 5 - 1e-9]
    if fitting:
        laid_out, larger = width_and_scale(Panels(1, width, width), look, venue)
        assert laid_out == width
        assert width * larger == pytest.approx(scale * fitting[0])
    else:
        points = 6 * widths.page / width
        with pytest.raises(OutputError, match=f"letters of {points:.1f} points on the .* page of {venue}, expected at"):
            width_and_scale(Panels(1, width, width), look, venue)


def test_a_figure_that_can_be_narrower_is_arranged_for_the_page():
    width, scale = width_and_scale(Panels(3, 12.0, 3.5), venue="lncs")
    assert width == pytest.approx(122 / 25.4 * 6 / 5)
    assert width * scale == pytest.approx(122 / 25.4)


def test_unknown_styles_and_venues_are_refused_with_those_there_are(tmp_path):
    with pytest.raises(UnknownNameError, match="no style 'papr'; did you mean 'paper'"):
        save(Panels(), [tmp_path / "figure.svg"], style="papr")
    with pytest.raises(UnknownNameError, match="no venue 'cvrp'; did you mean 'cvpr'"):
        save(Panels(), [tmp_path / "figure.svg"], venue="cvrp")
    with pytest.raises(OutputError, match="written as png, pdf, svg; found"):
        check_format("figure.jpg")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["svg", "pdf"])
def test_a_file_is_exactly_as_wide_as_its_venue_and_its_letters_are_real(suffix, tmp_path):
    (path,) = save(Heatmap(CASES["nine"]), [tmp_path / f"figure.{suffix}"], style="talk", venue="lncs")
    width, content = 2.4 * 122 / 25.4 * 72, path.read_bytes()
    if suffix == "svg":
        assert float(content.split(b'width="')[1].split(b"pt")[0]) == pytest.approx(width, abs=0.01)
        assert b"<text" not in content  # letters are outlines: the same on machines without the font
        return
    box = content.split(b"/MediaBox [")[1].split(b"]")[0].split()
    assert float(box[2]) == pytest.approx(width, abs=0.01)
    assert b"/FontFile2" in content
    assert b"/Type3" not in content


@pytest.mark.slow
def test_letters_lines_marks_and_hatching_grow_with_the_style():
    sizes = {}
    for look in style.STYLES:
        sheet = sheet_of(Profile(CASES["undefined"]), look=look)
        ax = sheet.axes[0]
        (line,), (hatched, *_) = ax.lines, [patch for patch in ax.patches if patch.get_hatch()]
        letters = [text.get_fontsize() for text in texts(sheet)]
        strokes = [ax.spines["left"].get_linewidth(), line.get_linewidth(), line.get_markersize()]
        sizes[look] = np.array([*letters, *strokes, 1 / len(hatched.get_hatch())])
    for look, chosen in style.STYLES.items():
        np.testing.assert_allclose(sizes[look][:-1], chosen.scale * sizes["paper"][:-1])
        assert sizes["paper"][-1] / sizes[look][-1] == pytest.approx(round(6 / chosen.scale) / 6)


@pytest.mark.slow
def test_same_bytes_in_every_format_whatever_the_settings(tmp_path):
    check_same_bytes(Heatmap(CASES["undefined"]), tmp_path, ("png", "pdf", "svg"), dpi=50)
