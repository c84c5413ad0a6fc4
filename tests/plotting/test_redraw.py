"""`ckaprobe draw` draws whatever it is given, and says what does not go together."""

import subprocess
import sys
from inspect import signature
from typing import get_args

import pytest
import typer
from helpers.matrices import CASES
from helpers.paths import ROOT
from helpers.runs import write_run
from typer.testing import CliRunner

from cka_probe.errors import DataError, OutputError, UnknownNameError
from cka_probe.plotting.redraw import redraw
from cka_probe.plotting.style import VENUES


@pytest.fixture
def app():
    from ckaprobe_cli.draw import draw

    app = typer.Typer()
    app.command()(draw)
    return app


@pytest.fixture
def results(tmp_path):
    return [CASES[name].save(tmp_path / f"{name}.json") for name in ("nine", "undefined")]


@pytest.mark.slow
def test_one_result_gives_its_figures(app, results):
    ran = CliRunner().invoke(app, [str(results[0]), "--format", "svg"])
    assert ran.stdout.split() == [
        str(results[0].with_name(f"{name}.svg")) for name in ("heatmap", "profile", "uncertainty")
    ]


@pytest.mark.slow
def test_the_folder_of_a_result_is_as_good_as_its_file(results, tmp_path):
    folder = tmp_path / "compared"
    folder.mkdir()
    (folder / "result.json").write_bytes(results[0].read_bytes())
    assert [path.relative_to(folder) for path in redraw([folder], suffixes=["png"])] == [
        path.relative_to(results[0].parent) for path in redraw(results[:1], suffixes=["png"])
    ]
    with pytest.raises(DataError, match=r"--figure difference is of two results, .*; found 1"):
        redraw([folder], figures=["difference"])
    with pytest.raises(DataError, match=r"at .*nowhere.json, found nothing; check the path, or run the comparison"):
        redraw([tmp_path / "nowhere.json"])


@pytest.mark.slow
def test_several_results_stand_side_by_side(app, results, tmp_path):
    options = ["--emphasis", "diagonal", "--title", "MP", "--title", "MP+GP", "--format", "svg", "--out"]
    ran = CliRunner().invoke(app, [*map(str, results), *options, str(tmp_path / "out")])
    assert ran.stdout.split() == [str(tmp_path / "out/layer_grid.svg")]
    emphasised = (tmp_path / "out/layer_grid.svg").read_bytes()
    redraw(results, tmp_path / "plain", ["svg"])
    assert (tmp_path / "plain/layer_grid.svg").read_bytes() != emphasised


@pytest.mark.slow
def test_one_result_with_something_to_emphasise_is_a_grid(results):
    assert [path.name for path in redraw(results[:1], None, ["svg"], emphasis="row")] == ["layer_grid.svg"]


@pytest.mark.slow
def test_runs_give_the_curves_of_every_stage(app, tmp_path):
    runs = [write_run(tmp_path / f"run_{seed}", seed) for seed in (0, 1)]
    ran = CliRunner().invoke(app, [*map(str, runs), "--format", "svg"])
    assert ran.stdout.split() == [str(runs[0] / f"curves_{stage}.svg") for stage in ("geometric", "depth")]
    log = runs[0] / "depth/log.csv"
    assert redraw([log], None, ["svg"]) == [runs[0] / "depth/curves_depth.svg"]


def test_what_does_not_go_together_is_said_and_leaves_no_file(results, tmp_path):
    run = write_run(tmp_path / "run", 0)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match="found 1 runs among 2 files; draw one kind at a time"):
        redraw([results[0], run])
    with pytest.raises(DataError, match="found 0 runs among 0 files"):
        redraw([])
    with pytest.raises(DataError, match="expected no --figure for results side by side"):
        redraw(results, figures=["heatmap"])
    with pytest.raises(DataError, match="expected no --emphasis for runs"):
        redraw([run], emphasis="row")
    with pytest.raises(OutputError, match="written as png, pdf, svg; found"):
        redraw(results, suffixes=["jpg"])
    with pytest.raises(OutputError, match="expected a format"):
        redraw(results, suffixes=[])
    with pytest.raises(UnknownNameError, match="no emphasis 'diag'; did you mean 'diagonal'"):
        redraw(results, emphasis="diag")
    with pytest.raises(DataError, match="a title for each of 2 results"):
        redraw(results, titles=["MP"])
    with pytest.raises(DataError, match=r"expected a result.json of `ckaprobe compare` at .*nowhere.json"):
        redraw([tmp_path / "nowhere.json"])
    assert sorted(tmp_path.rglob("*")) == before


def test_help_loads_neither_figures_nor_the_library():
    code = (
        "from typer.testing import CliRunner\nfrom ckaprobe_cli import app\nimport sys\n"
        "done = CliRunner().invoke(app, ['draw', '--help'])\nassert '--emphasis' in done.stdout, done\n"
        "sys.exit(bool({'torch', 'numpy', 'matplotlib', 'pandas', 'cka_probe'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_a_difference_of_two_results_is_kept_and_drawn_and_can_be_drawn_again(app, tmp_path):
    results = [ROOT / "reports/first_road/result.json"] * 2
    options = [
        "--figure",
        "difference",
        "--title",
        "MP",
        "--title",
        "SP",
        "--format",
        "svg",
        "--out",
        str(tmp_path / "out"),
    ]
    ran = CliRunner().invoke(app, [*map(str, results), *options], catch_exceptions=False)
    kept, drawn = tmp_path / "out/difference.json", tmp_path / "out/difference.svg"
    assert ran.stdout.split() == [str(kept), str(drawn)]
    (again,) = redraw([kept], tmp_path / "again", ["svg"])
    assert again.read_bytes() == drawn.read_bytes()
    with pytest.raises(DataError, match="expected no --figure for a difference, which has one figure"):
        redraw([kept], figures=["heatmap"])
    ran = CliRunner().invoke(app, [*map(str, [*results, *results]), "--figure", "difference"])
    assert isinstance(ran.exception, DataError)
    assert "a difference is of two comparisons" in str(ran.exception)


@pytest.mark.slow
def test_style_and_venue_reach_every_figure(app, results, tmp_path):
    options = ["--format", "svg", "--style", "talk", "--venue", "ieee", "--out", str(tmp_path / "out")]
    CliRunner().invoke(app, [str(results[0]), *options], catch_exceptions=False)
    CliRunner().invoke(app, [*map(str, results), *options], catch_exceptions=False)
    widths = {path.stem: float(path.read_text().split('width="')[1].split("pt")[0]) / 72 / 2.4
              for path in (tmp_path / "out").glob("*.svg")}  # fmt: skip
    assert widths == pytest.approx({"heatmap": 3.5, "profile": 3.5, "uncertainty": 7.16, "layer_grid": 7.16}, abs=1e-3)


def test_venues_that_the_command_names_are_those_there_are():
    from ckaprobe_cli.draw import draw

    option = get_args(signature(draw).parameters["venue"].annotation)[1]
    assert option.help.split(": ")[1].rstrip(".").split(", ") == sorted(VENUES)
