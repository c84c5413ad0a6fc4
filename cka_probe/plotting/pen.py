"""Pages: axes whose coordinates are inches from the top left, so that everything on them has a place known beforehand.

A figure of many panels that share scales is not left to a layout engine, which would make panels of one figure, or
figures of one paper, differ in size by the length of a label. It is designed in inches and drawn on axes of any size.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.transforms import Affine2D

from cka_probe.plotting import labels, style

SAMPLE, APART = 0.19, 0.1  # inches: of a legend's entry without its words, and between two


def filling(figure: Figure) -> Axes:
    """Return axes that fill the figure, whose layout is that of what will be drawn."""
    figure.set_layout_engine("none")
    return figure.add_axes((0, 0, 1, 1))


def bold_width(text: str) -> float:
    """Return the width in inches of bold letters of 7 points."""
    return 1.15 * labels.width(text) * 7 / style.POINTS


def legend_lines(handles: Sequence[Artist], width: float) -> list[list[Artist]]:
    """Return the entries of a legend in as few lines as they need, in order, none wider than `width` inches."""
    lines: list[list[Artist]] = []
    used = np.inf
    for handle in handles:
        needed = SAMPLE + APART + labels.width(handle.get_label()) * 6 / style.POINTS * 1.06
        if used + needed > width + APART:
            lines.append([])
            used = 0.0
        lines[-1].append(handle)
        used += needed
    return lines


class Pen:
    """Draws on axes in inches of the designed size, from the top left.

    Args:
        ax: The axes; they lose their frame and are given the page's coordinates.
        size: Width and height of the design.
        design: How much larger than 6 and 7 points letters are at the designed size; by default they grow with a
            design that is wider than a page.
    """

    def __init__(self, ax: Axes, size: tuple[float, float], design: float | None = None):
        self.ax, self.size = ax, size
        ax.set_axis_off()
        ax.set_xlim(0, size[0])
        ax.set_ylim(size[1], 0)
        ax.set_aspect("equal", adjustable="box")
        box = ax.get_position(original=True)
        drawn = min(box.width * ax.figure.get_figwidth() / size[0], box.height * ax.figure.get_figheight() / size[1])
        self.design = size[0] / style.PAGE if design is None else design
        self.scale = drawn * self.design

    @property
    def sizes(self) -> style.Sizes:
        """Letters in points on the page as it is drawn."""
        return style.Sizes(text=7 * self.scale, small=6 * self.scale)

    def room(self, width: float, points: float = 6) -> float:
        """Return how many em of such letters go into a width in inches; on a screen they are a little wider."""
        return 0.94 * width / (points * self.design / style.POINTS)

    def text(self, x: float, y: float, text: str, *, points: float = 6, align: str = "left", **look: object) -> None:
        """Write a line whose middle is at height y; `look` is matplotlib's (color, rotation, weight)."""
        self.ax.text(
            x,
            y,
            text,
            fontsize=points * self.scale,
            ha=align,
            va="center_baseline" if not look.get("rotation") else "center",
            parse_math=False,
            **look,
        )

    def image(self, rgba: np.ndarray, box: tuple[float, float, float, float], *, smooth: bool = False) -> None:
        """Draw colours (H, W, 4) into a box (x, y, width, height); only images are smoothed when resized."""
        x, y, width, height = box
        limits = self.ax.get_xlim(), self.ax.get_ylim()
        extent, interpolation = (x, x + width, y + height, y), "antialiased" if smooth else "nearest"
        self.ax.imshow(rgba, extent=extent, interpolation=interpolation, aspect="equal")
        self.ax.set(xlim=limits[0], ylim=limits[1])

    def panel(self, box: tuple[float, float, float, float]) -> Axes:
        """Return empty axes in a box (x, y, width, height), with thin lines and small tick labels."""
        x, y, width, height = box
        upward = Affine2D().scale(1, -1).translate(0, self.size[1])  # matplotlib's boxes stand on their lower edge
        panel = self.ax.inset_axes((x, self.size[1] - y - height, width, height), transform=upward + self.ax.transData)
        style.plain_frame(panel, self.sizes, self.scale)
        return panel

    def legend(self, handles: Sequence[Artist], x: float, y: float, *, align: str = "left") -> None:
        """Draw one line of a legend whose middle is at height y."""
        look = {"handlelength": 1.6, "handletextpad": 0.5, "columnspacing": 1.2, "borderpad": 0, "borderaxespad": 0}
        place = {"loc": f"center {align}", "bbox_to_anchor": (x, y), "bbox_transform": self.ax.transData}
        look |= {"frameon": False, "fontsize": self.sizes.small, "ncols": len(handles)}
        legend = self.ax.legend(handles=handles, **place, **look)
        for handle in legend.legend_handles:
            _enlarge(handle, self.scale)
        self.ax.add_artist(legend)
        self.ax.legend_ = None  # else the next line of the legend would take this one's place


def _enlarge(handle: Artist, scale: float) -> None:
    """Draw a legend's sample, which is as large as in print, with the lines and markers of a page of this scale."""
    if isinstance(handle, Line2D | Patch):
        handle.set_linewidth(handle.get_linewidth() * scale)
    if isinstance(handle, Line2D):
        handle.set_markersize(handle.get_markersize() * scale)
        handle.set_markeredgewidth(handle.get_markeredgewidth() * scale)
