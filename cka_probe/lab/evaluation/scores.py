"""The scores of one model on one dataset: a row for each image, their means with intervals, and paired differences.

A published number is a mean over images of a value that each image has by itself. `Scores` holds these values, so
intervals, paired differences and the worst images need no further forward pass. Intervals come from a bootstrap over
images, always whole rows, so that measures stay paired (`resampling`). NaN means that an image has no value (a room
without a labelled table has no error over tables); it enters no mean.

Images differ far more from one another than two models do on one image, so two overlapping intervals say little about
which model is better. The interval of the per-image differences does (`paired_difference`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from cka_probe.documents import Document, read_document
from cka_probe.errors import DataError
from cka_probe.similarity.resampling import RESAMPLES, bootstrap_interval

FORMAT = "ckaprobe-scores/1"
COUNTS = ("planes", "floored")
"""Columns that say how much the others rest on."""
MEDIAN = "_median"
"""Ends the name of a measure whose prediction was scaled to the truth's median first, where both stand in a table."""


@dataclass(frozen=True)
class Measure:
    """What a column is.

    Attributes:
        meaning: In a few words.
        unit: "m", "cm", "degrees", "pixels", or "" for none.
        better: "lower", "higher", or "" where neither is.
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
    "dbe_acc": Measure("predicted depth edges: mean distance to the nearest true one, of those within 10", "pixels"),
    "dbe_comp": Measure("true depth edges: mean distance to the nearest predicted one, unbounded (v0.9)", "pixels"),
    "dbe_comp_truncated": Measure("both ways, each distance at most 10 (updated)", "pixels"),
    "dbe_comp_directed_truncated": Measure("as dbe_comp, each distance at most 10", "pixels"),
    "pe_plan": Measure("planes: standard deviation of the points' distances to the plane fitted to them", "cm"),
    "pe_orie": Measure("planes: angle between the fitted and the true normal", "degrees"),
    "dde_0": Measure("share of pixels on the right side of 3 m", better="higher"),
    "dde_m": Measure("share of pixels predicted nearer than 3 m that are farther"),
    "dde_p": Measure("share of pixels predicted farther than 3 m that are nearer"),
    "planes": Measure("planes that pe_plan and pe_orie are means of", "planes", ""),
    "floored": Measure("valid pixels whose prediction was raised to the least depth a logarithm can take", "pixels"),
}
"""Columns by name; `NAME_median` is `NAME` after scaling to the median."""


@dataclass(frozen=True, eq=False, repr=False)
class Scores(Document):
    """Scores of one model on one dataset.

    Attributes:
        table: One row an image, its index the image's name, its columns measures, float64; NaN = says nothing.
        model: `reference`, `hash` of the weights, `stage`, `task`, `architecture`.
        data: `source`, `hash` of the list of images, `num` of images.
        settings: `eigen_crop`, `cap`, `flip_test`, `crops`, `scaling`, `resamples`, `seed` …
        versions: Packages that made it.
    """

    noun: ClassVar[str] = "scores"
    table: pd.DataFrame
    model: Mapping[str, Any]
    data: Mapping[str, Any]
    settings: Mapping[str, Any]
    versions: Mapping[str, str]

    def __repr__(self) -> str:
        return f"<Scores of {len(self.table)} images>\n{self.summary()}"

    def means(self) -> pd.Series:
        """Return the mean of each measure over the images that have a value; NaN where none has."""
        return self.table.mean()

    def over_planes(self) -> pd.Series:
        """Return pe_plan (cm) and pe_orie (degrees) over all planes of all images, as iBims-1's authors average."""
        planes = self.table["planes"]
        sums = self.table[["pe_plan", "pe_orie"]].mul(planes, axis=0).sum()
        return sums / planes.sum()

    def intervals(self, level: float = 0.95) -> pd.DataFrame:
        """Return one row a measure: value, low, high, num (the images that have a value).

        Raises:
            DataError: `level` is not between 0 and 1.
        """
        values = self.table.to_numpy(dtype=np.float64)
        low, high = bootstrap_interval(
            values, level, self.settings.get("resamples", RESAMPLES), self.settings.get("seed", 0)
        )
        columns = {"value": self.means().to_numpy(), "low": low, "high": high, "num": np.isfinite(values).sum(0)}
        return pd.DataFrame(columns, index=self.table.columns.rename("measure"))

    def summary(self) -> str:
        """Return what was scored and the means with their 95 % intervals, as text for a terminal."""
        shown = self.intervals().drop(index=list(COUNTS), errors="ignore")
        units = [describe_measure(name).unit for name in shown.index]
        lines = [
            f"{self.model['reference']} ({self.model['architecture']}, task {self.model['task']})",
            f"{len(self.table)} images from {self.data['source']}, {_describe_settings(self.settings)}",
            "",
            shown.assign(unit=units).to_string(float_format="{:.4f}".format),
        ]
        if "planes" in self.table and self.table["planes"].any():
            plan, orie = self.over_planes()
            lines += [
                "",
                f"over all planes, as iBims-1's authors average: pe_plan {plan:.2f} cm, pe_orie {orie:.2f} deg",
            ]
        floored = self.table["floored"].sum() if "floored" in self.table else 0
        if floored:
            lines += ["", f"{floored:.0f} valid pixels were predicted below {self.settings['floor']} m"]
        return "\n".join(lines)

    def to_frame(self) -> pd.DataFrame:
        """Return `table` with its index named `image`."""
        return self.table.rename_axis("image")

    @classmethod
    def load(cls, path: str | Path) -> "Scores":
        """Read the JSON that `save` wrote.

        Raises:
            DataError: The file is not there, or does not hold scores of this format.
        """
        document = read_document(path, FORMAT, {"means", *(field.name for field in fields(cls))})
        del document["means"]  # for readers without this package: they follow from the table
        table = document.pop("table")
        columns = {name: np.array(values, dtype=np.float64) for name, values in table["measures"].items()}
        return cls(table=pd.DataFrame(columns, index=table["images"]), **document)

    def as_document(self) -> dict[str, Any]:
        """Return what `save` writes as JSON."""
        return {
            "format": FORMAT,
            "model": self.model,
            "data": self.data,
            "settings": self.settings,
            "versions": self.versions,
            "means": self.intervals().to_dict(orient="index"),
            "table": {
                "images": [str(name) for name in self.table.index],
                "measures": {name: self.table[name].tolist() for name in self.table.columns},
            },
        }


def describe_measure(name: str) -> Measure:
    """Return what a column is; of a name that is not known, only the name.

    >>> describe_measure("rmse_median").unit
    'm'
    """
    return MEASURES.get(name.removesuffix(MEDIAN), Measure(name, better=""))


def _describe_settings(settings: Mapping[str, Any]) -> str:
    """Return the settings that a reader of a table must know, in half a line."""
    crop = "Eigen crop" if settings.get("eigen_crop") else "no crop"
    scaled = {"median": "scaled to the median of the truth", "affine": "scaled and shifted to the truth"}
    return f"{crop}, {scaled.get(str(settings.get('scaling')), 'not scaled')}"


__all__ = ["bootstrap_interval", "paired_difference"]


def paired_difference(
    first: Scores, second: Scores, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0, method: str = "bca"
) -> pd.DataFrame:
    """Return how much each measure of the second model differs from the first's on the same images.

    Args:
        first: The model that is held against.
        second: The other; of the same images, in any order.
        level: Of the interval.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
        method: "bca" or "percentile".

    Returns:
        One row for each measure that both have: `value` (mean of second less first over the images where both say
        something), `low`, `high`, `num` (those images), `better` ("first", "second", or "" where 0 lies within the
        interval, or where neither direction is better).

    Raises:
        DataError: The images are others, or the two tables share no measure.
    """
    missing = sorted(set(first.table.index) ^ set(second.table.index))
    if missing:
        raise DataError(
            f"expected scores of the same images, found {len(missing)} that only one of the two has "
            f"({missing[0]!r} for one); evaluate both on {first.data['source']}"
        )
    shared = [name for name in first.table.columns if name in second.table.columns]
    if not shared:
        raise DataError("expected two tables with a measure in common, found none; evaluate both on the same dataset")
    differences = (second.table.loc[first.table.index, shared] - first.table[shared]).to_numpy(np.float64)
    low, high = bootstrap_interval(differences, level, resamples, seed, method)
    table = pd.DataFrame(
        {"low": low, "high": high, "num": np.isfinite(differences).sum(0)}, index=pd.Index(shared, name="measure")
    )
    table.insert(0, "value", pd.DataFrame(differences, columns=shared).mean())
    table["better"] = [_better(name, row.low, row.high) for name, row in table.iterrows()]
    return table


def _better(name: str, low: float, high: float) -> str:
    """Return which model an interval of the difference speaks for."""
    wanted = describe_measure(name).better
    if not wanted or not (low > 0 or high < 0):
        return ""
    return "second" if (high < 0) == (wanted == "lower") else "first"
