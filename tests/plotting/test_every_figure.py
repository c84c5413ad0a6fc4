"""What holds of every figure: at every size all of it is legible, and its files are what journals and diffs ask for."""

import importlib
import inspect
import os
import pkgutil
from functools import cache

import matplotlib
import pytest
from helpers.every_figure import FIGURES, STRAINED
from helpers.pages import check_legible, check_same_bytes, sheet_of
from matplotlib.figure import Figure

from cka_probe import plotting
from cka_probe.errors import OutputError
from cka_probe.plotting import style
from cka_probe.plotting.figure import save, show, width_and_scale

LOOKS = [(name, ("talk", "screen")[number % 2]) for number, name in enumerate(FIGURES)]
VENUES = [(name, ("acl", "nature", "neurips")[number % 3]) for number, name in enumerate(FIGURES)]
"""Every figure in one of the other styles and for one of the venues of each kind: the code of sizes is shared."""
HARD = [(name, what) for name, figures in STRAINED.items() for what in figures]
LOOKED_AT = ("layer_grid", "contact_sheet", "depth_panel", "label_panel")
"""Kinds of figures whose own tests look at what is hard in them."""
HARD_IN_PRINT = [case for case in HARD if case[0] not in LOOKED_AT]
FORMATS = [(name, ("png", "svg")[number % 2]) for number, name in enumerate(FIGURES)]
NARROW = style.VENUES["lncs"].page * style.SMALL / style.SMALLEST
"""Inches of print on the narrowest page with the smallest letters. What is no wider is only drawn smaller there."""
NARROWED = [(name, what) for name, what in HARD if STRAINED[name][what].width > NARROW]


@cache
def paper(name):
    """A figure as it is laid out for print, which several tests look at."""
    return sheet_of(FIGURES[name])


@pytest.mark.parametrize("name", FIGURES)
def test_it_is_legible_and_touches_neither_files_nor_settings(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Figure, "savefig", lambda *_, **__: pytest.fail("it saves"))
    before = dict(matplotlib.rcParams)
    check_legible(paper(name), least=style.SMALL)
    assert dict(matplotlib.rcParams) == before
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize(("name", "what"), HARD_IN_PRINT)
def test_what_is_hard_to_draw_is_legible(name, what):
    check_legible(sheet_of(STRAINED[name][what]), least=style.SMALL)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "look"), LOOKS)
def test_a_style_is_the_figure_of_print_at_another_scale(name, look):
    scale = style.STYLES[look].scale
    sheet = sheet_of(FIGURES[name], look=look)
    assert sheet.get_figwidth() == pytest.approx(scale * FIGURES[name].width)
    # widths of letters are whole pixels, and what they leave to a panel decides its height
    assert sheet.get_figheight() == pytest.approx(scale * paper(name).get_figheight(), rel=0.015)
    check_legible(sheet, least=scale * style.SMALL)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "venue"), VENUES)
def test_it_is_as_wide_as_a_column_or_a_page_of_a_venue_and_legible(name, venue):
    sheet, widths = sheet_of(FIGURES[name], venue=venue), style.VENUES[venue]
    assert min(abs(sheet.get_figwidth() - width) for width in (widths.column, widths.page)) < 1e-9
    check_legible(sheet)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "what"), NARROWED)
def test_what_is_hard_to_draw_is_legible_on_the_narrowest_page_or_refused(name, what):
    figure, page = STRAINED[name][what], style.VENUES["lncs"].page
    if figure.narrowest > NARROW + 1e-9:
        with pytest.raises(OutputError, match="expected at least 5; choose another venue"):
            width_and_scale(figure, venue="lncs")
        return
    sheet = sheet_of(figure, venue="lncs")
    assert sheet.get_figwidth() == pytest.approx(page)
    check_legible(sheet)


@pytest.mark.parametrize("name", FIGURES)
def test_it_is_as_narrow_as_it_says(name):
    figure = FIGURES[name]
    assert 3.0 <= figure.narrowest <= figure.width <= 12.0


@pytest.mark.slow
@pytest.mark.parametrize(("name", "suffix"), FORMATS)
def test_files_are_the_same_twice_and_have_fonts_that_journals_take(name, suffix, tmp_path):
    check_same_bytes(FIGURES[name], tmp_path, ("pdf", suffix), dpi=50)
    pdf = (tmp_path / "first.pdf").read_bytes()
    assert b"/Type3" not in pdf
    assert b"/FontFile2" in pdf  # TrueType, embedded
    assert b"Date" not in pdf


def test_a_notebook_shows_a_figure(tmp_path):
    import matplotlib.pyplot as plt

    sheet = show(FIGURES["heatmap"])
    try:
        assert plt.fignum_exists(sheet.number)
        assert sheet.get_figwidth() == FIGURES["heatmap"].width
    finally:
        plt.close(sheet)


def test_every_figure_of_the_package_is_here():
    classes = set()
    for module in pkgutil.iter_modules(plotting.__path__):
        for thing in vars(importlib.import_module(f"cka_probe.plotting.{module.name}")).values():
            if inspect.isclass(thing) and {"draw", "width", "narrowest"} <= set(dir(thing)):
                classes.add(thing)
    assert classes - {plotting.Figure} == {type(figure) for figure in FIGURES.values()}


def test_what_cannot_be_written_is_refused_in_one_line_and_leaves_no_file(tmp_path):
    with pytest.raises(OutputError, match=r"written as png, pdf, svg; found 'heatmap.jpg'"):
        save(FIGURES["heatmap"], [tmp_path / "heatmap.png", tmp_path / "heatmap.jpg"])
    assert not list(tmp_path.iterdir())
