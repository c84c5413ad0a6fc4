"""A figure laid out as `save` lays it out, and what holds of every page."""

import matplotlib
import numpy as np
import pytest
from matplotlib.text import Text

from cka_probe.plotting import style
from cka_probe.plotting.figure import laid_out, save, width_and_scale


def sheet_of(figure, *, look="paper", venue=None):
    """The figure as `save` lays it out for a style and a venue."""
    width, scale = width_and_scale(figure, look, venue)
    sheet = laid_out(figure, width, scale)
    with style.context(scale):
        sheet.draw_without_rendering()
    return sheet


def each(figures, quick=2):
    """Names of figures as parameters; all but a few are slow, for a grid of images takes seconds to lay out."""
    return [pytest.param(name, marks=[pytest.mark.slow] * (number >= quick)) for number, name in enumerate(figures)]


def texts(sheet):
    """Everything that is written on a page and seen."""
    hidden = {id(label) for axes in every_axes(sheet) for label in hidden_labels(axes)}
    written = [text for text in sheet.findobj(Text) if text.get_visible() and text.get_text().strip()]
    return list({id(text): text for text in written if id(text) not in hidden and is_shown(text)}.values())


def is_shown(text):
    """Whether the axes that a text is part of are drawn."""
    return text.axes is None or (text.axes.get_visible() and (text.axes.axison or not is_label(text)))


def is_label(text):
    axes = text.axes
    return any(text in (*axis.get_ticklabels(which="both"), axis.label) for axis in (axes.xaxis, axes.yaxis))


def every_axes(sheet):
    """The axes of a page, with the axes inside them, such as colour bars."""
    return [axes for outer in sheet.axes for axes in (outer, *outer.child_axes)]


def words(sheet):
    return [text.get_text() for text in texts(sheet)]


def check_legible(sheet, least=style.SMALLEST):
    """Nothing written is cut off, too small, or over something else that is written."""
    written = texts(sheet)
    width, height = sheet.bbox.size
    tolerance = 0.4 * sheet.dpi / 72  # points that letters have empty around them
    boxes = np.array([text.get_window_extent().padded(-tolerance).extents for text in written])
    assert min(text.get_fontsize() for text in written) >= least - 1e-6
    for text, (left, bottom, right, top) in zip(written, boxes, strict=True):
        assert 0 <= left <= right <= width, f"{text} is cut at the side"
        assert 0 <= bottom <= top <= height, f"{text} is cut above or below"
    over = (boxes[:, None, :2] < boxes[None, :, 2:]).all(-1)
    assert not [(str(written[i]), str(written[j])) for i, j in np.argwhere(over & over.T) if i < j]


def hidden_labels(axes):
    """Labels of ticks outside the limits of their axis, which exist and are not drawn."""
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        air = 1e-9 * (high - low)
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if not low - air <= tick.get_loc() <= high + air:
                yield from (tick.label1, tick.label2)


def check_same_bytes(figure, folder, suffixes=("svg",), dpi=None):
    """The same figure gives the same bytes, whatever anybody's settings are, and leaves these as they were."""
    before = dict(matplotlib.rcParams)
    first = save(figure, [folder / f"first.{suffix}" for suffix in suffixes], dpi=dpi)
    with matplotlib.style.context("dark_background"):
        second = save(figure, [folder / "folder" / f"second.{suffix}" for suffix in suffixes], dpi=dpi)
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert dict(matplotlib.rcParams) == before


def images(sheet, count):
    """The colours of the columns of each row of so many columns."""
    arrays = [np.asarray(ax.images[0].get_array()) for ax in sheet.axes if ax.images]
    return [arrays[start : start + count] for start in range(0, len(arrays), count)]
