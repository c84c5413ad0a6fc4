"""Losses that know neither scale nor shift: against loops, against affine maps, and where there is nothing to see."""

import math
from statistics import median_low

import numpy as np
import pytest
import torch

from cka_probe.errors import UnknownNameError
from cka_probe.lab.losses import affine_invariant, gradient_matching, least_squares_aligned, standardised
from cka_probe.lab.losses.affine import ALIGNMENTS

each_alignment = pytest.mark.parametrize("alignment", ALIGNMENTS)
each_loss = pytest.mark.parametrize("loss", [affine_invariant, gradient_matching])


def maps(n=3, height=7, width=9, seed=0):
    """Return a prediction, a truth and what is valid; the truth is 1 to 6 m, and a fifth is not measured."""
    generator = torch.Generator().manual_seed(seed)
    predicted = torch.randn(n, 1, height, width, generator=generator)
    depth = 1 + 5 * torch.rand(n, 1, height, width, generator=generator)
    return predicted, depth, torch.rand(n, 1, height, width, generator=generator) > 0.2


def slow_standardised(values):
    """Return a list less its lower median, over its mean absolute deviation."""
    middle = median_low(values)
    deviation = sum(abs(value - middle) for value in values) / len(values)
    return [(value - middle) / deviation for value in values]


def slow_residuals(predicted, depth, valid, alignment):
    """Return {(row, column): error} of one image, by loops and numpy's least squares."""
    places = [tuple(place) for place in valid[0].nonzero().tolist()]
    truth = slow_standardised([depth[0][place].item() for place in places])
    raw = [predicted[0][place].item() for place in places]
    if alignment == "median":
        fitted = slow_standardised(raw)
    else:
        s, t = np.linalg.lstsq(np.stack([raw, np.ones(len(raw))], 1), np.array(truth), rcond=None)[0]
        fitted = [s * value + t for value in raw]
    return {place: p - g for place, p, g in zip(places, fitted, truth, strict=True)}


@each_alignment
@pytest.mark.parametrize("trim", [0.0, 0.2, 0.5])
def test_the_error_is_that_of_loops(alignment, trim):
    predicted, depth, valid = maps()
    expected = []
    for image in zip(predicted, depth, valid, strict=True):
        errors = sorted(abs(error) for error in slow_residuals(*image, alignment).values())
        expected.append(sum(errors[: round((1 - trim) * len(errors))]) / (2 * len(errors)))
    found = affine_invariant(predicted, depth, valid, alignment=alignment, trim=trim)
    assert found.item() == pytest.approx(sum(expected) / 3, rel=1e-5)


@each_alignment
@pytest.mark.parametrize("scales", [1, 2, 4])
def test_the_gradients_are_those_of_loops(alignment, scales):
    predicted, depth, valid = maps()
    expected = 0.0
    for image in zip(predicted, depth, valid, strict=True):
        errors = slow_residuals(*image, alignment)
        for step in (1, 2, 4, 8)[:scales]:
            coarse = {(r // step, c // step): e for (r, c), e in errors.items() if r % step == c % step == 0}
            steps = [
                abs(coarse[other] - error)
                for (r, c), error in coarse.items()
                for other in ((r, c + 1), (r + 1, c))
                if other in coarse
            ]
            expected += sum(steps) / max(len(coarse), 1) / 3
    found = gradient_matching(predicted, depth, valid, alignment=alignment, scales=scales)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_a_case_by_hand():
    """Truth 1 2 3 4 9: median 3, deviation 2; prediction 0 0 0 1 2: median 0, deviation 0.6."""
    depth = torch.tensor([1.0, 2, 3, 4, 9]).view(1, 1, 1, 5)
    predicted = torch.tensor([0.0, 0, 0, 1, 2]).view(1, 1, 1, 5)
    valid = torch.ones_like(depth, dtype=torch.bool)
    torch.testing.assert_close(standardised(depth, valid).flatten(), torch.tensor([-1, -0.5, 0, 0.5, 3]))
    errors = [1, 0.5, 0, 1 / 0.6 - 0.5, 2 / 0.6 - 3]  # 1, 0.5, 0, 7/6, 1/3
    assert affine_invariant(predicted, depth, valid).item() == pytest.approx(sum(errors) / 10)
    assert affine_invariant(predicted, depth, valid, trim=0.2).item() == pytest.approx((sum(errors) - 7 / 6) / 10)
    assert gradient_matching(predicted, depth, valid, scales=1).item() == pytest.approx(
        (0.5 + 0.5 + 7 / 6 + 5 / 6) / 5, rel=1e-5
    )


@each_loss
@each_alignment
@pytest.mark.parametrize(("scale", "shift"), [(1.0, 3.0), (8.0, 0.0), (0.125, -2.0), (1e-3, 0.0), (1e4, 5e3)])
def test_scale_and_shift_of_either_map_cost_nothing(loss, alignment, scale, shift):
    predicted, depth, valid = (field.double() if field.is_floating_point() else field for field in maps())
    before = loss(predicted, depth, valid, alignment=alignment)
    torch.testing.assert_close(
        loss(scale * predicted + shift, depth, valid, alignment=alignment), before, rtol=1e-4, atol=1e-6
    )
    torch.testing.assert_close(
        loss(predicted, scale * depth + shift, valid, alignment=alignment), before, rtol=1e-4, atol=1e-6
    )
    assert loss(scale * depth + shift, depth, valid, alignment=alignment) < 2e-3
    assert before > 0.2


@each_loss
def test_a_power_of_two_changes_no_bit(loss):
    predicted, depth, valid = maps()
    assert torch.equal(loss(4 * predicted, depth, valid), loss(predicted, depth, valid))
    assert torch.equal(loss(predicted, depth / 8, valid), loss(predicted, depth, valid))


def test_only_least_squares_forgives_the_wrong_way_round():
    _, depth, valid = maps()
    assert affine_invariant(-depth, depth, valid, alignment="least_squares") < 1e-5
    assert affine_invariant(-depth, depth, valid) > 0.5
    upright = least_squares_aligned(-depth, depth, valid, positive=True)
    for row, truth, inside in zip(upright, depth, valid, strict=True):
        torch.testing.assert_close(row, truth[inside].mean().expand_as(row))


def test_least_squares_leave_nothing_that_scale_or_shift_would_take():
    predicted, depth, valid = maps()
    aligned = least_squares_aligned(predicted, depth, valid)
    for p, a, g, inside in zip(predicted, aligned, depth, valid, strict=True):
        left = (a - g)[inside]
        assert left.mean().abs() < 1e-5
        assert (left * p[inside]).mean().abs() < 1e-5
    torch.testing.assert_close(least_squares_aligned(3 - 2 * depth, depth, valid), depth, rtol=1e-4, atol=1e-4)
    assert least_squares_aligned(predicted.double(), depth, valid).dtype == torch.float64


@each_alignment
def test_what_is_not_valid_is_not_read(alignment):
    predicted, depth, valid = maps()
    for other in (torch.nan, torch.inf, 1e30, 0.0):
        moved = torch.where(valid, predicted, other).requires_grad_()
        loss = sum(f(moved, torch.where(valid, depth, other), valid, alignment=alignment) for f in LOSSES)
        loss.backward()
        kept = sum(f(predicted, depth, valid, alignment=alignment) for f in LOSSES)
        assert torch.equal(loss.detach(), kept)
        assert moved.grad.isfinite().all()
        assert (moved.grad[~valid] == 0).all()


LOSSES = (affine_invariant, gradient_matching)

NOTHING, ALL = torch.zeros(2, 1, 6, 6, dtype=torch.bool), torch.ones(2, 1, 6, 6, dtype=torch.bool)
ONE = torch.arange(36).view(1, 1, 6, 6).expand(2, 1, 6, 6) == 8
SLOPE = torch.arange(36.0).view(1, 1, 6, 6).repeat(2, 1, 1, 1)


@each_loss
@each_alignment
@pytest.mark.parametrize(
    ("predicted", "depth", "valid", "says"),
    [
        (SLOPE, SLOPE, NOTHING, False),
        (SLOPE, SLOPE, ONE, False),
        (SLOPE, torch.full_like(SLOPE, 3.3), ALL, False),
        (SLOPE, torch.zeros_like(SLOPE), ALL, False),
        (torch.full_like(SLOPE, 0.7), SLOPE, ALL, True),
        (torch.zeros_like(SLOPE), SLOPE, ALL, True),
        (5 + 1e-7 * SLOPE.flip(-1), SLOPE, ALL, True),
        (1e-20 * SLOPE.flip(-1), SLOPE, ALL, True),
        (1e15 * SLOPE.flip(-1), SLOPE, ALL, True),
    ],
    ids=["none", "one", "wall", "zeros", "same", "dark", "rounding", "tiny", "huge"],
)
def test_nothing_to_compare_is_nothing_to_lose(loss, alignment, predicted, depth, valid, says):
    predicted = predicted.clone().requires_grad_()
    value = loss(predicted, depth, valid, alignment=alignment)
    value.backward()
    assert value.isfinite()
    assert (value > 0) == says
    assert predicted.grad.isfinite().all()
    assert says or (predicted.grad == 0).all()


def test_an_image_that_says_nothing_does_not_dilute_the_others():
    predicted, depth, valid = maps()
    alone = affine_invariant(predicted[:1], depth[:1], valid[:1])
    flat = torch.full_like(depth[:1], 2.0)
    both = affine_invariant(predicted[:2], torch.cat([depth[:1], flat]), valid[:2])
    torch.testing.assert_close(both, alone)


@each_alignment
def test_descent_finds_the_shape_from_a_constant_or_from_chance(alignment):
    """From a constant only the median's gradient leads away: least squares has none there, and says so."""
    _, depth, valid = maps(n=1)
    start = (
        torch.full_like(depth, 2.0)
        if alignment == "median"
        else torch.randn(depth.shape, generator=torch.Generator().manual_seed(3))
    )
    predicted = start.clone().requires_grad_()
    optimiser = torch.optim.Adam([predicted], lr=0.05)
    for _ in range(400):
        optimiser.zero_grad()
        affine_invariant(predicted, depth, valid, alignment=alignment).backward()
        optimiser.step()
    assert affine_invariant(predicted, depth, valid, alignment=alignment) < 0.05


def test_half_precision_is_computed_in_single():
    predicted, depth, valid = maps()
    loss = affine_invariant(predicted.bfloat16(), depth, valid)
    assert loss.dtype == torch.float32
    assert math.isclose(loss, affine_invariant(predicted.bfloat16().float(), depth, valid))


@each_loss
def test_an_unknown_alignment_is_said(loss):
    with pytest.raises(UnknownNameError, match="no alignment 'medain'; did you mean 'median'"):
        loss(*maps(), alignment="medain")
