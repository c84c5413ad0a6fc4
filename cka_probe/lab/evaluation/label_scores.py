"""The scores of one segmentation model on one dataset: a confusion matrix for each image, and what follows from all.

mIoU is not a mean over images: it is the mean over classes of a ratio of sums over all images. `LabelScores` therefore
holds each image's confusion matrix, from which every measure, its interval and its paired difference to another model
follow without a forward pass. The interval resamples images and takes the ratio of the sums of each draw, as for all
images (`resampling`).

| measure | what |
|---|---|
| `miou`, `miou_subset` | mean of IoU_k over the classes, or over `subset`, of the sum of all matrices |
| `miou_per_image`, `miou_subset_per_image` | mean over images of each image's own: another number, also usual |
| `accuracy`, `accuracy_per_image` | share of labelled pixels that are right: of all, or the mean over images |
| `cross_entropy` | nats; mean over images of the mean over an image's labelled pixels |
| `iou/<class>` | IoU_k |

A class without a pixel, true or predicted, has no IoU: NaN, which enters no mean.

IoU_k is the ratio of two sums over images: of the pixels where truth and prediction are both k, and of those where
either is. So a draw of images costs K pairs of numbers for each image, not its K x K matrix (`LabelSums`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from cka_probe import registry
from cka_probe.documents import Document, read_document
from cka_probe.errors import DataError
from cka_probe.lab.evaluation.scores import Measure
from cka_probe.similarity.resampling import RESAMPLES, check_resampling, interval_of_draws, resample_counts


@dataclass(frozen=True, eq=False)
class LabelSums:
    """What is summed of n images with K classes.

    Attributes:
        hits: (n, K) float64 pixels of each class that were called so.
        around: (n, K) float64 pixels that are of each class or were called so.
        labelled: (n,) float64 pixels with a label.
        own: (n, 4) float64 mIoU, mIoU of the subset, accuracy and cross-entropy of each image; NaN: it says nothing.
        subset: Numbers of some classes.
    """

    hits: np.ndarray
    around: np.ndarray
    labelled: np.ndarray
    own: np.ndarray
    subset: Sequence[int]

    @classmethod
    def of(cls, confusion: np.ndarray, cross_entropy: np.ndarray, subset: Sequence[int]) -> "LabelSums":
        """Return the sums of confusion matrices, (n, K, K) [image, truth, prediction], and cross-entropies, (n,)."""
        hits = np.diagonal(confusion, axis1=1, axis2=2).astype(np.float64)
        around = confusion.sum(1) + confusion.sum(2) - hits
        labelled = confusion.sum((1, 2)).astype(np.float64)
        union = ratio(hits, around)
        means = [mean(union), mean(union[:, list(subset)]), ratio(hits.sum(1), labelled)]
        return cls(hits, around, labelled, np.stack([*means, cross_entropy], -1), subset)

    def measured(self, counts: np.ndarray) -> np.ndarray:
        """Return the measures where image i counts `counts[:, i]` times.

        Args:
            counts: (draws, n) float64.

        Returns:
            (draws, 7 + K) float64, NaN where nothing is said about it: mIoU and that of the subset, both as means over
            images, accuracy, its mean over images, mean cross-entropy, and IoU of each class.
        """
        return self._measured(*(counts @ part for part in self._parts()))

    def pulls(self) -> np.ndarray:
        """Return how much larger each measure is with an image than without it, less the mean of that.

        Returns:
            (n, 7 + K) float64; 0 for a measure that fewer than two images say something about.
        """
        wholes = [part.sum(0) for part in self._parts()]
        without = [whole - part for whole, part in zip(wholes, self._parts(), strict=True)]
        return np.nan_to_num(self._measured(*without).mean(0) - self._measured(*without))

    def counted(self) -> np.ndarray:
        """Return how many images say something about each measure, (7 + K,) int64."""
        miou, subset, labelled, entropy = np.isfinite(self.own).sum(0)
        return np.array([miou, subset, miou, subset, labelled, labelled, entropy, *(self.around > 0).sum(0)])

    def _parts(self) -> tuple[np.ndarray, ...]:
        """Return what is summed, all (n, ...)."""
        there = np.isfinite(self.own)
        return self.hits, self.around, self.labelled, np.where(there, self.own, 0.0), there.astype(np.float64)

    def _measured(
        self, hits: np.ndarray, around: np.ndarray, labelled: np.ndarray, own: np.ndarray, there: np.ndarray
    ) -> np.ndarray:
        """Return the measures of sums, (…) of each, to (…, 7 + K)."""
        union, means = ratio(hits, around), ratio(own, there)
        pooled = [mean(union), mean(union[:, list(self.subset)])]
        accuracy = ratio(hits.sum(-1), labelled)
        return np.column_stack([*pooled, means[:, 0], means[:, 1], accuracy, means[:, 2], means[:, 3], union])


def ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Return above / below, NaN where nothing is below.

    >>> ratio(np.array([1.0, 0.0]), np.array([2.0, 0.0])).tolist()
    [0.5, nan]
    """
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)


def mean(values: np.ndarray) -> np.ndarray:
    """Return the mean along the last axis of what is not NaN, or NaN where nothing is.

    >>> mean(np.array([[1.0, np.nan, 3.0], [np.nan] * 3])).tolist()
    [2.0, nan]
    """
    there = np.isfinite(values)
    return ratio(np.where(there, values, 0.0).sum(-1), there.sum(-1))


def encode_confusion(matrix: np.ndarray) -> str:
    """Return a confusion matrix in words, as most of it is empty: "0>1 250" for 250 pixels of class 0 called 1.

    >>> encode_confusion(np.array([[3, 1], [0, 5]]))
    '0>0 3, 0>1 1, 1>1 5'
    """
    return ", ".join(f"{truth}>{found} {matrix[truth, found]}" for truth, found in np.argwhere(matrix))


def decode_confusion(said: str, classes: int) -> np.ndarray:
    """Return the matrix that `encode_confusion` put in words, (classes, classes) int64.

    Raises:
        ValueError: The words are others.
        IndexError: They speak of more classes.

    >>> decode_confusion("0>0 3, 1>0 2", 2).tolist()
    [[3, 0], [2, 0]]
    """
    matrix = np.zeros((classes, classes), np.int64)
    for entry in filter(None, said.split(", ")):
        place, count = entry.split(" ")
        truth, found = (int(number) for number in place.split(">"))
        matrix[truth, found] = int(count)
    return matrix


FORMAT = "ckaprobe-label-scores/1"
CLASS = "iou/"
"""Begins the name of the measure of one class."""

LABEL_MEASURES: dict[str, Measure] = {
    "miou": Measure("mean IoU over all classes", better="higher"),
    "miou_subset": Measure("mean IoU over some classes", better="higher"),
    "miou_per_image": Measure("mean over images of the mean IoU over all classes", better="higher"),
    "miou_subset_per_image": Measure("mean over images of the mean IoU over some classes", better="higher"),
    "accuracy": Measure("share of labelled pixels that are right", better="higher"),
    "accuracy_per_image": Measure("mean over images of the share of labelled pixels that are right", better="higher"),
    "cross_entropy": Measure("mean over images of -ln p of the true class", "nats"),
}
"""Measures by name, in the order of `LabelSums.measured`; those of single classes follow."""


def describe_label_measure(name: str) -> Measure:
    """Return what a measure is.

    Raises:
        UnknownNameError: There is none of this name.

    >>> describe_label_measure("iou/road").better, describe_label_measure("cross_entropy").unit
    ('higher', 'nats')
    """
    if name.startswith(CLASS):
        return Measure(f"IoU of {name.removeprefix(CLASS)}", better="higher")
    return registry.get(LABEL_MEASURES, name, "measure")


@dataclass(frozen=True, eq=False, repr=False)
class LabelScores(Document):
    """Scores of one model on one dataset.

    Attributes:
        confusion: (n, K, K) int64 [image, truth, prediction], pixels.
        cross_entropy: (n,) float64 nats, mean over an image's labelled pixels; NaN where it has none.
        images: n names.
        classes: K names.
        subset: Numbers of the classes of `miou_subset`; empty: there is no such measure (NaN).
        model: `reference`, `hash` of the weights, `stage`, `task`, `architecture` …
        data: `source`, `hash` of the list of images, `num` of images.
        settings: `resolution`, `flip_test`, `resamples`, `seed` …
        versions: Packages that made it.

    Raises:
        DataError: These do not fit each other.
    """

    noun: ClassVar[str] = "scores"
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
            raise DataError(f"expected {count} names of classes, found {len(set(self.classes))}; tell them apart")
        if wrong := [number for number in self.subset if not 0 <= number < count]:
            raise DataError(f"expected a subset of the classes 0 to {count - 1}, found {wrong}; leave them out")

    def __repr__(self) -> str:
        return f"<LabelScores of {len(self.images)} images>\n{self.summary()}"

    @property
    def measures(self) -> tuple[str, ...]:
        """Return the names of all measures."""
        return (*LABEL_MEASURES, *(CLASS + name for name in self.classes))

    def values(self) -> pd.Series:
        """Return every measure of all images, float64, by name; NaN where nothing is said about it."""
        return pd.Series(self._sums.measured(np.ones((1, len(self.images))))[0], index=self._index())

    def table(self) -> pd.DataFrame:
        """Return one row an image: its `miou`, `miou_subset`, `accuracy`, `cross_entropy`, `pixels`, `iou/<class>`.

        `pixels` counts its labelled ones; everything else is NaN where the image says nothing.
        """
        sums = self._sums
        miou, miou_subset, accuracy, entropy = sums.own.T
        columns = {"miou": miou, "miou_subset": miou_subset, "accuracy": accuracy, "cross_entropy": entropy}
        columns["pixels"] = self.confusion.sum((1, 2))
        columns |= {
            CLASS + name: union for name, union in zip(self.classes, ratio(sums.hits, sums.around).T, strict=True)
        }
        return pd.DataFrame(columns, index=pd.Index(self.images, name="image"))

    def intervals(self, level: float = 0.95) -> pd.DataFrame:
        """Return one row a measure: value, low, high, num (the images that say something about it).

        Raises:
            DataError: `level` is not between 0 and 1.
        """
        check_resampling(level, resamples := self._resamples())
        values, draws = self.values(), self.resampled(resamples)
        pulls, num = self._sums.pulls(), self._sums.counted()
        table = pd.DataFrame({"value": values, "low": np.nan, "high": np.nan, "num": num})
        for place, name in enumerate(self.measures):
            if num[place] >= 2:
                own = interval_of_draws(values[name], draws[name].to_numpy(), pulls[:, place], level)
                table.loc[name, ["low", "high"]] = own
        return table

    def resampled(self, resamples: int | None = None, seed: int | None = None) -> pd.DataFrame:
        """Return every measure of each of many draws of the images, with replacement.

        The same seed draws the same images of any scores of as many images, so that draws of two models are paired.

        Args:
            resamples: How many draws; by default as the settings say, or 2000.
            seed: Of the draws; by default as the settings say, or 0.

        Returns:
            One row a draw, one column a measure; NaN where a draw says nothing about one.
        """
        resamples = self._resamples() if resamples is None else resamples
        seed = self.settings.get("seed", 0) if seed is None else seed
        sums = self._sums
        draws = [sums.measured(counts) for counts in resample_counts(len(self.images), resamples, seed)]
        return pd.DataFrame(np.concatenate(draws), columns=self._index())

    def paired_difference(
        self, other: "LabelScores", measure: str = "miou", level: float = 0.95
    ) -> tuple[float, float, float]:
        """Return how much larger a measure is here than with another model on the same images.

        Args:
            other: Scores of the same images, in any order, and of the same classes.
            measure: In `measures`.
            level: Of the interval.

        Returns:
            This less the other, and low and high of its interval, in which both are of the same drawn images; NaN
            where one of the two has no value.

        Raises:
            DataError: The images or the classes are others.
            UnknownNameError: There is no such measure.
        """
        place = registry.get({name: place for place, name in enumerate(self.measures)}, measure, "measure")
        check_resampling(level, resamples := self._resamples())
        other = other._ordered_as(self)
        value = float(self.values()[measure] - other.values()[measure])
        seed = self.settings.get("seed", 0)
        draws = self.resampled(resamples, seed)[measure] - other.resampled(resamples, seed)[measure]
        pulls = (self._sums.pulls() - other._sums.pulls())[:, place]
        if min(self._sums.counted()[place], other._sums.counted()[place]) < 2:
            return value, np.nan, np.nan
        return value, *interval_of_draws(value, draws.to_numpy(), pulls, level)

    def summary(self) -> str:
        """Return what was scored, and the measures with their 95 % intervals, as text for a terminal."""
        shown = self.intervals()
        absent = [name for name in self.classes if np.isnan(shown.loc[CLASS + name, "value"])]
        shown = shown.drop(index=[CLASS + name for name in absent])
        if not self.subset:
            shown = shown.drop(index=["miou_subset", "miou_subset_per_image"])
        units = [describe_label_measure(name).unit for name in shown.index]
        lines = [
            f"{self.model['reference']} ({self.model['architecture']}, task {self.model['task']})",
            f"{len(self.images)} images from {self.data['source']}, at the {self.settings['resolution']}'s size",
            "",
            shown.assign(unit=units).rename_axis(None).to_string(float_format="{:.4f}".format),
        ]
        if self.subset:
            lines += ["", f"miou_subset is over {', '.join(self.classes[number] for number in self.subset)}"]
        if absent:
            lines += ["", f"in no mean, as no pixel is or is called so: {', '.join(absent)}"]
        return "\n".join(lines)

    def to_frame(self) -> pd.DataFrame:
        """Return `table()`, which `save` writes as CSV."""
        return self.table()

    @classmethod
    def load(cls, path: str | Path) -> "LabelScores":
        """Read the JSON that `save` wrote.

        Raises:
            DataError: The file is not there, or does not hold scores of this format.
        """
        names = {"model", "data", "settings", "versions", "classes", "subset", "values", "images", "cross_entropy"}
        document = read_document(path, FORMAT, names | {"confusion"})
        del document["values"]  # for readers without this package: they follow from the matrices
        for name in ("images", "classes", "subset"):
            document[name] = tuple(document[name])
        document["cross_entropy"] = np.array(document["cross_entropy"], dtype=np.float64)
        count = len(document["classes"])
        try:
            document["confusion"] = np.stack([decode_confusion(said, count) for said in document["confusion"]])
        except (ValueError, IndexError, AttributeError) as error:
            raise DataError(
                f'{path}: expected confusions like "0>1 250, 1>1 90", found {error}; run the evaluation again'
            ) from error
        return cls(**document)

    def as_document(self) -> dict[str, Any]:
        """Return what `save` writes as JSON."""
        return {
            "format": FORMAT,
            "model": self.model,
            "data": self.data,
            "settings": self.settings,
            "versions": self.versions,
            "classes": self.classes,
            "subset": self.subset,
            "values": self.intervals().to_dict(orient="index"),
            "images": self.images,
            "cross_entropy": self.cross_entropy.tolist(),
            "confusion": [encode_confusion(matrix) for matrix in self.confusion],
        }

    def _index(self) -> pd.Index:
        return pd.Index(self.measures, name="measure")

    def _resamples(self) -> int:
        return self.settings.get("resamples", RESAMPLES)

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
        if missing := sorted(set(self.images) ^ set(other.images)):
            raise DataError(
                f"expected scores of the same images, found {len(missing)} that only one of the two has "
                f"({missing[0]!r} for one); evaluate both on {other.data['source']}"
            )
        places = {name: place for place, name in enumerate(self.images)}
        order = [places[name] for name in other.images]
        confusion, cross_entropy = self.confusion[order], self.cross_entropy[order]
        return replace(self, confusion=confusion, cross_entropy=cross_entropy, images=other.images)
