"""What a figure is, and how one is shown and saved.

A figure is a frozen dataclass that holds what is drawn, with a width and a method `draw`. It divides a matplotlib
figure of that width into axes of fixed proportions (`set_aspect`, `set_box_aspect`) and draws on them. Everything else
is done here, for all figures alike: matplotlib's compressed layout makes room for names and legends, the height follows
from the content, and styles and venues (`style`) choose the size.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from matplotlib import figure as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.layout_engine import ConstrainedLayoutEngine, LayoutEngine
from matplotlib.patches import Patch
from matplotlib.transforms import Bbox

from cka_probe import registry
from cka_probe.errors import OutputError
from cka_probe.files import atomic_write
from cka_probe.plotting import labels
from cka_probe.plotting import style as styles

TALL = 40.0
"""Inches: height of the sheet on which a figure is laid out, before it is cut to what the figure needs."""

PANEL = (34.0, 24.0)
"""Em, width and height of a single panel in a column, about."""

METADATA = {  # not when a file was made, so that the same result gives the same bytes
    "png": {"Software": "ckaprobe"},
    "pdf": {"Creator": "ckaprobe", "CreationDate": None},
    "svg": {"Creator": "ckaprobe", "Date": None},
}


class Figure(Protocol):
    """Anything that can be shown and saved."""

    @property
    def width(self) -> float:
        """Width in print, inches."""

    @property
    def narrowest(self) -> float:
        """Least width for which its parts can be arranged, inches; letters keep their size."""

    def draw(self, figure: mpl.Figure) -> None:
        """Draw on an empty figure of any width from `narrowest` to `width`, times `style.scale()`."""


def check_format(path: str | Path) -> None:
    """Check that a path has the suffix of a figure's file.

    Raises:
        OutputError: It does not.
    """
    path = Path(path)
    if path.suffix[1:] not in METADATA:
        raise OutputError(f"figures are written as {', '.join(METADATA)}; found {path.name!r}; choose one of these")


def save(
    figure: Figure,
    paths: Iterable[str | Path],
    *,
    style: str = "paper",
    venue: str | None = None,
    dpi: int | None = None,
) -> list[Path]:
    """Write a figure into each of the files. The same figure gives the same bytes.

    Args:
        figure: What to draw.
        paths: `*.png`, `*.pdf` or `*.svg`.
        style: "paper", "talk" or "screen": how much larger than in print (`style.STYLES`).
        venue: Whose column or page the figure is exactly as wide as (`style.VENUES`).
        dpi: Pixels in an inch of a PNG in the style "paper"; the others have their own.

    Returns:
        The paths written.

    Raises:
        UnknownNameError: There is no such style or venue.
        DataError: The figure cannot be drawn of its data.
        OutputError: A suffix that is not a format, a path that cannot be written to, or a venue whose page is too
            narrow for the figure.
    """
    files = [Path(path) for path in paths]
    for path in files:
        check_format(path)
    pixels = registry.get(styles.STYLES, style, "style").dpi
    if dpi is not None and style == "paper":
        pixels = dpi
    width, scale = width_and_scale(figure, style, venue)
    sheet = laid_out(figure, width, scale)
    with styles.context(scale):
        for path in files:
            suffix = path.suffix[1:]
            with atomic_write(path) as part:
                sheet.savefig(part, format=suffix, metadata=METADATA[suffix], dpi=pixels)
    return files


def show(figure: Figure) -> mpl.Figure:
    """Return a figure that a notebook shows. `matplotlib.pyplot.close` frees it.

    Raises:
        DataError: The figure cannot be drawn of its data.
    """
    import matplotlib.pyplot as plt  # only notebooks need it

    with styles.context():
        sheet = plt.figure(figsize=(figure.width, TALL), dpi=styles.SCREEN_DPI, layout="compressed")
    return laid_out(figure, figure.width, 1.0, sheet)


def width_and_scale(figure: Figure, style: str = "paper", venue: str | None = None) -> tuple[float, float]:
    """Return the width at which a figure is laid out, in inches of print, and how much larger it is written.

    Args:
        figure: What is drawn.
        style: Of `style.STYLES`.
        venue: Of `style.VENUES`, or None for the figure's own width.

    Raises:
        UnknownNameError: No such style or venue.
        OutputError: Letters would be smaller than 5 points even on the venue's page.
    """
    scale = registry.get(styles.STYLES, style, "style").scale
    if venue is None:
        return figure.width, scale
    widths, shrink = registry.get(styles.VENUES, venue, "venue"), styles.SMALLEST / styles.SMALL
    wide = widths.column if figure.width * shrink <= widths.column + 1e-9 else widths.page
    width = min(figure.width, wide / shrink)
    if width < figure.narrowest - 1e-9:
        raise OutputError(
            f"a figure {figure.narrowest:.1f} inches wide has letters of {styles.SMALL * wide / figure.narrowest:.1f} "
            f"points on the {wide:.3g} inches of a page of {venue}, expected at least {styles.SMALLEST:g}; choose "
            "another venue, or none and turn the page"
        )
    return width, scale * wide / width


def laid_out(figure: Figure, width: float, scale: float, sheet: mpl.Figure | None = None) -> mpl.Figure:
    """Draw a figure and return it, as high as its content, every part at its final place.

    Args:
        figure: What to draw.
        width: Inches of print.
        scale: How much larger than print.
        sheet: An empty figure to draw on; by default a new one.
    """
    with styles.context(scale):
        new = sheet is None
        sheet = sheet or mpl.Figure(dpi=200, layout="compressed")  # fine, for widths of letters are whole pixels
        sheet.set_size_inches(width * scale, TALL * scale)
        figure.draw(sheet)
        if new:
            FigureCanvasAgg(sheet)  # keeps the renderer that measures; the canvas of no backend makes one each time
        engine = cast("LayoutEngine", sheet.get_layout_engine())
        for _ in range(5):  # the gap above a colour bar is a share of the height
            engine.execute(sheet)  # as drawing would, without visiting every artist
            height = _content_height(sheet, engine)
            if abs(height - sheet.get_figheight()) < 0.01 * scale:
                break
            sheet.set_figheight(height)
        sheet.set_layout_engine("none")  # otherwise the pixels of a format would move things a little
    return sheet


def _content_height(sheet: mpl.Figure, engine: LayoutEngine) -> float:
    """Return the inches that axes need one below the other, with legends and titles outside of them."""
    pad = float(engine.get()["h_pad"])
    boxes = [box for box in (axes.get_tightbbox() for axes in sheet.axes) if box is not None]
    outside = [artist.get_window_extent().height for artist in (*sheet.legends, *sheet.texts)]
    pixels = Bbox.union(boxes).height + sum(outside)
    return float(pixels / sheet.dpi + 2 * pad * (1 + len(outside)))


def inches(figure: mpl.Figure) -> float:
    """Return the width of a figure that is being drawn, in inches of print."""
    return figure.get_figwidth() / styles.scale()


def panels(
    figure: mpl.Figure, count: int, *, most: int, narrowest: float, aspect: float | None = None, gap: float = 0.0
) -> tuple[list[Axes], int]:
    """Divide a figure into a grid of as many panels next to each other as it has room for, at least one.

    Args:
        figure: An empty figure.
        count: Number of panels.
        most: Panels next to each other at most.
        narrowest: Inches of print that each has at least.
        aspect: Height of each by its width; None: its content decides.
        gap: Inches of print between two panels next to each other, with their names, at least.

    Returns:
        The panels, row by row from the left, and how many are next to each other.
    """
    columns = max(1, min(most, count, int(inches(figure) / narrowest)))
    if gap and isinstance(engine := figure.get_layout_engine(), ConstrainedLayoutEngine):
        engine.set(wspace=gap * columns / inches(figure))
    axes = [ax for row in figure.subplots(-(-count // columns), columns, squeeze=False) for ax in row]
    for ax in axes[count:]:
        ax.remove()
    for ax in axes[:count]:
        ax.set_box_aspect(aspect)
    return axes[:count], columns


def single_panel(figure: mpl.Figure, title: str, x: str, y: str) -> Axes:
    """Return the only panel of a figure of one column, with its title and the words along its axes."""
    wide, high = PANEL
    ax = figure.add_subplot()
    ax.set_box_aspect(high / wide)
    ax.set_title(labels.wrapped(title, wide * styles.SMALL / styles.TEXT))
    ax.set_xlabel(labels.cut(x, wide), fontsize=styles.small())
    ax.set_ylabel(labels.cut(y, high), fontsize=styles.small())
    return ax


def hatch_key(axes: Iterable[Axes], words: str = "undefined") -> list[Artist]:
    """Return the legend's entry for what is hatched on some axes, if anything is."""
    hatched = any(patch.get_hatch() for ax in axes for patch in ax.patches)
    return [Patch(**styles.hatching(), label=words)] * hatched


def add_legend(figure: mpl.Figure, handles: Sequence[Artist], *, title: str = "", hatched: str = "undefined") -> None:
    """Draw a legend below all panels, in as few lines as it needs.

    Args:
        figure: The figure, with all that is drawn.
        handles: What is explained, each with its label.
        title: Lines of words above them. Without any nothing is drawn.
        hatched: What hatching stands for, which is explained where some axes have it.
    """
    handles = [*handles, *hatch_key(figure.axes, hatched)]
    if not handles and not title:
        return
    words: dict[str, Any] = {"title": title or None, "title_fontsize": styles.small(), "alignment": "left"}
    canvas = figure.canvas
    renderer = FigureCanvasAgg(figure).get_renderer()  # one for all trials
    figure.set_canvas(canvas)
    for columns in range(max(1, len(handles)), 0, -1):
        legend = figure.legend(handles=handles, loc="outside lower left", ncols=columns, **words)
        if columns == 1 or legend.get_window_extent(renderer).width <= 0.98 * figure.bbox.width:
            return
        legend.remove()
