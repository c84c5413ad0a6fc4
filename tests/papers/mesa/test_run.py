"""A study from nothing to its page at the smallest size, again, with another seed, and what it refuses."""

import json
import shutil
from dataclasses import replace

import pytest
from helpers.depth_models import save_dpt, save_model
from helpers.folders import save_empty
from typer.testing import CliRunner

from cka_probe.errors import DataError, OutputError, RecipeError, UnknownNameError
from cka_probe.lab.evaluation.scores import Scores
from cka_probe.lab.scenes import make_scenes
from cka_probe.lab.training import read_recipe
from cka_probe.lab.training.recipe import bundled, parse_toml
from cka_probe.models.checkpoint import file_hash
from cka_probe.papers import figures
from cka_probe.papers.mesa import run
from cka_probe.papers.mesa.study import SCALES
from cka_probe.papers.study import RunContext, StudyPaths
from ckaprobe_cli import app

TEACH = ("teacher.steps=2", "teacher.batch=2", "teacher.warmup=0")

NUMS = {"lsun": 6, "imagenet": 6, "videos": 10, "nyuv2": 24, "ibims1": 4, "rooms": 8}

SCENES = {
    name: replace(
        scene,
        num=NUMS[name],
        size=(90, 120) if name == "ibims1" else (72, 96),
        test=0.5 if name == "nyuv2" else scene.test,
    )
    for name, scene in SCALES["demo"].scenes.items()
}

TINY = replace(SCALES["demo"], num=12, scenes=SCENES, teacher_settings=TEACH)

LEFT_OUT = ("mp_imagenet", "supervised", "mp_imagenet_depth", "supervised_depth")
"""Stages of the recipe that add nothing to the others but time."""

FEW = (
    *(f"{stage}.{key}" for stage in ("mp", "gp", "mp_depth") for key in ("steps=2", "batch=2", "warmup=0")),
    "sp.steps=2",
)


class EnoughError(Exception):
    """Raised to end a study where what follows is known."""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A study of one seed, gone on with until a second one would begin; what was said, and when files were written."""
    folder, lines = tmp_path_factory.mktemp("study") / "out", []

    def say(line):
        lines.append(line)
        if line.startswith("seed 1"):
            raise EnoughError

    recipe = parse_toml(bundled()["mesa_demo"], "mesa_demo")
    recipe["stages"] = {name: stage for name, stage in recipe["stages"].items() if name not in LEFT_OUT}
    path = tmp_path_factory.mktemp("recipe") / "mesa_demo.json"
    path.write_text(json.dumps(recipe))
    for name in SCENES.keys() - {"ibims1"}:  # without a pool of processes; the study generates that one
        make_scenes(folder / "data" / name, SCENES[name])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SCALES, "tiny", replace(TINY, recipe=str(path)))
        patch.setattr(figures, "save", save_empty)  # they are drawn with the page
        page = run.reproduce_mesa(folder, "tiny", settings=FEW, context=RunContext("cpu", 0, say=say))
        stamps = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
        with pytest.raises(EnoughError):
            run.reproduce_mesa(folder, "tiny", seeds=2, settings=FEW, context=RunContext("cpu", 0, say=say))
        yield folder, page, lines, stamps


@pytest.mark.slow
def test_every_arm_is_trained_scored_and_compared(study):
    folder, page, _, _ = study
    stages = [stage.name for stage in read_recipe(folder / "seed0" / "recipe.json").stages]
    for stage in stages:
        assert (folder / "seed0" / f"{stage}.safetensors").exists()
    for stage in (name for name in stages if name.endswith("_depth") or name in ("gp", "sp")):
        for where, count in (("in", 12), ("out", 4)):
            assert len(Scores.load(StudyPaths(folder).scores(0, stage, where)).table) == count
    for pair in ("mp~mp", "random~random", "gp~gp_depth", "mp~mp_depth_flat"):
        for variant in ("paper", "biased", "pooled", "stream"):
            assert (folder / "seed0" / "similarity" / f"{pair}~{variant}.json").exists()
    assert (folder / "seed0" / "similarity" / "mp~mp_depth_plain~shared.json").exists()
    assert page == folder / "report" / "README.md"
    text = page.read_text("utf-8")
    links = [part.split(")")[0] for part in text.split("](")[1:]]
    assert links
    assert all((page.parent / link).exists() for link in links if "://" not in link)
    assert (page.parent / "claims.csv").exists()


@pytest.mark.slow
def test_a_study_resumes_and_seeds_can_be_added(study):
    _, _, lines, stamps = study
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert lines[-1] == "seed 1: training 9 stages"


@pytest.mark.slow
def test_another_study_in_the_same_folder_is_refused(study):
    folder, *_ = study
    with pytest.raises(OutputError, match=r"holds a run of another recipe: stages.mp.lr is .* there and 1.0 here"):
        run.reproduce_mesa(folder, "tiny", settings=[*FEW, "mp.lr=1"])
    assert json.loads((folder / "study.json").read_text())["settings"] == list(FEW)


def test_videos_get_their_pseudo_depth_from_a_given_network(tmp_path):
    out, teacher = StudyPaths(tmp_path / "out"), str(save_model(tmp_path / "teacher.safetensors"))
    videos = replace(SCENES["videos"], num=2, frames=3, test=0.5)
    for folder in (tmp_path / "videos", out.folder / "videos"):
        make_scenes(folder, videos)

    def label(folder, source=""):
        run._label_videos(out, TINY, {"videos": str(folder)}, source, RunContext("cpu", 0))
        return {json.loads(path.read_text()).get("sha256") for path in folder.rglob("source.json")}

    def remove():
        for path in (tmp_path / "videos").rglob("leres_depth"):
            shutil.rmtree(path)

    assert label(out.folder / "videos", teacher) == {file_hash(teacher)}  # generated here: its own is replaced
    with pytest.raises(OutputError, match="found one of unknown origin"):
        label(tmp_path / "videos", teacher)
    assert label(tmp_path / "videos") == set()
    remove()
    with pytest.raises(DataError, match=r"expected pseudo-depth .*, found none; add --set teacher=SOURCE"):
        label(tmp_path / "videos")
    assert label(tmp_path / "videos", teacher) == {file_hash(teacher)}
    remove()
    assert label(tmp_path / "videos", save_dpt(tmp_path / "dpt")[1]) == {None}
    notes = [json.loads(path.read_text()) for path in (tmp_path / "videos").rglob("source.json")]
    assert {note["architecture"] for note in notes} == {"DPTForDepthEstimation"}


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ({"scale": "dmeo"}, UnknownNameError, "no scale 'dmeo'; did you mean 'demo'"),
        ({"seeds": 0}, RecipeError, "expected at least 1 seed, found 0"),
        ({"settings": ["mp.stepz=3"]}, RecipeError, "unknown key 'stepz'"),
        ({"settings": ["data.nyu=x"]}, DataError, r"--set data.nyu: no such data; there are: lsun, imagenet"),
        ({"scale": "paper"}, DataError, "expected a path for lsun, imagenet, videos, nyuv2, ibims1, found none, and"),
    ],
)
def test_errors_come_before_anything_is_written(tmp_path, how, error, message):
    with pytest.raises(error, match=message):
        run.reproduce_mesa(tmp_path / "out", **{"scale": "demo"} | how)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mesaa"], "no paper 'mesaa'; did you mean 'mesa'"),
        (["mesa", "--scale", "papr"], "no scale 'papr'; did you mean 'paper'"),
        (["mesa", "--set", "gp.stepz=1"], "unknown key 'stepz'"),
    ],
)
def test_errors_of_the_command_are_one_line(tmp_path, words, message):
    result = CliRunner().invoke(app, ["reproduce", *words, "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
