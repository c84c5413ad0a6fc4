"""A study of Depth-to-Semantic from nothing to its page: interrupted, gone on with, with more trials; refusals."""

import json
import math

import pytest
import torch
from helpers.folders import save_empty
from helpers.semantic_run import CASES, SCENES, tiny
from safetensors.torch import load_file
from typer.testing import CliRunner

from cka_probe.attribution.attributions import Attributions
from cka_probe.attribution.saved_maps import load_maps
from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.errors import DataError, OutputError, RecipeError, UnknownNameError
from cka_probe.lab.evaluation.label_scores import LabelScores
from cka_probe.lab.scenes import make_scenes
from cka_probe.lab.training import read_recipe
from cka_probe.lab.training.start import random_backbone
from cka_probe.models.checkpoint import file_hash
from cka_probe.models.load import load
from cka_probe.papers import figures
from cka_probe.papers.depth_to_semantic import run as study_run
from cka_probe.papers.depth_to_semantic.recipes import Trial
from cka_probe.papers.depth_to_semantic.run import (
    best_rate,
    held_out,
    is_compared,
    keeps_weights,
    model_pairs,
    reproduce_depth_to_semantic,
)
from cka_probe.papers.depth_to_semantic.study import ARMS, DIVERGED, SCALES, Case, SemanticPaths
from cka_probe.papers.study import RunContext
from ckaprobe_cli import app

RATE = 1e-3


class EnoughError(Exception):
    """Raised where a study is interrupted."""


@pytest.fixture(scope="module")
def scale(tmp_path_factory):
    """The name of the smallest scale, while it is among the others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SCALES, "tiny", tiny(tmp_path_factory.mktemp("recipes")))
        yield "tiny"


@pytest.fixture(scope="module")
def study(scale, tmp_path_factory):
    """Where a study is that was interrupted and gone on with; its page; what was said; when files were written."""
    paths, lines = SemanticPaths(tmp_path_factory.mktemp("study") / "out"), []
    for name, settings in SCENES.items():
        make_scenes(paths.folder / "data" / name, settings)

    def run(until="", **more):
        def say(line):
            lines.append(line)
            if until and until in line:
                raise EnoughError

        return reproduce_depth_to_semantic(paths.folder, scale, context=RunContext("cpu", 0, say=say), **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(study_run, "write_report", lambda folder, paper: paths.page)  # drawn once, at the end
        with pytest.raises(EnoughError):
            run(until="classification~kitti~skip~frozen, trial 0")
        early = stamps(paths.folder)
        run()
        late = stamps(paths.folder)
        run()
        again = stamps(paths.folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "save", save_empty)  # they are drawn with the page
        page = run(trials=2)
    return paths, page, lines, (early, late, again, stamps(paths.folder))


def stamps(folder):
    """Return when each file outside the report was written."""
    report = folder / "report"
    return {
        path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file() and report not in path.parents
    }


def of(paths, case, trial=0, rate=RATE):
    return paths.tuned(0, case, rate, trial)


@pytest.mark.slow
def test_every_case_is_fine_tuned_scored_and_compared(study):
    paths, page, *_ = study
    assert SCALES["tiny"].cases() == CASES
    for case in CASES:
        for trial in (0, 1):
            scores = LabelScores.load(of(paths, case, trial) / "scores.json")
            assert scores.confusion.shape == (6, 19, 19)
            assert (
                keeps_weights(Trial(case, RATE, 0, trial)) == (of(paths, case, trial) / "segment.safetensors").exists()
            )
    assert len(list((of(paths, Case("lidar")) / "predictions").glob("*.png"))) == 6
    assert page == paths.page
    assert page.exists()


@pytest.mark.slow
def test_a_rate_at_which_training_diverges_is_not_chosen(study):
    paths, *_ = study
    rates = json.loads(paths.rates_file(0).read_text())
    assert set(rates) == {f"{arm}~kitti~skip~all" for arm in ("none", "classification", "lidar")}
    for base in (Case("none"), Case("lidar")):
        assert paths.rate(0, base) == RATE
        assert rates[base.name]["tried"]["1e+30"] is None
        loser = of(paths, base, rate=1e30)
        assert "error" in json.loads((loser / DIVERGED).read_text())
        assert not (loser / "segment.safetensors").exists()


@pytest.mark.slow
def test_all_arms_share_the_encoder_of_the_seed(study):
    paths, *_ = study
    chance = load(paths.checkpoint(0, "none"))
    fresh = random_backbone(read_recipe(paths.pre(0) / "recipe.json"), 64)
    for name, value in fresh.model.state_dict().items():
        assert torch.equal(chance.model.state_dict()[name], value)
    assert chance.preprocessing.mean == (0.45,) * 3
    assert not any(key.startswith("head.") for key in load_file(paths.checkpoint(0, "none")))


@pytest.mark.slow
def test_trials_of_one_number_share_their_random_draws(study):
    paths, *_ = study
    for trial in (0, 1):
        recipes = [read_recipe(of(paths, case, trial) / "recipe.json") for case in CASES]
        assert {recipe.seed for recipe in recipes} == {trial}
        assert len({(stage.data, stage.num, stage.held_out) for recipe in recipes for stage in recipe.stages}) == 1


@pytest.mark.slow
def test_models_are_compared_and_a_frozen_encoder_does_not_change(study):
    paths, *_ = study
    names = [case.model for case in (Case("none"), Case("lidar"))]
    assert SimilarityMatrix.load(paths.similarity(0, *names)).values.shape == (9, 9)
    assert paths.similarity(0, "none", "lidar").exists()
    frozen = Case("classification", mode="frozen").model
    same = SimilarityMatrix.load(paths.similarity(0, "classification", frozen))
    assert same.values.diagonal() == pytest.approx(1.0, abs=1e-6)
    tuned = SimilarityMatrix.load(paths.similarity(0, "lidar", names[1]))
    assert tuned.values[-1, -1] < 1 - 1e-6
    # chance was shown images before it was frozen, and so is not to the bit what it was
    shown = Case("none", mode="frozen").model
    assert SimilarityMatrix.load(paths.similarity(0, "none", shown)).x.hash != same.x.hash


@pytest.mark.slow
def test_maps_of_the_first_table_are_computed_and_drawn(study):
    paths, page, *_ = study
    found = Attributions.load(paths.gradcam(0))
    names = [Case(arm).name for arm in ("none", "classification")]  # the others of the table are left out here
    assert list(found.models) == names
    assert len(found.images) == 6
    for name in names:
        assert len(load_maps(paths.maps(0, name))) == 4
    assert found.models[names[0]]["hash"] == file_hash(of(paths, Case("none")) / "segment.safetensors")
    assert (page.parent / "figures" / "figure6.png").exists()


@pytest.mark.slow
def test_a_study_resumes_and_trials_can_be_added(study):
    _, _, lines, (early, late, again, more) = study
    stay = {path for path in early if path.exists()}
    assert {path: early[path] for path in stay} == {path: late[path] for path in stay}
    assert again == late
    assert {path: more[path] for path in late} == late
    assert {path.parent.name for path in more.keys() - late.keys()} == {"trial1", "segment"}
    assert lines.count("seed 0: none~kitti~skip~frozen, trial 0, rate 0.001") == 1
    assert lines.count("seed 0: classification~kitti~skip~frozen, trial 0, rate 0.001") == 2


@pytest.mark.slow
def test_another_study_in_the_same_folder_is_refused(study, scale):
    paths, *_ = study
    with pytest.raises(OutputError, match=r"holds a run of another recipe: stages.segment.steps is 2 there and 3"):
        reproduce_depth_to_semantic(paths.folder, scale, settings=["segment.steps=3"])


@pytest.mark.slow
def test_too_few_images_are_an_error_before_training(study, scale, tmp_path):
    data = [f"data.{name}={study[0].folder / 'data' / name}" for name in SCENES]
    with pytest.raises(DataError, match=r"expected images in .*, 3 to train on and 99 to validate on, found 8"):
        reproduce_depth_to_semantic(tmp_path / "out", scale, settings=[*data, "segment.held_out=99"])
    assert not (tmp_path / "out" / "study.json").exists()


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ({"scale": "dmeo"}, UnknownNameError, "no scale 'dmeo'; did you mean 'demo'"),
        ({"seeds": 0}, RecipeError, "expected at least 1 seed, found 0"),
        ({"trials": 0}, RecipeError, "expected 1 to 1000 trials, found 0"),
        ({"protocol": "relaesed"}, UnknownNameError, "no protocol 'relaesed'; did you mean 'released'"),
        ({"settings": ["pre.lidar.stepz=3"]}, RecipeError, "stages.lidar: unknown key 'stepz'"),
        ({"settings": ["pre.lidr.steps=3"]}, RecipeError, "no stage or key 'lidr'; did you mean 'lidar'"),
        ({"settings": ["segment.stepz=3"]}, RecipeError, "stages.segment: unknown key 'stepz'"),
        ({"settings": ["segment.lr=3"]}, RecipeError, "the study sets this itself"),
        ({"settings": ["data.kiti=x"]}, DataError, r"--set data.kiti: no such data; there are: objects, kitti"),
        ({"scale": "paper"}, DataError, "expected a path for objects, kitti, rooms, kitti_labels, rooms_labels"),
    ],
)
def test_errors_come_before_anything_is_written(tmp_path, how, error, message):
    with pytest.raises(error, match=message):
        reproduce_depth_to_semantic(tmp_path / "out", **{"scale": "demo"} | how)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["depth-to-semantics"], "no paper 'depth-to-semantics'; did you mean 'depth-to-semantic'"),
        (["mesa", "--trials", "2"], "--trials: mesa has no such option, only depth-to-semantic has; omit it"),
        (["mesa", "--protocol", "paper"], "--protocol: mesa has no such option"),
        (["depth-to-semantic", "--protocol", "papre"], "no protocol 'papre'; did you mean 'paper'"),
        (["depth-to-semantic", "--trials", "0"], "expected 1 to 1000 trials, found 0"),
        (["depth-to-semantic", "--set", "seed=1"], "expected data.NAME=PATH, pre.STAGE.KEY=VALUE"),
    ],
)
def test_errors_of_the_command_are_one_line(tmp_path, words, message):
    result = CliRunner().invoke(app, ["reproduce", *words, "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_every_arm_is_compared_with_its_fine_tuned_self_and_with_every_other():
    tuned = [Case("none"), Case("video"), Case("video", mode="frozen"), Case("rooms_depth", data="rooms")]
    pairs = model_pairs(["none", "video", "rooms_depth"], tuned)
    assert len(pairs) == len(set(pairs)) == 4 + 3 + 1
    assert pairs[0] == ("none", "none~kitti~skip~all~trial0")
    assert ("none~kitti~skip~all~trial0", "video~kitti~skip~all~trial0") in pairs
    assert set(ARMS) >= {"none", "video", "rooms_depth"}


def test_the_best_held_out_rate_is_chosen():
    nan = math.nan
    tried = {1e-3: {"miou_subset": 0.2, "miou": 0.9}, 1e-2: {"miou_subset": 0.3, "miou": 0.1}, 1.0: {}}
    rate, measure, values = best_rate(tried, "case")
    assert (rate, measure) == (1e-2, "miou_subset")
    assert values[1e-3] == 0.2
    assert math.isnan(values[1.0])
    whole = {1e-3: {"miou_subset": nan, "miou": 0.2}, 1e-2: {"miou_subset": 0.5, "miou": 0.2}}
    assert best_rate(whole, "case")[:2] == (1e-3, "miou")
    with pytest.raises(DataError, match=r"case: expected a held-out mIoU at one of the learning rates 1, found none"):
        best_rate({1.0: {}}, "case")


def test_without_held_out_images_no_rate_can_be_chosen(tmp_path):
    with pytest.raises(DataError, match=r"validation.csv, found nothing; set segment.held_out"):
        held_out(tmp_path)
    (tmp_path / "segment").mkdir()
    (tmp_path / "segment" / "validation.csv").write_text("step,miou,accuracy\n1,0.1,0\n2,0.25,0\n")
    assert held_out(tmp_path) == {"miou": 0.25}


def test_which_weights_are_kept_and_which_encoders_compared():
    base = Case("video")
    assert keeps_weights(Trial(base, 1, 0, 0))
    assert not keeps_weights(Trial(base, 1, 0, 1))
    assert not keeps_weights(Trial(Case("video", mode="frozen"), 1, 0, 0))
    assert is_compared(base)
    assert is_compared(Case("video", mode="frozen"))
    assert not is_compared(Case("video", network="deeplab"))
    assert not is_compared(Case("video", num=4))
