"""How many images: the root law and the bias, from fingerprints."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from cka_probe import compare_fingerprints, fingerprint
from cka_probe.comparison.advice import advise, extract_until
from cka_probe.errors import DataError


def prints(n=128, batch=16):
    images = torch.randn(n, 8, generator=torch.Generator().manual_seed(3))
    sides = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        sides.append(fingerprint(nn.Sequential(nn.Linear(8, 8), nn.Tanh()), images, layers="*", batch=batch))
    return sides


def test_half_widths_are_those_of_comparisons_and_shrink_with_the_root():
    x, y = prints()
    advice = advise(x, y)
    result = compare_fingerprints(x, y, permutations=0)
    half = (result.high - result.low) / 2
    assert advice.sizes == (16, 32, 64, 128)
    assert (advice.median[-1], advice.widest[-1]) == (np.median(half), half.max())
    assert list(advice.median) == sorted(advice.median, reverse=True)
    assert advice.median[1] / advice.median[3] == pytest.approx(2, rel=0.35)
    assert advice.needed(half.max() / 2) == pytest.approx(4 * 128, abs=1)
    biased = compare_fingerprints(x, y, estimator="biased", permutations=0)
    assert advice.biased[1] == np.abs(biased.values - result.values).max()
    assert advice.bias[1] < advice.widest[-1]
    assert "± 0.01 takes about" in advice.summary()
    assert len(advice.to_frame()) == 4


def test_one_batch_has_no_bias_from_halves():
    advice = advise(*prints(16))
    assert advice.sizes == (16,)
    assert np.isnan(advice.bias).all()


@pytest.mark.parametrize(("most", "total"), [(None, 1000), (400, 1000), (None, 200)])
def test_images_are_added_until_every_interval_is_narrow(most, total):
    counts = []

    def extract(count):
        counts.append(count)
        return tuple(prints(min(count, total), 64))

    (x, y), widest = extract_until(0.08, extract, most=most)
    result = compare_fingerprints(x, y, permutations=0)
    assert widest == ((result.high - result.low) / 2).max()
    assert widest <= 0.08 or len(x.images) == min(total, most or total)
    assert counts[0] == 128
    assert all(2 * one <= other or other == most for one, other in pairwise(counts))


def test_a_half_width_is_above_0():
    with pytest.raises(DataError, match="a half-width above 0"):
        extract_until(0.0, lambda count: tuple(prints(count)))
