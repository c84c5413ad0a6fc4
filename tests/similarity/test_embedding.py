"""Points, their uncertainty and trees, against what they are made from."""

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform

from cka_probe.similarity.embedding import ELLIPSE, classical_mds, cluster, distances, embed, leaves


def cosines(points):
    """Similarities whose distances are those of the points."""
    values = 1 - squareform(pdist(points)) ** 2 / 2
    np.fill_diagonal(values, np.nan)
    return values


def plane(count, scale=0.3, seed=0):
    return scale * np.random.default_rng(seed).standard_normal((count, 2))


def test_distances_in_a_plane_are_kept():
    points = plane(7)
    embedding = embed(cosines(points))
    np.testing.assert_allclose(pdist(embedding.points), pdist(points), atol=1e-12)
    assert embedding.explained == pytest.approx(1)


def test_the_points_are_the_principal_components_of_the_vectors():
    vectors = np.random.default_rng(1).standard_normal((6, 40))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    points, explained = classical_mds(distances(vectors @ vectors.T))
    centred = vectors - vectors.mean(axis=0)
    left, lengths, _ = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(points), np.abs(left[:, :2] * lengths[:2]), atol=1e-10)
    assert explained == pytest.approx((lengths[:2] ** 2).sum() / (lengths**2).sum())


def test_a_model_without_a_similarity_has_no_point():
    values = cosines(plane(5))
    values[3], values[:, 3] = np.nan, np.nan
    embedding = embed(values, np.zeros((4, 5, 5)))
    assert np.isnan(embedding.points[3]).all()
    assert np.isnan(embedding.ellipses()[3]).all()
    others = [0, 1, 2, 4]
    np.testing.assert_allclose(pdist(embedding.points[others]), pdist(plane(5)[others]), atol=1e-12)
    np.testing.assert_allclose(embedding.ellipses()[others, :2], 0, atol=1e-6)


def test_the_ellipses_are_the_noise_of_the_points_and_not_their_rotation():
    points, generator = plane(12), np.random.default_rng(2)
    values, deviations, noise = cosines(points), [], np.zeros((12, 2))
    noise[4] = 0.02, 0.0
    for _ in range(400):
        deviations.append(cosines(points + noise * generator.standard_normal((12, 2))) - values)
    embedding = embed(values, np.array(deviations))
    ellipses = embedding.ellipses()
    assert ellipses[4, 0] == pytest.approx(np.sqrt(ELLIPSE) * 0.02, rel=0.3)
    assert ellipses[4, 1] < 0.3 * ellipses[4, 0]
    assert (ellipses[np.arange(12) != 4, 0] < 0.5 * ellipses[4, 0]).all()


def test_points_are_turned_onto_others():
    points = plane(6)
    values = cosines(points)
    onto = points @ np.array([[0.0, 1.0], [1.0, 0.0]])
    np.testing.assert_allclose(embed(values, onto=onto).points, onto - onto.mean(axis=0), atol=1e-9)


def test_groups_are_next_to_each_other_in_the_tree():
    shift = np.array([0.4, 0.0])
    near = np.concatenate([plane(4, 0.01, 1) + shift, plane(4, 0.01, 2) - shift])[[0, 4, 1, 5, 2, 6, 3, 7]]
    tree = cluster(cosines(near))
    assert tree.shape == (7, 4)
    assert {frozenset(index % 2 for index in half) for half in (leaves(tree)[:4], leaves(tree)[4:])} == {
        frozenset({0}),
        frozenset({1}),
    }
