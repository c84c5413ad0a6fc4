"""A contact sheet of a data set: some of its samples, every field of theirs beside the image, in colours.

One row for each sample, or several samples beside each other where they have few fields. All depth on a sheet has
one scale, so has all flow; what was not measured, is ignored or not known is hatched, wherever it is.

Everything is placed in inches of the designed size, which are the data coordinates of the axes: so a sheet looks
the same on axes of any size.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from cka_probe.plotting import FigureFile, colouring, labels, sheet_plan, style
from cka_probe.plotting.pen import Pen
from cka_probe.plotting.sheet_plan import (
    CAPTION,
    GAP,
    HEADER,
    MARGIN,
    TITLE,
    Plan,
    Scales,
    Sheet,
    Shot,
    contact_sheet_size,
    fitting,
    head_lines,
    plan_sheet,
    ratio_of,
)

DPI = 200

__all__ = ["Sheet", "Shot", "contact_sheet", "contact_sheet_size", "fitting", "save_contact_sheet"]


def contact_sheet(sheet: Sheet, ax: Axes, *, page: float = math.inf) -> Axes:
    """Draw the sheet on `ax`, which it fills.

    Args:
        sheet: What to draw.
        ax: Axes of the proportions of `contact_sheet_size`; with others some of it stays empty.
        page: Inches that it may be wide at most, such as `style.page_for` of a venue.

    Returns:
        `ax`.

    Raises:
        DataError: The sheet has no shot, or no field that can be drawn.
    """
    plan = plan_sheet(sheet, page)
    pen, unit = Pen(ax, plan.size, design=plan.unit), plan.unit
    room = pen.room(plan.size[0] - 2 * MARGIN * unit, 7)
    pen.text(MARGIN * unit, (MARGIN + TITLE / 2) * unit, labels.cut(sheet.title, room), points=7)
    top = (MARGIN + TITLE) * unit
    if len(plan.columns) > 1:
        _draw_headers(pen, plan, min(plan.beside, len(sheet.shots)), top)
        top += plan.heads * HEADER * unit
    for row, height in enumerate(plan.heights):
        for beside, shot in enumerate(sheet.shots[row * plan.beside : (row + 1) * plan.beside]):
            _draw_shot(pen, plan, shot, (plan.left(beside), top, height), sheet.categories)
        top += (CAPTION + GAP) * unit + height
    sheet_plan.draw(pen, plan.scales, MARGIN * unit, top + GAP * unit)
    return ax


def _draw_headers(pen: Pen, plan: Plan, beside: int, top: float) -> None:
    """Write what each column is."""
    for block in range(beside):
        for number, (_, _, header) in enumerate(plan.columns):
            x, lines = plan.left(block, number) + plan.panel / 2, head_lines(header, plan.panel / plan.unit)
            for up, line in enumerate(reversed(lines)):  # all headers stand on the images
                pen.text(x, top + (plan.heads - up - 0.5) * HEADER * plan.unit, line, align="center")


def _draw_shot(pen: Pen, plan: Plan, shot: Shot, place: tuple[float, float, float], categories: Sequence[str]) -> None:
    """Draw one sample: its name, and a panel for each column; `place` is left, top and the panels' height."""
    left, top, height = place
    below = top + CAPTION * plan.unit
    room = pen.room(plan.left(0, len(plan.columns)) - plan.left(0))
    pen.text(left, (top + below) / 2, _caption(shot, categories, room))
    for number, column in enumerate(plan.columns):
        box = (left + plan.left(0, number) - plan.left(0), below, plan.panel, height)
        _draw_panel(pen, shot, column, box, plan.scales)


def _caption(shot: Shot, categories: Sequence[str], room: float) -> str:
    """Return the category, if there is one, and as much of the name as has room."""
    if "category" not in shot.fields:
        return labels.cut(shot.name, room)
    number = int(shot.fields["category"])
    word = f"{categories[number] if number < len(categories) else number}  "
    return word + labels.cut(shot.name, max(room - labels.width(word), 1.5))


def _draw_panel(
    pen: Pen, shot: Shot, column: tuple[str, int, str], box: tuple[float, float, float, float], scales: Scales
) -> None:
    """Draw one field of one shot into a box (x, y, width, height), whole and in its own proportions."""
    name, number, _ = column
    x, y, width, height = box
    ratio = ratio_of(shot)
    wide, high = min(width, height * ratio), min(height, width / ratio)
    x += (width - wide) / 2
    value = shot.fields.get(name)
    if name == "sources" and value is not None:
        value = value[number] if number < len(value) else None
    pen.ax.add_patch(Rectangle((x, y), wide, high, zorder=0, **style.UNDEFINED))
    if value is not None:
        image = name in ("image", "sources")
        if name == "edges":
            value = colouring.thick_lines(value[0], wide)[None]
        value = colouring.reduced(value, int(1.5 * wide * DPI), smooth=image)
        pen.image(PAINTERS[name](value, scales), (x, y, wide, high), smooth=image)
    pen.ax.add_patch(Rectangle((x, y), wide, high, fill=False, edgecolor="#b0b0b0", linewidth=0.4 * pen.scale))


PAINTERS: dict[str, Callable[[np.ndarray, Scales], np.ndarray]] = {
    "image": lambda value, _: colouring.image(value),
    "sources": lambda value, _: colouring.image(value),
    "depth": lambda value, scales: colouring.inverse_depth(value, *(scales.depth or (1, 2))),
    "pseudo_depth": lambda value, _: colouring.own_inverse_depth(value),
    "labels": lambda value, scales: colouring.classes(value, scales.colours),
    "instances": lambda value, _: colouring.pieces(value),
    "planes": lambda value, _: colouring.planes(value),
    "normals": lambda value, _: colouring.directions(value),
    "edges": lambda value, _: colouring.yes_no(value),
    "flow": lambda value, scales: colouring.motion(value, scales.flow or 1),
    "occluded": lambda value, _: colouring.yes_no(value),
    "valid": lambda value, _: colouring.yes_no(~value),
}


save_contact_sheet = FigureFile(contact_sheet, contact_sheet_size, dpi=DPI)
"""Draw a sheet into files: `save_contact_sheet(sheet, paths, style=…, venue=…)`. Same input, same bytes."""
