"""Classes present in a scene: what counts as present, the loss by hand, scores that add up."""

import math

import pytest
import torch
from torch import Generator

from cka_probe.errors import DataError, RecipeError
from cka_probe.lab.tasks.scene_class import SceneClass
from cka_probe.lab.training import run_recipe
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import Backbone
from cka_probe.models.checkpoint import load_trained

SIZE = (64, 64)
NAN = float("nan")


def scene(height=40, width=50):
    labels = torch.zeros(height, width, dtype=torch.int64)
    labels[: height // 2] = 1
    labels[0, :2] = 2
    return {"image": torch.rand(3, height, width), "labels": labels}


def test_a_class_is_present_from_the_least_share_of_labelled_pixels():
    labels = torch.full((10, 10), 255)
    labels[0] = 3
    labels[1, :9], labels[1, 9] = 0, 1
    assert SceneClass(SIZE, classes=4, least=0.05).present(labels).tolist() == [1, 1, 0, 1]
    assert SceneClass(SIZE, classes=4, least=0.06).present(labels).tolist() == [1, 0, 0, 1]
    assert SceneClass(SIZE, classes=4, least=0.5).present(labels).tolist() == [0, 0, 0, 1]
    assert SceneClass(SIZE, classes=2).present(torch.full((3, 3), 255)).isnan().all()


def test_the_whole_image_is_judged_in_evaluation_and_a_part_of_it_in_training():
    task, sample = SceneClass(SIZE, classes=4, scale=(0.1, 0.2)), scene()
    whole = task.prepare(sample, Generator(), False)
    assert whole["present"].tolist() == [1, 1, 0, 0]
    assert whole["image"].shape == (3, *SIZE)
    parts = [task.prepare(sample, Generator().manual_seed(i), True)["present"].tolist() for i in range(40)]
    assert {(1.0, 0.0), (0.0, 1.0), (1.0, 1.0)} == {tuple(part[:2]) for part in parts}


def test_the_loss_by_hand(monkeypatch):
    logits = torch.tensor([[2.0, -1.0], [0.5, 3.0], [1.0, 1.0]], requires_grad=True)
    monkeypatch.setattr(SceneClass, "predict", lambda *_: logits)
    present = torch.tensor([[1.0, 0.0], [0.0, 1.0], [NAN, NAN]])
    task = SceneClass(SIZE, classes=2)
    loss, parts = task.loss(None, None, {"image": torch.zeros(3, 3, *SIZE), "present": present})
    expected = 0.0
    for row, truth in zip(logits.tolist()[:2], present.tolist()[:2], strict=True):
        for z, t in zip(row, truth, strict=True):
            p = 1 / (1 + math.exp(-z))
            expected -= (t * math.log(p) + (1 - t) * math.log(1 - p)) / 4
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    assert parts["correct"] == 0.75
    loss.backward()
    assert logits.grad[2].tolist() == [0.0, 0.0]


def test_views_without_a_label_give_zero_with_a_graph():
    backbone = Backbone(ARCHITECTURES["resnet18"].build(size=64), size=64)
    task = SceneClass(SIZE, classes=2)
    head = task.head(backbone)
    batch = {"image": torch.zeros(2, 3, *SIZE), "present": torch.full((2, 2), NAN)}
    loss, _ = task.loss(backbone, head, batch)
    loss.backward()
    assert loss.item() == 0.0
    assert all(p.grad.isfinite().all() for p in [*backbone.parameters(), *head.parameters()])
    values = task.evaluate(backbone, head, batch)
    assert values["cross_entropy"].isnan().all()
    assert not values["present"].any()


def test_the_scores_of_a_whole_set_against_loops(monkeypatch):
    generator = Generator().manual_seed(0)
    logits = torch.randn(30, 4, generator=generator)
    present = (torch.rand(30, 4, generator=generator) < torch.tensor([0.3, 0.7, 1.0, 0.0])).float()
    present[5] = NAN
    task, at = SceneClass(SIZE, classes=4), []
    monkeypatch.setattr(SceneClass, "predict", lambda *_: logits[at[-1]])
    sums, count = 0, []
    for part in (slice(0, 11), slice(11, 30)):  # sums add, however images are put together
        at.append(part)
        values = task.evaluate(None, None, {"image": torch.zeros(1), "present": present[part]})
        sums, count = sums + values["present"].sum(0), [*count, len(values["cross_entropy"])]
    found = task.summary({"present": sums})
    assert count == [11, 19]
    known = [i for i in range(30) if i != 5]
    balanced, entropy = [], 0.0
    for k in range(4):
        there = [i for i in known if present[i, k] == 1]
        absent = [i for i in known if present[i, k] == 0]
        rate = len(there) / len(known)
        entropy -= sum(p * math.log(p) for p in (rate, 1 - rate) if p) / 4
        if there and absent:
            told = sum(logits[i, k].item() > 0 for i in there) / len(there)
            balanced.append((told + sum(logits[i, k].item() <= 0 for i in absent) / len(absent)) / 2)
    assert len(balanced) == found["varying"] == 2
    assert found["balanced_accuracy"] == pytest.approx(sum(balanced) / 2)
    assert found["balanced_accuracy_constant"] == 0.5
    assert found["cross_entropy_constant"] == pytest.approx(entropy)


def test_no_constant_answer_is_better_than_the_rates(monkeypatch):
    task = SceneClass(SIZE, classes=2)
    present = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    batch = {"image": torch.zeros(4, 3, *SIZE), "present": present}
    found = []
    for z in ([0.0, 0.0], [math.log(3), -math.log(3)], [5.0, -5.0]):
        monkeypatch.setattr(SceneClass, "predict", lambda *_, z=z: torch.tensor([z]).expand(4, 2))
        values = task.evaluate(None, None, batch)
        summary = task.summary({"present": values["present"].sum(0)})
        assert summary["balanced_accuracy"] == 0.5
        found.append(values["cross_entropy"].mean().item() - summary["cross_entropy_constant"])
    assert found[1] == pytest.approx(0, abs=1e-6)
    assert min(found[0], found[2]) > 0.05


def test_where_no_class_varies_there_is_no_balanced_accuracy():
    counts = torch.zeros(2, 2, 2)
    counts[0, 1, 1] = counts[1, 0, 0] = 3
    summary = SceneClass(SIZE, classes=2).summary({"present": counts})
    assert math.isnan(summary["balanced_accuracy"])
    assert (summary["varying"], summary["cross_entropy_constant"]) == (0, 0.0)


RECIPE = """
name = "present"
architecture = "resnet18"
size = [64, 96]
[stages.present]
task = "scene_class"
data = "scenes:streets?num=6&size=96x64&frames=1"
validation = "scenes:streets?num=4&size=96x64&frames=1&seed=1"
steps = 2
batch = 4
lr = 1e-3
options = { classes = 19 }
"""


@pytest.mark.slow
def test_a_recipe_trains_it_on_streets(tmp_path):
    (tmp_path / "present.toml").write_text(RECIPE)
    (path,) = run_recipe(tmp_path / "present.toml", tmp_path / "run", device="cpu")
    header, row = (tmp_path / "run/present/validation.csv").read_text().splitlines()
    scores = dict(zip(header.split(","), map(float, row.split(",")), strict=True))
    assert list(scores) == [
        "step", "cross_entropy", "balanced_accuracy", "balanced_accuracy_constant", "cross_entropy_constant", "varying",
    ]  # fmt: skip
    assert 0 < scores["cross_entropy_constant"] < scores["cross_entropy"] < 0.8
    assert scores["varying"] >= 1
    whole = load_trained(path)
    assert whole.task.predict(whole.backbone, whole.head, torch.rand(2, 3, 64, 96)).shape == (2, 19)


def test_what_cannot_be_is_said():
    sample = scene()
    with pytest.raises(DataError, match=r"labels from 0 to 1, or 255, found 2; set the stage's options\.classes"):
        SceneClass(SIZE, classes=2).prepare(sample, Generator(), False)
    for options, expected in (
        ({"classes": 0}, "`classes` of 1 to 255, found 0"),
        ({"classes": 2, "least": 0.0}, r"`least` in \(0, 1\], found 0.0"),
        ({"classes": 2, "scale": (0.0, 1.0)}, r"`scale` = \[least, most\] in \(0, 1\], found \[0.0, 1.0\]"),
    ):
        with pytest.raises(RecipeError, match=f"scene_class: expected {expected}"):
            SceneClass(SIZE, **options)
