"""Evaluation of depth and of labels: scores against slow references, sizes and windows, errors."""

import json

import numpy as np
import pytest
import torch
from helpers.blocks import COLOURS, NAMES, Blocks
from helpers.blocks import checkpoint as label_checkpoint
from helpers.rooms import Rooms, checkpoint
from PIL import Image
from torch.nn.functional import cross_entropy, interpolate, one_hot

from cka_probe.errors import CheckpointError, DataError, UnknownNameError
from cka_probe.images.classes import Classes
from cka_probe.images.datasets import DATASETS
from cka_probe.images.sample import IGNORE
from cka_probe.lab.evaluation.evaluate import evaluate
from cka_probe.lab.evaluation.predictions import (
    read_label_prediction,
    read_prediction,
)
from cka_probe.lab.evaluation.segmentation import confusion_matrices
from cka_probe.lab.tasks.segmentation import Segmentation
from cka_probe.models.checkpoint import Trained, load_trained


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("model") / "depth.safetensors")


@pytest.fixture(autouse=True)
def rooms(monkeypatch):
    monkeypatch.setitem(DATASETS, "rooms", Rooms)


def slow_errors(predicted, depth, valid):
    """Some errors of one image, pixel by pixel."""
    pairs = [(p, g) for p, g, v in zip(predicted.ravel(), depth.ravel(), valid.ravel(), strict=True) if v]
    return {
        "abs_rel": sum(abs(p - g) / g for p, g in pairs) / len(pairs),
        "rmse": (sum((p - g) ** 2 for p, g in pairs) / len(pairs)) ** 0.5,
        "log10": sum(abs(np.log10(p) - np.log10(g)) for p, g in pairs) / len(pairs),
        "delta1": sum(max(p / g, g / p) < 1.25 for p, g in pairs) / len(pairs),
    }


@pytest.mark.parametrize("scaling", ["none", "median"])
def test_scores_are_means_of_each_images_own_errors(model, scaling, tmp_path):
    result = evaluate(model, Rooms(), device="cpu", scaling=scaling, cap=(0.5, 9.0), keep=tmp_path / "kept")
    rows = []
    for index in (0, 2, 3, 4, 5):
        name, depth = Rooms().describe(index), Rooms()[index]["depth"][0].double().numpy()
        predicted = read_prediction(tmp_path / "kept", name).astype(np.float64)
        assert predicted.std() > 0.01
        valid = (depth > 0.5) & (depth < 9.0)
        if scaling == "median":
            predicted = predicted * np.median(depth[valid]) / np.median(predicted[valid])
        rows.append(slow_errors(predicted, depth, valid))
        assert result.table.loc[name, list(rows[-1])].to_dict() == pytest.approx(rows[-1], rel=1e-5)
    assert result.table.loc["rooms/1.png"].drop("floored").isna().all()  # nothing measured: it says nothing
    for name in rows[0]:
        assert result.means()[name] == pytest.approx(np.mean([row[name] for row in rows]), rel=1e-5)
    assert result.settings["scaling"] == scaling
    assert list(result.table.index) == [f"rooms/{index}.png" for index in range(6)]


def test_the_prediction_is_that_of_the_task_itself_and_batches_change_nothing(model, tmp_path):
    evaluate(model, Rooms(), device="cpu", crops=1, flip_test=False, batch=3, keep=tmp_path)
    trained = load_trained(model)
    with torch.inference_mode():
        image = Rooms()[4]["image"][None]
        canvas = torch.nn.functional.interpolate(image, (96, 64), mode="bilinear", antialias=True)
        views = [canvas[..., top : top + 64, :] for top in (0, 32)]
        top, bottom = (trained.task.predict(trained.backbone, trained.head, view)[0, 0] for view in views)
    whole = torch.cat([top[:32], (top[32:] + bottom[:32]) / 2, bottom[32:]])[None, None]
    expected = torch.nn.functional.interpolate(whole, (90, 60), mode="bilinear", align_corners=False)[0, 0]
    np.testing.assert_allclose(read_prediction(tmp_path, "rooms/4.png"), expected.numpy(), atol=1e-4)


def test_a_choice_of_images_follows_from_the_seed(model):
    images = [list(evaluate(model, Rooms(), device="cpu", num=3, seed=seed).table.index) for seed in (1, 1, 2)]
    assert images[0] == images[1] == sorted(images[0]) != images[2]


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "segment.safetensors"
    return label_checkpoint(path, "segmentation", classes=4, network="linear", subset=(0, 2))


SHARP = 10.0


class ByColour(Segmentation):
    """Says of each pixel whose class's colour is nearest to its own."""

    def predict(self, backbone, head, images):
        del backbone, head
        colours = torch.tensor(COLOURS, dtype=torch.float32).view(1, 4, 3, 1, 1) / 255
        nearest = (images[:, None] - colours).square().sum(2).argmin(1)
        return SHARP * one_hot(nearest, 4).permute(0, 3, 1, 2).float()


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
def test_a_network_that_says_the_truth_is_perfect_at_every_size(segmenter, knowing, shape, rules):
    knowing()
    result = evaluate(segmenter, Blocks(shape, block=min(shape) // 4), device="cpu", **rules)
    values = result.values()
    assert values["miou"] == values["accuracy"] == values["miou_per_image"] == 1
    rows, columns = (64, 64) if rules.get("resolution") == "network" else shape
    assert result.confusion.sum() == 5 * rows * columns - 5 * round(
        (rows / shape[0]) * (columns / shape[1]) * (min(shape) // 4) ** 2
    )
    if shape == (64, 64):
        expected = np.log(1 + 3 * np.exp(-SHARP))
        assert values["cross_entropy"] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("shape", [(64, 64), (80, 150), (200, 64)])
def test_a_network_that_was_trained_on_boxes_sees_all_of_an_image_unscaled(segmenter, knowing, shape):
    knowing(crop=True)
    result = evaluate(segmenter, Blocks(shape, block=10), device="cpu")
    assert result.values()["miou"] == 1
    assert result.confusion.sum() == 5 * (shape[0] * shape[1] - 100)
    assert result.settings["views"] == "windows"


def test_at_the_networks_size_the_scores_are_those_of_validation(segmenter):
    data, trained = Blocks((60, 90), block=9), load_trained(segmenter)
    result = evaluate(segmenter, data, device="cpu", resolution="network", batch=2)
    prepared = [trained.task.prepare(data[index], torch.Generator(), False) for index in range(5)]
    batch = {name: torch.stack([sample[name] for sample in prepared]) for name in ("image", "labels")}
    with torch.inference_mode():
        values = trained.task.evaluate(trained.backbone, trained.head, batch)
    np.testing.assert_array_equal(result.confusion, values["confusion"])
    np.testing.assert_allclose(result.cross_entropy, values["cross_entropy"], rtol=1e-5)
    summary = trained.task.summary({"confusion": values["confusion"].sum(0)})
    for name, value in summary.items():
        assert result.values()[name] == pytest.approx(value)
    assert result.subset == (0, 2)


def test_at_the_images_size_by_hand_and_what_is_kept_is_what_was_scored(segmenter, tmp_path):
    data, trained = Blocks((60, 90), block=9), load_trained(segmenter)
    result = evaluate(segmenter, data, device="cpu", keep=tmp_path / "kept", batch=3)
    for index in range(5):
        sample = data[index]
        shown = trained.task.prepare(sample, torch.Generator(), False)["image"][None]
        with torch.inference_mode():
            logits = trained.task.predict(trained.backbone, trained.head, shown)
        logits = interpolate(logits, (60, 90), mode="bilinear", align_corners=False)
        kept = read_label_prediction(tmp_path / "kept", data.describe(index))
        assert (kept == logits[0].argmax(0).numpy()).mean() > 0.999  # batches round otherwise where two classes tie
        matrix = confusion_matrices(torch.from_numpy(kept)[None], sample["labels"][None], 4)[0]
        np.testing.assert_array_equal(result.confusion[index], matrix)
        entropy = cross_entropy(logits, sample["labels"][None], ignore_index=IGNORE)
        assert result.cross_entropy[index] == pytest.approx(float(entropy), rel=1e-4)
    assert 0 < result.values()["accuracy"] < 1
    with Image.open(tmp_path / "kept" / "blocks__0.png.png") as image:
        assert image.mode == "P"
        assert tuple(image.getpalette()[:12]) == sum(COLOURS, ())
    note = json.loads((tmp_path / "kept" / "predictions.json").read_text())
    assert note["images"]["blocks/3.png"] == "blocks__3.png.png"
    assert note["unit"].startswith("numbers of classes")


def test_mirrored_images_have_mirrored_scores_with_the_flip_test(segmenter):
    class Mirrored(Blocks):
        def __getitem__(self, index):
            return {name: field.flip(-1) for name, field in super().__getitem__(index).items()}

    plain, mirrored = (evaluate(segmenter, data, device="cpu", flip_test=True) for data in (Blocks(), Mirrored()))
    np.testing.assert_allclose(plain.cross_entropy, mirrored.cross_entropy, rtol=1e-5)
    straight = evaluate(segmenter, Mirrored(), device="cpu")
    assert not np.allclose(plain.cross_entropy, straight.cross_entropy, rtol=1e-3)


def test_a_choice_of_images_and_the_description_in_the_result(segmenter):
    result = evaluate(segmenter, Blocks(), device="cpu", num=3, seed=2, resamples=50)
    assert len(result.images) == 3
    assert list(result.images) == sorted(result.images)
    assert result.classes == NAMES
    assert (result.model["task"], result.model["stage"], result.data["num"]) == ("segmentation", "segment", 3)
    assert result.settings == {
        "resolution": "image", "flip_test": False, "num": 3, "resamples": 50, "seed": 2, "views": "whole"
    }  # fmt: skip
    again = evaluate(segmenter, Blocks(), device="cpu", num=3, seed=2, resamples=50)
    np.testing.assert_array_equal(again.confusion, result.confusion)


def test_classes_of_one_name_get_distinct_names(segmenter, monkeypatch):
    monkeypatch.setattr(Blocks, "classes", Classes(("door", "wall", "door", "floor")))
    assert evaluate(segmenter, Blocks(), device="cpu").classes == ("door (0)", "wall", "door (2)", "floor")


@pytest.mark.parametrize(
    ("rules", "error", "message"),
    [
        ({"resolution": "images"}, UnknownNameError, "no resolution 'images'; did you mean 'image'"),
        ({"cap": (0, 1)}, UnknownNameError, "no rule 'cap'; .*There are: flip_test, num, resamples, seed, resolution"),
        ({"num": 0}, DataError, "num of at least 1, found 0"),
        ({"batch": 0}, DataError, "at least one image in a batch, found 0"),
    ],
)
def test_invalid_options_are_one_line_errors(segmenter, rules, error, message):
    with pytest.raises(error, match=message):
        evaluate(segmenter, Blocks(), device="cpu", **rules)


def test_data_that_cannot_be_scored_is_a_one_line_error(segmenter, tmp_path, monkeypatch, knowing):
    other = label_checkpoint(tmp_path / "other.safetensors", "segmentation", classes=6, network="linear")
    with pytest.raises(DataError, match=r"the model's 6 classes, found Blocks with 4 \(brick, grass, water, sand …\)"):
        evaluate(other, Blocks(), device="cpu")
    with monkeypatch.context() as patch:
        patch.setattr(Blocks, "gives", frozenset({"image"}))
        with pytest.raises(DataError, match="expected a dataset with labels, found Blocks, which gives image"):
            evaluate(segmenter, Blocks(), device="cpu")
    with pytest.raises(DataError, match="expected labelled pixels in Blocks, found none in 5 images"):
        evaluate(segmenter, Blocks(block=64), device="cpu")
    knowing(crop=True)
    with pytest.raises(
        DataError, match=r"at least 64x64 pixels for a model .* unscaled boxes of that size, found 40x70"
    ):
        evaluate(segmenter, Blocks((70, 40)), device="cpu")
    with pytest.raises(DataError, match="expected resolution 'image' for a model that was trained on unscaled boxes"):
        evaluate(segmenter, Blocks(), device="cpu", resolution="network")


def test_a_label_that_is_no_class_and_logits_that_are_none(segmenter, tmp_path, monkeypatch):
    class Wrong(Blocks):
        def __getitem__(self, index):
            sample = super().__getitem__(index)
            return sample | {"labels": sample["labels"] + 3 * (sample["labels"] < 4)}

    with pytest.raises(
        DataError, match=r"blocks/0.png: expected labels of 4 classes, 0 to 3, found numbers from 3 to 6"
    ):
        evaluate(segmenter, Wrong(), device="cpu")
    assert not torch.is_inference_mode_enabled()
    monkeypatch.setattr(
        Segmentation, "predict", lambda self, backbone, head, images: images[:, :1].repeat(1, 4, 1, 1) / 0
    )
    with pytest.raises(CheckpointError, match=r"blocks/0.png: expected finite logits at every pixel"):
        evaluate(segmenter, Blocks(), device="cpu")
