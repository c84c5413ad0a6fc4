"""The scores of one model on one dataset: a row for each picture, their means, and how sure those are.

A published number is a mean over pictures of a value that each picture has by itself; what is kept here is
those values, so that an interval, a paired difference between two models or the worst pictures can be had
later without a forward pass. The interval is a bootstrap over pictures, bias-corrected and accelerated
(Efron, J. Amer. Stat. Assoc. 1987): pictures are drawn with replacement, always whole rows, so that measures
stay paired. NaN is "this picture says nothing about it" (a room without a labelled table says nothing about
tables) and takes part in no mean.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from cka_probe.errors import DataError
from cka_probe.writing import replacing

FORMAT = "ckaprobe-scores/1"
RESAMPLES = 2000
COUNTED = 4_000_000
"""Of pictures times draws, held at once."""
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
class Scores:
    """Scores of one model on one dataset.

    Attributes:
        table: One row a picture, its index the picture's name, its columns measures, float64; NaN = says nothing.
        model: `reference`, `hash` of the weights, `stage`, `task`, `architecture`.
        data: `source`, `hash` of the list of pictures, `num` of pictures.
        settings: `eigen_crop`, `cap`, `flip_test`, `crops`, `scaling`, `resamples`, `seed` …
        versions: Packages that made it.
    """

    table: pd.DataFrame
    model: Mapping[str, Any]
    data: Mapping[str, Any]
    settings: Mapping[str, Any]
    versions: Mapping[str, str]

    def __repr__(self) -> str:
        return f"<Scores of {len(self.table)} pictures>\n{self.summary()}"

    def means(self) -> pd.Series:
        """Return the mean of each measure over the pictures that have a value; NaN where none has."""
        return self.table.mean()

    def over_planes(self) -> pd.Series:
        """Return pe_plan (cm) and pe_orie (degrees) over all planes of all pictures, as iBims-1's authors average."""
        planes = self.table["planes"]
        sums = self.table[["pe_plan", "pe_orie"]].mul(planes, axis=0).sum()
        return sums / planes.sum()

    def intervals(self, level: float = 0.95) -> pd.DataFrame:
        """Return one row a measure: value, low, high, num (the pictures that have a value).

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
            f"{len(self.table)} pictures from {self.data['source']}, {_said(self.settings)}",
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

    def save(self, path: str | Path) -> Path:
        """Write everything as JSON, or the table as CSV, as the suffix says.

        Args:
            path: `*.json` (everything; `Scores.load` reads it) or `*.csv` (one row a picture).

        Returns:
            The path written.

        Raises:
            DataError: Another suffix.
            OutputError: It cannot be written there.
        """
        path = Path(path)
        if path.suffix not in (".json", ".csv"):
            raise DataError(f"scores are saved as .json or .csv, found {path.suffix or 'no suffix'!r} in {path}")
        with replacing(path) as beside:
            if path.suffix == ".csv":
                self.table.to_csv(beside, index_label="picture")
            else:
                text = json.dumps(self._as_json(), indent=1, allow_nan=False, ensure_ascii=False)
                beside.write_text(text + "\n", encoding="utf-8")
        return path

    @classmethod
    def load(cls, path: str | Path) -> "Scores":
        """Read the JSON that `save` wrote.

        Raises:
            DataError: The file is not there, or does not hold scores of this format.
        """
        try:
            document = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise DataError(f"expected a scores.json of `ckaprobe evaluate` at {path}, found: {error}") from error
        found = document.pop("format", None) if isinstance(document, dict) else None
        if found != FORMAT or set(document) != {"means", *(field.name for field in fields(cls))}:
            raise DataError(f"{path}: expected scores of format {FORMAT!r}, found {found!r}; run the evaluation again")
        del document["means"]  # for readers without this package: they follow from the table
        table = document.pop("table")
        columns = {name: np.array(values, dtype=np.float64) for name, values in table["measures"].items()}
        return cls(table=pd.DataFrame(columns, index=table["pictures"]), **document)

    def _as_json(self) -> dict[str, Any]:
        measures = {name: _plain(self.table[name].tolist()) for name in self.table.columns}
        return {
            "format": FORMAT,
            "model": _plain(self.model),
            "data": _plain(self.data),
            "settings": _plain(self.settings),
            "versions": _plain(self.versions),
            "means": {name: _plain(row) for name, row in self.intervals().to_dict(orient="index").items()},
            "table": {"pictures": [str(name) for name in self.table.index], "measures": measures},
        }


def describe_measure(name: str) -> Measure:
    """Return what a column is; of a name that is not known, only the name.

    >>> describe_measure("rmse_median").unit
    'm'
    """
    return MEASURES.get(name.removesuffix(MEDIAN), Measure(name, better=""))


def bootstrap_interval(
    values: np.ndarray, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0, method: str = "bca"
) -> tuple[np.ndarray, np.ndarray]:
    """Return the interval of the mean of each column, pictures drawn with replacement.

    Args:
        values: (pictures, columns) float64; NaN takes part in no mean.
        level: Of the interval, between 0 and 1.
        resamples: How many times all pictures are drawn.
        seed: Of the draws; the same for every column.
        method: "bca", corrected for bias and skewness, or "percentile".

    Returns:
        low and high, (columns,) float64; NaN where fewer than two pictures have a value.

    Raises:
        DataError: `level`, `resamples` or `method` make no sense.
    """
    if not 0 < level < 1 or resamples < 1 or method not in ("bca", "percentile"):
        raise DataError(
            "expected a level between 0 and 1, at least one resample and method 'bca' or 'percentile', "
            f"found {level}, {resamples} and {method!r}"
        )
    there = np.isfinite(values)
    low, high = np.full((2, values.shape[1]), np.nan)
    enough = there.sum(0) >= 2
    if not enough.any():
        return low, high
    drawn = _resampled_means(np.where(there, values, 0.0), there, resamples, seed)
    ends = np.array([(1 - level) / 2, (1 + level) / 2])
    for column in np.flatnonzero(enough):
        means = drawn[:, column]
        means = means[np.isfinite(means)]  # a draw may miss every picture that has a value
        own = values[there[:, column], column]
        at = ends if method == "percentile" else _corrected(ends, own, means)
        low[column], high[column] = np.quantile(means, at)
    return low, high


def _resampled_means(values: np.ndarray, there: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Return the mean of each column in each draw, (resamples, columns); a draw is a count for each picture."""
    generator, num = np.random.default_rng(seed), len(values)
    centre = values.sum(0) / there.sum(0).clip(min=1)
    shifted = (values - centre) * there  # a column that does not vary is to have an interval of exactly no width
    means = np.empty((resamples, values.shape[1]))
    step = max(1, COUNTED // max(num, 1))
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        counts = generator.multinomial(num, np.full(num, 1 / num), size=size).astype(np.float64)
        with np.errstate(invalid="ignore"):
            means[start : start + size] = counts @ shifted / (counts @ there.astype(np.float64)) + centre
    return means


def _corrected(ends: np.ndarray, values: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Return which quantiles of the drawn means are the interval's ends, bias-corrected and accelerated."""
    off = values - values.mean()
    spread = (off**2).sum()
    if spread == 0:
        return ends
    below = ((means < values.mean()).mean() + (means <= values.mean()).mean()) / 2  # ties count half
    bias = ndtri(np.clip(below, 0.5 / len(means), 1 - 0.5 / len(means)))
    acceleration = (off**3).sum() / (6 * spread**1.5)
    z = bias + ndtri(ends)
    return ndtr(bias + z / (1 - acceleration * z))


def _said(settings: Mapping[str, Any]) -> str:
    """Return the settings that a reader of a table must know, in half a line."""
    crop = "Eigen crop" if settings.get("eigen_crop") else "no crop"
    scaled = {"median": "scaled to the median of the truth", "affine": "scaled and shifted to the truth"}
    return f"{crop}, {scaled.get(settings.get('scaling'), 'not scaled')}"


def _plain(value: Any) -> Any:
    """Return `value` in JSON's types; NaN and infinity as None."""
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
