"""The report of a study: its page, tables and figures, all from the files in its folder.

OUT/report/README.md              the page
OUT/report/claims.csv             every claim and its controls, with the value on each run
OUT/report/tables/*.csv|md|tex    the tables with the paper's numbers; long tables as CSV only
OUT/report/figures/*.png, *.pdf

It can be written at any time, of an unfinished study too: what is missing is reported as not run. The page of a paper
is a Jinja template, `<paper>/page.md`, which fills the blocks of `page.md`; `macros.md` has the sentences they share.
"""

import os
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined

from cka_probe import registry
from cka_probe.lab.scenes import Settings
from cka_probe.papers.claims import Claim, TestedClaim, claims_frame, judge_claims, num_tested, with_controls
from cka_probe.papers.figures import FigureWriter, StudyFigure
from cka_probe.papers.rehearsal import describe_rehearsal, rehearsal_scenes
from cka_probe.papers.study import write_text
from cka_probe.papers.tables import (
    as_markdown,
    claim_texts,
    layer_texts,
    num_images,
    pixels,
    score_texts,
    signed,
)

FUNCTIONS = (
    as_markdown, claim_texts, describe_rehearsal, layer_texts, num_images, num_tested, pixels, score_texts, signed,
    with_controls, zip,
)  # fmt: skip
"""What templates can call."""


@dataclass(frozen=True)
class Paper:
    """A paper as the report needs it. Functions of `evidence` take the paper's own, `load`'s.

    Attributes:
        name: As in `PAPERS`; with underscores, its folder.
        declarations: Its `paper.toml`: `title`, `source` (the citation), `stands_for` (which data set of the paper each
            data set stands for, and what for), and what its template uses.
        claims: What is tested, each claim followed by its controls.
        scales: By name; each has the `scenes` that it generates.
        load: Opens a study.
        tables: Returns the tables by name.
        texts: Returns a table as Markdown and LaTeX, or `None` for one that is written as CSV only.
        figures: Draws all figures, in the order of the page.
        stages: Returns the table of what was trained.
        absences: Returns what was not run, a line each.
        data: Returns the names of the study's data.
        options: Returns options of the command that repeats the study.
        context: Returns more names for the template.
    """

    name: str
    declarations: Mapping[str, Any]
    claims: Sequence[Claim]
    scales: Mapping[str, Any]
    load: Callable[[str | Path], Any]
    tables: Callable[[Any], dict[str, pd.DataFrame]]
    texts: Callable[[str, pd.DataFrame], tuple[str, str] | None]
    figures: Callable[[Any, Sequence[TestedClaim], Mapping[str, pd.DataFrame], FigureWriter], list[StudyFigure]]
    stages: Callable[[Any], pd.DataFrame]
    absences: Callable[[Any], list[str]]
    data: Callable[[Any], Sequence[str]]
    options: Callable[[Any], Sequence[str]] = lambda evidence: ()
    context: Callable[["Report"], Mapping[str, Any]] = lambda report: {}

    def scenes(self, evidence: Any) -> Mapping[str, Settings]:
        """Return the data sets that the scale of a study generates."""
        if evidence.study.get("rehearsal"):
            return rehearsal_scenes(self.declarations)
        return registry.get(self.scales, evidence.study["scale"], "scale").scenes

    def generated(self, evidence: Any) -> list[str]:
        """Return the data sets that a study generated."""
        scenes, paths = self.scenes(evidence), evidence.study["data"]
        return [name for name in self.data(evidence) if name in scenes and name not in paths]

    def data_rows(self, evidence: Any) -> pd.DataFrame:
        """Return one row for each data set of a study: its name, what it stands for, and what it was."""
        scenes, paths = self.scenes(evidence), evidence.study["data"]
        return pd.DataFrame(
            {
                "data": name,
                "stands for": self.declarations["stands_for"][name],
                "was": _data_origin(name, scenes, paths),
            }
            for name in self.data(evidence)
        )


@dataclass(frozen=True)
class Report:
    """A study's claims, each followed by its controls, its tables and figures, and its page."""

    paper: Paper
    evidence: Any
    claims: Sequence[TestedClaim]
    tables: Mapping[str, pd.DataFrame]
    figures: Sequence[StudyFigure] = ()

    @classmethod
    def of(cls, paper: Paper, evidence: Any) -> "Report":
        """Test the claims of a study and make its tables; figures are not drawn."""
        return cls(paper, evidence, judge_claims(evidence, paper.claims), paper.tables(evidence))

    @property
    def main_claims(self) -> list[TestedClaim]:
        """The claims without their controls."""
        return [row for row in self.claims if not row.of]

    @property
    def stems(self) -> set[str]:
        """Stems of the figures that were drawn."""
        return {figure.stem for figure in self.figures if figure.paths}

    def markdown(self, table: str) -> str:
        """Return a table as Markdown."""
        return (self.paper.texts(table, self.tables[table]) or ("", ""))[0]

    def sources(self, table: str) -> dict[str, list[str]]:
        """Return where the paper's numbers in a table are printed, and the arms that have some from there."""
        rows = self.tables[table]
        cited = rows[rows["paper"].notna()]
        return {str(source): list(dict.fromkeys(arms)) for source, arms in cited.groupby("source", sort=False)["arm"]}

    def page(self) -> str:
        """Return the page as Markdown."""
        seeds, trials = self.evidence.seeds, self.evidence.trials
        environment = Environment(
            loader=PackageLoader("cka_probe", "papers"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        environment.globals.update({function.__name__: function for function in FUNCTIONS})
        text = environment.get_template(f"{self.paper.name.replace('-', '_')}/page.md").render(
            report=self,
            paper=self.paper,
            evidence=self.evidence,
            num=len(seeds if len(seeds) > 1 else trials),
            repeats="seeds" if len(seeds) > 1 else "trials" if len(trials) > 1 else "one",
            machine=machine(),
            **self.paper.context(self),
        )
        return re.sub(r"\n{3,}", "\n\n", text).strip("\n") + "\n"


def write_report(folder: str | Path, paper: Paper) -> Path:
    """Write the report of a study into its subfolder `report`, and return its page.

    Raises:
        DataError: There is no study, or a file is broken or of another study.
        OutputError: The report cannot be written.
    """
    evidence = paper.load(folder)
    path, report = evidence.paths.report, Report.of(paper, evidence)
    write_text(path / "claims.csv", _as_csv(claims_frame(report.claims, evidence.repeats)))
    for name, table in report.tables.items():
        write_text(path / "tables" / f"{name}.csv", _as_csv(table))
        for suffix, text in zip(("md", "tex"), paper.texts(name, table) or (), strict=False):
            write_text(path / "tables" / f"{name}.{suffix}", text)
    figures = paper.figures(
        evidence, report.claims, report.tables, FigureWriter(path / "figures", paper.declarations["captions"])
    )
    write_text(evidence.paths.page, replace(report, figures=figures).page())
    return evidence.paths.page


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
