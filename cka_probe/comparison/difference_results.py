"""The difference of two comparisons: one self-describing value, one JSON file, one long-form table.

What is subtracted, cell by cell, is the similarity of two layers in a first comparison less that of the same two layers
in a second. Nothing here computes it (`differences` does) or draws it. NaN is `null` in the file: one of the two
comparisons has no value there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cka_probe.comparison.results import Axis
from cka_probe.documents import read_document, save_either

FORMAT = "ckaprobe-difference/1"
MADE_BY = ("a difference", "the JSON of a difference", "subtract the comparisons again")
MATRICES = ("values", "low", "high", "p_values")

PAIRED = "paired over images"
BOUND = "bound from two results"
INDEPENDENT = "independent images"


@dataclass(frozen=True, eq=False, repr=False)
class DifferenceMatrix:
    """How much more alike each two layers are in one comparison than in another.

    Attributes:
        values: (rows, columns) float64, first less second; NaN where either is undefined.
        low: Lower end of the 95 % interval, same shape.
        high: Upper end.
        p_values: Two-sided, that there is no difference; of each cell by itself.
        significant: (rows, columns) bool, whether a cell differs when all cells are tested at once, as `settings` says.
        rows: The layers of x, of the first comparison.
        columns: The layers of y.
        num_examples: Images; of the smaller comparison where they differ.
        first: What the first comparison is called.
        second: What is subtracted.
        how: Where the intervals come from: `paired over images`, `bound from two results` (the widest that the two
            intervals allow) or `independent images`.
        settings: `measure`, `estimator`, `features`, `level` and `correction` of `significant` …
    """

    values: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p_values: np.ndarray
    significant: np.ndarray
    rows: tuple[Axis, ...]
    columns: tuple[Axis, ...]
    num_examples: int
    first: str
    second: str
    how: str
    settings: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"<DifferenceMatrix {len(self.rows)} x {len(self.columns)}>\n{self.summary()}"

    def to_frame(self) -> pd.DataFrame:
        """Return one row per cell: layer_x, layer_y, index_x, index_y, value, low, high, p_value, significant."""
        index_x, index_y = np.indices(self.values.shape).reshape(2, -1)
        return pd.DataFrame(
            {
                "layer_x": [self.rows[i].name for i in index_x],
                "layer_y": [self.columns[j].name for j in index_y],
                "index_x": index_x,
                "index_y": index_y,
                **{name.removesuffix("s"): getattr(self, name).ravel() for name in MATRICES},
                "significant": self.significant.ravel(),
            }
        )

    def summary(self) -> str:
        """Return what was subtracted from what, and how many cells differ, as text for a terminal."""
        defined, marked = int(np.isfinite(self.values).sum()), int(self.significant.sum())
        lines = [
            f"first   {self.first}",
            f"second  {self.second}",
            f"first less second over {self.num_examples} images; intervals: {self.how}",
            f"{marked} of {defined} cells differ ({self.settings['correction']}, {self.settings['level']:.0%})",
        ]
        if marked:
            size = np.where(self.significant, np.abs(self.values), -1.0)
            row, column = np.unravel_index(int(size.argmax()), size.shape)
            lines.append(
                f"most at {self.rows[row].name}, {self.columns[column].name}: {self.values[row, column]:+.3f} "
                f"[{self.low[row, column]:+.3f}, {self.high[row, column]:+.3f}]"
            )
        return "\n".join(lines)

    def save(self, path: str | Path) -> Path:
        """Write the whole difference as JSON, or its cells as CSV, as the suffix says; return the path.

        Args:
            path: `*.json` (everything; `DifferenceMatrix.load` reads it) or `*.csv` (the cells, long form).

        Raises:
            DataError: The suffix is another.
            OutputError: The place cannot be written to.
        """
        document = {"format": FORMAT} | {field.name: getattr(self, field.name) for field in fields(self)}
        return save_either(path, "differences", document, self.to_frame())

    @classmethod
    def load(cls, path: str | Path) -> "DifferenceMatrix":
        """Read a difference written by `save`.

        Raises:
            DataError: The file is not there, or is no difference of this format.
        """
        document = read_document(path, FORMAT, {field.name for field in fields(cls)}, MADE_BY)
        document |= {name: np.array(document[name], dtype=np.float64) for name in MATRICES}
        document["significant"] = np.array(document["significant"], dtype=bool)
        for name in ("rows", "columns"):
            document[name] = tuple(Axis.from_json(axis) for axis in document[name])
        return cls(**document)
