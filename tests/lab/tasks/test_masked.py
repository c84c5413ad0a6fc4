"""Masked-image modelling against SimMIM's formulas, written out slowly: what is hidden, with what, at what cost."""

import math

import pytest
import torch
from torch import Generator
from torch.nn.functional import interpolate

from cka_probe.errors import RecipeError
from cka_probe.lab.losses import masked_l1, normalised_locally
from cka_probe.lab.tasks.masked import Masked, MaskedHead
from cka_probe.lab.transforms import random_area
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import Backbone

SIZE = (64, 64)


def backbone_of(name):
    torch.manual_seed(0)
    options = {"depths": (1, 1, 2, 1)} if name.startswith("swin") else {}
    return Backbone(ARCHITECTURES[name].build(size=64, **options), size=64).eval()


@pytest.fixture(scope="module")
def swin():
    return backbone_of("swinv2_micro")


@pytest.fixture(scope="module")
def resnet():
    return backbone_of("resnet18")


def task_and_batch(**options):
    task = Masked(SIZE, cell=16, **options)
    images = torch.rand(2, 3, *SIZE, generator=Generator().manual_seed(3))
    masks = torch.stack([task.draw_mask(Generator().manual_seed(i)) for i in range(2)])
    return task, {"image": images, "mask": masks}


def test_tokens_are_replaced_after_the_patch_embedding_and_all_of_them_go_on(swin):
    task, batch = task_and_batch()
    head = task.head(swin)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (swin.preprocessing.mean, swin.preprocessing.std))
    with torch.no_grad():
        tokens = swin.model.patch_embed((batch["image"] - mean) / std)  # (n, 16, 16, C), its norm included
        hidden = interpolate(batch["mask"].float(), size=(16, 16), mode="nearest")[:, 0, :, :, None]
        for layer in (lambda x: x * (1 - hidden) + head.hidden * hidden, *swin.model.layers, swin.model.norm):
            tokens = layer(tokens)
        expected = head.decoder[1](head.decoder[0](tokens.permute(0, 3, 1, 2)))
        torch.testing.assert_close(task.reconstruct(swin, head, batch), expected, atol=1e-5, rtol=1e-5)
    assert head.decoder[0].weight.shape == (32 * 32 * 3, swin.model.num_features, 1, 1)


@pytest.mark.parametrize("normalise_target", [False, True])
def test_the_loss_is_simmims_number_by_number(swin, normalise_target):
    task, batch = task_and_batch(normalise_target=normalise_target)
    head = task.head(swin)
    with torch.no_grad():
        loss, _ = task.loss(swin, head, batch)
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (swin.preprocessing.mean, swin.preprocessing.std))
        target, made = (batch["image"] - mean) / std, task.reconstruct(swin, head, batch)
        if normalise_target:
            target = normalised_locally(target)
    total = count = 0.0
    for i in range(2):
        for y in range(64):
            for x in range(64):
                if batch["mask"][i, 0, y // 16, x // 16]:
                    count += 1
                    total += (target[i, :, y, x] - made[i, :, y, x]).abs().sum().item()
    assert count == 2 * 16**2 * math.ceil(0.6 * 16)
    assert loss.item() == pytest.approx(total / (count + 1e-5) / 3, rel=1e-5)


def test_normalised_targets_by_double_loops_at_simmims_window():
    images = torch.rand(1, 3, 30, 60, generator=Generator().manual_seed(0)) * 4 - 2
    ours = normalised_locally(images)
    for y, x in ((0, 0), (0, 30), (12, 59), (29, 59), (15, 30), (29, 7)):
        patch = images[0, 2, max(y - 23, 0) : y + 24, max(x - 23, 0) : x + 24].double().flatten().tolist()
        mean = sum(patch) / len(patch)
        variance = sum((value - mean) ** 2 for value in patch) / (len(patch) - 1)
        expected = (images[0, 2, y, x].item() - mean) / math.sqrt(variance + 1e-6)
        assert ours[0, 2, y, x].item() == pytest.approx(expected, abs=1e-4)


def test_an_image_of_one_colour_has_a_target_of_zeros_and_finite_gradients(swin):
    task, batch = task_and_batch(normalise_target=True)
    batch["image"] = torch.full((2, 3, *SIZE), 0.3)
    assert task.target(swin, batch).abs().max() < 0.05
    head = task.head(swin)
    task.loss(swin, head, batch)[0].backward()
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters())
    swin.zero_grad()


@pytest.mark.parametrize("name", ["swin", "resnet"])
def test_the_gradient_reaches_what_stands_in_for_hidden_input_and_no_hidden_pixel(name, request):
    backbone = request.getfixturevalue(name)
    with torch.no_grad():  # the norms after Swin's branches start at 0; random, so that hidden cells are looked from
        for key, parameter in backbone.named_parameters():
            if "norm1" in key or "norm2" in key:
                torch.nn.init.normal_(parameter, std=0.5)
    task, batch = task_and_batch()
    head = task.head(backbone)
    images = batch["image"].clone().requires_grad_()
    made = task.reconstruct(backbone, head, batch | {"image": images})
    masked_l1(torch.zeros_like(made), made, task.pixels(batch)).backward()
    assert head.hidden.grad.abs().min() > 0
    hidden = task.pixels(batch).expand_as(images)
    assert not images.grad[hidden].any()
    assert images.grad[~hidden].any()
    backbone.zero_grad()


def test_visible_pixels_of_the_reconstruction_cost_nothing(swin):
    task, batch = task_and_batch()
    target, hidden = task.target(swin, batch), task.pixels(batch)
    made = torch.zeros_like(target, requires_grad=True)
    loss = masked_l1(target, made, hidden)
    loss.backward()
    assert not made.grad[~hidden.expand_as(made)].any()
    assert torch.equal(loss, masked_l1(target, torch.where(hidden, made, made + 100), hidden))


def test_a_resnet_sees_one_learnt_colour_where_pixels_are_hidden(resnet):
    task, batch = task_and_batch()
    head = task.head(resnet)
    assert head.hidden.shape == (3,)
    with torch.no_grad():
        head.hidden.copy_(torch.tensor([0.5, -1.0, 2.0]))
    seen = []
    hook = resnet.model.conv1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    task.reconstruct(resnet, head, batch)
    hook.remove()
    normalised = resnet.preprocessing.normalise(batch["image"])
    expected = torch.where(task.pixels(batch), head.hidden.view(1, 3, 1, 1), normalised)
    torch.testing.assert_close(seen[0], expected, atol=1e-5, rtol=1e-5)


def test_the_token_starts_from_a_truncated_normal():
    torch.manual_seed(0)
    token = MaskedHead(20_000, 4, 2).hidden
    assert token.std().item() == pytest.approx(0.02, rel=0.02)
    assert token.mean().item() == pytest.approx(0.0, abs=5e-4)


def test_hidden_cells_are_counted_as_simmim_counts_them():
    task = Masked((192, 192))
    masks = [task.draw_mask(Generator().manual_seed(i)) for i in range(300)]
    assert {int(mask.sum()) for mask in masks} == {22}  # ceil(0.6 * 36), 61 %
    share = torch.stack(masks).float().mean(0)
    assert (share - 22 / 36).abs().max() < 0.12, "every cell is hidden about as often"


def test_equal_counts_make_the_mean_over_a_batch_the_mean_of_its_parts(swin):
    task, batch = task_and_batch()
    head = task.head(swin)
    with torch.no_grad():
        whole, _ = task.loss(swin, head, batch)
        parts = [task.loss(swin, head, {k: v[i : i + 1] for k, v in batch.items()})[0] for i in range(2)]
    assert whole.item() == pytest.approx((parts[0] + parts[1]).item() / 2, rel=1e-6)


def test_cells_smaller_than_a_token_are_refused(swin, resnet):
    for cell in (1, 2):
        with pytest.raises(RecipeError, match=f"a multiple of the 4 pixels of a token, found {cell}; 32 is SimMIM's"):
            Masked(SIZE, cell=cell).head(swin)
    Masked(SIZE, cell=2).head(resnet)


WIDE = (64, 96)


@pytest.fixture(scope="module")
def wide_resnet():
    torch.manual_seed(0)
    return Backbone(ARCHITECTURES["resnet18"].build(size=WIDE), size=WIDE).eval()


def test_a_wide_resnet_hides_reconstructs_and_loses_over_all_of_its_input(wide_resnet):
    task = Masked(WIDE, cell=32, ratio=0.6)
    sample = {"image": torch.rand(3, 60, 200, generator=Generator().manual_seed(0))}
    prepared = [task.prepare(sample, Generator().manual_seed(seed), train) for seed, train in ((0, True), (1, False))]
    batch = {name: torch.stack([p[name] for p in prepared]) for name in prepared[0]}
    assert batch["image"].shape == (2, 3, *WIDE)
    assert batch["mask"].shape == (2, 1, 2, 3)
    assert batch["mask"].sum((1, 2, 3)).tolist() == [4, 4]  # ceil(0.6 * 6)
    head = task.head(wide_resnet)
    made = task.reconstruct(wide_resnet, head, batch)
    assert made.shape == (2, 3, *WIDE)
    loss, _ = task.loss(wide_resnet, head, batch)
    hidden = task.pixels(batch).expand_as(made)
    target = task.target(wide_resnet, batch)
    assert loss.item() == pytest.approx((target - made)[hidden].abs().mean().item(), rel=1e-5)
    assert all(
        value.shape == (2,) and value.isfinite().all() for value in task.evaluate(wide_resnet, head, batch).values()
    )


def test_a_resnets_decoder_says_each_square_from_one_position_of_the_last_map(wide_resnet):
    task = Masked(WIDE, cell=16)
    head = task.head(wide_resnet)
    channels = head.decoder[0].in_channels
    first = torch.rand(1, channels, 2, 3, generator=Generator().manual_seed(0))
    second = first.clone()
    second[..., 1, 2] += 1.0
    with torch.no_grad():
        changed = (head(first) != head(second)).any(1)[0]
    assert changed[32:, 64:].float().mean() > 0.9
    assert not changed[:32].any()
    assert not changed[:, :64].any()


def test_views_have_about_the_shape_of_the_network():
    generator = Generator().manual_seed(0)
    ratios = []
    for _ in range(300):
        top, left, height, width = random_area(375, 1242, generator, (0.3, 0.6), 640 / 192)
        assert 0 <= top <= 375 - height
        assert 0 <= left <= 1242 - width
        assert 0.29 < height * width / (375 * 1242) < 0.61
        ratios.append(math.log(width / height / (640 / 192)))
    assert abs(sum(ratios) / len(ratios)) < 0.05, "stretched as often as squeezed"
    assert math.log(3 / 4) - 0.02 < min(ratios) < -0.2
    assert 0.2 < max(ratios) < math.log(4 / 3) + 0.02


def test_an_image_too_long_for_any_box_gives_the_largest_of_the_nearest_shape():
    _, _, height, width = random_area(40, 400, Generator().manual_seed(0), (0.9, 1.0), 2.0)
    assert (height, width) == (40, round(40 * 64 / 32 * 4 / 3))
    _, _, height, width = random_area(400, 40, Generator().manual_seed(0), (0.9, 1.0), 2.0)
    assert (height, width) == (round(40 * 32 / 64 * 4 / 3), 40)
