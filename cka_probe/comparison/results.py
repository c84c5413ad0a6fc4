"""The result of a comparison: one self-describing value, one JSON file, one long-form table.

Nothing here computes a similarity or draws one: figures are always redrawn from what stands in the file. It
holds no time stamp: same inputs, same bytes. NaN is `null` in the file, and always has a reason beside it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from cka_probe.documents import plain, read_document, save_either
from cka_probe.errors import DataError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMAT = "ckaprobe-result/1"
MADE_BY = ("a result", "a result.json of `ckaprobe compare`", "run the comparison again")
MATRICES = ("values", "low", "high", "null", "p_values")


@dataclass(frozen=True)
class Side:
    """One of the two models of a comparison.

    Attributes:
        reference: What the user called it.
        architecture: What it is.
        hash: SHA-256 over names, shapes and values of all its tensors.
        preprocessing: Size, mean and std it was fed with.
        notes: What a reader should know about how it was loaded.
    """

    reference: str
    architecture: str
    hash: str
    preprocessing: Mapping[str, Any]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Axis:
    """One layer on an axis of the matrix.

    Attributes:
        name: For people.
        module: Dotted path in the model.
        spread: Root mean square, over images and features, of the activation less its mean over the
            batch's images; what CKA sees of the layer, in the layer's own units.
        undefined: Why no similarity exists, or "".
        shape: Of its activation for one image; empty in files of before it was kept.
    """

    name: str
    module: str
    spread: float
    undefined: str = ""
    shape: tuple[int, ...] = ()

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Axis":
        """Return the layer that a file holds."""
        spread = np.nan if document["spread"] is None else document["spread"]
        return cls(**{**document, "spread": spread, "shape": tuple(document.get("shape", ()))})


@dataclass(frozen=True, eq=False, repr=False)
class SimilarityMatrix:
    """Similarity of every layer of x (rows) with every layer of y (columns).

    Attributes:
        values: (rows, columns) float64; NaN where undefined.
        low: Lower end of the 95 % interval, same shape.
        high: Upper end.
        null: 95 % quantile of the value when the images of y are permuted; what chance alone reaches.
        p_values: One-sided permutation p-value of each cell, (1 + #{permuted >= observed}) / (1 + permutations).
        rows: The layers of x.
        columns: The layers of y.
        terms: Per-batch terms whose sums give `values`: `xy` (batches, rows, columns), `xx` (batches, rows),
            `yy` (batches, columns), and `weights` (batches,), the images in each batch. Of a measure that is a mean
            over batches, `xy` is its value in each and `xx` and `yy` are 1.
        num_examples: Images.
        x: The model on the rows.
        y: The model on the columns.
        images: `hash` of the list of images and `source`, where they came from.
        settings: `measure`, its `title` and `range`, `estimator` (of CKA), `features`, `precision`, `preprocess`,
            `batch`, `permutations`, `seed` …
        versions: Packages that made it.
    """

    values: np.ndarray
    low: np.ndarray
    high: np.ndarray
    null: np.ndarray
    p_values: np.ndarray
    rows: tuple[Axis, ...]
    columns: tuple[Axis, ...]
    terms: Mapping[str, np.ndarray]
    num_examples: int
    x: Side
    y: Side
    images: Mapping[str, Any]
    settings: Mapping[str, Any]
    versions: Mapping[str, str]

    def __repr__(self) -> str:
        return f"<SimilarityMatrix {len(self.rows)} x {len(self.columns)}>\n{self.summary()}"

    @property
    def undefined(self) -> tuple[str, ...]:
        """One line for each layer without a similarity: which, and why."""
        sides = (("x", self.rows), ("y", self.columns))
        lines = [f"{side} {axis.name}: {axis.undefined}" for side, axes in sides for axis in axes if axis.undefined]
        return tuple(lines)

    @property
    def _measured_by(self) -> str:
        """What the values are, in words; files of before there was a choice are of CKA."""
        if self.settings.get("measure", "cka") == "cka":
            return f"{self.settings['estimator']} CKA"
        return self.settings.get("title", self.settings["measure"])

    def to_frame(self) -> pd.DataFrame:
        """Return one row per cell: layer_x, layer_y, index_x, index_y, value, low, high, null, p_value."""
        index_x, index_y = np.indices(self.values.shape).reshape(2, -1)
        matrices = {name: getattr(self, name).ravel() for name in MATRICES}
        return pd.DataFrame(
            {
                "layer_x": [self.rows[i].name for i in index_x],
                "layer_y": [self.columns[j].name for j in index_y],
                "index_x": index_x,
                "index_y": index_y,
                **{name.removesuffix("s"): matrices[name] for name in MATRICES},
            }
        )

    def diagonal(self) -> pd.DataFrame:
        """Return one row per layer for cell (i, i): index, layer, value, low, high, null, spread_x, spread_y.

        Raises:
            DataError: The sides have different numbers of layers, so there is no diagonal to read.
        """
        if len(self.rows) != len(self.columns):
            raise DataError(
                f"{len(self.rows)} layers of x against {len(self.columns)} of y have no diagonal; expected as many on "
                "both sides (--layers, --layers-y)"
            )
        cells = {name.removesuffix("s"): getattr(self, name).diagonal() for name in ("values", "low", "high", "null")}
        return pd.DataFrame(
            {
                "layer": [axis.name for axis in self.rows],
                **cells,
                "spread_x": [axis.spread for axis in self.rows],
                "spread_y": [axis.spread for axis in self.columns],
            }
        ).rename_axis("index")

    def summary(self) -> str:
        """Return what was compared and the table of the diagonal, as text for a terminal."""
        count = f"{self.num_examples} images from {self.images['source']}"
        skipped = f" ({len(self.images['skipped'])} unreadable ones left out)" if self.images["skipped"] else ""
        lines = [
            f"x  {self.x.reference} ({self.x.architecture})",
            f"y  {self.y.reference} ({self.y.architecture})",
            f"{self._measured_by} over {count}{skipped}, features {self.settings['features']}",
            *(f"skipped  {name}" for name in self.images["skipped"]),
        ]
        if len(self.rows) == len(self.columns):
            lines += ["", self.diagonal().reset_index().to_string(index=False, float_format="{:.3f}".format), ""]
        else:
            lines += [f"{len(self.rows)} layers of x against {len(self.columns)} of y: no diagonal; see result.csv"]
        lines += [f"undefined  {line}" for line in self.undefined]
        return "\n".join(lines)

    def save(self, path: str | Path) -> Path:
        """Write the whole result as JSON, or its cells as CSV, as the suffix says.

        Args:
            path: `*.json` (everything; `SimilarityMatrix.load` reads it) or `*.csv` (the cells, long form).

        Returns:
            The path written.
        """
        return save_either(path, "results", self.as_document(), self.to_frame())

    def as_document(self) -> dict[str, Any]:
        """Return what `save` writes as JSON, in its types."""
        return plain({"format": FORMAT} | {field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: str | Path) -> "SimilarityMatrix":
        """Read a result written by `save`.

        Raises:
            DataError: The file is not there, or is not a result of this format.
        """
        document = read_document(path, FORMAT, {field.name for field in fields(cls)}, MADE_BY)
        document |= {name: _array(document[name]) for name in MATRICES}
        document["terms"] = {name: _array(term) for name, term in document["terms"].items()}
        for name in ("rows", "columns"):
            document[name] = tuple(Axis.from_json(axis) for axis in document[name])
        for name in ("x", "y"):
            document[name] = Side(**document[name] | {"notes": tuple(document[name]["notes"])})
        return cls(**document)

    def heatmap(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the matrix in the papers' style on `ax` (a new figure if there is none) and return the axes."""
        return self._drawn("heatmap", ax)

    def profile(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the diagonal with its intervals on `ax` (a new figure if there is none) and return the axes."""
        return self._drawn("profile", ax)

    def _drawn(self, figure: str, ax: "Axes | None") -> "Axes":
        """Return the axes of a figure; the one place where a result knows of figures, and only when asked."""
        from cka_probe.plotting import FIGURES, new_axes

        return FIGURES[figure](self, new_axes(figure, self) if ax is None else ax)


def _array(value: Any) -> np.ndarray:
    """Return nested lists as float64, None as NaN."""
    return np.array(value, dtype=np.float64)
