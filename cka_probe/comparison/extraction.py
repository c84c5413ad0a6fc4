"""Extract fingerprints from models: one pass over the images, and one forward pass of each model.

Each batch of images is read once and given to every model at its size and normalisation. Each activation becomes a Gram
inside its hook and is freed.
"""

from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from cka_probe.comparison.fingerprint import CONSTANT_BATCH, PRECISIONS, Fingerprint, Partner, Settings
from cka_probe.comparison.results import Side
from cka_probe.errors import DataError, ModelError, prefixed_errors
from cka_probe.images.conversion import stack_images
from cka_probe.images.stream import FEWEST, ImageStream, batches, image_hash, list_hash
from cka_probe.models.backbone import Backbone, Preprocessing, as_size
from cka_probe.models.devices import full_float32, out_of_memory_hint
from cka_probe.models.folding import Fold, find_folds, folded
from cka_probe.models.layers import LayerMap, call_name, split_call
from cka_probe.models.layouts import channel_layout
from cka_probe.models.load import weights_hash
from cka_probe.models.recording import EXAMPLES, Place, Probe, probe, record
from cka_probe.models.selection import (
    LayerSpec,
    comparable_layers,
    expanded_layers,
    select_layers,
    unusable_reason,
)
from cka_probe.progress import Progress
from cka_probe.similarity.features import FEATURES
from cka_probe.similarity.gram import Product, anchored_product, centred_grams

CHANNELS_LAST_LIBRARIES = ("timm.", "torchvision.", "cka_probe.")
"""Libraries whose models accept any memory format; a user's own model may call `view`."""

ASSUMED_AXIS = (
    "The first axis of every layer was taken for the images, unchecked: the model does not run on three images"
)
NOT_FINITE = "it puts out NaN or infinite values"
ZERO = "it is exactly 0 for every image (as norm1 of a Swin-v2 is before training)"
CONSTANT = "it is the same for every image"
ROUNDING = 1e-6
"""Relative difference of numbers that are equal up to float32 rounding."""


_Prepared = tuple[str, dict[Hashable, Tensor]]
"""Hash of an image, and the image in the size and channels of each model."""


@dataclass
class _ModelRun:
    """One model of an extraction, with its results of each batch.

    Attributes:
        backbone: The model, on its device.
        layers: The layers to extract; once the model was probed, those that can be compared.
        preprocessing: Of its images.
        settings: Of the extraction.
        stream: Index of the stream of its images.
        grams: Per batch, (layers, n, n) float64.
        squares: Per batch, (layers,) float64, the sum over images of the squared `rms`.
        not_finite: Modules with an output that was not finite.
        constant: Root mean square of a module's output in each batch in which it did not vary.
        shapes: Shape of a module's output for one image.
        places: Where the activations are in the outputs of the modules.
        warnings: What a reader should know of the layers.
        folds: Convolutions that run with the batch norm after them.
    """

    backbone: Backbone
    layers: LayerMap
    preprocessing: Preprocessing
    settings: Settings
    stream: int = 0
    grams: list[Tensor] = field(default_factory=list)
    squares: list[Tensor] = field(default_factory=list)
    not_finite: set[str] = field(default_factory=set)
    constant: dict[str, list[float]] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    folds: Sequence[Fold] = ()

    def add(self, images: Tensor, progress: Callable[[float], None]) -> None:
        """Run the model on one batch, (n, ...), and add its Grams; before the first, find out what can be compared.

        Args:
            images: The batch.
            progress: Called with the share of its layers that have run.
        """
        model, device = self.backbone.model, self.backbone.device
        pixels = (images.shape[-2], images.shape[-1]) if images.dim() == 4 else None
        if (images.device.type, device.type) == ("cpu", "cuda"):
            images = images.pin_memory()  # so that the copy does not wait for the model
        images = images.to(device, non_blocking=True)
        if pixels is not None and type(model).__module__.startswith(CHANNELS_LAST_LIBRARIES):
            images = images.contiguous(memory_format=torch.channels_last)

        seen: set[str] = set()

        def to_gram(module: str, activation: Tensor) -> Product:
            shape = tuple(activation.shape)
            self.shapes[module] = shape[1:]
            seen.add(module)
            progress(len(seen) / len(self.layers))
            layout = channel_layout(shape, pixels, model.get_submodule(split_call(module)[0]), model)
            features = FEATURES[self.settings.features](activation, layout)
            with torch.autocast(device.type, enabled=False):
                return anchored_product(features)

        dtype = PRECISIONS[self.settings.precision]
        with full_float32(device), torch.autocast(device.type, dtype) if dtype else nullcontext():
            if not self.grams:
                self._choose_layers(probe(model, images, run=self._forward))
            # the first batch runs to the end, so that a layer that runs again is noticed
            with folded(self.folds):
                products = record(
                    model,
                    images,
                    self.layers.modules,
                    to_gram,
                    run=self._forward,
                    stop=bool(self.grams),
                    places=self.places,
                )
        self._add_grams(products, len(images))

    @property
    def form(self) -> Hashable:
        """What images have in common that become the same input but for its normalisation."""
        return self.preprocessing.form

    def _forward(self, inputs: Tensor) -> Any:
        """Run the model on inputs on its device."""
        if inputs.dim() >= 4 and (inputs.is_floating_point() or inputs.dtype == torch.uint8):  # else vectors or tokens
            inputs = self.preprocessing.normalise(inputs)
        if inputs.is_floating_point():
            inputs = inputs.to(self.backbone.dtype or inputs.dtype)
        return self.backbone.run(inputs)

    def _choose_layers(self, probe: Probe) -> None:
        """Keep the layers that can be compared."""
        self.layers, self.warnings = comparable_layers(self.layers, probe)
        self.places = probe.places
        if self.backbone.adapter is None and self.settings.precision == "float32":
            self.folds = find_folds(self.backbone.model, self.layers.modules)
        if probe.unchecked:
            self.warnings += (f"{ASSUMED_AXIS}: {probe.unchecked}",)

    def _add_grams(self, products: list[Product], n: int) -> None:
        """Add the Grams of one batch of n images."""
        grams = centred_grams(products)
        self.grams.append(grams.matrices)
        self.squares.append(grams.rms.square() * n)
        for module, finite, varies, size in zip(
            self.layers.modules, grams.finite.tolist(), grams.varies.tolist(), grams.size.tolist(), strict=True
        ):
            if not finite:
                self.not_finite.add(module)
            elif not varies:
                self.constant.setdefault(module, []).append(size)

    def undefined(self) -> tuple[str, ...]:
        """Return for each layer why it has no similarity, or "": it was not finite, or constant, in some batch."""
        return tuple(self._undefined_reason(module) for module in self.layers.modules)

    def _undefined_reason(self, module: str) -> str:
        if module in self.not_finite:
            return NOT_FINITE
        sizes = self.constant.get(module, [])
        if not sizes:
            return ""
        if len(sizes) < len(self.grams) or max(sizes) - min(sizes) > ROUNDING * max(sizes):
            return CONSTANT_BATCH
        return ZERO if max(sizes) == 0 else CONSTANT


def extract(
    models: Sequence[tuple[Backbone, LayerMap, int]],
    streams: Sequence[ImageStream],
    settings: Settings,
    progress: Progress | None = None,
    pairing: str = "",
) -> list[Fingerprint]:
    """Return the fingerprint of each model, from one pass over the images.

    Args:
        models: Backbones, on their devices, each with its layers and the index of its stream.
        streams: Images, read once: one stream for all models, or two in step.
        settings: The settings to run with, recorded in the fingerprints.
        progress: Called with the number of images done and in all, at the start, after each layer and after each batch.
            Within a batch, an image counts as done in proportion to the layers of all models that have run.
        pairing: How two streams are paired, `name` or `order`.

    Raises:
        LayerError: A layer never runs, runs twice, or does not give one activation per image.
        DataError: There are too few images, or one is unreadable.
        OutOfMemoryError: A batch does not fit.
    """
    inputs = [_preprocessing(backbone, settings) for backbone, _, _ in models]
    if settings.preprocess == "shared":
        inputs = inputs[:1] * len(models)
    runs = [
        _ModelRun(backbone, layers, preprocessing, settings, stream)
        for (backbone, layers, stream), preprocessing in zip(models, inputs, strict=True)
    ]
    hashes: list[list[str]] = [[] for _ in streams]
    total = streams[0].total
    report = progress or (lambda _done, _total: None)

    def report_part(done: int, size: int, index: int, share: float) -> None:
        report(done + int(size * (index + share) / len(runs)), total)

    report(0, total)
    forms = [{run.form: run.preprocessing for run in runs if run.stream == index} for index in range(len(streams))]

    def prepare(image: Tensor, stream: int) -> _Prepared:
        return image_hash(image), {name: form.fit(image) for name, form in forms[stream].items()}

    for batch in batches(streams, prepare):
        stacks: dict[Any, Tensor] = {}
        done, size = len(hashes[0]), len(batch[0])
        for index, run in enumerate(runs):
            key = run.stream, run.form
            if key not in stacks:
                stacks[key] = stack_images([fitted[run.form] for _, fitted in batch[run.stream]])
            with prefixed_errors(run.backbone.origin.reference), out_of_memory_hint(size, FEWEST):
                run.add(stacks[key], partial(report_part, done, size, index))
        for stream_hashes, images in zip(hashes, batch, strict=True):
            stream_hashes += [digest for digest, _ in images]
        report(done + size, total)
    with ThreadPoolExecutor() as threads:  # hashing releases the GIL
        weights = list(threads.map(weights_hash, [run.backbone.model for run in runs]))
    prints = [_fingerprint(run, digest, hashes[run.stream], streams) for run, digest in zip(runs, weights, strict=True)]
    if len(streams) == 1:
        return prints
    partners = [
        Partner(list_hash(digests), stream.source, pairing) for digests, stream in zip(hashes, streams, strict=True)
    ]
    return [replace(print_, partner=partners[1 - run.stream]) for print_, run in zip(prints, runs, strict=True)]


def _preprocessing(backbone: Backbone, settings: Settings) -> Preprocessing:
    """Return how images become the input of a model.

    Raises:
        DataError: The model does not take images of the size asked for, or a size is asked for normalised images.
    """
    if settings.normalised and settings.size:
        raise DataError("expected size or normalised, found both: normalised images are not resized; omit one")
    if settings.normalised:
        return Preprocessing()
    return backbone.preprocessing if settings.size is None else backbone.preprocessing_at(settings.size)


def _fingerprint(run: _ModelRun, weights: str, hashes: list[str], streams: Sequence[ImageStream]) -> Fingerprint:
    """Return the fingerprint of a model that was run on all batches."""
    images = streams[run.stream]
    squares = torch.stack(run.squares).sum(dim=0) / len(hashes)
    origin, size = run.backbone.origin, run.preprocessing.size
    side = Side(
        reference=origin.reference,
        architecture=origin.architecture,
        hash=weights,
        preprocessing={
            "size": list(size) if size else None,
            "mean": list(run.preprocessing.mean),
            "std": list(run.preprocessing.std),
            "channels": run.preprocessing.channels,
        },
        notes=origin.notes,
        warnings=run.warnings + ((images.unread,) if images.unread else ()),
    )
    return Fingerprint(
        grams=tuple(run.grams),
        layers=run.layers,
        rms=tuple(squares.sqrt().tolist()),
        undefined=run.undefined(),
        side=side,
        images=tuple(hashes),
        source=images.source,
        settings=replace(run.settings, batch=streams[0].batch),  # set by the first batch of an iterable
        skipped=tuple(name for stream in streams for name in stream.skipped),
        shapes=tuple(run.shapes[module] for module in run.layers.modules),
    )


def layer_table(
    backbone: Backbone, spec: LayerSpec = None, size: int | str | Sequence[int] | None = None
) -> pd.DataFrame:
    """Return index, name, module, shape (without the batch), stride and layout of a model's layers.

    The model runs on grey images of its size (224 pixels if it has none). For a layer that cannot be compared, the
    reason takes the place of its shape. `attrs["rule"]` of the table says how default layers were selected.

    Args:
        backbone: The model.
        spec: As in `select_layers`.
        size: Input size, as in `compare`, in place of the model's own.

    Raises:
        LayerError: A name matches nothing.
        ModelError: The model does not run on images of this size.
    """
    layers = select_layers(backbone.model, spec, backbone.layers)
    preprocessing = backbone.preprocessing if size is None else backbone.preprocessing_at(as_size(size))
    pixels, channels = preprocessing.size or (224, 224), preprocessing.channels or 3
    images = torch.full((max(EXAMPLES), channels, *pixels), 0.5, device=backbone.device)
    try:
        outputs = probe(backbone.model, images, run=backbone)
    except ModelError as error:
        raise ModelError(
            f"{error}; it was run on images with {channels} channels, {pixels[0]}x{pixels[1]}; give --size for another "
            "size, or wrap the model: cka_probe.Backbone(model, size=…, channels=…)"
        ) from error
    rows = [
        (layer.name, layer.module, *_describe_layer(outputs, pixels, layer.module, backbone.model))
        for layer in expanded_layers(layers, outputs)
    ]
    table = pd.DataFrame(rows, columns=["name", "module", "shape", "stride", "layout"])
    table.insert(0, "index", range(len(table)))
    table.attrs["rule"] = layers.rule
    return table


def _describe_layer(outputs: Probe, pixels: tuple[int, int], module: str, model: nn.Module) -> tuple[str, str, str]:
    """Return shape, stride and layout of one layer as text."""
    if reason := unusable_reason(module, outputs):
        return reason, "-", "-"
    path, number = split_call(module)
    place = outputs.places[call_name(path, number or 1)]
    lengths = list(outputs.calls[path][(number or 1) - 1].shapes[place.tensor or 0])
    shape = (lengths.pop(place.axis), *lengths)
    layout = channel_layout(shape, pixels, model.get_submodule(path), model)
    height = {"NCHW": shape[2:3], "NHWC": shape[1:2]}.get(layout or "", (1,))[0]
    stride = str(pixels[0] // height) if height > 1 else "-"
    return "x".join(map(str, shape[1:])), stride, layout or "?"
