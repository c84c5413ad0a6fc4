"""Depth from measured depth: the loss by loops, sparse and dense, metres told apart from scale."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Generator

from cka_probe.errors import RecipeError
from cka_probe.lab.evaluation.depth import errors_with_constant_baseline
from cka_probe.lab.evaluation.evaluate import _depth_protocol
from cka_probe.lab.tasks.lidar import DIVISORS, Lidar
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import Backbone

SIZE = (64, 64)


class Still:
    """A backbone and a head whose sigmas are given."""

    def __init__(self, sigmas):
        self.sigmas = sigmas

    def pyramid(self, images):
        return images

    def __call__(self, pyramid):
        return self.sigmas


def draw(*shape, seed=0):
    return torch.rand(*shape, generator=Generator().manual_seed(seed))


def sigmas_of(n=1, strides=(1, 2, 4, 8)):
    return {s: draw(n, 1, 64 // s, 64 // s, seed=s).requires_grad_() for s in strides}


def sparse(seed=0, n=1, share=0.1):
    depth = 1 + 150 * draw(n, 1, *SIZE, seed=seed)
    return torch.where(draw(n, 1, *SIZE, seed=seed + 1) < share, depth, 0.0)


def laid_over(sigma, row, column, stride):
    """Return a coarse (h, w) map read bilinearly at a pixel of the image it is laid over."""
    height, width = sigma.shape
    y = min(max((row + 0.5) / stride - 0.5, 0.0), height - 1.0)
    x = min(max((column + 0.5) / stride - 0.5, 0.0), width - 1.0)
    top, left = min(int(y), height - 2), min(int(x), width - 2)
    b, a = y - top, x - left
    c = [[sigma[top + i, left + j].item() for j in (0, 1)] for i in (0, 1)]
    return (1 - b) * ((1 - a) * c[0][0] + a * c[0][1]) + b * ((1 - a) * c[1][0] + a * c[1][1])


@pytest.mark.parametrize("divide_by", ["valid", "image", "all"])
def test_the_loss_is_brute_force(divide_by):
    task = Lidar(SIZE, min_depth=0.5, max_depth=80.0, divide_by=divide_by)
    sigmas, truth = sigmas_of(), sparse()
    expected = 0.0
    for stride, sigma in sigmas.items():
        total = count = 0
        for row in range(64):
            for column in range(64):
                measured = truth[0, 0, row, column].item()
                if measured > 0:
                    share = laid_over(sigma[0, 0], row, column, stride)
                    depth = 1 / (1 / 80 + (1 / 0.5 - 1 / 80) * share)
                    total += abs(depth - min(measured, 80.0))
                    count += 1
        expected += total / (64 * 64 if divide_by == "all" else count) / stride
    still = Still(sigmas)
    loss, parts = task.loss(still, still, {"image": draw(1, 3, *SIZE), "depth": truth})
    assert loss.item() == pytest.approx(expected, rel=1e-4)
    assert 0 < parts["absolute"] < loss


def test_the_true_depth_loses_nothing_and_any_other_something():
    task = Lidar(SIZE, min_depth=0.5, max_depth=80.0)
    for value in (0.7, 5.0, 80.0):
        sigmas = {s: torch.full((1, 1, 64 // s, 64 // s), task.range.sigma(value)) for s in (1, 2, 4, 8)}
        truth = torch.where(draw(1, 1, *SIZE) < 0.5, value, 0.0)
        for factor, least in ((1.0, 0.0), (0.8, 0.1), (1.25, 0.1)):
            still = Still(sigmas)
            loss = task.loss(still, still, {"image": draw(1, 3, *SIZE), "depth": truth * factor})[0].item()
            if value * factor > 80:
                assert loss < 1e-3, "what is farther counts as the farthest"
            elif least:
                assert loss > least * value
            else:
                assert loss < 1e-3 * value


def test_only_measured_pixels_teach_and_none_measured_is_nothing_to_learn():
    task = Lidar(SIZE, scales=1)
    sigmas, truth = sigmas_of(strides=(1,)), sparse()
    still = Still(sigmas)
    task.loss(still, still, {"image": draw(1, 3, *SIZE), "depth": truth})[0].backward()
    assert ((sigmas[1].grad != 0) <= (truth > 0)).all()
    for divide_by in DIVISORS:
        sigmas = sigmas_of()
        still = Still(sigmas)
        empty = {"image": draw(1, 3, *SIZE), "depth": torch.zeros(1, 1, *SIZE)}
        loss, _ = Lidar(SIZE, divide_by=divide_by).loss(still, still, empty)
        loss.backward()
        assert loss.item() == 0
        assert all(sigma.grad.isfinite().all() and not sigma.grad.any() for sigma in sigmas.values())


def test_more_points_count_more_only_if_all_pixels_divide():
    sigmas, few, many = sigmas_of(), sparse(share=0.05), sparse(share=0.5)
    still = Still(sigmas)
    for divide_by, ratio in (("valid", 1.0), ("all", 10.0)):
        task = Lidar(SIZE, divide_by=divide_by)
        losses = [task.loss(still, still, {"image": draw(1, 3, *SIZE), "depth": d})[0].item() for d in (few, many)]
        assert losses[1] / losses[0] == pytest.approx(ratio, rel=0.15)


def test_images_count_alike_if_each_has_its_own_mean():
    sigmas = sigmas_of(n=2)
    still = Still(sigmas)
    depths = torch.cat([sparse(share=0.05), sparse(seed=7, share=0.5)])
    task = Lidar(SIZE, divide_by="image")
    both = task.loss(still, still, {"image": draw(2, 3, *SIZE), "depth": depths})[0].item()
    alone = [
        task.loss(one, one, {"image": draw(1, 3, *SIZE), "depth": depths[i : i + 1]})[0].item()
        for i in range(2)
        for one in [Still({stride: sigma[i : i + 1] for stride, sigma in sigmas.items()})]
    ]
    assert both == pytest.approx(sum(alone) / 2, rel=1e-4)


def test_deeplab_predicts_depth_with_one_channel_at_full_size():
    backbone = Backbone(ARCHITECTURES["resnet18"].build(size=64, output_stride=16), size=SIZE)
    task = Lidar(SIZE, network="deeplab", scales=1, min_depth=1.0)
    head = task.head(backbone)
    assert head.to_logits.out_channels == 1
    batch = {"image": draw(2, 3, *SIZE), "depth": sparse(n=2)}
    loss, parts = task.loss(backbone.train(), head.train(), batch)
    assert loss.item() == pytest.approx(parts["absolute"].item()), "one scale, of weight 1"
    depth = task.predict(backbone.eval(), head.eval(), batch["image"])
    assert depth.shape == (2, 1, *SIZE)
    assert 1.0 <= depth.min() <= depth.max() <= 100.0


def test_views_keep_every_measurement_where_it_was():
    sample = {"image": torch.zeros(3, 80, 100), "depth": torch.zeros(1, 80, 100)}
    sample["depth"][0, 30:34, 40:44] = 7.0
    sample["image"][:, 30:34, 40:44] = 1.0
    for seed in range(6):
        for crop in (False, True):
            view = Lidar(SIZE, crop=crop).prepare(sample, Generator().manual_seed(seed), True)
            assert set(view["depth"].unique().tolist()) <= {0.0, 7.0}
            if crop:
                assert torch.equal(view["depth"][0] > 0, view["image"][0] > 0.5), "native: pixel by pixel"


def test_scores_are_those_of_the_scaled_depth_and_of_the_metres():
    truth = 2 + 20 * draw(2, 1, 16, 16)
    scores = errors_with_constant_baseline(2 * truth, truth, metres=True)
    torch.testing.assert_close(scores["abs_rel"], torch.zeros(2).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(scores["abs_rel_metres"], torch.ones(2).double(), atol=1e-6, rtol=0)
    assert scores["delta1"].tolist() == [1, 1]
    assert scores["delta1_metres"].tolist() == [0, 0]
    for i in range(2):
        median = np.median(truth[i].numpy())
        errors = [abs(median - value) / value for value in truth[i].flatten().tolist()]
        assert scores["abs_rel_constant"][i].item() == pytest.approx(sum(errors) / 256, rel=1e-5)
        right = [max(median / value, value / median) < 1.25 for value in truth[i].flatten().tolist()]
        assert scores["delta1_constant"][i].item() == pytest.approx(sum(right) / 256)
    truth[0] = 0
    assert errors_with_constant_baseline(truth + 1, truth)["abs_rel"].isnan().tolist() == [True, False]


@pytest.mark.parametrize(
    ("task", "options", "scaling"),
    [
        ("monodepth", {}, "median"),
        ("monodepth", {"sources": "video"}, "median"),
        ("monodepth", {"sources": "stereo"}, "none"),
        ("monodepth", {"sources": "video_stereo"}, "none"),
        ("lidar", {}, "none"),
    ],
)
def test_who_knows_the_metre_is_scored_in_metres_and_sees_the_whole_image(task, options, scaling):
    found = _depth_protocol(SimpleNamespace(task=task, task_options=options), "kitti:DIR:test", {})
    assert (found.scaling, found.crops) == (scaling, 0)
    asked = _depth_protocol(SimpleNamespace(task=task, task_options=options), "kitti:DIR:test", {"scaling": "affine"})
    assert asked.scaling == "affine"


@pytest.mark.slow
def test_it_learns_a_handful_of_images():
    torch.manual_seed(0)
    backbone = Backbone(ARCHITECTURES["resnet18"].build(size=64), size=64)
    task = Lidar(SIZE, min_depth=0.5, max_depth=40.0, start=8.0)
    head = task.head(backbone)
    ramp = torch.linspace(0, 1, 64).expand(1, 64, 64)
    image = torch.stack([ramp.expand(3, 64, 64), 1 - ramp.expand(3, 64, 64)])
    batch = {"image": image, "depth": 4 + 12 * image[:, :1]}
    optimiser = torch.optim.Adam([*backbone.parameters(), *head.parameters()], lr=1e-3)
    losses = []
    for _ in range(25):
        loss, _ = task.loss(backbone.train(), head.train(), batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert math.isfinite(losses[-1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (64, 40)}, r"lidar: expected sides that are multiples of 32, at least 64, found 64 x 40"),
        ({"scales": 0}, "expected `scales` from 1 to 4, found 0"),
        ({"max_depth": 0.05}, "expected 0 < min_depth < max_depth, in metres, found 0.1 and 0.05"),
        ({"start": 0.05}, "expected `start` between 0.1 and 100.0, in metres.*found 0.05"),
        ({"divide_by": "pixels"}, "expected `divide_by` out of valid, image, all, found 'pixels'"),
        ({"color_jitter": -1.0}, r"expected `color_jitter` in \[0, 1\], found -1.0"),
        ({"jitter_probability": 2.0}, r"expected `jitter_probability` in \[0, 1\], found 2.0"),
        ({"network": "unet"}, "expected `network` out of skip, deeplab, found 'unet'"),
        ({"network": "deeplab"}, "expected one of the `scales` for network 'deeplab', found 4"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(RecipeError, match=message):
        Lidar(**{"size": SIZE} | options)
