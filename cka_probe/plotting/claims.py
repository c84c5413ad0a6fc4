"""Claims with the numbers that test them, as a forest plot: one row for each, to its left the claim in words.

Each claim is put so that its statistic is above 0 if it is true, so that all share the line at 0 though not their
units: claims of one unit share a scale, of which the widest interval fills the panel, and the numbers stand beside it.
The verdict is told by its words, by the sign of its marker and by colour, in this order.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from cka_probe import registry
from cka_probe.errors import DataError
from cka_probe.plotting import FigureFile, labels, style
from cka_probe.plotting.pen import Pen

STATEMENT, PANEL, NUMBERS, VERDICT = 2.5, 1.4, 1.62, 0.98  # inches: widths of the columns, the last without its marker
BROKEN = 1.15  # inches: of the numbers on a narrow page, intervals below their values
MARGIN, GAP, HEAD, LINE, AIR = 0.08, 0.12, 0.24, 0.125, 0.09  # of the page, columns, header, a line, between rows

MOST_DIGITS = 5  # before the point of a number, and after it

VERDICTS: Mapping[str, tuple[str, str, bool]] = {
    "holds": (style.ARMS[0], "o", True),
    "does not hold": (style.ARMS[1], "X", True),
    "undecided": ("#707070", "D", False),
    "undefined": ("#707070", "", False),
    "not run": ("#707070", "", False),
}
"""Colour, marker, and whether it is filled, of each verdict; those without a number have no marker."""


class Claim(Protocol):
    """What a row needs to know; any object with these."""

    @property
    def name(self) -> str:
        """Its key."""

    @property
    def statement(self) -> str:
        """What is claimed, in words."""

    @property
    def unit(self) -> str:
        """Of the numbers: "m"; "" for none."""

    @property
    def value(self) -> float:
        """The statistic, above 0 if the claim is true; NaN: there is none."""

    @property
    def low(self) -> float:
        """Lower end of its 95 % interval; NaN: there is none."""

    @property
    def high(self) -> float:
        """Upper end."""

    @property
    def verdict(self) -> str:
        """One of `VERDICTS`. A claim that has `verdict_text` also gives the reason: "undecided (one seed)"."""


def claims(rows: Sequence[Claim], ax: Axes, *, page: float = math.inf) -> Axes:
    """Draw the claims on `ax`, which they fill.

    Args:
        rows: The claims, from above.
        ax: Axes of the proportions of `claims_size`; with others some of it stays empty.
        page: Inches that it may be wide at most, such as `style.page_for` of a venue.

    Returns:
        `ax`.

    Raises:
        DataError: There is no claim, or an interval that its value is not in.
        UnknownNameError: No such verdict.
    """
    words, size = _plan(rows, page)
    pen, scales = Pen(ax, size, design=1.0), _scales(rows)
    statement_wide, numbers_wide = _columns(size[0])
    left = MARGIN + statement_wide + GAP
    right = left + PANEL + GAP
    last = right + numbers_wide + GAP
    _write_head(pen, (left, right, last))
    panel = _panel(pen, left, sum(_height(*columns) for columns in words))
    top = MARGIN + HEAD
    for number, (row, (statement, numbers, said)) in enumerate(zip(rows, words, strict=True)):
        height = _height(statement, numbers, said)
        if number % 2 == 0:
            band: dict[str, Any] = {"facecolor": "#f3f3f3", "linewidth": 0, "zorder": -2}
            pen.ax.add_patch(Rectangle((0, top), size[0], height, **band))
        middle = top + height / 2
        _write_lines(pen, statement, (MARGIN, middle))
        _draw_interval(pen, panel, row, scales.get(row.unit, 1.0), middle)
        _write_lines(pen, numbers, (right, middle))
        _write_verdict(pen, row, said, (last, middle))
        top += height
    for number, line in enumerate(_foot(scales, size[0])):
        pen.text(MARGIN, top + AIR + (number + 0.5) * LINE, line)
    return ax


def claims_size(rows: Sequence[Claim], *, page: float = math.inf) -> tuple[float, float]:
    """Return width and height in inches, letters of 6 and 7 points given; `page` as above."""
    return _plan(rows, page)[1]


def _plan(
    rows: Sequence[Claim], page: float
) -> tuple[list[tuple[list[str], list[str], list[str]]], tuple[float, float]]:
    """Return the lines of each statement, its numbers and its verdict, and width and height in inches."""
    if not rows:
        raise DataError("expected at least one claim to draw, found none; give some")
    for row in rows:
        registry.get(VERDICTS, row.verdict, "verdict")
        if np.isfinite([row.low, row.high]).any() and not row.low <= row.value <= row.high:
            raise DataError(
                f"{row.name}: expected a value in its interval, found {row.value:g} and [{row.low:g}, {row.high:g}]; "
                "compute them from the same runs"
            )
    page = min(style.PAGE, page)
    words = [
        (
            _lines(row.statement or row.name, _columns(page)[0]),
            _numbers(row, broken=page < style.PAGE),
            _lines(getattr(row, "verdict_text", row.verdict), VERDICT),
        )
        for row in rows
    ]
    foot = AIR + len(_foot(_scales(rows), page)) * LINE
    return words, (page, 2 * MARGIN + HEAD + sum(_height(*columns) for columns in words) + foot)


def _columns(page: float) -> tuple[float, float]:
    """Return the widths of the statements and of the numbers in inches: what a page is narrower is taken from them."""
    if page >= style.PAGE:
        return STATEMENT, NUMBERS
    return STATEMENT + NUMBERS - BROKEN - (style.PAGE - page), BROKEN


def _lines(text: str, width: float) -> list[str]:
    room = 0.94 * width * style.POINTS / 6
    return [labels.cut(line, room) for line in labels.filled(text.split(), room)]


def _height(*columns: Sequence[str]) -> float:
    return max(map(len, columns)) * LINE + AIR


def _foot(scales: Mapping[str, float], page: float) -> list[str]:
    """Return what the width of the panel is in each unit, in lines."""
    if not scales:
        return []
    numbers = {unit: f"{end:.0f}" if end >= 100 else f"{end:.2g}" for unit, end in scales.items()}
    ends = ", ".join(f"{end} {unit}".strip() for unit, end in numbers.items())
    return _lines(f"Claims of one unit share a scale; from 0 to the edge it is {ends}.", page - 2 * MARGIN)


def _scales(rows: Sequence[Claim]) -> dict[str, float]:
    """Return the number at the right end of the panel for each unit that has a number."""
    ends: dict[str, float] = {}
    for row in rows:
        numbers = np.abs([row.value, row.low, row.high])
        if np.isfinite(numbers).any():
            ends[row.unit] = max(float(np.max(numbers[np.isfinite(numbers)])), ends.get(row.unit, 0.0))
    return {unit: end or 1.0 for unit, end in ends.items()}


def _panel(pen: Pen, left: float, height: float) -> Axes:
    """Return axes from -1 to 1 across and in inches of the page down, with the line at 0."""
    panel = pen.panel((left, MARGIN + HEAD, PANEL, height))
    panel.set(xlim=(-1.08, 1.08), ylim=(MARGIN + HEAD + height, MARGIN + HEAD), xticks=[], yticks=[])
    panel.spines[:].set_visible(False)
    panel.patch.set_visible(False)
    panel.axvline(0, color="black", linewidth=style.FRAME * pen.scale)
    return panel


def _write_head(pen: Pen, lefts: tuple[float, float, float]) -> None:
    """Write what the columns are; `lefts` is where panel, numbers and verdicts begin."""
    middle, y = lefts[0] + PANEL / 2, MARGIN + HEAD / 2
    pen.text(MARGIN, y, "claim", weight="bold")
    pen.text(middle - 0.12, y, "\N{LEFTWARDS ARROW} against", align="right", weight="bold")
    pen.text(middle, y, "0", align="center", weight="bold")
    pen.text(middle + 0.12, y, "for \N{RIGHTWARDS ARROW}", weight="bold")
    pen.text(lefts[1], y, "value [95 % interval]", weight="bold")
    pen.text(lefts[2], y, "verdict", weight="bold")


def _look(row: Claim, pen: Pen) -> dict:
    """Return the marker of a verdict."""
    colour, marker, full = VERDICTS[row.verdict]
    look = {"marker": marker, "color": colour, "markerfacecolor": colour if full else "white"}
    return look | {"markersize": 4.2 * pen.scale, "markeredgewidth": 0.8 * pen.scale, "linestyle": "", "zorder": 3}


def _draw_interval(pen: Pen, panel: Axes, row: Claim, end: float, y: float) -> None:
    """Draw value and interval in parts of the scale's `end`."""
    look: dict[str, Any] = {"color": VERDICTS[row.verdict][0], "linewidth": 1.2 * pen.scale, "zorder": 2}
    if np.isfinite(row.low):
        low, high = row.low / end, row.high / end
        panel.plot([low, low, low, high, high, high], [y - 0.025, y + 0.025, y, y, y - 0.025, y + 0.025], **look)
    if np.isfinite(row.value):
        panel.plot([row.value / end], [y], **_look(row, pen))


def _write_verdict(pen: Pen, row: Claim, said: list[str], place: tuple[float, float]) -> None:
    """Draw the marker and write the verdict beside it."""
    (x, y), (colour, marker, full) = place, VERDICTS[row.verdict]
    if marker:
        pen.ax.plot([x + 0.03], [y], scalex=False, scaley=False, **_look(row, pen))
    _write_lines(pen, said, (x + 0.11, y), color=colour, weight="bold" if full else "normal")


def _write_lines(pen: Pen, lines: Sequence[str], place: tuple[float, float], **look: Any) -> None:
    """Write lines whose middle is at `place`."""
    for number, words in enumerate(lines):
        pen.text(place[0], place[1] + (number - (len(lines) - 1) / 2) * LINE, words, **look)


def _numbers(row: Claim, *, broken: bool) -> list[str]:
    """Return value and interval to the digits that the interval's width, or else the value, makes worth writing.

    They are one line, or for a narrow page two.
    """
    if not np.isfinite(row.value):
        return ["\N{EN DASH}"]
    width = row.high - row.low if np.isfinite(row.high - row.low) and row.high > row.low else abs(row.value)
    digits = int(np.clip(1 - np.floor(np.log10(width)), 0, MOST_DIGITS)) if width > 0 else 2
    value, low, high = (_number(number, digits) for number in (row.value, row.low, row.high))
    interval = f"[{low}, {high}]" if np.isfinite(row.low) else ""
    if broken:
        return [line for line in (f"{value} {row.unit}".rstrip(), interval) if line]
    return [" ".join(part for part in (value, interval, row.unit) if part)]


def _number(number: float, digits: int) -> str:
    """Return a number with so many decimals, or by its power of ten where it would be too long or nothing be left."""
    if number and not 10.0**-MOST_DIGITS <= abs(number) < 10.0**MOST_DIGITS:
        words = f"{number:.1e}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")
    else:
        words = f"{round(number, digits) + 0.0:.{digits}f}"  # + 0.0: no minus before nothing
    return words.replace("-", "\N{MINUS SIGN}")


save_claims = FigureFile(claims, claims_size)
"""Draw claims into files: `save_claims(rows, paths, style=…, venue=…)`. Same input, same bytes."""
