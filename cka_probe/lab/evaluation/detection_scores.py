"""The scores of one detector on one dataset: average precision by COCO's rule (Lin et al. 2014), with intervals.

Of each class and each of ten overlaps (intersection over union of 0.5, 0.55, …, 0.95), detections find objects, best
first: each the free object of its class that it overlaps most, if by as much. One that finds none is wrong, unless it
overlaps a crowd by as much, relative to its own area: then it does not count. With all detections of all images in the
order of their scores,

    precision(k) = right(k) / k,  recall(k) = right(k) / objects,
    AP = mean over r = 0, 0.01, …, 1 of the greatest precision at a recall of r or more

| measure | meaning |
|---|---|
| `map` | mean of AP over classes and overlaps |
| `map50`, `map75` | mean of AP over classes at an overlap of 0.5, of 0.75 |
| `ap/<class>` | mean of AP of a class over overlaps |

A class without an object has no AP and enters no mean. An image has at most its 100 best detections of a class. AP is
no sum over images, so `DetectionScores` holds which detections are right; intervals draw images and compute all again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torchvision.ops import box_area, box_iou

from cka_probe import registry
from cka_probe.documents import checked_document, read_document
from cka_probe.errors import CheckpointError, DataError
from cka_probe.images.sample import Sample
from cka_probe.lab.evaluation.image_run import ImageRun
from cka_probe.lab.evaluation.scores import PROVENANCE, Measure, ModelScores, check_provenance
from cka_probe.models.checkpoint import versions
from cka_probe.similarity.resampling import check_resampling, interval_of_draws, resample_counts

OVERLAPS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
EPSILON = 1e-12
MOST = 100
"""Detections of a class in an image."""

FORMAT = "ckaprobe-detection-scores/1"
CLASS = "ap/"
"""Prefix of the measure of one class."""

DETECTION_MEASURES: dict[str, Measure] = {
    "map": Measure("mean over classes of AP at overlaps of 0.5 to 0.95", better="higher"),
    "map50": Measure("mean over classes of AP at an overlap of 0.5", better="higher"),
    "map75": Measure("mean over classes of AP at an overlap of 0.75", better="higher"),
}
COLUMNS = {"image": np.int64, "category": np.int64, "score": np.float64, "right": np.int64, "ignored": np.int64}
"""Columns of `DetectionScores.detections`."""


def describe_detection_measure(name: str) -> Measure:
    """Return a measure by name.

    Raises:
        UnknownNameError: There is no such measure.
    """
    if name.startswith(CLASS):
        return Measure(f"AP of {name.removeprefix(CLASS)}", better="higher")
    return registry.get(DETECTION_MEASURES, name, "measure")


def match(found: Mapping[str, Tensor], truth: Mapping[str, Tensor]) -> pd.DataFrame:
    """Return which detections of an image are right.

    Args:
        found: `boxes` (D, 4), `labels` (D,), `scores` (D,).
        truth: `boxes` (N, 4), `labels` (N,), `crowds` (N,) bool.

    Returns:
        One row per detection: category, score, and `right` and `ignored`, whose bit k is that of overlap k.
    """
    tables = []
    for category in found["labels"].unique().tolist():
        order = torch.nonzero(found["labels"] == category)[:, 0]
        order = order[found["scores"][order].argsort(descending=True, stable=True)][:MOST]
        ours = truth["labels"] == category
        right, ignored = _matched(found["boxes"][order], truth["boxes"][ours], truth["crowds"][ours])
        scores = found["scores"][order].double().cpu().numpy()
        tables.append(pd.DataFrame({"category": category, "score": scores, "right": right, "ignored": ignored}))
    empty = pd.DataFrame({name: np.empty(0, kind) for name, kind in COLUMNS.items() if name != "image"})
    return pd.concat(tables, ignore_index=True) if tables else empty


def _matched(boxes: Tensor, objects: Tensor, crowds: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return the bits of `match` of detections of one class, best first."""
    boxes, objects = boxes.double().cpu(), objects.double().cpu()
    single = box_iou(boxes, objects[~crowds.cpu()]).numpy()
    groups = _share_inside(boxes, objects[crowds.cpu()]).numpy().max(1, initial=0.0)
    right, ignored = np.zeros(len(boxes), np.int64), np.zeros(len(boxes), np.int64)
    for bit, overlap in enumerate(OVERLAPS):
        free = single.copy()
        for number in range(len(boxes)):
            best = int(free[number].argmax()) if free.shape[1] else 0
            if free.shape[1] and free[number, best] >= overlap:
                right[number] |= 1 << bit
                free[:, best] = -1.0
            elif groups[number] >= overlap:
                ignored[number] |= 1 << bit
    return right, ignored


def _share_inside(boxes: Tensor, groups: Tensor) -> Tensor:
    """Return the share of each box (D, 4) inside of each group (G, 4), (D, G)."""
    low, high = torch.maximum(boxes[:, None, :2], groups[:, :2]), torch.minimum(boxes[:, None, 2:], groups[:, 2:])
    return (high - low).clamp(min=0).prod(-1) / box_area(boxes)[:, None].clamp(min=1e-12)


def average_precision(right: np.ndarray, wrong: np.ndarray, objects: float) -> np.ndarray:
    """Return AP by overlap; NaN without an object.

    Args:
        right: (overlaps, detections) float64, how often each detection is right, best first.
        wrong: The same for wrong.
        objects: Number of objects.
    """
    if objects <= 0:
        return np.full(len(right), np.nan)
    hits, misses = right.cumsum(1), wrong.cumsum(1)
    recall, precision = hits / objects, hits / np.maximum(hits + misses, EPSILON)
    best = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]
    best = np.concatenate([best, np.zeros((len(best), 1))], 1)  # a recall that is not reached
    first = (np.searchsorted(row, RECALLS) for row in recall)
    return np.array([row[at].mean() for row, at in zip(best, first, strict=True)])


@dataclass(frozen=True, eq=False, repr=False)
class DetectionScores(ModelScores):
    """Scores of one detector on one dataset.

    Attributes:
        detections: One row per detection, with `COLUMNS`; `image` and `category` are numbers in the lists below.
        objects: (images, classes) int64, the number of objects that are no crowd.
        images: Names.
        classes: Names.
        model: See `ModelScores`, also for the others.
        data: The images.
        settings: `resamples`, `seed`.
        versions: Versions of the packages that made it.

    Raises:
        DataError: These do not fit each other.
    """

    detections: pd.DataFrame
    objects: np.ndarray
    images: tuple[str, ...]
    classes: tuple[str, ...]
    model: Mapping[str, Any]
    data: Mapping[str, Any]
    settings: Mapping[str, Any]
    versions: Mapping[str, str]

    def __post_init__(self):
        if self.objects.shape != (len(self.images), len(self.classes)) or not self.objects.size:
            raise DataError(
                f"expected numbers of objects of {len(self.images)} images and {len(self.classes)} classes, found "
                f"{self.objects.shape}; give one for each"
            )

    def __repr__(self) -> str:
        return f"<DetectionScores of {len(self.images)} images>\n{self.summary()}"

    @property
    def measures(self) -> tuple[str, ...]:
        """The names of all measures."""
        return (*DETECTION_MEASURES, *(CLASS + name for name in self.classes))

    def values(self) -> pd.Series:
        """Return every measure, float64, by name; NaN if undefined."""
        return pd.Series(self._measure(np.ones(len(self.images))), index=pd.Index(self.measures, name="measure"))

    def _measure(self, counts: np.ndarray) -> np.ndarray:
        """Return every measure where image i counts `counts[i]` times."""
        objects = counts @ self.objects
        precisions = [
            average_precision(right * counts[images], wrong * counts[images], objects[number])
            for number, (images, right, wrong) in enumerate(self._by_class)
        ]
        table = np.array(precisions)  # (classes, overlaps)
        known = table[~np.isnan(table).any(1)]
        means = known.mean(0) if len(known) else np.full(len(OVERLAPS), np.nan)
        return np.array([means.mean(), means[0], means[5], *table.mean(1)])

    @cached_property
    def _by_class(self) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Image (D,), right and wrong (overlaps, D) of the detections of each class, best first."""
        groups = []
        for number in range(len(self.classes)):
            table = self.detections[self.detections["category"] == number]
            table = table.sort_values("score", ascending=False, kind="stable")
            right, ignored = (
                (table[name].to_numpy() >> np.arange(len(OVERLAPS))[:, None] & 1).astype(np.float64)
                for name in ("right", "ignored")
            )
            groups.append((table["image"].to_numpy(), right, 1 - right - ignored))
        return groups

    def table(self) -> pd.DataFrame:
        """Return one row per image: its `objects`, its `detections`, and those right at an overlap of 0.5."""
        rows = self.detections.assign(right50=self.detections["right"] & 1)
        groups = rows.groupby("image")["right50"].agg(["size", "sum"]).reindex(range(len(self.images)), fill_value=0)
        columns = {"objects": self.objects.sum(1), "detections": groups["size"], "right50": groups["sum"]}
        return pd.DataFrame(columns).set_index(pd.Index(self.images, name="image"))

    def intervals(self, level: float = 0.95) -> pd.DataFrame:
        """Return one row per measure: value, low, high (percentiles of the bootstrap), num (images).

        Raises:
            DataError: `level` is not between 0 and 1.
        """
        check_resampling(level, self.resamples)
        values, draws = self.values(), self.resampled()
        table = pd.DataFrame({"value": values, "low": np.nan, "high": np.nan, "num": len(self.images)})
        if len(self.images) > 1:
            for name in self.measures:
                table.loc[name, ["low", "high"]] = _percentiles(values[name], draws[name], level)
        return table

    def resampled(self, resamples: int | None = None, seed: int | None = None) -> pd.DataFrame:
        """Return every measure of each bootstrap draw of the images; the same seed draws the same images.

        Args:
            resamples: Number of draws; by default that of the settings.
            seed: Of the draws; by default that of the settings.
        """
        resamples, seed = self.resamples if resamples is None else resamples, self.seed if seed is None else seed
        blocks = resample_counts(len(self.images), resamples, seed)
        return pd.DataFrame([self._measure(row) for block in blocks for row in block], columns=list(self.measures))

    def paired_difference(
        self, other: "DetectionScores", measure: str = "map", level: float = 0.95
    ) -> tuple[float, float, float]:
        """Return how much larger a measure is here than with another model on the same images, with its interval.

        Raises:
            DataError: The images or the classes differ.
            UnknownNameError: There is no such measure.
        """
        registry.get(dict.fromkeys(self.measures), measure, "measure")
        check_resampling(level, self.resamples)
        other = other._ordered_as(self)
        value = float(self.values()[measure] - other.values()[measure])
        if len(self.images) < 2:
            return value, np.nan, np.nan
        draws = self.resampled()[measure] - other.resampled(self.resamples, self.seed)[measure]
        return value, *_percentiles(value, draws, level)

    def summary(self) -> str:
        """Return what was scored, and the measures with their 95 % intervals, as text for a terminal."""
        intervals = self.intervals()
        absent = [name for name in self.classes if np.isnan(intervals.loc[CLASS + name, "value"])]
        return self.summary_lines(
            len(self.images),
            f"{len(self.detections)} detections of {int(self.objects.sum())} objects",
            intervals.drop(index=[CLASS + name for name in absent]).rename_axis(None),
            describe_detection_measure,
            f"in no mean, because no image has one: {', '.join(absent)}" * bool(absent),
        )

    def to_frame(self) -> pd.DataFrame:
        """Return `table()`, which `save` writes as CSV."""
        return self.table()

    @classmethod
    def load(cls, path: str | Path) -> "DetectionScores":
        """Read the JSON that `save` wrote.

        Raises:
            DataError: The file does not exist, or does not hold scores of this format.
        """
        document = read_document(path, FORMAT, {*PROVENANCE, "classes", "values", "images", "objects", "detections"})
        del document["values"]  # for readers without this package
        with checked_document(path):
            check_provenance(document)
            for name in ("images", "classes"):
                document[name] = tuple(document[name])
            columns = {name: np.array(document["detections"][name], kind) for name, kind in COLUMNS.items()}
            document["detections"] = pd.DataFrame(columns)
            document["objects"] = np.array(document["objects"], np.int64).reshape(-1, len(document["classes"]))
            return cls(**document)

    def as_document(self) -> dict[str, Any]:
        """Return what `save` writes as JSON."""
        return {
            "format": FORMAT,
            **self.provenance(),
            "classes": self.classes,
            "values": self.intervals().to_dict(orient="index"),
            "images": self.images,
            "objects": self.objects.tolist(),
            "detections": {name: self.detections[name].tolist() for name in COLUMNS},
        }

    def _ordered_as(self, other: "DetectionScores") -> "DetectionScores":
        """Return these scores with the other's images in the other's order."""
        if self.classes != other.classes:
            raise DataError(
                f"expected scores of the same classes, found {len(self.classes)} and {len(other.classes)}; evaluate "
                f"both on {other.data['source']}"
            )
        other.check_same_images(other.images, self.images)
        order = [self.images.index(name) for name in other.images]
        place = np.argsort(order)
        detections = self.detections.assign(image=place[self.detections["image"]])
        return replace(self, detections=detections, objects=self.objects[order], images=other.images)


def _percentiles(value: float, draws: pd.Series, level: float) -> tuple[float, float]:
    return interval_of_draws(value, draws.to_numpy(), np.empty(0), level, "percentile")


def collect(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the tables of `match` of all images as one, with the number of each image."""
    filled = [table.assign(image=number) for number, table in enumerate(tables) if len(table)]
    empty = {name: np.empty(0, kind) for name, kind in COLUMNS.items()}
    table = pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(empty)
    return table[list(COLUMNS)].astype(COLUMNS)


def score_detections(
    run: ImageRun,
    detect: Callable[[Tensor], list[dict[str, Tensor]]],
    classes: Sequence[str],
    model: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> DetectionScores:
    """Return the scores of a detector on the images of a run.

    Args:
        run: The images, with `boxes`, `box_classes` and `box_crowds`.
        detect: Returns `boxes`, `labels` and `scores` of each image of a batch (n, 3, H, W), in their pixels.
        classes: Names.
        model: What the result records of the model.
        settings: And of the protocol.

    Raises:
        DataError: No image has an object.
    """
    fields = {"boxes": "boxes", "box_classes": "labels", "box_crowds": "crowds"}

    def predict(batch: list[Sample]) -> list[dict[str, Tensor]]:
        return detect(torch.stack([sample["image"] for sample in batch]).to(run.device))

    def score(name: str, sample: Sample, found: dict[str, Tensor]) -> tuple[pd.DataFrame, np.ndarray]:
        if not all(values.isfinite().all() for values in found.values()):
            raise CheckpointError(f"{name}: expected finite boxes and scores, found NaN or infinity; train it again")
        truth = {short: sample[field] for field, short in fields.items()}
        table = match({key: values.cpu() for key, values in found.items()}, truth)
        return table, np.bincount(truth["labels"][~truth["crowds"]].numpy(), minlength=len(classes))

    results = run.results(frozenset({"image", *fields}), score, predict)
    objects = np.array([numbers for _, numbers in results], np.int64)
    if not objects.any():
        raise DataError(f"expected objects in {run.source}, found none in {len(run.names)} images; use another split")
    tables = collect([table for table, _ in results])
    names, data = tuple(run.names), run.describe()
    return DetectionScores(tables, objects, names, tuple(classes), model, data, settings, versions())
