"""COCO's average precision: by hand, by its definition, and its intervals and files."""

import numpy as np
import pandas as pd
import pytest
import torch

from cka_probe.errors import DataError
from cka_probe.lab.evaluation.detection_scores import (
    COLUMNS,
    OVERLAPS,
    DetectionScores,
    average_precision,
    collect,
    match,
)

CLASSES = ("car", "person", "never")
VERSIONS = {"cka-probe": "0"}


def random_image(random, objects, detections):
    """Return detections near objects of two classes, and the objects."""
    low = random.uniform(0, 60, (objects, 2))
    boxes = np.concatenate([low, low + random.uniform(5, 40, (objects, 2))], 1)
    labels = random.integers(0, 2, objects)
    which = random.integers(0, objects, detections)
    moved = boxes[which] + random.normal(0, 2.0, (detections, 4))
    moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
    found = {
        "boxes": torch.tensor(moved, dtype=torch.float32),
        "labels": torch.tensor(np.where(random.random(detections) < 0.8, labels[which], 1 - labels[which])),
        "scores": torch.tensor(random.random(detections), dtype=torch.float32),
    }
    truth = {"boxes": torch.tensor(boxes, dtype=torch.float32), "labels": torch.tensor(labels)}
    return found, truth | {"crowds": torch.zeros(objects, dtype=torch.bool)}


def scores_of(images, resamples=50):
    tables = collect([match(found, truth) for found, truth in images])
    objects = np.array([np.bincount(t["labels"][~t["crowds"]].numpy(), minlength=3) for _, t in images])
    model = {"reference": "m", "hash": "1", "architecture": "a", "task": "detection", "stage": "s"}
    data = {"source": "data", "hash": "2", "num": len(images)}
    names = tuple(f"image{number}" for number in range(len(images)))
    return DetectionScores(
        tables, objects, names, CLASSES, model, data, {"resamples": resamples, "seed": 0}, dict(VERSIONS)
    )


@pytest.fixture(scope="module")
def images():
    random = np.random.default_rng(3)
    return [random_image(random, *numbers) for numbers in ((3, 6), (8, 20), (1, 3), (5, 0), (6, 15))]


def test_average_precision_by_hand():
    # right, wrong, right of 2 objects: precision 1 up to a recall of 1/2 (51 levels), then 2/3 (50 levels)
    right, wrong = np.array([[1.0, 0, 1]]), np.array([[0.0, 1, 0]])
    assert average_precision(right, wrong, 2) == pytest.approx([(51 + 50 * 2 / 3) / 101])
    assert average_precision(right, wrong, 4) == pytest.approx([(26 + 25 * 2 / 3) / 101])
    assert np.isnan(average_precision(right, wrong, 0)).all()
    assert average_precision(right[:, :0], wrong[:, :0], 2) == 0


def by_loops(images, category, overlap):
    """Return AP by its definition, without crowds: detections one after the other, precisions level by level."""
    listed, objects = [], 0
    for found, truth in images:
        boxes, free = found["boxes"].tolist(), truth["boxes"][truth["labels"] == category].tolist()
        objects += len(free)
        ours = [k for k in range(len(boxes)) if found["labels"][k] == category]
        for k in sorted(ours, key=lambda k: -found["scores"][k]):
            overlaps = [iou(boxes[k], other) for other in free]
            right = bool(overlaps) and max(overlaps) >= overlap
            if right:
                free.pop(overlaps.index(max(overlaps)))
            listed.append((float(found["scores"][k]), right))
    listed.sort(key=lambda pair: -pair[0])
    hits = np.cumsum([right for _, right in listed])
    points = [(hit / objects, hit / (k + 1)) for k, hit in enumerate(hits)]
    levels = np.linspace(0, 1, 101)
    return np.mean([max((p for recall, p in points if recall >= level), default=0.0) for level in levels])


def iou(a, b):
    width, height = (max(0.0, min(a[k + 2], b[k + 2]) - max(a[k], b[k])) for k in (0, 1))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def test_the_means_are_those_of_the_definition(images):
    values = scores_of(images).values()
    table = np.array([[by_loops(images, category, overlap) for overlap in OVERLAPS] for category in (0, 1)])
    assert values["map"] == pytest.approx(table.mean())
    assert values["map50"] == pytest.approx(table[:, 0].mean())
    assert values["map75"] == pytest.approx(table[:, 5].mean())
    assert values["ap/person"] == pytest.approx(table[1].mean())
    assert 0.05 < values["map"] < values["map50"] < 1
    assert np.isnan(values["ap/never"])


def test_a_crowd_is_neither_found_nor_missed():
    truth = {
        "boxes": torch.tensor([[0.0, 0, 10, 10], [20, 0, 60, 40]]),
        "labels": torch.tensor([0, 0]),
        "crowds": torch.tensor([False, True]),
    }
    found = {
        "boxes": torch.tensor([[0.0, 0, 10, 10], [25, 5, 35, 15], [40, 5, 50, 15], [70, 70, 80, 80]]),
        "labels": torch.tensor([0, 0, 0, 1]),
        "scores": torch.tensor([0.5, 0.9, 0.8, 0.7]),
    }
    table = match(found, truth)
    assert table["right"].tolist() == [0, 0, 1023, 0]  # in the order of classes and scores
    assert table["ignored"].tolist() == [1023, 1023, 0, 0]
    scores = scores_of([(found, truth)])
    assert scores.objects.tolist() == [[1, 0, 0]]
    assert scores.values()["map"] == 1  # the wrong person enters no mean, because there is none


def test_an_image_twice_counts_twice(images):
    scores, twice = scores_of(images), scores_of([*images, *images])
    assert twice.values()["map"] == pytest.approx(scores.values()["map"], abs=0.03)  # equal scores are ordered by image
    weights = np.array([2.0, 1, 1, 1, 1])
    again = scores_of([*images, images[0]])
    np.testing.assert_allclose(scores._measure(weights)[1], again.values()["map50"], atol=0.02)


def test_the_file_is_read_back_and_intervals_contain_the_value(images, tmp_path):
    scores = scores_of(images)
    scores.save(tmp_path / "scores.csv")
    loaded = DetectionScores.load(scores.save(tmp_path / "scores.json"))
    pd.testing.assert_series_equal(loaded.values(), scores.values())
    assert list(loaded.detections.dtypes) == [np.dtype(kind) for kind in COLUMNS.values()]
    row = scores.intervals().loc["map50"]
    assert row["low"] < row["value"] < row["high"]
    assert "5 images from data, 44 detections of 23 objects" in scores.summary()
    assert "in no mean, because no image has one: never" in scores.summary()


def test_models_are_compared_on_the_same_images_in_any_order(images):
    scores = scores_of(images)
    worse = scores_of([({name: values[1:] for name, values in found.items()}, truth) for found, truth in images])
    difference, low, high = scores.paired_difference(worse, "map50")
    assert difference == pytest.approx(scores.values()["map50"] - worse.values()["map50"])
    assert low <= difference <= high
    order = [3, 1, 4, 0, 2]
    shuffled = scores_of([images[number] for number in order])
    object.__setattr__(shuffled, "images", tuple(scores.images[number] for number in order))
    assert scores.paired_difference(shuffled)[0] == pytest.approx(0, abs=1e-12)
    object.__setattr__(worse, "images", tuple("abcde"))
    with pytest.raises(DataError, match="same images"):
        scores.paired_difference(worse)
