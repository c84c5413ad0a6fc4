"""Depth boundary errors: hand-worked outlines, a slow plain reference, invariances, what is degenerate."""

import math

import numpy as np
import pytest

from cka_probe.errors import DataError
from cka_probe.lab.evaluation.ibims1_errors import (
    BOUNDARIES,
    FARTHEST,
    boundary_errors,
    edge_distances,
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
    places, truths = np.argwhere(predicted), np.argwhere(edges)
    to_true = [min(math.dist(a, b) for b in truths) for a in places]
    to_predicted = [min(math.dist(a, b) for a in places) for b in truths]
    near = [distance for distance in to_true if distance < 10]
    bounded = [min(distance, 10) for distance in to_true], [min(distance, 10) for distance in to_predicted]
    return {
        "dbe_acc": sum(near) / len(near),
        "dbe_comp": sum(to_predicted) / len(truths),
        "dbe_comp_truncated": (sum(bounded[0]) + sum(bounded[1])) / (len(places) + len(truths)),
        "dbe_comp_directed_truncated": sum(bounded[1]) / len(truths),
    }


@pytest.mark.parametrize("seed", range(4))
def test_against_loops_over_pairs(seed):
    predicted, edges = np.random.default_rng(seed).random((2, 24, 31)) < 0.02
    predicted[:, :12] = False  # so that some true edges are far from every predicted one
    found = edge_distances(predicted, edges)
    assert found == pytest.approx(slow_errors(predicted, edges))
    assert tuple(found) == BOUNDARIES


@pytest.mark.parametrize(("right", "acc", "comp"), [(0, 0.0, 0.0), (3, 1.69, 1.69), (12, 0.62, 6.76)])
def test_an_outline_moved_to_the_side(right, acc, comp):
    found = edge_distances(outline(180, 140, right), outline(180, 140))
    assert (found["dbe_acc"], found["dbe_comp"]) == pytest.approx((acc, comp), abs=0.006)


def test_the_outline_by_hand():
    # 2 * 180 + 2 * 138 = 636 pixels; the 178 between the corners of each upright side lie 3 from the other's level
    # sides or its upright one; of a level side only the ends, the corners among them, lie 3, 2 and 1 away
    found = edge_distances(outline(180, 140, 3), outline(180, 140))
    uprights = sum(min(3, row) for row in range(90)) * 4  # left and right side, each from both ends
    # the side moved inside comes near a level side at its ends; the one outside only at 3 pixels from the corner
    inside = 2 * sum(min(3, row) for row in range(90))
    outside = 2 * 90 * 3
    ends = 2 * (1 + 2)
    assert uprights == 2 * inside
    assert found["dbe_acc"] == pytest.approx((inside + outside + ends) / 636)
    assert found["dbe_acc"] == found["dbe_comp"] == found["dbe_comp_truncated"]


def test_a_perfect_prediction_has_no_error():
    assert set(boundary_errors(step(), predicted_edges(step())).values()) == {0.0}


def test_the_accuracy_does_not_see_far_edges_and_v09_has_no_bound():
    found = edge_distances(outline(60, 60, 150), outline(60, 60) | outline(60, 60, 145))
    assert found["dbe_comp"] > FARTHEST >= found["dbe_comp_directed_truncated"]
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


def test_both_ways_is_symmetric():
    a, b = outline(50, 40, 4), outline(50, 40)
    assert edge_distances(a, b)["dbe_comp_truncated"] == edge_distances(b, a)["dbe_comp_truncated"]


def test_what_is_degenerate():
    nowhere = np.zeros((120, 160), bool)
    assert all(math.isnan(value) for value in boundary_errors(step(), nowhere).values())
    assert set(boundary_errors(np.full((120, 160), 3.0), predicted_edges(step())).values()) == {FARTHEST}
    lonely = nowhere.copy()
    lonely[0, 0] = True  # edges are predicted, none near a true one
    assert set(boundary_errors(step(), lonely).values()) == {FARTHEST}


def test_higher_thresholds_find_fewer_edges():
    soft = step() + np.linspace(0, 0.6, 160) ** 8
    assert predicted_edges(soft, (0.45, 0.5)).sum() < predicted_edges(soft, (0.0, 0.0)).sum()


def test_bad_input_is_one_line():
    with pytest.raises(DataError, match=r"0 <= low <= high, found 0\.3 and 0\.1"):
        predicted_edges(step(), (0.3, 0.1))
    with pytest.raises(DataError, match=r"prediction's size \(120, 160\), found \(2, 2\)"):
        boundary_errors(step(), np.ones((2, 2), bool))
