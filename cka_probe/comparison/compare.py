"""Two models and some images in, a `SimilarityMatrix` out."""

from collections.abc import Callable
from dataclasses import replace
from enum import Enum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cka_probe import registry
from cka_probe.comparison.extraction import extract
from cka_probe.comparison.fingerprint import Fingerprint, Settings, check_same_images, is_fingerprint
from cka_probe.comparison.results import MATRICES, Axis, SimilarityMatrix
from cka_probe.errors import DataError, FingerprintError, LayerError
from cka_probe.images.stream import stream_images
from cka_probe.models.backbone import Backbone
from cka_probe.models.checkpoint import versions
from cka_probe.models.devices import pick_device
from cka_probe.models.layers import LayerMap
from cka_probe.models.load import load, wrap
from cka_probe.models.selection import LayerSpec, select_layers
from cka_probe.progress import Progress
from cka_probe.registry import suggestion
from cka_probe.similarity import ESTIMATORS, Measure, choose_measure, cka_cells, measured_cells
from cka_probe.similarity.features import PER_IMAGE

Model = nn.Module | Fingerprint | str | Path
"""A module (a `Backbone` or any other), a fingerprint, or a reference that `load` understands."""

MeasureSpec = str | Measure | Callable[[torch.Tensor, torch.Tensor], Any]
"""A name in `MEASURES`, a `Measure`, or a function of two centred Grams; see `choose_measure`."""


class Unset(Enum):
    """The type of `UNSET`, the default of settings that a fingerprint may bring."""

    UNSET = "unset"


UNSET = Unset.UNSET

TOO_FEW = "its HSIC with itself is not positive: too few images for what it varies"
CONSTANT_BATCH = "it is the same for every image of a batch, and this measure is a mean over batches"


def compare(
    x: Model,
    y: Model,
    images: Any = None,
    *,
    layers: LayerSpec = None,
    layers_y: LayerSpec = None,
    arch: str | None = None,
    measure: MeasureSpec = "cka",
    estimator: str = "unbiased",
    permutations: int = 200,
    progress: Progress | None = None,
    num: int | Unset | None = UNSET,
    batch: int | Unset | None = UNSET,
    seed: int | Unset = UNSET,
    features: str | Unset = UNSET,
    precision: str | Unset = UNSET,
    preprocess: str | Unset = UNSET,
    device: str = "auto",
    skip_bad: bool = False,
) -> SimilarityMatrix:
    """Return the similarity of every layer of x with every layer of y over the same images; by default linear CKA.

    A model that stands on both sides makes one forward pass; a fingerprint makes none.

    Args:
        x: On the rows: a module, a fingerprint, or a reference (a checkpoint, `random:resnet18`, …).
        y: On the columns.
        images: A folder, dataset, `DataLoader`, tensor or any iterable of batches, read once for both; not needed
            when both sides are fingerprints.
        layers: Of both sides; see `select_layers`. By default the nine natural layers of each.
        layers_y: Of y, where they differ.
        arch: Architecture of checkpoints that do not tell theirs.
        measure: `cka`, `rsa`, `mutual_knn`, `procrustes`, or a function of two centred Grams (n, n) that returns a
            number. All but CKA depend on how many images are in a batch.
        estimator: Of CKA, `unbiased` (Song et al. 2012) or `biased` (Gretton et al. 2005).
        permutations: For the null; 0 for none.
        progress: Called as `progress(images_done, total_or_none)` at the start and after each batch.
        num: At most so many images, None for all; by default 512. Like the next five, a fingerprint brings its own.
        batch: Images per batch; by default 64, or as an iterable gives them.
        seed: Of the choice of images and of the permutations; by default 0.
        features: `flatten` (default), `gap` or `tokens`.
        precision: `float32` (default) or `bfloat16` (the forward pass under autocast).
        preprocess: `own` (default: each model its own size, mean and std) or `shared` (both those of x).
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        skip_bad: Leave out unreadable images, and list them, instead of stopping at the first.

    Returns:
        Values with 95 % intervals, the null, and everything needed to say where they come from.

    Raises:
        CkaProbeError: One line: what was expected, what was found, what to do.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 4))
    >>> compare(net, net, torch.randn(16, 6), layers=["0", "2"]).values.shape
    (2, 2)
    """
    chosen = choose_measure(measure, estimator)
    prints = fingerprints(
        x,
        y,
        images,
        layers=layers,
        layers_y=layers_y,
        arch=arch,
        progress=progress,
        num=num,
        batch=batch,
        seed=seed,
        features=features,
        precision=precision,
        preprocess=preprocess,
        device=device,
        skip_bad=skip_bad,
    )
    return compare_fingerprints(*prints, measure=chosen, estimator=estimator, permutations=permutations)


def fingerprints(
    x: Model,
    y: Model,
    images: Any = None,
    *,
    layers: LayerSpec = None,
    layers_y: LayerSpec = None,
    arch: str | None = None,
    progress: Progress | None = None,
    num: int | Unset | None = UNSET,
    batch: int | Unset | None = UNSET,
    seed: int | Unset = UNSET,
    features: str | Unset = UNSET,
    precision: str | Unset = UNSET,
    preprocess: str | Unset = UNSET,
    device: str = "auto",
    skip_bad: bool = False,
) -> tuple[Fingerprint, Fingerprint]:
    """Return what `compare` compares: the fingerprints of both sides over one pass through the images.

    Arguments as in `compare`. Kept, they can be compared again by another measure, or with a third model, and two
    comparisons can be subtracted image by image.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Linear(5, 4))
    >>> x, y = fingerprints(net, net, torch.randn(16, 6), layers=["0"], layers_y=["2"])
    >>> x.layers.names, y.layers.names
    (('0',), ('2',))
    """
    sides = _sides(x, y, arch)
    wanted = (layers, layers if layers_y is None else layers_y)
    maps = [_layers(side, spec) for side, spec in zip(sides, wanted, strict=True)]
    settings = _settings(
        sides,
        {
            "num": num,
            "batch": batch,
            "seed": seed,
            "features": features,
            "precision": precision,
            "preprocess": preprocess,
            "device": device,
            "skip_bad": skip_bad,
        },
    )
    prints = _captured(sides, maps, images, settings, progress)
    first, second = (print_.subset(layer_map) for print_, layer_map in zip(prints, maps, strict=True))
    return first, second


def fingerprint(
    model: Model,
    images: Any,
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
    device: str = "auto",
    skip_bad: bool = False,
) -> Fingerprint:
    """Return the fingerprint of one model over images; arguments as in `compare`.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU())
    >>> fingerprint(net, torch.randn(8, 6), layers="*").layers.names
    ('0', '1')
    """
    side = _side(model, arch)
    settings = _settings(
        [side],
        {
            "num": num,
            "batch": batch,
            "seed": seed,
            "features": features,
            "precision": precision,
            "preprocess": preprocess,
            "device": device,
            "skip_bad": skip_bad,
        },
    )
    return _captured([side], [_layers(side, layers)], images, settings, progress)[0]


def compare_fingerprints(
    x: Fingerprint,
    y: Fingerprint,
    *,
    measure: MeasureSpec = "cka",
    estimator: str = "unbiased",
    permutations: int = 200,
) -> SimilarityMatrix:
    """Return the similarity of two fingerprints; no model, no image and no forward pass.

    Args:
        x: On the rows.
        y: On the columns; of the same images in the same batches.
        measure: As in `compare`.
        estimator: `unbiased` or `biased`, of CKA.
        permutations: For the null; 0 for none.

    Raises:
        FingerprintError: They saw different images, or other batches or features of them.
    """
    check_same_images(x, y)
    chosen, by = choose_measure(measure, estimator), registry.get(ESTIMATORS, estimator, "estimator")
    run = {
        "permutations": permutations,
        "seed": x.settings.seed,
        "per_image": PER_IMAGE[x.settings.features],
    }
    cells = cka_cells(x.grams, y.grams, by, **run) if chosen.sums else measured_cells(x.grams, y.grams, chosen, **run)
    _, own_x, own_y = cells.terms.sums()
    why = TOO_FEW if chosen.sums else CONSTANT_BATCH
    return SimilarityMatrix(
        **{name: getattr(cells, name).numpy() for name in MATRICES},
        rows=_axes(x, own_x, why),
        columns=_axes(y, own_y, why),
        terms={name: getattr(cells.terms, name).numpy() for name in ("xy", "xx", "yy", "weights")},
        num_examples=len(x.images),
        x=x.side,
        y=y.side,
        images={"source": x.source, "hash": x.images_hash, "skipped": list(x.skipped)},
        settings={
            "measure": chosen.name,
            "title": chosen.title,
            "range": chosen.span(cells.values),
            "estimator": estimator if chosen.sums else None,
            "permutations": permutations,
            **x.settings.recorded(),
            "precision_y": y.settings.precision,
        },
        versions=versions(),
    )


def _sides(x: Model, y: Model, arch: str | None) -> list[Backbone | Fingerprint]:
    """Return both sides ready to use; one object when both are the same model, so that it runs once."""
    first = _side(x, arch)
    same = x is y or (isinstance(x, str | Path) and isinstance(y, str | Path) and str(x) == str(y))
    return [first, first if same else _side(y, arch)]


def _side(model: Model, arch: str | None) -> Backbone | Fingerprint:
    """Return the backbone or fingerprint that is meant."""
    if isinstance(model, Fingerprint):
        return model
    if isinstance(model, nn.Module):
        return wrap(model)
    if not isinstance(model, str | Path):
        raise DataError(f"expected a module, a fingerprint or a reference, found {type(model).__name__}")
    return Fingerprint.load(model) if is_fingerprint(model) else load(model, arch=arch)


def _layers(side: Backbone | Fingerprint, spec: LayerSpec) -> LayerMap:
    """Return the layers that are asked for on one side."""
    if isinstance(side, Backbone):
        return select_layers(side.model, spec, side.layers)
    if spec is None:
        return side.layers
    if isinstance(spec, LayerMap):
        spec = spec.modules
    parts = [part.strip() for part in spec.split(",")] if isinstance(spec, str) else [str(part) for part in spec]
    chosen = []
    for part in parts:
        found = [layer for layer in side.layers if fnmatchcase(layer.module, part) or layer.name == part] or [
            layer for index, layer in enumerate(side.layers) if part == str(index)
        ]
        if not found:
            hint = suggestion(part, list(side.layers.modules))
            raise LayerError(f"no layer {part!r} in the fingerprint; {hint}it has {', '.join(side.layers.modules)}")
        chosen += found
    return LayerMap(tuple(dict.fromkeys(chosen)))


def _settings(sides: list[Backbone | Fingerprint], arguments: dict[str, Any]) -> Settings:
    """Return the settings of a run: the arguments that were given, over those of a fingerprint, over the defaults."""
    arguments = {name: value for name, value in arguments.items() if value is not UNSET}
    recorded = next((side.settings for side in sides if isinstance(side, Fingerprint)), None)
    if recorded is None:
        return Settings(**arguments)
    for name, value in arguments.items():
        if name not in ("device", "skip_bad") and value != getattr(recorded, name):
            raise FingerprintError(
                f"the fingerprint was made with {name} {getattr(recorded, name)!r}, this comparison asks for "
                f"{value!r}; omit it, or recompute the fingerprint"
            )
    return replace(recorded, **arguments)


def _captured(
    sides: list[Backbone | Fingerprint],
    maps: list[LayerMap],
    images: Any,
    settings: Settings,
    progress: Progress | None,
) -> list[Fingerprint]:
    """Return the fingerprint of each side; models that have none yet run over the images, each once."""
    wanted: dict[int, tuple[Backbone, LayerMap]] = {}
    for side, layer_map in zip(sides, maps, strict=True):
        if isinstance(side, Backbone):
            before = wanted.get(id(side), (side, layer_map))[1]
            wanted[id(side)] = (side, before.union(layer_map))
    if not wanted:
        return sides
    if images is None:
        raise DataError("a model was given and no images: expected a folder (--data), dataset or batches")
    device = pick_device(settings.device)
    for backbone, _ in wanted.values():
        if backbone.loaded:
            backbone.to(device)
    stream = stream_images(
        images, num=settings.num, batch=settings.batch, seed=settings.seed, skip_bad=settings.skip_bad
    )
    made = dict(zip(wanted, extract(list(wanted.values()), stream, settings, progress), strict=True))
    return [made.get(id(side), side) for side in sides]


def _axes(side: Fingerprint, own: torch.Tensor, why: str) -> tuple[Axis, ...]:
    """Return the layers of one side as a result keeps them, each undefined one with its reason: `why`, if it has none
    of its own and its similarity with itself is not positive."""
    shapes = side.shapes or [()] * len(side.layers)
    return tuple(
        Axis(layer.name, layer.module, spread, reason or ("" if value > 0 else why), shape)
        for layer, spread, reason, value, shape in zip(
            side.layers, side.spreads, side.undefined, own.tolist(), shapes, strict=True
        )
    )
