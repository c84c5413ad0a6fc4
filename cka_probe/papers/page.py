"""The report of a study: its page, tables and figures, all from the files in its folder.

OUT/report/README.md              the page
OUT/report/claims.csv             every claim and its controls, with the value on each run
OUT/report/tables/*.csv|md|tex    the tables with the paper's numbers; long tables as CSV only
OUT/report/figures/*.png, *.pdf

It can be written at any time, of an unfinished study too: what is missing is reported as not run.
"""

import os
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from cka_probe.files import atomic_write
from cka_probe.lab.scenes import Settings
from cka_probe.papers.claims import (
    FAILS,
    HOLDS,
    NOT_RUN,
    UNDECIDED,
    UNDEFINED,
    Claim,
    TestedClaim,
    claims_frame,
    judge_claims,
    num_tested,
)
from cka_probe.papers.evidence import StudyEvidence
from cka_probe.papers.figures import FigureWriter, StudyFigure
from cka_probe.papers.tables import plain_table, signed

COUNTS = {
    HOLDS: "hold",
    FAILS: "do not hold",
    UNDECIDED: "are undecided",
    UNDEFINED: "are undefined",
    NOT_RUN: "were not run",
}


@dataclass(frozen=True)
class Paper:
    """A paper as the report needs it. Each function takes the paper's own evidence.

    Attributes:
        name: As in `PAPERS`.
        claims: What is tested.
        controls: What is shown with the claims.
        load: Opens a study.
        tables: Returns the tables by name.
        texts: Returns a table as Markdown and LaTeX, or `None` for one that is written as CSV only.
        figures: Draws all figures, in the order of the page.
        page: Returns the page as Markdown.
    """

    name: str
    claims: Sequence[Claim]
    controls: Sequence[Claim]
    load: Callable[[str | Path], Any]
    tables: Callable[[Any], dict[str, pd.DataFrame]]
    texts: Callable[[str, pd.DataFrame], tuple[str, str] | None]
    figures: Callable[[Any, Sequence[TestedClaim], Mapping[str, pd.DataFrame], FigureWriter], list[StudyFigure]]
    page: Callable[[Any, Sequence[TestedClaim], Mapping[str, pd.DataFrame], Sequence[StudyFigure]], str]


def write_report(folder: str | Path, paper: Paper) -> Path:
    """Write the report of a study and return its page.

    Args:
        folder: Of the study; the report is written into its subfolder `report`.
        paper: What is reproduced.

    Raises:
        DataError: There is no study, or a file is broken or of another study.
        OutputError: The report cannot be written.
    """
    evidence = paper.load(folder)
    report = evidence.paths.report
    rows, tables = judge_claims(evidence, paper.claims, paper.controls), paper.tables(evidence)
    _write(report / "claims.csv", _as_csv(claims_frame(rows, evidence.repeats)))
    for name, table in tables.items():
        path = report / "tables" / name
        _write(path.with_suffix(".csv"), _as_csv(table))
        for suffix, text in zip((".md", ".tex"), paper.texts(name, table) or (), strict=False):
            _write(path.with_suffix(suffix), text)
    figures = paper.figures(evidence, rows, tables, FigureWriter(report / "figures"))
    _write(evidence.paths.page, paper.page(evidence, rows, tables, figures))
    return evidence.paths.page


def summary_line(rows: Sequence[TestedClaim]) -> str:
    """Return how many of the claims hold, and how many do not, in a sentence."""
    counts = [(sum(row.verdict == verdict for row in rows), words) for verdict, words in COUNTS.items()]
    return f"Of {len(rows)} claims {', '.join(f'{count} {words}' for count, words in counts if count)}."


def negative_results(rows: Sequence[TestedClaim]) -> list[str]:
    """Return the claims that do not hold or are undefined, in sentences."""
    lines = [
        f'- Does not hold here: "{row.statement}" ({signed(row.value)} {row.unit}, at most {signed(row.high)}).'
        for row in rows
        if row.verdict == FAILS
    ]
    lines += [
        f'- Cannot be tested: "{row.statement}". Reason: {row.reason}.' for row in rows if row.verdict == UNDEFINED
    ]
    return [*lines, ""] if lines else []


def correction_note(rows: Sequence[TestedClaim], repeats: str, over: str) -> str:
    """Return what the p-values are, in sentences; `over` is what they are over."""
    if not (count := num_tested(rows)):
        return f"With no two {repeats}s that differ no claim could be tested: there are no p-values."
    return (
        f"p is two-sided over {over} and corrected for all claims that could be tested, {count} (Holm). The verdict is "
        "each claim's own: its interval is above 0 (holds), below 0 (does not hold), or neither."
    )


def figure_section(figures: Iterable[StudyFigure]) -> list[str]:
    """Return the figures, each below its name and caption, with what was not run."""
    lines = []
    for figure in figures:
        missing = f" Not run: {', '.join(figure.missing)}." if figure.missing else ""
        image = [f"![{figure.stem}](figures/{figure.paths[0].name})", ""] if figure.paths else []
        lines += [f"### {figure.stem}", "", f"{figure.caption}{missing}", "", *image]
    return lines


def differences_section(departures: Iterable[str], absences: Sequence[str]) -> list[str]:
    """Return how the study differs from the paper, and what was not run."""
    lines = ["## Differences from the paper", "", *(f"- {line}" for line in departures), "", "## Not run", ""]
    return [*lines, *([f"- {line}" for line in absences] or ["Everything was run."]), ""]


def reproduction_section(evidence: StudyEvidence, command: str, *tables: pd.DataFrame) -> list[str]:
    """Return the command, the versions, and tables of the data and the recipe."""
    versions = ", ".join(f"{name} {version}" for name, version in evidence.study["versions"].items())
    lines = ["## How to reproduce it", "", "```", command, "```", ""]
    lines += [f"Machine that wrote this page: {machine()}. {versions}.", ""]
    return [*lines, *(plain_table(table) for table in tables if len(table))]


def reproduce_command(evidence: StudyEvidence, paper: str, options: Sequence[str] = ()) -> str:
    """Return the command that repeats the study, with `DIR` in place of each path."""
    study = evidence.study
    settings = [f"data.{name}=DIR" for name in study["data"]] + list(study["settings"])
    words = [f"ckaprobe reproduce {paper}", f"--scale {study['scale']}", f"--seeds {max(evidence.seeds) + 1}"]
    return " ".join([*words, *options, "--out OUT", *(f"--set {setting}" for setting in settings)])


def data_rows(stands_for: Mapping[str, str], scenes: Mapping[str, Settings], given: Mapping[str, str]) -> pd.DataFrame:
    """Return one row for each data set of a study: its name, which one of the paper it stands for, and what it was."""
    return pd.DataFrame(
        {"data": name, "stands for": words, "was": _data_origin(name, scenes, given)}
        for name, words in stands_for.items()
    )


def _data_origin(name: str, scenes: Mapping[str, Settings], given: Mapping[str, str]) -> str:
    """Return where a data set came from, in words."""
    if name in given:
        return "given by path"
    if name not in scenes:
        return "neither given nor generated at this scale"
    settings = scenes[name]
    frames = f" of {settings.frames} frames" if settings.frames > 1 else ""
    height, width = settings.size
    style = f", style {settings.style}" if settings.kind == "rooms" and settings.style else ""
    return f"procedural: {settings.num} {settings.kind}{frames}, {width} x {height}{style}, seed {settings.seed}"


def procedural_note(stands_for: Mapping[str, str], generated: Sequence[str], what: str) -> str:
    """Return that procedural images stand for data sets of the paper; `what` they are, in words."""
    names = ", ".join(stands_for[name].split(":")[0] for name in generated)
    return (
        f"Procedural images stand for {names}: {what}. A name of a data set refers to its layout on disk here, not to "
        "its images; no number is comparable with the paper's."
    )


def machine() -> str:
    """Return the machine that this runs on, in half a line.

    >>> "Python" in machine()
    True
    """
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    system = f"{platform.system()}, Python {platform.python_version()}"
    return f"{platform.machine()}, {os.cpu_count()} cores, {device}, {system}"


def _as_csv(table: pd.DataFrame) -> str:
    return table.to_csv(index=False, lineterminator="\n")


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, "utf-8")
