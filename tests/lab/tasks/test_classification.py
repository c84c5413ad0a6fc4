"""The supervised arm: its loss by hand, its head by loops, what it says of images that it has learnt."""

import math

import pytest
import torch
from torch import Generator

from cka_probe.errors import DataError, RecipeError
from cka_probe.lab.scenes.objects import OBJECTS
from cka_probe.lab.tasks.classification import Classification, LinearHead
from cka_probe.lab.training import read_recipe, run_recipe
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import Backbone
from cka_probe.models.checkpoint import load_trained

SIZE = (64, 64)


@pytest.fixture(scope="module", params=["swinv2_micro", "resnet18"])
def backbone(request):
    torch.manual_seed(0)
    options = {"depths": (1, 1, 2, 1)} if request.param.startswith("swin") else {}
    return Backbone(ARCHITECTURES[request.param].build(size=64, **options), size=64)


def test_the_head_is_a_mean_over_places_and_one_linear_layer():
    torch.manual_seed(0)
    head, maps = LinearHead(5, 3), torch.randn(2, 5, 4, 6)
    torch.nn.init.normal_(head.bias)
    for i in range(2):
        for k in range(3):
            score = head.bias[k].item()
            for c in range(5):
                score += (
                    head.weight[k, c].item() * sum(maps[i, c, y, x].item() for y in range(4) for x in range(6)) / 24
                )
            assert head(maps)[i, k].item() == pytest.approx(score, abs=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_by_hand(monkeypatch, smoothing):
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 3.0]])
    monkeypatch.setattr(Classification, "predict", lambda *_: logits)
    batch = {"image": torch.zeros(2, 3, *SIZE), "category": torch.tensor([0, 1])}
    expected = 0.0
    for row, category in zip(logits.tolist(), (0, 1), strict=True):
        log_sum = math.log(sum(math.exp(value) for value in row))
        for k, value in enumerate(row):
            target = (1 - smoothing) * (k == category) + smoothing / 3
            expected -= target * (value - log_sum) / 2
    task = Classification(SIZE, classes=3, label_smoothing=smoothing)
    loss, parts = task.loss(None, None, batch)
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    assert parts["correct"] == 0.5
    values = task.evaluate(None, None, batch)
    assert values["correct"].tolist() == [1.0, 0.0]
    plain = [-2 + math.log(math.exp(2) + 1 + math.exp(-1)), -0.5 + math.log(2 * math.exp(0.5) + math.exp(3))]
    assert values["cross_entropy"].tolist() == pytest.approx(plain, rel=1e-6)


def test_before_training_all_classes_are_about_as_likely(backbone):
    task = Classification(SIZE, classes=7)
    batch = {"image": torch.rand(4, 3, *SIZE), "category": torch.arange(4)}
    with torch.no_grad():
        loss, _ = task.loss(backbone, task.head(backbone), batch)
    assert loss.item() == pytest.approx(math.log(7), abs=0.35)


@pytest.mark.slow
def test_it_learns_which_of_two_colours_an_image_has(backbone):
    torch.manual_seed(0)
    task = Classification(SIZE, classes=2)
    head = task.head(backbone)
    category = torch.tensor([0, 1, 0, 1])
    image = 0.3 * torch.rand(4, 3, *SIZE)
    image[range(4), category] += 0.6
    batch = {"image": image, "category": category}
    optimiser = torch.optim.AdamW([*backbone.parameters(), *head.parameters()], lr=3e-3)
    backbone.train(), head.train()
    for _ in range(12):
        optimiser.zero_grad()
        loss, parts = task.loss(backbone, head, batch)
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.2
    assert parts["correct"] == 1.0


def test_views_show_the_share_of_the_image_that_is_asked_for():
    ramp = torch.arange(100.0).expand(3, 100, 100) / 100
    sample = {"image": ramp, "category": torch.tensor(1)}

    def seen(**options):
        task = Classification(SIZE, classes=2, **options)
        views = [task.prepare(sample, Generator().manual_seed(i), True)["image"] for i in range(60)]
        return [(view.max() - view.min()).item() for view in views]

    assert min(seen()) < 0.4  # a twelfth of the area is 0.28 of a side
    assert min(seen(scale=(0.9, 1.0))) > 0.7  # at 4:3 the larger side is full, the other three quarters
    middle = Classification(SIZE, classes=2).prepare(sample, Generator(), False)
    assert middle["category"] == 1
    assert middle["image"].shape == (3, *SIZE)


RECIPE = """
name = "supervised"
architecture = "swinv2_micro"
size = 64
[options]
depths = [1, 1, 2, 1]
[stages.supervised]
task = "classification"
data = "scenes:objects?num=8&size=72x64&frames=1"
validation = "scenes:objects?num=4&size=72x64&frames=1&seed=1"
steps = 2
batch = 4
lr = 1e-3
options = { classes = 37, label_smoothing = 0.1 }
"""


def test_a_recipe_trains_it_and_its_checkpoint_names_classes(tmp_path):
    (tmp_path / "supervised.toml").write_text(RECIPE)
    (path,) = run_recipe(tmp_path / "supervised.toml", tmp_path / "run", device="cpu")
    header, row = (tmp_path / "run/supervised/validation.csv").read_text().splitlines()
    assert header == "step,correct,cross_entropy"
    assert 3 < float(row.split(",")[2]) < 4.5  # log(37) is 3.6
    whole = load_trained(path)
    assert whole.task == Classification(SIZE, classes=37, label_smoothing=0.1)
    assert whole.task.predict(whole.backbone, whole.head, torch.rand(2, 3, *SIZE)).shape == (2, 37)
    assert len(OBJECTS) == 37
    with pytest.raises(RecipeError, match=r"expected the key 'classes', found nothing"):
        read_recipe(tmp_path / "supervised.toml", ["supervised.options={}"])


def test_what_cannot_be_is_said():
    sample = {"image": torch.rand(3, 70, 90), "category": torch.tensor(5)}
    with pytest.raises(DataError, match=r"a category from 0 to 3, found 5; set the stage's options\.classes"):
        Classification(SIZE, classes=4).prepare(sample, Generator(), True)
    with pytest.raises(RecipeError, match="expected `classes` of 2 or more, found 1"):
        Classification(SIZE, classes=1)
    with pytest.raises(RecipeError, match=r"expected `label_smoothing` in \[0, 1\), 0.1 for Swin, found 1\.0"):
        Classification(SIZE, classes=2, label_smoothing=1.0)
    with pytest.raises(RecipeError, match=r"expected `scale` = \[least, most\] in \(0, 1\], found \[0\.0, 1\.0\]"):
        Classification(SIZE, classes=2, scale=(0.0, 1.0))
