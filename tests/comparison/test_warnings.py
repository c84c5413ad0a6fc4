"""What a comparison is said to lack: each sentence where it is true, and none where it is not."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.prints import normal, print_of

from cka_probe import compare_fingerprints
from cka_probe.comparison.results import Side
from cka_probe.comparison.warnings import unrelated_biased, warnings_for


def compared(n=64, batch=32, measure="cka", estimator="unbiased", permutations=19, features=(6, 6), same=0.97):
    """Two models of two layers, nearly the same on every image, so that there is nothing to warn of."""
    x = [normal(n, p, seed=i) for i, p in enumerate(features)]
    y = [same * z + (1 - same**2) ** 0.5 * normal(*z.shape, seed=10 + i) for i, z in enumerate(x)]
    x[1], y[1] = x[0] @ normal(6, 6, seed=5), y[0] @ normal(6, 6, seed=5)
    prints = print_of(x, batch, name="a"), print_of(y, batch, name="b")
    return compare_fingerprints(*prints, measure=measure, estimator=estimator, permutations=permutations)


@pytest.fixture(scope="module")
def sound():
    return compared(n=256, batch=64)


def told(result):
    """Return the only warning of a result."""
    (sentence,) = warnings_for(result)
    return sentence


def test_nothing_is_said_of_a_sound_comparison(sound):
    assert warnings_for(sound) == ()


def test_undefined_layers_are_counted_named_and_explained(sound):
    rows = (replace(sound.rows[0], undefined="it is exactly 0 for every image"), sound.rows[1])
    assert told(replace(sound, rows=rows)) == (
        "1 of 2 layers has no similarity in x (layer 0). Why: it is exactly 0 for every image."
    )
    both = tuple(replace(axis, undefined="it is the same") for axis in sound.rows)
    assert "2 of 2 layers have no similarity in y (layer 0, layer 1)" in told(replace(sound, columns=both))


@pytest.mark.parametrize(("n", "p", "q"), [(32, 100, 100), (64, 20, 300), (16, 500, 40)])
def test_the_floor_of_the_biased_estimator_is_what_unrelated_features_score(n, p, q):
    values = [
        compare_fingerprints(
            print_of([normal(2 * n, p, seed=2 * s)], n),
            print_of([normal(2 * n, q, seed=2 * s + 1)], n),
            estimator="biased",
            permutations=0,
        ).values.item()
        for s in range(12)
    ]
    assert np.mean(values) == pytest.approx(unrelated_biased(p, q, [n, n]), abs=0.01)
    assert unrelated_biased(p, p, [n]) == pytest.approx(p / (p + n))


def test_the_floor_is_of_the_batch_and_stands_beside_the_null():
    result = compared(n=256, batch=64, estimator="biased")
    sentence = told(result)
    assert "in batches of 64 images" in sentence
    assert f"would score {6 / 70:.2f}." in sentence
    assert f"with permuted images reach {np.median(result.null):.2f} (median over cells)" in sentence
    assert "would score" not in told(replace(result, settings={**result.settings, "features": "gap"}))
    old = replace(result, rows=tuple(replace(axis, shape=()) for axis in result.rows))
    assert "would score" not in told(old)


def test_cells_that_chance_could_have_given_are_counted(sound):
    null = sound.null.copy()
    null[0] = 2.0
    assert "2 of 4 cells are not above what permuted images reach (the 95 % quantile of 19" in told(
        replace(sound, null=null)
    )
    assert "No images were permuted" in told(compared(n=256, batch=64, permutations=0))


def test_wide_intervals_say_how_many_images_would_help(sound):
    wide = replace(sound, low=sound.values - 0.08, high=sound.values + 0.08)
    assert told(wide) == (
        "Values are uncertain by ±0.08 (95 %, median over cells) with 256 images; four times as many, 1024, would "
        "about halve that."
    )
    few = warnings_for(compared(n=32, batch=16))
    assert any("The intervals themselves are rough: there are 32 images" in sentence for sentence in few)


def test_four_times_as_many_images_halve_the_interval():
    def width(n):
        result = compared(n=n, batch=32, same=0.7, permutations=0)
        return np.median(result.high - result.low)

    assert width(1024) == pytest.approx(width(256) / 2, rel=0.2)


def test_measures_that_depend_on_the_batch_say_so():
    result = compared(n=272, batch=64, measure="rsa")
    assert told(result) == (
        "RSA (Spearman) is a mean over batches of 16 to 64 images and depends on that number; compare it only with "
        "values from batches of the same size."
    )


def test_tokens_are_wide(sound):
    assert "take the image as the unit" in told(replace(sound, settings={**sound.settings, "features": "tokens"}))


def test_sides_that_are_fed_differently(sound):
    fed = {"size": [192, 192], "mean": [0.5], "std": [0.25]}
    sized = replace(sound, y=replace(sound.y, preprocessing={**sound.y.preprocessing, "size": [192, 192]}))
    assert "x at the images' own and y at 192x192 pixels. This may" in told(sized)
    both = told(replace(sound, y=replace(sound.y, preprocessing=fed)))
    assert "x with mean 0 and std 1, y with mean 0.5 and std 0.25, though they are the same architecture" in both
    coarse = told(replace(sound, settings={**sound.settings, "precision_y": "bfloat16"}))
    assert coarse.startswith("The models get the same images differently: x in float32 and y in bfloat16. This may")
    other = Side("b", "another network", "b", {**sound.y.preprocessing, "mean": [0.5]})
    assert warnings_for(replace(sound, y=other)) == ()


def test_a_model_with_itself(sound):
    same = replace(sound, y=sound.x)
    assert told(same).endswith("one model. Its diagonal compares each layer with itself and is not informative.")
    turned = replace(same, columns=sound.columns[::-1])
    assert told(turned) == "Both sides have the same weights: this compares the layers of one model."


def test_a_layer_that_hardly_varies(sound):
    third = replace(sound.rows[0], rms=1.0)
    rows = (replace(sound.rows[0], rms=2e-6), replace(sound.rows[1], rms=1.0), third)
    assert told(replace(sound, rows=rows)) == (
        "layer 0 of x varies over the images by as little as 2.0e-06, the median layer by 1.0e+00; its "
        "similarity may be that of noise."
    )


def test_images_that_were_left_out(sound):
    images = {**sound.images, "skipped": ["a.png: unreadable"]}
    assert told(replace(sound, images=images)) == "1 unreadable image was left out; 256 were compared."


def test_results_of_before_there_was_a_choice_of_measure(sound):
    settings = {name: sound.settings[name] for name in sound.settings if name not in ("measure", "title", "range")}
    old = replace(sound, settings=settings)
    assert warnings_for(old) == ()
    assert "unbiased CKA over 256 images" in old.summary()
    assert torch.is_tensor(torch.tensor(old.values))
