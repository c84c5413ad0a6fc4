"""Numbers along axes: as many digits as tell them apart, no power of ten in a corner that somebody overlooks.

matplotlib by itself takes what numbers share off them ("+8.2e-1" above the axis), where a page has other words; and
its logarithmic axes have a number at powers of ten only, of which a narrow range has none.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import Formatter, MaxNLocator

from cka_probe.plotting import labels

MINUS = "\N{MINUS SIGN}"
APART = 1.0  # em between the numbers of a level axis


class PlainNumbers(Formatter):
    """Writes the numbers of a linear axis, each in full."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        """Return one number."""
        return in_words([x])[0]

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        """Return the numbers of all ticks."""
        return in_words(values)


def in_words(values: Sequence[float]) -> list[str]:
    """Return numbers in the fewest digits that tell them apart, all with as many decimals.

    >>> in_words([0, 0.25, 0.5]), in_words([82.0, 84.0]), in_words([0, 1e6, 2e6])
    (['0.00', '0.25', '0.50'], ['82', '84'], ['0', '1e6', '2e6'])
    """
    numbers = np.asarray(values, float)
    if not numbers.size:
        return []
    apart = np.diff(np.unique(numbers)).min() if len(np.unique(numbers)) > 1 else abs(numbers[0])
    digits = next(
        d for d in range(1, 18) if all(abs(float(f"{n:.{d}g}") - n) <= 0.01 * apart for n in numbers) or d > 16
    )
    words = [f"{number + 0.0:.{digits}g}" for number in numbers]
    if not any("e" in word for word in words):
        decimals = max(len(word.partition(".")[2]) for word in words)
        words = [f"{number + 0.0:.{decimals}f}" for number in numbers]
    elif apart >= 1e-5 and np.abs(numbers).max() < 1e6:
        words = [f"{number + 0.0:g}" for number in numbers]
    return [word.replace("e+0", "e").replace("e+", "e").replace("e-0", "e-").replace("-", MINUS) for word in words]


def plain_numbers(axis: Axis, most: int = 6, room: float | None = None) -> None:
    """Let a linear axis write its numbers in full.

    Args:
        axis: Whose limits are set.
        most: Parts between its numbers.
        room: Its length in em, for a level axis, on which long numbers must be fewer.
    """
    axis.set_major_formatter(PlainNumbers())
    for parts in range(most, 1, -1):
        axis.set_major_locator(MaxNLocator(parts, steps=[1, 2, 2.5, 5, 10], min_n_ticks=min(3, parts)))
        if room is None or sum(labels.width(word) + APART for word in in_words(axis.get_majorticklocs())) <= room:
            break


def logarithmic(panel: Axes, values: np.ndarray) -> None:
    """Give a panel a vertical logarithmic axis for values above 0, with at least two numbers on it."""
    low, high = np.log10(values.min()), np.log10(values.max())
    air = max(0.06 * (high - low), 0.01)
    panel.set_yscale("log")
    panel.set_ylim(10 ** (low - air), 10 ** (high + air))
    panel.minorticks_off()
    marks = [float(values[0])] if low == high else marks_between(*panel.get_ylim())
    panel.set_yticks(marks, [f"{mark:g}".replace("e-0", f"e{MINUS}").replace("e+0", "e") for mark in marks])


def marks_between(low: float, high: float) -> list[float]:
    """Return numbers of few digits for a logarithmic axis: two to four where it spans more than a few percent.

    >>> marks_between(0.02, 30.0), marks_between(0.1, 0.7), marks_between(0.52, 0.61)
    ([0.1, 1.0, 10.0], [0.1, 0.2, 0.5], [0.55, 0.6])
    """
    first, last = int(np.floor(np.log10(low))), int(np.ceil(np.log10(high)))
    steps = [((1,), 3), ((1, 3), 3), ((1, 2, 5), 3), (range(1, 10), 3), (np.arange(1, 10, 0.5), 2)]
    for digits, enough in (*steps, (np.arange(1, 10, 0.1), 0)):
        marks = [float(f"{digit * 10.0**power:.3g}") for power in range(first, last + 1) for digit in digits]
        marks = [mark for mark in marks if low <= mark <= high]
        if len(marks) >= enough:
            break
    return marks[:: max(1, -(-len(marks) // 4))]
