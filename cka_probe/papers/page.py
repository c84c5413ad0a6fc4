"""The report of a study: its page, tables and figures, all from the files in its folder.

OUT/report/README.md              the page
OUT/report/claims.csv             every claim and its controls, with the value on each run
OUT/report/tables/*.csv|md|tex    the tables with the paper's numbers; long tables as CSV only
OUT/report/figures/*.png, *.pdf

It can be written at any time, of an unfinished study too: what is missing is reported as not run. The page of a paper
is a Jinja template, `<paper>/page.md`, which fills the blocks of `page.md`.
"""

import os
import platform
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined

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
from cka_probe.papers.figures import FigureWriter, StudyFigure
from cka_probe.papers.tables import as_markdown, signed

COUNTS = {
    HOLDS: "hold",
    FAILS: "do not hold",
    UNDECIDED: "are undecided",
    UNDEFINED: "are undefined",
    NOT_RUN: "were not run",
}


@dataclass(frozen=True)
class Paper:
    """A paper as the report needs it. Functions of `evidence` take the paper's own, `load`'s.

    Attributes:
        name: As in `PAPERS`.
        title: Of the page.
        source: The citation.
        claims: What is tested, each claim followed by its controls.
        template: Of the page: its blocks are `intervals`, `results`, `figures_note` and `unstated`.
        context: Returns the names that the template uses, in addition to those of `Report.page`.
        stands_for: Which data set of the paper each data set stands for, and what for.
        procedural: What the generated images are, in words.
        load: Opens a study.
        tables: Returns the tables by name.
        texts: Returns a table as Markdown and LaTeX, or `None` for one that is written as CSV only.
        figures: Draws all figures, in the order of the page.
        scenes: Returns the data that the study's scale generates, by name.
        data: Returns the names of the study's data.
        departures: Returns how the study differs from the paper, a sentence or two each.
        absences: Returns what was not run, a line each.
        options: Returns options of the command that repeats the study.
        stages: Returns the table of what was trained.
    """

    name: str
    title: str
    source: str
    claims: Sequence[Claim]
    template: str
    context: Callable[["Report"], Mapping[str, Any]]
    stands_for: Mapping[str, str]
    procedural: str
    load: Callable[[str | Path], Any]
    tables: Callable[[Any], dict[str, pd.DataFrame]]
    texts: Callable[[str, pd.DataFrame], tuple[str, str] | None]
    figures: Callable[[Any, Sequence[TestedClaim], Mapping[str, pd.DataFrame], FigureWriter], list[StudyFigure]]
    scenes: Callable[[Any], Mapping[str, Settings]]
    data: Callable[[Any], Sequence[str]]
    departures: Callable[[Any], list[str]]
    absences: Callable[[Any], list[str]]
    options: Callable[[Any], Sequence[str]]
    stages: Callable[[Any], pd.DataFrame]

    def command(self, evidence: Any) -> str:
        """Return the command that repeats a study, with `DIR` in place of each path."""
        study = evidence.study
        settings = [f"data.{name}=DIR" for name in study["data"]] + list(study["settings"])
        words = [f"ckaprobe reproduce {self.name}", f"--scale {study['scale']}", f"--seeds {max(evidence.seeds) + 1}"]
        return " ".join([*words, *self.options(evidence), "--out OUT", *(f"--set {setting}" for setting in settings)])

    def data_rows(self, evidence: Any) -> pd.DataFrame:
        """Return one row for each data set of a study: its name, what it stands for, and what it was."""
        scenes, paths = self.scenes(evidence), evidence.study["data"]
        return pd.DataFrame(
            {"data": name, "stands for": self.stands_for[name], "was": _data_origin(name, scenes, paths)}
            for name in self.data(evidence)
        )


@dataclass(frozen=True)
class Report:
    """A study's claims, tables and figures, and its page.

    Attributes:
        paper: What is reproduced.
        evidence: The study.
        claims: Every claim followed by its controls.
        tables: By name, with every number as it was computed.
        figures: In the order of the page.
    """

    paper: Paper
    evidence: Any
    claims: Sequence[TestedClaim]
    tables: Mapping[str, pd.DataFrame]
    figures: Sequence[StudyFigure] = field(default=())

    @classmethod
    def of(cls, paper: Paper, evidence: Any) -> "Report":
        """Test the claims of a study and make its tables; figures are not drawn."""
        return cls(paper, evidence, judge_claims(evidence, paper.claims), paper.tables(evidence))

    @property
    def stems(self) -> set[str]:
        """Stems of the figures that were drawn."""
        return {figure.stem for figure in self.figures if figure.paths}

    def markdown(self, table: str) -> str:
        """Return a table as Markdown."""
        return (self.paper.texts(table, self.tables[table]) or ("", ""))[0]

    def page(self) -> str:
        """Return the page as Markdown."""
        num, repeats = len(self.evidence.seeds), "seeds"
        if num == 1:
            num, repeats = len(self.evidence.trials), "trials" if len(self.evidence.trials) > 1 else "one"
        environment = Environment(
            loader=PackageLoader("cka_probe", "papers"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        text = environment.get_template(self.paper.template).render(
            report=self,
            paper=self.paper,
            evidence=self.evidence,
            num=num,
            repeats=repeats,
            machine=machine(),
            bullets=bullets,
            as_markdown=as_markdown,
            **self.paper.context(self),
        )
        return re.sub(r"\n{3,}", "\n\n", text).strip("\n") + "\n"

    def summary(self) -> str:
        """Return how many of the claims hold, and how many do not, in a sentence."""
        verdicts = [row.verdict for row in self.claims if not row.of]
        counts = [f"{verdicts.count(verdict)} {words}" for verdict, words in COUNTS.items() if verdict in verdicts]
        return f"Of {len(verdicts)} claims {', '.join(counts)}."

    def correction_note(self, repeats: str, over: str) -> str:
        """Return what the p-values are, in sentences; `over` is what they are over."""
        if not (count := num_tested(self.claims)):
            return f"With no two {repeats}s that differ no claim could be tested: there are no p-values."
        return (
            f"p is two-sided over {over} and corrected for all claims that could be tested, {count} (Holm). The "
            "verdict is each claim's own: its interval is above 0 (holds), below 0 (does not hold), or neither."
        )


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
    path, report = evidence.paths.report, Report.of(paper, evidence)
    _write(path / "claims.csv", _as_csv(claims_frame(report.claims, evidence.repeats)))
    for name, table in report.tables.items():
        _write(path / "tables" / f"{name}.csv", _as_csv(table))
        for suffix, text in zip(("md", "tex"), paper.texts(name, table) or (), strict=False):
            _write(path / "tables" / f"{name}.{suffix}", text)
    figures = paper.figures(evidence, report.claims, report.tables, FigureWriter(path / "figures"))
    _write(evidence.paths.page, replace(report, figures=figures).page())
    return evidence.paths.page


def bullets(lines: Iterable[str]) -> str:
    """Return lines as a list in Markdown."""
    return "\n".join(f"- {line}" for line in lines)


def negative_results(rows: Sequence[TestedClaim]) -> str:
    """Return the claims that do not hold or are undefined, as a list of sentences; "" if there are none."""
    failures = [
        f'Does not hold here: "{row.statement}" ({signed(row.value)} {row.unit}, at most {signed(row.high)}).'
        for row in rows
        if row.verdict == FAILS
    ]
    return bullets(
        failures
        + [f'Cannot be tested: "{row.statement}". Reason: {row.reason}.' for row in rows if row.verdict == UNDEFINED]
    )


def layer_names(layers: pd.DataFrame) -> str:
    """Return the numbers and names of the layers of a table, in a sentence."""
    names = dict(zip(layers["index"], layers["layer"], strict=True))
    return ", ".join(f"{index} `{name}`" for index, name in names.items()) + "."


def _data_origin(name: str, scenes: Mapping[str, Settings], paths: Mapping[str, str]) -> str:
    """Return where a data set came from, in words."""
    if name in paths:
        return "given by path"
    if name not in scenes:
        return "neither given nor generated at this scale"
    settings = scenes[name]
    frames = f" of {settings.frames} frames" if settings.frames > 1 else ""
    height, width = settings.size
    style = f", style {settings.style}" if settings.kind == "rooms" and settings.style else ""
    return f"procedural: {settings.num} {settings.kind}{frames}, {width} x {height}{style}, seed {settings.seed}"


def procedural_note(paper: Paper, names: Sequence[str]) -> list[str]:
    """Return that procedural images stand for some data sets of the paper; [] if for none."""
    data_sets = ", ".join(paper.stands_for[name].split(":")[0] for name in names)
    return [
        f"Procedural images stand for {data_sets}: {paper.procedural}. A name of a data set refers to its layout on "
        "disk here, not to its images; no number is comparable with the paper's."
    ] * bool(names)


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
