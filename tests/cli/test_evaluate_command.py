"""`ckaprobe evaluate`: on generated iBims-1 and on real NYUv2, and one line for everything that is wrong."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.blocks import Blocks
from helpers.blocks import checkpoint as label_checkpoint
from helpers.paths import REAL as DATA
from helpers.rooms import Rooms, checkpoint
from PIL import Image
from typer.testing import CliRunner

from cka_probe.errors import CheckpointError, CkaProbeError, DataError, UnknownNameError
from cka_probe.images.datasets import DATASETS, open_dataset
from cka_probe.lab.evaluation.evaluate import PREDICTS, evaluate
from cka_probe.lab.evaluation.ibims1_errors import BOUNDARIES
from cka_probe.lab.evaluation.label_scores import LabelScores
from cka_probe.lab.evaluation.predictions import read_label_prediction, read_prediction
from cka_probe.lab.evaluation.protocol import DepthProtocol, image_scores
from cka_probe.lab.evaluation.scores import Scores, paired_difference
from cka_probe.lab.scenes.make import make_scenes
from cka_probe.lab.scenes.settings import Settings
from cka_probe.models.checkpoint import file_hash, load_trained
from ckaprobe_cli import app

REAL = DATA / "nyuv2"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Checkpoints by task, and one without a head."""
    root = tmp_path_factory.mktemp("models")
    made = {
        task: checkpoint(root / f"{task}.safetensors", task) for task in ("depth", "masked", "geometric", "teacher")
    }
    return made | {"alone": checkpoint(root / "alone.safetensors", with_head=False)}


@pytest.fixture(scope="module")
def ibims(tmp_path_factory):
    root = tmp_path_factory.mktemp("ibims")
    make_scenes(root / "rooms", Settings("rooms", num=2, frames=1, size=(120, 160), layout="ibims1"))
    return root / "rooms"


@pytest.fixture(autouse=True)
def rooms(monkeypatch):
    monkeypatch.setitem(DATASETS, "rooms", Rooms)


def run(*arguments):
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def test_the_truth_itself_has_no_error_and_three_times_the_truth_only_metric_ones(ibims):
    data, rules = open_dataset(f"ibims1:{ibims}"), DepthProtocol(scaling="none").for_dataset("ibims1")
    for index in range(len(data)):
        sample = data[index]
        perfect, thrice = (image_scores(factor * sample["depth"], sample, rules, "a") for factor in (1, 3))
        none = ("abs_rel", "rmse", "pe_plan", "pe_orie", "abs_rel_median", "dde_m", "dde_p")
        assert [perfect[name] for name in none] == pytest.approx([0] * len(none), abs=1e-4)
        assert (perfect["delta1"], perfect["dde_0"]) == (1, 1)
        assert perfect["planes"] > 0
        assert thrice["abs_rel"] == pytest.approx(2, abs=1e-4)
        scale_free = [name for name in perfect if name.endswith("_median")] + ["pe_plan", "pe_orie", *BOUNDARIES]
        for name in scale_free:
            assert thrice[name] == pytest.approx(perfect[name], abs=1e-4), name


def test_errors_of_boundaries_and_planes_tell_a_blurred_room_from_a_sharp_one(ibims):
    data, rules = open_dataset(f"ibims1:{ibims}"), DepthProtocol(scaling="none").for_dataset("ibims1")
    sample = data[0]
    blurred = torch.nn.functional.avg_pool2d(sample["depth"][None], 31, 1, 15, count_include_pad=False)[0]
    sharp, soft = (image_scores(depth, sample, rules, "a") for depth in (sample["depth"], blurred))
    for name in ("dbe_comp", "dbe_comp_truncated", "pe_plan", "pe_orie", "abs_rel"):
        assert soft[name] > sharp[name], name


def test_the_command_writes_scores_and_predictions(files, ibims, tmp_path):
    done = run(files["depth"], "--data", f"ibims1:{ibims}", "--out", tmp_path, "--keep", "--device", "cpu")
    assert done.exit_code == 0, done.output
    scores = Scores.load(tmp_path / "scores.json")
    assert {"abs_rel", "abs_rel_median", "dbe_comp", "pe_plan", "dde_0"} <= set(scores.table)
    assert scores.model["hash"] == file_hash(files["depth"])
    assert (scores.model["task"], scores.model["stage"], scores.data["num"]) == ("depth", "last", 2)
    assert scores.settings["cap"] == [0.0, None]
    assert scores.summary() in done.stdout
    assert done.stdout.splitlines()[-3:] == [str(tmp_path / f) for f in ("scores.json", "scores.csv", "predictions")]
    table = pd.read_csv(tmp_path / "scores.csv", index_col="image")
    pd.testing.assert_frame_equal(table, scores.table, check_names=False)
    for name in table.index:
        assert read_prediction(tmp_path / "predictions", name).shape == (120, 160)
    note = json.loads((tmp_path / "predictions" / "predictions.json").read_text())
    assert list(note["images"]) == list(table.index)
    before = (tmp_path / "scores.json").read_bytes()
    assert run(files["depth"], "--data", f"ibims1:{ibims}", "--out", tmp_path, "--device", "cpu").exit_code == 0
    assert (tmp_path / "scores.json").read_bytes() == before


def test_a_model_that_was_never_shown_a_metre_is_scaled_and_says_so(files):
    scores = evaluate(files["geometric"], Rooms(), device="cpu")
    assert scores.settings["scaling"] == "median"
    assert "scaled to the median of the truth" in scores.summary()
    plain = evaluate(files["geometric"], Rooms(), device="cpu", scaling="none")
    assert plain.means()["abs_rel"] != pytest.approx(scores.means()["abs_rel"])
    # a factor is all that lies between them, and this one forgives it
    assert plain.means()["silog_bts"] == pytest.approx(scores.means()["silog_bts"], rel=1e-5)
    found = paired_difference(plain, scores)
    assert found.loc["abs_rel", "value"] == pytest.approx(scores.means()["abs_rel"] - plain.means()["abs_rel"])


def test_a_teacher_sees_images_squeezed_and_is_shifted_too(files):
    scores = evaluate(files["teacher"], Rooms(), device="cpu")
    assert (scores.settings["scaling"], scores.settings["crops"]) == ("affine", 0)
    assert "scaled and shifted to the truth" in scores.summary()
    by_median = evaluate(files["teacher"], Rooms(), device="cpu", scaling="median")
    assert scores.means()["rmse"] < by_median.means()["rmse"]  # it has the best of all scales and shifts


@pytest.mark.parametrize("task", PREDICTS)
def test_every_task_that_predicts_depth_gives_a_value_a_pixel(task, tmp_path):
    trained = load_trained(checkpoint(tmp_path / "a.safetensors", task))
    depth = trained.task.predict(trained.backbone, trained.head, torch.rand(2, 3, 64, 64))
    assert depth.shape == (2, 1, 64, 64)
    assert (depth > 0).all()


@pytest.mark.parametrize(
    ("model", "found"),
    [
        ("masked", "found one of the task 'masked'; train"),
        ("alone", "found a backbone alone; train"),
        ("text", "found a text file: give the file of weights"),
        ("torch", "expected an encoder of timm, torchvision or transformers, found 1 tensors"),
        ("damaged", r"found a damaged file \("),
        ("missing", "no such file"),
    ],
)
def test_a_file_that_predicts_no_depth_is_one_line(files, tmp_path, model, found):
    path = files.get(model, tmp_path / model)
    if model == "text":
        path.write_text("abs_rel")
    elif model == "torch":
        torch.save({"weight": torch.ones(3)}, path)
    elif model == "damaged":
        path.write_bytes(files["depth"].read_bytes()[:3000])
    with pytest.raises(CheckpointError, match=found):
        evaluate(path, Rooms(), device="cpu")


def test_data_that_cannot_be_scored_is_one_line(files, tmp_path, monkeypatch):
    Image.fromarray(np.zeros((70, 70, 3), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"expected a dataset with depth, found .*, which gives .*image"):
        evaluate(files["depth"], tmp_path, device="cpu")
    with pytest.raises(DataError, match=r"between 50 and 60 m in rooms:x, found no valid pixel in 6 images"):
        evaluate(files["depth"], "rooms:x", device="cpu", cap=(50, 60))
    monkeypatch.setattr(Rooms, "describe", lambda _, index: ["a/b", "a__b", "c", "d", "e", "f"][index])
    with pytest.raises(DataError, match="to save predictions, found 'a/b' and 'a__b'"):
        evaluate(files["depth"], Rooms(), device="cpu", keep=tmp_path / "kept")


@pytest.mark.parametrize(
    ("rules", "error", "said"),
    [
        ({"scaling": "medain"}, UnknownNameError, "no scaling 'medain'; did you mean 'median'"),
        ({"cap": (5, 1)}, DataError, r"a cap \(least, most\) in metres with 0 <= least < most, found \(5, 1\)"),
        ({"num": 0}, DataError, "num of at least 1, found 0"),
        ({"batch": 0}, DataError, "at least one image in a batch, found 0"),
        ({"crops": -1}, DataError, "crops of at least 0, found -1"),
        ({"canny": (0.3, 0.1)}, DataError, r"0 <= low <= high, found 0\.3 and 0\.1"),
        ({"resamples": 0}, DataError, "resamples of at least 1, found 0"),
    ],
)
def test_rules_that_make_no_sense_are_one_line(files, rules, error, said):
    with pytest.raises(error, match=said):
        evaluate(files["depth"], Rooms(), device="cpu", **rules)


def test_the_command_says_what_is_wrong_in_one_line(files, tmp_path):
    done = run(files["masked"], "--data", "rooms:x", "--out", tmp_path)
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert "ckaprobe: " in done.stderr
    with pytest.raises(CkaProbeError):
        evaluate(files["masked"], "rooms:x")


@pytest.mark.skipif(not REAL.is_dir(), reason="the real images (../shared/data) are not here")
def test_real_images_by_the_published_crop_and_cap(files, tmp_path):
    arguments = (
        "--data",
        f"nyuv2:{REAL}:test",
        "--num",
        12,
        "--crops",
        1,
        "--no-flip-test",
        "--device",
        "cpu",
        "--keep",
    )
    done = run(files["depth"], *arguments, "--out", tmp_path)
    assert done.exit_code == 0, done.output
    scores, data = Scores.load(tmp_path / "scores.json"), open_dataset(f"nyuv2:{REAL}:test")
    assert scores.settings["crop"] == "eigen_nyuv2"
    assert len(scores.table) == 12
    index = next(index for index in range(len(data)) if data.describe(index) == scores.table.index[5])
    depth = data[index]["depth"][0].numpy().astype(np.float64)
    assert depth.shape == (240, 320)
    inside = np.zeros(depth.shape, bool)
    inside[22:236, 20:300] = True  # half of 45 to 471 and of 41 to 601
    valid = inside & (depth > 1e-3) & (depth < 10)
    predicted = read_prediction(tmp_path / "predictions", scores.table.index[5])[valid].astype(np.float64)
    expected = np.mean(np.abs(predicted - depth[valid]) / depth[valid])
    assert scores.table["abs_rel"].iloc[5] == pytest.approx(expected, rel=1e-5)


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "segment.safetensors"
    return label_checkpoint(path, "segmentation", classes=4, network="linear", subset=(0, 2))


@pytest.mark.slow
def test_labels_are_written_and_drawn(segmenter, tmp_path, monkeypatch):
    monkeypatch.setitem(DATASETS, "blocks", lambda path, split="all": Blocks((60, 90)))
    where = ("--data", "blocks:x", "--device", "cpu", "--out", str(tmp_path))
    done = CliRunner().invoke(app, ["evaluate", str(segmenter), *where, "--draw", "2", "--resolution", "network"])
    assert done.exit_code == 0, done.output
    names = ("scores.json", "scores.csv", "predictions", "labels.png", "labels.pdf")
    assert done.stdout.splitlines()[-5:] == [str(tmp_path / name) for name in names]
    found = LabelScores.load(tmp_path / "scores.json")
    assert found.summary() in done.stdout
    assert found.settings["resolution"] == "network"
    assert not found.settings["flip_test"]
    assert read_label_prediction(tmp_path / "predictions", "blocks/0.png").shape == (64, 64)
    refused = CliRunner().invoke(app, ["evaluate", str(segmenter), *where, "--crops", "2", "--force"])
    assert refused.exit_code == 2
    assert "no rule 'crops'" in refused.stderr
    assert refused.stderr.count("\n") == 1


@pytest.mark.slow
def test_depth_is_drawn(files, tmp_path):
    done = run(files["depth"], "--data", "rooms:x", "--out", tmp_path, "--device", "cpu", "--draw", 2, "--num", 3)
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
