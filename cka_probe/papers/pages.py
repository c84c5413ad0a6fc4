"""What the pages of all studies say alike: how many claims hold, what does not, the figures, the machine."""

import os
import platform
from collections.abc import Iterable, Sequence

import torch

from cka_probe.papers.claims import TestedClaim
from cka_probe.papers.drawn import Drawn
from cka_probe.papers.texts import signed
from cka_probe.papers.verdicts import FAILS, HOLDS, NOT_RUN, UNDECIDED, UNDEFINED

WORDS = {
    HOLDS: "hold",
    FAILS: "do not hold",
    UNDECIDED: "are undecided",
    UNDEFINED: "are undefined",
    NOT_RUN: "were not run",
}


def counted(rows: Sequence[TestedClaim]) -> str:
    """Return how many of the claims hold, and how many do not, in a sentence."""
    counts = [(sum(row.verdict == verdict for row in rows), words) for verdict, words in WORDS.items()]
    said = ", ".join(f"{count} {words}" for count, words in counts if count)
    return f"Of {len(rows)} claims {said}."


def plainly(rows: Sequence[TestedClaim]) -> list[str]:
    """Return what does not hold, and what cannot be said, in sentences."""
    lines = [
        f'- Does not hold here: "{row.statement}" ({signed(row.value)} {row.unit}, at most {signed(row.high)}).'
        for row in rows
        if row.verdict == FAILS
    ]
    lines += [
        f'- Cannot be said: "{row.statement}". Reason: {row.finding.reason}.'
        for row in rows
        if row.verdict == UNDEFINED
    ]
    return [*lines, ""] if lines else []


def imaged(drawn: Iterable[Drawn]) -> list[str]:
    """Return the figures, each below its name and caption, and what of it was not run."""
    lines = []
    for figure in drawn:
        missing = f" Not run: {', '.join(figure.missing)}." if figure.missing else ""
        image = [f"![{figure.stem}](figures/{figure.paths[0].name})", ""] if figure.paths else []
        lines += [f"### {figure.stem}", "", f"{figure.caption}{missing}", "", *image]
    return lines


def machine() -> str:
    """Return the machine this runs on, in half a line.

    >>> "Python" in machine()
    True
    """
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    system = f"{platform.system()}, Python {platform.python_version()}"
    return f"{platform.machine()}, {os.cpu_count()} cores, {device}, {system}"


def listed(lines: Iterable[str]) -> list[str]:
    """Return lines as a list."""
    return [f"- {line}" for line in lines]
