"""Tasks: what they draw, hide, cut and lose; a contract over the table, then theorems of each."""

import math

import pytest
import torch
from torch import Generator

from cka_probe import registry
from cka_probe.errors import RecipeError
from cka_probe.lab.tasks import TASKS
from cka_probe.lab.tasks.depth import Depth
from cka_probe.lab.tasks.masked import Masked
from cka_probe.lab.training.sampling import collate
from cka_probe.lab.transforms import largest, random_area
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import Backbone

SIZE = (64, 64)

OPTIONS = {"masked": {"cell": 16}, "classification": {"classes": 4}, "segmentation": {"classes": 5}}
OPTIONS |= {"contrastive": {"queue": 16}, "scene_class": {"classes": 5}, "detection": {"classes": 4}}
"""What a task needs to be told; nothing for the others."""


def backbone_of(name):
    torch.manual_seed(0)
    options = {"depths": (1, 1, 2, 1)} if name.startswith("swin") else {}
    return Backbone(ARCHITECTURES[name].build(size=64, **options), size=64)


@pytest.fixture(scope="module", params=["swinv2_micro", "resnet18"])
def backbone(request):
    return backbone_of(request.param)


def draw_sample(seed=0, height=70, width=90):
    generator = Generator().manual_seed(seed)
    masks = torch.zeros(2, height, width, dtype=torch.bool)
    masks[0, 5:30, 8:40] = masks[1, 30:45, 20:60] = True
    return {
        "image": torch.rand(3, height, width, generator=generator),
        "depth": 1 + 4 * torch.rand(1, height, width, generator=generator),
        "pseudo_depth": 2 + 4 * torch.rand(1, height, width, generator=generator),
        "K": torch.tensor([[80.0, 0, (width - 1) / 2], [0, 80, (height - 1) / 2], [0, 0, 1]]),
        "sources": torch.rand(2, 3, height, width, generator=generator),
        "category": torch.tensor(seed % 4),
        "labels": torch.randint(5, (height, width), generator=generator),
        "boxes": torch.tensor([[8.0, 5, 40, 30], [20, 30, 60, 45]]),
        "box_classes": torch.tensor([seed % 4, 1]),
        "box_crowds": torch.tensor([False, False]),
        "box_masks": masks,
    }


def draw_batch(task, n=3, train=True):
    return collate([task.prepare(draw_sample(i), Generator().manual_seed(i), train) for i in range(n)])


def task_of(name):
    return registry.get(TASKS, name, "task")(SIZE, **OPTIONS.get(name, {}))


@pytest.mark.parametrize("name", TASKS)
def test_every_task_loses_learns_and_evaluates(name, backbone):
    task = task_of(name)
    head = task.head(backbone)
    batch = draw_batch(task)
    backbone.train(), head.train()
    loss, parts = task.loss(backbone, head, batch)
    loss.backward()
    assert loss.ndim == 0
    assert loss.isfinite()
    assert all(part.ndim == 0 and not part.requires_grad for part in parts.values())
    unused = [
        name
        for module in (backbone, head)
        for name, p in module.named_parameters()
        if p.requires_grad and p.grad is None
    ]
    assert not unused, "parameters without gradient would stop several processes"
    assert not any(module._forward_hooks for module in backbone.modules())
    backbone.eval(), head.eval()
    with torch.no_grad():
        values = task.evaluate(backbone, head, draw_batch(task, train=False))
    assert all(len(value) == 3 and value.isfinite().all() for value in values.values())


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (50, 120), (130, 66)])
def test_every_task_prepares_from_its_generator_alone(name, train, height, width):
    task, sample = task_of(name), draw_sample(0, height, width)
    before = {name: field.clone() for name, field in sample.items()}
    torch.manual_seed(1)
    first = task.prepare(sample, Generator().manual_seed(5), train)
    torch.manual_seed(2)
    second = task.prepare(sample, Generator().manual_seed(5), train)
    others = [task.prepare(sample, Generator().manual_seed(seed), train)["image"] for seed in range(6, 12)]
    assert first["image"].shape == (3, *SIZE)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert all(torch.equal(sample[key], before[key]) for key in sample)
    assert any(not torch.equal(first["image"], other) for other in others) == train
    assert 0 <= first["image"].min() <= first["image"].max() <= 1


@pytest.mark.parametrize("name", TASKS)
def test_every_task_reads_only_what_it_needs(name):
    task = task_of(name)
    sample = {field: value for field, value in draw_sample().items() if field in task.needs}
    task.prepare(sample, Generator(), True)


@pytest.mark.parametrize(("cell", "ratio"), [(8, 0.6), (16, 0.6), (32, 0.6), (32, 1.0), (16, 0.01)])
def test_masks_hide_the_share_they_say(cell, ratio):
    task = Masked(SIZE, cell=cell, ratio=ratio)
    mask = task.draw_mask(Generator().manual_seed(0))
    cells = (64 // cell) ** 2
    assert mask.shape == (1, 64 // cell, 64 // cell)
    assert mask.sum() == math.ceil(ratio * cells)
    assert task.pixels({"mask": mask[None]}).sum() == mask.sum() * cell**2


def test_hidden_pixels_do_not_reach_the_reconstruction(backbone):
    task = Masked(SIZE, cell=16)
    head = task.head(backbone)
    backbone.eval(), head.eval()
    batch = draw_batch(task)
    changed = torch.where(task.pixels(batch), torch.rand(3, 3, *SIZE), batch["image"])
    with torch.no_grad():
        first, second = (
            task.reconstruct(backbone, head, batch | {"image": image}) for image in (batch["image"], changed)
        )
        third = task.reconstruct(backbone, head, batch | {"image": batch["image"].flip(1)})
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_a_perfect_reconstruction_loses_nothing(backbone, monkeypatch):
    task = Masked(SIZE, cell=16)
    batch = draw_batch(task)
    monkeypatch.setattr(Masked, "reconstruct", lambda self, b, h, batch: b.preprocessing.normalise(batch["image"]))
    assert task.loss(backbone, task.head(backbone), batch)[0] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cell": 24}, r"expected `cell` to divide the size \(64, 64\), found 24"),
        ({"ratio": 0.0}, r"expected `ratio` in \(0, 1\], found 0.0"),
        ({"scale": (0.9, 0.5)}, r"expected `scale` = \[least, most\] in \(0, 1\], found \[0.9, 0.5\]"),
    ],
)
def test_masked_options_are_checked(options, message):
    with pytest.raises(RecipeError, match=message):
        Masked(SIZE, **options)


def test_depth_starts_at_half_of_the_greatest_depth(backbone):
    task = Depth(SIZE, max_depth=8.0)
    with torch.no_grad():
        depth = task.predict(backbone, task.head(backbone), torch.rand(2, 3, *SIZE))
    assert depth.shape == (2, 1, *SIZE)
    torch.testing.assert_close(depth, torch.full_like(depth, 4.0), atol=0.01, rtol=0)


def test_depth_and_image_stay_on_top_of_each_other():
    columns = torch.arange(1.0, 129.0).expand(1, 64, 128) / 128
    for seed in range(10):
        view = Depth(SIZE).prepare(
            {"image": columns.expand(3, 64, 128), "depth": columns}, Generator().manual_seed(seed), True
        )
        torch.testing.assert_close(view["image"][:1], view["depth"])


def test_depth_that_was_not_measured_stays_so():
    sample = draw_sample(0, 128, 256)
    sample["depth"][:, ::2] = 0
    depth = Depth(SIZE).prepare(sample, Generator().manual_seed(0), True)["depth"]
    assert set(depth.unique().tolist()) <= set(sample["depth"].unique().tolist())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_depth": 0.0}, "expected 0 < min_depth < max_depth, found 0.0 and 10.0"),
        ({"variance_focus": 2.0}, r"expected `variance_focus` in \[0, 1\], found 2.0"),
    ],
)
def test_depth_options_are_checked(options, message):
    with pytest.raises(RecipeError, match=message):
        Depth(SIZE, **options)


def test_an_encoder_without_feature_maps_is_refused():
    with pytest.raises(RecipeError, match="expected an encoder with feature maps"):
        Depth(SIZE).head(Backbone(torch.nn.Conv2d(3, 3, 1)))


def test_boxes_lie_inside_and_have_the_area_and_ratio_asked_for():
    generator = Generator().manual_seed(0)
    for _ in range(200):
        top, left, height, width = random_area(70, 90, generator, (0.67, 1.0))
        assert 0 <= top <= 70 - height
        assert 0 <= left <= 90 - width
        assert 0.63 < height * width / (70 * 90) <= 1
        assert 0.72 < width / height < 1.38
    assert largest(480, 640, (480, 480), 0.0, 1.0) == (0, 160, 480, 480)
    assert largest(640, 480, (192, 192), 0.5, 0.5) == (80, 0, 480, 480)
