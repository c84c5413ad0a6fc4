"""Grids of images: how one is drawn, and what the colours mean."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import figure as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch, Rectangle

from cka_probe.plotting import colouring, labels, style

DPI = 300
"""Pixels in an inch of figures of images, in print."""
PANEL = 1.7
"""Inches: width of a panel of few."""
BAR = 1.9
"""Inches: length of a colour bar."""
DIMMED = 0.55
"""How bright an image is under what is drawn over it."""


class Scale(NamedTuple):
    """What the colours of a map mean: RGBA (n, 4) from left to right, words at shares of the bar, and what it is of."""

    colours: np.ndarray
    ticks: Sequence[tuple[str, float]]
    words: str


class Tile(NamedTuple):
    """One panel: colours (H, W, 4), whether to interpolate them, and words in the middle, above and below.

    A panel without colours is empty, or hatched.
    """

    rgba: np.ndarray | None = None
    smooth: bool = False
    words: str = ""
    title: str = ""
    note: str = ""
    hatched: bool = False


def draw_tiles(
    figure: mpl.Figure, lines: Sequence[Sequence[Tile]], aspects: Sequence[float], panel: float
) -> np.ndarray:
    """Draw a grid of tiles.

    Args:
        figure: An empty figure.
        lines: The tiles of each line from the left; the rest of a shorter line stays empty.
        aspects: Height of the axes of each line by their width, in which the images are whole.
        panel: Inches of print that the axes are wide, to which words are cut.

    Returns:
        The axes, (lines, columns).
    """
    columns = max(map(len, lines))
    axes = figure.subplots(len(lines), columns, squeeze=False, height_ratios=aspects)
    room = style.em(0.94 * panel)
    for tiles, row, aspect in zip(lines, axes, aspects, strict=True):
        for ax, tile in zip(row, [*tiles, *[Tile()] * (columns - len(tiles))], strict=True):
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
            ax.set_box_aspect(aspect)
            ax.set_title(labels.cut(tile.title, room), fontsize=style.small())
            ax.set_xlabel(tile.note, fontsize=style.small())
            middle: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": style.small()}
            colour = "black" if tile.rgba is None else "white"
            ax.text(0.5, 0.5, labels.cut(tile.words, room), transform=ax.transAxes, color=colour, **middle)
            if tile.hatched:
                ax.add_patch(Rectangle((0, 0), 1, 1, transform=ax.transAxes, **style.hatching()))
            if tile.rgba is not None:
                _draw_image(ax, tile.rgba, aspect, smooth=tile.smooth)
    return axes


def _draw_image(ax: Axes, rgba: np.ndarray, aspect: float, *, smooth: bool) -> None:
    """Draw colours over hatching, which is seen where they are transparent."""
    height, width = rgba.shape[:2]
    if (rgba[..., 3] < 1).any():
        ax.add_patch(Rectangle((0, 0), width, height, zorder=0, **style.hatching()))
    pixels = colouring.reduced(rgba.transpose(2, 0, 1), int(3 * PANEL * DPI), smooth=smooth).transpose(1, 2, 0)
    ax.imshow(pixels, extent=(0, width, height, 0), interpolation="antialiased" if smooth else "nearest", aspect="auto")
    frame: dict[str, Any] = {"edgecolor": "#b0b0b0", "linewidth": style.points(0.4)}
    ax.add_patch(Rectangle((0, 0), width, height, fill=False, clip_on=False, **frame))
    across, down = max(width, height / aspect), max(height, width * aspect)
    ax.set(xlim=((width - across) / 2, (width + across) / 2), ylim=((height + down) / 2, (height - down) / 2))


def wrapped(name: str, width: float, most: int = 3) -> str:
    """Return a name in at most so many lines of bold letters, no wider than a number of inches."""
    room = style.em(width, style.TEXT)
    lines = labels.filled(re.findall(r"[^\s~_/-]*[\s~_/-]*", name), room / 1.2, between="")
    lines = [*lines[: most - 1], "".join(lines[most - 1 :])] if len(lines) > most else lines
    return "\n".join(labels.cut(line.strip(), room, bold=True) for line in lines)


def add_scales(figure: mpl.Figure, axes: np.ndarray, scales: Sequence[Scale], panel: float) -> None:
    """Draw colour bars next to each other below all images.

    Args:
        figure: The figure.
        axes: (rows, columns) of images.
        scales: What the colours mean.
        panel: Inches of print that a column is wide.
    """
    per_line = max(1, int(axes.shape[1] * panel / (BAR + 0.5)))
    height = panel * sum(float(ax.get_box_aspect() or 0.0) for ax in axes[:, 0])
    for start in range(0, len(scales), per_line):
        line = scales[start : start + per_line]
        for scale, part in zip(line, np.array_split(np.arange(axes.shape[1]), len(line)), strict=True):
            bar = figure.colorbar(
                ScalarMappable(cmap=ListedColormap(scale.colours)), ax=axes[:, part].ravel().tolist(),
                location="bottom", aspect=BAR / 0.09, shrink=min(1.0, BAR / (len(part) * panel)), anchor=(0.0, 0.5),
                pad=0.1 / height,
            )  # fmt: skip
            bar.set_ticks([share for _, share in scale.ticks], labels=[words for words, _ in scale.ticks])
            bar.set_label(scale.words, fontsize=style.small())


def depth_scale(depth: tuple[float, float], words: str) -> Scale:
    """Return the scale of inverse depth from the nearest on the left to the farthest, with metres below."""
    near, far = depth
    inverse = np.linspace(1 / near, 1 / far, 256)[None, None]
    ticks = [(f"{metres:g}", share) for metres, share in metre_ticks(near, far)]
    return Scale(colouring.inverse_depth(1 / inverse, near, far)[0], ticks, words)


def metre_ticks(near: float, far: float) -> list[tuple[float, float]]:
    """Return round numbers of metres and where they stand on a bar of inverse depth, 0 near to 1 far.

    >>> [metres for metres, _ in metre_ticks(0.8, 9.0)]
    [1.0, 1.5, 2.0, 3.0, 5.0]
    """
    ticks: list[tuple[float, float]] = []
    span = max(1 / near - 1 / far, 1e-12)
    for digits in ((1, 1.5, 2, 3, 4, 5, 7), (1, 1.2, 1.5, 1.8, 2, 2.2, 2.5, 3, 3.5, 4, 4.5, 5, 5.5, 6, 7, 8, 9)):
        if len(ticks) >= 3:
            break
        ticks = []  # a narrow range needs finer steps
        for metres in (digit * 10.0**power for power in range(-4, 5) for digit in digits):
            share = (1 / near - 1 / metres) / span
            if 0 <= share <= 1 and (not ticks or share - ticks[-1][1] > 0.09):
                ticks.append((metres, share))
    return ticks


def colour_keys(colours: Mapping[str, Sequence[float]]) -> list[Artist]:
    """Return the legend's entries for colours, RGB in 0 … 255, by name."""
    edge: dict[str, Any] = {"edgecolor": "black", "linewidth": style.points(0.3)}
    return [Patch(facecolor=tuple(np.array(rgb) / 255), label=name, **edge) for name, rgb in colours.items()]


def class_keys(maps: Sequence[np.ndarray], names: Sequence[str], colours: np.ndarray) -> list[Artist]:
    """Return the legend's entries for the classes that are on some maps of their numbers."""
    numbers = sorted(set().union(*(np.unique(map).tolist() for map in maps)))
    known = [number for number in numbers if number != colouring.IGNORE and number < len(names)]
    return colour_keys({labels.cut(names[number], 13.0): colours[number] for number in known})


def dimmed(image: np.ndarray) -> np.ndarray:
    """Return an image (H, W, 3) in [0, 1] in dim grey, for colours to be drawn over it."""
    return np.repeat(DIMMED * image.mean(-1, keepdims=True), 3, -1)
