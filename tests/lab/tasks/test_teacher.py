"""The teacher: asked for shape alone, shown images whole, and better than nothing on rooms of another style."""

import csv

import numpy as np
import pytest
import torch
from torch import Generator

from cka_probe.errors import RecipeError
from cka_probe.images.datasets import open_dataset
from cka_probe.lab.pseudo_depth import write_pseudo_depth
from cka_probe.lab.scenes import Settings, make_scenes
from cka_probe.lab.tasks.teacher import FARTHEST, NEAREST, Teacher
from cka_probe.lab.training import run_recipe
from cka_probe.lab.training.recipe import recipe_of
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import Backbone

SIZE = (64, 64)


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    return Backbone(ARCHITECTURES["resnet18"].build(size=64), size=64).eval()


@pytest.fixture
def batch():
    generator = Generator().manual_seed(0)
    depth = 1 + 4 * torch.rand(3, 1, *SIZE, generator=generator)
    depth[:, :, :9] = 0  # not measured
    return {"image": torch.rand(3, 3, *SIZE, generator=generator), "depth": depth}


def saying(monkeypatch, depth):
    """Let every teacher say a depth."""
    monkeypatch.setattr(Teacher, "predict", lambda self, backbone, head, images: depth)


def test_scale_and_shift_are_not_asked_for(backbone, batch, monkeypatch):
    saying(monkeypatch, 3 * batch["depth"] + 7)
    assert Teacher(SIZE).loss(backbone, None, batch)[0] < 1e-4
    values = Teacher(SIZE).evaluate(backbone, None, batch)
    torch.testing.assert_close(values["abs_rel"], torch.zeros(3).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(values["delta1"], torch.ones(3).double())


def test_near_and_far_are(backbone, batch, monkeypatch):
    saying(monkeypatch, -batch["depth"])
    assert Teacher(SIZE).loss(backbone, None, batch)[0] > 1
    values = Teacher(SIZE).evaluate(backbone, None, batch)
    for name in ("abs_rel", "delta1"):
        torch.testing.assert_close(values[name], values[f"{name}_constant"])


def test_the_constant_is_the_mean_of_what_was_measured(backbone, batch, monkeypatch):
    batch["depth"][0] = torch.where(torch.arange(64) < 32, 1.0, 3.0)
    saying(monkeypatch, torch.rand(3, 1, *SIZE))
    values = Teacher(SIZE).evaluate(backbone, None, batch)
    assert values["abs_rel_constant"][0] == pytest.approx((1 / 1 + 1 / 3) / 2)  # said 2 m of 1 m and of 3 m
    assert values["delta1_constant"][0] == 0


def test_an_image_without_depth_has_no_errors_and_loses_nothing(backbone, batch):
    batch["depth"][:] = 0
    task = Teacher(SIZE)
    head = task.head(backbone)
    loss, _ = task.loss(backbone, head, batch)
    loss.backward()
    assert loss == 0
    with torch.no_grad():
        assert all(value.isnan().all() for value in task.evaluate(backbone, head, batch).values())


def test_depth_is_positive_and_farther_is_larger(backbone, batch):
    task = Teacher(SIZE)
    with torch.no_grad():
        depth = task.predict(backbone, task.head(backbone), batch["image"])
    assert depth.shape == (3, 1, *SIZE)
    assert NEAREST < depth.min() < depth.max() < FARTHEST


def test_evaluation_sees_the_image_whole():
    columns = torch.arange(128.0).expand(96, 128)
    sample = {"image": columns.expand(3, 96, 128) / 128, "depth": columns[None] + 1}
    seen = Teacher(SIZE).prepare(sample, Generator(), False)
    torch.testing.assert_close(seen["image"][0, 0], torch.arange(64.0) / 64 + 0.5 / 128, atol=2e-3, rtol=0)
    assert (seen["depth"][0, 0] - 2 * torch.arange(64.0)).sub(1.5).abs().max() <= 0.5


def test_training_sees_parts_with_depth_in_its_place():
    columns = torch.arange(1.0, 129.0).expand(1, 96, 128) / 128
    spans = []
    for seed in range(20):
        sample = {"image": columns.expand(3, 96, 128), "depth": columns}
        view = Teacher(SIZE, colours=0.0).prepare(sample, Generator().manual_seed(seed), True)
        torch.testing.assert_close(view["image"][:1], view["depth"], atol=0.012, rtol=0)
        spans.append(float(view["depth"].amax() - view["depth"].amin()))
    assert min(spans) < 0.7 < 0.85 < max(spans)
    color_jittered = Teacher(SIZE, colours=1.0).prepare(sample, Generator().manual_seed(19), True)
    assert torch.equal(color_jittered["depth"], view["depth"])
    assert not torch.equal(color_jittered["image"], view["image"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (48, 64)}, "sides that are multiples of 32, at least 64, found 48 x 64"),
        ({"alignment": "mean"}, "`alignment` out of median, least_squares, found mean"),
        ({"trim": 1.0}, r"`trim` in \[0, 1\), found 1.0"),
        ({"gradient_matching": -1.0}, "a weight `gradient_matching` of 0 or more, found -1.0"),
        ({"scales": 0}, "at least one of `scales`, found 0"),
        ({"scale": (0.9, 0.4)}, r"`scale` = \[least, most\] in \(0, 1\], found \[0.9, 0.4\]"),
        ({"colours": 2.0}, r"`colours` in \[0, 1\], found 2.0"),
        ({"max_depth": 0.0}, "`min_depth` above 0 and below `max_depth`, found 0.001"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(RecipeError, match=f"teacher: expected {message}"):
        Teacher(**{"size": SIZE} | options)


def test_an_encoder_without_the_maps_is_refused():
    with pytest.raises(RecipeError, match="expected an encoder with feature maps"):
        Teacher(SIZE).head(Backbone(torch.nn.Conv2d(3, 3, 1)))


RECIPE = {
    "name": "teacher",
    "architecture": "resnet18",
    "size": 64,
    "stages": {
        "teacher": {
            "task": "teacher",
            "data": "scenes:rooms?num=40&frames=1&size=96x72&seed=11&style=evening",
            "validation": "scenes:rooms?num=12&frames=1&size=96x72&seed=2",
            "steps": 50,
            "batch": 4,
            "lr": 1e-3,
            "cache": True,
        }
    },
}
"""A quarter of a minute on one core: abs_rel is about 0.18, that of the mean depth of each image 0.29."""


@pytest.mark.slow
def test_it_has_something_to_say_of_rooms_of_another_style(tmp_path):
    """Trained on evenings, asked about days; then what it writes is held against the truth."""
    (checkpoint,) = run_recipe(recipe_of(RECIPE), tmp_path / "run", device="cpu")
    with (tmp_path / "run" / "teacher" / "validation.csv").open() as file:
        (values,) = csv.DictReader(file)
    assert float(values["abs_rel"]) < 0.8 * float(values["abs_rel_constant"])
    assert float(values["delta1"]) > 1.2 * float(values["delta1_constant"])
    rooms = Settings("rooms", 8, 1, (72, 96), 3, test=0.0, layout="sc_depth")
    root = make_scenes(tmp_path / "rooms", rooms)
    write_pseudo_depth(checkpoint, f"scdepth:{root}", overwrite=True, device="cpu")
    frames = open_dataset(f"scdepth:{root}")
    found = [frames.some(index, {"depth", "pseudo_depth"}) for index in range(len(frames))]
    alike = [np.corrcoef(sample["depth"].flatten(), sample["pseudo_depth"].flatten())[0, 1] for sample in found]
    assert np.mean(alike) > 0.55
    assert np.mean(np.array(alike) > 0) == 1
