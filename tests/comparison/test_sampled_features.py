import pytest
import torch
from helpers.prints import normal
from torch import nn

from cka_probe import cka, compare, compare_fingerprints, difference, fingerprint, fingerprints
from cka_probe.comparison.fingerprint import Fingerprint
from cka_probe.comparison.shards import join_shards
from cka_probe.errors import DataError, FingerprintError


def net(seed, width=64):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(10, width), nn.ReLU(), nn.Linear(width, 40), nn.Linear(40, 8))


ROWS = normal(48, 10).float()
LAYERS = ["1", "2"]


def test_more_features_than_there_are_change_nothing():
    x, y = net(0), net(1)
    whole = compare(x, y, ROWS, layers=LAYERS, batch=16, permutations=5)
    sampled = compare(x, y, ROWS, layers=LAYERS, batch=16, permutations=5, num_features=64)
    assert sampled.values == pytest.approx(whole.values, abs=1e-5)
    assert sampled.null == pytest.approx(whole.null, abs=1e-5)
    assert sampled.settings["num_features"] == 64
    assert whole.settings["num_features"] is None


def test_a_sample_is_near_the_whole_and_says_so():
    x, y = net(0, 4000), net(1, 4000)
    whole = compare(x, y, ROWS, layers=["1"], batch=48, permutations=0)
    sampled = compare(x, y, ROWS, layers=["1"], batch=48, permutations=0, num_features=512)
    assert sampled.low[0, 0] <= whole.values[0, 0] <= sampled.high[0, 0]
    assert sampled.values[0, 0] == pytest.approx(whole.values[0, 0], abs=0.1)


def test_fingerprints_keep_the_sample(tmp_path):
    print_ = fingerprint(net(0), ROWS, layers=[*LAYERS, "3"], batch=16, num_features=16)
    again = Fingerprint.load(print_.save(tmp_path / "a.fingerprint"))
    assert again.sample.totals == (64, 40, 8)
    assert again.sample.counts == (16, 16, 8)
    for batch, expected in zip(again.sample.values, print_.sample.values, strict=True):
        assert all(torch.equal(layer, other) for layer, other in zip(batch, expected, strict=True))
    assert again.subset(print_.layers).sample.totals == (64, 40, 8)
    result = compare_fingerprints(print_, again, estimator="doubly_unbiased", permutations=0)
    assert result.values.diagonal() == pytest.approx(1)
    assert result.settings["estimator"] == "doubly_unbiased"


def test_shards_are_joined_with_their_samples():
    options = {"layers": LAYERS, "batch": 8, "num_features": 16}
    whole = fingerprint(net(0), ROWS, **options)
    joined = join_shards([fingerprint(net(0), ROWS, shard=f"{part}/2", **options) for part in (1, 2)])
    for batch, expected in zip(joined.sample.values, whole.sample.values, strict=True):
        assert all(torch.equal(layer, other) for layer, other in zip(batch, expected, strict=True))


def test_arrays_of_a_sample_of_features():
    latent = normal(200, 20)
    x, y = latent @ normal(20, 24, seed=1), latent @ normal(20, 30, seed=2)
    value, low, high = cka(x, y, estimator="doubly_unbiased", interval=True)
    assert cka(x, y) < 0.75
    assert low < 1 <= high
    assert value == pytest.approx(1, abs=0.15)
    assert cka(x, x, estimator="doubly_unbiased") == pytest.approx(1)


def test_what_is_not_defined_is_refused():
    with pytest.raises(DataError, match=r"expected the number of features to sample \(--num-features\) for doubly"):
        compare(net(0), net(1), ROWS, estimator="doubly_unbiased")
    for options in ({"measure": "rsa"}, {"estimator": "biased"}):
        with pytest.raises(DataError, match="expected unbiased or doubly_unbiased cka of sampled features"):
            compare(net(0), net(1), ROWS, num_features=16, **options)
    with pytest.raises(DataError, match="expected batches of a number of images for --num-features, found all"):
        compare(net(0), net(1), ROWS, num_features=16, batch="all")
    with pytest.raises(DataError, match="expected --num-features of at least 16, found 3"):
        fingerprint(net(0), ROWS, num_features=3)
    with pytest.raises(DataError, match="expected features flatten or gap with --num-features, found tokens"):
        fingerprint(net(0), ROWS, num_features=16, features="tokens")
    x, y = fingerprints(net(0), net(1), ROWS, layers=LAYERS, batch=16, num_features=16)
    whole = fingerprint(net(1), ROWS, layers=LAYERS, batch=16)
    with pytest.raises(FingerprintError, match="x was made with --num-features 16, y of all features"):
        compare_fingerprints(x, whole)
    with pytest.raises(FingerprintError, match=r"found samples \(--num-features 16\), which only compare"):
        difference((x, y), (x, y))
    with pytest.raises(DataError, match="expected all features for groups and merge_duplicates"):
        compare_fingerprints(x, y, merge_duplicates=True)
    with pytest.raises(DataError, match="expected the number of features to sample"):
        compare_fingerprints(whole, whole, estimator="doubly_unbiased")
