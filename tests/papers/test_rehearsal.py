"""What a scale of weeks runs, in minutes: every part of both papers' largest scale, in one process and in two."""

import re

import pandas as pd
import pytest
from helpers.folders import save_empty
from helpers.processes import run_in_processes

from cka_probe.errors import DataError, RecipeError
from cka_probe.lab.training import read_recipe
from cka_probe.papers import PAPERS, figures
from cka_probe.papers.depth_to_semantic.report import PAPER as SEMANTIC
from cka_probe.papers.depth_to_semantic.study import SCALES, TABLES
from cka_probe.papers.mesa.report import PAPER as MESA
from cka_probe.papers.rehearsal import rehearsed
from cka_probe.papers.study import RunContext
from cka_probe.registry import resolve

SHARES = {("paper", MESA.name): 0.7, ("paper", SEMANTIC.name): 0.5, ("paper_vit", SEMANTIC.name): 0.1}
"""Claims of a paper that a scale tests, at least."""


def check_complete(paper, folder):
    """Assert that the study in a folder lacks nothing: every arm and case, every claim, every figure."""
    evidence = paper.load(folder)
    elsewhere = ("quirks:", "supervised:")  # of the protocol "released", and of the smaller scales
    if paper is SEMANTIC:  # which runs other tables with another encoder
        scale = SCALES[evidence.study["scale"]]
        elsewhere += tuple(f"{table}:" for table in TABLES if table not in scale.tables)
    assert [line for line in paper.absences(evidence) if not line.startswith(elsewhere)] == []
    page = evidence.paths.page.read_text("utf-8")
    assert "**This is a rehearsal.** Rehearsed in " in page
    links = re.findall(r"\]\((figures/[^)]*)\)", page)
    assert len(links) > 5
    assert all((evidence.paths.report / link).exists() for link in links)
    claims = pd.read_csv(evidence.paths.report / "claims.csv")
    assert (claims["verdict"] != "not run").mean() > SHARES[evidence.study["scale"], paper.name]


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "name"), SHARES)
def test_the_scale_of_the_paper_is_rehearsed_beside_the_study(scale, name, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "save", save_empty)  # drawn, but not encoded
    lines = []
    context = RunContext("cpu", 0, say=lines.append)
    page = resolve(PAPERS[name])(tmp_path / "out", scale, rehearse=True, context=context)
    assert page == tmp_path / "out_rehearsal" / "report" / "README.md"
    assert not (tmp_path / "out").exists()
    assert lines[-2].startswith("Rehearsed in one process: every stage, score, comparison, table and figure")
    assert lines[-1].startswith("Not rehearsed: the real files")
    check_complete(MESA if name == MESA.name else SEMANTIC, tmp_path / "out_rehearsal")


@pytest.mark.slow
def test_data_that_vanish_end_a_study_with_one_line_and_when_they_are_back_it_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "save", save_empty)
    data, elsewhere, moments, lines = tmp_path / "out_rehearsal" / "data", tmp_path / "elsewhere", set(), []

    def hide(moment):
        if moment not in moments and data.exists():
            moments.add(moment)
            data.rename(elsewhere)

    context = RunContext("cpu", 0, training=lambda stage, *_: hide(stage), say=hide)
    page = None
    while page is None:
        try:
            page = resolve(PAPERS[SEMANTIC.name])(
                tmp_path / "out", "paper", rehearse=True, context=context, tables=["figure7"]
            )
        except DataError as error:
            lines.append(str(error))
            elsewhere.rename(data)
    assert len(lines) > 5
    assert all(str(data) in line and line.isprintable() for line in lines)
    assert "**This is a rehearsal.** Rehearsed in " in page.read_text("utf-8")


REHEARSAL = """
import sys
from cka_probe.papers import PAPERS
from cka_probe.papers.study import RunContext
from cka_probe.registry import resolve
if __name__ == "__main__":  # processes that generate scenes import this file
    options = {"tables": sys.argv[3:]} if sys.argv[3:] else {}
    resolve(PAPERS[sys.argv[1]])(sys.argv[2], "paper", rehearse=True, context=RunContext("cpu", 0), **options)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("paper", "tables"), [(MESA, ()), (SEMANTIC, ("figure7",))], ids=["mesa", "depth-to-semantic"])
def test_two_processes_rehearse_together(paper, tables, tmp_path):
    run_in_processes(REHEARSAL, tmp_path, paper.name, "out", *tables, timeout=1200)
    if not tables:
        check_complete(paper, tmp_path / "out_rehearsal")
    evidence = paper.load(tmp_path / "out_rehearsal")
    assert not any(line.startswith("figure7") for line in paper.absences(evidence))
    assert "Rehearsed in 2 processes" in evidence.paths.page.read_text("utf-8")


def test_a_rehearsal_has_the_stages_of_its_recipe_in_small():
    whole = read_recipe("mesa_paper", [f"data.{name}=x" for name in ("lsun", "imagenet", "videos", "nyuv2")])
    small = rehearsed(whole)
    assert [stage.name for stage in small.stages] == [stage.name for stage in whole.stages]
    assert {stage.steps for stage in small.stages} == {2}
    assert {stage.shape for stage in small.stages} == {(64, 64), (96, 96)}
    assert small.stages[0].data == ("lsun:x:train?each=1&categories=bedroom,dining_room,living_room,kitchen",)
    for before, after in zip(whole.stages, small.stages, strict=True):
        for key in ("task", "options", "precision", "schedule", "layer_decay", "drop_path", "normalisation", "clip"):
            assert getattr(before, key) == getattr(after, key)
    other = read_recipe("teacher", ["data.rooms=x", "architecture=swinv2_tiny"])
    assert rehearsed(other).architecture == "swinv2_micro"
    with pytest.raises(RecipeError, match="expected an architecture of swinv2, resnet, dinov2, vit, found convnext"):
        rehearsed(type(whole)("x", "convnext", ()))
