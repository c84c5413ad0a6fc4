"""Rows of images with columns for each model: where they stand, what is written above them, how maps are drawn.

The first two columns are the image and the truth; every model then has the same few columns, a little apart. Names of
models that are too long for their columns are written in up to three lines. Where a page is too narrow for all models,
some stand below the others, in a band of their own, again beside the image and the truth.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.patches import Rectangle

from cka_probe.plotting import labels, style
from cka_probe.plotting.pen import Pen

MARGIN, GAP, ROOM = 0.08, 0.04, 0.12  # inches: at the border, between panels, before the first panel of a model
NAME, PARTS, CAPTION, WIDEST = 0.13, 0.17, 0.15, 1.7  # heights of lines: models, parts, rows; width of a panel of few
APART = 0.1  # inches between two bands
MOST = 3  # lines of a model's name
DPI = 300
DIMMED = 0.55
"""How bright an image is under what is drawn over it."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Columns:
    """Where columns stand, in inches.

    Attributes:
        lefts: Where each begins: image, truth, then the parts of each model of a band.
        panel: How wide all are.
        bands: The models that stand beside each other, from above.
        parts: How many each model has.
        head: Height of what is written above a band.
    """

    lefts: list[float]
    panel: float
    bands: list[list[str]]
    parts: int
    head: float

    @property
    def width(self) -> float:
        """Of the page: of all columns with their margins, but no less than a column of print."""
        return max(self.lefts[-1] + self.panel + MARGIN, style.COLUMN)

    def height(self, panels: Sequence[float]) -> float:
        """Return the height of all bands between margins, each with rows whose panels are so high."""
        bands = len(self.bands)
        written = 2 * MARGIN + bands * self.head
        return written + bands * sum(panels) + bands * len(panels) * (CAPTION + GAP) + (bands - 1) * APART


def columns(models: Sequence[str], parts: int, page: float = math.inf) -> Columns:
    """Return where columns stand: image, truth, then the parts of each model.

    Args:
        models: Names.
        parts: How many each has.
        page: Inches that they may be wide; as many models as fit are beside each other, and at least one.
    """
    for count in range(1, len(models) + 1):
        beside = -(-len(models) // count)
        lefts, width = _places(beside, parts, min(style.PAGE, page))
        if lefts[-1] + width + MARGIN <= page + 1e-9:
            break
    bands = [list(models[start : start + beside]) for start in range(0, len(models), beside)]
    across = lefts[1 + parts] + width - lefts[2]
    head = max(len(_name_lines(model, across)) for model in models) * NAME + PARTS
    return Columns(lefts, width, bands, parts, head)


def _places(models: int, parts: int, page: float) -> tuple[list[float], float]:
    """Return where each column begins and how wide all are, inches."""
    count = 2 + models * parts
    width = min(WIDEST, (page - 2 * MARGIN - GAP * (count - 1) - (ROOM - GAP) * models) / count)
    width = max(width, 0.6)  # many models take a wider page: smaller panels show nothing
    lefts = [MARGIN, MARGIN + width + GAP]
    for _ in range(models):
        lefts += [lefts[-1] + width + ROOM + number * (width + GAP) for number in range(parts)]
    return lefts, width


def _name_lines(name: str, inches: float) -> list[str]:
    """Return a model's name in lines that fit into its columns, bold letters of 7 points given."""
    room = 0.85 * 0.94 * inches / (7 / style.POINTS)
    lines = labels.filled(name.split() or [""], room)
    if len(lines) > MOST:
        lines = [*lines[: MOST - 1], " ".join(lines[MOST - 1 :])]
    return [labels.cut(line, room) for line in lines]


def write_headers(
    pen: Pen, columns: Columns, top: float, own: Sequence[str], models: Sequence[str], parts: Sequence[str]
) -> None:
    """Write what each column is, and above its columns the model.

    Args:
        pen: Draws.
        columns: Where they stand.
        top: Of the band, inches.
        own: Words above the image and the truth.
        models: Names of those in the band.
        parts: Words above the columns of each.
    """
    lefts, width = columns.lefts, columns.panel
    low, middle = top + columns.head - 0.07, width / 2
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


def draw_image(pen: Pen, rgba: np.ndarray, box: Box, *, smooth: bool) -> None:
    """Draw colours over hatching, which is seen where they are transparent."""
    x, y, width, height = box
    if (rgba[..., 3] < 1).any():
        inside = (x + 0.003, y + 0.003), width - 0.006, height - 0.006  # no hatching beside the image's last pixels
        pen.ax.add_patch(Rectangle(*inside, zorder=-1, **style.UNDEFINED))
    pen.image(rgba, box, smooth=smooth)


def dimmed(image: np.ndarray) -> np.ndarray:
    """Return an image (H, W, 3) in [0, 1] in dim grey, for colours to be drawn over it."""
    return np.repeat(DIMMED * image.mean(-1, keepdims=True), 3, -1)
