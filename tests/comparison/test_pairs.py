"""Different images for x and y, in pairs: the exact CKA, what a result says of them, and fingerprints of pairs."""

import json

import numpy as np
import pytest
import torch
from helpers.comparisons import random_images, small, u_statistic
from torch import nn

import cka_probe
from cka_probe import Backbone, Fingerprint, compare, compare_fingerprints, fingerprint
from cka_probe.comparison.differences import difference
from cka_probe.comparison.results import PAIRED
from cka_probe.comparison.sides import Options, fingerprint_each
from cka_probe.comparison.warnings import atlas_warnings, warnings_for
from cka_probe.errors import CkaProbeError, DataError, FingerprintError


def noisy(images, seed=7):
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(seed))
    return (0.5 * images + 0.5 * noise).double().float()


def by_hand(x, y, images, images_y, batch):
    """Return the unbiased CKA of the last layers, in float64, each side normalised by its own backbone."""
    sides = []
    for backbone, side in ((x, images), (y, images_y)):
        with torch.no_grad():
            inputs = backbone.preprocessing.normalise(side).double()
            sides.append(backbone.model.eval().double()(inputs).numpy())
        backbone.model.float()
    sums = np.zeros(3)
    for start in range(0, len(images), batch):
        k, l = (side[start : start + batch] @ side[start : start + batch].T for side in sides)  # noqa: E741
        sums += u_statistic(k, l), u_statistic(k, k), u_statistic(l, l)
    return sums[0] / np.sqrt(sums[1] * sums[2])


def test_the_exact_cka_of_pairs_each_side_normalised_as_its_model_says():
    x = Backbone(small(0), size=8, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    y = Backbone(small(1), size=8)
    images, images_y = random_images(12), noisy(random_images(12))
    expected = by_hand(x, y, images, images_y, batch=6)
    result = compare(x, y, images, images_y=images_y, layers=["4"], batch=6, permutations=20)
    assert result.values.item() == pytest.approx(expected, abs=1e-6)
    assert result.low.item() < result.values.item() < result.high.item()
    assert np.isfinite(result.null).all()


def test_another_pairing_gives_another_number():
    net, images = small(0), random_images(32)
    images_y = noisy(images)
    paired = compare(net, net, images, images_y=images_y, layers=["4"]).values.item()
    permuted = compare(net, net, images, images_y=images_y.roll(1, dims=0), layers=["4"]).values.item()
    assert paired > permuted + 0.3


def test_one_model_over_other_images_is_not_compared_with_itself():
    net, images = small(0), random_images(32)
    result = compare(net, net, images, images_y=noisy(images), layers=["0", "4"])
    assert (result.values.diagonal() < 0.99).all()
    text = " ".join(warnings_for(result))
    assert "one model over two sets of images" in text
    assert "not informative" not in text
    same = compare(net, net, images, images_y=images, layers=["0", "4"])
    assert same.values.diagonal() == pytest.approx(1)
    assert (same.pairing, compare(net, net, images, images_y=images.clone(), layers=["0"]).pairing) == ("", "")


def test_a_result_records_the_images_of_both_and_says_how_they_were_paired(tmp_path):
    images, images_y = random_images(), noisy(random_images())
    x, y = cka_probe.fingerprints(small(0), small(1), images, images_y=images_y, layers=["0"])
    result = compare_fingerprints(x, y)
    assert result.images_hashes == (x.images_hash, y.images_hash)
    assert x.images_hash == fingerprint(small(0), images, layers=["0"]).images_hash
    assert y.images_hash == fingerprint(small(0), images_y, layers=["0"]).images_hash
    assert "32 pairs of images, x from a tensor and y from a tensor, paired by order" in result.summary()
    assert "by order, and nothing shows that they belong together" in " ".join(warnings_for(result))
    document = json.loads(result.save(tmp_path / "result.json").read_text())["images"]
    assert (document["hash_y"], document["source_y"], document["pairing"]) == (y.images_hash, "a tensor", "order")


def test_undefined_layers_and_small_last_batches_are_as_with_the_same_images():
    x = small(0)
    nn.init.zeros_(x[4].weight)
    result = compare(x, small(1), random_images(35), images_y=noisy(random_images(35)), layers=["0", "4"], batch=16)
    assert result.terms["weights"].tolist() == [16, 19]
    assert result.undefined == ("x 4: it is the same for every image",)
    assert np.isnan(result.values[1]).all()


def test_fingerprints_that_were_made_as_a_pair_may_be_compared_and_others_may_not(tmp_path):
    images, images_y = random_images(), noisy(random_images())
    options = {"layers": ["0", "4"], "batch": 8}
    live = compare(small(0), small(1), images, images_y=images_y, **options)
    sides = cka_probe.fingerprints(small(0), small(1), images, images_y=images_y, **options)
    paths = [side.save(tmp_path / f"{name}.fingerprint") for name, side in zip("xy", sides, strict=True)]
    stored = compare(*paths)
    np.testing.assert_array_equal(stored.values, live.values)
    assert stored.pairing == live.pairing == "order"
    assert compare(*reversed(paths)).pairing == "order"
    alone = fingerprint(small(2), images, **options)
    np.testing.assert_array_equal(
        compare(alone, paths[1]).values, compare(small(2), small(1), images, images_y=images_y, **options).values
    )
    other = fingerprint(small(1), noisy(images, seed=8), **options)
    with pytest.raises(FingerprintError, match=r"different images: 32 from .*, 0 in common; .*--pair order"):
        compare(paths[0], other)
    assert compare(paths[0], other, pair="order").pairing == "order"
    mixed = compare(paths[0], small(1), images, images_y=images_y, layers_y=["0", "4"])
    np.testing.assert_array_equal(mixed.values, live.values)
    with pytest.raises(FingerprintError, match="of different images"):
        compare(paths[0], small(1), images.flip(0), images_y=images_y.flip(0), layers_y=["0", "4"])


def test_a_damaged_partner_is_a_damaged_fingerprint(tmp_path):
    x, _ = cka_probe.fingerprints(small(0), small(1), random_images(), images_y=noisy(random_images()), layers=["0"])
    path = x.save(tmp_path / "x.fingerprint")
    assert Fingerprint.load(path).partner == x.partner
    length = int.from_bytes(path.read_bytes()[:8], "little")
    content = path.read_bytes()
    header = content[8 : 8 + length].replace(b"pairing", b"parings")
    path.write_bytes(content[:8] + header + content[8 + length :])
    with pytest.raises(FingerprintError, match="a damaged one"):
        Fingerprint.load(path)


def test_several_models_over_clean_and_noisy_images_are_one_atlas():
    images, images_y = random_images(), noisy(random_images())
    pairs = [
        cka_probe.fingerprints(net, net, images, images_y=images_y, layers=["0"], batch=16)
        for net in (small(0), small(1))
    ]
    atlas = cka_probe.compare_many({"a": pairs[0][0], "b": pairs[1][0], "b noisy": pairs[1][1]}, permutations=5)
    assert [result.pairing for result in atlas.results.values()] == ["", "order", "order"]
    assert "a tensor (a, b, b noisy), paired by order" in atlas.summary()
    assert any("nothing shows that they belong together" in warning for warning in atlas_warnings(atlas))


def test_two_differences_over_the_same_pairs_are_paired():
    images, images_y = random_images(64), noisy(random_images(64))
    first, second = (
        cka_probe.fingerprints(net, net, images, images_y=images_y, layers=["0"], batch=16)
        for net in (small(0), small(1))
    )
    assert difference(first, second).how == PAIRED


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": None}, r"images of y were given and none of x.*--data"),
        ({"images_y": None, "pair": "order"}, r"expected other images of y \(--data-y\) to pair by order, found none"),
        ({"pair": "name"}, "expected names of images to pair them by, found a tensor"),
        ({"images_y": random_images(31)}, "found 32 in a tensor and 31 in a tensor"),
        ({"pair": "rank"}, "no pairing 'rank'"),
    ],
)
def test_images_that_cannot_be_paired_are_one_line(arguments, message):
    images = {"images": random_images(), "images_y": noisy(random_images()), "layers": ["0"]}
    with pytest.raises(CkaProbeError, match=message):
        compare(small(0), small(1), **images | arguments)


def test_features_are_paired_by_row_and_take_no_images():
    with pytest.raises(DataError, match="expected features on both sides and no images"):
        compare(torch.rand(8, 3), torch.rand(8, 3), images_y=random_images(8))


def test_several_models_are_checked_for_images_before_one_is_loaded():
    with pytest.raises(DataError, match="a model was given and no images"):
        fingerprint_each(["nowhere.pth", "random:resnet18", "random:resnet18:1"], options=Options(num=8))
