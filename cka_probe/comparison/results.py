"""The results of comparisons, each saved as a self-describing JSON file or a long-form table.

A `SimilarityMatrix` is the result of one comparison, a `DifferenceMatrix` that of subtracting two. Figures are always
drawn from a result. The files have no time stamp, so the same inputs give the same bytes. NaN is `null` in a file,
which also records the reason.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import pandas as pd

from cka_probe.comparison.family import family_facts, family_table, read_family
from cka_probe.documents import Document, checked_document, expect, plain, read_document
from cka_probe.errors import DataError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from cka_probe.plotting import Heatmap, Profile

FORMAT = "ckaprobe-result/1"
MADE_BY = ("a result", "a result.json of `ckaprobe compare`", "run the comparison again")
MATRICES = ("values", "low", "high", "null", "p_values")

DIFFERENCE_FORMAT = "ckaprobe-difference/1"
DIFFERENCE_MADE_BY = ("a difference", "the JSON of a difference", "subtract the comparisons again")
DIFFERENCE_MATRICES = ("values", "low", "high", "p_values")

ROWS = "rows of features"
"""The source of examples where features were compared."""

PAIRED = "paired over images"
BOUND = "bound from two results"
INDEPENDENT = "independent images"


@dataclass(frozen=True)
class Side:
    """One of the two models of a comparison.

    Attributes:
        reference: The user's name for it.
        architecture: Its architecture.
        hash: SHA-256 of names, shapes and values of all its tensors.
        preprocessing: Size, mean and std of its inputs.
        notes: Remarks on how it was loaded.
        warnings: What a reader should know of its layers, for example which were left out.
        name: What the user calls it, if not by the reference.
    """

    reference: str
    architecture: str
    hash: str
    preprocessing: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    name: str = ""

    @property
    def label(self) -> str:
        """The name, with the reference if they are not the same."""
        return f"{self.name}: {self.reference}" if self.name not in ("", self.reference) else self.reference

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Side":
        """Return a model from its entry in a file."""
        lists = {name: tuple(document.get(name, ())) for name in ("notes", "warnings")}
        side = cls(**{**document, **lists})
        texts = (side.reference, side.architecture, side.hash, side.name, *side.notes, *side.warnings)
        expect(all(isinstance(text, str) for text in texts), "a model's reference, architecture, hash and notes")
        inputs = side.preprocessing
        numbers = (*(inputs.get("size") or ()), *inputs.get("mean", ()), *inputs.get("std", ()))
        expect(all(isinstance(value, int | float) for value in numbers), "numbers for a model's preprocessing")
        return side


def notes_of(sides: Mapping[str, Side]) -> list[tuple[str, str]]:
    """Return each note once, after the names of its models; more than two models with one note are "all models"."""
    names: dict[str, list[str]] = {}
    for name, side in sides.items():
        for note in side.notes:
            names.setdefault(note, []).append(name)
    several = len(sides) > 2
    return [("all models" if several and len(of) == len(sides) else ", ".join(of), note) for note, of in names.items()]


@dataclass(frozen=True)
class Axis:
    """One layer on an axis of the matrix.

    Attributes:
        name: Name in figures and tables.
        module: Dotted path in the model.
        rms: Root mean square, over images and features, of the activation minus its mean over the images of its batch.
        undefined: Why the layer has no similarity, or "".
        shape: Shape of its activation for one image; empty in older files.
    """

    name: str
    module: str
    rms: float
    undefined: str = ""
    shape: tuple[int, ...] = ()

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Axis":
        """Return a layer from its entry in a file."""
        rms = np.nan if document["rms"] is None else float(document["rms"])
        axis = cls(**{**document, "rms": rms, "shape": tuple(map(int, document.get("shape", ())))})
        expect(all(isinstance(text, str) for text in (axis.name, axis.module, axis.undefined)), "names of layers")
        return axis


class LayerMatrix(Document):
    """A matrix of the layers of two models, those of x as rows and those of y as columns."""

    suffixes = (".json", ".csv", ".tex")
    values: np.ndarray
    rows: tuple[Axis, ...]
    columns: tuple[Axis, ...]

    def to_latex(self) -> str:
        """Return tables of LaTeX (packages booktabs and graphicx): in each cell the value above its 95 % interval."""
        from cka_probe.report.latex import matrix_tables

        return matrix_tables(cast("SimilarityMatrix | DifferenceMatrix", self))

    def _notebook_table(self) -> pd.DataFrame:
        """Return the values, with the layers of x as rows and those of y as columns."""
        names = [[axis.name for axis in axes] for axes in (self.rows, self.columns)]
        return pd.DataFrame(self.values, index=names[0], columns=names[1])


@dataclass(frozen=True, eq=False, repr=False)
class SimilarityMatrix(LayerMatrix):
    """Similarity of every layer of x (rows) with every layer of y (columns).

    Attributes:
        values: (rows, columns) float64; NaN where undefined.
        low: Lower end of the 95 % interval, same shape.
        high: Upper end.
        null: 95 % quantile of the value when the images of y are permuted: what chance alone reaches.
        p_values: One-sided permutation p-value of each cell, (1 + #{permuted >= observed}) / (1 + permutations).
        rows: The layers of x.
        columns: The layers of y.
        terms: Per-batch terms whose sums give `values`: `xy` (batches, rows, columns), `xx` (batches, rows),
            `yy` (batches, columns), and `weights` (batches,), the images in each batch; of sampled features up to the
            bias of their ratio. For a measure that is a mean over batches, `xy` is its value in each batch, and `xx`
            and `yy` are 1.
        num_examples: Number of images.
        x: The model on the rows.
        y: The model on the columns.
        images: `hash` of the list of images, their `source`, and those that were `skipped`. If y saw other images, also
            `hash_y`, `source_y` and `pairing`, which is `name` or `order`.
        settings: `measure`, its `title` and `range`, `estimator` (of CKA), `features`, `precision`, `preprocess`,
            `batch`, `permutations`, `seed` … Of several trainings, `trainings` lists those of x and of y, or of one
            recipe.
        versions: Versions of the packages that computed it.
        family: What holds for all cells together, see `comparison.family`; empty in older files.
    """

    noun: ClassVar[str] = "results"
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
    family: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<SimilarityMatrix {len(self.rows)} x {len(self.columns)}>\n{self.summary()}"

    @property
    def pairing(self) -> str:
        """How the images of y were paired with other images of x, `name` or `order`; "" if both saw the same."""
        return str(self.images.get("pairing", ""))

    @property
    def images_hashes(self) -> tuple[str, str]:
        """The hashes of the lists of images that x and y saw."""
        return str(self.images["hash"]), str(self.images.get("hash_y", self.images["hash"]))

    @property
    def examples(self) -> str:
        """What the examples are, in the plural: images, pairs of images, or rows of features."""
        if self.images["source"] == ROWS:
            return "rows"
        return "pairs of images" if self.pairing else "images"

    @property
    def images_text(self) -> str:
        """How many examples were compared, and from where.

        "512 images from test", "100 rows of features" or "512 pairs of images, x from clean and y from noisy, paired by
        name".
        """
        source = str(self.images["source"])
        if self.pairing:
            source = f"x from {source} and y from {self.images['source_y']}"
            return f"{self.num_examples} pairs of images, {source}, paired by {self.pairing}"
        return f"{self.num_examples} {source}" if source == ROWS else f"{self.num_examples} images from {source}"

    @property
    def trainings_text(self) -> str:
        """Which trainings the values are means over, such as "3 x 5 pairs of trainings"; "" if of two models."""
        counts = [len(side) for side in self.settings.get("trainings", ())]
        if not counts:
            return ""
        if len(counts) == 1:
            return f"all {counts[0] * (counts[0] - 1) // 2} pairs of {counts[0]} trainings"
        return f"{counts[0]} x {counts[1]} pairs of trainings"

    @property
    def undefined(self) -> tuple[str, ...]:
        """One line for each layer without a similarity: which, and why."""
        sides = (("x", self.rows), ("y", self.columns))
        return tuple(f"{side} {axis.name}: {axis.undefined}" for side, axes in sides for axis in axes if axis.undefined)

    @property
    def calibrated(self) -> np.ndarray:
        """`clamp((s - tau) / (s_max - tau), 0, 1)` with tau of the largest cell: 0 up to what chance reaches."""
        tau, highest = self.family.get("max", {}).get("tau", np.nan), (self.settings.get("range") or (0.0, 1.0))[1]
        scores: np.ndarray = np.clip((self.values - tau) / max(highest - tau, 1e-12), 0, 1)
        return scores

    def to_frame(self) -> pd.DataFrame:
        """Return one row per cell: layers by name and index, the matrices, and `family_table` but of older files."""
        return _cell_frame(self, MATRICES).assign(**family_table(self.family, self.calibrated))

    def diagonal(self) -> pd.DataFrame:
        """Return one row per layer for cell (i, i): index, layer, value, low, high, null, rms_x, rms_y.

        Raises:
            DataError: The sides have different numbers of layers, so the matrix has no diagonal.
        """
        if len(self.rows) != len(self.columns):
            raise DataError(
                f"expected as many layers of x as of y for a diagonal, found {len(self.rows)} and {len(self.columns)}; "
                "choose them with --layers and --layers-y"
            )
        cells = {name.removesuffix("s"): getattr(self, name).diagonal() for name in ("values", "low", "high", "null")}
        return pd.DataFrame(
            {
                "layer": [axis.name for axis in self.rows],
                **cells,
                "rms_x": [axis.rms for axis in self.rows],
                "rms_y": [axis.rms for axis in self.columns],
            }
        ).rename_axis("index")

    def summary(self) -> str:
        """Return what was compared and the table of the diagonal, as text for a terminal."""
        measure = str(self.settings.get("title", self.settings.get("measure", "cka")))
        if self.settings.get("measure", "cka") == "cka":  # older files name no measure
            measure = f"{self.settings['estimator']} CKA"
        if self.trainings_text:
            measure = f"mean {measure} of {self.trainings_text}"
        skipped = f" ({len(self.images['skipped'])} unreadable images skipped)" if self.images["skipped"] else ""
        lines = [
            f"x  {self.x.label} ({self.x.architecture})",
            f"y  {self.y.label} ({self.y.architecture})",
            f"{measure} over {self.images_text}{skipped}, features {self.settings['features']}",
            *(f"skipped  {name}" for name in self.images["skipped"]),
        ]
        if len(self.rows) == len(self.columns):
            table = self.diagonal().reset_index()
            if np.isnan(self.null).all():  # without permutations
                del table["null"]
            lines += ["", table.to_string(index=False, float_format="{:.3f}".format), ""]
        else:
            lines += [f"{len(self.rows)} layers of x against {len(self.columns)} of y: no diagonal; see result.csv"]
        lines += [f"{name}  {text}" for name, text in family_facts(self.family)]
        lines += [f"undefined  {line}" for line in self.undefined]
        return "\n".join(lines)

    def as_document(self) -> dict[str, Any]:
        """Return what `save` writes as JSON, in its types."""
        document: dict[str, Any] = plain(
            {"format": FORMAT} | {field.name: getattr(self, field.name) for field in fields(self)}
        )
        if not self.family:  # as in older files
            del document["family"]
        return document

    @classmethod
    def load(cls, path: str | Path) -> "SimilarityMatrix":
        """Read a result written by `save`.

        Raises:
            DataError: The file does not exist, or is not a result of this format.
        """
        with checked_document(path, MADE_BY):
            keys = {field.name for field in fields(cls)} - {"family"}
            document = _read(path, FORMAT, keys, MADE_BY, MATRICES, optional={"family"})
            document["terms"] = {name: np.array(term, dtype=np.float64) for name, term in document["terms"].items()}
            for name in ("x", "y"):
                document[name] = Side.from_json(document[name])
            document["family"] = read_family(document.get("family", {}), document["values"].shape)
            result = cls(**document)
            expect(isinstance(result.num_examples, int) and 0 <= result.num_examples < 1 << 53, "a number of images")
            expect({"hash", "source", "skipped"} <= result.images.keys(), "the hash and source of the images")
            texts = [result.images.get(name) for name in ("hash", "hash_y", "source", "source_y")]
            texts += [result.settings.get(name) for name in ("measure", "title", "estimator", "features")]
            expect(all(text is None or isinstance(text, str) for text in texts), "names of images and of the measure")
            low, high = result.settings.get("range") or (0, 1)
            expect(np.isfinite(low) and np.isfinite(high) and low <= high, "the range of the measure")
            expect(all(isinstance(name, str) for name in result.images["skipped"]), "names of skipped images")
            result.summary()  # uses all settings that describe what was compared
        return result

    def heatmap(
        self,
        ax: "Axes | None" = None,
        *,
        vmin: "float | str | None" = None,
        vmax: "float | str | None" = None,
        cmap: str | None = None,
    ) -> "Axes":
        """Draw the matrix on `ax` (by default in a new figure) and return the axes.

        Args:
            ax: Axes of matplotlib.
            vmin: Value of the first colour: a number, `auto` (just below the smallest value), or by default the lower
                end of the measure's range.
            vmax: Value of the last colour: a number, `auto`, or by default the upper end of the measure's range.
            cmap: Name of a colour map of matplotlib.
        """
        from cka_probe.plotting import Heatmap

        return _draw(Heatmap(self, vmin, vmax, cmap), ax)

    def profile(self, ax: "Axes | None" = None) -> "Axes":
        """Draw the diagonal with its intervals on `ax` (by default in a new figure) and return the axes."""
        from cka_probe.plotting import Profile

        return _draw(Profile(self), ax)


@dataclass(frozen=True, eq=False, repr=False)
class DifferenceMatrix(LayerMatrix):
    """The similarity of every two layers in a first comparison minus that in a second; see `differences`.

    Attributes:
        values: (rows, columns) float64, first minus second; NaN where either is undefined.
        low: Lower end of the 95 % interval, same shape.
        high: Upper end.
        p_values: Two-sided p-value of each cell for no difference, uncorrected.
        significant: (rows, columns) bool, whether a cell differs after correction for the number of cells; `settings`
            names the correction.
        rows: The layers of x, of the first comparison.
        columns: The layers of y.
        num_examples: Number of images; the smaller one if the comparisons differ.
        first: Name of the first comparison.
        second: Name of the comparison that is subtracted.
        how: How the intervals were computed: `paired over images`, `bound from two results` (the widest that are
            possible given the two intervals) or `independent images`.
        settings: `measure`, `estimator`, `features`, `level` and `correction` of `significant` …
    """

    noun: ClassVar[str] = "differences"
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

    @property
    def examples(self) -> str:
        """What the examples are, in the plural: images, pairs of images, or rows of features."""
        return str(self.settings.get("examples", "images"))

    def __repr__(self) -> str:
        return f"<DifferenceMatrix {len(self.rows)} x {len(self.columns)}>\n{self.summary()}"

    def to_frame(self) -> pd.DataFrame:
        """Return one row per cell: layer_x, layer_y, index_x, index_y, value, low, high, p_value, significant."""
        return _cell_frame(self, DIFFERENCE_MATRICES).assign(significant=self.significant.ravel())

    def summary(self) -> str:
        """Return the two comparisons and how many cells differ, as text for a terminal."""
        defined, marked = int(np.isfinite(self.values).sum()), int(self.significant.sum())
        lines = [
            f"first   {self.first}",
            f"second  {self.second}",
            f"first minus second over {self.num_examples} {self.examples}; intervals: {self.how}",
            f"{marked} of {defined} cells differ ({self.settings['correction']}, {self.settings['level']:.0%})",
        ]
        if marked:
            size = np.where(self.significant, np.abs(self.values), -1.0)
            row, column = np.unravel_index(int(size.argmax()), size.shape)
            lines.append(
                f"largest at {self.rows[row].name}, {self.columns[column].name}: {self.values[row, column]:+.3f} "
                f"[{self.low[row, column]:+.3f}, {self.high[row, column]:+.3f}]"
            )
        return "\n".join(lines)

    def as_document(self) -> dict[str, Any]:
        """Return what `save` writes as JSON."""
        return {"format": DIFFERENCE_FORMAT} | {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def load(cls, path: str | Path) -> "DifferenceMatrix":
        """Read a difference written by `save`.

        Raises:
            DataError: The file does not exist, or is not a difference of this format.
        """
        keys = {field.name for field in fields(cls)}
        with checked_document(path, DIFFERENCE_MADE_BY):
            document = _read(path, DIFFERENCE_FORMAT, keys, DIFFERENCE_MADE_BY, DIFFERENCE_MATRICES)
            result = cls(**document | {"significant": np.array(document["significant"], dtype=bool)})
            expect(result.significant.shape == result.values.shape, "a mark for each cell")
            result.summary()  # uses all settings that describe what was compared
        return result


def _draw(figure: "Heatmap | Profile", ax: "Axes | None") -> "Axes":
    """Draw a figure on axes, or in a notebook, and return the axes; matplotlib is imported only here."""
    from cka_probe.plotting import show

    return show(figure).axes[0] if ax is None else figure.draw_on(ax)


def _cell_frame(result: SimilarityMatrix | DifferenceMatrix, matrices: Sequence[str]) -> pd.DataFrame:
    """Return one row per cell: both layers by name and index, and the value of each matrix."""
    index_x, index_y = np.indices(result.values.shape).reshape(2, -1)
    return pd.DataFrame(
        {
            "layer_x": [result.rows[row].name for row in index_x],
            "layer_y": [result.columns[column].name for column in index_y],
            "index_x": index_x,
            "index_y": index_y,
            **{name.removesuffix("s"): getattr(result, name).ravel() for name in matrices},
        }
    )


def _read(
    path: str | Path,
    format_name: str,
    keys: Set[str],
    made_by: tuple[str, str, str],
    matrices: Sequence[str],
    optional: Set[str] = frozenset(),
) -> dict[str, Any]:
    """Return the fields of a result in a file, with its matrices as float64 (null as NaN) and its axes."""
    document = read_document(path, format_name, keys, made_by, optional)
    document |= {name: np.array(document[name], dtype=np.float64) for name in matrices}
    document |= {name: tuple(map(Axis.from_json, document[name])) for name in ("rows", "columns")}
    shape = len(document["rows"]), len(document["columns"])
    for name in matrices:
        expect(document[name].shape == shape, f"{name} of {shape[0]} x {shape[1]} layers")
    return document
