"""How much more alike each two layers are in one comparison than in another: first less second, around 0.

Blue is less, brown is more, as dark one as the other; the scale is as long below 0 as above, and ends at the next round
number. Cells that differ significantly are dotted, and the line below says how that was decided, and how many of how
many cells they are. A cell that either comparison leaves undefined is hatched.
"""

import numpy as np
from matplotlib.axes import Axes

from cka_probe.comparison.results import DifferenceMatrix
from cka_probe.plotting import FigureFile, labels, matrix, style
from cka_probe.plotting.matrix import LINE, Plan, bar_more, number, plan_matrix, rounded_up, ticks_to


def difference(result: DifferenceMatrix, ax: Axes) -> Axes:
    """Draw the difference on `ax`.

    Args:
        result: What to draw.
        ax: Axes to draw on, in a figure with a constrained layout, which leaves room for names and colour bar.

    Returns:
        `ax`.
    """
    plan = _plan(result)
    sizes = style.sizes_on(ax, difference_size(result)[0])
    end = _end(result)
    image = matrix.draw_map(ax, result.values, plan, style.DIVERGING, (-end, end))
    matrix.name_layers(ax, plan, sizes)
    matrix.mark_stages(ax, plan, sizes)
    if plan.numbers:
        matrix.write_numbers(ax, image, result.values, sizes)
    matrix.dot(ax, image, result.significant, plan, sizes)
    matrix.add_colour_bar(ax, image, plan, sizes, _measure(result), ticks=ticks_to(end, below=True))
    _name_sides(result, ax, plan, sizes)
    return ax


def difference_size(result: DifferenceMatrix) -> tuple[float, float]:
    """Return width and height in inches."""
    plan = _plan(result)
    more = bar_more(_measure(result), ticks_to(_end(result), below=True), plan)
    return plan.size[0] + more, plan.size[1] + LINE * (len(_below(result, plan)) + len(_above(result, plan)) - 1)


def _end(result: DifferenceMatrix) -> float:
    """Return the end of the scale on both sides of 0."""
    return rounded_up(np.abs(result.values[np.isfinite(result.values)]).max(initial=0.0))


def _measure(result: DifferenceMatrix) -> str:
    return f"difference of {labels.measure_name(result)}"


def _plan(result: DifferenceMatrix) -> Plan:
    finite = result.values[np.isfinite(result.values)]
    return plan_matrix(result.rows, result.columns, [number(value) for value in finite])


def _above(result: DifferenceMatrix, plan: Plan) -> list[str]:
    """Return what stands above the map, in lines: what is subtracted from what, and the number of images."""
    room = (plan.map[0] + 0.4) * style.POINTS / 6
    first, second = labels.short_pair(result.first), labels.short_pair(result.second)
    if first == second and result.first != result.second:
        first, second = result.first, result.second
    whole = f"{first} \N{MINUS SIGN} {second}"
    if labels.width(whole) <= room:
        return [whole, labels.images_line(result)]
    parts = labels.cut(first, room), labels.cut(second, room - 1.2)
    return [parts[0], f"\N{MINUS SIGN} {parts[1]}", labels.images_line(result)]


def _below(result: DifferenceMatrix, plan: Plan) -> list[str]:
    """Return what stands below the map, in lines: which cells are dotted, and how they were chosen."""
    defined, marked = int(np.isfinite(result.values).sum()), int(result.significant.sum())
    level, correction = result.settings.get("level"), result.settings.get("correction")
    test = ", ".join(str(part) for part in (f"{level:.0%}" if level else "", correction or "") if part)
    said = f"dotted: {marked} of {defined} cells differ" + (f" ({test});" if test else ";")
    room = (plan.map[0] + 0.8) * style.POINTS / 6
    hatched = "" if np.isfinite(result.values).all() else "; hatched: undefined"
    return labels.filled(f"{said} {result.how}{hatched}".split(" "), room)


def _name_sides(result: DifferenceMatrix, ax: Axes, plan: Plan, sizes: style.Sizes) -> None:
    """Hatch what is undefined; write what is subtracted from what, of how many images, and what the marks mean."""
    below = "\n".join([("layer" if plan.same else "layer of y"), *_below(result, plan)])
    ax.set_ylabel("layer" if plan.same else "layer of x", fontsize=sizes.small, labelpad=2 * sizes.scale)
    ax.set_xlabel(below, fontsize=sizes.small, labelpad=2 * sizes.scale, parse_math=False)
    matrix.hatch_undefined(ax, result.values)
    pad = 3 * sizes.scale + 1.4 * sizes.small * bool(plan.stages[1])
    ax.set_title("\n".join(_above(result, plan)), loc="left", fontsize=sizes.small, pad=pad, parse_math=False)


save_difference = FigureFile(difference, difference_size, arranged=False, margins=True)
"""Draw a difference into files: `save_difference(result, paths, style=…, venue=…)`. Same input, same bytes."""
