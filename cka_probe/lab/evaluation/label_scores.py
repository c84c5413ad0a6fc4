"""The scores of one segmentation model on one dataset: a confusion matrix for each image, and the measures of all.

mIoU is not a mean over images: it is the mean over classes of a ratio of sums over all images. `LabelScores` therefore
holds each image's confusion matrix, from which every measure, its interval and its paired difference to another model
follow without a forward pass. The bootstrap draws images and computes each measure from the sums of the draw
(`resampling`).

| measure | meaning |
|---|---|
| `miou`, `miou_subset` | mean of IoU_k over the classes, or over `subset`, of the sum of all matrices |
| `miou_per_image`, `miou_subset_per_image` | mean over images of each image's own: a different number, also in use |
| `accuracy`, `accuracy_per_image` | share of labelled pixels that are correct: of all, or the mean over images |
| `cross_entropy` | nats; mean over images of the mean over an image's labelled pixels |
| `iou/<class>` | IoU_k |

A class without a pixel, true or predicted, has no IoU: NaN, which enters no mean.

IoU_k is the ratio of two sums over images: the pixels where truth and prediction are both k, and those where either
is. A draw therefore needs K pairs of numbers per image, not its K x K matrix (`LabelSums`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cka_probe import registry
from cka_probe.documents import SCORES, checked_document, expect, read_document
from cka_probe.errors import DataError
from cka_probe.lab.evaluation.scores import PROVENANCE, Measure, ModelScores, check_provenance
from cka_probe.similarity.resampling import check_resampling, interval_of_draws, resample_counts


@dataclass(frozen=True, eq=False)
class LabelSums:
    """The sums of n images with K classes.

    Attributes:
        hits: (n, K) float64, correctly predicted pixels of each class.
        unions: (n, K) float64, pixels whose label or prediction is the class.
        labelled: (n,) float64 pixels with a label.
        per_image: (n, 4) float64 mIoU, mIoU of the subset, accuracy and cross-entropy of each image; NaN = undefined.
        subset: Numbers of some classes.
    """

    hits: np.ndarray
    unions: np.ndarray
    labelled: np.ndarray
    per_image: np.ndarray
    subset: Sequence[int]

    @classmethod
    def of(cls, confusion: np.ndarray, cross_entropy: np.ndarray, subset: Sequence[int]) -> "LabelSums":
        """Return the sums of confusion matrices, (n, K, K) [image, truth, prediction], and cross-entropies, (n,)."""
        hits = np.diagonal(confusion, axis1=1, axis2=2).astype(np.float64)
        unions = confusion.sum(1) + confusion.sum(2) - hits
        labelled = confusion.sum((1, 2)).astype(np.float64)
        iou = ratio(hits, unions)
        means = [mean(iou), mean(iou[:, list(subset)]), ratio(hits.sum(1), labelled)]
        return cls(hits, unions, labelled, np.stack([*means, cross_entropy], -1), subset)

    def measures(self, counts: np.ndarray) -> np.ndarray:
        """Return the measures where image i counts `counts[:, i]` times.

        Args:
            counts: (draws, n) float64.

        Returns:
            (draws, 7 + K) float64, NaN if undefined: mIoU and that of the subset, both as means over images, accuracy,
            its mean over images, mean cross-entropy, and IoU of each class.
        """
        return self._ratios(*(counts @ part for part in self._parts()))

    def influences(self) -> np.ndarray:
        """Return how much larger each measure is with an image than without it, less the mean over images.

        Returns:
            (n, 7 + K) float64; 0 for a measure with a value for fewer than two images.
        """
        wholes = [part.sum(0) for part in self._parts()]
        without = [whole - part for whole, part in zip(wholes, self._parts(), strict=True)]
        values = self._ratios(*without)
        return np.nan_to_num(values.mean(0) - values)

    def num_images(self) -> np.ndarray:
        """Return how many images have a value for each measure, (7 + K,) int64."""
        miou, subset, labelled, entropy = np.isfinite(self.per_image).sum(0)
        return np.array([miou, subset, miou, subset, labelled, labelled, entropy, *(self.unions > 0).sum(0)])

    def _parts(self) -> tuple[np.ndarray, ...]:
        """Return the terms of the sums, all (n, ...)."""
        defined = np.isfinite(self.per_image)
        values = np.where(defined, self.per_image, 0.0)
        return self.hits, self.unions, self.labelled, values, defined.astype(np.float64)

    def _ratios(
        self, hits: np.ndarray, unions: np.ndarray, labelled: np.ndarray, values: np.ndarray, defined: np.ndarray
    ) -> np.ndarray:
        """Return the measures, (m, 7 + K), of m sums of each term."""
        iou, means = ratio(hits, unions), ratio(values, defined)
        pooled = [mean(iou), mean(iou[:, list(self.subset)])]
        accuracy = ratio(hits.sum(-1), labelled)
        return np.column_stack([*pooled, means[:, 0], means[:, 1], accuracy, means[:, 2], means[:, 3], iou])


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Return above / below, NaN unless below is positive.

    >>> ratio(np.array([1.0, 0.0]), np.array([2.0, 0.0])).tolist()
    [0.5, nan]
    """
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)


def mean(values: np.ndarray) -> np.ndarray:
    """Return the mean of the finite values along the last axis, or NaN without any.

    >>> mean(np.array([[1.0, np.nan, 3.0], [np.nan] * 3])).tolist()
    [2.0, nan]
    """
    finite = np.isfinite(values)
    return ratio(np.where(finite, values, 0.0).sum(-1), finite.sum(-1))


def encode_confusion(matrix: np.ndarray) -> str:
    """Return the entries of a sparse confusion matrix as text: "0>1 250" for 250 pixels of class 0 predicted 1.

    >>> encode_confusion(np.array([[3, 1], [0, 5]]))
    '0>0 3, 0>1 1, 1>1 5'
    """
    return ", ".join(f"{truth}>{predicted} {matrix[truth, predicted]}" for truth, predicted in np.argwhere(matrix))


def decode_confusion(text: str, classes: int) -> np.ndarray:
    """Return the matrix that `encode_confusion` wrote, (classes, classes) int64.

    Raises:
        ValueError: The text has another form.
        IndexError: It has more classes.

    >>> decode_confusion("0>0 3, 1>0 2", 2).tolist()
    [[3, 0], [2, 0]]
    """
    matrix = np.zeros((classes, classes), np.int64)
    for entry in filter(None, text.split(", ")):
        cell, count = entry.split(" ")
        truth, predicted = (int(number) for number in cell.split(">"))
        matrix[truth, predicted] = int(count)
    return matrix


FORMAT = "ckaprobe-label-scores/1"
CLASS = "iou/"
"""Prefix of the measure of one class."""

LABEL_MEASURES: dict[str, Measure] = {
    "miou": Measure("mean IoU over all classes", better="higher"),
    "miou_subset": Measure("mean IoU over some classes", better="higher"),
    "miou_per_image": Measure("mean over images of the mean IoU over all classes", better="higher"),
    "miou_subset_per_image": Measure("mean over images of the mean IoU over some classes", better="higher"),
    "accuracy": Measure("share of labelled pixels that are correct", better="higher"),
    "accuracy_per_image": Measure("mean over images of the share of labelled pixels that are correct", better="higher"),
    "cross_entropy": Measure("mean over images of -ln p of the true class", "nats"),
}
"""Measures by name, in the order of `LabelSums.measures`; those of single classes follow."""


def describe_label_measure(name: str) -> Measure:
    """Return a measure by name.

    Raises:
        UnknownNameError: There is no such measure.

    >>> describe_label_measure("iou/road").better, describe_label_measure("cross_entropy").unit
    ('higher', 'nats')
    """
    if name.startswith(CLASS):
        return Measure(f"IoU of {name.removeprefix(CLASS)}", better="higher")
    return registry.get(LABEL_MEASURES, name, "measure")


@dataclass(frozen=True, eq=False, repr=False)
class LabelScores(ModelScores):
    """Scores of one model on one dataset.

    Attributes:
        confusion: (n, K, K) int64 [image, truth, prediction], pixels.
        cross_entropy: (n,) float64 nats, mean over an image's labelled pixels; NaN if it has none.
        images: n names.
        classes: K names.
        subset: Numbers of the classes of `miou_subset`; empty: that measure is NaN.
        model: See `ModelScores`, also for the others.
        data: The images.
        settings: `resolution`, `flip_test`, `resamples`, `seed` …
        versions: Versions of the packages that made it.

    Raises:
        DataError: These do not fit each other.
    """

    confusion: np.ndarray
    cross_entropy: np.ndarray
    images: tuple[str, ...]
    classes: tuple[str, ...]
    subset: tuple[int, ...]
    model: Mapping[str, Any]
    data: Mapping[str, Any]
    settings: Mapping[str, Any]
    versions: Mapping[str, str]

    def __post_init__(self):
        num, count = len(self.images), len(self.classes)
        if self.confusion.shape != (num, count, count) or self.cross_entropy.shape != (num,) or not num or not count:
            raise DataError(
                f"expected a matrix of {count} x {count} classes and a cross-entropy for each of {num} images, found "
                f"{self.confusion.shape} and {self.cross_entropy.shape}; give one of each for every image"
            )
        if len(set(self.classes)) < count:
            raise DataError(f"expected {count} names of classes, found {len(set(self.classes))}; make them distinct")
        if wrong := [number for number in self.subset if not 0 <= number < count]:
            raise DataError(f"expected a subset of the classes 0 to {count - 1}, found {wrong}; omit them")

    def __repr__(self) -> str:
        return f"<LabelScores of {len(self.images)} images>\n{self.summary()}"

    @property
    def measures(self) -> tuple[str, ...]:
        """The names of all measures."""
        return (*LABEL_MEASURES, *(CLASS + name for name in self.classes))

    def values(self) -> pd.Series:
        """Return every measure of all images, float64, by name; NaN if undefined."""
        return pd.Series(self._sums.measures(np.ones((1, len(self.images))))[0], index=self._index())

    def table(self) -> pd.DataFrame:
        """Return one row per image: its `miou`, `miou_subset`, `accuracy`, `cross_entropy`, `pixels`, `iou/<class>`.

        `pixels` counts its labelled pixels; the others are NaN if undefined for the image.
        """
        sums = self._sums
        miou, miou_subset, accuracy, entropy = sums.per_image.T
        columns = {"miou": miou, "miou_subset": miou_subset, "accuracy": accuracy, "cross_entropy": entropy}
        columns["pixels"] = self.confusion.sum((1, 2))
        columns |= {CLASS + name: iou for name, iou in zip(self.classes, ratio(sums.hits, sums.unions).T, strict=True)}
        return pd.DataFrame(columns, index=pd.Index(self.images, name="image"))

    def intervals(self, level: float = 0.95) -> pd.DataFrame:
        """Return one row per measure: value, low, high, num (the images that have a value).

        Raises:
            DataError: `level` is not between 0 and 1.
        """
        check_resampling(level, self.resamples)
        values, draws = self.values(), self.resampled()
        influences, num = self._sums.influences(), self._sums.num_images()
        table = pd.DataFrame({"value": values, "low": np.nan, "high": np.nan, "num": num})
        for index, name in enumerate(self.measures):
            if num[index] >= 2:
                interval = interval_of_draws(values[name], draws[name].to_numpy(), influences[:, index], level)
                table.loc[name, ["low", "high"]] = interval
        return table

    def resampled(self, resamples: int | None = None, seed: int | None = None) -> pd.DataFrame:
        """Return every measure of each bootstrap draw of the images.

        The same seed draws the same images from all scores of as many images, so the draws of two models are paired.

        Args:
            resamples: Number of draws; by default that of the settings, or 2000.
            seed: Of the draws; by default that of the settings, or 0.

        Returns:
            One row per draw, one column per measure; NaN if undefined for the draw.
        """
        resamples, seed = self.resamples if resamples is None else resamples, self.seed if seed is None else seed
        draws = [self._sums.measures(counts) for counts in resample_counts(len(self.images), resamples, seed)]
        return pd.DataFrame(np.concatenate(draws), columns=self._index())

    def paired_difference(
        self, other: "LabelScores", measure: str = "miou", level: float = 0.95
    ) -> tuple[float, float, float]:
        """Return how much larger a measure is here than with another model on the same images.

        Args:
            other: Scores for the same images, in any order, and the same classes.
            measure: In `measures`.
            level: Of the interval.

        Returns:
            This less the other, and low and high of its interval, from draws of the same images; NaN if one of the two
            has no value.

        Raises:
            DataError: The images or the classes differ.
            UnknownNameError: There is no such measure.
        """
        index = registry.get({name: index for index, name in enumerate(self.measures)}, measure, "measure")
        check_resampling(level, self.resamples)
        other = other._ordered_as(self)
        value = float(self.values()[measure] - other.values()[measure])
        if min(self._sums.num_images()[index], other._sums.num_images()[index]) < 2:
            return value, np.nan, np.nan
        draws = self.resampled()[measure] - other.resampled(self.resamples, self.seed)[measure]
        influences = (self._sums.influences() - other._sums.influences())[:, index]
        return value, *interval_of_draws(value, draws.to_numpy(), influences, level)

    def summary(self) -> str:
        """Return what was scored, and the measures with their 95 % intervals, as text for a terminal."""
        intervals = self.intervals()
        absent = [name for name in self.classes if np.isnan(intervals.loc[CLASS + name, "value"])]
        subset = [] if self.subset else ["miou_subset", "miou_subset_per_image"]
        return self.summary_lines(
            len(self.images),
            f"at the {self.settings['resolution']}'s size",
            intervals.drop(index=[*(CLASS + name for name in absent), *subset]).rename_axis(None),
            describe_label_measure,
            f"miou_subset is over {', '.join(self.classes[number] for number in self.subset)}" * bool(self.subset),
            f"in no mean, because neither labelled nor predicted: {', '.join(absent)}" * bool(absent),
        )

    def to_frame(self) -> pd.DataFrame:
        """Return `table()`, which `save` writes as CSV."""
        return self.table()

    @classmethod
    def load(cls, path: str | Path) -> "LabelScores":
        """Read the JSON that `save` wrote.

        Raises:
            DataError: The file does not exist, or does not hold scores of this format.
        """
        keys = {*PROVENANCE, "classes", "subset", "values", "images", "cross_entropy", "confusion"}
        document = read_document(path, FORMAT, keys)
        del document["values"]  # for readers without this package
        with checked_document(path, ('scores with confusions like "0>1 250, 1>1 90"', *SCORES[1:])):
            for name in ("images", "classes", "subset"):
                document[name] = tuple(document[name])
            expect(all(isinstance(name, str) for name in (*document["images"], *document["classes"])), "names")
            expect(all(number in range(len(document["classes"])) for number in document["subset"]), "classes")
            document["cross_entropy"] = np.array(document["cross_entropy"], dtype=np.float64)
            count = len(document["classes"])
            document["confusion"] = np.stack([decode_confusion(text, count) for text in document["confusion"]])
            images = len(document["images"])
            expect(len(document["confusion"]) == images == document["cross_entropy"].size, "a confusion for each image")
            check_provenance(document)
            return cls(**document)

    def as_document(self) -> dict[str, Any]:
        """Return what `save` writes as JSON."""
        return {
            "format": FORMAT,
            **self.provenance(),
            "classes": self.classes,
            "subset": self.subset,
            "values": self.intervals().to_dict(orient="index"),
            "images": self.images,
            "cross_entropy": self.cross_entropy.tolist(),
            "confusion": [encode_confusion(matrix) for matrix in self.confusion],
        }

    def _index(self) -> pd.Index:
        return pd.Index(self.measures, name="measure")

    @cached_property
    def _sums(self) -> LabelSums:
        return LabelSums.of(self.confusion, self.cross_entropy, self.subset)

    def _ordered_as(self, other: "LabelScores") -> "LabelScores":
        """Return these scores with the other's images in the other's order."""
        if self.classes != other.classes or self.subset != other.subset:
            raise DataError(
                f"expected scores of the same classes, found {len(self.classes)} ({', '.join(self.classes[:3])} …) and "
                f"{len(other.classes)} ({', '.join(other.classes[:3])} …), subsets of {len(self.subset)} and "
                f"{len(other.subset)}; evaluate both on {other.data['source']}"
            )
        other.check_same_images(other.images, self.images)
        indices = {name: index for index, name in enumerate(self.images)}
        order = [indices[name] for name in other.images]
        confusion, cross_entropy = self.confusion[order], self.cross_entropy[order]
        return replace(self, confusion=confusion, cross_entropy=cross_entropy, images=other.images)
