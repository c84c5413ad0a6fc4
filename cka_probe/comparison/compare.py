"""Compare two models over images: fingerprints of both, and from these a `SimilarityMatrix`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cka_probe import registry
from cka_probe.comparison.extraction import extract
from cka_probe.comparison.features import Features, features_as_backbone, is_features, load_features, row_stream, tables
from cka_probe.comparison.fingerprint import Fingerprint, Settings, check_same_images, is_fingerprint
from cka_probe.comparison.results import MATRICES, Axis, SimilarityMatrix
from cka_probe.errors import DataError, FingerprintError, prefixed_errors
from cka_probe.images.stream import ImageStream, stream_images
from cka_probe.models.backbone import Backbone, as_size
from cka_probe.models.checkpoint import versions
from cka_probe.models.devices import pick_device
from cka_probe.models.layers import LayerMap
from cka_probe.models.load import load, wrap
from cka_probe.models.selection import LayerSpec, recorded_layers, select_by_name, select_layers
from cka_probe.progress import Progress, ProgressSpec, reporting
from cka_probe.similarity import ESTIMATORS, Measure, choose_measure, cka_cells, measured_cells
from cka_probe.similarity.features import PER_IMAGE

Model = nn.Module | Fingerprint | Features | str | Path
"""A module (a `Backbone` or any other), a fingerprint, a reference that `load` understands, or features (arrays of
activations, or a file of them; see `comparison.features`)."""

MeasureSpec = str | Measure | Callable[[torch.Tensor, torch.Tensor], Any]
"""A name in `MEASURES`, a `Measure`, or a function of two centred Grams; see `choose_measure`."""


class Unset(Enum):
    """The type of `UNSET`, the default of options that a fingerprint determines if one is compared."""

    UNSET = "unset"


UNSET = Unset.UNSET


@dataclass(frozen=True)
class _Options:
    """Arguments of `compare` that are settings of a fingerprint; see `Settings`."""

    num: int | Unset | None
    batch: int | Unset | None
    seed: int | Unset
    features: str | Unset
    precision: str | Unset
    preprocess: str | Unset
    size: int | str | Sequence[int] | Unset | None
    normalised: bool | Unset

    def settings(self, sides: Sequence[Backbone | Fingerprint]) -> Settings:
        """Return the settings of a run: those of a fingerprint, which no option may contradict; else the options."""
        options: dict[str, Any] = {name: value for name, value in vars(self).items() if value is not UNSET}
        if options.get("size") is not None:
            options["size"] = as_size(options["size"])
        settings = next((side.settings for side in sides if isinstance(side, Fingerprint)), None)
        if settings is None:
            return Settings(**options)
        for name, value in options.items():
            if value != getattr(settings, name):
                raise FingerprintError(
                    f"the fingerprint was made with {name} {getattr(settings, name)!r}, this comparison asks for "
                    f"{value!r}; omit it, or recompute the fingerprint"
                )
        return settings


NO_IMAGES = "a model was given and no images: expected a folder (--data), dataset or batches"
TOO_FEW = "its HSIC with itself is not positive: too few images for what it varies"


def compare(
    x: Model,
    y: Model,
    images: Any = None,
    *,
    layers: LayerSpec = None,
    layers_y: LayerSpec = None,
    arch: str | None = None,
    arch_y: str | None = None,
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
) -> SimilarityMatrix:
    """Return the similarity of every layer of x with every layer of y over the same images; by default linear CKA.

    A model that is both x and y runs once. A fingerprint needs no forward pass, and its `num`, `batch`, `seed`,
    `features`, `precision`, `preprocess`, `size` and `normalised` are used for the other side as well.

    Args:
        x: The rows: a module, a fingerprint, a reference (a checkpoint, `random:resnet18`, …), or features: an array
            (n, p) or (n, ...), several by name, or a file of them. Features are paired by row, all rows by default.
        y: The columns.
        images: A folder, dataset, `DataLoader`, tensor, array or any iterable of images or batches, read once for
            both; see `stream_images`. Not needed if both sides are fingerprints or features.
        layers: Layers of both sides, see `select_layers`; by default the default layers of each.
        layers_y: Layers of y, where they differ.
        arch: Architecture of the files of both sides, as in `load`; by default identified by their tensors.
        arch_y: Architecture of y, where it differs; "auto" to identify it.
        measure: `cka`, `rsa`, `mutual_knn`, `procrustes`, or a function of two centred Grams (n, n) that returns a
            number. All but CKA depend on how many images are in a batch.
        estimator: Estimator of CKA, `unbiased` (Song et al. 2012) or `biased` (Gretton et al. 2005).
        permutations: Number of permutations for the null; 0 for none.
        progress: True for a bar on stderr, or a function called as `progress(images_done, total_or_none)`.
        num: Largest number of images, None for all; by default 512.
        batch: Images in a batch; by default 64, or the batches of an iterable.
        seed: Seed of the choice of images and of the permutations; by default 0.
        features: `flatten` (default), `gap` or `tokens`.
        precision: `float32` (default) or `bfloat16`.
        preprocess: `own` (default; each model has its own size, mean and std) or `shared` (both have those of x).
        size: Input size of both models in pixels, one number, (height, width) or "HEIGHTxWIDTH", in place of their own;
            a model of a fixed size refuses others.
        normalised: The images are normalised floats of the models' input size: both models get them as they are.
        device: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.
        skip_bad: Skip unreadable images, which the result lists, instead of stopping at the first.

    Returns:
        Values with 95 % intervals, the null, and a record of models, images and settings.

    Raises:
        CkaProbeError: One line: what was expected, what was found, what to do.

    >>> net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))
    >>> compare(net, net, torch.randn(16, 6), layers=["0", "2"]).values.shape
    (2, 2)
    """
    method = choose_measure(measure, estimator)
    options = _Options(num, batch, seed, features, precision, preprocess, size, normalised)
    first, second = _extract(
        (x, y), images, (layers, layers_y), (arch, arch_y or arch), progress, device, skip_bad, options
    )
    return compare_fingerprints(first, second, measure=method, estimator=estimator, permutations=permutations)


def fingerprints(
    x: Model,
    y: Model,
    images: Any = None,
    *,
    layers: LayerSpec = None,
    layers_y: LayerSpec = None,
    arch: str | None = None,
    arch_y: str | None = None,
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
) -> tuple[Fingerprint, Fingerprint]:
    """Return the fingerprints that `compare` compares, from one pass over the images; arguments as in `compare`.

    Saved fingerprints can later be compared by another measure or with a third model, and two comparisons of them can
    be subtracted image by image.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 4))
    >>> x, y = fingerprints(net, net, torch.randn(16, 6), layers=["0"], layers_y=["2"])
    >>> x.layers.names, y.layers.names
    (('0',), ('2',))
    """
    options = _Options(num, batch, seed, features, precision, preprocess, size, normalised)
    first, second = _extract(
        (x, y), images, (layers, layers_y), (arch, arch_y or arch), progress, device, skip_bad, options
    )
    return first, second


def fingerprint(
    model: Model,
    images: Any = None,
    *,
    layers: LayerSpec = None,
    arch: str | None = None,
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
) -> Fingerprint:
    """Return the fingerprint of one model over images; arguments as in `compare`.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU())
    >>> fingerprint(net, torch.randn(8, 6), layers="*").layers.names
    ('0', '1')
    """
    options = _Options(num, batch, seed, features, precision, preprocess, size, normalised)
    return _extract((model,), images, (layers,), (arch,), progress, device, skip_bad, options)[0]


def fingerprint_each(
    models: Sequence[Model],
    images: Any = None,
    *,
    layers: LayerSpec = None,
    arch: str | None = None,
    progress: Progress | None = None,
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
) -> list[Fingerprint]:
    """Return the fingerprints of any number of models over the same images; arguments as in `compare`.

    Each model runs once. One is loaded after another, and only one is in memory. Models are run batch by batch next
    to each other if they are in memory anyway, if the images can be read only once (a loader), or if all are to have
    the preprocessing of the first.

    >>> nets = [nn.Sequential(nn.Linear(6, width), nn.ReLU()) for width in (3, 4, 5)]
    >>> [print_.shapes[0] for print_ in fingerprint_each(nets, torch.randn(8, 6), layers=["0"])]
    [(3,), (4,), (5,)]
    """
    options = _Options(num, batch, seed, features, precision, preprocess, size, normalised)
    rereadable = isinstance(images, str | Path) or (hasattr(images, "__getitem__") and hasattr(images, "__len__"))
    stored = {_key(model): side for model in models if (side := _stored(model)) is not None}
    waiting = {_key(model): model for model in models if _key(model) not in stored}
    references = sum(isinstance(model, str | Path) for model in waiting.values())
    if references < 2 or not rereadable or preprocess == "shared":
        sides = [stored.get(_key(model), model) for model in models]
        return _extract(
            sides, images, [layers] * len(models), [arch] * len(models), progress, device, skip_bad, options
        )
    settings = options.settings(list(stored.values()))
    options = _Options(**{name: getattr(settings, name) for name in vars(options)})
    prints = {key: side.subset(_layers(side, layers)) for key, side in stored.items()}
    for model in waiting.values():  # what is wrong with one of them is reported before the first of them runs
        _layers(_side(model, arch), layers)
    for number, (key, model) in enumerate(waiting.items()):
        part = _part_of(progress, number, len(waiting))
        (prints[key],) = _extract([model], images, [layers], [arch], part, device, skip_bad, options)
        if prints[key].images != prints[next(iter(waiting))].images:
            raise DataError(
                f"expected the same images at every reading, found others for {model}; turn random augmentation off, "
                "or give a DataLoader, which is read once"
            )
    return [prints[_key(model)] for model in models]


def compare_fingerprints(
    x: Fingerprint,
    y: Fingerprint,
    *,
    measure: MeasureSpec = "cka",
    estimator: str = "unbiased",
    permutations: int = 200,
) -> SimilarityMatrix:
    """Return the similarity of two fingerprints, without a model, an image or a forward pass.

    Args:
        x: The rows.
        y: The columns; a fingerprint of the same images in the same batches.
        measure: As in `compare`.
        estimator: Estimator of CKA, `unbiased` or `biased`.
        permutations: Number of permutations for the null; 0 for none.

    Raises:
        FingerprintError: They are of different images, batches or features.

    >>> net = nn.Sequential(nn.Linear(6, 5), nn.ReLU())
    >>> print_ = fingerprint(net, torch.randn(8, 6), layers="0,1")
    >>> compare_fingerprints(print_, print_, permutations=0).values.diagonal().round(6)
    array([1., 1.])
    """
    check_same_images(x, y)
    method = choose_measure(measure, estimator)
    hsic = registry.get(ESTIMATORS, estimator, "estimator")
    options = {"permutations": permutations, "seed": x.settings.seed, "per_image": PER_IMAGE[x.settings.features]}
    if method.sums:
        cells = cka_cells(x.defined_grams, y.defined_grams, hsic, **options)
    else:
        cells = measured_cells(x.defined_grams, y.defined_grams, method, **options)
    _, self_x, self_y = cells.terms.sums()
    return SimilarityMatrix(
        **{name: getattr(cells, name).numpy() for name in MATRICES},
        rows=_axes(x, self_x),
        columns=_axes(y, self_y),
        terms={name: getattr(cells.terms, name).numpy() for name in ("xy", "xx", "yy", "weights")},
        num_examples=len(x.images),
        x=x.side,
        y=y.side,
        images={"source": x.source, "hash": x.images_hash, "skipped": list(x.skipped)},
        settings={
            "measure": method.name,
            "title": method.title,
            "range": method.span(cells.values),
            "estimator": estimator if method.sums else None,
            "permutations": permutations,
            **x.settings.recorded(),
            "precision_y": y.settings.precision,
        },
        versions=versions(),
    )


def _extract(
    models: Sequence[Model],
    images: Any,
    specs: Sequence[LayerSpec],
    archs: Sequence[str | None],
    progress: ProgressSpec,
    device: str,
    skip_bad: bool,
    options: _Options,
) -> list[Fingerprint]:
    """Return the fingerprint of each model, restricted to its layers; each backbone runs over the images once."""
    options.settings(())  # a name that does not exist is refused before a model is loaded
    opened: dict[Any, Backbone | Fingerprint] = {}
    for model, arch in zip(models, archs, strict=True):
        if (_key(model), arch) not in opened:
            opened[_key(model), arch] = _side(model, arch)
    sides = [opened[_key(model), arch] for model, arch in zip(models, archs, strict=True)]
    maps = [_layers(side, specs[0] if spec is None else spec) for side, spec in zip(sides, specs, strict=True)]
    settings = replace(options.settings(sides), device=device, skip_bad=skip_bad)
    if tables(sides) and options.num is UNSET and not any(isinstance(side, Fingerprint) for side in sides):
        settings = replace(settings, num=None)
    runs: dict[int, tuple[Backbone, LayerMap]] = {}
    for side, layers in zip(sides, maps, strict=True):
        if isinstance(side, Backbone):
            runs[id(side)] = (side, runs[id(side)][1].union(layers) if id(side) in runs else layers)
    extracted: dict[int, Fingerprint] = {}
    if runs:
        target = pick_device(device)
        for backbone, _ in runs.values():
            if backbone.loaded:
                backbone.to(target)
        stream = row_stream(sides, images, settings) if tables(sides) else _image_stream(images, settings)
        with reporting(progress) as report:
            extracted = dict(zip(runs, extract(list(runs.values()), stream, settings, report), strict=True))
    prints = [side if isinstance(side, Fingerprint) else extracted[id(side)] for side in sides]
    return [print_.subset(recorded_layers(layers, print_.layers)) for print_, layers in zip(prints, maps, strict=True)]


def _image_stream(images: Any, settings: Settings) -> ImageStream:
    """Return the images of models."""
    if images is None:
        raise DataError(NO_IMAGES)
    return stream_images(
        images,
        num=settings.num,
        batch=settings.batch,
        seed=settings.seed,
        skip_bad=settings.skip_bad,
        normalised=settings.normalised,
    )


def _key(model: Model) -> str | int:
    """Return what is equal for a model that is given twice."""
    return str(model) if isinstance(model, str | Path) else id(model)


def _stored(model: Model) -> Fingerprint | None:
    """Return a fingerprint or that of a file, None for a model."""
    if isinstance(model, Fingerprint):
        return model
    return Fingerprint.load(model) if isinstance(model, str | Path) and is_fingerprint(model) else None


def _part_of(progress: Progress | None, number: int, count: int) -> Progress | None:
    """Return the progress of one of several models that run one after another over the same images."""
    if progress is None:
        return None
    return lambda done, total: progress(done + number * (total or 0), None if total is None else total * count)


def _side(model: Model, arch: str | None) -> Backbone | Fingerprint:
    """Return a model or its reference as a backbone or fingerprint."""
    if (side := _stored(model)) is not None:
        return side
    if isinstance(model, nn.Module):
        return wrap(model)
    if isinstance(model, Mapping) or hasattr(model, "__array__"):
        return features_as_backbone(model)
    if not isinstance(model, str | Path):
        raise DataError(f"expected a module, a fingerprint, a reference or features, found {type(model).__name__}")
    if is_features(model):
        return load_features(model)
    with prefixed_errors(str(model)):
        return load(model, arch=arch)


def _layers(side: Backbone | Fingerprint, spec: LayerSpec) -> LayerMap:
    """Return the layers of one side that a spec selects."""
    if isinstance(side, Backbone):
        with prefixed_errors(side.origin.reference):
            return select_layers(side.model, spec, side.layers)
    return select_by_name(side.layers, spec, f"the fingerprint of {side.side.reference}")


def _axes(side: Fingerprint, self_similarity: torch.Tensor) -> tuple[Axis, ...]:
    """Return the layers of one side for a result.

    A layer whose similarity with itself is not positive is undefined, by default for too few images.
    """
    shapes = side.shapes or [()] * len(side.layers)
    return tuple(
        Axis(layer.name, layer.module, rms, undefined or ("" if value > 0 else TOO_FEW), shape)
        for layer, rms, undefined, value, shape in zip(
            side.layers, side.rms, side.undefined_reasons, self_similarity.tolist(), shapes, strict=True
        )
    )
