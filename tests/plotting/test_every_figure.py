"""What holds of every figure: at every size all of it is legible, and its files are what journals and diffs ask for."""

import importlib
import inspect
import os
import pkgutil

import matplotlib
import numpy as np
import pytest
from helpers.every_figure import DRAWABLE, cams
from helpers.pages import hidden_labels
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from cka_probe import plotting
from cka_probe.errors import OutputError
from cka_probe.plotting import style
from cka_probe.plotting.cam_panel import save_cam_panel
from cka_probe.plotting.panel_grid import columns

LEAST = style.LEAST  # points
STRAINED = [(name, what) for name, figure in DRAWABLE.items() for what in figure.strained]
PLANNED = [name for name, figure in DRAWABLE.items() if "page" in inspect.signature(figure.size).parameters]
"""Figures that are arranged for a page's width; the others have a column of print."""
OVERLAID: dict[str, str] = {}
"""Figures of which words may lie over each other, and why."""


def laid_out(name, thing, scale=1.0):
    """A figure as `save` lays it out, `scale` times its design, and what it returned."""
    figure = DRAWABLE[name]
    width, height = figure.size(thing)
    with matplotlib.style.context(["default", style.FILE_STYLE]):
        page = plotting._figure((width, height), scale)
        page.set_dpi(200)  # widths of letters are rounded to pixels
        ax = figure.axes(page)
        returned = figure.draw(thing, ax)
        page.draw_without_rendering()
    return page, ax, returned


def written(page):
    """Everything that is written on a page and seen."""
    hidden = {id(label) for ax in page.findobj(Axes) for label in hidden_labels(ax)}
    texts = {id(text): text for text in page.findobj(Text) if text.get_visible() and text.get_text().strip()}
    return [text for number, text in texts.items() if number not in hidden and seen(text)]


def seen(text):
    """Whether nothing that a text is part of is hidden."""
    return text.axes is None or (text.axes.get_visible() and (text.axes.axison or not is_label(text)))


def is_label(text):
    axes = text.axes
    return any(text in (*axis.get_ticklabels(which="both"), axis.label) for axis in (axes.xaxis, axes.yaxis))


def smallest(name, thing):
    """The least scale at which no letter is smaller than journals take."""
    figure = DRAWABLE[name]
    with matplotlib.style.context(["default", style.FILE_STYLE]):
        page = plotting._figure(figure.size(thing))
        figure.draw(thing, figure.axes(page))
        return LEAST / min(text.get_fontsize() for text in page.findobj(Text) if text.get_visible() and text.get_text())


def check_legible(name, page):
    texts = written(page)
    width, height = page.bbox.size
    tolerance = 0.4 * page.dpi / 72  # points that letters have empty around them
    boxes = np.array([text.get_window_extent().padded(-tolerance).extents for text in texts])
    assert min(text.get_fontsize() for text in texts) >= LEAST - 1e-6
    for text, (left, bottom, right, top) in zip(texts, boxes, strict=True):
        assert 0 <= left <= right <= width, f"{text} is cut at the side"
        assert 0 <= bottom <= top <= height, f"{text} is cut above or below"
    over = (boxes[:, None, :2] < boxes[None, :, 2:]).all(-1)
    touching = [(str(texts[i]), str(texts[j])) for i, j in np.argwhere(over & over.T) if i < j]
    assert name in OVERLAID or not touching


@pytest.mark.parametrize("name", DRAWABLE)
def test_it_is_legible_at_three_sizes_and_draws_on_the_axes_it_is_given(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Figure, "savefig", lambda *_, **__: pytest.fail("it saves"))
    monkeypatch.setattr(Figure, "show", lambda *_, **__: pytest.fail("it shows"))
    usual, before = DRAWABLE[name].usual, dict(matplotlib.rcParams)
    for scale in (1.0, 1.6, smallest(name, usual)):
        page, ax, returned = laid_out(name, usual, scale)
        assert returned is ax
        check_legible(name, page)
    assert dict(matplotlib.rcParams) == before
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize(("name", "what"), STRAINED)
def test_what_is_hard_to_draw_is_legible_as_small_as_its_letters_allow(name, what):
    thing = DRAWABLE[name].strained[what]
    check_legible(name, laid_out(name, thing, smallest(name, thing))[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", DRAWABLE)
def test_the_styles_are_its_design_at_other_scales(name, tmp_path, monkeypatch):
    figure, pages = DRAWABLE[name], []
    monkeypatch.setattr(Figure, "savefig", lambda page, path, **_: pages.append(page) or path.touch())
    for look, chosen in style.STYLES.items():
        figure.save(figure.usual, [tmp_path / f"{look}.svg"], style=look)
        np.testing.assert_allclose(pages[-1].get_size_inches(), chosen.scale * np.array(figure.size(figure.usual)))
        pages[-1].draw_without_rendering()
        letters = min(text.get_fontsize() for text in written(pages[-1]))
        assert letters >= 0.9 * chosen.scale * style.LETTERS


def at_venue(name, thing, venue, folder, monkeypatch):
    """A figure as `save` lays it out for a venue."""
    pages = []
    monkeypatch.setattr(Figure, "savefig", lambda page, path, **_: pages.append(page) or path.touch())
    DRAWABLE[name].save(thing, [folder / "figure.svg"], venue=venue)
    with matplotlib.style.context(["default", style.FILE_STYLE]):
        pages[0].set_dpi(200)
        pages[0].draw_without_rendering()
    return pages[0]


@pytest.mark.slow
@pytest.mark.parametrize("venue", style.VENUES)
@pytest.mark.parametrize("name", DRAWABLE)
def test_it_is_as_wide_as_a_column_or_a_page_of_every_venue_and_legible(name, venue, tmp_path, monkeypatch):
    page = at_venue(name, DRAWABLE[name].usual, venue, tmp_path, monkeypatch)
    widths = style.VENUES[venue]
    assert min(abs(page.get_figwidth() - width) for width in (widths.column, widths.page)) < 1e-9
    check_legible(name, page)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "what"), STRAINED)
def test_what_is_hard_to_draw_is_legible_on_the_narrowest_page(name, what, tmp_path, monkeypatch):
    page = at_venue(name, DRAWABLE[name].strained[what], "lncs", tmp_path, monkeypatch)
    assert page.get_figwidth() == pytest.approx(style.VENUES["lncs"].page)
    check_legible(name, page)


@pytest.mark.parametrize("name", PLANNED)
def test_a_narrow_page_changes_its_arrangement_and_a_wide_one_does_not(name):
    figure = DRAWABLE[name]
    usual = figure.size(figure.usual)
    assert figure.size(figure.usual, page=100.0) == usual
    assert figure.size(figure.usual, page=max(usual[0], style.PAGE)) == usual
    for venue in style.VENUES:
        page = style.page_for(venue)
        width, height = figure.size(figure.usual, page=page)
        letters = width / min(page, style.PAGE) if name == "contact_sheet" else 1.0  # its letters grow with it
        assert width / letters <= page + 1e-9
        assert height > 0


@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize("models", [1, 2, 3, 7, 12])
@pytest.mark.parametrize("venue", style.VENUES)
def test_models_without_room_beside_the_others_stand_below_them_in_equal_bands(venue, models, parts):
    names, page = [f"model {number}" for number in range(models)], style.page_for(venue)
    places = columns(names, parts, page)
    assert [name for band in places.bands for name in band] == names
    assert places.width <= page + 1e-9
    assert places.panel >= 0.6
    assert len(places.lefts) == 2 + len(places.bands[0]) * parts
    assert len(columns(names, parts).bands) == 1  # without a venue the page is as wide as they need


def test_more_images_than_a_page_has_room_for_are_refused_in_one_line(tmp_path):
    with pytest.raises(OutputError, match=r"letters of 3\.7 points on the 4\.8 inches of a page of lncs") as refusal:
        save_cam_panel(cams(9), [tmp_path / "figure.svg"], venue="lncs")
    assert "\n" not in str(refusal.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("name", DRAWABLE)
def test_files_are_the_same_twice_and_have_fonts_that_journals_take(name, tmp_path, monkeypatch):
    savefig = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda *where, **how: savefig(*where, **how | {"dpi": 50}))  # in time
    figure, before = DRAWABLE[name], dict(matplotlib.rcParams)
    for suffix in ("png", "pdf", "svg"):
        (first,) = figure.save(figure.usual, [tmp_path / f"first.{suffix}"])
        with matplotlib.style.context("dark_background"):
            (second,) = figure.save(figure.usual, [tmp_path / f"second.{suffix}"])
        assert first.read_bytes() == second.read_bytes()
    pdf = (tmp_path / "first.pdf").read_bytes()
    assert b"/Type3" not in pdf
    assert b"/FontFile2" in pdf  # TrueType, embedded
    assert dict(matplotlib.rcParams) == before


def test_every_figure_of_the_package_is_here():
    found = set()
    for module in pkgutil.iter_modules(plotting.__path__):
        there = vars(importlib.import_module(f"cka_probe.plotting.{module.name}"))
        for name, thing in there.items():
            public = inspect.isfunction(thing) and not name.startswith("_") and f"{name}_size" in there
            if public and "ax" in inspect.signature(thing).parameters:
                found.add(name)
    assert found == set(DRAWABLE)
