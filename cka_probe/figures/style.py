"""How figures look: sizes, colours, fonts, and the settings under which files are written.

Sizes are those of a printed single column: 3.5 inches, letters of 6 and 7 points. A figure drawn on larger axes
takes larger letters, never smaller ones. Colours are told apart by readers who see colours differently, and the
colour map is perceptually uniform with light for high, so that it also survives a grey printer.
"""

from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.patches import Patch

COLUMN = 3.5  # inches: one column of a two-column page
POINTS = 72  # per inch
SCREEN_DPI = 200  # in a notebook, where a printed column at 100 dpi would be too small to read
FILE_DPI = 400

COLOURS = "magma"
LINE = "#0b559f"
CHANCE = "#d0d0d0"
UNDEFINED = {"facecolor": "#ececec", "edgecolor": "#9a9a9a", "hatch": "//////", "linewidth": 0.0}
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
class Sizes:
    """Letters of one figure, in points: `text` for titles and axis labels, `small` for all the others."""

    text: float
    small: float


def sizes_on(ax: Axes, width: float) -> Sizes:
    """Return the letters for a figure on `ax`, given the `width` in inches that it was designed for."""
    part_of_figure = ax.get_position(original=True).width / 0.775  # 0.775: a single axes in a figure, by default
    scale = min(max(part_of_figure * ax.figure.get_figwidth() / width, 1.0), 1.8)
    return Sizes(text=7 * scale, small=6 * scale)


def undefined_key() -> Patch:
    """Return the legend's entry for what has no value."""
    return Patch(**UNDEFINED, label="undefined")


def plain_frame(ax: Axes, sizes: Sizes, scale: float = 1.0) -> None:
    """Give `ax` thin lines and small tick labels, lines and gaps `scale` times those of print."""
    for which, length in (("major", 2), ("minor", 1.2)):
        ax.tick_params(which=which, labelsize=sizes.small, width=FRAME * scale, length=length * scale, pad=2 * scale)
    for spine in ax.spines.values():
        spine.set_linewidth(FRAME * scale)


def letters_on(colour: tuple[float, float, float, float]) -> str:
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
    return {"color": colour, "linewidth": 1.2 * scale, "marker": marker, "markersize": 3 * scale}
