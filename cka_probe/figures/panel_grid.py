"""Rows of pictures with columns for each model: where they stand, what is written above them, how maps are drawn.

The first two columns are the picture and the truth; every model then has the same few columns, a little apart. Names of
models that are too long for their columns are written in up to three lines.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.patches import Rectangle

from cka_probe.figures import labels, style
from cka_probe.figures.pen import PAGE, Pen

MARGIN, GAP, ROOM = 0.08, 0.04, 0.12  # inches: at the border, between panels, before the first panel of a model
NAME, PARTS, CAPTION, WIDEST = 0.13, 0.17, 0.15, 1.7  # heights of lines: models, parts, rows; width of a panel of few
MOST = 3  # lines of a model's name
DPI = 300
DIMMED = 0.55
"""How bright a picture is under what is drawn over it."""

Box = tuple[float, float, float, float]


def columns(models: int, parts: int) -> tuple[list[float], float]:
    """Return where each column begins and how wide all are, inches: picture, truth, then the parts of each model."""
    count = 2 + models * parts
    width = min(WIDEST, (PAGE - 2 * MARGIN - GAP * (count - 1) - (ROOM - GAP) * models) / count)
    width = max(width, 0.6)  # many models take a wider page: smaller panels show nothing
    lefts = [MARGIN, MARGIN + width + GAP]
    for _ in range(models):
        lefts += [lefts[-1] + width + ROOM + number * (width + GAP) for number in range(parts)]
    return lefts, width


def head(models: Sequence[str], parts: int) -> float:
    """Return the height in inches of what is written above the columns."""
    lefts, width = columns(len(models), parts)
    return max(len(_name_lines(model, _across(lefts, width, parts))) for model in models) * NAME + PARTS


def _across(lefts: Sequence[float], width: float, parts: int) -> float:
    """Return the inches that the columns of a model take."""
    return lefts[1 + parts] + width - lefts[2]


def _name_lines(name: str, inches: float) -> list[str]:
    """Return a model's name in lines that fit into its columns, bold letters of 7 points given."""
    room = 0.85 * 0.94 * inches / (7 / style.POINTS)
    lines = labels.filled(name.split() or [""], room)
    if len(lines) > MOST:
        lines = [*lines[: MOST - 1], " ".join(lines[MOST - 1 :])]
    return [labels.cut(line, room) for line in lines]


def write_headers(
    pen: Pen, place: tuple[list[float], float], own: Sequence[str], models: Sequence[str], parts: Sequence[str]
) -> None:
    """Write what each column is, and above its columns the model.

    Args:
        pen: Draws.
        place: What `columns` returned.
        own: Words above the picture and the truth.
        models: Names.
        parts: Words above the columns of each.
    """
    lefts, width = place
    low, middle = MARGIN + head(models, len(parts)) - 0.07, width / 2
    for left, word in zip(lefts, own, strict=False):
        pen.text(left + middle, low, word, align="center")
    for number, model in enumerate(models):
        of_model = lefts[2 + number * len(parts) :][: len(parts)]
        across = of_model[-1] + width - of_model[0]
        lines = _name_lines(model, across)
        for up, line in enumerate(reversed(lines)):  # the last stands just above the parts
            y = low - PARTS + 0.01 - up * NAME
            pen.text(of_model[0] + across / 2, y, line, points=7, align="center", weight="bold")
        for left, part in zip(of_model, parts, strict=True):
            pen.text(left + middle, low, part, align="center")


def draw_picture(pen: Pen, rgba: np.ndarray, box: Box, *, smooth: bool) -> None:
    """Draw colours over hatching, which is seen where they are transparent."""
    x, y, width, height = box
    if (rgba[..., 3] < 1).any():
        inside = (x + 0.003, y + 0.003), width - 0.006, height - 0.006  # no hatching beside the picture's last pixels
        pen.ax.add_patch(Rectangle(*inside, zorder=-1, **style.UNDEFINED))
    pen.picture(rgba, box, smooth=smooth)


def dimmed(image: np.ndarray) -> np.ndarray:
    """Return a picture (H, W, 3) in [0, 1] in dim grey, for colours to be drawn over it."""
    return np.repeat(DIMMED * image.mean(-1, keepdims=True), 3, -1)
