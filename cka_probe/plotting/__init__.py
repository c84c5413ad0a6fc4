"""Figures of a result: functions `f(result, ax) -> Axes` that draw on the axes they are given and do nothing else.

A new figure is one file with two functions, the figure and its size, and one line in each of the tables below.
A contact sheet shows samples and not a result, so it stands beside the tables, in `contact_sheet`.
`new_axes` makes axes that a notebook shows; `save_figure` writes files, and the same result gives the same bytes.
How large, for which reader and for whose column, is the style and the venue of `save_drawing`, which all figures share.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.text import Text

from cka_probe import registry
from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.errors import DataError, OutputError
from cka_probe.files import atomic_write
from cka_probe.plotting import style as looks
from cka_probe.plotting.heatmap import heatmap, heatmap_size
from cka_probe.plotting.pen import filling
from cka_probe.plotting.profile import profile, profile_size
from cka_probe.plotting.uncertainty import uncertainty, uncertainty_size

FIGURES = {"heatmap": heatmap, "profile": profile, "uncertainty": uncertainty}
SIZES = {"heatmap": heatmap_size, "profile": profile_size, "uncertainty": uncertainty_size}
WHOLE = ("uncertainty",)
"""Those that fill the figure, whose parts have places in inches on a page."""

METADATA = {  # what a file says of itself: not when it was made, so that it can be compared byte by byte
    "png": {"Software": "ckaprobe"},
    "pdf": {"Creator": "ckaprobe", "CreationDate": None},
    "svg": {"Creator": "ckaprobe", "Date": None},
}

__all__ = [
    "FIGURES",
    "SIZES",
    "FigureFile",
    "axes_in",
    "check_format",
    "figures_for",
    "heatmap",
    "new_axes",
    "profile",
    "save_drawing",
    "save_figure",
    "save_planned",
    "uncertainty",
]


def figures_for(result: SimilarityMatrix) -> list[str]:
    """Return the names of the figures that can be drawn of this result."""
    return [name for name in FIGURES if _applies(name, result)]


def _applies(name: str, result: SimilarityMatrix) -> bool:
    try:
        SIZES[name](result)
    except DataError:
        return False
    return True


def new_axes(name: str, result: SimilarityMatrix) -> Axes:
    """Return empty axes in a new figure of the right size, for a notebook or an interactive session.

    The figure is pyplot's, since only those show themselves; `matplotlib.pyplot.close` frees it. Files need
    none of this: see `save_figure`.

    Args:
        name: A figure's name.
        result: What will be drawn.

    Raises:
        UnknownNameError: There is no such figure.
        DataError: The figure cannot be drawn of this result.
    """
    # Compressed is the constrained layout that also knows of axes whose cells are square.
    import matplotlib.pyplot as plt  # here, because importing it chooses a backend

    size = registry.get(SIZES, name, "figure")(result)
    return axes_in(plt.figure(figsize=size, dpi=looks.SCREEN_DPI, layout="compressed"), name)


def axes_in(figure: Figure, name: str) -> Axes:
    """Return the empty axes that a figure of this name is drawn on: all of `figure`, or a plot within margins."""
    return filling(figure) if name in WHOLE else figure.add_subplot()


def save_figure(
    result: SimilarityMatrix, name: str, paths: Iterable[str | Path], *, style: str = "paper", venue: str | None = None
) -> list[Path]:
    """Draw a figure into each of the files, under the same settings everywhere.

    Args:
        result: What to draw.
        name: A figure's name.
        paths: `*.png`, `*.pdf` or `*.svg`.
        style: As for `save_drawing`.
        venue: As for `save_drawing`.

    Returns:
        The paths written.

    Raises:
        UnknownNameError: There is no such figure, style or venue.
        DataError: The figure cannot be drawn of this result.
        OutputError: A suffix that is not a format, a place that cannot be written to, or a venue that is too narrow.
    """
    draw, whole = registry.get(FIGURES, name, "figure"), name in WHOLE
    file = FigureFile(draw, SIZES[name], arranged=whole, margins=not whole)
    return file(result, paths, style=style, venue=venue)


def save_planned(
    draw: Callable[..., Axes],
    size: Callable[..., tuple[float, float]],
    thing: object,
    paths: Iterable[str | Path],
    *,
    dpi: int | None = None,
    style: str = "paper",
    venue: str | None = None,
) -> list[Path]:
    """Write a figure that fills its axes into each of the files, its parts arranged for the venue's page.

    Args:
        draw: `f(thing, ax, *, page)`; `page` is how many inches wide the design may be.
        size: `f(thing, *, page)`, width and height of the design.
        thing: What to draw.
        paths: As for `save_drawing`, like the others and what it returns and raises.
        dpi: Pixels in an inch.
        style: How much larger.
        venue: Whose column or page.
    """
    page = looks.page_for(venue)
    return save_drawing(
        lambda figure: draw(thing, filling(figure), page=page), size(thing, page=page), paths,
        dpi=dpi, style=style, venue=venue,
    )  # fmt: skip


@dataclass(frozen=True)
class FigureFile:
    """A figure as a function that writes files: whatever is drawn, saved under the same settings.

    Attributes:
        draw: `f(thing, ax)` or, of an arranged figure, `f(thing, ax, *, page)`.
        size: `f(thing)` or `f(thing, *, page)`: width and height of the design, inches.
        dpi: Pixels in an inch in the style "paper"; None for the default.
        arranged: Whether parts of the figure move to fit a page of limited width.
        margins: Whether it is drawn on axes with margins for labels, and not on the whole figure.
    """

    draw: Callable[..., Axes]
    size: Callable[..., tuple[float, float]]
    dpi: int | None = None
    arranged: bool = True
    margins: bool = False

    def __call__(
        self, thing: Any, paths: Iterable[str | Path], *, style: str = "paper", venue: str | None = None
    ) -> list[Path]:
        """Draw into each of the files.

        Args:
            thing: What to draw.
            paths: `*.png`, `*.pdf` or `*.svg`.
            style: "paper", "talk" or "screen".
            venue: Whose column or page the figure is exactly as wide as.

        Returns:
            The paths written.

        Raises:
            UnknownNameError: There is no such style or venue.
            DataError: The figure cannot be drawn of this.
            OutputError: A suffix that is not a format, a place that cannot be written to, or a venue that is too
                narrow.
        """
        if self.arranged:
            return save_planned(self.draw, self.size, thing, paths, dpi=self.dpi, style=style, venue=venue)
        on = Figure.add_subplot if self.margins else filling
        return save_drawing(
            lambda figure: self.draw(thing, on(figure)), self.size(thing), paths, dpi=self.dpi, style=style, venue=venue
        )


def check_format(path: str | Path) -> None:
    """Check that a path ends as a file of a figure does.

    Raises:
        OutputError: It does not.
    """
    path = Path(path)
    if path.suffix[1:] not in METADATA:
        raise OutputError(f"figures are written as {', '.join(METADATA)}; found {path.name!r}; choose one of these")


def save_drawing(
    draw: Callable[[Figure], object],
    size: tuple[float, float],
    paths: Iterable[str | Path],
    *,
    dpi: int | None = None,
    style: str = "paper",
    venue: str | None = None,
) -> list[Path]:
    """Write whatever `draw` draws on a figure into each of the files, under the settings of all figures.

    Args:
        draw: Draws on the empty figure it is given, of the proportions of `size`, everything as large as the figure.
        size: Width and height of the design, inches.
        paths: `*.png`, `*.pdf` or `*.svg`.
        dpi: Pixels in an inch in the style "paper"; the others have their own.
        style: "paper", "talk" or "screen": how much larger than the design (`style.STYLES`).
        venue: Whose column or page the figure is exactly as wide as (`style.VENUES`).

    Returns:
        The paths written.

    Raises:
        UnknownNameError: There is no such style or venue.
        OutputError: A suffix that is not a format, a place that cannot be written to, or a venue whose page is too
            narrow for the figure's letters.
    """
    files = [Path(path) for path in paths]
    for path in files:
        check_format(path)
    chosen = registry.get(looks.STYLES, style, "style")
    with matplotlib.style.context(["default", looks.FILE_STYLE]):  # nobody's own settings, and none left behind
        letters = _smallest_letters(draw, size) if venue is not None else looks.LETTERS
        scale = looks.scale_for(size[0], letters, style, venue)
        matplotlib.rcParams["hatch.linewidth"] *= scale
        pixels = dpi if dpi is not None and style == "paper" else chosen.dpi
        for path in files:
            figure = _figure(size, scale)
            draw(figure)
            _space_hatching(figure, scale)
            with atomic_write(path) as beside:
                figure.savefig(beside, format=path.suffix[1:], metadata=METADATA[path.suffix[1:]], dpi=pixels)
    return files


def _figure(size: tuple[float, float], scale: float = 1.0) -> Figure:
    """Return an empty figure of `scale` times a size, whose layout leaves margins of the same part of it."""
    figure = Figure(figsize=(size[0] * scale, size[1] * scale), layout="compressed")
    engine: Any = figure.get_layout_engine()
    pads = engine.get()
    engine.set(w_pad=pads["w_pad"] * scale, h_pad=pads["h_pad"] * scale)
    return figure


def _space_hatching(figure: Figure, scale: float) -> None:
    """Give hatching as many lines as in the design: matplotlib has so many in an inch, however large a figure is."""
    for patch in figure.findobj(Patch):
        if patch.get_hatch():
            patch.set_hatch(patch.get_hatch()[: max(1, round(len(patch.get_hatch()) / scale))])


def _smallest_letters(draw: Callable[[Figure], object], size: tuple[float, float]) -> float:
    """Return the points of the smallest letters of a drawing, as designed."""
    figure = _figure(size)
    draw(figure)
    written = [float(text.get_fontsize()) for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    return min(written, default=looks.LETTERS)
