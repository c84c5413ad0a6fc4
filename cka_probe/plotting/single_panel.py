"""One panel with a title and a legend above it, in inches of a printed column."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.artist import Artist
from matplotlib.axes import Axes

from cka_probe.plotting import labels, style
from cka_probe.plotting.pen import Pen, legend_lines

LEFT, RIGHT, TOP, LINE, HEIGHT, BELOW = 0.54, 0.16, 0.06, 0.16, 2.0, 0.36
"""Inches: left and right of the panel, above everything, of a line above it, of the panel, and below it."""


@dataclass(frozen=True)
class SinglePanel:
    """What stands around the panel.

    Attributes:
        title: The line above, or "".
        handles: Entries of the legend, in order.
        across: Words along the horizontal axis.
        up: Words along the vertical axis.
    """

    title: str
    handles: Sequence[Artist]
    across: str
    up: str

    @property
    def size(self) -> tuple[float, float]:
        """Width and height in inches."""
        return style.COLUMN, self._top + HEIGHT + BELOW

    def begin(self, ax: Axes) -> tuple[Pen, Axes]:
        """Write everything around the panel on `ax`, which it fills, and return what draws and the empty panel."""
        pen = Pen(ax, self.size, design=1.0)
        width = self.size[0] - LEFT - RIGHT
        if self.title:
            room = pen.room(self.size[0] - 2 * TOP, 7) / 1.25  # bold letters are wider, a "t" by a fifth
            pen.text(TOP, TOP + LINE / 2, labels.cut(self.title, room), points=7, weight="bold")
        for number, line in enumerate(self._lines):
            pen.legend(line, TOP, TOP + (number + 0.5 + bool(self.title)) * LINE)
        panel = pen.panel((LEFT, self._top, width, HEIGHT))
        panel.spines[["top", "right"]].set_visible(False)
        look = {"fontsize": pen.sizes.small, "labelpad": 2 * pen.scale, "parse_math": False}
        panel.set_xlabel(labels.cut(self.across, pen.room(width)), **look)
        panel.set_ylabel(labels.cut(self.up, pen.room(HEIGHT)), **look)
        return pen, panel

    @property
    def _lines(self) -> list[list[Artist]]:
        return legend_lines(self.handles, style.COLUMN - 2 * TOP)

    @property
    def _top(self) -> float:
        return TOP + (bool(self.title) + len(self._lines)) * LINE + 0.5 * LINE
