"""Alignment with label boundaries: invariances, loops, hand-worked values, and what has no value."""

import numpy as np
import pytest

from cka_probe.attribution.alignment import (
    ALL_BOUNDARY,
    CONSTANT,
    EVEN,
    NO_BOUNDARY,
    NO_LABEL,
    ZERO,
    Boundaries,
    alignment,
    at_resolution,
    average_precision,
    ceiling,
    controls,
    find_boundaries,
    steepness,
)
from cka_probe.errors import DataError

RANDOM = np.random.default_rng(0)
LABELS = np.kron(RANDOM.integers(0, 3, (4, 5)), np.ones((4, 4), int))
MAP = RANDOM.random((16, 20))


def ap_by_loops(scores, positive):
    """Average precision from its definition: every threshold, every pixel."""
    total, before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        above = [p for s, p in zip(scores, positive, strict=True) if s >= threshold]
        recall, precision = sum(above) / sum(positive), sum(above) / len(above)
        total += (recall - before) * precision
        before = recall
    return total


def boundary_by_loops(labels, tolerance):
    height, width = labels.shape
    pixels = [(y, x) for y in range(height) for x in range(width)]
    edge = [
        (y, x)
        for y, x in pixels
        for other in ((y, x + 1), (y + 1, x))
        if other[0] < height and other[1] < width and labels[y, x] != labels[other] and 255 not in
        (labels[y, x], labels[other])
    ]  # fmt: skip
    unknown = [pixel for pixel in pixels if labels[pixel] == 255]

    def near(pixel, others, radius):
        return any((pixel[0] - y) ** 2 + (pixel[1] - x) ** 2 <= radius**2 for y, x in others)

    mask = np.array([near(pixel, edge, tolerance) for pixel in pixels]).reshape(labels.shape)
    counted = np.array([not near(pixel, unknown, max(1, tolerance)) for pixel in pixels]).reshape(labels.shape)
    return mask, counted


@pytest.mark.parametrize("tolerance", [0, 1, 1.5, 3])
@pytest.mark.parametrize("ignored", [0.0, 0.03])
def test_boundaries_equal_loops(tolerance, ignored):
    labels = np.where(np.random.default_rng(1).random(LABELS.shape) < ignored, 255, LABELS)
    result = find_boundaries(labels, tolerance)
    mask, counted = boundary_by_loops(labels, tolerance)
    np.testing.assert_array_equal(result.mask, mask)
    np.testing.assert_array_equal(result.counted, counted)
    assert result.share == pytest.approx(mask[counted].mean())


def test_nothing_is_a_boundary_next_to_ignored_pixels():
    labels = np.array([[0, 0, 255, 1, 1], [0, 0, 255, 1, 1]])
    result = find_boundaries(labels)
    assert not result.mask.any()
    assert result.counted.astype(int).tolist() == [[1, 0, 0, 0, 1]] * 2
    assert np.isnan(find_boundaries(np.full((2, 2), 255)).share)


def test_average_precision_equals_loops_with_and_without_ties():
    for levels in (3, 10, 1000):
        scores = np.random.default_rng(levels).integers(0, levels, 60) / levels
        positive = np.random.default_rng(5).random(60) < 0.3
        assert average_precision(scores, positive) == pytest.approx(ap_by_loops(scores, positive), abs=1e-12)


def test_average_precision_by_hand():
    # ranks of the positives 1 and 3: (1/1 + 2/3) / 2; all equal: one threshold, the share of positives
    assert average_precision(np.array([4.0, 3, 2, 1]), np.array([1, 0, 1, 0], bool)) == pytest.approx(5 / 6)
    assert average_precision(np.ones(8), np.arange(8) < 2) == 0.25
    assert average_precision(np.arange(4.0), np.array([1, 0, 0, 0], bool)) == 0.25
    assert np.isnan(average_precision(np.ones(3), np.zeros(3, bool)))


def test_a_ranking_by_the_boundary_itself_is_perfect_and_by_its_opposite_the_worst():
    mask = find_boundaries(LABELS).mask.ravel()
    assert average_precision(mask.astype(float), mask) == 1
    others = [average_precision(RANDOM.random(mask.size), mask) for _ in range(20)]
    assert average_precision(-RANDOM.random(mask.size) * ~mask, mask) == 1
    assert average_precision(~mask + RANDOM.random(mask.size) / 2, mask) < min(others)


def test_chance_finds_the_share_of_boundary_pixels():
    boundaries = find_boundaries(LABELS)
    positive, n = boundaries.mask.ravel(), LABELS.size
    result = np.mean([average_precision(RANDOM.random(n), positive) for _ in range(500)])
    m, harmonic = positive.sum(), (1 / np.arange(1, n + 1)).sum()
    exact = (m - 1) / (n - 1) + (n - m) / (n - 1) * harmonic / n  # the mean over all rankings
    assert result == pytest.approx(exact, abs=0.004)
    assert abs(exact - boundaries.share) < (np.log(n) + 1) / n


@pytest.mark.parametrize(("scale", "shift"), [(0.25, 0.0), (8.0, 0.5), (1.0, -2.0)])
def test_a_map_may_be_scaled_and_shifted(scale, shift):
    boundaries = find_boundaries(LABELS, 1)
    before, after = alignment(MAP, boundaries), alignment(scale * MAP + shift, boundaries)
    assert after.correlation == pytest.approx(before.correlation, abs=1e-9)
    assert after.ap == pytest.approx(before.ap, abs=1e-9)


def test_mirrored_and_turned_images_have_mirrored_numbers_with_a_tolerance():
    # without one a boundary belongs to the left of two pixels, which a mirror makes the right one
    boundaries = find_boundaries(LABELS, 1)
    for turn in (np.flipud, np.fliplr, np.transpose):
        turned = Boundaries(turn(boundaries.mask), turn(boundaries.counted))
        assert alignment(turn(MAP), turned).ap == pytest.approx(alignment(MAP, boundaries).ap)


def test_steepness_equals_central_differences_by_loops():
    expected = np.zeros(MAP.shape)
    for y in range(1, 15):
        for x in range(1, 19):
            down, across = (MAP[y + 1, x] - MAP[y - 1, x]) / 2, (MAP[y, x + 1] - MAP[y, x - 1]) / 2
            expected[y, x] = np.sqrt(down**2 + across**2)
    np.testing.assert_allclose(steepness(MAP)[1:-1, 1:-1], expected[1:-1, 1:-1])
    ramp = 2.0 * np.arange(5) + 3.0 * np.arange(4)[:, None]
    np.testing.assert_allclose(steepness(ramp), np.hypot(2, 3))  # the one-sided ones at the border, too
    assert steepness(np.array([[1.0]])) == 0


def test_correlation_is_numpys():
    boundaries = find_boundaries(np.where(RANDOM.random(LABELS.shape) < 0.02, 255, LABELS), 1)
    expected = np.corrcoef(steepness(MAP)[boundaries.counted], boundaries.mask[boundaries.counted])[0, 1]
    assert alignment(MAP, boundaries).correlation == pytest.approx(expected)


def test_a_map_of_the_labels_follows_them_and_one_of_other_labels_does_not():
    two = (LABELS > 0).astype(int)
    boundaries = find_boundaries(two, 1)
    most = ceiling(two, boundaries, two.shape)
    assert alignment(two.astype(float), boundaries).ap == pytest.approx(most)  # two classes are one map
    assert 0.7 < most < 1
    assert 0.7 < ceiling(LABELS, find_boundaries(LABELS, 1), (8, 10)) < 1
    assert np.isnan(ceiling(0 * LABELS, find_boundaries(0 * LABELS, 1), (8, 10)))
    other = np.kron(np.random.default_rng(9).integers(0, 2, (8, 5)), np.ones((2, 4)))
    assert alignment(other, boundaries).ap < 0.6


@pytest.mark.parametrize(
    ("values", "labels", "reason"),
    [
        (np.zeros((16, 20)), LABELS, ZERO),
        (np.full((16, 20), 0.5), LABELS, CONSTANT),
        (np.arange(16.0)[:, None] + np.zeros(20), LABELS, EVEN),
        (MAP, np.zeros((16, 20), int), NO_BOUNDARY),
        (MAP, np.indices((16, 20)).sum(0) % 2, ALL_BOUNDARY),
        (MAP, np.full((16, 20), 255), NO_LABEL),
    ],
)
def test_an_undefined_alignment_has_a_reason(values, labels, reason):
    result = alignment(values, find_boundaries(labels, 1))
    assert np.isnan([result.correlation, result.ap]).all()
    assert result.undefined == reason


def test_controls_have_the_resolution_of_the_layer():
    image = RANDOM.random((16, 20, 3))
    fine, coarse = controls(image, (16, 20)), controls(image, (8, 10))
    np.testing.assert_allclose(fine["image"], image @ [0.299, 0.587, 0.114])
    np.testing.assert_allclose(fine["edges"], steepness(fine["image"]))
    np.testing.assert_allclose(coarse["image"], at_resolution(fine["image"], (8, 10)))
    for control in coarse.values():
        assert control.shape == (16, 20)
        assert np.ptp(control) < np.ptp(image)  # means vary less


def test_the_resolution_of_a_layer_is_area_means_and_linear_interpolation():
    torch = pytest.importorskip("torch")
    from torch.nn.functional import interpolate

    means = MAP.reshape(4, 4, 5, 4).mean((1, 3))
    wide = interpolate(torch.from_numpy(means)[None, None], (16, 20), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(at_resolution(MAP, (4, 5)), wide[0, 0].numpy(), atol=1e-12)
    uneven = at_resolution(np.ones((7, 9)) * 0.3, (3, 4))
    np.testing.assert_allclose(uneven, 0.3)  # parts that are no whole pixels add up


def test_invalid_inputs_are_errors():
    with pytest.raises(DataError, match=r"a tolerance of 0 pixels or more, found \(16, 20\) and -1"):
        find_boundaries(LABELS, -1)
    with pytest.raises(DataError, match=r"expected labels \(height, width\) .* found \(320,\)"):
        find_boundaries(LABELS.ravel())
    with pytest.raises(DataError, match=r"a finite map of the size of the labels \(16, 20\), found \(8, 10\)"):
        alignment(MAP[:8, :10], find_boundaries(LABELS))
    with pytest.raises(DataError, match="a finite map"):
        alignment(MAP * np.nan, find_boundaries(LABELS))
