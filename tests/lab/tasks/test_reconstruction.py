"""Frames explained by each other: the truth explains best, nothing is explained by nothing, and symmetries hold."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from cka_probe.images.datasets import open_dataset
from cka_probe.lab.geometry import flipped_K, flipped_pose, pose_matrix
from cka_probe.lab.losses import photometric_error
from cka_probe.lab.tasks.disparity import DisparityDecoder, PoseNet
from cka_probe.lab.tasks.reconstruction import VideoHead, VideoTask, error_maps, reconstruct, selected

SIZE = (64, 64)
PLAIN = VideoTask(SIZE, auto_mask=False, min_select=False, poses="known")
NO_BACKBONE = SimpleNamespace(pyramid=lambda images: None)


def said(depths, motion=None):
    """Return a head that says these depths (n, 1 + S, 1, h, w) and, to every pair, this motion (6,)."""
    pose = None if motion is None else lambda a, b: motion.expand(len(a), 6)
    return SimpleNamespace(depth=lambda pyramid: depths.flatten(0, 1), pose=pose)


def draw_batch(n=2, sources=2, height=12, width=14, seed=0):
    generator = torch.Generator().manual_seed(seed)
    small = torch.randn(n, sources, 6, generator=generator) * torch.tensor([0.2, 0.2, 0.2, 0.02, 0.02, 0.02])
    batch = {
        "image": torch.rand(n, 3, height, width, generator=generator),
        "sources": torch.rand(n, sources, 3, height, width, generator=generator),
        "K": torch.tensor([[12.0, 0, (width - 1) / 2], [0, 12, (height - 1) / 2], [0, 0, 1]]).expand(n, 3, 3),
        "source_T_target": pose_matrix(small.flatten(0, 1)).unflatten(0, (n, sources)),
    }
    return batch, 2 + torch.rand(n, 1 + sources, 1, height, width, generator=generator)


@pytest.fixture(scope="module")
def rooms():
    """Return a batch of rendered rooms and the true depth of all its frames."""
    videos = open_dataset("scenes:rooms?num=3&frames=3&size=96x72&sources=-1,1")
    frames = open_dataset("scenes:rooms?num=3&frames=3&size=96x72")
    samples = [videos.some(room, {"sources", "K", "source_T_target"}) for room in range(3)]
    depths = [
        torch.stack([frames.some(3 * room + place, {"depth"})["depth"] for place in (1, 0, 2)]) for room in range(3)
    ]
    return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}, torch.stack(depths)


@pytest.mark.parametrize("options", [PLAIN, VideoTask(SIZE, poses="known")], ids=["all pixels", "as published"])
def test_the_truth_is_where_the_photometric_loss_is_least(rooms, options):
    batch, depths = rooms

    def loss(depth_by=1.0, moved_by=1.0, turned_by=(0.0, 0.0, 0.0)):
        turn = pose_matrix(torch.tensor([[0.0, 0, 0, *turned_by]]))
        poses = batch["source_T_target"].clone()
        poses[..., :3, 3] *= moved_by
        return reconstruct(
            NO_BACKBONE, said(depths * depth_by), batch | {"source_T_target": turn @ poses}, options
        ).photometric.item()

    least = loss()
    wrong = [
        loss(**how)
        for how in (
            {"depth_by": 0.8},
            {"depth_by": 1.25},
            {"moved_by": 0.7},
            {"moved_by": 1.4},
            *({"turned_by": [sign * 0.01 * (axis == i) for i in range(3)]} for axis in range(2) for sign in (1, -1)),
        )
    ]
    assert min(wrong) > 1.05 * least
    still = reconstruct(
        NO_BACKBONE, said(depths, torch.zeros(6)), batch, VideoTask(SIZE, auto_mask=False, min_select=False)
    )
    assert least < 0.6 * still.photometric.item()


def test_true_depths_agree(rooms):
    batch, depths = rooms
    true = reconstruct(NO_BACKBONE, said(depths), batch, PLAIN)
    one_wrong = reconstruct(NO_BACKBONE, said(depths * torch.tensor([1.3, 1, 1]).view(3, 1, 1, 1)), batch, PLAIN)
    assert true.consistency < 0.02
    assert one_wrong.consistency > 5 * true.consistency
    assert one_wrong.agreement.mean() < true.agreement.mean()


def test_no_motion_between_equal_images_is_the_identity():
    batch, depths = draw_batch()
    batch["sources"] = batch["image"][:, None].expand_as(batch["sources"])
    depths = depths[:, :1].expand_as(depths)
    options = VideoTask(SIZE, auto_mask=False, min_select=False)
    found = reconstruct(NO_BACKBONE, said(depths, torch.zeros(6)), batch, options)
    assert found.photometric < 1e-5
    assert found.consistency < 1e-6
    torch.testing.assert_close(found.agreement, torch.ones_like(found.agreement))
    assert torch.equal(found.depth, depths[:, 0])
    maps = error_maps(NO_BACKBONE, said(depths, torch.zeros(6)), batch, options)
    assert maps.visible.all(), "no pixel of the border is lost"


def slow_map(a, b, depth_a, depth_b, K, b_T_a):
    """Return (I', z, D', visible) of one pair by loops; images (3, H, W), depths (H, W)."""
    _, height, width = a.shape
    image, z, other = torch.zeros_like(a), torch.zeros(height, width), torch.zeros(height, width)
    visible = torch.zeros(height, width, dtype=torch.bool)
    fx, fy, cx, cy = (K[i, j].item() for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    for v in range(height):
        for u in range(width):
            d = depth_a[v, u].item()
            point = torch.tensor([(u - cx) / fx * d, (v - cy) / fy * d, d, 1.0]).double()
            x, y, z[v, u] = (b_T_a.double() @ point)[:3].tolist()
            column, row = fx * x / z[v, u].item() + cx, fy * y / z[v, u].item() + cy
            visible[v, u] = z[v, u] > 0 and 0 <= column <= width - 1 and 0 <= row <= height - 1
            column, row = min(max(column, 0), width - 1), min(max(row, 0), height - 1)
            left, top = min(int(column), width - 2), min(int(row), height - 2)
            right, low = column - left, row - top
            for weight, y_, x_ in (
                ((1 - low) * (1 - right), top, left),
                ((1 - low) * right, top, left + 1),
                (low * (1 - right), top + 1, left),
                (low * right, top + 1, left + 1),
            ):
                image[:, v, u] += weight * b[:, y_, x_]
                other[v, u] += weight * depth_b[y_, x_]
    return image, z, other, visible


def test_losses_are_brute_force():
    batch, depths = draw_batch(n=1)
    found = reconstruct(NO_BACKBONE, said(depths), batch, VideoTask(SIZE, window=3, poses="known"))
    frames, poses = [batch["image"][0], *batch["sources"][0]], batch["source_T_target"][0]
    maps = []
    for a, b, b_T_a in ((0, 1, poses[0]), (0, 2, poses[1]), (1, 0, poses[0].inverse()), (2, 0, poses[1].inverse())):
        image, z, other, visible = slow_map(
            frames[a], frames[b], depths[0, a, 0], depths[0, b, 0], batch["K"][0], b_T_a
        )
        difference = (z - other).abs() / (z + other)
        error = photometric_error(frames[a][None], image[None], window=3)[0, 0] * (1 - difference)
        moved, left = ((frames[a] - c).abs().mean(0) for c in (image, frames[b]))
        maps.append((error, difference, visible, visible & (moved < left)))
    errors, differences, agreement = [], [], torch.ones(12, 14)
    for v in range(12):
        for u in range(14):
            valid = [m for m in maps if m[3][v, u]]
            if valid:
                best = min(valid, key=lambda m: m[0][v, u].item())
                errors.append(best[0][v, u].item())
                differences.append(best[1][v, u].item())
            agreement[v, u] = sum(1 - m[1][v, u].item() if m[2][v, u] else 1.0 for m in maps[:2]) / 2
    assert found.photometric.item() == pytest.approx(sum(errors) / len(errors), rel=1e-4)
    assert found.consistency.item() == pytest.approx(sum(differences) / len(differences), rel=1e-4)
    torch.testing.assert_close(found.agreement[0, 0], agreement, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("options", [PLAIN, VideoTask(SIZE, poses="known")], ids=["all pixels", "as published"])
def test_scale_order_and_mirrors_change_nothing(options):
    batch, depths = draw_batch()
    expected = reconstruct(NO_BACKBONE, said(depths), batch, options)
    larger = batch["source_T_target"].clone()
    larger[..., :3, 3] *= 5
    mirrored = {
        "image": batch["image"].flip(-1),
        "sources": batch["sources"].flip(-1),
        "K": flipped_K(batch["K"], 14),
        "source_T_target": flipped_pose(batch["source_T_target"]),
    }
    swapped = batch | {name: batch[name].flip(1) for name in ("sources", "source_T_target")}
    for other, said_depths in (
        (batch | {"source_T_target": larger}, 5 * depths),
        (swapped, depths[:, [0, 2, 1]]),
        (mirrored, depths.flip(-1)),
    ):
        found = reconstruct(NO_BACKBONE, said(said_depths), other, options)
        assert found.photometric.item() == pytest.approx(expected.photometric.item(), rel=1e-4)
        assert found.consistency.item() == pytest.approx(expected.consistency.item(), rel=1e-4)


def test_the_best_valid_map_is_chosen_where_there_is_one():
    batch, depths = draw_batch()
    maps = error_maps(NO_BACKBONE, said(depths), batch, VideoTask(SIZE, poses="known"))
    error, difference, valid = selected(maps)
    assert torch.equal(valid, maps.valid.any(1, keepdim=True))
    least = torch.where(maps.valid, maps.error, math.inf).amin(1, keepdim=True)
    assert torch.equal(error[valid], least[valid])
    assert ((maps.difference == difference) & (maps.error == error)).any(1, keepdim=True)[valid].all()


def test_the_motion_back_is_predicted_too_and_not_inverted():
    batch, depths = draw_batch()
    motion = torch.tensor([0.1, -0.2, 0.1, 0.01, 0.02, -0.03])
    known = batch | {"source_T_target": pose_matrix(motion[None]).expand(2, 2, 4, 4)}
    expected = error_maps(NO_BACKBONE, said(depths), known, PLAIN)
    maps = error_maps(NO_BACKBONE, said(depths, motion), batch, replace(PLAIN, poses="learned"))
    torch.testing.assert_close(maps.error[:, :2], expected.error[:, :2])
    assert not torch.allclose(maps.error[:, 2:], expected.error[:, 2:])


def test_pixels_of_a_source_that_were_never_seen_take_no_part():
    batch, depths = draw_batch()
    seen = torch.rand(2, 2, 1, 12, 14, generator=torch.Generator().manual_seed(1)) > 0.3
    changed = batch | {"sources": torch.where(seen, batch["sources"], 0.5)}
    options = VideoTask(SIZE, window=1, poses="known")
    first, second = (reconstruct(NO_BACKBONE, said(depths), b, options, seen) for b in (batch, changed))
    assert first.photometric.item() == pytest.approx(second.photometric.item(), rel=1e-5)
    assert first.photometric != reconstruct(NO_BACKBONE, said(depths), batch, options).photometric


class Small(nn.Module):
    """An encoder's stand-in with maps of two strides, small enough for the whole path."""

    def __init__(self):
        super().__init__()
        self.stem, self.rest = nn.Conv2d(3, 4, 4, stride=4), nn.Conv2d(4, 8, 8, stride=8)

    def pyramid(self, images):
        fine = self.stem(images)
        return fine, self.rest(fine)


@pytest.mark.parametrize("min_select", [True, False])
@pytest.mark.parametrize(
    "case", ["nothing seen", "identical", "constant", "black", "K far off", "K zero", "poses not known", "poses huge"]
)
def test_degenerate_input_has_finite_losses_and_gradients(case, min_select):
    torch.manual_seed(0)
    known = case.startswith("poses")
    batch, _ = draw_batch(height=64, width=64)
    backbone, head = Small(), VideoHead(DisparityDecoder([(4, 4), (8, 32)]), None if known else PoseNet())
    seen = torch.zeros(2, 2, 1, 64, 64, dtype=torch.bool) if case == "nothing seen" else None
    if case == "identical":
        batch["sources"] = batch["image"][:, None].repeat(1, 2, 1, 1, 1)
    for name in ("image", "sources") if case in ("constant", "black") else ():
        batch[name] = torch.full_like(batch[name], 0.0 if case == "black" else 0.45)
    factor = {"K far off": torch.tensor([1e-6, 1e6, 1.0]), "K zero": torch.tensor([1e-30, 1e-30, 1.0])}
    batch["K"] = batch["K"] * factor.get(case, torch.ones(3))[:, None]
    batch["source_T_target"] = batch["source_T_target"] * (math.nan if case == "poses not known" else 1e12)
    task = VideoTask(SIZE, min_select=min_select, poses="known" if known else "learned")
    found = reconstruct(backbone, head, batch, task, seen)
    (found.photometric + found.consistency).backward()
    gradients = [p.grad for module in (backbone, head) for p in module.parameters()]
    assert all(g is not None and g.isfinite().all() for g in gradients)
    assert found.agreement.isfinite().all()
    if case in ("nothing seen", "identical", "constant", "black", "poses not known"):
        assert found.photometric == found.consistency == 0
