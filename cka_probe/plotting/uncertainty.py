"""How sure each cell is: the matrix, and beside it the half-width of each cell's 95 % interval.

On the left the values, as `heatmap` draws them; cells that are not above chance, whose value is no larger than the
95 % quantile of its values for permuted images, are dotted. On the right (below, for a long strip) half of
`high - low`, from white for 0 to dark blue for the widest. Layer stands beside layer, so that a cell has one place.
"""

import math
from dataclasses import dataclass

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.errors import DataError
from cka_probe.plotting import labels, matrix, style
from cka_probe.plotting.matrix import STAGES, Plan, bar_more, bounds, number, plan_matrix, rounded_up, ticks_to
from cka_probe.plotting.pen import Pen, bold_width, legend_lines

LEFT, HEAD, FOOT, KEY = 0.22, 0.22, 0.3, 0.15  # inches: name of the rows' model, title, below names, a line of the key
BAR = 0.58  # inches: colour bar with its numbers and label
BETWEEN = 0.12  # inches between two maps
LONGEST = 2.35  # inches: side of one of two maps beside each other on a page
TITLES = ("similarity", "half-width of the 95 % interval")


@dataclass(frozen=True)
class Pair:
    """Where things go, in inches.

    Attributes:
        plan: Of either map.
        beside: The maps stand beside each other, and not one below the other.
        left: Where the first map begins.
        apart: From there to where a second map beside it begins.
        keys: Entries of the legend, in lines.
        size: Width and height of everything.
    """

    plan: Plan
    beside: bool
    left: float
    apart: float
    keys: list[list[Artist]]
    size: tuple[float, float]

    @property
    def head(self) -> float:
        """Inches from the top of a map's part to the map."""
        return HEAD + STAGES * bool(self.plan.stages[1])

    def place(self, number: int) -> tuple[float, float]:
        """Return left and top of a map."""
        if self.beside:
            return self.left + number * self.apart, self.head
        return self.left, self.head + number * (self.head + self.plan.map[1] + self.plan.below + FOOT)


def uncertainty(result: SimilarityMatrix, ax: Axes, *, page: float = math.inf) -> Axes:
    """Draw values and half-widths on `ax`, which they fill.

    Args:
        result: What to draw.
        ax: Axes of the proportions of `uncertainty_size`; with others some of it stays empty.
        page: Inches that it may be wide at most; the maps stand one below the other where they do not fit.

    Returns:
        `ax`.

    Raises:
        DataError: No cell has an interval.
    """
    pair = _planned(result, page)
    pen = Pen(ax, pair.size, design=1.0)
    plan, sizes, widths = pair.plan, pen.sizes, _half_widths(result)
    maps = ((result.values, style.COLOURS, bounds(result.settings, result.values)),
            (widths, style.WIDTHS, (0.0, rounded_up(np.nanmax(widths)))))  # fmt: skip
    for place, (values, colours, ends) in enumerate(maps):
        left, top = pair.place(place)
        panel = pen.panel((left, top, *plan.map))
        image = matrix.draw_map(panel, values, plan, colours, ends)
        panel.set_aspect("auto")  # its box has the proportions already
        matrix.name_layers(panel, plan, sizes, rows=place == 0 or not pair.beside)
        matrix.mark_stages(panel, plan, sizes)
        matrix.hatch_undefined(panel, values)
        words, ticks = _bars(result)[place]
        matrix.add_colour_bar(panel, image, plan, sizes, words, ticks=ticks)
        if plan.numbers:
            matrix.write_numbers(panel, image, values, sizes, places=2 + place)
        if place == 0:
            matrix.dot(panel, image, _by_chance(result), plan, sizes)
        pen.text(left, top - pair.head + HEAD / 2, TITLES[place], points=7, weight="bold")
    _name_sides(result, pair, pen)
    return ax


def uncertainty_size(result: SimilarityMatrix, *, page: float = math.inf) -> tuple[float, float]:
    """Return width and height in inches; arguments as of `uncertainty`.

    Raises:
        DataError: No cell has an interval.
    """
    return _planned(result, page).size


def _half_widths(result: SimilarityMatrix) -> np.ndarray:
    return (result.high - result.low) / 2


def _by_chance(result: SimilarityMatrix) -> np.ndarray:
    """Return which cells are not above chance; none where chance was not asked for."""
    return np.isfinite(result.null) & (result.values <= result.null)


def _planned(result: SimilarityMatrix, page: float) -> Pair:
    """Return where things go: the maps beside each other where a page is wide enough, long strips never."""
    rows, columns = result.values.shape
    pair = _pair(result, beside=columns <= 3 * max(rows, 4))
    return pair if pair.size[0] <= page or not pair.beside else _pair(result, beside=False)


def _pair(result: SimilarityMatrix, *, beside: bool) -> Pair:
    widths = _half_widths(result)
    if not np.isfinite(widths).any():
        raise DataError(
            "expected intervals to draw, found none in any cell; compare over two batches of images or more, or draw "
            "the heatmap"
        )
    shown = [number(value) for value in result.values[np.isfinite(result.values)]]
    shown += [number(value, 3) for value in widths[np.isfinite(widths)]]
    plan = plan_matrix(result.rows, result.columns, ["1.00", *shown], **({"longest": LONGEST} if beside else {}))
    left = LEFT + plan.beside + 0.06
    bars = [BAR + bar_more(words, ticks, plan) for words, ticks in _bars(result)]
    apart = max(plan.map[0] + bars[0] + BETWEEN, _note_end(result) + 2 * BETWEEN)
    last = max(plan.map[0] + (bars[1] if beside else max(bars)), bold_width(TITLES[1]) + BETWEEN)
    width = max(left + last + beside * apart, style.COLUMN)
    keys = legend_lines(_keys(result), width - 0.16)
    part = HEAD + STAGES * bool(plan.stages[1]) + plan.map[1] + plan.below + FOOT
    return Pair(plan, beside, left, apart, keys, (width, (1 if beside else 2) * part + len(keys) * KEY))


def _bars(result: SimilarityMatrix) -> tuple[tuple[str, list[float]], tuple[str, list[float]]]:
    """Return words and numbers of both colour bars."""
    ends = bounds(result.settings, result.values)
    widest = rounded_up(np.nanmax(_half_widths(result)))
    return (labels.measure_name(result), list(np.linspace(*ends, 6))), ("half-width", ticks_to(widest))


def _note_end(result: SimilarityMatrix) -> float:
    """Return where the number of images ends, in inches after where the first title begins."""
    return bold_width(TITLES[0]) + BETWEEN + 1.06 * labels.width(labels.images_line(result)) * 6 / style.POINTS


def _keys(result: SimilarityMatrix) -> list[Artist]:
    chance = _by_chance(result)
    defined = int((np.isfinite(result.null) & np.isfinite(result.values)).sum())
    words = f"not above chance (its 95 % quantile): {int(chance.sum())} of {defined} cells"
    keys: list[Artist] = [matrix.dot_key(words)] if defined else []
    shown = np.isfinite(result.values) & np.isfinite(_half_widths(result))
    return keys if shown.all() else [*keys, style.undefined_key()]


def _name_sides(result: SimilarityMatrix, pair: Pair, pen: Pen) -> None:
    """Write the models, the number of images and the key."""
    plan = pair.plan
    x, y = labels.model_names(result, room=min(18.0, pen.room(plan.map[1] + 0.3, 7)))
    for place in (0, 1):
        left, top = pair.place(place)
        low = top + plan.map[1] + plan.below + 0.13
        pen.text(left + plan.map[0] / 2, low, y, points=7, align="center")
        if place == 0 or not pair.beside:
            pen.text(0.1, top + plan.map[1] / 2, x, points=7, align="center", rotation=90)
    middle = pair.size[1] - KEY * (len(pair.keys) + 0.5) - 0.02
    end = pair.left + max(plan.map[0], _note_end(result))
    pen.text(end, HEAD / 2, labels.images_line(result), align="right")
    for line in pair.keys:
        middle += KEY
        pen.legend(line, max(0.08, min(pair.left, pair.size[0] - 3.2)), middle)
