"""Several trainings of each side: their mean, what is said of it, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.prints import normal, print_of

from cka_probe import SimilarityMatrix, compare_fingerprints
from cka_probe.comparison.seeds import compare_seeds
from cka_probe.comparison.warnings import warnings_for
from cka_probe.errors import DataError, FingerprintError
from cka_probe.report.comparison import read

IMAGES = normal(32, 6)


def trainings(recipe, count, **options):
    """Fingerprints of models with two layers that see the images with noise of their own."""
    noise = [normal(2, 32, 6, seed=ord(recipe) + 100 * number) for number in range(count)]
    return [print_of([*(IMAGES + part)], 16, name=f"{recipe}{i}.pth", **options) for i, part in enumerate(noise)]


def test_a_cell_is_the_mean_over_all_pairs_of_trainings():
    a, b = trainings("a", 3), trainings("b", 2)
    result = compare_seeds(a, b)
    pairs = [compare_fingerprints(x, y, permutations=0).values for x in a for y in b]
    np.testing.assert_allclose(result.values, np.mean(pairs, axis=0), atol=1e-12)
    assert (result.low < result.values).all()
    assert (result.high > result.values).all()
    assert result.settings["trainings"] == [["a0.pth", "a1.pth", "a2.pth"], ["b0.pth", "b1.pth"]]
    assert "mean unbiased CKA of 3 x 2 pairs of trainings" in result.summary()
    assert "null" not in result.summary()
    assert "null" in compare_fingerprints(a[0], b[0], permutations=20).summary()
    other = compare_seeds(a[::-1], b[::-1])
    np.testing.assert_allclose(other.low, result.low, atol=1e-12)


def test_trainings_of_one_recipe_are_compared_with_each_other_but_not_with_themselves():
    a = trainings("a", 4)
    result = compare_seeds(a)
    pairs = [compare_fingerprints(x, y, permutations=0).values for x in a for y in a if x is not y]
    np.testing.assert_allclose(result.values, np.mean(pairs, axis=0), atol=1e-12)
    np.testing.assert_allclose(result.low, result.low.T, atol=1e-12)
    assert "all 6 pairs of 4 trainings" in result.summary()
    assert not any("same weights" in text for text in warnings_for(result))


def test_a_result_of_trainings_is_saved_and_says_what_it_is_not(tmp_path):
    result = compare_seeds(trainings("a", 3), trainings("b", 1))
    assert "nothing about other trainings of y" in " ".join(warnings_for(result))
    loaded = SimilarityMatrix.load(result.save(tmp_path / "result.json"))
    assert loaded.summary() == result.summary()
    assert "CKA, unbiased, mean of 3 x 1 pairs of trainings, of 2 layers of x" in read(tmp_path).subtitle
    assert "wider than necessary" in " ".join(warnings_for(compare_seeds(trainings("a", 3))))


def test_a_layer_that_one_training_leaves_undefined_is_undefined():
    a, b = trainings("a", 2), trainings("b", 2)
    a[1] = replace(a[1], undefined=("it is the same for every image", ""))
    result = compare_seeds(a, b)
    assert np.isnan(result.values).tolist() == [[True, True], [False, False]]
    assert result.rows[0].undefined == "it is the same for every image"
    assert np.isfinite(result.low[1]).all()


def test_what_is_no_set_of_trainings_is_refused():
    a, b = trainings("a", 3), trainings("b", 2)
    for x, y, text in (
        (a[:2], None, "at least three trainings of one recipe, found 2"),
        (a[:1], b[:1], "at least two trainings on a side"),
        (a, [], "found 3 and 0"),
        (a, a[:2], "the same weights in a0.pth and a0.pth"),
    ):
        with pytest.raises(DataError, match=text):
            compare_seeds(x, y)
    with pytest.raises(DataError, match=r"the same layers .* a0.pth and net"):
        compare_seeds([a[0], print_of([IMAGES], 16)], b)
    with pytest.raises(FingerprintError):
        compare_seeds(a, trainings("b", 2, images="other"))
