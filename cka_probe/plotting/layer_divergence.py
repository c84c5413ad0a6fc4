"""At which layers two networks part ways: the similarity of layer i of one with layer i of the other, by i.

A panel for each two networks, a line before and one after both were fine-tuned, each value with its 95 % interval over
the grey of what chance reaches. The step at which a line falls most is drawn thick: between these two layers they part.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.errors import DataError
from cka_probe.plotting import FigureFile, labels, style
from cka_probe.plotting.pen import Pen, legend_lines

ACROSS = 2
LEFT, BETWEEN, RIGHT, TOP, TITLE, HEIGHT, TICKS, KEY = 0.45, 0.4, 0.12, 0.08, 0.2, 1.15, 0.26, 0.16  # inches
SECOND = 0.13  # inches: one more line of a title
APART = 0.13  # inches between the numbers of two layers
MOST = 4  # lines in a panel


@dataclass(frozen=True)
class Pair:
    """Two networks.

    Attributes:
        title: Their names.
        profiles: What the line is called, "before fine-tuning", to the similarity whose diagonal it is.
    """

    title: str
    profiles: Mapping[str, SimilarityMatrix]


@dataclass(frozen=True)
class Plan:
    """What stands where.

    Attributes:
        titles: Of each panel, in lines.
        head: Height of the titles, inches.
        lines: Their names.
        legend: Its entries, in lines.
        names: Of the layers, in lines.
        size: Width and height of everything, inches.
    """

    titles: list[list[str]]
    head: float
    lines: list[str]
    legend: list[list[Artist]]
    names: list[str]
    size: tuple[float, float]


def parting(pairs: Sequence[Pair], ax: Axes, *, page: float = math.inf) -> Axes:
    """Draw the pairs on `ax`, which they fill.

    Args:
        pairs: A panel each, of as many layers, named alike.
        ax: Axes of the proportions of `parting_size`; with others some of it stays empty.
        page: Inches that it may be wide at most, such as `style.page_for` of a venue.

    Returns:
        `ax`.

    Raises:
        DataError: There is no pair, one without a profile or with too many, or layers that are not the same.
    """
    plan = _plan(pairs, page)
    pen, across, width = Pen(ax, plan.size, design=1.0), min(len(pairs), ACROSS), _width(pairs, plan.size[0])
    bottom = _bottom(pairs)
    for place, pair in enumerate(pairs):
        row, column = divmod(place, across)
        x, y = LEFT + column * (width + BETWEEN), TOP + row * (plan.head + HEIGHT + TICKS)
        for up, words in enumerate(reversed(plan.titles[place])):  # the last stands just above the panel
            pen.text(x, y + plan.head - TITLE / 2 - up * SECOND, words, weight="bold")
        panel = pen.panel((x, y + plan.head, width, HEIGHT))
        _draw_pair(panel, pair, plan.lines, bottom, pen)
        panel.set_xticks(range(0, len(panel.get_xticks()), labels.step_for(width / len(panel.get_xticks()), APART)))
        if column == 0:
            panel.set_ylabel("CKA", fontsize=pen.sizes.text, labelpad=2 * pen.scale)
    y = plan.size[1] - TOP - KEY * (len(plan.legend) + len(plan.names) - 0.5)
    for handles in plan.legend:
        pen.legend(handles, LEFT, y)
        y += KEY
    for words in plan.names:
        pen.text(LEFT, y, words)
        y += KEY
    return ax


def parting_size(pairs: Sequence[Pair], *, page: float = math.inf) -> tuple[float, float]:
    """Return width and height in inches, letters of 6 and 7 points given; `page` as above."""
    return _plan(pairs, page).size


def steepest(profile: np.ndarray) -> int | None:
    """Return the layer before which a profile falls most, or `None` where it nowhere falls.

    >>> steepest(np.array([1.0, 0.9, 0.4, 0.3])), steepest(np.array([0.1, 0.2])) is None
    (2, True)
    """
    falls = profile[:-1] - profile[1:]
    known = falls[np.isfinite(falls)]
    return int(np.nanargmax(falls)) + 1 if known.size and known.max() > 0 else None


def _plan(pairs: Sequence[Pair], page: float) -> Plan:
    layers = _check(pairs)
    lines = list(dict.fromkeys(name for pair in pairs for name in pair.profiles))
    handles: list[Any] = [Line2D([], [], **_look(number, 1.0), label=name) for number, name in enumerate(lines)]
    handles.append(Line2D([], [], color="black", linewidth=2.6, solid_capstyle="butt", label="steepest fall"))
    handles.append(Patch(color=style.CHANCE, linewidth=0, label="chance, 95 % quantile"))
    if any(not np.isfinite(matrix.values.diagonal()).all() for pair in pairs for matrix in pair.profiles.values()):
        handles.append(style.undefined_key())
    page = min(style.PAGE, page) if len(pairs) > 1 else style.COLUMN
    legend, room = legend_lines(handles, page - LEFT - RIGHT), 0.94 * (page - LEFT) * style.POINTS / 6
    step = labels.step_for(_width(pairs, page) / len(layers), APART)
    marked = range(0, len(layers), step)  # names of all of a hundred layers would hide the figure
    words = [f"{index} {labels.cut(layers[index], room - 3)}" + "," * (index < marked[-1]) for index in marked]
    names = labels.filled(["layers:", *words], room)
    rows, titles = -(-len(pairs) // ACROSS), _titles(pairs, page)
    head = TITLE + (max(1, *map(len, titles)) - 1) * SECOND
    height = 2 * TOP + rows * (head + HEIGHT + TICKS) + KEY * (len(legend) + len(names))
    return Plan(titles, head, lines, legend, names, (page, height))


def _titles(pairs: Sequence[Pair], page: float) -> list[list[str]]:
    """Return the panels' titles in lines, one each, or on a page that is narrower than usual up to two."""
    room = 0.94 * _width(pairs, page) * style.POINTS / 6 / 1.25  # bold letters are wider, a "t" by a fifth
    narrow = len(pairs) > 1 and page < style.PAGE
    filled = [labels.filled(pair.title.split(), room) if narrow else [pair.title] for pair in pairs]
    return [[labels.cut(line, room) for line in (*lines[:1], " ".join(lines[1:])) if line] for lines in filled]


def _width(pairs: Sequence[Pair], page: float) -> float:
    """Return the width of a panel in inches; a single one has a column of its own."""
    across = min(len(pairs), ACROSS)
    return (page - LEFT - RIGHT - (across - 1) * BETWEEN) / across


def _check(pairs: Sequence[Pair]) -> list[str]:
    """Return the names of the layers, the same in all matrices."""
    if not pairs or any(not pair.profiles for pair in pairs):
        raise DataError("expected two networks that were compared, found none; compare some first")
    named = {tuple(axis.name for axis in side) for pair in pairs for matrix in pair.profiles.values()
             for side in (matrix.rows, matrix.columns)}  # fmt: skip
    if len(named) > 1:
        raise DataError("expected the same layers in all matrices, found others; compare networks of one architecture")
    if len({name for pair in pairs for name in pair.profiles}) > MOST:
        raise DataError(f"expected at most {MOST} lines, found more; leave some out")
    return list(named.pop())


def _look(number: int, scale: float) -> dict:
    """Return colour and marker of a line; all after the first are hollow."""
    full = number == 0
    look = {"color": style.ARMS[number], "linewidth": 1.0 * scale, "marker": style.MARKERS[number]}
    look["markeredgewidth"] = 1.0 * scale
    return look | {"markersize": 3.2 * scale, "markerfacecolor": style.ARMS[number] if full else "white"}


def _bottom(pairs: Sequence[Pair]) -> float:
    """Return where all panels begin: 0, or the lowest number if it is lower."""
    lowest = [np.nanmin([*matrix.low.diagonal(), 0.0]) for pair in pairs for matrix in pair.profiles.values()]
    return min(0.0, float(np.floor(min(lowest) * 10) / 10))


def _draw_pair(panel: Axes, pair: Pair, lines: Sequence[str], bottom: float, pen: Pen) -> None:
    """Draw the lines of one panel over what chance reaches."""
    for number, name in enumerate(lines):
        if name not in pair.profiles:
            continue
        matrix = pair.profiles[name]
        values, low, high, null = (cells.diagonal() for cells in (matrix.values, matrix.low, matrix.high, matrix.null))
        index, look = np.arange(len(values)), _look(number, pen.scale)
        edges = np.arange(len(values) + 1) - 0.5
        panel.stairs(np.nan_to_num(null, nan=bottom), edges, baseline=bottom, fill=True, color=style.CHANCE, zorder=0)
        for layer in index[~np.isfinite(values)]:
            panel.axvspan(layer - 0.5, layer + 0.5, zorder=0.5, **style.UNDEFINED)
        panel.vlines(index, low, high, color=look["color"], linewidth=1.2 * pen.scale, alpha=0.5, clip_on=False)
        panel.plot(index, values, clip_on=False, zorder=3, **look)
        if (at := steepest(values)) is not None:
            panel.plot(index[at - 1 : at + 1], values[at - 1 : at + 1], color=look["color"],
                       linewidth=2.6 * pen.scale, zorder=2, solid_capstyle="round")  # fmt: skip
    panel.set(xlim=(-0.5, len(values) - 0.5), ylim=(bottom, 1.0), xticks=index)
    panel.set_xlabel("layer", fontsize=pen.sizes.small, labelpad=pen.scale)
    panel.spines[["top", "right"]].set_visible(False)


save_parting = FigureFile(parting, parting_size)
"""Draw the pairs into files: `save_parting(pairs, paths, style=…, venue=…)`. Same input, same bytes."""
