"""Confident depth ranking: against loops, by hand, what it is blind to, which pairs are drawn, rooms."""

import functools
import math

import pytest
import torch
from torch import Generator

from cka_probe.images.datasets import open_dataset
from cka_probe.lab.losses import confident_depth_ranking, pairs_to_rank


def drawn(*shape, low=1.0, high=5.0, seed=0):
    return low + (high - low) * torch.rand(*shape, generator=Generator().manual_seed(seed))


def pairs_of(depth, num=200, seed=0):
    return torch.randint(depth.numel(), (2, num), generator=Generator().manual_seed(seed))


@functools.cache
def rooms(num=6):
    data = open_dataset(f"scenes:rooms?num={num}&frames=1&size=96x72")
    return torch.stack([data[i]["depth"] for i in range(num)])


def test_it_is_a_loop_over_pairs():
    depth, pseudo = drawn(2, 1, 6, 7), drawn(2, 1, 6, 7, seed=1)
    pseudo[0, 0, 2] = 0
    pairs = pairs_of(depth)
    total, count = 0.0, 0
    for a, b in pairs.T.tolist():
        pseudo_a, pseudo_b = pseudo.flatten()[a].item(), pseudo.flatten()[b].item()
        if pseudo_a == 0 or pseudo_b == 0:
            continue
        label = 1 if pseudo_a / pseudo_b >= 1.15 else -1 if pseudo_b / pseudo_a >= 1.15 else 0
        if label:
            difference = (depth.flatten()[a] - depth.flatten()[b]).item()
            total, count = total + math.log(1 + math.exp(-label * difference)), count + 1
    assert 50 < count < 200
    assert confident_depth_ranking(depth, pseudo, pairs).item() == pytest.approx(total / count, rel=1e-5)


def test_by_hand():
    depth = torch.tensor([1.0, 2.0, 4.0, 3.0]).view(1, 1, 2, 2)
    pseudo = torch.tensor([10.0, 11.0, 12.0, 0.0]).view(1, 1, 2, 2)
    # 11 : 10 is in doubt, 12 : 10 is not, and 0 is no depth
    pairs = torch.tensor([[0, 1, 2, 3, 0], [1, 2, 0, 0, 3]])
    loss = confident_depth_ranking(depth, pseudo, pairs)
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-3)), rel=1e-6)


def test_who_stands_first_in_a_pair_does_not_matter():
    depth, pseudo = drawn(2, 1, 6, 7), drawn(2, 1, 6, 7, seed=1)
    pairs = pairs_of(depth)
    first, second = (confident_depth_ranking(depth, pseudo, p) for p in (pairs, pairs.flip(0)))
    torch.testing.assert_close(first, second)


def test_what_it_is_blind_to():
    depth, pseudo = drawn(2, 1, 6, 7).double(), drawn(2, 1, 6, 7, seed=1).double()
    pairs = pairs_of(depth)
    loss = confident_depth_ranking(depth, pseudo, pairs)
    torch.testing.assert_close(confident_depth_ranking(depth + 7, pseudo, pairs), loss)
    for scale in (0.01, 100.0):
        torch.testing.assert_close(confident_depth_ranking(depth, scale * pseudo, pairs), loss)


def test_rightly_ordered_depth_loses_less_the_larger_it_is_and_never_nothing():
    depth = drawn(1, 1, 6, 7)
    pairs = pairs_of(depth)
    losses = [confident_depth_ranking(scale * depth, depth, pairs).item() for scale in (0.0, 0.5, 1.0, 2.0, 4.0)]
    assert losses[0] == pytest.approx(math.log(2))
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] > 0


@pytest.mark.parametrize("shift", [0.5, 2.0])
def test_increasing_maps_of_the_pseudo_depth_turn_no_pair_round(shift):
    # the sign of a pair is read off its own loss: a difference of 100 costs 0 if it is right and 100 if it is wrong
    depth, pseudo = torch.tensor([100.0, 0.0]).view(1, 1, 1, 2), drawn(200, 2)
    pair = torch.tensor([[0], [1]])

    def cost(pseudo):
        return torch.stack([confident_depth_ranking(depth, p.view(1, 1, 1, 2), pair) for p in pseudo])

    count = {}
    for name, mapped in {"as it is": pseudo, "shifted": pseudo + shift, "cubed": pseudo**3}.items():
        costs = cost(mapped)
        farther = pseudo[:, 0] > pseudo[:, 1]
        assert (costs[farther] < 1e-6).all(), name
        assert ((costs[~farther] == 0) | (costs[~farther] == 100)).all(), name
        count[name] = (costs == 100).sum().item()
    # which pairs count is what changes: fewer when all is farther, more when it is spread
    assert 0 < count["shifted"] < count["as it is"] < count["cubed"]


@pytest.mark.parametrize(
    ("depth", "pseudo"),
    [
        ([0.1, 100.0], [1.0, 2.0]),
        ([100.0, 0.1], [1.0, 2.0]),
        ([1.0, 2.0], [3.0, 3.0]),
        ([1.0, 2.0], [0.0, 0.0]),
        ([1.0, 2.0], [0.0, 5.0]),
        ([0.0, 0.0], [0.0, 0.0]),
        ([0.0, 0.0], [1e-40, 6e4]),
    ],
)
@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_degenerate_input_gives_finite_loss_and_gradients(depth, pseudo, scale):
    predicted = (scale * torch.tensor(depth)).view(1, 1, 1, 2).requires_grad_()
    loss = confident_depth_ranking(predicted, torch.tensor(pseudo).view(1, 1, 1, 2), torch.tensor([[0, 1], [1, 0]]))
    loss.backward()
    assert loss.isfinite()
    assert predicted.grad.isfinite().all()
    if min(pseudo) == 0 or pseudo[0] == pseudo[1]:
        assert loss == 0
        assert (predicted.grad == 0).all()


def test_no_pairs_at_all_lose_nothing():
    depth = drawn(1, 1, 2, 2).requires_grad_()
    pairs = pairs_to_rank(torch.ones(1, 1, 2, 2), unreliable=0.0, random=0.0)
    loss = confident_depth_ranking(depth, drawn(1, 1, 2, 2), pairs)
    loss.backward()
    assert pairs.shape == (2, 0)
    assert loss == 0
    assert (depth.grad == 0).all()


def test_pairs_lie_in_one_image_and_begin_where_frames_agree_least():
    agreement = drawn(3, 1, 10, 20, low=0, high=1)
    torch.manual_seed(0)
    pairs = pairs_to_rank(agreement)
    assert pairs.shape == (2, 3 * (40 + 20))
    assert torch.equal(pairs[0] // 200, pairs[1] // 200)
    assert (pairs[0] != pairs[1]).all()
    for i in range(3):
        first, second = pairs[:, 60 * i : 60 * i + 40] - 200 * i
        values = agreement[i].flatten()
        threshold = values.sort().values[40]
        assert set(first.tolist()) == set((values < threshold).nonzero().flatten().tolist())
        assert (values[second] >= threshold).all()
        chosen, partners = pairs[:, 60 * i + 40 : 60 * (i + 1)] - 200 * i
        assert len(set(chosen.tolist())) == 20
        assert set(chosen.tolist()) == set(partners.tolist())


def test_among_equals_chance_decides_and_follows_from_the_seed():
    agreement = torch.ones(1, 1, 20, 20)
    torch.manual_seed(0)
    first = pairs_to_rank(agreement)
    second = pairs_to_rank(agreement)
    torch.manual_seed(0)
    assert torch.equal(first, pairs_to_rank(agreement))
    assert not torch.equal(first, second)
    rows = torch.stack([pairs_to_rank(agreement)[0, :80] // 20 for _ in range(50)]).double()
    assert rows.mean().item() == pytest.approx(9.5, abs=0.5)  # 4000 draws: a standard error of 0.09


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 2), (8, 8)])
@pytest.mark.parametrize("unreliable", [0.0, 0.2, 1.0])
def test_pairs_of_tiny_images_are_of_these_images(size, unreliable):
    pairs = pairs_to_rank(drawn(2, 1, *size), unreliable, random=1.0)
    pixels = size[0] * size[1]
    assert pairs.shape == (2, 2 * (round(unreliable * pixels) + pixels))
    assert ((pairs >= 0) & (pairs < 2 * pixels)).all()
    assert torch.equal(pairs[0] // pixels, pairs[1] // pixels)


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (0.7, 0.15), (2.0, 1.0), (0.5, -0.3)])
def test_true_depth_of_rooms_loses_less(scale, shift):
    depth = rooms()
    mean = depth.mean((2, 3), keepdim=True)
    torch.manual_seed(0)
    pairs = pairs_to_rank(drawn(*depth.shape, seed=5))
    pseudo = scale * depth + shift
    noise = torch.randn(depth.shape, generator=Generator().manual_seed(0))
    wrong = {
        "tilted": depth * (1 + 0.2 * torch.linspace(-1, 1, depth.shape[-1])),
        "noisy": depth * (1 + 0.2 * noise),
        "half flat": (depth + mean) / 2,
        "flat": mean.expand_as(depth),
        "inverted": depth.amax((2, 3), keepdim=True) + 1 - depth,
    }
    truth = confident_depth_ranking(depth, pseudo, pairs)
    for name, wrong_depth in wrong.items():
        assert confident_depth_ranking(wrong_depth, pseudo, pairs) > 1.05 * truth, name


def test_where_the_truth_does_not_lose_least():
    # depth that is too large loses less, and a little noise, less than the ratio, hardly costs anything
    depth = rooms()
    pairs = pairs_to_rank(drawn(*depth.shape, seed=5))
    noise = torch.randn(depth.shape, generator=Generator().manual_seed(0))
    truth, large, noisy = (
        confident_depth_ranking(d, depth, pairs).item() for d in (depth, 2 * depth, depth * (1 + 0.01 * noise))
    )
    assert large < truth
    assert noisy == pytest.approx(truth, rel=0.01)


def test_descending_it_alone_orders_a_flat_map():
    truth = rooms()[:2, :, ::4, ::4]
    pseudo = 0.7 * truth + 0.15
    depth = torch.full_like(truth, 3.0).requires_grad_()
    optimiser = torch.optim.Adam([depth], 0.05)
    torch.manual_seed(0)
    for _ in range(150):
        optimiser.zero_grad()
        confident_depth_ranking(depth, pseudo, pairs_to_rank(torch.rand(truth.shape))).backward()
        optimiser.step()
    held_out = torch.cat([pairs_of(truth[0], 5000) + i * truth[0].numel() for i in range(2)], 1)
    a, b = truth.flatten()[held_out]
    clear = torch.maximum(a / b, b / a) >= 1.2
    ordered, found = (a > b)[clear], (depth.flatten()[held_out[0]] > depth.flatten()[held_out[1]])[clear]
    assert (ordered == found).double().mean() > 0.98
