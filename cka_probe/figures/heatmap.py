"""The matrix as the papers draw it: layer 0 top left, x downward, y to the right, lighter = more similar.

The scale of colours is 0 to 1 in every figure, so that figures can be held side by side. The unbiased estimate
can be negative: such a cell has the colour of 0 and its own number. A cell without a value is hatched, and said
to be undefined.
"""

from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from cka_probe.figures import labels, style
from cka_probe.results import SimilarityMatrix

MAP = 1.84  # inches, the side of the map in a single column
MOST_NUMBERS = 12  # layers on the longer side, above which cells have no room for numbers
AROUND = 0.69  # inches: label of the rows, colour bar with its numbers and label, margins
AIR = 0.018  # inches between the numbers of two cells


@dataclass(frozen=True)
class Plan:
    """Where things go at the designed size.

    Attributes:
        cell: Side of a cell, inches.
        names: Em left for a layer's name and index beside the rows.
        narrow: The map is too narrow for two words above it side by side.
        same: Rows and columns are the same layers, so that names beside the rows are enough.
        size: Width and height of the figure, inches.
    """

    cell: float
    names: float
    narrow: bool
    same: bool
    size: tuple[float, float]


def heatmap(result: SimilarityMatrix, ax: Axes, *, annotate: bool | None = None) -> Axes:
    """Draw the matrix on `ax`.

    Args:
        result: What to draw.
        ax: Axes to draw on, in a figure with a constrained layout, which leaves room for names and colour bar.
        annotate: Write the number into each cell; by default up to 12 layers on the longer side.

    Returns:
        `ax`.
    """
    plan = _plan(result)
    sizes = style.sizes_on(ax, plan.size[0])
    image = ax.imshow(
        np.ma.masked_invalid(result.values), cmap=style.COLOURS, vmin=0, vmax=1, interpolation="nearest", aspect="equal"
    )
    style.plain_frame(ax, sizes)
    _name_axes(result, ax, plan, sizes)
    _hatch_undefined(result, ax, plan, sizes)
    _add_colour_bar(result, ax, image, sizes)
    if annotate if annotate is not None else max(result.values.shape) <= MOST_NUMBERS:
        _write_numbers(result, ax, sizes)
    return ax


def heatmap_size(result: SimilarityMatrix) -> tuple[float, float]:
    """Return width and height in inches, letters of 6 and 7 points and square cells given."""
    return _plan(result).size


def _plan(result: SimilarityMatrix) -> Plan:
    rows, columns = result.values.shape
    longest, shortest = max(rows, columns), min(rows, columns)
    if longest <= MOST_NUMBERS:
        finite = result.values[np.isfinite(result.values)]
        widest = max(labels.width(number(value)) for value in (1.0, *finite))
        cell = max(widest * 6 / style.POINTS + AIR, MAP / longest)
    else:  # a long strip takes a whole page's width: in a column its cells could not be seen
        cell = (MAP if 3 * shortest >= longest else 5.0) / longest
    same = [axis.name for axis in result.rows] == [axis.name for axis in result.columns]
    left = (style.COLUMN - AROUND - columns * cell) * style.POINTS / 6
    names = min(left, 13.0) if left >= 8.5 else 12.0  # a figure that must be wider anyway can have whole words
    across = max(map(labels.width, _labels(result.rows, names))) * 6 / style.POINTS
    below = 1.0 if same else max(map(labels.width, _labels(result.columns, 11.0)))
    full_width = AROUND + columns * cell + across
    return Plan(
        cell,
        names,
        columns * cell < 1.7,
        same,
        (max(style.COLUMN, full_width), rows * cell + below * 6 / style.POINTS + 0.44),
    )


def _labels(axes, room: float) -> list[str]:
    index = labels.width(f"  {len(axes)}")
    return labels.numbered(labels.short_names([axis.name for axis in axes], room - index))


def _name_axes(result: SimilarityMatrix, ax: Axes, plan: Plan, sizes: style.Sizes) -> None:
    step = labels.step_for(plan.cell, needed=0.1)
    rows = _labels(result.rows, plan.names)
    ax.set_yticks(range(0, len(rows), step), rows[::step], fontsize=sizes.small, parse_math=False)
    if plan.same:
        columns, step = [str(index) for index in range(len(result.columns))], labels.step_for(plan.cell, needed=0.13)
        ax.set_xticks(range(0, len(columns), step), columns[::step], fontsize=sizes.small)
    else:
        columns = _labels(result.columns, 11.0)
        ax.set_xticks(
            range(0, len(columns), step), columns[::step], fontsize=sizes.small, rotation=90, parse_math=False
        )
    x, y = labels.model_names(result, room=18)
    ax.set_ylabel(x, fontsize=sizes.text, labelpad=2, parse_math=False)
    ax.set_xlabel(y, fontsize=sizes.text, parse_math=False)
    above = 1.4 * sizes.small if plan.narrow and not np.isfinite(result.values).all() else 0
    ax.set_title(labels.pictures_line(result), loc="left", fontsize=sizes.small, pad=3 + above)


def _hatch_undefined(result: SimilarityMatrix, ax: Axes, plan: Plan, sizes: style.Sizes) -> None:
    cells = np.argwhere(~np.isfinite(result.values))
    for row, column in cells:
        ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, **style.UNDEFINED))
    if len(cells):
        ax.legend(
            handles=[style.undefined_key()],
            loc="lower left" if plan.narrow else "lower right",
            bbox_to_anchor=(0 if plan.narrow else 1, 1),
            borderaxespad=0.2,
            borderpad=0,
            frameon=False,
            fontsize=sizes.small,
            handlelength=1.4,
            handletextpad=0.5,
        )


def _add_colour_bar(result: SimilarityMatrix, ax: Axes, image: AxesImage, sizes: style.Sizes) -> None:
    # An inset keeps the height of the map, which square cells may make smaller than the axes were given.
    rows, columns = result.values.shape
    part = max(rows, columns) / columns
    bar = ax.figure.colorbar(
        image, cax=ax.inset_axes((1 + 0.035 * part, 0, 0.045 * part, 1)), ticks=np.linspace(0, 1, 6)
    )
    bar.set_label(labels.measure_name(result), fontsize=sizes.text, labelpad=2)
    bar.outline.set_linewidth(style.FRAME)
    bar.ax.tick_params(labelsize=sizes.small, width=style.FRAME, length=2, pad=2)


def _write_numbers(result: SimilarityMatrix, ax: Axes, sizes: style.Sizes) -> None:
    colours = colormaps[style.COLOURS]
    for (row, column), value in np.ndenumerate(result.values):
        if np.isfinite(value):
            ax.text(
                column,
                row,
                number(value),
                ha="center",
                va="center_baseline",
                fontsize=sizes.small,
                color=style.letters_on(colours(float(np.clip(value, 0, 1)))),
            )


def number(value: float) -> str:
    """Return two decimals, without the 0 before the point that all of them would have.

    >>> number(0.974), number(1.0)
    ('.97', '1.00')
    """
    return f"{value:.2f}".replace("0.", ".", 1).replace("-", "\N{MINUS SIGN}")
