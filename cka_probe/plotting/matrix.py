"""Where the parts of a matrix go at the designed size: cells, names, stages, the figure, from 1 layer to hundreds.

Up to 12 layers every cell has room for its number and every layer for its name. Beyond, cells keep a side that a
reader can see (2.2 points, until the map fills a page), names are thinned, and the stages of the network are marked on
the other two sides, so that a layer can still be found. A strip, of one side three times as long as the other, has
cells that are not square: its short side has room for all names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.markers import TICKRIGHT, TICKUP
from matplotlib.patches import Rectangle

from cka_probe.comparison.results import Axis
from cka_probe.plotting import labels, style

MAP = 1.84  # inches, the side of the map in a single column
MOST_NUMBERS = 12  # layers on the longer side, above which cells have no room for numbers
AROUND = 0.69  # inches: label of the rows, colour bar with its numbers and label, margins
ABOVE = 0.44  # inches: the line above, the indices and the label below
STAGES = 0.12  # inches: the names of stages
LINE = 0.11  # inches: one more line beside the colour bar
AIR = 0.018  # inches between the numbers of two cells
SEEN = 0.03  # inches: side of a cell that can be seen, 2.2 points
LONGEST = 4.0  # inches: the map of a page
ENDS = {1: 2, 1.5: 3, 2: 2, 3: 3, 4: 2, 5: 2, 6: 3, 8: 2}
"""First figures of round numbers at which a scale may end, and into how many parts its numbers divide it."""
NAMED, SHORT = 0.1, 0.11  # inches that a name needs, and that a layer of a strip's short side has


@dataclass(frozen=True)
class Plan:
    """Where things go at the designed size.

    Attributes:
        cell: Width and height of a cell, inches.
        rows: What stands beside each row; nothing beside those without room.
        columns: What stands below each column: only its index where rows and columns are the same layers.
        same: Rows and columns are the same layers, so that names beside the rows are enough.
        numbers: Cells have room for numbers.
        stages: Of the rows and of the columns; none where every layer has its name.
    """

    cell: tuple[float, float]
    rows: list[str]
    columns: list[str]
    same: bool
    numbers: bool
    stages: tuple[list[labels.Stage], list[labels.Stage]]

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of a figure of this map alone, inches."""
        width = max(style.COLUMN, AROUND + self.map[0] + self.beside)
        return width, self.map[1] + self.below + ABOVE + STAGES * bool(self.stages[1])

    @property
    def map(self) -> tuple[float, float]:
        """Width and height of the map, inches."""
        return len(self.columns) * self.cell[0], len(self.rows) * self.cell[1]

    @property
    def narrow(self) -> bool:
        """The map is too narrow for two words above it side by side."""
        return self.map[0] < 1.7

    @property
    def beside(self) -> float:
        """Inches that names of rows take."""
        return max(map(labels.width, self.rows)) * 6 / style.POINTS

    @property
    def below(self) -> float:
        """Inches that names of columns take, beyond the line of indices that `ABOVE` has."""
        return (1.0 if self.same else max(map(labels.width, self.columns))) * 6 / style.POINTS


def plan_matrix(
    rows: Sequence[Axis], columns: Sequence[Axis], numbers: Sequence[str], longest: float = LONGEST
) -> Plan:
    """Return where the parts of a matrix go.

    Args:
        rows: Its layers from the top.
        columns: From the left.
        numbers: What would be written into cells, for the widest to have room.
        longest: Inches that the longer side of a map of very many layers has.
    """
    across, down = _cell(len(rows), len(columns), numbers, longest)
    left = (style.COLUMN - AROUND - len(columns) * across) * style.POINTS / 6
    room = min(left, 13.0) if left >= 8.5 else 12.0  # a figure that must be wider anyway can have whole words
    same = [axis.name for axis in rows] == [axis.name for axis in columns]
    return Plan(
        cell=(across, down),
        rows=_named(rows, room, labels.step_for(down, NAMED)),
        columns=_indexed(len(columns), across) if same else _named(columns, 11.0, labels.step_for(across, NAMED)),
        same=same,
        numbers=max(len(rows), len(columns)) <= MOST_NUMBERS,
        stages=(_stages(rows), _stages(columns)),
    )


def _named(axes: Sequence[Axis], room: float, step: int) -> list[str]:
    """Return every so many a name with its index, no wider than `room` em."""
    index = labels.width(f"  {len(axes)}")
    names = iter(labels.short_names([axis.name for axis in axes[::step]], room - index))
    return [f"{next(names)}  {number}" if number % step == 0 else "" for number in range(len(axes))]


def _indexed(count: int, space: float) -> list[str]:
    """Return the indices that have room, one every `space` inches."""
    needed = max(0.13, labels.width(str(count - 1)) * 6 / style.POINTS + 0.04)
    step = labels.step_for(space, needed)
    return [str(index) if index % step == 0 else "" for index in range(count)]


def _cell(rows: int, columns: int, numbers: Sequence[str], most: float) -> tuple[float, float]:
    """Return width and height of a cell in inches, of a map no longer than `most` where it has no numbers."""
    longest, shortest = max(rows, columns), min(rows, columns)
    if longest <= MOST_NUMBERS:
        side = max(max(map(labels.width, numbers), default=0) * 6 / style.POINTS + AIR, MAP / longest)
        return side, side
    side = min(max(MAP, longest * SEEN), most) / longest
    if 3 * shortest >= longest:
        return side, side
    other = max(side, min(SHORT, MAP / shortest))
    return (side, other) if columns > rows else (other, side)


def _stages(axes: Sequence[Axis]) -> list[labels.Stage]:
    """Return the stages of a side whose names are thinned."""
    return labels.stages([axis.name for axis in axes]) if len(axes) > MOST_NUMBERS else []


def bounds(settings: Mapping[str, Any], values: np.ndarray) -> tuple[float, float]:
    """Return the ends of the scale of colours: the measure's range, and where that has no end, the values' own.

    Args:
        settings: Of a result; `range` is that of its measure, 0 to 1 where it is not said.
        values: Its values.
    """
    low, high = settings.get("range") or (0.0, 1.0)
    finite = values[np.isfinite(values)]
    low = float(finite.min(initial=0.0)) if low is None or not np.isfinite(low) else float(low)
    high = float(finite.max(initial=1.0)) if high is None or not np.isfinite(high) else float(high)
    return low, high


def bar_words(words: str, plan: Plan) -> list[str]:
    """Return what stands beside the colour bar of a map, in lines that are no longer than the map is high."""
    return labels.filled(words.split(" "), (plan.map[1] + 0.3) * style.POINTS / 7)


def tick_words(ticks: Sequence[float]) -> list[str]:
    """Return the numbers of a colour bar, all with as many decimals as one of them needs.

    >>> tick_words([0.0, 0.5, 1.0]), tick_words([-0.03, 0.0])
    (['0.0', '0.5', '1.0'], ['\u22120.03', '0.00'])
    """
    near = partial(np.allclose, ticks, rtol=0, atol=1e-9)
    places = next(places for places in range(1, 12) if near(np.round(ticks, places)))
    return [f"{tick:.{places}f}".replace("-", "\N{MINUS SIGN}") for tick in ticks]


def bar_more(words: str, ticks: Sequence[float], plan: Plan) -> float:
    """Return how many inches a colour bar takes more than one of a line and numbers as wide as "1.0"."""
    wider = max(map(labels.width, tick_words(ticks))) - labels.width("1.0")
    return LINE * (len(bar_words(words, plan)) - 1) + max(wider, 0.0) * 6 / style.POINTS


def ticks_to(end: float, *, below: bool = False) -> list[float]:
    """Return numbers for a colour bar from 0, or from `-end`, to an `end` that `rounded_up` returned.

    >>> ticks_to(0.03), ticks_to(2, below=True)
    ([0.0, 0.01, 0.02, 0.03], [-2.0, -1.0, 0.0, 1.0, 2.0])
    """
    parts = next(
        parts for first, parts in ENDS.items() if np.isclose(end / 10.0 ** np.floor(np.log10(end * 1.0001)), first)
    )
    return [float(tick) for tick in np.round(np.linspace(-end if below else 0, end, (1 + below) * parts + 1), 6)]


def rounded_up(value: float) -> float:
    """Return the next of 0.01, 0.015, 0.02, 0.03 … that is no smaller: the end of a scale that can be read.

    >>> rounded_up(0.034), rounded_up(0.5), rounded_up(0.0), rounded_up(1.21)
    (0.04, 0.5, 0.01, 1.5)
    """
    steps = (step * 10.0**power for power in range(-2, 9) for step in ENDS)
    return float(next(round(step, 3) for step in steps if step >= value - 1e-12))


def number(value: float, places: int = 2) -> str:
    """Return decimals, without the 0 before the point that most of them would have.

    >>> number(0.974), number(1.0), number(-0.5), number(10.5), number(-0.001)
    ('.97', '1.00', '\u2212.50', '10.50', '.00')
    """
    text = f"{abs(value):.{places}f}"
    sign = "\N{MINUS SIGN}" if value < 0 and float(text) else ""
    return sign + text.removeprefix("0")


BAR, APART = 0.085, 0.07  # inches: width of the colour bar, and between it and the map
STAGE_TICK = 0.035  # inches
DOT = 1.8  # points, of a cell with a number


def draw_map(ax: Axes, values: np.ndarray, plan: Plan, cmap: Colormap | str, ends: tuple[float, float]) -> AxesImage:
    """Draw the cells, layer 0 top left, and return the image."""
    aspect = plan.cell[1] / plan.cell[0]
    shown = np.ma.masked_invalid(values)
    return ax.imshow(shown, cmap=cmap, vmin=ends[0], vmax=ends[1], interpolation="nearest", aspect=aspect)


def name_layers(ax: Axes, plan: Plan, sizes: style.Sizes, *, rows: bool = True) -> None:
    """Write names beside the rows, if they are asked for, and names or indices below the columns."""
    style.plain_frame(ax, sizes, sizes.scale)
    kept = [index for index, name in enumerate(plan.rows) if name]
    ax.set_yticks(kept, [plan.rows[k] if rows else "" for k in kept], fontsize=sizes.small, parse_math=False)
    kept = [index for index, name in enumerate(plan.columns) if name]
    turned: dict[str, Any] = {} if plan.same else {"rotation": 90}
    ax.set_xticks(kept, [plan.columns[k] for k in kept], fontsize=sizes.small, parse_math=False, **turned)


def mark_stages(ax: Axes, plan: Plan, sizes: style.Sizes) -> None:
    """Mark where a stage of the network ends: on the right for the rows, above for the columns, there with its name."""
    rows, columns = plan.stages
    length = STAGE_TICK * style.POINTS * sizes.scale
    look: dict[str, Any] = {
        "color": "black",
        "markeredgewidth": style.FRAME * sizes.scale,
        "markersize": length,
        "clip_on": False,
    }
    ends = [end - 0.5 for _, _, end in rows[:-1]]
    if ends:  # a line without points would stretch the tight box of a notebook's image to the figure's corner
        ax.plot(np.ones(len(ends)), ends, linestyle="", marker=TICKRIGHT, transform=ax.get_yaxis_transform(), **look)
    ends = [end - 0.5 for _, _, end in columns[:-1]]
    if ends:
        ax.plot(ends, np.ones(len(ends)), linestyle="", marker=TICKUP, transform=ax.get_xaxis_transform(), **look)
    for name, first, end in columns:
        room = ((end - first) * plan.cell[0] - 0.03) * style.POINTS / 6
        word = next((word for word in (name, name.rsplit(".", 1)[-1]) if labels.width(word) <= room), "")
        if word:
            place: dict[str, Any] = {
                "xy": ((first + end - 1) / 2, 1),
                "xycoords": ("data", "axes fraction"),
                "annotation_clip": False,
            }
            offset: dict[str, Any] = {
                "xytext": (0, 2.5 * sizes.scale),
                "textcoords": "offset points",
                "ha": "center",
                "va": "bottom",
            }
            ax.annotate(word, **place, **offset, fontsize=sizes.small, parse_math=False)


def hatch_undefined(ax: Axes, values: np.ndarray) -> list[Artist]:
    """Hatch the cells without a value and return their entry of a legend, if there are any."""
    cells = np.argwhere(~np.isfinite(values))
    for row, column in cells:
        ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, **style.UNDEFINED))
    return [style.undefined_key()] if len(cells) else []


def write_numbers(ax: Axes, image: AxesImage, values: np.ndarray, sizes: style.Sizes, places: int = 2) -> None:
    """Write the number into each cell that has one, black or white, whichever is read better on its colour."""
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = style.letters_on(image.to_rgba(value))
            look: dict[str, Any] = {"ha": "center", "va": "center_baseline", "fontsize": sizes.small, "color": colour}
            ax.text(column, row, number(value, places), **look)


def dot(ax: Axes, image: AxesImage, cells: np.ndarray, plan: Plan, sizes: style.Sizes) -> None:
    """Put a dot into each of some cells, in the upper right corner where the middle has a number.

    Args:
        ax: Of the map.
        image: What `draw_map` returned; a dot is black or white, whichever is seen better on its cell.
        cells: (rows, columns) bool.
        plan: Of the map.
        sizes: Its letters.
    """
    size = DOT if plan.numbers else _dot_in(min(plan.cell) * style.POINTS)
    aside = 0.5 - 0.75 * size / (min(plan.cell) * style.POINTS) if plan.numbers else 0.0
    places = np.argwhere(cells)
    shown: Any = np.ma.asarray(image.get_array())
    colours = np.array([style.letters_on(image.to_rgba(shown[row, column])) for row, column in places])
    look: dict[str, Any] = {"linestyle": "", "marker": "o", "markersize": size * sizes.scale, "markeredgewidth": 0}
    for colour in ("black", "white"):
        chosen = places[colours == colour]
        ax.plot(chosen[:, 1] + aside, chosen[:, 0] - aside, color=colour, **look)


def _dot_in(side: float) -> float:
    """Return the diameter of a dot in a cell without a number, all in points: half of it, but never out of sight."""
    return min(DOT, max(0.45 * side, min(0.75, 0.8 * side)))


def dot_key(words: str) -> Line2D:
    """Return the legend's entry for what is dotted."""
    return Line2D([], [], linestyle="", marker="o", markersize=DOT, markeredgewidth=0, color="black", label=words)


def add_colour_bar(
    ax: Axes, image: AxesImage, plan: Plan, sizes: style.Sizes, words: str, *, ticks: Sequence[float] = ()
) -> Axes:
    """Draw the colour bar right of the map, as high as it, and return its axes.

    Args:
        ax: Of the map.
        image: What `draw_map` returned.
        plan: Of the map.
        sizes: Its letters.
        words: What the numbers are.
        ticks: By default six, from end to end.
    """
    # An inset keeps the height of the map, which the shape of its cells may make smaller than the axes were given.
    apart = APART + STAGE_TICK * bool(plan.stages[0])
    bar = ax.inset_axes((1 + apart / plan.map[0], 0, BAR / plan.map[0], 1))
    ticks = list(ticks) or list(np.linspace(*image.get_clim(), 6))
    shown = ticks if plan.map[1] >= 0.14 * len(ticks) else [ticks[0], ticks[-1]]
    ax.figure.colorbar(image, cax=bar).set_ticks(shown, labels=tick_words(shown))
    bar.set_ylabel("\n".join(bar_words(words, plan)), fontsize=sizes.text, labelpad=2 * sizes.scale)
    style.plain_frame(bar, sizes, sizes.scale)
    for spine in bar.spines.values():
        spine.set_linewidth(style.FRAME * sizes.scale)
    return bar


def add_legend(ax: Axes, handles: Sequence[Artist], sizes: style.Sizes, *, left: bool, lines: int = 0) -> None:
    """Draw a legend above the map and so many lines, at its left or its right end."""
    look = {
        "borderaxespad": 0.2 + 1.4 * lines,
        "borderpad": 0,
        "frameon": False,
        "handlelength": 1.4,
        "handletextpad": 0.5,
    }
    ax.legend(
        handles=handles,
        loc="lower left" if left else "lower right",
        bbox_to_anchor=(0 if left else 1, 1),
        fontsize=sizes.small,
        **look,
    )
