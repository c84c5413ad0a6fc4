"""What a study left on disk, read back as estimates: numbers of single runs with their intervals.

A file that is missing was not run, and the answer is `None`: a small scale leaves arms out, and a table says so. A file
that cannot belong to the study (another seed's weights, another recipe, other images) is an error, because a table
that mixes two studies looks like any other.

Cells of a similarity matrix share their images, so their errors are dependent in a way that the file does not record.
The interval of a mean of cells is given by interval arithmetic, as if all erred in the worst way at once: conservative.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cka_probe import registry
from cka_probe.comparison.results import Axis, SimilarityMatrix
from cka_probe.errors import DataError
from cka_probe.papers.study import StudyPaths


@dataclass(frozen=True)
class Estimate:
    """A statistic on one run.

    Attributes:
        value: NaN where undefined.
        low: Lower end of the 95 % interval over images; NaN where there is none.
        high: Upper end.
        undefined: Why there is no value, or "".
    """

    value: float
    low: float = np.nan
    high: float = np.nan
    undefined: str = ""

    def __sub__(self, other: "Estimate") -> "Estimate":
        """Return the difference; its interval is the widest that the two allow."""
        reason = "; ".join(dict.fromkeys(reason for reason in (self.undefined, other.undefined) if reason))
        return Estimate(self.value - other.value, self.low - other.high, self.high - other.low, reason)


def undefined(reason: str) -> Estimate:
    """Return an estimate without a value."""
    return Estimate(np.nan, undefined=reason)


def cell(matrix: SimilarityMatrix, row: int, column: int) -> Estimate:
    """Return one cell with its interval over images."""
    value, low, high = (float(values[row, column]) for values in (matrix.values, matrix.low, matrix.high))
    return Estimate(value, low, high, _undefined_layers([(matrix.rows[row], "x"), (matrix.columns[column], "y")]))


def mean_diagonal(matrix: SimilarityMatrix, layers: slice = slice(None)) -> Estimate:
    """Return the mean similarity of some layers of x with the same layers of y."""
    axes = [(axis, side) for side, both in (("x", matrix.rows), ("y", matrix.columns)) for axis in both[layers]]
    value, low, high = (np.diagonal(values)[layers] for values in (matrix.values, matrix.low, matrix.high))
    return mean_of_cells(value, low, high, axes)


def top_row(matrix: SimilarityMatrix, layers: slice) -> Estimate:
    """Return the mean similarity of layer 0 of x with some layers of y."""
    axes = [(matrix.rows[0], "x"), *((axis, "y") for axis in matrix.columns[layers])]
    return mean_of_cells(matrix.values[0, layers], matrix.low[0, layers], matrix.high[0, layers], axes)


def least(estimates: Sequence[Estimate]) -> Estimate:
    """Return the least of several; its interval is from the least lower end to the least upper end.

    Raises:
        DataError: There is none.
    """
    if not estimates:
        raise DataError("expected an estimate to take the least of, found none; pass at least one")
    values, low, high = (np.array([getattr(e, end) for e in estimates]) for end in ("value", "low", "high"))
    reason = "; ".join(dict.fromkeys(estimate.undefined for estimate in estimates if estimate.undefined))
    return Estimate(float(values.min()), float(low.min()), float(high.min()), reason)  # NaN wins


def mean_of_cells(values: np.ndarray, low: np.ndarray, high: np.ndarray, axes: Sequence[tuple[Axis, str]]) -> Estimate:
    """Return the mean of some cells; one undefined cell makes it undefined, and its layer is named."""
    if np.isfinite(values).all():
        return Estimate(float(values.mean()), float(low.mean()), float(high.mean()))
    return undefined(_undefined_layers(axes) or f"{int((~np.isfinite(values)).sum())} cells have no value")


def _undefined_layers(axes: Sequence[tuple[Axis, str]]) -> str:
    """Return the layers without a similarity, grouped by reason, or ""; each has its side, "x" or "y"."""
    names: dict[tuple[str, str], list[str]] = {}
    for axis, side in axes:
        if axis.undefined:
            names.setdefault((side, axis.undefined), []).append(axis.name)
    return "; ".join(f"{', '.join(layers)} of {side}: {reason}" for (side, reason), layers in names.items())


@dataclass(frozen=True, order=True)
class RunKey:
    """One run of a study.

    Attributes:
        seed: Of the whole study.
        trial: Of a fine-tuning under that seed; 0 where there is one.
    """

    seed: int
    trial: int = 0


@dataclass(frozen=True)
class StudyEvidence:
    """A study on disk.

    Attributes:
        paths: Of its parts.
        seeds: Those that were run, ascending.
        trials: Those that were run under any seed, ascending.
        study: Its study.json: `scale`, `data` (paths by name), `settings`, `versions`.
    """

    paths: StudyPaths
    seeds: tuple[int, ...]
    trials: tuple[int, ...]
    study: dict[str, Any]
    _facts: dict[tuple[str, ...], tuple[Any, Path]] = field(default_factory=dict, repr=False)

    @property
    def repeats(self) -> str:
        """What intervals are over: "seed", or "trial" where several trials share one seed."""
        return "seed" if len(self.seeds) > 1 else "trial"

    def similarity(self, seed: int, x: str, y: str, variant: str = "paper") -> SimilarityMatrix | None:
        """Return the similarity of two models, or `None` if they were not compared in this way.

        Args:
            seed: One of `seeds`.
            x: The model on the rows.
            y: The model on the columns.
            variant: How they were compared.

        Raises:
            DataError: The file is broken, or of other weights or images than the other files.
        """
        registry.get({str(known): known for known in self.seeds}, str(seed), "seed")
        path = self.paths.similarity(seed, x, y, variant)
        if not path.exists():
            return None
        matrix = SimilarityMatrix.load(path)
        for model, side in ((x, matrix.x), (y, matrix.y)):
            self._check_same(("compared weights", str(seed), model), side.hash, path)
        self._check_same(("images of the similarities",), matrix.images.get("hash"), path)
        return matrix

    def _check_same(self, fact: tuple[str, ...], value: Any, path: Path) -> None:
        """Raise unless all files read so far agree on a fact: the hash of a stage's weights, of the images."""
        if value is None:
            raise DataError(f"{path}: expected the {fact[0]}, found none; write the file again")
        before, source = self._facts.setdefault(fact, (value, path))
        if before != value:
            name = f"{fact[0]} of {fact[2]}, seed {fact[1]}" if len(fact) > 1 else fact[0]
            raise DataError(
                f"{path} is of another run: its {name} ({str(value)[:8]}) are not those of {source} "
                f"({str(before)[:8]}); delete the older of the two and run the study again"
            )


def find_seeds(folder: Path) -> tuple[int, ...]:
    """Return the seeds of a study, ascending.

    Raises:
        DataError: There is none.
    """
    names = [path.name.removeprefix("seed") for path in folder.glob("seed*") if path.is_dir()]
    if not (seeds := sorted(int(name) for name in names if name.isdecimal())):
        raise DataError(f"{folder}: expected a study with a folder seed<k> for each seed, found none; run it first")
    return tuple(seeds)


def read_study(folder: Path, paper: str) -> dict[str, Any]:
    """Return the study.json of a study.

    Raises:
        DataError: It is missing, broken, or of another paper.
    """
    path = folder / "study.json"
    study = read_json(path, "what is studied")
    types = {"scale": str, "data": dict, "settings": list, "versions": dict}
    missing = [key for key, kind in types.items() if not isinstance(study.get(key), kind)]
    if missing or study.get("paper") != paper:
        raise DataError(
            f"{path}: expected a study of {paper} with {', '.join(types)}, found one of "
            f"{json.dumps(study.get('paper'))}{' without ' * bool(missing)}{', '.join(missing)}; make it with "
            f"`ckaprobe reproduce {paper}`"
        )
    return study


def read_json(path: Path, what: str) -> dict[str, Any]:
    """Return the table in a JSON file; `what` names it in errors.

    Raises:
        DataError: It is missing, broken, or not a table.
    """
    try:
        table = json.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"expected {what} at {path}, found: {error}") from error
    if not isinstance(table, dict):
        raise DataError(f"expected {what} at {path}, found a {type(table).__name__}")
    return table


def read_curves(folder: Path) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
    """Return a training log and what was measured on held-out data meanwhile; `None` where not run."""
    return read_log(folder / "log.csv"), read_log(folder / "validation.csv")


def read_log(path: Path) -> pd.DataFrame | None:
    """Return the CSV log of a training run, or `None` if it does not exist.

    Raises:
        DataError: It is broken, or has no column of steps.
    """
    if not path.exists():
        return None
    try:
        table = pd.read_csv(path)
    except (OSError, UnicodeDecodeError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise DataError(f"{path}: expected the log of a training run, found: {error}") from error
    if "step" not in table:
        raise DataError(f"{path}: expected a column 'step', found {', '.join(table.columns)}")
    return table
