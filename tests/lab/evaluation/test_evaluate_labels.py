"""Evaluation of segmentation: the truth scores 1, sizes and windows agree with a slow way, what is wrong is a line."""

import json

import numpy as np
import pytest
import torch
from helpers.blocks import COLOURS, NAMES, Blocks
from PIL import Image
from torch import nn
from torch.nn.functional import cross_entropy, interpolate, one_hot
from typer.testing import CliRunner

from cka_probe.errors import CheckpointError, DataError, UnknownNameError
from cka_probe.images.classes import Classes
from cka_probe.images.datasets import DATASETS
from cka_probe.images.sample import IGNORE
from cka_probe.lab.evaluation.evaluate import evaluate
from cka_probe.lab.evaluation.label_scores import LabelScores
from cka_probe.lab.evaluation.predictions import label_rows, read_label_prediction, representative_images
from cka_probe.lab.evaluation.segmentation import confusion_matrices
from cka_probe.lab.tasks.segmentation import Segmentation
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import Backbone, Origin
from cka_probe.models.checkpoint import Checkpoint, Trained, load_trained, save_checkpoint
from ckaprobe_cli import app

OPTIONS = {"size": 64}
SHARP = 10.0


class ByColour(Segmentation):
    """Says of each pixel whose class's colour is nearest to its own."""

    def predict(self, backbone, head, images):
        del backbone, head
        colours = torch.tensor(COLOURS, dtype=torch.float32).view(1, 4, 3, 1, 1) / 255
        nearest = (images[:, None] - colours).square().sum(2).argmin(1)
        return SHARP * one_hot(nearest, 4).permute(0, 3, 1, 2).float()


def checkpoint(path, classes=4, **options):
    """A network that was never trained, of a seed, as a file."""
    torch.manual_seed(0)
    backbone = Backbone(ARCHITECTURES["resnet18"].build(**OPTIONS), size=64, origin=Origin("", "resnet18"))
    options = {"classes": classes, "network": "linear", **options}
    head = Segmentation((64, 64), **options).head(backbone)
    for weight in head.parameters():
        nn.init.normal_(weight, std=0.2)
    header = Checkpoint(
        "resnet18", OPTIONS, (0.4,) * 3, (0.2,) * 3, stage="segment", task="segmentation", task_options=options
    )
    save_checkpoint(path, backbone, head, header)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("model") / "segment.safetensors", subset=(0, 2))


@pytest.fixture
def knowing(monkeypatch):
    """Lets any checkpoint be scored as if its network told classes by their colours."""

    def know(**options):
        def loaded(path):
            trained = load_trained(path)
            return Trained(trained.backbone, trained.head, ByColour((64, 64), classes=4, **options))

        monkeypatch.setattr("cka_probe.lab.evaluation.evaluate.load_trained", loaded)

    return know


@pytest.mark.parametrize("shape", [(64, 64), (128, 128), (128, 64), (32, 32)])
@pytest.mark.parametrize("rules", [{}, {"flip_test": True}, {"resolution": "network"}])
def test_a_network_that_says_the_truth_is_perfect_at_every_size(model, knowing, shape, rules):
    knowing()
    found = evaluate(model, Blocks(shape, block=min(shape) // 4), device="cpu", **rules)
    values = found.values()
    assert values["miou"] == values["accuracy"] == values["miou_per_image"] == 1
    rows, columns = (64, 64) if rules.get("resolution") == "network" else shape
    assert found.confusion.sum() == 5 * rows * columns - 5 * round(
        (rows / shape[0]) * (columns / shape[1]) * (min(shape) // 4) ** 2
    )
    if shape == (64, 64):
        expected = np.log(1 + 3 * np.exp(-SHARP))
        assert values["cross_entropy"] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("shape", [(64, 64), (80, 150), (200, 64)])
def test_a_network_that_was_trained_on_boxes_sees_all_of_a_image_unscaled(model, knowing, shape):
    knowing(crop=True)
    found = evaluate(model, Blocks(shape, block=10), device="cpu")
    assert found.values()["miou"] == 1
    assert found.confusion.sum() == 5 * (shape[0] * shape[1] - 100)
    assert found.settings["views"] == "windows"


def test_at_the_networks_size_the_scores_are_those_of_validation(model):
    data, trained = Blocks((60, 90), block=9), load_trained(model)
    found = evaluate(model, data, device="cpu", resolution="network", batch=2)
    prepared = [trained.task.prepare(data[index], torch.Generator(), False) for index in range(5)]
    batch = {name: torch.stack([sample[name] for sample in prepared]) for name in ("image", "labels")}
    with torch.inference_mode():
        values = trained.task.evaluate(trained.backbone, trained.head, batch)
    np.testing.assert_array_equal(found.confusion, values["confusion"])
    np.testing.assert_allclose(found.cross_entropy, values["cross_entropy"], rtol=1e-5)
    summary = trained.task.summary({"confusion": values["confusion"].sum(0)})
    for name, value in summary.items():
        assert found.values()[name] == pytest.approx(value)
    assert found.subset == (0, 2)


def test_at_the_images_size_by_hand_and_what_is_kept_is_what_was_scored(model, tmp_path):
    data, trained = Blocks((60, 90), block=9), load_trained(model)
    found = evaluate(model, data, device="cpu", keep=tmp_path / "kept", batch=3)
    for index in range(5):
        sample = data[index]
        shown = trained.task.prepare(sample, torch.Generator(), False)["image"][None]
        with torch.inference_mode():
            logits = trained.task.predict(trained.backbone, trained.head, shown)
        logits = interpolate(logits, (60, 90), mode="bilinear", align_corners=False)
        kept = read_label_prediction(tmp_path / "kept", data.describe(index))
        assert (kept == logits[0].argmax(0).numpy()).mean() > 0.999  # batches round otherwise where two classes tie
        matrix = confusion_matrices(torch.from_numpy(kept)[None], sample["labels"][None], 4)[0]
        np.testing.assert_array_equal(found.confusion[index], matrix)
        entropy = cross_entropy(logits, sample["labels"][None], ignore_index=IGNORE)
        assert found.cross_entropy[index] == pytest.approx(float(entropy), rel=1e-4)
    assert 0 < found.values()["accuracy"] < 1
    with Image.open(tmp_path / "kept" / "blocks__0.png.png") as image:
        assert image.mode == "P"
        assert tuple(image.getpalette()[:12]) == sum(COLOURS, ())
    note = json.loads((tmp_path / "kept" / "predictions.json").read_text())
    assert note["images"]["blocks/3.png"] == "blocks__3.png.png"
    assert note["unit"].startswith("numbers of classes")


def test_mirrored_images_have_mirrored_scores_with_the_flip_test(model):
    class Mirrored(Blocks):
        def __getitem__(self, index):
            return {name: field.flip(-1) for name, field in super().__getitem__(index).items()}

    plain, mirrored = (evaluate(model, data, device="cpu", flip_test=True) for data in (Blocks(), Mirrored()))
    np.testing.assert_allclose(plain.cross_entropy, mirrored.cross_entropy, rtol=1e-5)
    straight = evaluate(model, Mirrored(), device="cpu")
    assert not np.allclose(plain.cross_entropy, straight.cross_entropy, rtol=1e-3)


def test_a_choice_of_images_and_what_the_result_says_of_itself(model):
    found = evaluate(model, Blocks(), device="cpu", num=3, seed=2, resamples=50)
    assert len(found.images) == 3
    assert list(found.images) == sorted(found.images)
    assert found.classes == NAMES
    assert (found.model["task"], found.model["stage"], found.data["num"]) == ("segmentation", "segment", 3)
    assert found.settings == {
        "resolution": "image", "flip_test": False, "num": 3, "resamples": 50, "seed": 2, "views": "whole"
    }  # fmt: skip
    again = evaluate(model, Blocks(), device="cpu", num=3, seed=2, resamples=50)
    np.testing.assert_array_equal(again.confusion, found.confusion)


def test_classes_of_one_name_are_told_apart(model, monkeypatch):
    monkeypatch.setattr(Blocks, "classes", Classes(("door", "wall", "door", "floor")))
    assert evaluate(model, Blocks(), device="cpu").classes == ("door (0)", "wall", "door (2)", "floor")


def test_images_from_the_best_to_the_worst(model, tmp_path):
    found = evaluate(model, Blocks((60, 90)), device="cpu", keep=tmp_path)
    names = representative_images(found, 3)
    own = found.table().loc[names, "miou"].to_numpy()
    assert (np.diff(own) <= 0).all()
    assert own[0] == found.table()["miou"].max()
    panel = label_rows(Blocks((60, 90)), {"none": tmp_path}, names)
    assert [row.name for row in panel.rows] == names
    assert tuple(panel.names) == NAMES
    for row in panel.rows:
        np.testing.assert_array_equal(row.predictions["none"], read_label_prediction(tmp_path, row.name))
        assert row.truth.shape == row.image.shape[:2] == (60, 90)
    with pytest.raises(DataError, match=r"kept prediction of 'blocks/0.png' at .*, found none; run `ckaprobe evaluate"):
        label_rows(Blocks(), {"none": tmp_path / "other"}, ["blocks/0.png"])


@pytest.mark.parametrize(
    ("rules", "error", "said"),
    [
        ({"resolution": "images"}, UnknownNameError, "no resolution 'images'; did you mean 'image'"),
        ({"cap": (0, 1)}, UnknownNameError, "no rule 'cap'; .*There are: resolution, flip_test"),
        ({"num": 0}, DataError, "num of at least 1, found 0"),
        ({"batch": 0}, DataError, "at least one image in a batch, found 0"),
    ],
)
def test_rules_that_make_no_sense_are_one_line(model, rules, error, said):
    with pytest.raises(error, match=said):
        evaluate(model, Blocks(), device="cpu", **rules)


def test_data_that_cannot_be_scored_is_one_line(model, tmp_path, monkeypatch, knowing):
    other = checkpoint(tmp_path / "other.safetensors", classes=6)
    with pytest.raises(DataError, match=r"the model's 6 classes, found Blocks with 4 \(brick, grass, water, sand …\)"):
        evaluate(other, Blocks(), device="cpu")
    with monkeypatch.context() as patch:
        patch.setattr(Blocks, "gives", frozenset({"image"}))
        with pytest.raises(DataError, match="expected a dataset with labels, found Blocks, which gives image"):
            evaluate(model, Blocks(), device="cpu")
    with pytest.raises(DataError, match="expected labelled pixels in Blocks, found none in 5 images"):
        evaluate(model, Blocks(block=64), device="cpu")
    knowing(crop=True)
    with pytest.raises(
        DataError, match=r"at least 64x64 pixels for a model .* unscaled boxes of that size, found 40x70"
    ):
        evaluate(model, Blocks((70, 40)), device="cpu")
    with pytest.raises(DataError, match="expected resolution 'image' for a model that was trained on unscaled boxes"):
        evaluate(model, Blocks(), device="cpu", resolution="network")


def test_a_label_that_is_no_class_and_logits_that_are_none(model, tmp_path, monkeypatch):
    class Wrong(Blocks):
        def __getitem__(self, index):
            sample = super().__getitem__(index)
            return sample | {"labels": sample["labels"] + 3 * (sample["labels"] < 4)}

    with pytest.raises(
        DataError, match=r"blocks/0.png: expected labels of 4 classes, 0 to 3, found numbers from 3 to 6"
    ):
        evaluate(model, Wrong(), device="cpu")
    assert not torch.is_inference_mode_enabled()
    monkeypatch.setattr(
        Segmentation, "predict", lambda self, backbone, head, images: images[:, :1].repeat(1, 4, 1, 1) / 0
    )
    with pytest.raises(CheckpointError, match=r"blocks/0.png: expected finite logits at every pixel"):
        evaluate(model, Blocks(), device="cpu")


def test_the_command_writes_scores_predictions_and_images(model, tmp_path, monkeypatch):
    monkeypatch.setitem(DATASETS, "blocks", lambda path, split="all": Blocks((60, 90)))
    where = ("--on", "blocks:x", "--device", "cpu", "--out", str(tmp_path))
    done = CliRunner().invoke(app, ["evaluate", str(model), *where, "--draw", "2", "--resolution", "network"])
    assert done.exit_code == 0, done.output
    names = ("scores.json", "scores.csv", "predictions", "labels.png", "labels.pdf")
    assert done.stdout.splitlines()[-5:] == [str(tmp_path / name) for name in names]
    found = LabelScores.load(tmp_path / "scores.json")
    assert found.summary() in done.stdout
    assert found.settings["resolution"] == "network"
    assert not found.settings["flip_test"]
    assert read_label_prediction(tmp_path / "predictions", "blocks/0.png").shape == (64, 64)
    refused = CliRunner().invoke(app, ["evaluate", str(model), *where, "--crops", "2"])
    assert refused.exit_code == 2
    assert "no rule 'crops'" in refused.stderr
    assert refused.stderr.count("\n") == 1
