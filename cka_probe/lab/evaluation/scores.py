"""The scores of one model on one dataset: a row for each image, their means with intervals, and paired differences.

A published number is a mean over images of a value that each image has by itself. `Scores` holds these values, so
intervals, paired differences and the worst images need no further forward pass. Intervals come from a bootstrap over
images, always whole rows, so that measures stay paired (`resampling`). NaN means that an image has no value (a room
without a labelled table has no error over tables); it enters no mean.

Images differ far more from one another than two models do on one image, so two overlapping intervals say little about
which model is better. The interval of the per-image differences does (`paired_difference`).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from cka_probe.documents import Document, checked_document, expect, read_document
from cka_probe.errors import DataError
from cka_probe.similarity.resampling import RESAMPLES, bootstrap_interval, wilson_interval

FORMAT = "ckaprobe-scores/1"
PROVENANCE = ("model", "data", "settings", "versions")
COUNTS = ("planes", "floored", "category", "predicted")
"""Columns that count or name what the others are computed from."""
SHARES = ("top1", "top5")
"""Columns of 0 and 1, whose mean has Wilson's interval."""
CROP_NAMES = {"eigen_nyuv2": "Eigen crop of NYUv2", "eigen_kitti": "Eigen crop of KITTI", "garg": "Garg crop"}
OUTSIDE = "abs_rel_outside"
"""The measure that is taken above and below the crop, with a crop only."""

MEDIAN = "_median"
"""Suffix of a measure after scaling to the truth's median, if a table has it with and without."""


@dataclass(frozen=True)
class Measure:
    """A column of scores.

    Attributes:
        meaning: In a few words.
        unit: "m", "cm", "degrees", "pixels", or "" for none.
        better: "lower", "higher", or "" for neither.
    """

    meaning: str
    unit: str = ""
    better: str = "lower"


MEASURES: dict[str, Measure] = {
    "abs_rel": Measure("mean of |p - g| / g"),
    "sq_rel": Measure("mean of (p - g)^2 / g", "m"),
    "rmse": Measure("root of the mean of (p - g)^2", "m"),
    "rmse_log": Measure("root of the mean of (ln p - ln g)^2"),
    "log10": Measure("mean of |log10 p - log10 g|"),
    "delta1": Measure("share of pixels with max(p / g, g / p) < 1.25", better="higher"),
    "delta2": Measure("share of pixels with max(p / g, g / p) < 1.25^2", better="higher"),
    "delta3": Measure("share of pixels with max(p / g, g / p) < 1.25^3", better="higher"),
    "silog": Measure("root of mean(d^2) - mean(d)^2 / 2, d = ln p - ln g"),
    "silog_bts": Measure("100 times the root of mean(d^2) - mean(d)^2"),
    OUTSIDE: Measure("as abs_rel, over the rows above and below the crop"),
    "dbe_acc": Measure("predicted depth edges: mean distance to the nearest true one, of those within 10", "pixels"),
    "dbe_comp": Measure("true depth edges: mean distance to the nearest predicted one, unbounded (v0.9)", "pixels"),
    "dbe_comp_truncated": Measure("both ways, each distance at most 10 (updated)", "pixels"),
    "dbe_comp_directed_truncated": Measure("as dbe_comp, each distance at most 10", "pixels"),
    "pe_plan": Measure("planes: standard deviation of the points' distances to the plane fitted to them", "cm"),
    "pe_orie": Measure("planes: angle between the fitted and the true normal", "degrees"),
    "dde_0": Measure("share of pixels on the right side of 3 m", better="higher"),
    "dde_m": Measure("share of pixels predicted nearer than 3 m that are farther"),
    "dde_p": Measure("share of pixels predicted farther than 3 m that are nearer"),
    "top1": Measure("share of images whose class has the largest logit", better="higher"),
    "top5": Measure("share of images whose class is among the five largest logits", better="higher"),
    "cross_entropy": Measure("mean over images of -ln p of the true class", "nats"),
    "category": Measure("output of the network for the true class", better=""),
    "predicted": Measure("output with the largest logit", better=""),
    "planes": Measure("planes that pe_plan and pe_orie are means of", "planes", ""),
    "floored": Measure("valid pixels whose prediction was raised to the least depth that has a logarithm", "pixels"),
}
"""Columns by name; `NAME_median` is `NAME` after scaling to the median."""


def check_provenance(document: Mapping[str, Any]) -> None:
    """Raise `ValueError`, inside of `checked_document`, unless what `PROVENANCE` names can be used."""
    expect(all(isinstance(document[name], dict) for name in PROVENANCE), ", ".join(PROVENANCE))
    numbers = [document["settings"].get(name, 0) for name in ("seed", "resamples")]
    expect(all(type(number) is int and 0 <= number < 1 << 32 for number in numbers), "a seed and a number of resamples")


class ModelScores(Document):
    """What the scores of one model on one dataset have in common.

    Attributes:
        model: `reference`, `hash` of the weights, `stage`, `task`, `architecture` …
        data: `source`, `hash` of the list of images, `num` of images.
        settings: The protocol, with `resamples` and `seed` of the bootstrap.
        versions: Versions of the packages that made it.
    """

    noun: ClassVar[str] = "scores"
    model: Mapping[str, Any]
    data: Mapping[str, Any]
    settings: Mapping[str, Any]
    versions: Mapping[str, str]

    @property
    def resamples(self) -> int:
        """Draws of the bootstrap."""
        return self.settings.get("resamples", RESAMPLES)

    @property
    def seed(self) -> int:
        """Seed of the bootstrap."""
        return self.settings.get("seed", 0)

    def provenance(self) -> dict[str, Any]:
        """Return the fields in `PROVENANCE`, as `save` writes them."""
        return {name: getattr(self, name) for name in PROVENANCE}

    def check_same_images(self, images: Iterable[str], others: Iterable[str]) -> None:
        """Raise `DataError` unless two results have the same images."""
        if missing := sorted(set(images) ^ set(others)):
            raise DataError(
                f"expected scores of the same images, found {len(missing)} that only one of the two has "
                f"({missing[0]!r} for one); evaluate both on {self.data['source']}"
            )

    def summary_lines(
        self, num: int, protocol: str, intervals: pd.DataFrame, describe: Callable[[str], Measure], *more: str
    ) -> str:
        """Return a summary for a terminal: model, number of images, protocol, a table of intervals, more lines."""
        table = intervals.assign(unit=[describe(name).unit for name in intervals.index])
        lines = [
            f"{self.model['reference']} ({self.model['architecture']}, task {self.model['task']})",
            f"{num} images from {self.data['source']}, {protocol}",
            "",
            table.to_string(float_format="{:.4f}".format),
        ]
        return "\n".join([*lines, *(part for line in more if line for part in ("", line))])


@dataclass(frozen=True, eq=False, repr=False)
class Scores(ModelScores):
    """Scores of one model on one dataset.

    Attributes:
        table: One row per image, indexed by its name, one column per measure, float64; NaN = no value.
        model: See `ModelScores`, also for the others.
        data: The images.
        settings: `crop`, `cap`, `flip_test`, `crops`, `scaling`, `resamples`, `seed` …
        versions: Versions of the packages that made it.
    """

    table: pd.DataFrame
    model: Mapping[str, Any]
    data: Mapping[str, Any]
    settings: Mapping[str, Any]
    versions: Mapping[str, str]

    def __repr__(self) -> str:
        return f"<Scores of {len(self.table)} images>\n{self.summary()}"

    def means(self) -> pd.Series:
        """Return the mean of each measure over the images that have a value; NaN if none has."""
        return self.table.mean()

    def over_planes(self) -> pd.Series:
        """Return pe_plan (cm) and pe_orie (degrees) over all planes of all images, as iBims-1's authors average."""
        planes = self.table["planes"]
        sums = self.table[["pe_plan", "pe_orie"]].mul(planes, axis=0).sum()
        return sums / planes.sum()

    def intervals(self, level: float = 0.95) -> pd.DataFrame:
        """Return one row per measure: value, low, high, num (the images that have a value).

        Intervals are of the bootstrap over images, those of `SHARES` Wilson's.

        Raises:
            DataError: `level` is not between 0 and 1.
        """
        values = self.table.to_numpy(dtype=np.float64)
        low, high = bootstrap_interval(values, level, self.resamples, self.seed)
        for index, name in enumerate(self.table.columns):
            if name in SHARES:
                low[index], high[index] = wilson_interval(int(values[:, index].sum()), len(values), level)
        columns = {"value": self.means().to_numpy(), "low": low, "high": high, "num": np.isfinite(values).sum(0)}
        return pd.DataFrame(columns, index=self.table.columns.rename("measure"))

    def summary(self) -> str:
        """Return what was scored and the means with their 95 % intervals, as text for a terminal."""
        planes = floored = ""
        if "planes" in self.table and self.table["planes"].any():
            plan, orie = self.over_planes()
            planes = f"over all planes, as iBims-1's authors average: pe_plan {plan:.2f} cm, pe_orie {orie:.2f} deg"
        if "floored" in self.table and (count := self.table["floored"].sum()):
            floored = f"{count:.0f} valid pixels were predicted below {self.settings['floor']} m"
        intervals = self.intervals().drop(index=list(COUNTS), errors="ignore")
        return self.summary_lines(len(self.table), self._protocol(), intervals, describe_measure, planes, floored)

    def _protocol(self) -> str:
        """Return how the images were scored, in words."""
        if "matching" in self.settings:
            classes, outputs = len(self.data["classes"]), self.settings["outputs"]
            size = self.model["size"]
            view = f"cropped to their centre at {size[1]} x {size[0]} px" if size else "at their stored size"
            return f"{view}; {classes} classes among {outputs} outputs, matched by {self.settings['matching']}"
        crop = CROP_NAMES.get(str(self.settings.get("crop")), "no crop")
        aligned = {"median": "scaled to the median of the truth", "affine": "scaled and shifted to the truth"}
        return f"{crop}, {aligned.get(str(self.settings.get('scaling')), 'not scaled')}"

    def to_frame(self) -> pd.DataFrame:
        """Return `table` with its index named `image`, which `save` writes as CSV."""
        return self.table.rename_axis("image")

    @classmethod
    def load(cls, path: str | Path) -> "Scores":
        """Read the JSON that `save` wrote.

        Raises:
            DataError: The file does not exist, or does not hold scores of this format.
        """
        document = read_document(path, FORMAT, {*PROVENANCE, "means", "table"})
        del document["means"]  # for readers without this package
        with checked_document(path):
            table = document.pop("table")
            columns = {name: np.array(values, dtype=np.float64) for name, values in table["measures"].items()}
            expect(all(isinstance(name, str) for name in table["images"]), "names of images")
            check_provenance(document)
            return cls(table=pd.DataFrame(columns, index=table["images"]), **document)

    def as_document(self) -> dict[str, Any]:
        """Return what `save` writes as JSON."""
        table = {
            "images": [str(name) for name in self.table.index],
            "measures": {name: self.table[name].tolist() for name in self.table.columns},
        }
        means = self.intervals().to_dict(orient="index")
        return {"format": FORMAT, **self.provenance(), "means": means, "table": table}


def describe_measure(name: str) -> Measure:
    """Return the measure of a column; for an unknown one only its name.

    >>> describe_measure("rmse_median").unit
    'm'
    """
    return MEASURES.get(name.removesuffix(MEDIAN), Measure(name, better=""))


def paired_difference(
    first: Scores, second: Scores, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0, method: str = "bca"
) -> pd.DataFrame:
    """Return by how much each measure of a second model differs from the first's on the same images.

    Args:
        first: The scores of a model.
        second: Those of another model for the same images, in any order.
        level: Of the interval.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
        method: "bca" or "percentile".

    Returns:
        One row per measure that both have: `value` (mean of second less first over the images that both have a value
        for), `low`, `high`, `num` (those images), `better` ("first", "second", or "" if 0 lies within the interval or
        neither direction is better).

    Raises:
        DataError: The images differ, or the two tables share no measure.
    """
    first.check_same_images(first.table.index, second.table.index)
    shared = [name for name in first.table.columns if name in second.table.columns]
    if not shared:
        raise DataError("expected two tables with a measure in common, found none; evaluate both on the same dataset")
    differences = (second.table.loc[first.table.index, shared] - first.table[shared]).to_numpy(np.float64)
    low, high = bootstrap_interval(differences, level, resamples, seed, method)
    columns = {"low": low, "high": high, "num": np.isfinite(differences).sum(0)}
    table = pd.DataFrame(columns, index=pd.Index(shared, name="measure"))
    table.insert(0, "value", pd.DataFrame(differences, columns=shared).mean())
    table["better"] = [_better(name, row.low, row.high) for name, row in table.iterrows()]
    return table


def _better(name: str, low: float, high: float) -> str:
    """Return the model that an interval of the difference favours."""
    direction = describe_measure(name).better
    if not direction or not (low > 0 or high < 0):
        return ""
    return "second" if (high < 0) == (direction == "lower") else "first"
