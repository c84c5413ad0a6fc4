"""Pages as files would show them, and what must hold of every page."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.text import Text

from cka_probe.plotting import style


def drawn(draw, size, thing, *, zoom=1.0):
    """The page laid out as in a file, and its axes."""
    width, height = size(thing)
    with matplotlib.style.context(["default", style.FILE_STYLE]):
        figure = Figure(figsize=(width * zoom, height * zoom))
        ax = figure.add_axes((0, 0, 1, 1))
        assert draw(thing, ax) is ax
        figure.draw_without_rendering()
    return ax


def texts(ax):
    """Everything that is written on the page."""
    panels = [ax, *ax.child_axes]
    found = [text for panel in panels for text in panel.findobj(Text) if text.get_visible() and text.get_text()]
    return list({id(text): text for text in found if text.axes is None or text.axes.get_visible()}.values())


def words(ax):
    return [text.get_text() for text in texts(ax)]


def check_page(ax):
    """Nothing written is cut off, under 6 points, or over something else that is written."""
    width, height = ax.figure.bbox.size
    hidden = {id(label) for panel in ax.child_axes for label in hidden_labels(panel)}
    found = [text for text in texts(ax) if id(text) not in hidden]
    boxes = np.array([text.get_window_extent().padded(-0.5).extents for text in found])
    assert min(text.get_fontsize() for text in found) >= 5.99
    for text, (left, bottom, right, top) in zip(found, boxes, strict=True):
        assert 0 <= left <= right <= width, text
        assert 0 <= bottom <= top <= height, text
    low, high = boxes[:, None, :2], boxes[None, :, 2:]
    over = (low < high).all(-1) & (low < high).all(-1).T
    assert not [(str(found[i]), str(found[j])) for i, j in np.argwhere(over) if i < j]


def hidden_labels(panel):
    """Labels of ticks outside the limits of their axis, which exist and are not drawn."""
    for axis in (panel.xaxis, panel.yaxis):
        low, high = sorted(axis.get_view_interval())
        air = 1e-9 * (high - low)
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
            if not low - air <= tick.get_loc() <= high + air:
                yield from (tick.label1, tick.label2)


def check_same_bytes(save, thing, folder, suffixes=("svg",)):
    """The same thing gives the same bytes, whatever anybody's settings are."""
    before = dict(matplotlib.rcParams)
    for suffix in suffixes:
        (first,) = save(thing, [folder / f"first.{suffix}"])
        with matplotlib.style.context("dark_background"):
            (second,) = save(thing, [folder / "folder" / f"second.{suffix}"])
        assert first.read_bytes() == second.read_bytes()
    assert dict(matplotlib.rcParams) == before
