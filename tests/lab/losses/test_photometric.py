"""Losses of self-supervised depth against slow references, their invariances, and what they do with nothing."""

import math

import pytest
import torch

from cka_probe.errors import DataError
from cka_probe.lab.losses import (
    depth_difference,
    less_rotation,
    photometric_error,
    recognised_rotation,
    smoothness,
    ssim,
    valid_mean,
)


def draw(*shape, seed=0, low=0.0, high=1.0):
    generator = torch.Generator().manual_seed(seed)
    return low + (high - low) * torch.rand(*shape, generator=generator, dtype=torch.float64)


def mirrored(place, side):
    return -place if place < 0 else 2 * (side - 1) - place if place >= side else place


def slow_ssim(x, y, row, column, window):
    """SSIM of two (H, W) images at one pixel, by sums over its window."""
    halo, (height, width) = window // 2, x.shape
    places = [
        (mirrored(row + i, height), mirrored(column + j, width))
        for i in range(-halo, halo + 1)
        for j in range(-halo, halo + 1)
    ]
    a, b = ([image[place].item() for place in places] for image in (x, y))
    n = len(places)
    mean_a, mean_b = sum(a) / n, sum(b) / n
    variance_a, variance_b = (sum((v - m) ** 2 for v in c) / n for c, m in ((a, mean_a), (b, mean_b)))
    covariance = sum((v - mean_a) * (w - mean_b) for v, w in zip(a, b, strict=True)) / n
    c1, c2 = 1e-4, 9e-4
    return ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
    )


@pytest.mark.parametrize("window", [3, 7])
def test_ssim_is_brute_force(window):
    x, y = draw(1, 2, 6, 5), draw(1, 2, 6, 5, seed=1)
    found = ssim(x, y, window)
    for channel in range(2):
        for row in range(6):
            for column in range(5):
                expected = slow_ssim(x[0, channel], y[0, channel], row, column, window)
                assert found[0, channel, row, column].item() == pytest.approx(expected, abs=1e-9)


def test_ssim_is_symmetric_greatest_for_equals_and_does_not_care_for_mirrors():
    x, y = draw(2, 3, 9, 8), draw(2, 3, 9, 8, seed=1)
    torch.testing.assert_close(ssim(x, x), torch.ones_like(x))
    torch.testing.assert_close(ssim(x, y), ssim(y, x))
    torch.testing.assert_close(ssim(x.flip(-1), y.flip(-1)), ssim(x, y).flip(-1))
    assert ssim(x, 1 - x).mean() < ssim(x, y).mean() < 1


def test_ssim_of_constant_images_by_hand():
    x, y = torch.full((1, 1, 8, 8), 0.2), torch.full((1, 1, 8, 8), 0.6)
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    torch.testing.assert_close(ssim(x, y), torch.full_like(x, expected), atol=1e-3, rtol=0)


@pytest.mark.parametrize("window", [4, 0, 17])
def test_windows_that_make_no_sense_are_refused(window):
    with pytest.raises(DataError, match=f"expected an odd SSIM window.*found {window}"):
        ssim(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8), window)


def test_photometric_error_is_its_formula():
    image, other = draw(1, 3, 6, 6), draw(1, 3, 6, 6, seed=1)
    found = photometric_error(image, other, window=3)
    for row in range(6):
        for column in range(6):
            per_channel = [
                0.15 * min(abs(image[0, c, row, column] - other[0, c, row, column]).item() / 0.225, 1)
                + 0.85 * (1 - slow_ssim(image[0, c], other[0, c], row, column, 3)) / 2
                for c in range(3)
            ]
            assert found[0, 0, row, column].item() == pytest.approx(sum(per_channel) / 3, abs=1e-9)


def test_photometric_error_of_equals_is_zero_also_in_mid_grey():
    for image in (draw(1, 3, 8, 8), torch.full((1, 3, 8, 8), 0.45)):
        assert photometric_error(image, image.clone()).abs().max() < 1e-6


def test_the_unit_of_colour_scales_the_difference_of_colour_alone():
    image = draw(1, 3, 8, 8, high=0.8)
    by_unit = [photometric_error(image, image + 0.1, ssim_weight=0.0, unit=unit).mean() for unit in (0.225, 1.0)]
    assert by_unit[0].item() == pytest.approx(0.1 / 0.225)
    assert by_unit[1].item() == pytest.approx(0.1)


def test_depth_difference_by_hand_and_blind_to_scale():
    z, depth = torch.tensor([[[[1.0, 3.0, 2.0]]]]), torch.tensor([[[[1.0, 1.0, 2.0]]]])
    valid = torch.tensor([[[[True, True, False]]]])
    torch.testing.assert_close(depth_difference(z, depth, valid), torch.tensor([[[[0.0, 0.5, 0.0]]]]))
    z, depth = draw(1, 1, 5, 5, low=0.1, high=9), draw(1, 1, 5, 5, seed=1, low=0.1, high=9)
    valid = torch.ones_like(z, dtype=torch.bool)
    found = depth_difference(z, depth, valid)
    torch.testing.assert_close(found, (z - depth).abs() / (z + depth))
    torch.testing.assert_close(found, depth_difference(depth, z, valid))
    torch.testing.assert_close(found, depth_difference(7 * z, 7 * depth, valid))


def test_points_behind_a_camera_agree_with_nothing_and_cost_nothing():
    z = torch.tensor([[[[-2.0, 0.0, math.inf, 3e38, 1e-38]]]], requires_grad=True)
    depth = torch.tensor([[[[1.0, 0.0, 1.0, 3e38, 1e-38]]]], requires_grad=True)
    valid = torch.tensor([[[[True, True, False, True, True]]]])
    found = depth_difference(z, depth, valid)
    assert not found.any()
    found.sum().backward()
    assert z.grad.isfinite().all()
    assert depth.grad.isfinite().all()


def test_valid_mean_counts_what_is_valid_and_wants_enough_of_it():
    values = torch.arange(8.0, requires_grad=True)
    valid = torch.arange(8) < 2
    assert valid_mean(values, valid) == 0.5
    assert valid_mean(values, valid, least=0.2) == 0.5
    for least, there in ((0.25, valid), (0.0, torch.zeros_like(valid))):
        nothing = valid_mean(values, there, least)
        assert nothing == 0
        nothing.backward()
        assert not values.grad.any()


def test_smoothness_is_brute_force():
    depth, image = draw(1, 1, 4, 5, low=1, high=5), draw(1, 3, 4, 5)
    relative = depth[0, 0] / depth.mean()

    def slopes(step):
        down, across = step
        return [
            abs(relative[y + down, x + across] - relative[y, x]).item()
            * math.exp(-(image[0, :, y + down, x + across] - image[0, :, y, x]).abs().mean().item() / 0.225)
            for y in range(4 - down)
            for x in range(5 - across)
        ]

    expected = sum(sum(found) / len(found) for found in (slopes((1, 0)), slopes((0, 1))))
    assert smoothness(depth, image).item() == pytest.approx(expected)


def test_smoothness_is_blind_to_scale_forgives_edges_of_the_image_and_is_zero_for_constant_depth():
    depth, image = draw(2, 1, 6, 6, low=1, high=5), draw(2, 3, 6, 6)
    scales = torch.tensor([0.1, 30.0]).view(2, 1, 1, 1)
    torch.testing.assert_close(smoothness(scales * depth, image), smoothness(depth, image))
    assert smoothness(depth, image) < smoothness(depth, torch.full_like(image, 0.5))
    assert smoothness(torch.full_like(depth, 3.0), image) == 0


def test_rectification_by_hand():
    before, after = torch.tensor([[0.1, -0.2, 0.0]]), torch.tensor([[0.02, 0.2, -0.01]])
    assert less_rotation(before, after).item() == pytest.approx((0.0 + 0.05 + 0.06) / 3)
    assert less_rotation(before, before).item() == pytest.approx(0.05)
    assert less_rotation(before, torch.zeros_like(before)).item() == pytest.approx(0.05 / 3)
    assert recognised_rotation(before, after).item() == pytest.approx((0.08 + 0.4 + 0.01) / 3)
    assert recognised_rotation(after, after) == 0


def test_what_was_applied_is_a_target_and_not_taught():
    found, applied = torch.ones(1, 3, requires_grad=True), torch.zeros(1, 3, requires_grad=True)
    recognised_rotation(found, applied).backward()
    assert found.grad.abs().sum() > 0
    assert applied.grad is None


@pytest.mark.parametrize("case", ["zeros", "ones", "equal", "constant depth"])
def test_gradients_stay_finite(case):
    image = torch.full((1, 3, 8, 8), 1.0 if case == "ones" else 0.0)
    other = image.clone().requires_grad_()
    depth = torch.full((1, 1, 8, 8), 0.0 if case == "zeros" else 2.0, requires_grad=True)
    (photometric_error(image, other).sum() + smoothness(depth, image)).backward()
    assert other.grad.isfinite().all()
    assert depth.grad.isfinite().all()
