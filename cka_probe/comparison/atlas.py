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
from itertools import combinations, repeat
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from cka_probe import registry
from cka_probe.comparison.compare import MeasureSpec, compare_all
from cka_probe.comparison.correspondence import BEST_MATCH, DIAGONAL, RULES, PairsOfModels, layers_by_depth
from cka_probe.comparison.fingerprint import Fingerprint, pairing_of
from cka_probe.comparison.names import distinct_names
from cka_probe.comparison.results import Axis, Side, SimilarityMatrix
from cka_probe.comparison.sides import UNSET, Model, Options, Unset, fingerprint_each
from cka_probe.comparison.trajectory import Run, curves_of, runs_of, settling_of
from cka_probe.documents import Document, checked_document, expect, plain, read_document
from cka_probe.errors import DataError, prefixed_errors
from cka_probe.files import atomic_write
from cka_probe.models.selection import LayerSpec
from cka_probe.progress import Progress, ProgressSpec
from cka_probe.similarity import ESTIMATORS, Measure, choose_measure
from cka_probe.similarity.embedding import Embedding, embed

FORMAT = "ckaprobe-atlas/2"
FILE, PAIRS, FINGERPRINTS = "atlas.json", "pairs", "fingerprints"
"""Names in the folder of an atlas."""
MADE_BY = (
    "several compared models",
    "an atlas.json of `ckaprobe compare` of three or more models",
    "compare them again",
)
KEYS = {"names", "models", "rule", "layers", "values", "low", "high", "num_examples", "images", "settings", "versions"}
KEYS |= {"embeddings"}
RESAMPLES = 200
"""Resamples of the images for the ellipses of the models."""


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
        embeddings: The models as points in a plane, by `values` and then at every depth; none by a measure whose
            largest value is not 1. Their ellipses are known for CKA.
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
    embeddings: tuple[Embedding, ...]
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

    @property
    def aligned(self) -> bool:
        """Whether all models have layers of the same names."""
        return self.rule == DIAGONAL

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """Training runs of which at least three checkpoints are among the models."""
        return runs_of(self.names)

    @property
    def run(self) -> Run | None:
        """The training run that all models are checkpoints of, in this order; None if they are not."""
        return next((run for run in self.runs if run.models == tuple(range(len(self.names)))), None)

    @cached_property
    def curves(self) -> pd.DataFrame:
        """Each layer over the models, such as checkpoints; see `curves_of`."""
        return curves_of(self)

    @cached_property
    def settling(self) -> pd.DataFrame:
        """When each layer of each run settled; see `settling_of`."""
        return settling_of(self)

    @cached_property
    def depths(self) -> np.ndarray:
        """The layer of each model at every depth, (depths, models) int64; see `layers_by_depth`."""
        return layers_by_depth([len(self.axes(model)) for model in range(len(self.names))])

    def depth_name(self, depth: int) -> str:
        """Return the name of a depth: of its layer where all models have the same layers, otherwise from 0 to 1."""
        if self.aligned:
            return self.first.rows[depth].name
        return f"depth {depth / max(1, len(self.depths) - 1):.2f}"

    def at_depth(self, depth: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return values, low and high of every two models at a depth, (models, models) float64 each.

        All are NaN on the diagonal, and for models whose layer at that depth is undefined.
        """
        matrices = np.full((3, len(self.names), len(self.names)), np.nan)
        for (i, j), result in self.results.items():
            cell = self.depths[depth, i], self.depths[depth, j]
            numbers = result.values[cell], result.low[cell], result.high[cell]
            matrices[:, i, j] = matrices[:, j, i] = numbers
        return matrices[0], matrices[1], matrices[2]

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
        own["embeddings"] = self.embeddings
        document: dict[str, Any] = plain({"format": FORMAT} | own | shared)
        return document

    def save_folder(self, folder: str | Path) -> list[Path]:
        """Write everything and return the paths.

        `atlas.json` and `pairs.csv` have the matrix of models, `curves.csv` the layers over checkpoints, `settling.csv`
        when the layers of a run settled, and `pairs/I-J/` the comparison of the models I and J: what `ckaprobe compare`
        of the two writes.
        """
        folder = Path(folder)
        paths = [self.save(folder / FILE), self.save(folder / "pairs.csv")]
        for name, table in (("curves", self.curves), ("settling", self.settling)):
            if len(table):
                paths.append(folder / f"{name}.csv")
                with atomic_write(paths[-1]) as temporary:
                    table.to_csv(temporary, index=False, lineterminator="\n")
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
            expect(document["rule"] in RULES, "a rule of layers")
            expect(len(layers) == len(models), "layers of each model")
            expect(all(isinstance(name, str) for side in layers for name in side), "names of layers")
            embeddings = tuple(_read_embedding(embedding, len(models)) for embedding in document["embeddings"])
        results = {}
        for pair in combinations(range(len(models)), 2):
            path = pair_folder(folder, pair) / "result.json"
            results[pair] = SimilarityMatrix.load(path)
            if [results[pair].x.hash, results[pair].y.hash] != [models[index].hash for index in pair]:
                raise DataError(f"{path} is of other models than {folder / FILE}; compare them again, in a new folder")
        atlas = cls(names, models, document["rule"], layers, **matrices, embeddings=embeddings, results=results)
        with checked_document(folder / FILE, MADE_BY):
            expect(len(embeddings) in (0, 1 + len(atlas.depths)), "an embedding of all layers and of each depth")
        return atlas


def _read_embedding(document: Mapping[str, Any], models: int) -> Embedding:
    """Return an embedding from JSON."""
    points, covariances = (np.array(document[name], dtype=np.float64) for name in ("points", "covariances"))
    expect(points.shape == (models, 2) and covariances.shape == (models, 2, 2), "a point for each model")
    return Embedding(points, covariances, float(np.array(document["explained"], dtype=np.float64)))


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

    >>> import torch
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
    """Return the atlas of all pairs, with a number and an interval for each, and its embeddings."""
    pairs = PairsOfModels(prints, results, measure, registry.get(ESTIMATORS, estimator, "estimator"), RESAMPLES)
    atlas = Atlas(
        names=tuple(names),
        models=tuple(side.side for side in prints),
        rule=DIAGONAL if pairs.same_layers else BEST_MATCH,
        layers=tuple(
            tuple(axis.name for axis, is_defined in zip(layers, mask, strict=True) if is_defined)
            for layers, mask in zip(pairs.axes, pairs.defined, strict=True)
        ),
        **dict(zip(("values", "low", "high"), pairs.means(), strict=True)),
        embeddings=(),
        results=results,
    )
    if not measure.sums and (measure.range is None or measure.range[1] != 1):
        return atlas
    matrices = [atlas.values, *(atlas.at_depth(depth)[0] for depth in range(len(atlas.depths)))]
    deviations = pairs.deviations() if measure.sums else repeat(None)
    embeddings: list[Embedding] = []
    for matrix, part in zip(matrices, deviations, strict=False):
        embeddings.append(embed(matrix, part, onto=embeddings[0].points if embeddings else None))
    return replace(atlas, embeddings=tuple(embeddings))
