"""Images of kept predictions: which ones, that they are what was scored, and that the command draws them."""

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.rooms import Rooms, checkpoint
from PIL import Image
from typer.testing import CliRunner

from cka_probe.errors import DataError, UnknownNameError
from cka_probe.images.datasets import DATASETS
from cka_probe.lab.evaluation.evaluate import evaluate
from cka_probe.lab.evaluation.ibims1_errors import predicted_edges
from cka_probe.lab.evaluation.predictions import depth_rows, representative_images, save_prediction
from cka_probe.lab.evaluation.protocol import DepthProtocol
from cka_probe.lab.evaluation.scores import Scores
from cka_probe.plotting.depth_panel import TRUTH
from ckaprobe_cli import app


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("model") / "depth.safetensors")


@pytest.fixture(autouse=True)
def rooms(monkeypatch):
    monkeypatch.setitem(DATASETS, "rooms", Rooms)


def test_images_from_the_best_to_the_worst():
    table = pd.DataFrame({"abs_rel": [0.5, 0.1, np.nan, 0.3, 0.2, 0.4]}, index=list("abcdef"))
    scores = Scores(table, {}, {}, {}, {})
    assert representative_images(scores, 3) == ["b", "d", "a"]
    assert representative_images(scores, 9) == ["b", "e", "d", "f", "a"]
    with pytest.raises(UnknownNameError, match="no measure 'absrel'; did you mean 'abs_rel'"):
        representative_images(scores, 1, "absrel")
    with pytest.raises(DataError, match="at least one image to show, found 0"):
        representative_images(scores, 0)


@pytest.mark.parametrize("scaling", ["none", "median", "affine"])
def test_what_is_shown_is_what_was_scored(model, tmp_path, scaling):
    scores = evaluate(model, "rooms:x", device="cpu", scaling=scaling, cap=(0.5, np.inf), keep=tmp_path, num=4)
    rules = DepthProtocol.from_recorded(scores.settings)
    names = representative_images(scores, 4)
    rows = depth_rows("rooms:x", {"last": tmp_path, "again": tmp_path}, names, rules)
    assert [row.name for row in rows] == names
    for row in rows:
        valid = row.truth > 0.5
        shown = np.abs(row.predictions["last"] - row.truth)[valid] / row.truth[valid]
        assert shown.mean() == pytest.approx(scores.table.loc[row.name, "abs_rel"], rel=1e-5)
        assert row.image.dtype == np.uint8
        assert row.image.shape == (*row.truth.shape, 3)
        assert TRUTH not in row.edges
        np.testing.assert_array_equal(row.edges["last"], predicted_edges(row.predictions["again"]))


def test_rules_come_back_from_a_result():
    rules = DepthProtocol(True, (0.5, np.inf), "median", crops=3, canny=(0.15, 0.3), num=7)
    assert DepthProtocol.from_recorded(rules.recorded()) == rules


def test_the_command_draws(model, tmp_path):
    arguments = ["evaluate", model, "--on", "rooms:x", "--out", tmp_path, "--device", "cpu", "--draw", 2, "--num", 3]
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    written = done.stdout.splitlines()[-5:]
    assert [path.removeprefix(f"{tmp_path}/") for path in written] == [
        "scores.json",
        "scores.csv",
        "predictions",
        "depth.png",
        "depth.pdf",
    ]
    with Image.open(tmp_path / "depth.png") as drawn:
        assert np.asarray(drawn.convert("RGB")).std() > 10


def test_what_cannot_be_shown_is_one_line(tmp_path):
    rules = DepthProtocol(scaling="none").for_dataset("")
    with pytest.raises(UnknownNameError, match=r"no image 'rooms/9\.png'; did you mean"):
        depth_rows("rooms:x", {"a": tmp_path}, ["rooms/9.png"], rules)
    with pytest.raises(DataError, match=r"expected the kept prediction of 'rooms/0\.png'"):
        depth_rows("rooms:x", {"a": tmp_path}, ["rooms/0.png"], rules)
    save_prediction(tmp_path, "rooms/0.png", torch.ones(3, 4).numpy())
    with pytest.raises(DataError, match=r"a prediction of the image's size \(48, 80\) in .*, found \(3, 4\)"):
        depth_rows("rooms:x", {"a": tmp_path}, ["rooms/0.png"], rules)
