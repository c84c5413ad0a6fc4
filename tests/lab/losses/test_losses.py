"""Losses and depth errors against hand values and brute force."""

import math

import pytest
import torch

from cka_probe.lab.evaluation.depth import ERRORS, depth_errors, median_scaled, valid_depth
from cka_probe.lab.losses import masked_l1, normalised_locally, silog


def draw(*shape, seed=0, low=0.5, high=8.0):
    return low + (high - low) * torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def test_masked_l1_counts_hidden_pixels_only():
    images, reconstruction = torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    reconstruction[0, :, 0, 0] = torch.tensor([1.0, 2.0, 3.0])
    reconstruction[0, :, 1, 1] = 100.0  # visible
    mask = torch.tensor([[[[True, True], [False, False]]]])
    assert masked_l1(images, reconstruction, mask, eps=0).item() == pytest.approx(6 / (2 * 3))


def test_masked_l1_is_brute_force_and_ignores_visible_pixels():
    images, reconstruction = draw(2, 3, 4, 4), draw(2, 3, 4, 4, seed=1).requires_grad_()
    mask = draw(2, 1, 4, 4, seed=2, low=0, high=1) > 0.5
    total, count = 0.0, 0
    for i in range(2):
        for y in range(4):
            for x in range(4):
                if mask[i, 0, y, x]:
                    total += sum(abs(images[i, c, y, x] - reconstruction[i, c, y, x]).item() for c in range(3))
                    count += 3
    loss = masked_l1(images, reconstruction, mask, eps=0)
    assert loss.item() == pytest.approx(total / count, rel=1e-6)
    loss.backward()
    assert not reconstruction.grad[~mask.expand_as(reconstruction)].any()


def test_masked_l1_of_nothing_hidden_is_zero():
    assert masked_l1(draw(1, 3, 4, 4), draw(1, 3, 4, 4, seed=1), torch.zeros(1, 1, 4, 4, dtype=torch.bool)) == 0


def test_normalised_locally_is_brute_force():
    images = draw(1, 2, 7, 6, low=0, high=1)
    ours = normalised_locally(images, window=3)
    for y in range(7):
        for x in range(6):
            patch = images[0, 1, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
            expected = (images[0, 1, y, x] - patch.mean()) / (patch.var(unbiased=True) + 1e-6).sqrt()
            assert ours[0, 1, y, x].item() == pytest.approx(expected.item(), abs=2e-4)


def test_normalised_locally_forgets_brightness_and_contrast():
    images = draw(1, 3, 60, 60, low=0, high=1)
    torch.testing.assert_close(normalised_locally(images), normalised_locally(3 * images + 5), atol=1e-3, rtol=1e-3)


def test_silog_by_hand():
    depth = torch.tensor([1.0, 2.0, 4.0, 0.0])
    predicted = torch.tensor([1.0, 1.0, 1.0, 7.0])
    d = [0.0, math.log(2), math.log(4)]
    expected = math.sqrt(sum(v * v for v in d) / 3 - 0.5 * (sum(d) / 3) ** 2)
    assert silog(predicted, depth, depth > 0).item() == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("focus", [0.0, 0.5, 0.85, 1.0])
def test_silog_is_brute_force(focus):
    depth, predicted = draw(2, 1, 5, 5), draw(2, 1, 5, 5, seed=1)
    valid = depth > 2
    d = (depth[valid].double().log() - predicted[valid].double().log()).tolist()
    expected = math.sqrt(sum(v * v for v in d) / len(d) - focus * (sum(d) / len(d)) ** 2)
    assert silog(predicted, depth, valid, focus).item() == pytest.approx(expected, rel=1e-5)


def test_silog_with_full_focus_forgives_a_common_factor():
    depth = draw(1, 1, 8, 8)
    valid = torch.ones_like(depth, dtype=torch.bool)
    assert silog(3 * depth, depth, valid, 1.0).item() == pytest.approx(0, abs=1e-5)
    assert silog(3 * depth, depth, valid, 0.0).item() == pytest.approx(math.log(3), rel=1e-5)


@pytest.mark.parametrize("case", ["perfect", "nothing valid", "zeros predicted outside"])
def test_silog_has_finite_gradients(case):
    depth = draw(1, 1, 4, 4)
    predicted = depth.clone()
    valid = torch.full_like(depth, case != "nothing valid", dtype=torch.bool)
    if case == "zeros predicted outside":
        predicted[0, 0, 0], depth[0, 0, 0], valid[0, 0, 0] = 0.0, 0.0, False
    predicted.requires_grad_()
    loss = silog(predicted, depth, valid)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert torch.isfinite(predicted.grad).all()


def test_depth_errors_by_hand():
    depth = torch.tensor([[[[1.0, 2.0], [4.0, 0.0]]]])
    predicted = torch.tensor([[[[1.0, 3.0], [2.0, 9.0]]]])
    errors = {name: value.item() for name, value in depth_errors(predicted, depth, valid_depth(depth)).items()}
    d = [0.0, math.log(1.5), -math.log(2)]
    square, mean = sum(v * v for v in d) / 3, sum(d) / 3
    expected = {
        "abs_rel": (0 + 0.5 + 0.5) / 3,
        "sq_rel": (0 + 0.5 + 1.0) / 3,
        "rmse": math.sqrt(5 / 3),
        "rmse_log": math.sqrt(square),
        "log10": (math.log10(1.5) + math.log10(2)) / 3,
        "delta1": 1 / 3,
        "delta2": 2 / 3,
        "delta3": 2 / 3,
        "silog": math.sqrt(square - 0.5 * mean**2),
        "silog_bts": 100 * math.sqrt(square - mean**2),
    }
    expected["delta2"] = sum(r < 1.25**2 for r in (1, 1.5, 2)) / 3
    expected["delta3"] = sum(r < 1.25**3 for r in (1, 1.5, 2)) / 3
    assert errors.keys() == ERRORS.keys()
    assert errors == pytest.approx(expected)


def test_perfect_depth_has_no_error_and_nothing_valid_is_nan():
    depth = draw(2, 1, 4, 4)
    depth[1] = 0
    errors = depth_errors(draw(2, 1, 4, 4), depth, valid_depth(depth))
    for name, values in errors.items():
        assert values[0] == (1.0 if name.startswith("delta") else 0.0)
        assert values[1].isnan()


def test_median_scaling_forgives_a_factor_and_nothing_else():
    depth = draw(3, 1, 5, 5)
    factors = torch.tensor([0.2, 1.0, 7.0]).view(3, 1, 1, 1)
    torch.testing.assert_close(median_scaled(depth * factors, depth, valid_depth(depth)), depth)


def test_median_scaling_is_by_the_mean_of_the_middle_two():
    depth, ones = torch.tensor([1.0, 9.0]).view(1, 1, 1, 2), torch.ones(1, 1, 1, 2)
    scaled = median_scaled(ones, depth, valid_depth(depth))
    assert scaled.flatten().tolist() == [5.0, 5.0]
    errors = depth_errors(scaled, depth, valid_depth(depth))
    assert errors["abs_rel"].item() == pytest.approx((4 + 4 / 9) / 2)
    assert errors["rmse"].item() == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("crop", "box"),
    [
        ("eigen_kitti", (124, 342, 44, 1197)),
        ("garg", (153, 371, 44, 1197)),
        ("none", (0, 375, 0, 1242)),
    ],
)
def test_the_boxes_of_kitti_are_the_published_ones(crop, box):
    valid = valid_depth(torch.ones(1, 375, 1242), crop=crop)[0]
    rows, columns = valid.any(1).nonzero(), valid.any(0).nonzero()
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == box
    assert valid.sum() == (box[1] - box[0]) * (box[3] - box[2])


def test_valid_depth_is_open_at_both_ends_and_crops():
    assert valid_depth(torch.tensor([0.0, 1e-3, 0.5, 9.999, 10.0])).tolist() == [False, False, True, True, False]
    full = valid_depth(torch.ones(1, 1, 480, 640), crop="eigen_nyuv2")
    assert full.sum() == (471 - 45) * (601 - 41)
    assert full[0, 0, 45, 41]
    assert not full[0, 0, 44, 41]
