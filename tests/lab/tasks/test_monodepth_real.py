"""Monodepth on a real drive in stereo: with a guess of depth, true poses explain it and turned ones do not."""

import pytest
import torch
from helpers.paths import REAL as DATA
from torch import Generator

from cka_probe.images.datasets import open_dataset
from cka_probe.lab.geometry import inverse_pose
from cka_probe.lab.tasks.monodepth import Monodepth
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import Backbone

REAL = DATA / "kitti_stereo_a"
pytestmark = pytest.mark.skipif(
    not REAL.is_dir(), reason="the real recording (../shared/data/kitti_stereo_a) is not here"
)

SIZE = (96, 320)
HEIGHT = 1.65  # metres of KITTI's cameras above the road


class Posed(Monodepth):
    """The task, whose views bring along all poses."""

    needs = frozenset({"image", "sources", "K", "source_T_target"})


@pytest.fixture(scope="module")
def samples():
    data = open_dataset(f"video:{REAL}?sources=-1,1,s")
    return [data[index] for index in (5, 20, 35)]


def guessed(batch):
    """Return the depth of a road before a wall 25 m away, (n, 1, h, w)."""
    rows = torch.arange(SIZE[0]).view(1, 1, -1, 1).expand(len(batch["K"]), 1, *SIZE)
    fy, cy = (batch["K"][:, 1, column].view(-1, 1, 1, 1) for column in (1, 2))
    return torch.where(rows > cy + 1, HEIGHT * fy / (rows - cy).clamp(min=1), 25.0).clamp(max=25.0)


@pytest.mark.parametrize("flip", [False, True])
def test_true_poses_explain_a_real_drive_better_than_none_and_than_turned_ones(samples, flip):
    task = Posed(SIZE, sources="video_stereo", jitter=0.0, unit=1.0)
    seeds = [seed for seed in range(20) if _mirrors(task, samples[0], seed) == flip][:3]
    views = [
        task.prepare(sample, Generator().manual_seed(seed), True) for sample, seed in zip(samples, seeds, strict=True)
    ]
    batch = {name: torch.stack([view[name] for view in views]) for name in views[0]}
    depth, poses = guessed(batch), batch["source_T_target"]
    road = torch.arange(SIZE[0]) > 64  # where the guess is good

    def errors(source_T_target):
        return task.explained(batch, depth, source_T_target)[:, :, road].mean((0, 2, 3))

    best, turned, left = errors(poses), errors(inverse_pose(poses)), task.unmoved(batch)[:, :, road].mean((0, 2, 3))
    assert (best < 0.8 * turned).all()
    assert (best < 0.9 * left).all()


def _mirrors(task, sample, seed):
    view = task.prepare(sample, Generator().manual_seed(seed), True)
    return view["source_T_target"][-1, 0, 3].item() > 0


@pytest.mark.parametrize(("sources", "spec"), [("video", "-1,1"), ("stereo", "s"), ("video_stereo", "-1,1,s")])
def test_a_real_drive_gives_every_kind_a_loss_to_descend(sources, spec):
    torch.manual_seed(0)
    size = (64, 192)
    data = open_dataset(f"video:{REAL}?sources={spec}")
    task = Monodepth(size, sources=sources)
    backbone = Backbone(ARCHITECTURES["resnet18"].build(size=192), size=size)
    head = task.head(backbone)
    view = task.prepare({name: data[10][name] for name in task.needs}, Generator().manual_seed(0), True)
    loss, parts = task.loss(backbone, head, {name: field[None] for name, field in view.items()})
    loss.backward()
    assert 0.01 < loss.item() < 1
    assert 0 < parts["left"] < 1
    assert all(p.grad.isfinite().all() for module in (backbone, head) for p in module.parameters())
