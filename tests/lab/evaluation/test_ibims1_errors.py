"""Errors of iBims-1: boundaries, planes, near and far, against slow references and worked values."""

import math

import numpy as np
import pytest
import torch

from cka_probe.errors import DataError
from cka_probe.lab.evaluation.ibims1_errors import (
    BOUNDARIES,
    FARTHEST,
    boundary_errors,
    directed_errors,
    edge_distances,
    plane_errors,
    predicted_edges,
)


def outline(height, width, right=0, size=(300, 300)):
    """The outline of a box, moved to the right; one pixel wide."""
    edges = np.zeros(size, bool)
    edges[60 : 60 + height, [60 + right, 60 + right + width - 1]] = True
    edges[[60, 60 + height - 1], 60 + right : 60 + right + width] = True
    return edges


def step(right=0):
    """Depth of a box 2 m away before a wall that leans a little, so that no two gradients are equal."""
    row, column = np.mgrid[:120, :160]
    depth = 4 + 1e-3 * column + 5e-4 * row
    box = np.s_[40:90, 50 + right : 100 + right]
    depth[box] = 2 + 1e-3 * row[box]
    return depth


def slow_errors(predicted, edges):
    """The four errors by loops over pairs of pixels."""
    points, truths = np.argwhere(predicted), np.argwhere(edges)
    to_true = [min(math.dist(a, b) for b in truths) for a in points]
    to_predicted = [min(math.dist(a, b) for a in points) for b in truths]
    near = [distance for distance in to_true if distance < 10]
    bounded = [min(distance, 10) for distance in to_true], [min(distance, 10) for distance in to_predicted]
    return {
        "dbe_acc": sum(near) / len(near),
        "dbe_comp": sum(to_predicted) / len(truths),
        "dbe_comp_truncated": (sum(bounded[0]) + sum(bounded[1])) / (len(points) + len(truths)),
        "dbe_comp_directed_truncated": sum(bounded[1]) / len(truths),
    }


@pytest.mark.parametrize("seed", range(4))
def test_against_loops_over_pairs(seed):
    predicted, edges = np.random.default_rng(seed).random((2, 24, 31)) < 0.02
    predicted[:, :12] = False  # so that some true edges are far from every predicted one
    errors = edge_distances(predicted, edges)
    assert errors == pytest.approx(slow_errors(predicted, edges))
    assert tuple(errors) == BOUNDARIES


@pytest.mark.parametrize(("right", "acc", "comp"), [(0, 0.0, 0.0), (3, 1.69, 1.69), (12, 0.62, 6.76)])
def test_an_outline_moved_to_the_side(right, acc, comp):
    errors = edge_distances(outline(180, 140, right), outline(180, 140))
    assert (errors["dbe_acc"], errors["dbe_comp"]) == pytest.approx((acc, comp), abs=0.006)


def test_the_outline_by_hand():
    # 2 * 180 + 2 * 138 = 636 pixels; the 178 between the corners of each upright side lie 3 from the other's level
    # sides or its upright one; of a level side only the ends, the corners among them, lie 3, 2 and 1 away
    errors = edge_distances(outline(180, 140, 3), outline(180, 140))
    uprights = sum(min(3, row) for row in range(90)) * 4  # left and right side, each from both ends
    # the side moved inside comes near a level side at its ends; the one outside only at 3 pixels from the corner
    inside = 2 * sum(min(3, row) for row in range(90))
    outside = 2 * 90 * 3
    ends = 2 * (1 + 2)
    assert uprights == 2 * inside
    assert errors["dbe_acc"] == pytest.approx((inside + outside + ends) / 636)
    assert errors["dbe_acc"] == errors["dbe_comp"] == errors["dbe_comp_truncated"]


def test_a_perfect_prediction_has_no_error():
    assert set(boundary_errors(step(), predicted_edges(step())).values()) == {0.0}


def test_the_accuracy_does_not_see_far_edges_and_v09_has_no_bound():
    errors = edge_distances(outline(60, 60, 150), outline(60, 60) | outline(60, 60, 145))
    assert errors["dbe_comp"] > FARTHEST >= errors["dbe_comp_directed_truncated"]
    far = edge_distances(outline(60, 60, 150) | outline(20, 20), outline(60, 60, 150))
    assert far["dbe_acc"] == 0 < far["dbe_comp_truncated"] <= FARTHEST


def test_one_far_pixel_flattens_all_else():
    depth = step()
    depth[3, 3] = 40
    assert set(boundary_errors(depth, predicted_edges(step())).values()) == {FARTHEST}


def test_scale_and_shift_change_nothing():
    edges = predicted_edges(step())
    assert edges.any()
    np.testing.assert_array_equal(predicted_edges(7 * step() + 3), edges)


def test_the_truncated_error_is_symmetric():
    a, b = outline(50, 40, 4), outline(50, 40)
    assert edge_distances(a, b)["dbe_comp_truncated"] == edge_distances(b, a)["dbe_comp_truncated"]


def test_degenerate_edges():
    nowhere = np.zeros((120, 160), bool)
    assert all(math.isnan(value) for value in boundary_errors(step(), nowhere).values())
    assert set(boundary_errors(np.full((120, 160), 3.0), predicted_edges(step())).values()) == {FARTHEST}
    lonely = nowhere.copy()
    lonely[0, 0] = True  # edges are predicted, none near a true one
    assert set(boundary_errors(step(), lonely).values()) == {FARTHEST}


def test_higher_thresholds_find_fewer_edges():
    soft = step() + np.linspace(0, 0.6, 160) ** 8
    assert predicted_edges(soft, (0.45, 0.5)).sum() < predicted_edges(soft, (0.0, 0.0)).sum()


def test_invalid_input_is_a_one_line_error():
    with pytest.raises(DataError, match=r"0 <= low <= high, found 0\.3 and 0\.1"):
        predicted_edges(step(), (0.3, 0.1))
    with pytest.raises(DataError, match=r"prediction's size \(120, 160\), found \(2, 2\)"):
        boundary_errors(step(), np.ones((2, 2), bool))


HEIGHT, WIDTH = 48, 64
K = np.array([[60.0, 0, 30.25], [0, 58, 22.5], [0, 0, 1]])  # the first pixel is (0, 0)


WALL = np.array([0.48, -0.36, -0.8])  # x right, y down, z forward; towards the camera


FLOOR = np.array([0.0, -1.0, 0.0])


def rays():
    row, column = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([(column - K[0, 2]) / K[0, 0], (row - K[1, 2]) / K[1, 1], np.ones((HEIGHT, WIDTH))])


def room():
    """Depth (H, W), planes (3, H, W) and normals (3, H, W) of a wall that leans, and of a floor before it."""
    wall = -3.0 / np.tensordot(WALL, rays(), 1)
    down = -np.tensordot(FLOOR, rays(), 1)
    floor = np.where(down > 0, 0.8 / np.where(down > 0, down, 1), np.inf)
    is_wall = wall < floor
    planes = np.stack([is_wall, np.zeros_like(is_wall), ~is_wall]).astype(np.int64)
    normals = np.where(is_wall, WALL[:, None, None], FLOOR[:, None, None])
    return np.minimum(wall, floor), planes, normals


def plane_scores(predicted):
    depth, planes, normals = room()
    return plane_errors(predicted, depth, planes, normals, K).set_index("kind")


def authors_errors(predicted, depth, mask, normal):
    """The published recipe for one plane: axes x right, y ahead, z up, pixels from 1, principal components."""
    row, column = np.mgrid[1 : HEIGHT + 1, 1 : WIDTH + 1]
    scaled = predicted * np.median(depth[mask]) / np.median(predicted[mask])
    points = np.stack(
        [(column - K[0, 2] - 1) * scaled / K[0, 0], scaled, -(row - K[1, 2] - 1) * scaled / K[1, 1]], axis=-1
    )[mask]
    axis = np.linalg.svd(points - points.mean(0), full_matrices=False)[2][2]
    truth = np.array([normal[0], normal[2], -normal[1]])
    axis = axis if axis @ truth >= 0 else -axis
    return 100 * np.std(points @ axis), np.degrees(np.arccos(min(axis @ truth, 1)))


def test_against_the_authors_own_axes_and_pixels_from_one():
    depth, planes, _ = room()
    predicted = depth * np.exp(np.random.default_rng(0).normal(0, 0.05, depth.shape)) + 0.1 * rays()[0]
    errors = plane_scores(predicted)
    for kind, mask, normal in (("wall", planes[0] > 0, WALL), ("floor", planes[2] > 0, FLOOR)):
        expected = authors_errors(predicted, depth, mask, normal)
        assert tuple(errors.loc[kind, ["pe_plan", "pe_orie"]]) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("factor", [1.0, 3.0, 0.01])
def test_a_perfect_prediction_has_no_error_whatever_its_scale(factor):
    errors = plane_scores(factor * room()[0])
    assert list(errors.index) == ["wall", "floor"]
    np.testing.assert_allclose(errors[["pe_plan", "pe_orie"]], 0, atol=1e-5)


def facing():
    """A wall straight ahead, 4 m away: depth, planes, normals."""
    planes = np.zeros((3, HEIGHT, WIDTH), np.int64)
    planes[0] = 1
    normals = np.broadcast_to(np.array([0.0, 0, -1])[:, None, None], (3, HEIGHT, WIDTH))
    return np.full((HEIGHT, WIDTH), 4.0), planes, normals


def test_two_centimetres_of_noise_are_two_centimetres():
    depth, planes, normals = facing()
    noise = 0.02 * np.random.default_rng(1).choice([-1.0, 1.0], depth.shape)
    errors = plane_errors(depth + noise, depth, planes, normals, K)
    # the median of two values is one of them, and scales by half a per cent
    assert errors["pe_plan"].item() == pytest.approx(2.00, rel=0.01)
    assert errors["pe_orie"].item() < 0.2


def test_a_tilt_of_five_per_cent_is_its_angle():
    depth, planes, normals = facing()
    tilted = 4 / (1 - 0.05 * rays()[0])  # the plane z = 4 + 0.05 x
    errors = plane_errors(tilted, depth, planes, normals, K)
    assert errors["pe_orie"].item() == pytest.approx(np.degrees(np.arctan(0.05)), abs=1e-6)
    assert errors["pe_orie"].item() == pytest.approx(2.86, abs=0.01)
    assert errors["pe_plan"].item() == pytest.approx(0, abs=1e-6)


def test_the_sign_of_a_normal_does_not_matter():
    depth, planes, normals = facing()
    tilted = 4 / (1 - 0.05 * rays()[0])
    pd = plane_errors(tilted, depth, planes, -normals, K)
    assert pd.equals(plane_errors(tilted, depth, planes, normals, K))


def test_planes_that_do_not_count():
    depth, planes, normals = facing()
    planes[0] = 0
    planes[0, :2] = 1  # 2 of 48 rows: below a twentieth
    assert plane_errors(depth, depth, planes, normals, K).empty
    planes[0, :3] = 2
    assert list(plane_errors(depth, depth, planes, normals, K)["number"]) == [2]


def test_a_plane_that_was_not_measured_is_nan():
    depth, planes, normals = facing()
    errors = plane_errors(depth, np.zeros_like(depth), planes, normals, K)
    assert errors["pixels"].item() == 0
    assert errors[["pe_plan", "pe_orie"]].isna().all(axis=None)
    line = np.where(np.arange(HEIGHT)[:, None] == 5, depth, 0)  # one row of points spans no plane
    assert plane_errors(depth, line, planes, normals, K)[["pe_plan", "pe_orie"]].isna().all(axis=None)


def test_a_size_that_differs_is_a_one_line_error():
    depth, planes, normals = facing()
    with pytest.raises(DataError, match=r"of the depth's size \(48, 64\), found .* and \(2, 2\)"):
        plane_errors(np.ones((2, 2)), depth, planes, normals, K)


def test_directed_by_hand():
    depth = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    predicted = torch.tensor([1.0, 3.5, 3.0, 2.0, 2.9])  # right, too far, right, too near, too near; the last not valid
    valid = torch.tensor([True, True, True, True, False])
    assert directed_errors(predicted, depth, valid) == {"dde_0": 0.5, "dde_m": 0.25, "dde_p": 0.25}
    assert all(np.isnan(value) for value in directed_errors(predicted, depth, valid & False).values())
