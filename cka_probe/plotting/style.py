"""How figures look: sizes, colours, fonts, and the settings under which files are written.

A figure is designed in inches of print, for a column of 3.5 or a page of 7.2 inches, with letters of 6 and 7 points,
and everything on it grows with its axes. A style is how much larger than that design a figure is written, and with how
many pixels (`STYLES`); a venue is exactly how wide (`VENUES`):

    paper   as designed: letters of 6 and 7 points, 400 pixels in an inch
    screen  1.5 times as large, for pages and notebooks: a column has 504 CSS pixels, its letters 12 and 14; PNG at
            192 pixels in an inch, two for each CSS pixel
    talk    2.4 times as large, for slides: a column fills 8.4 of a slide's 13.3 inches, its letters have 14 and 17
            points; PNG at 200 pixels in an inch

With a venue, a figure is as wide as the narrower of the venue's column and page in which no letter is smaller than 5
points, times what the style says: so a talk's letters have at least 12 points, with a venue or without, and the figures
of one paper keep their proportions on its slides. Figures of many parts are arranged anew for a page that is narrower
than the design's (`page_for`); one that is still too wide is refused.

Colours are told apart by readers who see colours differently, and the colour map is perceptually uniform with light
for high, so that it also survives a grey printer.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from cka_probe import registry
from cka_probe.errors import OutputError

COLUMN = 3.5  # inches: one column of a two-column page
PAGE = 7.2  # inches: two columns of a page
POINTS = 72  # per inch
SCREEN_DPI = 200  # in a notebook, where a printed column at 100 dpi would be too small to read
FILE_DPI = 400
LETTERS = 6.0  # points: the smallest letters of a design
LEAST = 5.0  # points: the smallest letters a venue's width may make of them

COLOURS = "magma"
WIDTHS = "Blues"
"""Colours of the widths of intervals, of another hue than values: the darker, the wider."""
DIVERGING = LinearSegmentedColormap.from_list(
    "difference",
    ("#0a559f", "#547ac0", "#8ba1d9", "#c1cbeb", "#f7f7f7", "#f2c2aa", "#dd9066", "#bd612d", "#943600"),
    N=257,  # odd, so that 0 has a colour of its own
)
"""Colours of differences, blue below 0 and brown above. CIE lightness falls from 97 at 0 to 36 at both ends alike, so
that neither sign looks like more; blue against brown is a pair that readers with any colour vision tell apart."""
LINE = "#0b559f"
CHANCE = "#d0d0d0"
UNDEFINED: dict[str, Any] = {"facecolor": "#ececec", "edgecolor": "#9a9a9a", "hatch": "//////", "linewidth": 0.0}
FRAME = 0.6  # points
ARMS = ("#0b559f", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Colours of arms of an experiment, those of Okabe and Ito (2008): told apart by readers with any colour vision."""
MARKERS = "os^DvPX"
"""What tells the same arms apart on a grey printer."""

FILE_STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters, so the same bytes, everywhere
    "pdf.fonttype": 42,  # TrueType, embedded: journals refuse Type 3
    "svg.hashsalt": "ckaprobe",  # otherwise every file has new random ids
    "hatch.linewidth": 0.5,
    "savefig.dpi": FILE_DPI,
}


@dataclass(frozen=True)
class Style:
    """How large a figure is written.

    Attributes:
        scale: Times its design in inches, letters and lines with it.
        dpi: Pixels in an inch of a PNG.
    """

    scale: float
    dpi: int


STYLES = {
    "paper": Style(scale=1.0, dpi=FILE_DPI),
    "talk": Style(scale=2.4, dpi=200),
    "screen": Style(scale=1.5, dpi=192),
}


@dataclass(frozen=True)
class Venue:
    """Widths of print, in inches: of one column, and of the page between its margins."""

    column: float
    page: float


VENUES = {
    "acl": Venue(3.03, 6.3),  # acl.sty: text 16 cm wide, 0.6 cm between two columns
    "acm": Venue(3.33, 7.0),  # acmart.cls, sigconf: column 241.147 pt, text 506.295 pt of 1/72.27 in
    "cvpr": Venue(3.25, 6.875),  # author guidelines: columns of 3 1/4 in, text area 6 7/8 in; ICCV and WACV alike
    "iclr": Venue(5.5, 5.5),  # iclr_conference.sty: text 5.5 in wide, one column
    "icml": Venue(3.25, 6.75),  # author guidelines: columns of 3.25 in, 0.25 in apart
    "ieee": Venue(3.5, 7.16),  # IEEE Author Center, size requirements for graphics
    "lncs": Venue(122 / 25.4, 122 / 25.4),  # Springer's llncs.cls: text 122 mm wide; ECCV and MICCAI
    "nature": Venue(89 / 25.4, 183 / 25.4),  # Nature research figure guide: 89 and 183 mm, letters of 5 to 7 points
    "neurips": Venue(5.5, 5.5),  # neurips.sty: text 5.5 in wide, one column
}


def scale_for(width: float, letters: float, style: str = "paper", venue: str | None = None) -> float:
    """Return how many times its design a figure is written.

    Args:
        width: Of the design, inches.
        letters: Points of the smallest letters of the design.
        style: Of `STYLES`.
        venue: Of `VENUES`, or None for the design's own width.

    Raises:
        UnknownNameError: No such style or venue.
        OutputError: Letters would be smaller than 5 points even on the venue's page.

    >>> scale_for(3.5, 6, "talk"), 3.5 * scale_for(3.5, 6, venue="cvpr"), 7.2 * scale_for(7.2, 6, venue="cvpr")
    (2.4, 3.25, 6.875)
    """
    scale = registry.get(STYLES, style, "style").scale
    if venue is None:
        return scale
    widths = registry.get(VENUES, venue, "venue")
    for wide in sorted((widths.column, widths.page)):
        if letters * wide / width >= LEAST - 1e-9:
            return scale * wide / width
    raise OutputError(
        f"a figure {width:.1f} inches wide has letters of {letters * widths.page / width:.1f} points on the "
        f"{widths.page:.3g} inches of a page of {venue}, expected at least {LEAST:g}; take another venue, or none and "
        "turn the page"
    )


def check_style(style: str, venue: str | None) -> None:
    """Check that a style and a venue exist, before the work.

    Raises:
        UnknownNameError: No such style or venue.
    """
    registry.get(STYLES, style, "style")
    if venue is not None:
        registry.get(VENUES, venue, "venue")


def figure_of(ax: Axes) -> Figure:
    """Return the whole figure that axes are in."""
    figure = ax.figure
    while not isinstance(figure, Figure):
        figure = figure.figure
    return figure


def page_for(venue: str | None) -> float:
    """Return how many inches wide a design may be for its letters to have 5 points on a venue's page.

    Args:
        venue: Of `VENUES`; without one there is no limit.

    Raises:
        UnknownNameError: No such venue.

    >>> round(page_for("neurips"), 3), page_for(None)
    (6.6, inf)
    """
    return math.inf if venue is None else registry.get(VENUES, venue, "venue").page * LETTERS / LEAST


@dataclass(frozen=True)
class Sizes:
    """Letters of one figure, in points: `text` for titles and axis labels, `small` for all the others."""

    text: float
    small: float

    @property
    def scale(self) -> float:
        """How much larger than in the design everything is."""
        return self.small / LETTERS


def sizes_on(ax: Axes, width: float) -> Sizes:
    """Return the letters for a figure on `ax`, given the `width` in inches that it was designed for.

    On axes that are too small for it letters stay readable, and may touch.
    """
    part_of_figure = ax.get_position(original=True).width / 0.775  # 0.775: a single axes in a figure, by default
    scale = min(max(part_of_figure * figure_of(ax).get_figwidth() / width, LEAST / LETTERS), 4.0)
    return Sizes(text=7 * scale, small=LETTERS * scale)


def undefined_key() -> Patch:
    """Return the legend's entry for what has no value."""
    return Patch(**UNDEFINED, label="undefined")


def plain_frame(ax: Axes, sizes: Sizes, scale: float = 1.0) -> None:
    """Give `ax` thin lines and small tick labels, lines and gaps `scale` times those of print."""
    for which, length in (("major", 2), ("minor", 1.2)):
        ax.tick_params(which=which, labelsize=sizes.small, width=FRAME * scale, length=length * scale, pad=2 * scale)
    for spine in ax.spines.values():
        spine.set_linewidth(FRAME * scale)


def letters_on(colour: Sequence[float] | np.ndarray) -> str:
    """Return "white" or "black", whichever has more contrast on `colour` (sRGB, 0 to 1), as WCAG 2 counts it.

    >>> letters_on((0.0, 0.0, 0.2, 1.0)), letters_on((1.0, 0.9, 0.7, 1.0))
    ('white', 'black')
    """
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "white" if luminance < 0.179 else "black"  # (L + 0.05)² = 0.05 · 1.05: both have the same


def arm_look(number: int, scale: float = 1.0) -> dict:
    """Return colour, line and marker of an arm for matplotlib, another pair for each of the first 49.

    Args:
        number: Of the arm, from 0.
        scale: How much larger than in print.
    """
    colour, turn = ARMS[number % len(ARMS)], number // len(ARMS)
    marker = MARKERS[(number + turn) % len(MARKERS)]
    mark = {"marker": marker, "markersize": 3 * scale, "markeredgewidth": 1.0 * scale}
    return {"color": colour, "linewidth": 1.2 * scale} | mark
