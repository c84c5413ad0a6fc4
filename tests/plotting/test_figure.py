"""A style is how much larger than its design a figure is, a venue how wide; colours are told apart by all readers."""

import struct
from itertools import combinations

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from test_figures import CASES

from cka_probe.errors import OutputError, UnknownNameError
from cka_probe.plotting import FIGURES, SIZES, axes_in, save_drawing, save_figure, style

SEEN_AS = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    "all cones": np.eye(3),
}
"""Linear sRGB as seen at full severity: Machado, Oliveira & Fernandes (2009), A Physiologically-based Model for
Simulation of Color Vision Deficiency, IEEE TVCG 15(6), the table of the matrices for severity 1.0."""
APART = 15.0
"""CIE 1976 distance below which two arms could be mistaken; about 2.3 is just noticed side by side."""


def lab(colours, vision="all cones"):
    """CIE Lab (D65) of sRGB colours (n, 3), as somebody sees them."""
    colours = np.asarray(colours, float)
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ np.array(SEEN_AS[vision]).T, 0, 1)
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    xyz = linear @ np.array(to_xyz).T / (0.95047, 1.0, 1.08883)
    bent = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    x, y, z = bent.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def test_lab_is_that_of_known_colours():
    np.testing.assert_allclose(lab([(1, 1, 1), (0, 0, 0)]), [(100, 0, 0), (0, 0, 0)], atol=0.02)
    np.testing.assert_allclose(lab([(1, 0, 0)]), [(53.24, 80.09, 67.20)], atol=0.05)
    for vision in SEEN_AS:  # what has no colour looks the same to all
        np.testing.assert_allclose(lab([(0.5, 0.5, 0.5)], vision), lab([(0.5, 0.5, 0.5)]), atol=0.05)


def test_who_confuses_red_and_green_does_so_here():
    far, near = (np.linalg.norm(np.diff(lab([(0.8, 0.3, 0.1), (0.45, 0.45, 0.1)], vision), axis=0))
                 for vision in ("all cones", "deuteranopia"))  # fmt: skip
    assert far > 40
    assert near < APART


@pytest.mark.parametrize("vision", SEEN_AS)
def test_arms_are_told_apart(vision):
    seen = lab([to_rgb(colour) for colour in style.ARMS], vision)
    assert min(np.linalg.norm(one - other) for one, other in combinations(seen, 2)) > APART


@pytest.mark.parametrize("vision", SEEN_AS)
@pytest.mark.parametrize("name", [style.COLOURS, style.WIDTHS])
def test_maps_of_one_direction_only_get_lighter_or_darker(name, vision):
    steps = np.diff(lab(matplotlib.colormaps[name](np.linspace(0, 1, 128))[:, :3], vision)[:, 0])
    assert (steps > 0).all() or (steps < 0).all()


@pytest.mark.parametrize("vision", SEEN_AS)
def test_neither_sign_of_a_difference_looks_like_more(vision):
    seen = lab(style.DIVERGING(np.linspace(0, 1, 257))[:, :3], vision)
    lightness = seen[:, 0]
    assert (np.diff(lightness[:129]) > 0).all()
    assert (np.diff(lightness[128:]) < 0).all()
    allowed = 1.0 if vision == "all cones" else 10.0  # to who sees no red, brown is darker
    assert np.abs(lightness - lightness[::-1]).max() < allowed
    assert np.linalg.norm(seen[64] - seen[-65]) > 50
    assert lightness[128] > 95


def drawn(scale_of_letters=6.0, size=(3.5, 2.0), **look):
    """What is drawn on: the size of the figure in inches."""
    sizes = []

    def draw(figure):
        sizes.append(tuple(figure.get_size_inches()))
        figure.text(0.5, 0.5, "letters", fontsize=scale_of_letters * figure.get_figwidth() / size[0])

    return draw, size, sizes, look


@pytest.mark.parametrize(("name", "scale", "pixels"), [("paper", 1, 400), ("talk", 2.4, 200), ("screen", 1.5, 192)])
def test_a_style_is_so_much_larger_with_so_many_pixels(name, scale, pixels, tmp_path):
    draw, size, sizes, _ = drawn()
    (path,) = save_drawing(draw, size, [tmp_path / "figure.png"], style=name)
    np.testing.assert_allclose(sizes[-1], (3.5 * scale, 2.0 * scale))
    np.testing.assert_allclose(png_size(path), (3.5 * scale * pixels, 2.0 * scale * pixels), atol=1)


def png_size(path):
    return struct.unpack(">II", path.read_bytes()[16:24])


def test_pixels_that_are_asked_for_are_those_of_print(tmp_path):
    draw, size, _, _ = drawn()
    paths = [save_drawing(draw, size, [tmp_path / f"{name}.png"], dpi=100, style=name)[0] for name in style.STYLES]
    assert [png_size(path)[0] for path in paths] == [350, 1680, 1008]


@pytest.mark.parametrize("venue", style.VENUES)
@pytest.mark.parametrize("width", [3.5, 4.5, 5.7, 7.2])
@pytest.mark.parametrize("look", style.STYLES)
def test_a_venue_takes_the_narrower_width_in_which_letters_have_5_points(venue, width, look):
    widths, scale = style.VENUES[venue], style.STYLES[look].scale
    fitting = [wide for wide in sorted((widths.column, widths.page)) if 6 * wide / width >= 5]
    if fitting:
        assert width * style.scale_for(width, 6, look, venue) == pytest.approx(scale * fitting[0])
    else:
        with pytest.raises(
            OutputError, match=f"letters of {6 * widths.page / width:.1f} points on the .* page of {venue}"
        ):
            style.scale_for(width, 6, look, venue)


@pytest.mark.parametrize("venue", style.VENUES)
@pytest.mark.parametrize("look", style.STYLES)
def test_letters_of_a_talk_have_12_points_at_every_venue(venue, look):
    least = {"paper": 5, "talk": 12, "screen": 7.5}[look]
    assert 6 * style.scale_for(3.5, 6, look, venue) >= least
    assert 6 * style.scale_for(3.5, 6, look) >= least


def test_letters_are_measured_and_not_supposed(tmp_path):
    draw, size, sizes, _ = drawn(scale_of_letters=8, size=(10, 2))
    save_drawing(draw, size, [tmp_path / "figure.svg"], venue="ieee")
    assert sizes[-1][0] == pytest.approx(7.16)
    draw, size, sizes, _ = drawn(scale_of_letters=6, size=(10, 2))
    with pytest.raises(OutputError, match=r"4\.3 points on the 7\.16 inches of a page of ieee"):
        save_drawing(draw, size, [tmp_path / "other.svg"], venue="ieee")
    assert not (tmp_path / "other.svg").exists()


def test_unknown_looks_are_told_those_there_are(tmp_path):
    draw, size, _, _ = drawn()
    with pytest.raises(UnknownNameError, match="no style 'papr'; did you mean 'paper'"):
        save_drawing(draw, size, [tmp_path / "figure.svg"], style="papr")
    with pytest.raises(UnknownNameError, match="no venue 'cvrp'; did you mean 'cvpr'"):
        save_drawing(draw, size, [tmp_path / "figure.svg"], venue="cvrp")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["heatmap", "uncertainty"])
def test_a_figure_is_exactly_as_wide_as_its_venue_says_and_its_letters_are_real(name, tmp_path):
    paths = [tmp_path / f"{name}.{suffix}" for suffix in ("svg", "pdf")]
    save_figure(CASES["nine"], name, paths, style="talk", venue="lncs")
    width = 2.4 * 122 / 25.4 * 72
    head = paths[0].read_text()[:2000]
    assert float(head.split('width="')[1].split("pt")[0]) == pytest.approx(width, abs=0.01)
    assert "<text" not in paths[0].read_text()  # letters are outlines: the same on machines without the font
    found = paths[1].read_bytes()
    assert b"/FontFile2" in found
    assert b"/Type3" not in found
    box = found.split(b"/MediaBox [")[1].split(b"]")[0].split()
    assert float(box[2]) == pytest.approx(width, abs=0.01)


def test_hatching_has_as_many_lines_on_a_slide(tmp_path):
    lines = []

    def draw(figure):
        lines.append(figure.add_artist(Rectangle((0, 0), 1, 1, **style.UNDEFINED)))

    for look in ("paper", "talk"):
        save_drawing(draw, (3.5, 2.0), [tmp_path / "figure.svg"], style=look)
    paper, talk = (len(patch.get_hatch()) for patch in lines)
    assert paper == len(style.UNDEFINED["hatch"])
    assert talk == round(paper / 2.4)


def test_same_bytes_in_every_style(tmp_path):
    for look in style.STYLES:
        first, second = (save_figure(CASES["undefined"], "heatmap", [tmp_path / f"{turn}.svg"], style=look)[0]
                         for turn in (1, 2))  # fmt: skip
        assert first.read_bytes() == second.read_bytes()


def test_every_text_grows_alike(tmp_path):
    sizes = {}
    for look in style.STYLES:

        def draw(figure, look=look):
            FIGURES["heatmap"](CASES["nine"], axes_in(figure, "heatmap"))
            sizes[look] = [text.get_fontsize() for text in figure.findobj(Text) if text.get_text()]

        save_drawing(draw, SIZES["heatmap"](CASES["nine"]), [tmp_path / "figure.svg"], style=look)
    for look in style.STYLES:
        np.testing.assert_allclose(sizes[look], style.STYLES[look].scale * np.array(sizes["paper"]))


def test_lines_and_marks_of_a_profile_grow_with_its_letters(tmp_path):
    seen = {}
    for look in style.STYLES:

        def draw(figure, look=look):
            ax = FIGURES["profile"](CASES["nine"], axes_in(figure, "profile"))
            (line,), legend = ax.lines, ax.get_legend().legend_handles[0]
            seen[look] = [ax.spines["left"].get_linewidth(), ax.collections[0].get_linewidths()[0]]
            for drawn in (line, legend):
                seen[look] += [drawn.get_linewidth(), drawn.get_markersize(), drawn.get_markeredgewidth()]

        save_drawing(draw, SIZES["profile"](CASES["nine"]), [tmp_path / "figure.svg"], style=look)
    for look, chosen in style.STYLES.items():
        np.testing.assert_allclose(seen[look], chosen.scale * np.array(seen["paper"]))
