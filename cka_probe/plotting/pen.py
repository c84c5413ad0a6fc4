"""Where the words beside points go, so that none is over another, over a point, or over the edge.

A label tries places around its point, near ones first, and takes the one that covers least; as what is free depends on
where the others are, all choose again a few times. No chance is in it: the same points give the same places.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.transforms import Affine2D

from cka_probe.plotting import labels, style

DISTANCES = (0.09, 0.13, 0.18, 0.25, 0.33, 0.42)  # inches from the point to the middle of its label
DIRECTIONS = 16
ROUNDS = 4
EDGE, LABEL, POINT, LINE, OTHER = 1e3, 300.0, 60.0, 2.0, 0.3
"""What it costs to be over the edge, a label or a point (for each square tenth of an inch), to be crossed by a line
(for each tenth), and to be nearer to another point than to one's own."""


def place_labels(
    points: np.ndarray, wide: Sequence[float], high: float, lines: np.ndarray, size: tuple[float, float]
) -> np.ndarray:
    """Return where the middles of labels go, (n, 2) inches.

    Args:
        points: (n, 2) inches from a corner of the panel; each has a label.
        wide: Width of each label.
        high: Height of all labels.
        lines: (m, 4) x and y of both ends of level and upright lines that are better not covered.
        size: Width and height of the panel.
    """
    angles = np.pi / 4 + 2 * np.pi * np.arange(DIRECTIONS) / DIRECTIONS  # above and to the right first
    around = np.array([(d * np.cos(a), d * np.sin(a)) for d in DISTANCES for a in angles])
    half = np.stack([np.asarray(wide, float) / 2, np.full(len(points), high / 2)], 1)
    tries = (
        points[:, None] + around + np.sign(around.round(9)) * np.array([1.0, 0.0]) * (half[:, None] - high / 2).clip(0)
    )
    alone = np.stack(
        [_alone(number, tries[number], half[number], points, lines, size) for number in range(len(points))]
    )
    chosen = tries[np.arange(len(points)), alone.argmin(1)]
    for _ in range(ROUNDS):
        for number in range(len(points)):
            others = np.delete(np.arange(len(points)), number)
            taken = _common(tries[number], half[number], chosen[others], half[others]).sum(1)
            chosen[number] = tries[number, (alone[number] + LABEL * taken).argmin()]
    return chosen


def _alone(
    number: int, tries: np.ndarray, half: np.ndarray, points: np.ndarray, lines: np.ndarray, size: tuple[float, float]
) -> np.ndarray:
    """Return what each place (k, 2) costs apart from other labels."""
    over = (half - tries).clip(0) + (tries + half - np.asarray(size)).clip(0)
    cost = 10 * np.hypot(*(tries - points[number]).T) + EDGE * 10 * over.sum(1)
    cost += POINT * _common(tries, half, points, np.full((len(points), 2), 0.035)).sum(1)
    if len(lines):
        ends = lines.reshape(-1, 2, 2)
        middles, reach = ends.mean(1), np.abs(ends[:, 1] - ends[:, 0]) / 2
        shared = _shared(tries, half, middles, reach)
        cost += LINE * 10 * np.where((shared >= 0).all(-1), shared.max(-1), 0).sum(1)
    away = np.hypot(*(tries[:, None] - points).transpose(2, 0, 1))
    return cost + OTHER * (away.argmin(1) != number)


def _shared(tries: np.ndarray, half: np.ndarray, middles: np.ndarray, halves: np.ndarray) -> np.ndarray:
    """Return by how much boxes overlap in each direction, (k, m, 2); below 0 where they are apart."""
    return half + halves - np.abs(tries[:, None] - middles)


def _common(tries: np.ndarray, half: np.ndarray, middles: np.ndarray, halves: np.ndarray) -> np.ndarray:
    """Return the common area of boxes in square tenths of an inch, (k, m)."""
    return 100 * _shared(tries, half, middles, halves).clip(0).prod(-1)


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
        drawn = min(
            box.width * style.figure_of(ax).get_figwidth() / size[0],
            box.height * style.figure_of(ax).get_figheight() / size[1],
        )
        self.design = size[0] / style.PAGE if design is None else design
        self.scale = drawn * self.design

    @property
    def sizes(self) -> style.Sizes:
        """Letters in points on the page as it is drawn."""
        return style.Sizes(text=7 * self.scale, small=6 * self.scale)

    def room(self, width: float, points: float = 6) -> float:
        """Return how many em of such letters go into a width in inches; on a screen they are a little wider."""
        return 0.94 * width / (points * self.design / style.POINTS)

    def text(self, x: float, y: float, text: str, *, points: float = 6, align: str = "left", **look: Any) -> None:
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
        look: dict[str, Any] = {
            "handlelength": 1.6,
            "handletextpad": 0.5,
            "columnspacing": 1.2,
            "borderpad": 0,
            "borderaxespad": 0,
        }
        place: dict[str, Any] = {
            "loc": f"center {align}",
            "bbox_to_anchor": (x, y),
            "bbox_transform": self.ax.transData,
        }
        look |= {"frameon": False, "fontsize": self.sizes.small, "ncols": len(handles)}
        legend = self.ax.legend(handles=handles, **place, **look)
        for handle in legend.legend_handles:
            if handle is not None:
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


LEFT, RIGHT, TOP, LINE_panel, HEIGHT, BELOW = 0.54, 0.16, 0.06, 0.16, 2.0, 0.36
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
            pen.text(TOP, TOP + LINE_panel / 2, labels.cut(self.title, room), points=7, weight="bold")
        for number, line in enumerate(self._lines):
            pen.legend(line, TOP, TOP + (number + 0.5 + bool(self.title)) * LINE_panel)
        panel = pen.panel((LEFT, self._top, width, HEIGHT))
        panel.spines[["top", "right"]].set_visible(False)
        look: dict[str, Any] = {"fontsize": pen.sizes.small, "labelpad": 2 * pen.scale, "parse_math": False}
        panel.set_xlabel(labels.cut(self.across, pen.room(width)), **look)
        panel.set_ylabel(labels.cut(self.up, pen.room(HEIGHT)), **look)
        return pen, panel

    @property
    def _lines(self) -> list[list[Artist]]:
        return legend_lines(self.handles, style.COLUMN - 2 * TOP)

    @property
    def _top(self) -> float:
        return TOP + (bool(self.title) + len(self._lines)) * LINE_panel + 0.5 * LINE_panel
