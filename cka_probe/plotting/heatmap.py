"""The matrix as the papers draw it: layer 0 top left, x downward, y to the right, lighter = more similar.

The scale of colours is the measure's range, 0 to 1 for CKA, in every figure, so that figures can be held side by side.
The unbiased estimate can be negative: such a cell has the colour of 0 and its own number. A cell without a value is
hatched, and said to be undefined. Up to 12 layers each cell has its number; of more, names are thinned and the stages
of the networks are marked on the right and above.
"""

import numpy as np
from matplotlib.axes import Axes

from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.plotting import labels, matrix, style
from cka_probe.plotting.matrix import ABOVE, Plan, bar_more, bounds, number, plan_matrix

__all__ = ["heatmap", "heatmap_size", "number"]


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
    sizes = style.sizes_on(ax, heatmap_size(result)[0])
    image = matrix.draw_map(ax, result.values, plan, style.COLOURS, bounds(result.settings, result.values))
    matrix.name_layers(ax, plan, sizes)
    matrix.mark_stages(ax, plan, sizes)
    _name_sides(result, ax, plan, sizes)
    matrix.add_colour_bar(ax, image, plan, sizes, labels.measure_name(result))
    if annotate if annotate is not None else plan.numbers:
        matrix.write_numbers(ax, image, result.values, sizes)
    return ax


def heatmap_size(result: SimilarityMatrix) -> tuple[float, float]:
    """Return width and height in inches, letters of 6 and 7 points and square cells given."""
    plan = _plan(result)
    ticks = list(np.linspace(*bounds(result.settings, result.values), 6))
    more = bar_more(labels.measure_name(result), ticks, plan)
    return plan.size[0] + more, plan.size[1]


def _plan(result: SimilarityMatrix) -> Plan:
    finite = result.values[np.isfinite(result.values)]
    return plan_matrix(result.rows, result.columns, [number(value) for value in (1.0, *finite)])


def _name_sides(result: SimilarityMatrix, ax: Axes, plan: Plan, sizes: style.Sizes) -> None:
    """Write the models, the number of images, and what hatching means."""
    high = (plan.map[1] + ABOVE) * style.POINTS / 7
    x, y = labels.model_names(result, room=min(18.0, high))
    ax.set_ylabel(x, fontsize=sizes.text, labelpad=2 * sizes.scale, parse_math=False)
    ax.set_xlabel(y, fontsize=sizes.text, labelpad=3 * sizes.scale, parse_math=False)
    undefined = matrix.hatch_undefined(ax, result.values)
    above = 1.4 * sizes.small * (bool(undefined and plan.narrow) + bool(plan.stages[1]))
    pad = 3 * sizes.scale + above
    ax.set_title(labels.images_line(result), loc="left", fontsize=sizes.small, pad=pad)
    if undefined:
        matrix.add_legend(ax, undefined, sizes, left=plan.narrow, lines=bool(plan.stages[1]))
