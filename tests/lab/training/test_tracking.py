"""Trackers get the rows of the logs from the main process, and each stage is a run."""

import json

import numpy as np
import pandas as pd
import pytest
from accelerate.tracking import get_available_trackers
from helpers.processes import run_in_processes
from helpers.trackers import FolderRecorder, Recorder
from PIL import Image
from typer.testing import CliRunner

from cka_probe.errors import UnknownNameError
from cka_probe.lab.training import run_recipe
from cka_probe.lab.training.recipe import recipe_of
from cka_probe.lab.training.tracking import TRACKERS, check_trackers
from ckaprobe_cli import app

STAGE = {"task": "masked", "steps": 4, "batch": 2, "lr": 1e-3, "log_every": 1, "save_every": 2, "options": {"cell": 16}}


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "images").mkdir()
    for index in range(4):
        pixels = np.random.default_rng(index).integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"images/{index}.png")
    data = f"folder:{tmp_path / 'images'}"
    stages = {"first": STAGE | {"data": data, "validation": data}, "second": STAGE | {"data": data, "steps": 1}}
    encoder = {"architecture": "swinv2_micro", "size": 64, "options": {"depths": [1, 1, 1, 1]}}
    return lambda *track: recipe_of({"name": "test", "track": list(track), "stages": stages, **encoder})


@pytest.fixture(autouse=True)
def recorder(monkeypatch):
    Recorder.calls.clear()
    monkeypatch.setitem(TRACKERS, "recorder", Recorder)


def logged(prefix=""):
    rows = [(step, values) for kind, step, values in (c for c in Recorder.calls if c[0] == "log")]
    return [(step, values) for step, values in rows if all(name.startswith(prefix) for name in values)]


def test_a_tracker_gets_the_logs_of_each_stage(recipe, tmp_path):
    run_recipe(recipe("recorder"), tmp_path / "run", device="cpu")
    kinds = [call[0] for call in Recorder.calls]
    assert kinds == ["init", "start", "config", *["log"] * 5, "finish", "init", "start", "config", "log", "finish"]
    assert Recorder.calls[0] == ("init", "test", "", {})
    settings = {"seed": 0, "name": "first", "lr": 1e-3, "options": '{"cell": 16}'}
    assert Recorder.calls[2][1] == Recorder.calls[2][1] | settings
    written = pd.read_csv(tmp_path / "run/first/log.csv")
    steps = [(step, values) for step, values in logged() if "loss" in values][:4]
    assert [step for step, _ in steps] == list(written["step"]) == [1, 2, 3, 4]
    assert [values["loss"] for _, values in steps] == pytest.approx(list(written["loss"]), rel=1e-5)
    ((step, scores),) = logged("validation/")
    assert (step, list(scores)) == (4, ["validation/reconstruction", "validation/mean_colour"])


def test_tracking_changes_no_weights_and_can_begin_in_the_middle(recipe, tmp_path):
    def stop(stage, step, steps, scalars):
        if step == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        run_recipe(recipe(), tmp_path / "parts", device="cpu", progress=stop)
    paths = [run_recipe(recipe(*track), tmp_path / "whole", device="cpu") for track in ((), ("recorder",))]
    assert not Recorder.calls  # everything was done
    run_recipe(recipe("recorder"), tmp_path / "parts", device="cpu")
    assert [step for step, values in logged() if "loss" in values] == [3, 4, 1]
    for path in paths[0]:
        assert path.read_bytes() == (tmp_path / "parts" / path.name).read_bytes()


def test_tensorboard_writes_next_to_the_log_of_a_stage_and_forgets_what_comes_again(recipe, tmp_path, monkeypatch):
    monkeypatch.setitem(TRACKERS, "tensorboard", FolderRecorder)
    tracking = recipe("tensorboard")

    def stop(stage, step, steps, scalars):
        if step == 4:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        run_recipe(tracking, tmp_path / "run", device="cpu", progress=stop)
    assert Recorder.calls[-1] == ("finish",)
    run_recipe(tracking, tmp_path / "run", device="cpu")
    starts = [call[1:] for call in Recorder.calls if call[0] == "init"]
    folder = str(tmp_path / "run")
    assert starts == [("first", folder, {}), ("first", folder, {"purge_step": 3}), ("second", folder, {})]
    assert not [call for call in Recorder.calls if call[0] == "config"]


def test_what_is_missing_is_said_before_anything_is_written(recipe, tmp_path):
    with pytest.raises(UnknownNameError, match="no tracker 'tensorbord'; did you mean 'tensorboard'"):
        run_recipe(recipe("tensorbord"), tmp_path / "run", device="cpu")
    missing = next(name for name in TRACKERS if name not in {"recorder", *map(str, get_available_trackers())})
    path = tmp_path / "recipe.json"
    path.write_text(json.dumps(recipe().as_dict()))
    options = ["--out", str(tmp_path / "run"), "--track", missing, "--device", "cpu"]
    for command in (["train", "--recipe", str(path)], ["reproduce", "mesa"], ["reproduce", "depth-to-semantic"]):
        done = CliRunner().invoke(app, [*command, *options])
        assert done.exit_code == 2
        expected = f"ckaprobe: tracker '{missing}' needs a package that is not installed; install it with: pip install "
        assert done.stderr.splitlines()[-1].startswith(expected)
    assert not (tmp_path / "run").exists()
    check_trackers(["recorder"])


TRACKED = """
import os
from helpers.trackers import Recorder
from cka_probe.lab.training import read_recipe, run_recipe
from cka_probe.lab.training.tracking import TRACKERS
TRACKERS["recorder"] = Recorder
run_recipe(read_recipe("recipe.json"), "run", device="cpu")
open(f"calls{os.environ['RANK']}", "w").write(" ".join(call[0] for call in Recorder.calls))
"""


@pytest.mark.slow
def test_of_two_processes_the_first_tracks(recipe, tmp_path):
    (tmp_path / "recipe.json").write_text(json.dumps(recipe("recorder").as_dict()))
    run_in_processes(TRACKED, tmp_path)
    assert (tmp_path / "calls0").read_text().split().count("log") == 6
    assert (tmp_path / "calls1").read_text() == ""
