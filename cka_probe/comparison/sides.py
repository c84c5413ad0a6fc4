"""The sides of a comparison: models, fingerprints and features are opened, and run over their images.

What is wrong with the options, the images or the fingerprints is reported before a model is loaded, and what is wrong
with a model before the first of them runs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from cka_probe import registry
from cka_probe.comparison.extraction import FeatureSink, extract, side_features
from cka_probe.comparison.features import (
    Features,
    features_as_backbone,
    is_features,
    load_features,
    row_stream,
    tables,
)
from cka_probe.comparison.fingerprint import RUNNING, Fingerprint, Settings, is_fingerprint
from cka_probe.comparison.ranks import current_ranks
from cka_probe.errors import CheckpointError, DataError, FingerprintError, prefixed_errors
from cka_probe.images.pairing import ORDER, PAIRINGS, stream_pairs
from cka_probe.images.stream import WHOLE, ImageStream, Share, stream_images
from cka_probe.models.backbone import Backbone, as_size
from cka_probe.models.devices import byte_count, pick_device
from cka_probe.models.layers import LayerMap
from cka_probe.models.load import is_adapter_reference, load, wrap
from cka_probe.models.selection import LayerSpec, recorded_layers, select_by_name, select_layers
from cka_probe.progress import Progress, ProgressSpec, reporting

Model = nn.Module | Fingerprint | Features | str | Path
"""A module (a `Backbone` or any other), a fingerprint, a reference that `load` understands, or features (arrays of
activations, or a file of them; see `comparison.features`)."""


class Unset(Enum):
    """The type of `UNSET`, the default of options that a fingerprint determines if one is compared."""

    UNSET = "unset"


UNSET = Unset.UNSET


@dataclass(frozen=True)
class Options:
    """Arguments that functions here share; those of a fingerprint's `Settings` are unset where one determines them.

    Attributes:
        num: As in `compare`, as are all others.
        batch: Images in a batch.
        seed: Seed of the choice of images and of the permutations.
        features: `flatten`, `gap`, `tokens` or `tokens:7`.
        precision: `float32`, `tf32` or `bfloat16`.
        preprocess: `own` or `shared`.
        size: Input size of the models.
        normalised: The images are normalised floats.
        base: The model that LoRA adapters were trained on.
        device: Where models run.
        skip_bad: Skip unreadable images.
        workers: Number of threads that read images.
        forward_batch: Images in a forward pass.
        memory: Most memory of a forward pass.
        num_features: Number of random features of a layer at most.
        progress: True for a bar, or a function.
        shard: Part of the batches to run, such as `3/16`.
        decode_size: Least side to which JPEGs are reduced as they are decoded.
    """

    num: int | Unset | None = UNSET
    batch: int | Unset | None = UNSET
    seed: int | Unset = UNSET
    features: str | Unset = UNSET
    precision: str | Unset = UNSET
    preprocess: str | Unset = UNSET
    size: int | str | Sequence[int] | Unset | None = UNSET
    normalised: bool | Unset = UNSET
    base: str | Path | None = None
    device: str = "auto"
    skip_bad: bool = False
    workers: int | None = None
    forward_batch: int | None = None
    progress: ProgressSpec = None
    shard: str | None = None
    decode_size: int | Unset | None = UNSET
    memory: int | str | None = None
    num_features: int | Unset | None = UNSET

    def settings(self, stored: Sequence[Fingerprint] = ()) -> Settings:
        """Return the settings of a run: those of fingerprints, which no option may contradict; else the options."""
        options: dict[str, Any] = {name: getattr(self, name) for name in SETTINGS if getattr(self, name) is not UNSET}
        if options.get("size") is not None:
            options["size"] = as_size(options["size"])
        run: dict[str, Any] = {name: getattr(self, name) for name in RUNNING}
        run["memory"] = None if self.memory is None else byte_count(self.memory)
        if not stored:
            return Settings(**options, **run)
        settings = stored[0].settings
        for name, value in options.items():
            if value != getattr(settings, name):
                raise FingerprintError(
                    f"the fingerprint was made with {name} {getattr(settings, name)!r}, this comparison asks for "
                    f"{value!r}; omit it, or recompute the fingerprint"
                )
        return replace(settings, **run)

    @property
    def share(self) -> Share:
        """The batches to run.

        Raises:
            DataError: `shard` is not a number and how many there are.
        """
        if self.shard is None:
            return WHOLE
        numbers = self.shard.split("/")
        index, count = map(int, numbers) if len(numbers) == 2 and all(map(str.isdecimal, numbers)) else (0, 0)
        if not 1 <= index <= count or count < 2:
            raise DataError(
                f"expected a shard as NUMBER/COUNT, such as 3/16, of two or more, found {self.shard!r}; omit it for "
                "all batches"
            )
        return Share(index - 1, count)


SETTINGS = (
    "num", "batch", "seed", "features", "precision", "preprocess", "size", "normalised", "decode_size", "num_features",
)  # fmt: skip
"""Options that are settings of a fingerprint."""


@dataclass(frozen=True)
class Images:
    """The images of a comparison: of both sides, or of x and of y, and how these are to be paired."""

    x: Any
    y: Any = None
    pair: str | None = None


class Entry(NamedTuple):
    """One model to extract, with what selects its layers, its architecture, and the index of its stream of images."""

    model: Model
    layers: LayerSpec
    arch: str | None
    stream: int = 0


class Sides(NamedTuple):
    """The sides of a comparison, opened.

    Attributes:
        sides: A backbone or a fingerprint for each entry.
        maps: Their layers.
        numbers: Index of the stream of each.
        streams: Images, or rows of features; none if no model is to be run.
        pairing: How two streams are paired.
        settings: Of the run.
    """

    sides: list[Backbone | Fingerprint]
    maps: list[LayerMap]
    numbers: list[int]
    streams: tuple[ImageStream, ...]
    pairing: str
    settings: Settings

    @property
    def keys(self) -> list[tuple[int, int]]:
        """What is equal for a side given twice, of each: its `id` and the index of its stream."""
        return [(id(side), number) for side, number in zip(self.sides, self.numbers, strict=True)]

    def runs(self) -> dict[tuple[int, int], tuple[Backbone, LayerMap, int]]:
        """Return each backbone on its device, with its layers and the index of its stream, by side and stream.

        A backbone given twice runs once over the same images.
        """
        runs: dict[tuple[int, int], tuple[Backbone, LayerMap, int]] = {}
        for key, side, layers in zip(self.keys, self.sides, self.maps, strict=True):
            if isinstance(side, Backbone):
                runs[key] = (side, runs[key][1].union(layers) if key in runs else layers, key[1])
        device = pick_device(self.settings.device) if runs else None
        for backbone, _, _ in runs.values():
            if backbone.loaded:
                backbone.to(device)
        return runs


NO_IMAGES = "a model was given and no images: expected a folder (--data), dataset or batches"
NO_IMAGES_OF_X = "images of y were given and none of x: expected those of x as well (--data)"


def fingerprint_each(
    models: Sequence[Model],
    images: Any = None,
    *,
    layers: LayerSpec = None,
    arch: str | None = None,
    options: Options | None = None,
) -> list[Fingerprint]:
    """Return the fingerprints of any number of models over the same images; arguments as in `compare`.

    Each model runs once. One is loaded after another, and only one is in memory. Models are run batch by batch next
    to each other if they are in memory anyway, if the images can be read only once (a loader), or if all are to have
    the preprocessing of the first.

    >>> import torch
    >>> nets = [nn.Sequential(nn.Linear(6, width), nn.ReLU()) for width in (3, 4, 5)]
    >>> [print_.shapes[0] for print_ in fingerprint_each(nets, torch.randn(8, 6), layers=["0"])]
    [(3,), (4,), (5,)]
    """
    options = options or Options()
    stored, waiting = fingerprints_and_models(models)
    if not run_in_turn(list(waiting.values()), images, options):
        entries = [Entry(stored.get(_key(model), model), layers, arch) for model in models]
        return extract_sides(entries, Images(images), options)
    settings = options.settings(list(stored.values()))
    options = replace(options, **{name: getattr(settings, name) for name in SETTINGS})
    _check_base(list(waiting.values()), options.base)
    _open_streams(Images(images), settings)
    prints = {key: side.subset(_layers(side, layers)) for key, side in stored.items()}
    for model in waiting.values():  # what is wrong with one of them is reported before the first of them runs
        _layers(_side(model, arch, _base_of(model, options.base)), layers)
    with reporting(options.progress) as report:
        for number, (key, model) in enumerate(waiting.items()):
            base, progress = _base_of(model, options.base), _part_of(report, number, len(waiting))
            part = replace(options, base=base, progress=progress)
            (prints[key],) = extract_sides([Entry(model, layers, arch)], Images(images), part)
            if prints[key].images != prints[next(iter(waiting))].images:
                raise DataError(
                    f"expected the same images at every reading, found others for {model}; turn random augmentation "
                    "off, or give a DataLoader, which is read once"
                )
    return [prints[_key(model)] for model in models]


def run_in_turn(models: Sequence[Model], images: Any, options: Options) -> bool:
    """Return whether `fingerprint_each` loads and runs models that are no fingerprints one after another."""
    rereadable = isinstance(images, str | Path) or (hasattr(images, "__getitem__") and hasattr(images, "__len__"))
    references = sum(isinstance(model, str | Path) for model in models)
    return references >= 2 and rereadable and options.preprocess != "shared"


def fingerprints_and_models(models: Sequence[Model]) -> tuple[dict[str | int, Fingerprint], dict[str | int, Model]]:
    """Return the fingerprints among models, and the others, which are to be run; each once, by its key."""
    stored = {_key(model): side for model in models if (side := _stored(model)) is not None}
    return stored, {_key(model): model for model in models if _key(model) not in stored}


def extract_pair(
    x: Model,
    y: Model,
    images: Images,
    layers: tuple[LayerSpec, LayerSpec],
    archs: tuple[str | None, str | None],
    options: Options,
) -> tuple[Fingerprint, Fingerprint]:
    """Return the fingerprints of both sides of a comparison.

    Args:
        x: The rows.
        y: The columns.
        images: Their images.
        layers: Layers of x and of y, None of y for those of x.
        archs: Architectures of files, None of y for that of x.
        options: All other arguments.

    Raises:
        CkaProbeError: One line; for images as well if a pairing is asked for of images that are the same, or of
            fingerprints by name.
    """
    first, second = extract_sides(pair_entries(x, y, images, layers, archs), images, options)
    return first, second


def pair_entries(
    x: Model,
    y: Model,
    images: Images,
    layers: tuple[LayerSpec, LayerSpec],
    archs: tuple[str | None, str | None],
) -> list[Entry]:
    """Return x and y as entries; arguments and errors as in `extract_pair`."""
    if images.pair is not None:
        registry.get(PAIRINGS, images.pair, "pairing")
        if images.y is None and (images.pair != ORDER or not any(map(_stored, (x, y)))):
            raise DataError(
                f"expected other images of y (--data-y) to pair by {images.pair}, found none; omit --pair, which "
                "without --data-y is for fingerprints, by order"
            )
    return [Entry(x, layers[0], archs[0]), Entry(y, layers[1], archs[1] or archs[0], int(images.y is not None))]


def extract_sides(
    entries: Sequence[Entry], images: Images, options: Options, sink: FeatureSink | None = None
) -> list[Fingerprint]:
    """Return the fingerprint of each model, restricted to its layers; each backbone runs once over its images.

    With a `sink`, it gets the features of two models, and the fingerprints have no Grams.

    What is wrong with the options, the images and the fingerprints is found before a model is loaded. In a process
    group each process has to call this; it runs its share of the batches, and all have the whole fingerprints.
    """
    with current_ranks().together():
        return _extract_sides(entries, images, options, sink)


def _extract_sides(
    entries: Sequence[Entry], images: Images, options: Options, sink: FeatureSink | None
) -> list[Fingerprint]:
    """Do the part of this process."""
    opened = open_sides(entries, images, options)
    if sink is not None:
        sink.start(opened.sides, opened.settings, opened.streams[0] if opened.streams else None)
    runs = opened.runs()
    extracted: dict[tuple[int, int], Fingerprint] = {}
    if runs:
        with reporting(options.progress) as report:
            receive = None
            if sink is not None:
                receive = partial(_add_features, sink, opened, [list(runs).index(key) for key in opened.keys])
            prints = extract(
                list(runs.values()), opened.streams, opened.settings, report, opened.pairing, options.share, receive
            )
        extracted = dict(zip(runs, prints, strict=True))
    extracted |= {
        key: side for key, side in zip(opened.keys, opened.sides, strict=True) if isinstance(side, Fingerprint)
    }
    return [
        extracted[key].subset(recorded_layers(layers, extracted[key].layers))
        for key, layers in zip(opened.keys, opened.maps, strict=True)
    ]


def _add_features(
    sink: FeatureSink, opened: Sides, indices: Sequence[int], features: Sequence[dict[str, Tensor]]
) -> None:
    """Add the features of a batch, by model and module; `indices` are the models of x and of y."""
    x, y = side_features(indices, opened.maps, features)
    sink.add(x, y)


def open_sides(entries: Sequence[Entry], images: Images, options: Options) -> Sides:
    """Return the sides of a comparison, opened, before any of them runs."""
    options.settings()  # names that do not exist
    stored = {_key(entry.model): side for entry in entries if (side := _stored(entry.model)) is not None}
    if options.share != WHOLE and stored:
        raise DataError(f"expected a model for shard {options.shard}, found a fingerprint; omit shard")
    settings = options.settings(list(stored.values()))
    models = [entry.model for entry in entries if _key(entry.model) not in stored]
    _check_base(models, options.base)
    streams: tuple[ImageStream, ...] = ()
    pairing = ""
    if models and not any(map(_is_features, models)):
        streams, pairing = _open_streams(images, settings)
    models_by_key: dict[Any, Backbone | Fingerprint] = {}
    sides = []
    for model, _, arch, _ in entries:
        key = _key(model), arch
        if key not in models_by_key:
            side = stored.get(_key(model))
            models_by_key[key] = side or _side(model, arch, _base_of(model, options.base))
        sides.append(models_by_key[key])
    specs = [entries[0].layers if entry.layers is None else entry.layers for entry in entries]
    maps = [_layers(side, spec) for side, spec in zip(sides, specs, strict=True)]
    if tables(sides):
        if options.num is UNSET and not stored:
            settings = replace(settings, num=None)
        streams = (row_stream(sides, images.x if images.y is None else images.y, settings),)
    return Sides(sides, maps, [entry.stream for entry in entries], streams, pairing, settings)


def _open_streams(images: Images, settings: Settings) -> tuple[tuple[ImageStream, ...], str]:
    """Return the images of models as one stream, or as two and how they are paired."""
    if images.x is None:
        raise DataError(NO_IMAGES if images.y is None else NO_IMAGES_OF_X)
    names = ("num", "batch", "seed", "skip_bad", "normalised", "workers", "decode_size")
    options: dict[str, Any] = {name: getattr(settings, name) for name in names}
    if images.y is None:
        return (stream_images(images.x, **options),), ""
    return stream_pairs(images.x, images.y, pair=images.pair, **options)


def _key(model: Model) -> str | int:
    """Return what is equal for a model that is given twice."""
    return str(model) if isinstance(model, str | Path) else id(model)


def _stored(model: Model) -> Fingerprint | None:
    """Return a fingerprint or that of a file, None for a model."""
    if isinstance(model, Fingerprint):
        return model
    return Fingerprint.load(model) if isinstance(model, str | Path) and is_fingerprint(model) else None


def _part_of(progress: Progress, number: int, count: int) -> Progress:
    """Return the progress of one of several models that run one after another over the same images."""
    return lambda done, total: progress(done + number * (total or 0), None if total is None else total * count)


def _is_features(model: Model) -> bool:
    """Return whether a model is arrays of features, or a file of them."""
    if isinstance(model, str | Path):
        return is_features(model)
    if isinstance(model, Backbone):
        return bool(tables([model]))
    return isinstance(model, Mapping) or hasattr(model, "__array__")


def _base_of(model: Model, base: str | Path | None) -> str | Path | None:
    """Return the base if a model is a reference of an adapter, None for any other model."""
    return base if base is not None and isinstance(model, str | Path) and is_adapter_reference(model) else None


def _check_base(models: Sequence[Model], base: str | Path | None) -> None:
    """Raise `CheckpointError` if there is a base and no adapter."""
    if base is not None and not any(_base_of(model, base) for model in models):
        raise CheckpointError("expected a LoRA adapter among the models for the base, found none; omit --base")


def _side(model: Model, arch: str | None, base: str | Path | None = None) -> Backbone | Fingerprint:
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
        return load(model, arch=arch, base=base)


def _layers(side: Backbone | Fingerprint, spec: LayerSpec) -> LayerMap:
    """Return the layers of one side that a spec selects."""
    if isinstance(side, Backbone):
        with prefixed_errors(side.origin.reference):
            return select_layers(side.model, spec, side.layers)
    return select_by_name(side.layers, spec, f"the fingerprint of {side.side.reference}")
