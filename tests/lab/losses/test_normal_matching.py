"""Normal matching: against loops, by hand, what it is blind to, and what it finds on rooms."""

import math

import pytest
import torch
from helpers.rooms import perturbed, room_maps
from torch import Generator

from cka_probe.lab.geometry import normals_from_depth
from cka_probe.lab.losses import normal_matching

K = torch.tensor([[20.0, 0, 4.5], [0, 22, 4.1], [0, 0, 1]])


def drawn(*shape, low=1.0, high=5.0, seed=0):
    return low + (high - low) * torch.rand(*shape, generator=Generator().manual_seed(seed))


def plane(normal, distance=3.0, size=(9, 10), camera=K):
    """Depth (1, 1, H, W) of the points with normal . p = distance."""
    v, u = torch.meshgrid(*(torch.arange(float(side)) for side in size), indexing="ij")
    rays = torch.stack([(u - camera[0, 2]) / camera[0, 0], (v - camera[1, 2]) / camera[1, 1], torch.ones(size)])
    return (distance / (rays * torch.tensor(normal).view(3, 1, 1)).sum(0))[None, None]


def loss_of(depth, pseudo_depth, camera=K):
    return normal_matching(normals_from_depth(depth, camera), normals_from_depth(pseudo_depth, camera))


def test_it_is_loops_over_pixels():
    first, second = (normals_from_depth(drawn(2, 1, 6, 7, seed=seed), K) for seed in (0, 1))
    first[0, :, 2, 3] = 0  # not known
    second[1, :, 0, 0] = 0
    total, count = 0.0, 0
    for i in range(2):
        for y in range(6):
            for x in range(7):
                n, m = first[i, :, y, x].tolist(), second[i, :, y, x].tolist()
                if any(n) and any(m):
                    total, count = total + sum(abs(a - b) for a, b in zip(n, m, strict=True)) / 3, count + 1
    assert count == 2 * 6 * 7 - 2
    assert normal_matching(first, second).item() == pytest.approx(total / count, rel=1e-5)


def test_two_planes_by_hand():
    # a wall seen from straight ahead, and one turned by 30 degrees: |n - n*| = (sin 30, 0, 1 - cos 30)
    ahead, turned = plane((0.0, 0.0, 1.0)), plane((0.5, 0.0, math.sqrt(0.75)))
    inner = [normals_from_depth(depth, K)[..., 1:-1, 1:-1] for depth in (ahead, turned)]
    assert normal_matching(*inner).item() == pytest.approx((0.5 + 1 - math.sqrt(0.75)) / 3, rel=1e-4)


def test_the_same_depth_loses_nothing_in_any_scale_but_not_with_any_shift():
    depth = drawn(2, 1, 9, 10)
    assert loss_of(depth, depth) == 0
    for scale in (0.01, 0.5, 30.0):
        assert loss_of(scale * depth, depth).item() == pytest.approx(0, abs=1e-6)
        assert loss_of(depth, scale * depth).item() == pytest.approx(0, abs=1e-6)
    assert loss_of(plane((0.3, 0.0, 0.9)), plane((0.3, 0.0, 0.9)) + 1) > 0.02


def test_holes_of_the_pseudo_depth_do_not_count():
    depth, pseudo = drawn(1, 1, 9, 10), drawn(1, 1, 9, 10, seed=1)
    pseudo[..., 4, 5] = 0
    depth.requires_grad_()
    pseudo_normals = normals_from_depth(pseudo, K)
    normal_matching(normals_from_depth(depth, K), pseudo_normals).backward()
    # nine normals are gone; they are those that a pixel at their middle is part of, and no others
    assert (pseudo_normals == 0).all(1).sum() == 9
    assert depth.grad[..., 4, 5] == 0
    assert depth.grad[..., 4, 7] != 0


@pytest.mark.parametrize("size", [(8, 8), (2, 2)])
@pytest.mark.parametrize(
    ("depth", "pseudo"),
    [("drawn", "zeros"), ("constant", "constant"), ("far", "drawn"), ("drawn", "constant"), ("drawn", "holes")],
)
def test_degenerate_input_gives_finite_loss_and_gradients(size, depth, pseudo):
    made = {
        "drawn": drawn(2, 1, *size),
        "zeros": torch.zeros(2, 1, *size),
        "constant": torch.full((2, 1, *size), 2.0),
        "far": drawn(2, 1, *size, low=0.1, high=100.0),
        "holes": drawn(2, 1, *size) * (drawn(2, 1, *size, seed=3) > 3),
    }
    predicted = made[depth].clone().requires_grad_()
    loss = loss_of(predicted, made[pseudo])
    loss.backward()
    assert loss.isfinite()
    assert predicted.grad.isfinite().all()
    if pseudo == "zeros":
        assert loss == 0


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (0.7, 0.15), (2.0, 1.0), (0.5, -0.3)])
def test_true_depth_of_rooms_loses_least(scale, shift):
    batch = room_maps()
    depth = batch["depth"]
    pseudo = scale * depth + shift
    truth = loss_of(depth, pseudo, batch["K"])
    for name, wrong in perturbed(depth).items():
        assert loss_of(wrong, pseudo, batch["K"]) > 1.2 * truth, name


def test_true_depth_of_rooms_loses_least_beside_pseudo_depth_that_begins_at_the_camera():
    # LeReS's files hold d - min d + 0.01: the largest shift there is, and the truth no longer loses little
    batch = room_maps()
    depth = batch["depth"]
    pseudo = depth - depth.amin((2, 3), keepdim=True) + 0.01
    truth = loss_of(depth, pseudo, batch["K"])
    assert truth > 0.05
    for name, wrong in perturbed(depth).items():
        assert loss_of(wrong, pseudo, batch["K"]) > 1.2 * truth, name


def test_where_the_truth_does_not_lose_least():
    # the shift of a pseudo-depth bends the scene: the prediction that follows the bend, d + shift / scale, wins
    batch = room_maps()
    depth = batch["depth"]
    pseudo = 2 * depth + 1
    assert loss_of(depth + 0.5, pseudo, batch["K"]) < 1e-5 < loss_of(depth, pseudo, batch["K"])


def test_descending_it_alone_turns_a_flat_map_towards_the_scene():
    batch = room_maps()
    depth = batch["depth"][:2, :, ::2, ::2]
    camera = batch["K"][:2] * torch.tensor([[0.5], [0.5], [1.0]])
    normals = normals_from_depth(depth, camera)
    logarithm = torch.zeros_like(depth).requires_grad_()
    optimiser = torch.optim.Adam([logarithm], 0.02)
    cosines = []
    for _ in range(200):
        predicted = normals_from_depth(logarithm.exp(), camera)
        cosines.append((predicted * normals).sum(1).mean().item())
        optimiser.zero_grad()
        normal_matching(predicted, normals).backward()
        optimiser.step()
    assert cosines[0] < 0.75
    assert cosines[-1] > 0.92  # the rest lies mostly along jumps in depth
