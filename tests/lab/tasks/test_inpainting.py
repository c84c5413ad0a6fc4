"""Inpainting: how much is hidden, what is seen, what it costs; theorems, and sums by loops."""

import math

import pytest
import torch
from torch import Generator

from cka_probe.errors import DataError, RecipeError
from cka_probe.lab.tasks.inpainting import WEIGHTINGS, Inpainting
from cka_probe.lab.transforms import flipped, resized
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import Backbone

SIZE = (64, 96)


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    return Backbone(ARCHITECTURES["resnet18"].build(size=SIZE), size=SIZE).eval()


def drawn(*shape, seed=0):
    return torch.rand(*shape, generator=Generator().manual_seed(seed))


def batch_of(task, n=2):
    samples = [task.prepare({"image": drawn(3, 70, 110, seed=i)}, Generator().manual_seed(i), True) for i in range(n)]
    return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}


def masks(task, n):
    generator = Generator().manual_seed(0)
    return torch.stack([task.draw_mask(generator) for _ in range(n)])


@pytest.mark.parametrize("density", [0.001, 0.004, 0.01])
def test_a_pixel_is_hidden_with_the_probability_that_one_of_49_is_a_seed(density):
    hidden = masks(Inpainting(SIZE, density=(density, density)), 400).float()
    expected = 1 - (1 - density) ** 49
    assert hidden.mean().item() == pytest.approx(expected, rel=0.03)
    # at the border and in the corners as anywhere else: seeds beyond the border make holes too
    rim = torch.cat([hidden[..., 0, :].flatten(), hidden[..., -1, :].flatten(), hidden[..., [0, -1]].flatten()])
    assert rim.mean().item() == pytest.approx(expected, rel=0.08)


def test_the_density_is_drawn_anew_for_every_image():
    shares = masks(Inpainting((256, 256)), 200).float().mean((1, 2, 3))
    # mean over d uniform in [a, b]: 1 - ((1 - a)^50 - (1 - b)^50) / (50 (b - a))
    expected = 1 - (0.999**50 - 0.99**50) / (50 * 0.009)
    assert shares.mean().item() == pytest.approx(expected, rel=0.05)
    low, high = (1 - (1 - d) ** 49 for d in (0.001, 0.01))
    assert low - 0.03 < shares.min() < low + 0.03
    assert high - 0.04 < shares.max() < high + 0.04


@pytest.mark.parametrize("hole", [1, 3, 7])
def test_what_is_hidden_is_squares_around_seeds_by_loops(hole):
    task = Inpainting((64, 96), density=(0.003, 0.003), hole=hole)
    generator = Generator().manual_seed(5)
    torch.rand((), generator=generator, dtype=torch.float64)  # the density
    seeds = torch.rand(1, 64 + hole - 1, 96 + hole - 1, generator=generator) < 0.003
    expected = torch.zeros(1, 64, 96, dtype=torch.bool)
    for y in range(64):
        for x in range(96):
            expected[0, y, x] = seeds[0, y : y + hole, x : x + hole].any()
    assert torch.equal(task.draw_mask(Generator().manual_seed(5)), expected)
    assert expected.any()


def test_the_encoder_sees_black_holes_and_no_pixel_behind_them(backbone):
    task = Inpainting(SIZE)
    batch, head = batch_of(task), task.head(backbone).eval()
    seen = []
    hook = backbone.model.conv1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    first = task.reconstruct(backbone, head, batch)
    hook.remove()
    hidden = batch["mask"].expand_as(batch["image"])
    torch.testing.assert_close(seen[0], backbone.preprocessing.normalise(batch["image"] * ~hidden))
    other = torch.where(hidden, drawn(*hidden.shape, seed=9), batch["image"])
    assert torch.equal(first, task.reconstruct(backbone, head, batch | {"image": other}))
    assert not torch.equal(first, task.reconstruct(backbone, head, batch | {"image": batch["image"].flip(1)}))


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_the_loss_is_its_sum_by_loops_over_all_pixels(backbone, weighting):
    task = Inpainting(SIZE, weighting=weighting)
    batch, head = batch_of(task, 1), task.head(backbone).eval()
    with torch.no_grad():
        loss, parts = task.loss(backbone, head, batch)
        outputs = task.outputs(backbone, head, batch)
    assert list(outputs) == [1, 2, 4, 8]
    total, image = 0.0, batch["image"][0].double().tolist()
    for scale, output in enumerate(outputs.values()):
        said = output[0].double().tolist()
        error = sum(abs(image[c][y][x] - said[c][y][x]) for c in range(3) for y in range(64) for x in range(96))
        total += error / (3 * 64 * 96) * (1 / 2**scale if weighting == "fine" else 1 / 4 ** (3 - scale))
        if scale == 0:
            assert parts["finest"].item() == pytest.approx(error / (3 * 64 * 96), rel=1e-5)
    assert loss.item() == pytest.approx(total, rel=1e-5)


def test_the_released_weights_count_the_coarsest_64_times():
    assert WEIGHTINGS["coarse"][8] / WEIGHTINGS["coarse"][1] == 64
    assert WEIGHTINGS["fine"][1] / WEIGHTINGS["fine"][8] == 8


def test_a_perfect_answer_costs_nothing_and_the_mean_colour_something(backbone, monkeypatch):
    task = Inpainting(SIZE)
    batch = batch_of(task)
    monkeypatch.setattr(Inpainting, "outputs", lambda self, b, h, batch: dict.fromkeys((1, 2, 4, 8), batch["image"]))
    assert task.loss(backbone, None, batch)[0] == 0
    values = task.evaluate(backbone, None, batch)
    assert values["reconstruction"].tolist() == values["visible"].tolist() == [0, 0]
    for i in range(2):
        image, hidden = batch["image"][i], batch["mask"][i, 0]
        mean = image[:, ~hidden].mean(1, keepdim=True)
        expected = (image[:, hidden] - mean).abs().mean()
        torch.testing.assert_close(values["mean_colour"][i], expected)


def test_an_image_without_holes_says_nothing_about_them(backbone):
    task = Inpainting(SIZE)
    batch, head = batch_of(task), task.head(backbone).eval()
    batch["mask"][0] = False
    with torch.no_grad():
        values = task.evaluate(backbone, head, batch)
    assert math.isnan(values["reconstruction"][0])
    assert values["reconstruction"][1].isfinite()
    assert values["visible"].isfinite().all()


@pytest.mark.parametrize("case", ["black", "white", "one colour", "all hidden", "nothing hidden"])
def test_degenerate_images_have_finite_losses_and_gradients(case):
    torch.manual_seed(0)
    backbone = Backbone(ARCHITECTURES["resnet18"].build(size=64), size=64)
    task = Inpainting((64, 64))
    batch, head = batch_of(task), task.head(backbone)
    if case.endswith("hidden"):
        batch["mask"][:] = case == "all hidden"
    else:
        batch["image"][:] = {"black": 0.0, "white": 1.0, "one colour": 0.3}[case]
    loss, _ = task.loss(backbone, head, batch)
    loss.backward()
    gradients = [p.grad for module in (backbone, head) for p in module.parameters()]
    assert loss.isfinite()
    assert all(g is not None and g.isfinite().all() for g in gradients)


def test_a_view_is_the_whole_image_or_a_box_of_it_at_its_own_size():
    sample = {"image": drawn(3, 80, 130)}
    whole = Inpainting(SIZE, flip=False).prepare(sample, Generator().manual_seed(0), True)["image"]
    torch.testing.assert_close(whole, resized(sample, SIZE)["image"])
    views = [Inpainting(SIZE).prepare(sample, Generator().manual_seed(i), True)["image"] for i in range(20)]
    mirrored = flipped({"image": whole})["image"]
    which = [torch.equal(view, mirrored) for view in views]
    assert 0 < sum(which) < 20
    assert all(torch.equal(view, mirrored) or torch.equal(view, whole) for view in views)
    box = Inpainting(SIZE, flip=False, crop=True).prepare(sample, Generator().manual_seed(1), True)["image"]
    places = [
        (y, x)
        for y in range(80 - 64 + 1)
        for x in range(130 - 96 + 1)
        if torch.equal(box, sample["image"][:, y : y + 64, x : x + 96])
    ]
    assert len(places) == 1
    middle = Inpainting(SIZE, crop=True).prepare(sample, Generator().manual_seed(1), False)["image"]
    assert torch.equal(middle, sample["image"][:, 8:72, 17:113])
    with pytest.raises(DataError, match="expected an image of at least 96x64 pixels"):
        Inpainting(SIZE, crop=True).prepare({"image": drawn(3, 60, 130)}, Generator(), True)


def test_the_decoder_has_the_name_that_segmentation_takes_over(backbone):
    names = {name.split(".")[0] for name in Inpainting(SIZE).head(backbone).state_dict()}
    assert names == {"decoder", "to_colours"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"density": (0.0, 0.1)}, r"expected `density` = \[least, most\] in \(0, 1\), found \[0.0, 0.1\]"),
        ({"density": (0.2, 0.1)}, "expected `density`"),
        ({"hole": 4}, "expected an odd `hole`, found 4"),
        ({"weighting": "even"}, "expected `weighting` fine or coarse, found even"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(RecipeError, match=message):
        Inpainting(SIZE, **options)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(
        RecipeError, match="inpainting: expected sides that are multiples of 32, at least 64, found 64 x 72"
    ):
        Inpainting((64, 72))
