"""Holm's correction."""

import numpy as np

from cka_probe.similarity.resampling import holm


def test_by_hand_and_its_properties():
    np.testing.assert_allclose(holm(np.array([0.01, np.nan, 0.04, 0.03])), [0.03, np.nan, 0.06, 0.06])
    p = np.random.default_rng(0).uniform(size=12)
    corrected = holm(p)
    assert (corrected >= p).all()
    assert corrected.max() <= 1
    assert (np.diff(corrected[np.argsort(p)]) >= 0).all()
    assert holm(np.empty(0)).shape == (0,)
    assert holm(np.array([0.02])) == [0.02]


def test_it_rejects_from_the_least_on_until_one_holds():
    p = np.array([[0.012, 0.04], [0.005, np.nan]])
    np.testing.assert_array_equal(holm(p) <= 0.05, [[True, True], [True, False]])
    np.testing.assert_array_equal(holm(np.array([0.03, 0.03])) <= 0.05, [False, False])
    assert not (holm(np.full(3, np.nan)) <= 0.05).any()
