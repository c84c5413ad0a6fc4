"""Geometric pre-training: poses and depth as they are said to be, views that keep the geometry, and learning."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Generator

from cka_probe.errors import CheckpointError, RecipeError
from cka_probe.images.datasets import open_dataset
from cka_probe.lab.evaluation.depth import depth_errors, valid_depth
from cka_probe.lab.geometry import pose_matrix, rotation_matrix, warp
from cka_probe.lab.tasks.disparity import DisparityDecoder, PoseNet
from cka_probe.lab.tasks.geometric import Geometric, rotated
from cka_probe.lab.tasks.pseudo_depth import PseudoDepth
from cka_probe.lab.training.start import fill
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import Backbone
from cka_probe.models.load import load

SIZE = (64, 64)


def backbone_of(name="swinv2_micro", size=64):
    torch.manual_seed(0)
    options = {"depths": (1, 1, 2, 1)} if name.startswith("swin") else {}
    return Backbone(ARCHITECTURES[name].build(size=size, **options), size=size)


@pytest.fixture(scope="module")
def videos():
    return open_dataset("scenes:rooms?num=6&frames=3&size=128x96&sources=-1,1")


def batch_of(task, samples, train=False):
    views = [task.prepare(sample, Generator().manual_seed(i), train) for i, sample in enumerate(samples)]
    return {name: torch.stack([view[name] for view in views]) for name in views[0]}


def about(axis, angle):
    """Return the rotation by an angle about an axis, (3, 3)."""
    i, j = [k for k in range(3) if k != axis]
    matrix = torch.eye(3, dtype=torch.float64)
    matrix[i, i] = matrix[j, j] = math.cos(angle)
    sign = -1 if axis == 1 else 1
    matrix[i, j], matrix[j, i] = -sign * math.sin(angle), sign * math.sin(angle)
    return matrix


def test_pose_and_rectify_network_begin_with_a_network_of_single_images(tmp_path):
    single = load("random:resnet18:3").model
    torch.save(single.state_dict(), tmp_path / "resnet18.pth")
    task = Geometric(SIZE, rectify=True, pose_weights=str(tmp_path / "resnet18.pth"))
    head, state = task.head(backbone_of()), task.published()
    fill(head, state, tuple(state))
    image = torch.rand(1, 3, 64, 64)
    for network in (head.pose, head.rectify):
        pair = network.trunk.eval().forward_features(torch.cat([image, image], 1))
        torch.testing.assert_close(pair, single.eval().forward_features(image), rtol=1e-4, atol=1e-5)
    assert {name.split(".")[0] for name in state} == {"pose", "rectify"}
    assert {name.split(".")[0] for name in PseudoDepth(SIZE, pose_weights="random:resnet18").published()} == {"pose"}
    assert Geometric(SIZE, poses="known", pose_weights="random:resnet18").published() == {}
    assert Geometric(SIZE).published() == {}


def test_pose_weights_of_another_network_are_refused():
    with pytest.raises(CheckpointError, match="pose_weights: expected a ResNet-18 of 3 channels, found other weights"):
        Geometric(SIZE, pose_weights="random:resnet50").published()
    with pytest.raises(CheckpointError, match="nothing"):
        Geometric(SIZE, pose_weights="nothing.pth").published()


def test_rotations_are_rx_ry_rz():
    angles = torch.randn(5, 3, generator=Generator().manual_seed(0), dtype=torch.float64)
    for one, matrix in zip(angles, rotation_matrix(angles), strict=True):
        expected = about(0, one[0].item()) @ about(1, one[1].item()) @ about(2, one[2].item())
        torch.testing.assert_close(matrix, expected)
        torch.testing.assert_close(matrix @ matrix.mT, torch.eye(3, dtype=torch.float64))


def test_six_numbers_are_translation_then_rotation():
    motion = torch.tensor([[1.0, 2.0, 3.0, 0.0, 0.0, math.pi / 2], [0.0] * 6])
    poses = pose_matrix(motion)
    torch.testing.assert_close(poses[1], torch.eye(4))
    moved = poses[0] @ torch.tensor([1.0, 0.0, 0.0, 1.0])
    torch.testing.assert_close(moved, torch.tensor([1.0, 3.0, 3.0, 1.0]), atol=1e-6, rtol=0)


def test_a_turned_camera_sees_what_it_would_see():
    image = torch.rand(1, 3, 24, 32, generator=Generator().manual_seed(0))
    K = torch.tensor([[[30.0, 0, 15.5], [0, 30, 11.5], [0, 0, 1]]])
    same, seen = rotated(image, torch.zeros(1, 3), K)
    torch.testing.assert_close(same, image, atol=1e-4, rtol=0)
    assert seen.all()
    # turned about the optical axis by a quarter: columns become rows, about the middle
    turned, seen = rotated(image, torch.tensor([[0.0, 0.0, math.pi / 2]]), K)
    middle = image[..., 4:28]  # 24 x 24
    torch.testing.assert_close(turned[..., 4:28], middle.rot90(1, (2, 3)), atol=1e-3, rtol=0)
    assert not seen[..., :3].any()


def test_motion_is_small_at_first_and_knows_its_order():
    torch.manual_seed(0)
    network = PoseNet().eval()
    target, source = torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        there, back = network(target, source), network(source, target)
    assert there.shape == (2, 6)
    assert there.abs().max() < 0.02
    assert not torch.equal(there, back)


@pytest.mark.parametrize("maps", [[(4, 4), (8, 8), (6, 16), (10, 32)], [(3, 2), (4, 4), (8, 8), (6, 16), (10, 32)]])
def test_the_decoder_reads_every_map_and_keeps_to_its_range(maps):
    torch.manual_seed(0)
    decoder = DisparityDecoder(maps, 0.5, 20.0, start=2.0)
    pyramid = [torch.randn(2, channels, 64 // stride, 96 // stride, requires_grad=True) for channels, stride in maps]
    depth = decoder(pyramid)
    assert depth.shape == (2, 1, 64, 96)
    depth.sum().backward()
    assert all(level.grad.abs().sum() > 0 for level in pyramid)
    with torch.no_grad():
        for factor in (-1e4, 1e4):
            torch.nn.init.constant_(decoder.to_disparity.bias, factor)
            assert decoder(pyramid).min() >= 0.5 * (1 - 1e-5)
            assert decoder(pyramid).max() <= 20 * (1 + 1e-5)


def test_depth_and_motion_start_in_the_same_order():
    backbone = backbone_of()
    for nearest in (0.02, 0.1):
        task = Geometric(SIZE, min_depth=nearest)
        with torch.no_grad():
            depth = task.predict(backbone, task.head(backbone), torch.rand(2, 3, *SIZE))
        assert depth.shape == (2, 1, *SIZE)
        assert 0.1 < depth.min() < depth.max() < 0.4


@pytest.mark.parametrize("train", [False, True])
def test_views_keep_the_geometry(videos, train):
    task = Geometric(SIZE, poses="known", truth=True, crop=1.3)
    for seed in range(4):
        view = task.prepare(videos[seed], Generator().manual_seed(seed), train)
        batch = {name: field[None] for name, field in view.items()}
        image, _, visible = warp(batch["sources"][:, 1], batch["depth"], batch["K"], batch["source_T_target"][:, 1])
        moved, left = (
            ((batch["image"] - other).abs().mean(1, keepdim=True) * visible).sum() / visible.sum()
            for other in (image, batch["sources"][:, 1])
        )
        assert visible.float().mean() > 0.5
        assert moved < 0.6 * left


@pytest.mark.slow
def test_video_without_depth_trains_and_scores_and_depth_is_read_only_to_score(videos):
    backbone = backbone_of()
    for truth in (False, True):
        task = Geometric(SIZE, truth=truth)
        assert ("depth" in task.needs) == truth
        head = task.head(backbone)
        sample = {name: videos[0][name] for name in task.needs}
        batch = batch_of(task, [sample], train=True)
        loss, parts = task.loss(backbone, head, batch)
        assert set(parts) == {"photometric", "consistency", "smoothness"}
        assert loss.item() == pytest.approx(
            (parts["photometric"] + 0.1 * parts["consistency"] + 0.1 * parts["smoothness"]).item()
        )
        with torch.no_grad():
            scores = task.evaluate(backbone.eval(), head.eval(), batch)
        assert ("abs_rel" in scores) == truth


def test_a_constant_depth_has_the_error_of_a_constant_depth_and_scale_is_free(videos, monkeypatch):
    task = Geometric(SIZE, truth=True)
    backbone = backbone_of().eval()
    head = task.head(backbone).eval()
    batch = batch_of(task, [videos[0], videos[1]])
    truth = batch["depth"]
    valid = valid_depth(truth, task.min_depth, task.max_depth)
    median = torch.stack([t[v].quantile(0.5) for t, v in zip(truth, valid, strict=True)]).view(-1, 1, 1, 1)
    expected = depth_errors(median.expand_as(truth), truth, valid)["abs_rel"]
    for said, error in ((lambda t: 0.2 * torch.ones_like(t), expected), (lambda t: 0.07 * t, torch.zeros(2))):
        depths = torch.cat([said(truth), torch.ones(4, 1, *SIZE)])
        shown = torch.cat([truth[:, None], torch.ones(2, 2, 1, *SIZE)], 1)  # frames of one image together
        shown[:, 0] = depths[:2]
        monkeypatch.setattr(head.depth, "forward", lambda pyramid, shown=shown: shown.flatten(0, 1))
        with torch.no_grad():
            scores = task.evaluate(backbone, head, batch)
        torch.testing.assert_close(scores["abs_rel"], error.double(), atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(scores["abs_rel_constant"], expected)


def test_a_rectified_source_differs_by_translation_alone(videos, monkeypatch):
    task = Geometric(SIZE, rectify=True)
    backbone = backbone_of()
    head = task.head(backbone)
    batch = batch_of(task, [videos[0], videos[1]])
    angles = torch.tensor([[0.03, -0.04, 0.05]])
    turned = [rotated(batch["image"], angles.expand(2, 3), batch["K"])[0]] * 2
    batch["sources"] = torch.stack(turned, 1)
    # what turns the source back: the inverse rotation, read off to first order and then exactly
    inverse = rotation_matrix(angles).mT
    ry = inverse[:, 0, 2].asin()
    back = torch.stack(
        [torch.atan2(-inverse[:, 1, 2], inverse[:, 2, 2]), ry, torch.atan2(-inverse[:, 0, 1], inverse[:, 0, 0])], 1
    )
    monkeypatch.setattr(head.rectify, "forward", lambda target, source: back.expand(len(target), 3))
    rectified, seen, costs = task._rectified(head, batch)
    error = ((rectified["sources"] - batch["image"][:, None]).abs() * seen).sum() / (3 * seen.sum())
    before = (batch["sources"] - batch["image"][:, None]).abs().mean()
    assert 0 < seen.float().mean() < 1
    assert error < 0.35 * before
    assert costs["less_rotation"].item() == pytest.approx(0.05)


@pytest.mark.slow
def test_all_of_rectification_is_taught(videos):
    task = Geometric(SIZE, rectify=True)
    backbone = backbone_of()
    head = task.head(backbone)
    loss, parts = task.loss(backbone, head, batch_of(task, [videos[0], videos[1]], train=True))
    loss.backward()
    assert {"less_rotation", "recognised"} < set(parts)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())
    assert any(p.grad.any() for p in head.rectify.parameters())


@pytest.mark.slow
def test_masks_and_selection_are_options_that_matter(videos):
    task = Geometric(SIZE)
    backbone = backbone_of().eval()
    head = task.head(backbone).eval()
    batch = batch_of(task, [videos[0], videos[1]])
    with torch.no_grad():
        losses = [
            replace(task, **options).loss(backbone, head, batch)[1]["photometric"].item()
            for options in ({}, {"auto_mask": False}, {"min_select": False}, {"window": 3}, {"least_valid": 0.999})
        ]
    assert len(set(losses)) == 5
    assert losses[0] < losses[2], "the best map is better than all of them"
    assert losses[4] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (48, 64)}, "expected sides that are multiples of 32, at least 64, found 48 x 64"),
        ({"window": 4}, "expected an odd `window`, found 4"),
        ({"consistency": -1.0}, "expected weights of 0 or more"),
        ({"least_valid": 1.0}, r"expected `least_valid` in \[0, 1\), found 1.0"),
        ({"min_depth": 0.0}, "expected `min_depth` above 0, found 0.0"),
        ({"max_depth": 0.1}, "expected `max_depth` above 0.1, found 0.1"),
        ({"start": 0.1}, "expected `start` between the two depths, found 0.1"),
        ({"crop": 0.9}, "expected `crop` of at least 1, found 0.9"),
        ({"poses": "true"}, "expected `poses` learned or known, found true"),
        ({"poses": "known", "rectify": True}, "expected learned poses with `rectify`, found known"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(RecipeError, match=message):
        Geometric(**{"size": SIZE} | options)
