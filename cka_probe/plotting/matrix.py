"""The parts that figures of a matrix share: the map, names of layers, stages, hatching, numbers, dots, colour bar.

Each draws on the axes of one map, everything `sizes.scale` times as large as in the design.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.markers import TICKRIGHT, TICKUP
from matplotlib.patches import Rectangle

from cka_probe.plotting import labels, style
from cka_probe.plotting.matrix_plan import Plan, bar_words, number, tick_words

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
    turned = {} if plan.same else {"rotation": 90}
    ax.set_xticks(kept, [plan.columns[k] for k in kept], fontsize=sizes.small, parse_math=False, **turned)


def mark_stages(ax: Axes, plan: Plan, sizes: style.Sizes) -> None:
    """Mark where a stage of the network ends: on the right for the rows, above for the columns, there with its name."""
    rows, columns = plan.stages
    length = STAGE_TICK * style.POINTS * sizes.scale
    look = {"color": "black", "markeredgewidth": style.FRAME * sizes.scale, "markersize": length, "clip_on": False}
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
            place = {"xy": ((first + end - 1) / 2, 1), "xycoords": ("data", "axes fraction"), "annotation_clip": False}
            look = {"xytext": (0, 2.5 * sizes.scale), "textcoords": "offset points", "ha": "center", "va": "bottom"}
            ax.annotate(word, **place, **look, fontsize=sizes.small, parse_math=False)


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
            look = {"ha": "center", "va": "center_baseline", "fontsize": sizes.small, "color": colour}
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
    colours = np.array([style.letters_on(image.to_rgba(image.get_array()[row, column])) for row, column in places])
    look = {"linestyle": "", "marker": "o", "markersize": size * sizes.scale, "markeredgewidth": 0}
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
