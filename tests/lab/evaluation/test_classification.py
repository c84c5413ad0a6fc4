"""Accuracy counted by hand, the matching of classes with outputs, and one line for what cannot be matched."""

import json

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from helpers.foreign import randomised
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from cka_probe.errors import CheckpointError, DataError, ModelError, UnknownNameError
from cka_probe.images.conversion import to_example
from cka_probe.images.datasets import open_dataset
from cka_probe.lab.evaluation.classification import IN_ORDER, map_classes, rank_of
from cka_probe.lab.evaluation.evaluate import evaluate
from cka_probe.lab.evaluation.scores import Scores
from cka_probe.models.load import wrap
from cka_probe.similarity.resampling import wilson_interval
from ckaprobe_cli import app

CLASSES = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu")


def nearest(count=7):
    """Return a network whose output k is the larger, the nearer ten times the red of an image is to k."""
    numbers = torch.arange(count) / 10
    linear = nn.Linear(3, count)
    linear.weight.data = torch.stack([2 * numbers, torch.zeros(count), torch.zeros(count)], 1)
    linear.bias.data = -numbers.square()
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear).eval()


def make_folder(root, reds, empty=()):
    """Write images of one colour each, into a folder for each class: their reds, in tenths."""
    for name, values in {**dict.fromkeys(empty, ()), **reds}.items():
        (root / name).mkdir(parents=True)
        for number, red in enumerate(values):
            Image.new("RGB", (40, 50), (26 * red, 90, 200)).save(root / name / f"{number}.png")
    return root


@pytest.fixture
def animals(tmp_path):
    # ant 6: six outputs are nearer than its own; bee 3: four are (3, 4, 2 and 5); the others are right
    return make_folder(tmp_path / "animals", {"ant": (0, 0, 6), "bee": (3,), "gnu": (6,)}, CLASSES)


def test_accuracy_is_that_counted_by_hand(animals):
    scores = evaluate(nearest(), animals, device="cpu")
    assert scores.table["top1"].tolist() == [1, 1, 0, 0, 1]
    assert scores.table["top5"].tolist() == [1, 1, 0, 1, 1]
    assert scores.table["predicted"].tolist() == [0, 0, 6, 3, 6]
    assert scores.table["category"].tolist() == [0, 0, 0, 1, 6]
    intervals = scores.intervals()
    assert intervals.loc["top1"].tolist() == pytest.approx([0.6, 0.2307, 0.8824, 5], abs=1e-4)
    assert intervals.loc["top5"].tolist() == pytest.approx([0.8, 0.3755, 0.9638, 5], abs=1e-4)
    logits = nearest()(open_dataset(f"imagenet:{animals}")[0]["image"][None])
    assert scores.table["cross_entropy"].iloc[0] == pytest.approx(-logits.log_softmax(1)[0, 0].item(), abs=1e-6)
    assert (scores.settings["matching"], scores.settings["outputs"]) == (IN_ORDER, 7)
    assert scores.data["classes"] == {name: number for number, name in enumerate(CLASSES)}
    assert f"7 classes among 7 outputs, matched by {IN_ORDER}" in scores.summary()


def test_a_subset_of_the_classes_needs_a_list_of_them(tmp_path):
    folder = make_folder(tmp_path / "two", {"Dog": (3, 1), "cat": (2,)})
    with pytest.raises(DataError, match=r"expected 7 classes, .* found 2 \(Dog, cat\); give --classes FILE"):
        evaluate(nearest(), folder, device="cpu")
    listed = tmp_path / "classes.txt"
    listed.write_text("\n".join(CLASSES) + "\n\n")
    scores = evaluate(nearest(), folder, device="cpu", classes=listed)
    assert scores.data["classes"] == {"Dog": 3, "cat": 2}
    assert scores.table["top1"].tolist() == [1, 0, 1]
    assert scores.settings["matching"] == f"names in {listed}"
    listed.write_text("\n".join(reversed(CLASSES)))  # the order of the list decides, not the alphabet
    assert evaluate(nearest(), folder, device="cpu", classes=listed).data["classes"] == {"Dog": 3, "cat": 4}


IMAGENET = ["n01440764 tench, Tinca tinca", "n01443537 goldfish", "n02012849 crane", "n03126707 crane"]
INDEX = {"n01440764": 0, "n01443537": 1, "n02012849": 134, "n03126707": 517}


@pytest.mark.parametrize(
    ("names", "count", "recorded", "outputs", "rule"),
    [
        (tuple(INDEX), 1000, (), INDEX, "WordNet ids of imagenet-1k"),
        (("n01440764",), 21843, (), None, "WordNet ids of imagenet-21k-goog"),
        (("goldfish", "Tinca_tinca"), 4, IMAGENET, {"goldfish": 1, "Tinca_tinca": 0}, "names of the network's classes"),
        (("no", "yes"), 2, ("yes", "no"), {"no": 1, "yes": 0}, "names of the network's classes"),
        (("0", "1", "2"), 3, (), {"0": 0, "1": 1, "2": 2}, IN_ORDER),
        (("a", "b"), 2, ("LABEL_0", "LABEL_1"), {"a": 0, "b": 1}, IN_ORDER),
        (("n01440764", "n01443537"), 2, (), {"n01440764": 0, "n01443537": 1}, IN_ORDER),
    ],
)
def test_classes_are_matched_by_what_names_them(names, count, recorded, outputs, rule):
    classes = map_classes(names, count, recorded)
    assert classes.rule == rule
    if outputs is not None:
        assert classes.outputs == outputs


@pytest.mark.parametrize(
    ("names", "count", "recorded", "message"),
    [
        (("n01440764", "n99999999"), 1000, (), r"in imagenet-1k, found 1 of 2 that are not there \(n99999999\)"),
        (("yes", "maybe"), 2, ("yes", "no"), r"in the network's classes, found 1 of 2 .* \(maybe\); rename them"),
        (("crane", "goldfish"), 4, IMAGENET, r"expected one class of .* for 'crane', found 2 \(2, 3\)"),
        (("tench", "tinca tinca"), 4, IMAGENET, r"found one for 'tench' and 'tinca tinca'"),
        (
            ("0", "1", "10", "2"),
            4,
            (),
            r"found numbers, whose order by name \(0, 1, 10 …\) is not",
        ),
        (("chat", "chien"), 2, ("cat", "dog"), r"classes, cat, dog\), found 2 \(chat, chien\)"),
        (("a", "b", "c"), 1000, (), r"expected 1000 classes, .* found 3 \(a, b, c\); give --classes FILE"),
    ],
)
def test_what_cannot_be_matched_is_one_line(names, count, recorded, message):
    with pytest.raises(DataError, match=message) as raised:
        map_classes(names, count, recorded)
    assert "\n" not in str(raised.value)


def test_a_list_of_classes_has_a_line_for_each_output(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("a\nb\n")
    with pytest.raises(DataError, match=r"expected 3 lines, one for each output of the network, found 2"):
        map_classes(("a",), 3, file=path)
    with pytest.raises(DataError, match="expected a text file with a class a line, found none"):
        map_classes(("a",), 3, file=tmp_path / "none.txt")


def test_of_equal_outputs_the_first_comes_before():
    assert rank_of(torch.zeros(3, 4), torch.tensor([0, 1, 3])).tolist() == [0, 1, 3]


@pytest.mark.parametrize(("count", "low", "high"), [(0, 0, 0.2775), (10, 0.7225, 1), (5, 0.2366, 0.7634)])
def test_wilsons_interval_is_that_of_its_formula(count, low, high):
    assert wilson_interval(count, 10) == pytest.approx((low, high), abs=1e-4)


def test_the_command_scores_a_file_of_timm_and_says_how_classes_were_matched(animals, tmp_path):
    model = randomised(timm.create_model("test_resnet", num_classes=7))
    torch.save(model.state_dict(), tmp_path / "classifier.pth")
    arguments = ["evaluate", str(tmp_path / "classifier.pth"), "--data", str(animals), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*arguments, "--size", "64", "--device", "cpu"])
    assert done.exit_code == 0, done.output
    assert f"matched by {IN_ORDER}" in done.stdout
    scores = Scores.load(tmp_path / "out" / "scores.json")
    assert (scores.model["task"], scores.model["architecture"]) == ("classification", "test_resnet")
    assert scores.model["size"] == [64, 64]
    preprocessing = wrap(model).preprocessing.__class__((64, 64), *(model.pretrained_cfg[k] for k in ("mean", "std")))
    data = open_dataset(f"imagenet:{animals}")
    images = torch.stack([preprocessing.fit(to_example(data.image(index))) for index in range(len(data))])
    with torch.no_grad():
        expected = model(preprocessing.normalise(images)).argmax(1)
    assert scores.table["predicted"].tolist() == expected.tolist()
    table = pd.read_csv(tmp_path / "out" / "scores.csv", index_col="image")
    pd.testing.assert_frame_equal(table, scores.table, check_names=False)
    document = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert document["means"]["top1"]["num"] == 5
    page = CliRunner().invoke(app, ["report", str(tmp_path / "out")])
    assert page.exit_code == 0, page.output
    assert "was assumed, as there are as many" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


def test_a_folder_of_splits_is_that_of_validation(tmp_path):
    make_folder(tmp_path / "val", {"ant": (0,)})
    make_folder(tmp_path / "train", {"ant": (0,), "bee": (1, 2)})
    scores = evaluate(nearest(2), tmp_path, device="cpu")
    assert scores.data["source"] == f"imagenet:{tmp_path}:val"
    assert list(scores.table.index) == ["val/ant/0.png"]
    assert scores.data["classes"] == {"ant": 0, "bee": 1}
    assert "top5" not in scores.table  # of two outputs it would always be right


class Nothing(nn.Module):
    def forward(self, images):
        return torch.full((len(images), 7), torch.nan)


@pytest.mark.parametrize(
    ("model", "options", "error", "message"),
    [
        ("random:resnet18", {}, CheckpointError, r"expected a classifier, .* it is an encoder without a head: give"),
        (nn.Conv2d(3, 7, 1), {}, DataError, r"expected a classifier with logits .*, found \(1, 7, 224, 224\)"),
        (Nothing(), {}, CheckpointError, "ant/0.png: expected finite logits, found NaN or infinity"),
        (nearest(), {"crop": "eigen"}, UnknownNameError, "no rule 'crop'"),
        (nearest(), {"keep": "kept"}, DataError, r"expected no folder for predictions"),
        (nn.Linear(7, 7), {}, ModelError, "forward pass of Linear failed"),
    ],
)
def test_what_is_no_classifier_or_no_option_is_one_line(animals, model, options, error, message):
    with pytest.raises(error, match=message) as raised:
        evaluate(model, animals, device="cpu", **options)
    assert "\n" not in str(raised.value)


def test_images_without_classes_are_one_line(tmp_path):
    Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"expected every image of .* in the folder of its class, found 1"):
        evaluate(nearest(), tmp_path, device="cpu")
