"""What a study left on disk, read back as estimates: numbers of single runs with their intervals.

A file that is missing was not run, and the answer is `None`: a small scale leaves arms out, and a table says so. A file
that cannot belong to the study (another seed's weights, another recipe, other images) is an error, because a table
that mixes two studies looks like any other.

The interval of a mean of cells of a similarity matrix is conservative, as if all erred in the worst way at once.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cka_probe import registry
from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.errors import DataError
from cka_probe.papers.study import StudyPaths, read_object
from cka_probe.plotting.runs import read_log


@dataclass(frozen=True)
class Estimate:
    """A statistic on one run, with its 95 % interval over images; NaN where undefined, with the reason."""

    value: float
    low: float = np.nan
    high: float = np.nan
    undefined: str = ""

    def __sub__(self, other: "Estimate") -> "Estimate":
        """Return the difference; its interval is the widest that the two allow."""
        return Estimate(self.value - other.value, self.low - other.high, self.high - other.low, _reasons([self, other]))

    def __rmul__(self, factor: float) -> "Estimate":
        """Return a multiple, by a factor of at least 0."""
        return Estimate(factor * self.value, factor * self.low, factor * self.high, self.undefined)


def undefined(reason: str) -> Estimate:
    """Return an estimate without a value."""
    return Estimate(np.nan, undefined=reason)


def combine(estimates: Sequence[Estimate], reduction: Callable[[list[float]], Any]) -> Estimate:
    """Return the mean (`np.mean`) or the least (`np.min`) of several, end by end; one undefined makes it undefined."""
    value, low, high = (float(reduction([getattr(e, end) for e in estimates])) for end in ("value", "low", "high"))
    return Estimate(value, low, high, _reasons(estimates))


def _reasons(estimates: Iterable[Estimate]) -> str:
    return "; ".join(dict.fromkeys(estimate.undefined for estimate in estimates if estimate.undefined))


def mean_of_cells(matrix: SimilarityMatrix, rows: Sequence[int], columns: Sequence[int]) -> Estimate:
    """Return the mean of the cells at some rows and columns; one undefined cell makes it so, and its layer is named."""
    cells = [array[rows, columns] for array in (matrix.values, matrix.low, matrix.high)]
    if np.isfinite(cells[0]).all():
        value, low, high = (float(numbers.mean()) for numbers in cells)
        return Estimate(value, low, high)
    layers: dict[str, list[str]] = {}
    for axes, numbers, side in ((matrix.rows, rows, "x"), (matrix.columns, columns, "y")):
        for axis in (axes[number] for number in dict.fromkeys(numbers)):
            if axis.undefined:
                layers.setdefault(f" of {side}: {axis.undefined}", []).append(axis.name)
    reason = "; ".join(", ".join(names) + words for words, names in layers.items())
    return undefined(reason or f"{int((~np.isfinite(cells[0])).sum())} cells have no value")


def mean_diagonal(matrix: SimilarityMatrix, layers: slice = slice(None)) -> Estimate:
    """Return the mean similarity of some layers of x with the same layers of y."""
    numbers = range(len(matrix.rows))[layers]
    return mean_of_cells(matrix, numbers, numbers)


def change(matrix: SimilarityMatrix) -> Estimate:
    """Return how much the layers changed, in CKA: x before, y after."""
    return Estimate(1.0, 1.0, 1.0) - mean_diagonal(matrix)


def earlier_more_similar(matrix: SimilarityMatrix) -> Estimate:
    """Return how much more similar the earlier half of the layers is than the later, in CKA; the middle is earlier."""
    half = (len(matrix.rows) + 1) // 2
    return mean_diagonal(matrix, slice(half)) - mean_diagonal(matrix, slice(half, None))


def more_similar(before: SimilarityMatrix, after: SimilarityMatrix, layers: slice = slice(None)) -> Estimate:
    """Return how much more similar some layers are in one comparison than in another before, in CKA."""
    return mean_diagonal(after, layers) - mean_diagonal(before, layers)


def top_row(matrix: SimilarityMatrix, layers: slice) -> Estimate:
    """Return the mean similarity of layer 0 of x with some layers of y."""
    numbers = range(len(matrix.columns))[layers]
    return mean_of_cells(matrix, [0] * len(numbers), numbers)


@dataclass(frozen=True, order=True)
class RunKey:
    """One run of a study: its seed, and the number of the fine-tuning under that seed, 0 where there is one."""

    seed: int
    trial: int = 0


@dataclass(frozen=True)
class StudyEvidence:
    """A study on disk: the seeds that were run, the trials that were run under any seed, and its study.json."""

    paths: StudyPaths
    seeds: tuple[int, ...]
    trials: tuple[int, ...]
    study: dict[str, Any]
    _facts: dict[tuple[str, ...], tuple[Any, Path]] = field(default_factory=dict, repr=False)

    @property
    def runs(self) -> list[RunKey]:
        """Every trial under every seed."""
        return [RunKey(seed, trial) for seed in self.seeds for trial in self.trials]

    @property
    def repeats(self) -> str:
        """What intervals are over: "seed", or "trial" where several trials share one seed."""
        return "seed" if len(self.seeds) > 1 else "trial"

    def similarity(self, seed: int, x: str, y: str, variant: str = "paper") -> SimilarityMatrix | None:
        """Return the similarity of x (rows) and y (columns), or `None` if they were not compared in this way.

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
    study = read_object(path, "what is studied")
    types = {"scale": str, "data": dict, "settings": list, "versions": dict}
    missing = [key for key, kind in types.items() if not isinstance(study.get(key), kind)]
    if missing or study.get("paper") != paper:
        raise DataError(
            f"{path}: expected a study of {paper} with {', '.join(types)}, found one of "
            f"{json.dumps(study.get('paper'))}{' without ' * bool(missing)}{', '.join(missing)}; make it with "
            f"`ckaprobe reproduce {paper}`"
        )
    return study


def read_curves(folder: Path) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
    """Return a training log and what was measured on held-out data meanwhile; `None` where not run."""
    log, validation = (
        read_log(path) if path.exists() else None for path in (folder / "log.csv", folder / "validation.csv")
    )
    return log, validation
