"""Edge-aware relative normal: against loops, where edges and pairs lie, what it is blind to, and rooms."""

import itertools
import math

import pytest
import torch
from helpers.rooms import perturbed, room_maps
from torch import Generator

from cka_probe.lab.geometry import normals_from_depth
from cka_probe.lab.losses import edge_aware_relative_normal, pairs_across_edges
from cka_probe.lab.losses.relative_normal import edges_of

K = torch.tensor([[40.0, 0, 15.5], [0, 40, 15.5], [0, 0, 1]])


def drawn(*shape, low=0.0, high=1.0, seed=0):
    return low + (high - low) * torch.rand(*shape, generator=Generator().manual_seed(seed))


def unit(*shape, seed=0):
    return torch.nn.functional.normalize(drawn(*shape, low=-1, seed=seed), dim=1)


def pairs_of(batch, pseudo, scale=72 / 256, seed=0):
    torch.manual_seed(seed)
    return pairs_across_edges(batch["image"], pseudo, normals_from_depth(pseudo, batch["K"]), scale)


def loss_of(depth, pseudo, camera, pairs):
    return edge_aware_relative_normal(normals_from_depth(depth, camera), normals_from_depth(pseudo, camera), pairs)


def test_it_is_a_loop_over_pairs():
    normals, pseudo = unit(2, 3, 6, 7), unit(2, 3, 6, 7, seed=1)
    normals[0, :, 3, 3], pseudo[1, :, 1] = 0, 0
    pairs = torch.randint(84, (2, 300), generator=Generator().manual_seed(0))
    total, count = 0.0, 0
    for pair in pairs.T.tolist():
        places = [(place // 42, place % 42 // 7, place % 7) for place in pair]
        (a, b), (c, d) = ([maps[i, :, y, x] for i, y, x in places] for maps in (normals, pseudo))
        if all(n.any() for n in (a, b, c, d)):
            total, count = total + abs(abs((a @ b).item()) - abs((c @ d).item())), count + 1
    assert 100 < count < 300
    assert edge_aware_relative_normal(normals, pseudo, pairs).item() == pytest.approx(total / count, rel=1e-5)


def test_a_flattened_corner_by_hand():
    # two walls at 60 degrees, seen as one: every pair across the corner is wrong by 1 - cos 60
    pseudo = torch.zeros(1, 3, 1, 4)
    pseudo[0, :, 0, :2] = torch.tensor([math.sin(math.pi / 6), 0, -math.cos(math.pi / 6)])[:, None]
    pseudo[0, :, 0, 2:] = torch.tensor([-math.sin(math.pi / 6), 0, -math.cos(math.pi / 6)])[:, None]
    flat = torch.tensor([0.0, 0, -1]).view(1, 3, 1, 1).expand(1, 3, 1, 4)
    pairs = torch.tensor([[0, 1, 2, 0], [1, 2, 3, 3]])  # ab, bc, cd and ad
    assert edge_aware_relative_normal(flat, pseudo, pairs).item() == pytest.approx(2 * 0.5 / 4, rel=1e-5)


def test_perfect_agreement_in_any_scale_or_turn_loses_nothing_but_a_shift_counts():
    batch = room_maps()
    depth = batch["depth"]
    pairs = pairs_of(batch, depth)
    normals = normals_from_depth(depth, batch["K"])
    assert edge_aware_relative_normal(normals, normals, pairs) == 0
    for scale in (0.01, 30.0):
        assert loss_of(scale * depth, depth, batch["K"], pairs).item() == pytest.approx(0, abs=1e-5)
    turn = torch.linalg.qr(drawn(3, 3, low=-1)).Q
    turned = torch.einsum("ij,njhw->nihw", turn, normals)
    assert edge_aware_relative_normal(turned, normals, pairs).item() == pytest.approx(0, abs=1e-5)
    assert loss_of(depth, depth + 1, batch["K"], pairs) > 0.01


@pytest.mark.parametrize("angle", [0, 20, 45, 70, 90, 110, 135, 160])
def test_edges_of_a_wave_point_along_it(angle):
    turn = math.radians(angle)
    v, u = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    wave = torch.sin(0.3 * (u * math.cos(turn) + v * math.sin(turn)))[None, None]
    edges, direction = edges_of(wave)
    along = direction[0, 0] * math.cos(turn) + direction[0, 1] * math.sin(turn)
    inside = edges[0, 0, 1:-1, 1:-1]  # at the border the outermost pixels are repeated
    assert inside.float().mean() > 0.8
    assert (along.abs()[1:-1, 1:-1][inside] > 0.999).all()


def test_edges_are_those_of_any_brightness_contrast_and_colour():
    image = drawn(2, 1, 12, 12)
    edges, direction = edges_of(image)
    for other in (0.1 * image + 0.7, 1 - image, image.expand(-1, 3, -1, -1)):
        found, towards = edges_of(other)
        assert (found == edges).float().mean() > 0.995  # a gradient may lie at the threshold
        torch.testing.assert_close((towards * direction).sum(1).abs(), torch.ones(2, 12, 12), atol=1e-3, rtol=0)
    blue = torch.zeros(1, 3, 32, 32)
    blue[:, 2, :, 16:] = 1
    far = torch.full((1, 1, 32, 32), 3.0)
    assert pairs_across_edges(blue, far, normals_from_depth(far, K), 0.125).shape[1] > 0


def test_edges_by_hand_and_none_in_a_constant_image_or_beside_a_hole():
    step = torch.zeros(1, 1, 6, 8)
    step[..., 4:] = 1
    edges, direction = edges_of(step)
    assert edges[0, 0].nonzero()[:, 1].unique().tolist() == [3, 4]
    torch.testing.assert_close(direction[0, :, 2, 3].abs(), torch.tensor([1.0, 0.0]))
    assert not edges_of(torch.full((1, 1, 6, 8), 0.3))[0].any()
    known = torch.ones(1, 1, 6, 8, dtype=torch.bool)
    known[..., 2, 5] = False
    edges, _ = edges_of(step.masked_fill(~known, 50.0), known)
    # not beside the hole, though the change there is the strongest
    assert edges[0, 0, :, 3].all()
    assert edges[0, 0, :, 4].tolist() == [True, False, False, False, True, True]


@pytest.mark.parametrize("angle", [0, 30, 60, 90, 120, 150])
def test_lines_cross_the_edge(angle):
    # an image of two halves at any angle: a and b on one side, c and d on the other, on a line square to the edge
    turn = math.radians(angle)
    v, u = torch.meshgrid(torch.arange(64.0) - 31.5, torch.arange(64.0) - 31.5, indexing="ij")
    distance = u * math.cos(turn) + v * math.sin(turn)
    image = torch.sigmoid(3 * distance).expand(1, 3, 64, 64)
    flat = torch.full((1, 1, 64, 64), 3.0)
    torch.manual_seed(0)
    pairs = pairs_across_edges(image, flat, normals_from_depth(flat, K), 1.0)
    inner = ((v.abs() < 12) & (u.abs() < 12)).flatten()  # whose lines of up to 19 pixels end inside
    where = distance.flatten()
    ab, bc, cd = pairs.unflatten(1, (3, -1)).unbind(1)
    keep = inner[ab].any(0) | inner[cd].any(0)
    lines = torch.stack([ab[0], ab[1], cd[0], cd[1]])[:, keep]
    assert torch.equal(bc[0], ab[1])
    assert torch.equal(bc[1], cd[0])
    assert lines.shape[1] > 20
    # +-: an edge is some pixels wide, and pixels are whole
    first, second = where[lines[:2]], where[lines[2:]]
    assert (first * first[:1] > 0).all()
    assert (first * second < 0).float().mean() > 0.98
    assert first.abs().max() < 19 + 4
    along = (v * math.cos(turn) - u * math.sin(turn)).flatten()[lines]
    assert (along - along[:1]).abs().max() < 4  # over up to 38 pixels, by a direction read off 3 x 3


def test_pairs_avoid_jumps_of_the_pseudo_depth_and_the_border():
    # one jump in depth in the very place where the image has its edge
    image, pseudo = torch.zeros(1, 3, 32, 32), torch.full((1, 1, 32, 32), 2.0)
    image[..., 16:], pseudo[..., 16:] = 1, 4
    assert pairs_across_edges(image, pseudo, normals_from_depth(pseudo, K), 0.25).shape == (2, 0)
    image = image.roll(8, -1)
    assert pairs_across_edges(image, pseudo, normals_from_depth(pseudo, K), 0.25).shape[1] > 0


@pytest.mark.parametrize(("column", "scale", "found"), [(2, 1.0, False), (2, 0.25, True), (16, 1.0, True)])
def test_edges_of_normals_do_not_count_in_the_border(column, scale, found):
    # five pixels wide at full scale, one at a quarter; the normals' own border is where they are least exact
    image, pseudo = torch.full((1, 3, 32, 32), 0.5), torch.full((1, 1, 32, 32), 2.0)
    normals = torch.tensor([0.0, 0, -1]).view(1, 3, 1, 1).repeat(1, 1, 32, 32)
    normals[..., column:] = torch.tensor([0.6, 0, -0.8]).view(1, 3, 1, 1)
    assert (pairs_across_edges(image, pseudo, normals, scale).shape[1] > 0) == found


def test_pairs_lie_in_one_image_and_follow_from_the_seed():
    batch = room_maps()
    first, second, other = (pairs_of(batch, batch["depth"], seed=seed) for seed in (0, 0, 1))
    pixels = 96 * 72
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(first[0] // pixels, first[1] // pixels)
    assert (first[0] // pixels).unique().tolist() == list(range(6))


MADE = {
    "zeros": lambda *shape: torch.zeros(shape),
    "constant": lambda *shape: torch.full(shape, 2.0),
    "drawn": lambda *shape: drawn(*shape, low=1, high=5),
    "far": lambda *shape: drawn(*shape, low=0.1, high=100),
    "holes": lambda *shape: drawn(*shape, low=1, high=5) * (drawn(*shape, seed=3) > 0.1),
    "16 bit": lambda *shape: drawn(*shape, low=0, high=6e4).round(),
}


@pytest.mark.parametrize("size", [(8, 8), (2, 2), (5, 40)])
@pytest.mark.parametrize(("depth", "pseudo"), [*itertools.product(["constant", "drawn", "far"], MADE)])
def test_degenerate_input_gives_finite_loss_and_gradients(size, depth, pseudo):
    torch.manual_seed(0)
    made = MADE[pseudo](2, 1, *size)
    for image in (drawn(2, 3, *size), torch.full((2, 3, *size), 0.5)):
        predicted = MADE[depth](2, 1, *size).requires_grad_()
        # at the full reach of 19 pixels all of these images are smaller than a line
        pairs = pairs_across_edges(image, made, normals_from_depth(made, K), scale=1.0)
        loss = loss_of(predicted, made, K, pairs)
        loss.backward()
        assert loss.isfinite()
        assert predicted.grad.isfinite().all()
        assert ((pairs >= 0) & (pairs < made.numel())).all()
        if pseudo in ("zeros", "constant") and image.unique().numel() == 1:
            assert pairs.shape[1] == 0
            assert loss == 0
        if pseudo == "zeros":
            assert loss == 0


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (0.7, 0.15), (2.0, 1.0), (0.5, -0.3)])
def test_true_depth_of_rooms_loses_least(scale, shift):
    batch = room_maps()
    depth, camera = batch["depth"], batch["K"]
    pseudo = scale * depth + shift
    pairs = pairs_of(batch, pseudo)
    truth = loss_of(depth, pseudo, camera, pairs)
    for name, wrong in perturbed(depth).items():
        assert loss_of(wrong, pseudo, camera, pairs) > 1.2 * truth, name


def test_true_depth_of_rooms_loses_least_beside_pseudo_depth_that_begins_at_the_camera():
    # LeReS's files hold d - min d + 0.01, the largest shift there is: what is left of the difference is small
    batch = room_maps()
    depth, camera = batch["depth"], batch["K"]
    pseudo = depth - depth.amin((2, 3), keepdim=True) + 0.01
    pairs = pairs_of(batch, pseudo)
    truth = loss_of(depth, pseudo, camera, pairs)
    assert truth > 0.02
    for name, wrong in perturbed(depth).items():
        assert loss_of(wrong, pseudo, camera, pairs) > truth, name


def test_where_the_truth_does_not_lose_least():
    # as with normal matching, a false shift bends the scene, and the prediction that bends along wins
    batch = room_maps()
    depth, camera = batch["depth"], batch["K"]
    pseudo = 2 * depth + 1
    pairs = pairs_of(batch, pseudo)
    assert loss_of(depth + 0.5, pseudo, camera, pairs) < 1e-5 < loss_of(depth, pseudo, camera, pairs)


@pytest.mark.slow
def test_descending_it_alone_folds_a_flat_map_along_edges():
    batch = {name: field[:2] for name, field in room_maps().items()}
    depth, camera = batch["depth"], batch["K"]
    truth = normals_from_depth(depth, camera)
    logarithm = (0.02 * torch.randn(depth.shape, generator=Generator().manual_seed(0))).requires_grad_()
    optimiser = torch.optim.Adam([logarithm], 0.01)
    held_out = pairs_of(batch, depth, seed=99)
    losses = []
    for step in range(121):
        predicted = normals_from_depth(logarithm.exp(), camera)
        losses.append(edge_aware_relative_normal(predicted, truth, held_out).item())
        optimiser.zero_grad()
        edge_aware_relative_normal(predicted, truth, pairs_of(batch, depth, seed=step)).backward()
        optimiser.step()
    assert losses[-1] < 0.5 * losses[0]
