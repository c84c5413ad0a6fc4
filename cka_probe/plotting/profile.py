"""The diagonal of the matrix: how similar layer i of x is to layer i of y, from the first layer to the last.

Each value stands with its 95 % interval, which a band carries from layer to layer, over the grey of what chance
reaches: the 95 % quantile when the images of y are permuted. A layer without a value is hatched and the line has a
gap there.
"""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.errors import DataError
from cka_probe.plotting import labels, style

ROOM = 12.0  # em for the name and index of a layer
HEIGHT = 1.5  # inches between the axes' bottom and top


def profile(result: SimilarityMatrix, ax: Axes) -> Axes:
    """Draw the diagonal on `ax`.

    Args:
        result: What to draw; as many layers of y as of x.
        ax: Axes to draw on, in a figure with a constrained layout, which leaves room for names.

    Returns:
        `ax`.

    Raises:
        DataError: The matrix is not square, and so has no diagonal.
    """
    _refuse_rectangles(result)
    sizes = style.sizes_on(ax, style.COLUMN)
    values, low, high, null = (np.diagonal(matrix) for matrix in (result.values, result.low, result.high, result.null))
    index = np.arange(len(values))
    bottom, top = _limits(np.concatenate([values, low, high, null]))
    ax.stairs(null, np.arange(len(values) + 1) - 0.5, baseline=bottom, fill=True, color=style.CHANCE, linewidth=0)
    for layer in index[~np.isfinite(values)]:
        ax.axvspan(layer - 0.5, layer + 0.5, zorder=0.5, **style.UNDEFINED)
    marker = (3.0 if len(values) <= 25 else 1.6) * sizes.scale
    ax.fill_between(index, low, high, color=style.LINE, alpha=0.15, linewidth=0, clip_on=False)
    ax.vlines(index, low, high, color=style.LINE, linewidth=1.2 * sizes.scale, alpha=0.55, clip_on=False)
    look: dict[str, Any] = {"linewidth": 0.8 * sizes.scale, "markersize": marker, "markeredgewidth": 1.0 * sizes.scale}
    ax.plot(index, values, "o-", color=style.LINE, clip_on=False, **look)
    ax.set_xlim(-0.5, len(values) - 0.5)
    ax.set_ylim(bottom, top)
    _name_axes(result, ax, sizes)
    _explain(result, ax, sizes, chance=bool(np.isfinite(null).any()), undefined=not np.isfinite(values).all())
    return ax


def profile_size(result: SimilarityMatrix) -> tuple[float, float]:
    """Return width and height in inches."""
    _refuse_rectangles(result)
    names = max(map(labels.width, _labels(result))) * 6 / style.POINTS
    return style.COLUMN, HEIGHT + names + 0.6


def _refuse_rectangles(result: SimilarityMatrix) -> None:
    rows, columns = result.values.shape
    if rows != columns:
        raise DataError(
            f"a profile is the diagonal of a square matrix and pairs layer i of x with layer i of y; found {rows} "
            f"layers of x and {columns} of y; draw the heatmap, or compare as many layers of each"
        )


def _limits(numbers: np.ndarray) -> tuple[float, float]:
    finite = numbers[np.isfinite(numbers)]
    lowest, highest = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    return min(0.0, np.floor(lowest * 10) / 10), max(1.0, np.ceil(highest * 20) / 20)


def _labels(result: SimilarityMatrix) -> list[str]:
    index = labels.width(f"  {len(result.rows)}")
    return labels.numbered(labels.short_names([axis.name for axis in result.rows], ROOM - index))


def _name_axes(result: SimilarityMatrix, ax: Axes, sizes: style.Sizes) -> None:
    style.plain_frame(ax, sizes, sizes.scale)
    ax.spines[["top", "right"]].set_visible(False)
    names = _labels(result)
    step = labels.step_for(2.8 / len(names), needed=0.1)
    ax.set_xticks(range(0, len(names), step), names[::step], rotation=90, fontsize=sizes.small, parse_math=False)
    ax.set_yticks([tick for tick in np.linspace(-1, 1, 11) if tick >= ax.get_ylim()[0] - 1e-9])
    ax.set_ylabel(labels.measure_name(result), fontsize=sizes.text)
    same = [axis.name for axis in result.rows] == [axis.name for axis in result.columns]
    x, y = labels.model_names(result, room=13)
    below = f"{'layer' if same else f'layer of {x}'} ({labels.images_line(result)})"
    ax.set_xlabel(below, fontsize=sizes.text, parse_math=False)
    ax.set_title(f"{x} and {y}", loc="left", fontsize=sizes.text, pad=4 + 2 * sizes.small, parse_math=False)


def _explain(result: SimilarityMatrix, ax: Axes, sizes: style.Sizes, *, chance: bool, undefined: bool) -> None:
    wide = {"linewidth": 0.8, "markersize": 6, "markeredgewidth": 1.2}
    line: dict[str, Any] = {"color": style.LINE, "marker": "|"} | {
        name: points * sizes.scale for name, points in wide.items()
    }
    handles: list[Any] = [Line2D([], [], **line, label="95 % interval")]
    if chance:
        handles.append(Patch(color=style.CHANCE, linewidth=0, label="chance, 95 % quantile"))
    if undefined:
        handles.append(style.undefined_key())
    ax.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        borderaxespad=0.2,
        borderpad=0,
        frameon=False,
        fontsize=sizes.small,
        ncols=3,
        handlelength=1.4,
        handletextpad=0.5,
        columnspacing=1.2,
    )
