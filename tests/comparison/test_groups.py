"""Copies and groups of images: that they are noticed, merged, and the unit of intervals and null."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.prints import normal, print_of

from cka_probe import compare, compare_fingerprints, fingerprint
from cka_probe.comparison.groups import duplicates, group_labels
from cka_probe.comparison.warnings import warnings_for
from cka_probe.errors import DataError


def pair(features, other, batch, hashes=None):
    """Fingerprints of two models with one layer each, of the same images."""
    sides = [print_of([z], batch, name=name) for z, name in ((features, "x"), (other, "y"))]
    return [replace(side, images=tuple(hashes)) for side in sides] if hashes else sides


def test_copies_are_named_in_the_result_and_the_warning():
    x, y = (normal(8, 20, seed=seed).repeat(2, 1) for seed in (0, 1))
    result = compare_fingerprints(*pair(x, y, 16, [f"image {i % 8}" for i in range(16)]), permutations=9)
    assert result.images["copies"]["exact"] == [[i, i + 8] for i in range(8)]
    assert "near" not in result.images["copies"]
    (warning,) = (text for text in warnings_for(result) if "copies" in text)
    assert warning.startswith("8 images are exact copies of others (numbers, from 0: 0, 8; 1, 9; 2, 10; and 5 more")
    assert "--merge-duplicates" in warning


def test_copies_in_a_folder_are_named_by_their_files(tmp_path):
    from PIL import Image

    for number in range(12):
        pixels = np.random.default_rng(number if number != 7 else 3).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number:02}.png")
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 6))
    result = compare(net, net, str(tmp_path), layers="1", size=8, permutations=0)
    (numbers,) = result.images["copies"]["exact"]
    assert {result.images["copies"]["names"][str(number)] for number in numbers} == {"03.png", "07.png"}
    (warning,) = (text for text in warnings_for(result) if "is an exact copy of another" in text)
    assert "03.png" in warning
    assert "numbers, from 0" not in warning


def test_copies_and_groups_are_named_past_unreadable_files(tmp_path):
    from PIL import Image

    for number in range(12):
        pixels = np.random.default_rng(number if number != 7 else 3).integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number:02}.png")
    for name in ("00 broken.png", "05 broken.png", "09 broken.png"):
        (tmp_path / name).write_bytes(b"no image")
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 6))
    result = compare(net, net, str(tmp_path), layers="1", size=8, permutations=0, skip_bad=True)
    assert set(result.images["copies"]["names"].values()) == {"03.png", "07.png"}
    side = fingerprint(net, str(tmp_path), layers="1", size=8, skip_bad=True)
    assert group_labels("folder", str(tmp_path), num=None, seed=0, hashes=side.images) == ["."] * 12
    Image.new("RGB", (8, 8)).save(tmp_path / "08.png")
    with pytest.raises(DataError, match="expected the 12 images that were compared, in their order, found another"):
        group_labels("folder", str(tmp_path), num=None, seed=0, hashes=side.images)


def test_near_copies_are_found_in_a_batch_by_their_distances():
    x, y = normal(20, 30), normal(20, 30, seed=1)
    for features in (x, y):
        features[[7, 12]] = features[3] + 0.01 * normal(2, 30, seed=9)
    assert duplicates(*pair(x, y, 20)) == {"near": [[3, 7, 12]]}
    y[7] = normal(1, 30, seed=5)  # alike for one model only
    assert duplicates(*pair(x, y, 20)) == {"near": [[3, 12]]}


@pytest.mark.parametrize("features", [1, 2, 50])
def test_images_that_vary_in_few_directions_are_no_near_copies(features):
    assert duplicates(*pair(normal(64, features), normal(64, features, seed=1), 64)) == {}


def test_merged_copies_give_the_result_without_them():
    x, y = normal(40, 12), normal(40, 12, seed=1) + normal(40, 12)
    rows = [*range(40), *range(8)]
    merged = compare_fingerprints(*pair(x[rows], y[rows], 48, [str(i) for i in rows]), merge_duplicates=True)
    expected = compare_fingerprints(*pair(x, y, 40, [str(i) for i in range(40)]))
    np.testing.assert_allclose(merged.values, expected.values, atol=1e-12)
    np.testing.assert_allclose(merged.low, expected.low, atol=1e-9)
    assert merged.num_examples == 40
    assert any("One of each group was used" in text for text in warnings_for(merged))


def test_unrelated_models_of_copied_images_are_unrelated_only_with_groups():
    """16 images, four times each: without groups the null always rejects."""
    above, rejected = {"groups": 0, "images": 0}, {"groups": 0, "images": 0}
    for seed in range(30):
        x, y = (normal(16, 40, seed=2 * seed + side).repeat_interleave(4, 0) for side in (0, 1))
        sides = pair(x, y, 64)
        for name, labels in (("groups", [i // 4 for i in range(64)]), ("images", None)):
            result = compare_fingerprints(*sides, groups=labels, permutations=99)
            above[name] += result.low[0, 0] > 0
            rejected[name] += result.p_values[0, 0] <= 0.05
    assert above["images"] == rejected["images"] == 30
    assert above["groups"] <= 4
    assert rejected["groups"] <= 5


def test_groups_in_several_batches_have_intervals_and_no_null():
    x = normal(64, 20)
    result = compare_fingerprints(*pair(x, x + normal(64, 20, seed=1), 32), groups=[i % 16 for i in range(64)])
    assert np.isfinite(result.low).all()
    assert np.isnan(result.null).all()
    assert any("There is no null" in text for text in warnings_for(result))


def test_groups_that_are_not_those_of_the_images(tmp_path):
    sides = pair(normal(16, 4), normal(16, 4, seed=1), 16)
    with pytest.raises(DataError, match="16 images, found 3 groups"):
        compare_fingerprints(*sides, groups=[0, 1, 2])
    with pytest.raises(DataError, match="at least 4 groups of images in each batch, found 2"):
        compare_fingerprints(*sides, groups=[0, 1] * 8)
    with pytest.raises(DataError, match="unbiased cka for groups"):
        compare_fingerprints(*sides, groups=[*range(16)], measure="rsa")


def test_labels_of_a_folder_and_of_a_file(tmp_path):
    from PIL import Image

    for name in ("a/1.png", "a/2.png", "b/3.png", "b/4.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    labels = group_labels("folder", str(tmp_path), num=None, seed=0)
    assert sorted(labels) == ["a", "a", "b", "b"]
    file = tmp_path / "groups.csv"
    file.write_text("name,group\na/1.png,r\na/2,r\nb/3.png,s\nb/4.png,t\n")
    assert sorted(group_labels(str(file), str(tmp_path), num=None, seed=0)) == ["r", "r", "s", "t"]
    file.write_text("name,group\na/1.png,r\n")
    with pytest.raises(DataError, match="the group of each image"):
        group_labels(str(file), str(tmp_path), num=None, seed=0)


def test_the_largest_cell_and_all_cells_together():
    x = torch.randn(64, 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    result = compare_fingerprints(*pair(x, x + normal(64, 12, seed=1), 32))
    family = result.family
    assert family["max"] == family["mean"]  # of one cell
    assert family["p_values"][0, 0] == family["max"]["p_value"] == result.p_values[0, 0]
    tau, value = family["max"]["tau"], result.values[0, 0]
    assert result.calibrated[0, 0] == pytest.approx((value - tau) / (1 - tau))
    assert family["low"][0, 0] == pytest.approx(result.low[0, 0], abs=0.06)
    assert "largest cell" in result.summary()
    assert {"band_low", "band_high", "p_family", "calibrated"} <= set(result.to_frame().columns)
