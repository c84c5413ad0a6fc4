"""Monodepth2's objective against a slow reference by loops; poses, colours, units and heads as they are said to be."""

import math
from types import SimpleNamespace

import pytest
import torch
from helpers.monodepth_by_loops import slow_loss
from torch import Generator, nn

import cka_probe.lab.tasks.monodepth as monodepth
from cka_probe.errors import DataError, RecipeError
from cka_probe.lab.geometry import axis_angle_matrix, inverse_pose, pose_matrix, rotation_matrix
from cka_probe.lab.losses import minimum_error
from cka_probe.lab.tasks.disparity import DepthRange
from cka_probe.lab.tasks.monodepth import Monodepth
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import Backbone

SIZE = (64, 64)


def draw(*shape, seed=0):
    return torch.rand(*shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


def backbone_of(name="resnet18"):
    torch.manual_seed(0)
    options = {"depths": (1, 1, 2, 1)} if name.startswith("swin") else {}
    return Backbone(ARCHITECTURES[name].build(size=64, **options), size=64)


def sample_of(sources=2, seed=0, height=70, width=90):
    generator = Generator().manual_seed(seed)
    poses = torch.eye(4).repeat(sources, 1, 1)
    poses[:, 0, 3] = -0.54
    return {
        "image": torch.rand(3, height, width, generator=generator),
        "sources": torch.rand(sources, 3, height, width, generator=generator),
        "K": torch.tensor([[80.0, 0, (width - 1) / 2], [0, 80, (height - 1) / 2], [0, 0, 1]]),
        "source_T_target": poses,
        "depth": 1 + 9 * torch.rand(1, height, width, generator=generator),
    }


def batch_of(task, n=2, sources=2, train=True):
    views = [task.prepare(sample_of(sources, i), Generator().manual_seed(i), train) for i in range(n)]
    return {name: torch.stack([view[name] for view in views]) for name in views[0]}


@pytest.mark.parametrize("options", [{}, {"auto_mask": False, "smoothness": 0.5}, {"min_select": False}])
def test_the_loss_is_brute_force(options, monkeypatch):
    task = Monodepth(SIZE, sources="video", jitter=0.0, max_depth=5.0, min_depth=0.5, **options)
    object.__setattr__(task, "size", (8, 16))  # smaller than a network's, for the loops' sake
    sigmas = {stride: draw(1, 1, 8 // stride, 16 // stride, seed=stride) for stride in (1, 4)}
    image, sources = draw(1, 3, 8, 16), draw(1, 2, 3, 8, 16, seed=9)
    K = torch.tensor([[[12.0, 0, 7.5], [0, 12, 3.5], [0, 0, 1]]], dtype=torch.float64)
    shifts = (0.1, -0.2)
    poses = torch.eye(4, dtype=torch.float64).repeat(1, 2, 1, 1)
    poses[0, :, 0, 3] = torch.tensor(shifts)
    monkeypatch.setattr(Monodepth, "_poses", lambda self, head, shown, batch: poses)
    monkeypatch.setattr(monodepth, "NOISE", 0.0)
    backbone = SimpleNamespace(pyramid=lambda images: None)
    batch = {"image": image, "sources": sources, "K": K}
    loss, parts = task.loss(backbone, lambda pyramid: sigmas, batch)
    expected = slow_loss(task, {s: v[0, 0] for s, v in sigmas.items()}, image[0], sources[0], K[0], shifts)
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert loss.item() == pytest.approx((parts["photometric"] + parts["smoothness"]).item())
    assert (parts["left"] > 0) == task.auto_mask


def test_the_best_error_is_brute_force():
    moved, left = draw(2, 3, 4, 5), draw(2, 3, 4, 5, seed=1)
    for select, over in ((True, min), (False, lambda values: sum(values) / len(values))):
        for still in (left, None):
            error, stays = minimum_error(moved, still, select)
            for place in ((n, row, column) for n in range(2) for row in range(4) for column in range(5)):
                n, row, column = place
                best = over(moved[n, :, row, column].tolist())
                kept = over(still[n, :, row, column].tolist()) if still is not None else math.inf
                assert error[n, 0, row, column].item() == pytest.approx(min(best, kept))
                assert stays[n, 0, row, column].item() == (kept < best)


# ranges, poses


def test_sigma_says_the_depths_that_are_published():
    depth = DepthRange(0.1, 100.0).depth(torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64))
    torch.testing.assert_close(depth, torch.tensor([100.0, 0.1998, 0.1], dtype=torch.float64), atol=1e-5, rtol=1e-6)
    for value in (0.11, 0.2, 5.0, 99.0):
        span = DepthRange(0.1, 100.0)
        assert span.depth(torch.tensor(span.sigma(value))).item() == pytest.approx(value, rel=1e-3)


def test_an_axis_as_long_as_its_angle_is_that_rotation():
    turns = torch.cat([torch.randn(6, 3, generator=Generator().manual_seed(0)).double(), 1e-3 * torch.eye(3)])
    turns = turns.double().requires_grad_()
    x, y, z = turns.detach().unbind(1)
    zero = torch.zeros_like(x)
    across = torch.stack([torch.stack(row, 1) for row in ([zero, -z, y], [z, zero, -x], [-y, x, zero])], 1)
    torch.testing.assert_close(axis_angle_matrix(turns).detach(), torch.linalg.matrix_exp(across), atol=1e-12, rtol=0)
    small = 1e-4 * turns.detach()
    torch.testing.assert_close(axis_angle_matrix(small), rotation_matrix(small), atol=1e-7, rtol=0)
    torch.autograd.gradcheck(axis_angle_matrix, turns)
    still = torch.zeros(1, 3, requires_grad=True)
    matrix = axis_angle_matrix(still)
    assert torch.equal(matrix.detach()[0], torch.eye(3))
    matrix[0, 0, 1].backward()
    assert still.grad.tolist() == [[0, 0, -1]]


def test_a_pose_and_its_inverse_cancel():
    poses = pose_matrix(draw(5, 6), axis_angle_matrix)
    torch.testing.assert_close(inverse_pose(poses) @ poses, torch.eye(4, dtype=torch.float64).expand(5, 4, 4))
    torch.testing.assert_close(inverse_pose(poses), torch.linalg.inv(poses))


def test_frames_are_shown_to_the_pose_network_in_the_order_of_time():
    task = Monodepth(SIZE, sources="video_stereo", offsets=(-1, 1), jitter=0.0)
    shown = torch.stack([torch.full((1, 3, 64, 64), float(i)) for i in range(4)], 1)  # target, before, after, partner
    pairs = []

    def pose(first, second):
        pairs.extend(zip(first[:, 0, 0, 0].tolist(), second[:, 0, 0, 0].tolist(), strict=True))
        return torch.tensor([[1.0, 0, 0, 0, 0, 0], [0, 2.0, 0, 0.1, 0, 0]])

    known = torch.eye(4).repeat(1, 3, 1, 1)
    known[:, 2, 0, 3] = -0.54
    poses = task._poses(SimpleNamespace(pose=pose), shown, {"source_T_target": known})[0]
    assert pairs == [(1.0, 0.0), (0.0, 2.0)], "earlier, later"
    assert poses[0, :3, 3].tolist() == [-1, 0, 0], "before: from the target back, the other way"
    assert poses[1, :3, 3].tolist() == [0, 2, 0]
    assert poses[1, 2, 1].item() == pytest.approx(math.sin(0.1))
    assert poses[2, :3, 3].tolist() == pytest.approx([-0.1, 0, 0])
    assert torch.equal(poses[:, 3], torch.tensor([0.0, 0, 0, 1]).expand(3, 4))


# views, heads


@pytest.mark.parametrize(("sources", "fields"), [("video", set()), ("stereo", {"source_T_target"})])
def test_depth_and_poses_are_read_only_where_they_are_used(sources, fields):
    needs = Monodepth(SIZE, sources=sources).needs
    assert needs == {"image", "sources", "K"} | fields
    assert Monodepth(SIZE, sources=sources, truth=True).needs == needs | {"depth"}


def test_networks_see_other_colours_and_the_loss_does_not():
    sample = sample_of()
    sample["sources"] = sample["image"].repeat(2, 1, 1, 1)
    task, plain = Monodepth(SIZE, jitter=1.0, flip=False), Monodepth(SIZE, jitter=0.0, flip=False)
    view, clean = (t.prepare(sample, Generator().manual_seed(3), True) for t in (task, plain))
    assert "inputs" not in clean
    assert torch.equal(view["image"], clean["image"])
    assert torch.equal(view["sources"], clean["sources"])
    assert view["inputs"].shape == (3, 3, *SIZE)
    assert torch.equal(view["inputs"][0], view["inputs"][1]), "all frames alike"
    assert not torch.equal(view["inputs"][0], view["image"])
    assert "inputs" not in task.prepare(sample, Generator(), False)
    half = Monodepth(SIZE, flip=False)
    views = [half.prepare(sample, Generator().manual_seed(seed), True) for seed in range(40)]
    changed = sum(not torch.equal(view["inputs"][0], view["image"]) for view in views)
    assert 8 < changed < 32, "one time in two"


@pytest.mark.parametrize("sources", ["video", "stereo", "video_stereo"])
@pytest.mark.parametrize("name", ["resnet18", "swinv2_micro"])
def test_every_kind_learns_and_says_metres_where_it_can(sources, name):
    task = Monodepth(SIZE, sources=sources, truth=True)
    count = {"video": 2, "stereo": 1, "video_stereo": 3}[sources]
    backbone = backbone_of(name)
    head = task.head(backbone)
    assert (head.pose is None) == (sources == "stereo")
    assert {part.split(".")[0] for part, _ in head.named_parameters()} >= {"decoder", "to_disparity"}
    loss, _ = task.loss(backbone, head, batch_of(task, sources=count))
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for m in (backbone, head) for p in m.parameters())
    with torch.no_grad():
        backbone.eval(), head.eval()
        batch = batch_of(task, sources=count, train=False)
        depth = task.predict(backbone, head, batch["image"])
        sigma = head(backbone.pyramid(batch["image"]))[1]
        scores = task.evaluate(backbone, head, batch)
    torch.testing.assert_close(depth, task.range.depth(sigma) * (5.4 if sources != "video" else 1.0))
    assert ("abs_rel_metres" in scores) == (sources != "video")
    assert {"photometric", "left", "abs_rel", "delta1", "abs_rel_constant"} <= scores.keys()


def test_heads_begin_at_a_depth_and_have_as_many_scales_as_asked_for():
    backbone = backbone_of()
    for start in (0.0, 2.0):
        task = Monodepth(SIZE, start=start)
        with torch.no_grad():
            depth = task.predict(backbone, task.head(backbone), torch.rand(2, 3, *SIZE))
        assert 0.5 * (start or 0.2) < depth.min() < depth.max() < 2 * (start or 0.2)
    assert list(Monodepth(SIZE, scales=2).head(backbone).to_disparity) == ["1", "2"]


def test_nothing_to_see_is_nothing_to_learn_from_and_finite():
    task = Monodepth(SIZE, sources="stereo", jitter=0.0)
    backbone = nn.Module()
    backbone.pyramid = lambda images: None
    for value in (0.0, 0.5, 1.0):
        values = {s: torch.zeros(1, 1, 64 // s, 64 // s, requires_grad=True) for s in (1, 2, 4, 8)}
        images = torch.full((1, 1, 3, 64, 64), value)
        batch = {"image": images[:, 0], "sources": images, "K": torch.eye(3)[None]}
        batch["source_T_target"] = torch.eye(4)[None, None]
        loss, _ = task.loss(backbone, lambda pyramid, v=values: {s: z.sigmoid() for s, z in v.items()}, batch)
        loss.backward()
        assert abs(loss.item()) < 1e-4
        assert all(z.grad.isfinite().all() for z in values.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (48, 64)}, r"expected sides that are multiples of 32, at least 64, found 48 x 64"),
        ({"sources": "mono"}, "expected `sources` out of video, stereo, video_stereo, found mono"),
        ({"offsets": (0, 1)}, r"expected `offsets` other than 0, at least one, found \[0, 1\]"),
        ({"scales": 5}, "expected `scales` from 1 to 4, found 5"),
        ({"min_depth": 0.0}, "expected 0 < min_depth < max_depth.*found 0.0 and 100.0"),
        ({"start": 200.0}, "expected `start` between 0.1 and 100.0.*found 200.0"),
        ({"smoothness": -1.0}, "expected a weight `smoothness` of 0 or more, found -1.0"),
        ({"unit": 0.0}, "expected `unit` above 0 metres, found 0.0"),
        ({"jitter": 2.0}, r"expected `jitter`, a probability, in \[0, 1\], found 2.0"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(RecipeError, match=message):
        Monodepth(**{"size": SIZE} | options)


def test_other_sources_than_were_said_are_refused():
    with pytest.raises(
        DataError, match=r"expected 1 sources for sources='stereo', found 2; open the data with \?sources=s"
    ):
        Monodepth(SIZE, sources="stereo").prepare(sample_of(2), Generator(), True)
    sample = sample_of(3)
    sample["source_T_target"][-1] = torch.nan
    with pytest.raises(DataError, match=r"expected a known pose of the stereo partner.*\?sources=-1,1,s"):
        Monodepth(SIZE, sources="video_stereo").prepare(sample, Generator(), True)
