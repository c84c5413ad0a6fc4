"""Compare any number of models with each other: every pair, a model-by-model matrix, and layers over checkpoints.

Each model is run once, and every pair of fingerprints is compared. One number stands for each pair in the matrix of
models, and all pairs have it by the same rule, so that they can be read next to each other:

    diagonal     all models have layers of the same names: the mean of the similarities of each layer with the layer of
                 the same name
    best match   layers differ: each layer is paired with the most similar layer of the other model; the mean over the
                 layers of x and that over the layers of y, averaged

A best match is a maximum of estimates, so it is never below the diagonal and slightly too high. Layers that are
undefined in one of the models are left out of all pairs. The interval is that of the mean itself: the cells of a mean
come from the same images, so their noise is added before it is squared (`mean_interval`). It does not cover the choice
of best matches.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch

from cka_probe import registry
from cka_probe.comparison.compare import MeasureSpec, compare_all
from cka_probe.comparison.fingerprint import Fingerprint, pairing_of
from cka_probe.comparison.results import Axis, Side, SimilarityMatrix, distinct_names
from cka_probe.comparison.sides import UNSET, Model, Options, Unset, fingerprint_each
from cka_probe.documents import Document, checked_document, expect, plain, read_document
from cka_probe.errors import DataError, prefixed_errors
from cka_probe.files import atomic_write
from cka_probe.models.selection import LayerSpec
from cka_probe.progress import Progress, ProgressSpec
from cka_probe.similarity import ESTIMATORS, Measure, Terms, centre_batches, choose_measure, mean_interval
from cka_probe.similarity.features import tokens_per_image

FORMAT = "ckaprobe-atlas/1"
FILE, PAIRS, FINGERPRINTS = "atlas.json", "pairs", "fingerprints"
"""Names in the folder of an atlas."""
MADE_BY = (
    "several compared models",
    "an atlas.json of `ckaprobe compare` of three or more models",
    "compare them again",
)
DIAGONAL, BEST_MATCH = "diagonal", "best match"
RULES = {
    DIAGONAL: "mean over the layers of their similarity with the layer of the same name",
    BEST_MATCH: "mean over the layers of both models of their similarity with the most similar layer of the other",
}
"""What the number of a pair is."""
KEYS = {"names", "models", "rule", "layers", "values", "low", "high", "num_examples", "images", "settings", "versions"}


@dataclass(frozen=True, eq=False, repr=False)
class Atlas(Document):
    """The similarity of every two of several models.

    Attributes:
        names: A short name of each model, no two the same.
        models: The models.
        rule: `diagonal` or `best match`: what `values` are (`RULES`).
        layers: Per model, the names of the layers that `values` are means of.
        values: (models, models) float64, symmetric; NaN on the diagonal and where undefined.
        low: Lower end of the 95 % interval, same shape.
        high: Upper end.
        results: The comparison of model i with model j, for every i < j.
    """

    noun: ClassVar[str] = "atlases"
    names: tuple[str, ...]
    models: tuple[Side, ...]
    rule: str
    layers: tuple[tuple[str, ...], ...]
    values: np.ndarray
    low: np.ndarray
    high: np.ndarray
    results: Mapping[tuple[int, int], SimilarityMatrix]

    def __repr__(self) -> str:
        return f"<Atlas of {len(self.names)} models>\n{self.summary()}"

    @property
    def first(self) -> SimilarityMatrix:
        """The comparison of the first two models, with the settings, images and versions of all."""
        return self.results[0, 1]

    @property
    def sources(self) -> tuple[str, ...]:
        """Per model, where the images that it saw came from."""
        columns = [self.results[0, j].images for j in range(1, len(self.names))]
        return (self.first.images["source"], *(images.get("source_y", images["source"]) for images in columns))

    @property
    def images_hashes(self) -> tuple[str, ...]:
        """Per model, the hash of the list of images that it saw."""
        return (self.first.images_hashes[0], *(self.results[0, j].images_hashes[1] for j in range(1, len(self.names))))

    @property
    def images_text(self) -> str:
        """How many examples were compared and from where, each source with its models if these saw different ones."""
        if not any(result.pairing for result in self.results.values()):
            return self.first.images_text
        models: dict[str, list[str]] = {}
        for name, source in zip(self.names, self.sources, strict=True):
            models.setdefault(source, []).append(name)
        sources = ", ".join(f"{source} ({', '.join(names)})" for source, names in models.items())
        pairings = sorted({result.pairing for result in self.results.values()} - {""})
        return f"{self.first.num_examples} images from each of {sources}, paired by {' and '.join(pairings)}"

    def axes(self, model: int) -> tuple[Axis, ...]:
        """Return the layers of a model."""
        return self.first.rows if model == 0 else self.results[0, model].columns

    def result(self, i: int, j: int) -> SimilarityMatrix:
        """Return the comparison of two models, whichever comes first.

        Raises:
            DataError: There are no such two models.
        """
        if (pair := (min(i, j), max(i, j))) not in self.results:
            raise DataError(f"expected two different models of 0 to {len(self.names) - 1}, found {i} and {j}")
        return self.results[pair]

    def to_frame(self) -> pd.DataFrame:
        """Return one row per pair: index_x, index_y, x, y, value, low, high, layers_x, layers_y."""
        return pd.DataFrame(
            [
                {
                    "index_x": i,
                    "index_y": j,
                    "x": self.names[i],
                    "y": self.names[j],
                    "value": self.values[i, j],
                    "low": self.low[i, j],
                    "high": self.high[i, j],
                    "layers_x": len(self.layers[i]),
                    "layers_y": len(self.layers[j]),
                }
                for i, j in self.results
            ]
        )

    @cached_property
    def curves(self) -> pd.DataFrame:
        """One row per model and layer: its similarity to the same layer in the first and in the previous model.

        Columns: index, model, layer_index, layer, and value, low and high of `first_…` and `previous_…`. Only rows of
        the second and later models; empty where the models do not have the same layers.
        """
        rows = []
        for number in range(1, len(self.names)) if self.rule == DIAGONAL else ():
            pairs = {"first": self.results[0, number], "previous": self.results[number - 1, number]}
            for layer, axis in enumerate(self.first.rows):
                row: dict[str, Any] = {"index": number, "model": self.names[number], "layer_index": layer}
                row["layer"] = axis.name
                for name, result in pairs.items():
                    cells = {"value": result.values, "low": result.low, "high": result.high}
                    row |= {f"{name}_{part}": cell[layer, layer] for part, cell in cells.items()}
                rows.append(row)
        return pd.DataFrame(rows)

    def summary(self) -> str:
        """Return the models and the matrix, as text for a terminal."""
        width = max(map(len, self.names))
        described = [f"{side.reference} ({side.architecture})" for side in self.models]
        lines = [
            f"{i}  {name:{width}}  {what}" for i, (name, what) in enumerate(zip(self.names, described, strict=True))
        ]
        settings = self.first.settings
        measure = f"{settings['estimator']} CKA" if settings["measure"] == "cka" else str(settings["title"])
        lines += [
            f"{measure} over {self.images_text}, features {settings['features']}; {self.rule}: {RULES[self.rule]}",
            "",
        ]
        table = pd.DataFrame(self.values, index=[f"{i} {name}" for i, name in enumerate(self.names)])
        return "\n".join([*lines, table.to_string(float_format="{:.3f}".format, na_rep="-"), ""])

    def as_document(self) -> dict[str, Any]:
        """Return what `save` writes as JSON; the comparisons of pairs have their own files."""
        first = self.first
        shared = {name: getattr(first, name) for name in ("num_examples", "images", "settings", "versions")}
        own = {name: getattr(self, name) for name in ("names", "models", "rule", "layers", "values", "low", "high")}
        document: dict[str, Any] = plain({"format": FORMAT} | own | shared)
        return document

    def save_folder(self, folder: str | Path) -> list[Path]:
        """Write everything and return the paths.

        `atlas.json` and `pairs.csv` have the matrix of models, `curves.csv` the layers over checkpoints, and
        `pairs/I-J/` the comparison of the models I and J: what `ckaprobe compare` of the two writes.
        """
        folder = Path(folder)
        paths = [self.save(folder / FILE), self.save(folder / "pairs.csv")]
        if len(self.curves):
            paths.append(folder / "curves.csv")
            with atomic_write(paths[-1]) as temporary:
                self.curves.to_csv(temporary, index=False, lineterminator="\n")
        for pair, result in self.results.items():
            paths += [result.save(pair_folder(folder, pair) / f"result.{suffix}") for suffix in ("json", "csv")]
        return paths

    @classmethod
    def load(cls, folder: str | Path) -> "Atlas":
        """Read what `save_folder` wrote.

        Args:
            folder: The folder, or the `atlas.json` in it.

        Raises:
            DataError: A file is missing, of another format or of another model.
        """
        folder = Path(folder).parent if Path(folder).name == FILE else Path(folder)
        document = read_document(folder / FILE, FORMAT, KEYS, MADE_BY)
        with checked_document(folder / FILE, MADE_BY):
            models = tuple(map(Side.from_json, document["models"]))
            matrices = {name: np.array(document[name], dtype=np.float64) for name in ("values", "low", "high")}
            for name, matrix in matrices.items():
                expect(matrix.shape == (len(models), len(models)), f"{name} of every two models")
            layers, names = tuple(map(tuple, document["layers"])), tuple(document["names"])
            expect(len(names) == len(models) and all(isinstance(name, str) for name in names), "a name for each model")
            expect(all(isinstance(name, str) for side in layers for name in side), "names of layers")
        results = {}
        for pair in combinations(range(len(models)), 2):
            path = pair_folder(folder, pair) / "result.json"
            results[pair] = SimilarityMatrix.load(path)
            if [results[pair].x.hash, results[pair].y.hash] != [models[index].hash for index in pair]:
                raise DataError(f"{path} is of other models than {folder / FILE}; compare them again, in a new folder")
        return cls(names, models, document["rule"], layers, **matrices, results=results)


def pair_folder(folder: Path, pair: tuple[int, int]) -> Path:
    """Return the folder of the comparison of two models in that of an atlas."""
    return folder / PAIRS / f"{pair[0]}-{pair[1]}"


def compare_many(
    models: Sequence[Model] | Mapping[str, Model],
    images: Any = None,
    *,
    layers: LayerSpec = None,
    arch: str | None = None,
    base: str | Path | None = None,
    measure: MeasureSpec = "cka",
    estimator: str = "unbiased",
    permutations: int = 200,
    progress: ProgressSpec = None,
    num: int | Unset | None = UNSET,
    batch: int | Unset | None = UNSET,
    seed: int | Unset = UNSET,
    features: str | Unset = UNSET,
    precision: str | Unset = UNSET,
    preprocess: str | Unset = UNSET,
    size: int | str | Sequence[int] | Unset | None = UNSET,
    normalised: bool | Unset = UNSET,
    device: str = "auto",
    skip_bad: bool = False,
    workers: int | None = None,
    forward_batch: int | None = None,
    memory: int | str | None = None,
    decode_size: int | Unset | None = UNSET,
) -> Atlas:
    """Return the similarity of every two of several models over the same images.

    Each model runs once, and one after another where they are given by references; see `fingerprint_each`.

    Args:
        models: At least two: modules, fingerprints or references, in order, or these by their names.
        images: As in `compare`; not needed if all models are fingerprints.
        layers: Layers of all models; by default the default layers of each.
        arch: Architecture of all checkpoints that do not record theirs.
        base: File or folder of the model that LoRA adapters among them were trained on.
        measure: As in `compare`, as are all other arguments.
        estimator: Estimator of CKA.
        permutations: Number of permutations for the null of each pair.
        progress: True for a bar, or a function called with the number of images done and in all, for all models.
        num: Largest number of images.
        batch: Images in a batch.
        seed: Seed of the choice of images and of the permutations.
        features: `flatten`, `gap`, `tokens` or `tokens:7`.
        precision: `float32`, `tf32` or `bfloat16`.
        preprocess: `own` or `shared` (all have that of the first).
        size: Input size of all models in pixels, in place of their own.
        normalised: The images are normalised floats of the models' input size.
        device: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.
        skip_bad: Skip unreadable images.
        workers: Number of threads that read images.
        forward_batch: Images in a forward pass.
        memory: Most memory of a forward pass.
        decode_size: Least side to which JPEGs are reduced as they are decoded.

    Raises:
        CkaProbeError: One line: which model, what was expected, what was found, what to do.

    >>> nets = {str(width): torch.nn.Sequential(torch.nn.Linear(6, width)) for width in (3, 4, 5)}
    >>> atlas = compare_many(nets, torch.randn(16, 6), layers="0", permutations=0)
    >>> atlas.names, atlas.values.shape, len(atlas.results)
    (('3', '4', '5'), (3, 3), 3)
    """
    method = choose_measure(measure, estimator)
    options = Options(
        num, batch, seed, features, precision, preprocess, size, normalised, base, device, skip_bad, workers,
        forward_batch, progress, decode_size=decode_size, memory=memory,
    )  # fmt: skip
    named = models if isinstance(models, Mapping) else None
    prints = fingerprint_each(
        list(models.values()) if isinstance(models, Mapping) else models,
        images,
        layers=layers,
        arch=arch,
        options=options,
    )
    names = list(named) if named else None
    return atlas_of(prints, names=names, measure=method, estimator=estimator, permutations=permutations)


def atlas_of(
    fingerprints: Sequence[Fingerprint],
    *,
    names: Sequence[str] | None = None,
    measure: MeasureSpec = "cka",
    estimator: str = "unbiased",
    permutations: int = 200,
    progress: Progress | None = None,
) -> Atlas:
    """Return the similarity of every two of several fingerprints.

    Args:
        fingerprints: At least two, of the same images in the same batches.
        names: A name for each, no two the same; by default the ends of their references.
        measure: As in `compare`.
        estimator: Estimator of CKA.
        permutations: Number of permutations for the null of each pair.
        progress: Called with the number of pairs done and in all.

    Raises:
        DataError: There are fewer than two, or not a name for each.
        FingerprintError: Two are of different images, batches or features.
    """
    if len(fingerprints) < 2:
        raise DataError(f"expected at least two models to compare, found {len(fingerprints)}; give more")
    if names is not None:
        if len(set(names)) < len(fingerprints) or len(names) != len(fingerprints):
            raise DataError(
                f"expected a different name for each of {len(fingerprints)} models, found {', '.join(names)}"
            )
        named = zip(fingerprints, names, strict=True)
        fingerprints = [replace(print_, side=replace(print_.side, name=name)) for print_, name in named]
    names = names or _numbered(distinct_names([side.side.reference for side in fingerprints]))
    pairs = list(combinations(range(len(fingerprints)), 2))
    for i, j in pairs:
        with prefixed_errors(f"{names[i]} (x) and {names[j]} (y)"):
            pairing_of(fingerprints[i], fingerprints[j])
    results = {}
    report = progress or (lambda _done, _total: None)
    report(0, len(pairs))
    compared = compare_all(fingerprints, measure=measure, estimator=estimator, permutations=permutations)
    for pair, result in compared:
        results[pair] = result
        report(len(results), len(pairs))
    results = {pair: results[pair] for pair in pairs}
    return _summarised(fingerprints, names, results, choose_measure(measure, estimator), estimator)


def _numbered(names: Sequence[str]) -> list[str]:
    """Return names with a number each where some are the same.

    >>> _numbered(["ResNet", "ViT", "ResNet"])
    ['ResNet (0)', 'ViT (1)', 'ResNet (2)']
    """
    return list(names) if len(set(names)) == len(names) else [f"{name} ({i})" for i, name in enumerate(names)]


def _summarised(
    prints: Sequence[Fingerprint],
    names: Sequence[str],
    results: Mapping[tuple[int, int], SimilarityMatrix],
    measure: Measure,
    estimator: str,
) -> Atlas:
    """Return the atlas of all pairs, with a number and an interval for each."""
    axes = [results[0, 1].rows, *(results[0, j].columns for j in range(1, len(prints)))]
    defined = [np.array([not axis.undefined for axis in layers]) for layers in axes]
    same = len({tuple(axis.name for axis in layers) for layers in axes}) == 1
    if same:
        defined = [np.logical_and.reduce(defined)] * len(prints)
    values, low, high = np.full((3, len(prints), len(prints)), np.nan)
    hsic = registry.get(ESTIMATORS, estimator, "estimator")
    grams: list[Any] = [print_.defined_grams for print_ in prints]
    if measure.sums:
        grams = [centre_batches(stacks, hsic) for stacks in grams]
    for (i, j), result in results.items():
        shares = diagonal_shares(defined[i]) if same else match_shares(result.values, defined[i], defined[j])
        if not shares.any():
            continue
        per_image = tokens_per_image(prints[i].settings.features)
        weights = torch.from_numpy(shares)
        terms = Terms(**{name: torch.from_numpy(term) for name, term in result.terms.items()})
        half = mean_interval(grams[i], grams[j], weights, measure, hsic, per_image, terms if measure.sums else None)
        mean = float((shares * result.values)[shares > 0].sum())
        ends = (-1.0, 1.0) if measure.sums else measure.range or (-np.inf, np.inf)
        values[i, j] = values[j, i] = mean
        low[i, j] = low[j, i] = np.clip(mean - half, *ends)
        high[i, j] = high[j, i] = np.clip(mean + half, *ends)
    return Atlas(
        names=tuple(names),
        models=tuple(side.side for side in prints),
        rule=DIAGONAL if same else BEST_MATCH,
        layers=tuple(
            tuple(axis.name for axis, is_defined in zip(layers, mask, strict=True) if is_defined)
            for layers, mask in zip(axes, defined, strict=True)
        ),
        values=values,
        low=low,
        high=high,
        results=results,
    )


def diagonal_shares(defined: np.ndarray) -> np.ndarray:
    """Return the weight of each cell in the mean of the diagonal, (layers, layers) float64.

    >>> diagonal_shares(np.array([True, False, True])).diagonal()
    array([0.5, 0. , 0.5])
    """
    return np.diag(defined / max(1, defined.sum()))


def match_shares(values: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the weight of each cell in the mean of best matches, (rows, columns) float64.

    Args:
        values: (rows, columns) float64.
        rows: (rows,) bool, which are defined.
        columns: (columns,) bool.

    >>> match_shares(np.array([[0.9, 0.2, 0.8]]), np.array([True]), np.array([True, True, True])).round(3)
    array([[0.667, 0.167, 0.167]])
    """
    shares = np.zeros(values.shape)
    x, y = np.flatnonzero(rows), np.flatnonzero(columns)
    if not x.size or not y.size:
        return shares
    cells = values[np.ix_(x, y)]
    np.add.at(shares, (x, y[cells.argmax(axis=1)]), 0.5 / len(x))
    np.add.at(shares, (x[cells.argmax(axis=0)], y), 0.5 / len(y))
    return shares
