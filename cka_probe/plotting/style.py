"""How figures look: colours, fonts, sizes in print, and the styles and venues for which they are written.

A figure is designed for print: letters of 6 and 7 points on a column of 3.5 or a page of 7.2 inches. `context(scale)`
sets matplotlib's parameters so that letters, lines and gaps are `scale` times as large, and figures take every size
from these parameters (`points`). A style says how much larger than print a figure is written, with how many pixels:

    paper   as designed: letters of 6 and 7 points, 400 pixels in an inch
    screen  1.5 times as large, for pages and notebooks: a column has 504 CSS pixels, its letters 12 and 14; PNG at
            192 pixels in an inch, two for each CSS pixel
    talk    2.4 times as large, for slides: a column fills 8.4 of a slide's 13.3 inches, its letters have 14 and 17
            points; PNG at 200 pixels in an inch

A venue says how wide a figure is: exactly as wide as the venue's column, or its page if letters on a column would be
smaller than 5 points.

The colour maps are perceptually uniform and survive a grey printer; colours of lines are told apart with any colour
vision, and come with markers.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.colors import LinearSegmentedColormap

from cka_probe import registry

COLUMN, PAGE = 3.5, 7.2
"""Inches: one column of a two-column page, and both."""
TEXT, SMALL, SMALLEST = 7.0, 6.0, 5.0
"""Points: letters of titles and axis labels, all other letters, and the smallest that a venue may make of them."""
SCREEN_DPI = 200
"""Pixels in an inch of a figure in a notebook."""

COLOURS = "magma"
WIDTHS = "Blues"
"""Colours of the widths of intervals, another hue than that of values: the darker, the wider."""
DIVERGING = LinearSegmentedColormap.from_list(
    "difference",
    ("#0a559f", "#547ac0", "#8ba1d9", "#c1cbeb", "#f7f7f7", "#f2c2aa", "#dd9066", "#bd612d", "#943600"),
    N=257,  # odd, so that 0 has a colour of its own
)
"""Colours of differences, blue below 0 and brown above. CIE lightness falls from 97 at 0 to 36 at both ends, so that
neither sign looks like more; blue and brown are told apart with any colour vision."""
LINE = "#0b559f"
CHANCE = "#d0d0d0"
GREY = "#707070"
UNDEFINED: dict[str, Any] = {"facecolor": "#ececec", "edgecolor": "#9a9a9a", "hatch": "//////", "linewidth": 0.0}
ARMS = ("#0b559f", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Colours of the arms of an experiment, after Okabe and Ito (2008)."""
MARKERS = "os^DvPX"
"""Markers of the same arms, for a grey printer."""


class Style(NamedTuple):
    """How much larger than in print a figure is written, letters and lines too, and the pixels in an inch of a PNG."""

    scale: float
    dpi: int


STYLES = {
    "paper": Style(scale=1.0, dpi=400),
    "talk": Style(scale=2.4, dpi=200),
    "screen": Style(scale=1.5, dpi=192),
}


class Venue(NamedTuple):
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


def check_style(style: str, venue: str | None) -> None:
    """Check that a style and a venue exist, before the work.

    Raises:
        UnknownNameError: No such style or venue.
    """
    registry.get(STYLES, style, "style")
    if venue is not None:
        registry.get(VENUES, venue, "venue")


@contextmanager
def context(scale: float = 1.0) -> Iterator[None]:
    """Set matplotlib's parameters for figures `scale` times as large as in print, and restore the user's afterwards."""
    in_points = {
        "font.size": TEXT,
        "axes.labelsize": TEXT,
        "axes.titlesize": TEXT,
        "figure.titlesize": TEXT,
        "legend.fontsize": SMALL,
        "xtick.labelsize": SMALL,
        "ytick.labelsize": SMALL,
        "axes.labelpad": 2.0,
        "axes.titlepad": 3.0,
        "axes.linewidth": 0.6,
        "grid.linewidth": 0.4,
        "hatch.linewidth": 0.5,
        "lines.linewidth": 0.8,
        "lines.markersize": 3.0,
        "lines.markeredgewidth": 0.8,
        "patch.linewidth": 0.6,
    }
    for axis in ("xtick", "ytick"):
        in_points |= {f"{axis}.major.{name}": value for name, value in (("size", 2.0), ("width", 0.6), ("pad", 2.0))}
        in_points |= {f"{axis}.minor.{name}": value for name, value in (("size", 1.2), ("width", 0.6), ("pad", 2.0))}
    inches = {"figure.constrained_layout.h_pad": 0.03, "figure.constrained_layout.w_pad": 0.03}
    fixed = {
        "axes.formatter.useoffset": False,  # numbers in full
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlelocation": "left",
        "figure.constrained_layout.hspace": 0.0,
        "figure.constrained_layout.wspace": 0.0,
        "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters, so the same bytes, everywhere
        "legend.borderaxespad": 0.2,
        "legend.borderpad": 0.0,
        "legend.columnspacing": 1.4,
        "legend.frameon": False,
        "legend.handlelength": 1.4,
        "legend.handletextpad": 0.5,
        "pdf.fonttype": 42,  # TrueType, embedded: journals refuse Type 3
        "svg.hashsalt": "ckaprobe",  # otherwise every file has new random ids
        "text.parse_math": False,  # a $ in the name of a file is a $
    }
    scaled = {name: value * scale for name, value in (in_points | inches).items()}
    with matplotlib.style.context(["default", fixed | scaled]):
        yield


def scale() -> float:
    """Return how much larger than in print the current parameters draw."""
    return float(matplotlib.rcParams["font.size"]) / TEXT


def points(size: float) -> float:
    """Return a size in points, or any other length, as large as the current parameters draw it."""
    return size * scale()


def em(inches: float, size: float = SMALL) -> float:
    """Return a length in print in em of letters of so many points."""
    return inches * 72 / size


def small() -> float:
    """Return the points of small letters."""
    return points(SMALL)


def hatching() -> dict[str, Any]:
    """Return how cells and layers without a value are drawn, with the same number of lines in every style.

    Matplotlib draws a hatch with a fixed number of lines per inch, so a figure that is larger needs a thinner hatch.
    """
    lines = len(UNDEFINED["hatch"])
    return UNDEFINED | {"hatch": "/" * max(1, round(lines / scale()))}


def arm(number: int) -> dict[str, Any]:
    """Return colour, line and marker of an arm for matplotlib, another pair for each of the first 49.

    Args:
        number: Of the arm, from 0.
    """
    turn = number // len(ARMS)
    return {
        "color": ARMS[number % len(ARMS)],
        "linewidth": points(1.2),
        "marker": MARKERS[(number + turn) % len(MARKERS)],
        "markersize": points(3.0),
        "markeredgewidth": points(1.0),
    }


def letters_on(colour: Sequence[float] | np.ndarray) -> str:
    """Return "white" or "black", whichever has more contrast on `colour` (sRGB, 0 to 1), as WCAG 2 counts it.

    >>> letters_on((0.0, 0.0, 0.2, 1.0)), letters_on((1.0, 0.9, 0.7, 1.0))
    ('white', 'black')
    """
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "white" if luminance < 0.179 else "black"  # (L + 0.05)² = 0.05 · 1.05: both have the same contrast
