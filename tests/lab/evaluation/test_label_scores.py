"""Label scores: measures against a loop over pixels' counts, intervals against a slow bootstrap, files, words."""

import json
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from cka_probe.errors import DataError, UnknownNameError
from cka_probe.lab.evaluation.label_scores import LABEL_MEASURES, LabelScores, describe_label_measure
from cka_probe.lab.evaluation.segmentation import intersection_over_union, mean_iou, pixel_accuracy

MODEL = {"reference": "a.safetensors", "stage": "segment", "task": "segmentation", "architecture": "resnet18"}
SETTINGS = {"resolution": "image", "flip_test": False, "resamples": 400, "seed": 1}


def scores(seed=0, num=12, classes=5, absent=1, subset=(0, 2), noise=0.4, **settings):
    """Confusions of random images: class 3 is in few of them, neither true nor predicted in the others."""
    random = np.random.default_rng(seed)
    present = random.random((num, classes, 1)) < np.array([1, 1, 0.9, 0.3, 0.8])[:classes, None]
    confusion = random.integers(0, 40, (num, classes, classes)) * present * present.swapaxes(1, 2) * float(noise)
    confusion += np.eye(classes) * random.integers(20, 300, (num, classes, 1)) * present
    confusion = confusion.astype(np.int64)
    if absent:
        confusion[:, -absent:], confusion[..., -absent:] = 0, 0
    return LabelScores(
        confusion,
        random.gamma(2, 0.3, num),
        tuple(f"küche/{number:03d}.png" for number in range(num)),
        ("road", "side walk", "car", "rider", "train")[:classes],
        subset,
        MODEL,
        {"source": "kitti_semantics:streets", "hash": "ab", "num": num},
        SETTINGS | settings,
        {"torch": "2.6"},
    )


def slow(result, indices):
    """Every measure of some images, each as often as it is named."""
    summed = torch.from_numpy(sum(result.confusion[index] for index in indices))
    each = [torch.from_numpy(result.confusion[index]) for index in indices]
    subset = list(result.subset)

    def mean(values):
        values = [float(value) for value in values if not np.isnan(float(value))]
        return sum(values) / len(values) if values else np.nan

    return [
        mean_iou(summed).item(),
        mean_iou(summed, subset).item(),
        mean(mean_iou(matrix) for matrix in each),
        mean(mean_iou(matrix, subset) for matrix in each),
        pixel_accuracy(summed).item(),
        mean(pixel_accuracy(matrix) for matrix in each),
        mean(result.cross_entropy[index] for index in indices),
        *intersection_over_union(summed).tolist(),
    ]


def test_values_equal_those_of_the_summed_matrix():
    result = scores()
    values = result.values()
    assert list(values.index) == [*LABEL_MEASURES, *(f"iou/{name}" for name in result.classes)]
    np.testing.assert_allclose(values, slow(result, range(12)), rtol=1e-12)
    assert np.isnan(values["iou/train"])
    assert values["miou"] == pytest.approx(values.filter(like="iou/").mean())
    assert values["miou"] != pytest.approx(values["miou_per_image"], abs=1e-3)


def test_by_hand():
    matrices = np.array([[[3, 1], [0, 0]], [[1, 0], [2, 1]]])
    result = replace(scores(num=2, classes=2, absent=0, subset=(1,)), confusion=matrices)
    values = result.values()
    assert values["iou/road"] == pytest.approx(4 / 7)
    assert values["iou/side walk"] == pytest.approx(1 / 4)
    assert values["miou"] == pytest.approx((4 / 7 + 1 / 4) / 2)
    assert values["miou_subset"] == pytest.approx(1 / 4)
    assert values["miou_per_image"] == pytest.approx(((3 / 4 + 0) / 2 + (1 / 3 + 1 / 3) / 2) / 2)
    assert values["miou_subset_per_image"] == pytest.approx((0 + 1 / 3) / 2)
    assert values["accuracy"] == pytest.approx(5 / 8)
    assert values["accuracy_per_image"] == pytest.approx((3 / 4 + 2 / 4) / 2)


def test_an_image_without_labels_changes_nothing():
    result = scores()
    confusion, entropy = result.confusion.copy(), result.cross_entropy.copy()
    confusion[4], entropy[4] = 0, np.nan
    unlabelled = replace(result, confusion=confusion, cross_entropy=entropy)
    others = [index for index in range(12) if index != 4]
    np.testing.assert_allclose(unlabelled.values(), slow(result, others), rtol=1e-12)
    assert unlabelled.intervals().loc[["miou", "cross_entropy", "accuracy"], "num"].tolist() == [11, 11, 11]
    assert unlabelled.table().drop(columns="pixels").loc["küche/004.png"].isna().all()


def test_every_draw_is_the_measures_of_the_images_that_were_drawn():
    result = scores(noise=0.9)
    draws = result.resampled(5, seed=3)
    counts = np.random.default_rng(3).multinomial(12, np.full(12, 1 / 12), size=5)
    for row, count in zip(draws.to_numpy(), counts, strict=True):
        np.testing.assert_allclose(row, slow(result, np.repeat(np.arange(12), count)), rtol=1e-9)


def test_the_influence_of_an_image_is_the_measure_with_it_less_without_it():
    result = scores(noise=0.9)
    without = np.array([slow(result, [other for other in range(12) if other != index]) for index in range(12)])
    np.testing.assert_allclose(result._sums.influences(), np.nan_to_num(without.mean(0) - without), atol=1e-12)


def test_intervals_hold_the_value_and_grow_with_the_level():
    result = scores(num=60, noise=0.9)
    wide, narrow = result.intervals(0.95), result.intervals(0.5)
    assert list(wide.columns) == ["value", "low", "high", "num"]
    present = wide.drop(index="iou/train")
    assert (present["low"] < present["value"]).all()
    assert (present["value"] < present["high"]).all()
    inner = narrow.drop(index="iou/train")
    assert (present["low"] <= inner["low"]).all()
    assert (inner["high"] <= present["high"]).all()
    assert wide.loc["iou/train"].isna().sum() == 3
    assert wide.loc["iou/train", "num"] == 0
    assert wide.loc["iou/rider", "num"] < wide.loc["iou/road", "num"] == 60


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    """Of 60 sets of 40 images drawn from one large population, about nine in ten intervals hold its mIoU."""
    population = scores(num=4000, absent=0, noise=0.9)
    truth, hits = population.values()["miou"], 0
    for seed in range(60):
        drawn = np.random.default_rng(seed).choice(4000, 40)
        sample = replace(
            population,
            confusion=population.confusion[drawn],
            cross_entropy=population.cross_entropy[drawn],
            images=tuple(map(str, range(40))),
        )
        low, high = sample.intervals(0.9).loc["miou", ["low", "high"]]
        hits += low <= truth <= high
    assert 48 <= hits <= 59  # 54 expected, standard deviation 2.3


def test_perfect_labels_are_certain():
    result = scores(absent=0, noise=0)
    table = result.intervals().drop(index="cross_entropy")
    assert (table[["value", "low", "high"]] == 1).all().all()


def test_one_image_has_no_interval():
    table = scores(num=1).intervals()
    assert np.isfinite(table.loc["miou", "value"])
    assert table[["low", "high"]].isna().all().all()


def test_many_draws_of_many_images_take_well_under_a_second():
    random = np.random.default_rng(0)
    names = tuple(map(str, range(100)))
    big = replace(
        scores(),
        confusion=random.integers(0, 99, (100, 19, 19)),
        cross_entropy=random.random(100),
        images=names,
        classes=tuple(map(str, range(19))),
        settings=SETTINGS | {"resamples": 2000},
    )
    start = time.process_time()
    big.intervals()
    assert time.process_time() - start < 1


def test_paired_differences_see_what_single_intervals_do_not():
    plain = scores(num=40, noise=0.9)
    bonus = np.eye(5, dtype=np.int64) * np.random.default_rng(1).integers(3, 9, (40, 5, 1)) * (plain.confusion > 0)
    better = replace(plain, confusion=plain.confusion + bonus)
    value, low, high = better.paired_difference(plain, "miou")
    assert value == pytest.approx(better.values()["miou"] - plain.values()["miou"])
    assert 0 < low < value < high
    assert plain.paired_difference(better, "miou")[0] == -value
    first, second = better.intervals().loc["miou"], plain.intervals().loc["miou"]
    assert first["low"] < second["high"]  # the two intervals overlap
    order = np.random.default_rng(2).permutation(40)
    shuffled = replace(
        plain,
        confusion=plain.confusion[order],
        cross_entropy=plain.cross_entropy[order],
        images=tuple(plain.images[index] for index in order),
    )
    assert better.paired_difference(shuffled, "miou") == pytest.approx((value, low, high))
    assert better.paired_difference(better, "accuracy") == (0, 0, 0)
    assert np.isnan(better.paired_difference(plain, "iou/train")).all()


def test_scores_that_cannot_be_compared_are_one_line_errors():
    result = scores()
    with pytest.raises(UnknownNameError, match="no measure 'mio'; did you mean 'miou'"):
        result.paired_difference(result, "mio")
    with pytest.raises(DataError, match=r"same classes, found 5 \(road, side walk, car …\) and 4"):
        scores(classes=4).paired_difference(result)
    with pytest.raises(DataError, match="subsets of 2 and 1"):
        replace(result, subset=(1,)).paired_difference(result)
    other = replace(result, images=("other.png", *result.images[1:]))
    with pytest.raises(DataError, match="found 2 that only one of the two has"):
        result.paired_difference(other)


def test_the_file_holds_everything_and_the_same_scores_give_the_same_bytes(tmp_path):
    result = scores()
    path = result.save(tmp_path / "a" / "scores.json")
    again = LabelScores.load(path)
    np.testing.assert_array_equal(again.confusion, result.confusion)
    np.testing.assert_array_equal(again.cross_entropy, result.cross_entropy)
    for part in ("images", "classes", "subset", "model", "data", "settings", "versions"):
        assert getattr(again, part) == getattr(result, part)
    assert again.save(tmp_path / "b.json").read_bytes() == path.read_bytes()
    document = json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert document["format"] == "ckaprobe-label-scores/1"
    assert document["values"]["miou"]["value"] == result.values()["miou"]
    assert document["values"]["iou/train"]["value"] is None
    assert document["confusion"][0].startswith(f"0>0 {result.confusion[0, 0, 0]}, ")


def test_an_image_without_labels_survives_the_file(tmp_path):
    result = replace(scores(num=1), confusion=np.zeros((1, 5, 5), np.int64), cross_entropy=np.array([np.nan]))
    again = LabelScores.load(result.save(tmp_path / "scores.json"))
    assert again.confusion.sum() == 0
    assert np.isnan(again.cross_entropy).all()
    assert again.values().isna().all()


def test_the_csv_is_a_row_for_each_image(tmp_path):
    result = scores()
    read = pd.read_csv(result.save(tmp_path / "scores.csv"), index_col="image")
    pd.testing.assert_frame_equal(read, result.table())
    assert read["pixels"].sum() == result.confusion.sum()
    for number, matrix in enumerate(result.confusion):
        expected = intersection_over_union(torch.from_numpy(matrix)).numpy()
        np.testing.assert_allclose(read.filter(like="iou/").iloc[number], expected)


def test_the_summary_names_what_was_scored_and_how():
    text = scores().summary()
    assert "a.safetensors (resnet18, task segmentation)" in text
    assert "12 images from kitti_semantics:streets, at the image's size" in text
    assert "miou_subset is over road, car" in text
    assert "in no mean, because neither labelled nor predicted: train" in text
    assert "iou/side walk" in text
    assert text in repr(scores())
    assert "miou_subset" not in scores(subset=()).summary()
    assert describe_label_measure("cross_entropy").better == "lower"
    with pytest.raises(UnknownNameError, match="no measure 'acc'"):
        describe_label_measure("acc")


def test_parts_that_do_not_fit_are_one_line_errors(tmp_path):
    result = scores()
    with pytest.raises(DataError, match=r"5 x 5 classes and a cross-entropy for each of 12 images, found \(3, 5, 5\)"):
        replace(result, confusion=result.confusion[:3])
    with pytest.raises(DataError, match=r"classes 0 to 4, found \[7\]"):
        replace(result, subset=(7,))
    with pytest.raises(DataError, match="5 names of classes, found 1; make them distinct"):
        replace(result, classes=("road",) * 5)
    with pytest.raises(DataError, match=r"saved as \.json or \.csv, found '\.txt'"):
        result.save(tmp_path / "scores.txt")
    with pytest.raises(DataError, match="a level between 0 and 1"):
        result.intervals(2)
    path = result.save(tmp_path / "scores.json")
    document = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(document | {"format": "ckaprobe-scores/1"}))
    with pytest.raises(
        DataError, match="expected scores of format 'ckaprobe-label-scores/1', found 'ckaprobe-scores/1'"
    ):
        LabelScores.load(path)
    for wrong in ("0-0 3", "9>0 3", 3):
        path.write_text(json.dumps(document | {"confusion": [wrong] * 12}))
        with pytest.raises(DataError, match='scores with confusions like "0>1 250, 1>1 90"'):
            LabelScores.load(path)
