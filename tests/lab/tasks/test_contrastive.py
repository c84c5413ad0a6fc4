"""MoCo: its loss by loops, a copy that follows, a queue that goes round."""

import math

import pytest
import torch
from torch import Generator, nn

from cka_probe.errors import RecipeError
from cka_probe.lab.tasks.contrastive import Contrastive, MomentumHead, info_nce_logits
from cka_probe.lab.transforms import random_area
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import Backbone

SIZE = (64, 64)


class Plain(nn.Module):
    """The smallest encoder with feature maps: one convolution and a batch norm."""

    def __init__(self, norm=True):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 4, stride=4)
        self.norm = nn.BatchNorm2d(6) if norm else nn.Identity()
        self.feature_info = [{"num_chs": 6, "reduction": 4}]

    def forward_features(self, x):
        return self.norm(self.conv(x))


def plain(norm=True, seed=0):
    torch.manual_seed(seed)
    return Backbone(Plain(norm), size=SIZE)


def batch_of(task, n=4, train=True):
    samples = [
        task.prepare({"image": torch.rand(3, 70, 90, generator=Generator().manual_seed(i))}, Generator(), train)
        for i in range(n)
    ]
    batch = {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}
    return batch | {"order": torch.tensor([0.3, 0.1, 0.9, 0.2, 0.7, 0.5, 0.4, 0.8])[:n]}


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def directions(*shape, seed=0):
    return nn.functional.normalize(torch.randn(*shape, generator=Generator().manual_seed(seed)), dim=-1)


def test_infonce_against_a_slow_reference():
    queries, keys, negatives = directions(3, 5), directions(3, 5, seed=1), directions(4, 5, seed=2)
    for temperature in (0.07, 0.2, 1.0):
        logits = info_nce_logits(queries, keys, negatives, temperature)
        loss = nn.functional.cross_entropy(logits, torch.zeros(3, dtype=torch.int64))
        expected = 0.0
        for i in range(3):
            own = math.exp(sum(a * b for a, b in zip(queries[i].tolist(), keys[i].tolist(), strict=True)) / temperature)
            others = 0.0
            for j in range(4):
                product = sum(a * b for a, b in zip(queries[i].tolist(), negatives[j].tolist(), strict=True))
                others += math.exp(product / temperature)
            expected -= math.log(own / (own + others)) / 3
        assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_keys_of_the_same_batch_may_be_negatives_too_but_never_ones_own():
    queries, keys, negatives = directions(3, 5), directions(3, 5, seed=1), directions(4, 5, seed=2)
    logits = info_nce_logits(queries, keys, negatives, 0.2, among=True)
    assert torch.equal(logits[:, :5], info_nce_logits(queries, keys, negatives, 0.2))
    for i in range(3):
        for j in range(3):
            product = sum(a * b for a, b in zip(queries[i].tolist(), keys[j].tolist(), strict=True))
            expected = -math.inf if i == j else pytest.approx(product / 0.2, abs=1e-5)
            assert logits[i, 5 + j].item() == expected
    queries.requires_grad_()
    logits = info_nce_logits(queries, keys, negatives, 0.2, among=True)
    nn.functional.cross_entropy(logits, torch.zeros(3, dtype=torch.int64)).backward()
    assert queries.grad.isfinite().all()


def test_the_loss_is_that_of_its_parts():
    task, backbone = Contrastive(SIZE, dim=5, queue=8, splits=1), plain()
    head = task.head(backbone).eval()
    backbone.eval()
    batch = batch_of(task)
    loss, parts = task.loss(backbone, head, batch)
    logits = info_nce_logits(head.queries(backbone, batch["image"]), head.keys(batch["other"]), head.queue, 0.2)
    assert loss.item() == pytest.approx((logits.logsumexp(1) - logits[:, 0]).mean().item(), rel=1e-6)
    assert parts["correct"].item() == (logits.argmax(1) == 0).float().mean().item()


def test_the_copy_begins_equal_and_follows_by_the_formula():
    task, backbone = Contrastive(SIZE, dim=5, queue=8), plain()
    head = task.head(backbone)
    pairs = [(head.key_encoder, backbone), (head.key_projection, head.projection)]
    for copy, model in pairs:
        assert all(torch.equal(value, model.state_dict()[name]) for name, value in copy.state_dict().items())
    head.follow(backbone, 0.999)
    assert all(torch.equal(value, backbone.state_dict()[name]) for name, value in head.key_encoder.state_dict().items())
    with torch.no_grad():
        for parameter in [*backbone.parameters(), *head.projection.parameters()]:
            parameter.add_(torch.randn_like(parameter))
        backbone.model.norm.running_mean += 1
    before = [state(copy) for copy, _ in pairs]
    head.follow(backbone, 0.75)
    for (copy, model), old in zip(pairs, before, strict=True):
        for name, parameter in copy.named_parameters():
            fast = dict(model.named_parameters())[name]
            torch.testing.assert_close(parameter.data, 0.75 * old[name] + 0.25 * fast.data, rtol=1e-6, atol=1e-7)
    assert torch.equal(head.key_encoder.model.norm.running_mean, before[0]["model.norm.running_mean"])


def test_the_queue_is_a_ring_and_the_oldest_go_first():
    head = MomentumHead(plain(), 6, 5, 5)
    keys = directions(8, 5, seed=4)
    assert torch.allclose(head.queue.norm(dim=1), torch.ones(5))
    head.enqueue(keys[:2])
    head.enqueue(keys[2:4])
    assert torch.equal(head.queue[:4], keys[:4])
    head.enqueue(keys[4:7])
    assert torch.equal(head.queue, torch.stack([keys[5], keys[6], keys[2], keys[3], keys[4]]))
    assert head.oldest == 2
    head.enqueue(keys[:5])
    assert torch.equal(head.queue.roll(-2, 0), keys[:5])
    with pytest.raises(RecipeError, match=r"a `queue` of a batch or more, found 5 for 8 keys; set options\.queue=32"):
        head.enqueue(keys)


def test_no_gradient_reaches_the_keys_and_every_query_has_one():
    task, backbone = Contrastive(SIZE, dim=5, queue=8), plain()
    head = task.head(backbone).train()
    loss, _ = task.loss(backbone, head, batch_of(task))
    loss.backward()
    frozen = [*head.key_encoder.parameters(), *head.key_projection.parameters()]
    assert frozen
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in frozen)
    assert not head.queue.requires_grad
    learning = [*backbone.parameters(), *head.projection.parameters()]
    assert all(parameter.grad.isfinite().all() for parameter in learning)
    assert any(parameter.grad.abs().max() > 0 for parameter in learning)


def test_in_evaluation_nothing_moves():
    task, backbone = Contrastive(SIZE, dim=5, queue=8, momentum=0.5), plain()
    head = task.head(backbone)
    with torch.no_grad():
        backbone.model.conv.weight.add_(1)
    batch = batch_of(task)
    backbone.eval(), head.eval()
    before = state(head)
    task.loss(backbone, head, batch)
    task.evaluate(backbone, head, batch)
    assert all(torch.equal(value, before[name]) for name, value in head.state_dict().items())
    head.train()
    task.loss(backbone, head, batch)
    moved = {name for name, value in head.state_dict().items() if not torch.equal(value, before[name])}
    assert {"queue", "oldest", "key_encoder.model.conv.weight", "key_encoder.model.norm.running_mean"} <= moved


def test_keys_are_shuffled_in_parts_and_put_back():
    task, backbone = Contrastive(SIZE, dim=5, queue=16), plain()
    head = task.head(backbone)
    batch = batch_of(task, 8)
    first_part = {1, 3, 0, 6}  # the four smallest of `order`
    head.eval()
    assert torch.allclose(task._shuffled_keys(head, batch), head.keys(batch["other"]), atol=1e-6)
    head.train()
    keys = task._shuffled_keys(head, batch)
    other = batch["other"].clone()
    other[2] = torch.rand(3, *SIZE)
    changed = task._shuffled_keys(head, batch | {"other": other})
    same = {i for i in range(8) if torch.allclose(keys[i], changed[i], atol=1e-6)}
    assert same == first_part


def test_views_are_two_draws_and_as_wide_as_the_network_sees():
    ramp = torch.stack([torch.arange(160.0).expand(60, 160) / 160] * 2 + [torch.zeros(60, 160)])
    task = Contrastive((32, 96), queue=8)
    whole = task.prepare({"image": ramp}, Generator().manual_seed(0), False)["image"]
    assert whole[0, 0, -1] - whole[0, 0, 0] > 0.95
    views = [task.prepare({"image": ramp}, Generator().manual_seed(i), True) for i in range(30)]
    assert all(view[name].shape == (3, 32, 96) for view in views for name in ("image", "other"))
    assert all(0 <= view["image"].min() <= view["image"].max() <= 1 for view in views)
    assert not any(torch.equal(view["image"], view["other"]) for view in views)
    grey = [torch.allclose(view["image"][0], view["image"][2], atol=1e-6) for view in views]
    assert 0 < sum(grey) < 20
    again = task.prepare({"image": ramp}, Generator().manual_seed(3), True)
    assert all(torch.equal(again[name], views[3][name]) for name in again)


@pytest.mark.parametrize(("height", "width"), [(60, 160), (100, 100), (40, 300), (200, 50)])
def test_boxes_for_a_wide_network_are_wide(height, width):
    generator, ratios = Generator().manual_seed(0), []
    for _ in range(50):
        top, left, h, w = random_area(height, width, generator, (0.2, 1.0), 3.0)
        assert min(top, left) >= 0
        assert top + h <= height
        assert left + w <= width
        ratios.append(w / h)
    assert 3 * 3 / 4 * 0.9 < min(ratios) <= max(ratios) < 3 * 4 / 3 * 1.1
    assert max(ratios) > 1.2 * min(ratios) or height > width  # there, only the nearest shape fits


def test_evaluation_is_retrieval_beside_chance():
    task, backbone = Contrastive(SIZE, dim=5, queue=8, temperature=0.5), plain()
    head = task.head(backbone).eval()
    backbone.eval()
    batch = batch_of(task, 4)
    same = task.evaluate(backbone, head, batch | {"other": batch["image"]})
    assert same["retrieved"].tolist() == [1.0] * 4
    assert same["retrieved_chance"].tolist() == [0.25] * 4
    assert same["cross_entropy_chance"].tolist() == pytest.approx([math.log(4)] * 4)
    alike = batch["image"][:1].expand(4, -1, -1, -1)
    lost = task.evaluate(backbone, head, {"image": alike, "other": alike})
    assert lost["cross_entropy"].tolist() == pytest.approx([math.log(4)] * 4, rel=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_constant_images_give_a_finite_loss_and_gradient(value):
    task, backbone = Contrastive(SIZE, dim=5, queue=8), plain()
    head = task.head(backbone)
    batch = {"image": torch.full((4, 3, *SIZE), value), "other": torch.full((4, 3, *SIZE), value)}
    with torch.no_grad():
        for parameter in head.projection.parameters():
            parameter.zero_()
    loss, _ = task.loss(backbone, head, batch | {"order": torch.rand(4)})
    loss.backward()
    assert loss.isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in [*backbone.parameters(), *head.projection.parameters()])


@pytest.mark.slow
def test_it_learns_to_tell_images_apart():
    task = Contrastive(SIZE, dim=8, queue=8, momentum=0.9)
    torch.manual_seed(0)
    backbone = Backbone(ARCHITECTURES["resnet18"].build(size=64), size=64)
    head = task.head(backbone)
    backbone.train(), head.train()
    optimiser = torch.optim.AdamW([p for m in (backbone, head) for p in m.parameters() if p.requires_grad], lr=1e-3)
    hues = torch.rand(4, 3, 8, 8, generator=Generator().manual_seed(0)).repeat_interleave(8, 2).repeat_interleave(8, 3)
    noise = Generator().manual_seed(1)
    losses = []
    for _ in range(12):
        views = [(hues + 0.1 * torch.rand(hues.shape, generator=noise)).clamp(0, 1) for _ in range(2)]
        optimiser.zero_grad()
        loss, _ = task.loss(backbone, head, {"image": views[0], "other": views[1], "order": torch.rand(4)})
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    backbone.eval(), head.eval()
    with torch.no_grad():
        values = task.evaluate(backbone, head, {"image": hues, "other": views[1]})
    assert values["retrieved"].mean() == 1.0
    assert values["cross_entropy"].mean() < 0.6 * math.log(4)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"temperature": 0.0}, "`temperature` above 0, found 0.0"),
        ({"momentum": 1.0}, r"`momentum` in \[0, 1\), found 1.0"),
        ({"queue": 0}, "`queue` of 1 or more, found 0"),
        ({"scale": (0.5, 0.2)}, r"`scale` = \[least, most\] in \(0, 1\], found \[0.5, 0.2\]"),
        ({"splits": 0}, "`splits` of 1 or more, found 0"),
        ({"dim": 1}, "`dim` of 2 or more, found 1"),
    ],
)
def test_what_cannot_be_is_said(options, expected):
    with pytest.raises(RecipeError, match=f"contrastive: expected {expected}"):
        Contrastive(SIZE, **options)


def test_a_batch_too_small_for_its_parts_is_refused():
    task, backbone = Contrastive(SIZE, dim=5, queue=8, splits=4), plain()
    with pytest.raises(RecipeError, match=r"at least 4 images at a time, .* found 3; .* options\.splits=1"):
        task.loss(backbone, task.head(backbone), batch_of(task, 3))
