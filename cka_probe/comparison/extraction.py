"""Extract fingerprints from models: one pass over the images, one forward pass per model.

Each batch of images is read once and fed to every model at its own size and normalisation. Each activation becomes a
Gram inside its hook and is freed.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from cka_probe import registry
from cka_probe.comparison.fingerprint import Fingerprint, Settings
from cka_probe.comparison.results import Side
from cka_probe.errors import CkaProbeError, DataError, OutOfMemoryError
from cka_probe.images.stream import ImageStream, image_hash
from cka_probe.models.backbone import Backbone, Preprocessing
from cka_probe.models.layers import LayerMap
from cka_probe.models.layouts import channel_layout
from cka_probe.models.load import weights_hash
from cka_probe.models.recording import full_float32, record, trace_shapes
from cka_probe.models.selection import LayerSpec, select_layers
from cka_probe.progress import Progress
from cka_probe.similarity.features import FEATURES
from cka_probe.similarity.gram import Grams, Product, anchored_product, centred_grams

PRECISIONS: dict[str, torch.dtype | None] = {"float32": None, "bfloat16": torch.bfloat16}
CHANNELS_LAST_LIBRARIES = ("timm.", "torchvision.", "cka_probe.")
"""Libraries whose models accept any memory format; a user's own model may call `view`."""


@dataclass
class _ModelRun:
    """What one model has given so far, batch by batch."""

    backbone: Backbone
    layers: LayerMap
    preprocessing: Preprocessing
    grams: list[Tensor] = field(default_factory=list)
    squares: list[Tensor] = field(default_factory=list)
    undefined: dict[str, str] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)


def extract(
    models: Sequence[tuple[Backbone, LayerMap]],
    images: ImageStream,
    settings: Settings,
    progress: Progress | None = None,
) -> list[Fingerprint]:
    """Return the fingerprint of each model over the same images.

    Args:
        models: Backbones, on their devices, each with its layers.
        images: Read once.
        settings: The settings to run with, recorded in the fingerprints.
        progress: Called with the number of images done and in all, at the start and after each batch.

    Raises:
        LayerError: A layer never runs, runs twice, or does not give one activation per image.
        DataError: There are too few images, or one is unreadable.
        OutOfMemoryError: A batch does not fit.
    """
    registry.get(PRECISIONS, settings.precision, "precision")
    registry.get(FEATURES, settings.features, "features")
    registry.get(dict.fromkeys(("own", "shared")), settings.preprocess, "preprocess")
    shared = models[0][0].preprocessing if settings.preprocess == "shared" else None
    runs = [_ModelRun(backbone, layers, shared or backbone.preprocessing) for backbone, layers in models]
    hashes: list[str] = []
    report = progress or (lambda _done, _total: None)
    report(0, images.total)
    for batch in images:
        fitted: dict[Any, Tensor] = {}
        for run in runs:
            size = run.preprocessing.size
            if size not in fitted:
                fitted[size] = _stack([run.preprocessing.fit(image) for image in batch])
            with _out_of_memory_hint(len(batch)):
                _run_batch(run, fitted[size], settings)
        hashes += [image_hash(image) for image in batch]
        report(len(hashes), images.total)
    with ThreadPoolExecutor() as threads:  # hashing releases the GIL
        weights = list(threads.map(weights_hash, [run.backbone.model for run in runs]))
    return [
        _fingerprint(run, hashed, tuple(hashes), images, settings) for run, hashed in zip(runs, weights, strict=True)
    ]


def _run_batch(run: _ModelRun, images: Tensor, settings: Settings) -> None:
    """Run one model on one batch and add its Grams."""
    backbone, device = run.backbone, run.backbone.device
    pixels = (images.shape[-2], images.shape[-1]) if images.dim() == 4 else None
    images = images.to(device)
    if pixels is not None and _takes_channels_last(backbone.model):
        images = images.contiguous(memory_format=torch.channels_last)

    def to_gram(module: str, activation: Tensor) -> Product:
        run.shapes[module] = tuple(activation.shape[1:])
        layout = channel_layout(tuple(activation.shape), pixels, backbone.model.get_submodule(module), backbone.model)
        features = FEATURES[settings.features](activation, layout)
        with torch.autocast(device.type, enabled=False):
            return anchored_product(features)

    def forward(inputs: Tensor) -> Tensor:
        if inputs.is_floating_point():
            inputs = run.preprocessing.normalise(inputs)
        output: Tensor = backbone.model(_like_weights(inputs, backbone.model))
        return output

    dtype = PRECISIONS[settings.precision]
    with full_float32(device), torch.autocast(device.type, dtype) if dtype else nullcontext():
        # the first batch runs to the end, so that a layer that runs again is noticed
        products = record(backbone.model, images, run.layers.modules, to_gram, run=forward, stop=bool(run.grams))
    grams = centred_grams(products)
    run.grams.append(grams.matrices)
    run.squares.append(grams.rms.square() * len(images))
    for index in (~(grams.finite & grams.varies)).nonzero().flatten().tolist():
        run.undefined.setdefault(run.layers[index].module, _undefined_reason(grams, index))


def _undefined_reason(grams: Grams, index: int) -> str:
    """Return why a layer has no similarity."""
    if not grams.finite[index]:
        return "it puts out NaN or infinite values"
    if grams.size[index] == 0:
        return "it is exactly 0 for every image (as norm1 of a Swin-v2 is before training)"
    return "it is the same for every image"


def _fingerprint(
    run: _ModelRun, weights: str, hashes: tuple[str, ...], images: ImageStream, settings: Settings
) -> Fingerprint:
    """Return the fingerprint of a model that has seen all batches."""
    traces = torch.stack([stack.diagonal(dim1=1, dim2=2).abs().sum(dim=1) for stack in run.grams]).sum(dim=0)
    undefined = tuple(
        run.undefined.get(name, "") if trace == 0 or not _finite(run, name) else ""
        for name, trace in zip(run.layers.modules, traces.tolist(), strict=True)
    )
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
        },
        notes=origin.notes,
    )
    return Fingerprint(
        grams=tuple(run.grams),
        layers=run.layers,
        rms=tuple(squares.sqrt().tolist()),
        undefined=undefined,
        side=side,
        images=hashes,
        source=images.source,
        settings=replace(settings, batch=images.batch),  # known only now where an iterable sets it
        skipped=tuple(images.skipped),
        shapes=tuple(run.shapes[module] for module in run.layers.modules),
    )


def _finite(run: _ModelRun, name: str) -> bool:
    """Return whether all activations of a layer were finite."""
    return not run.undefined.get(name, "").startswith("it puts out")


def _stack(images: list[Tensor]) -> Tensor:
    """Return images of one size as one tensor."""
    shapes = {tuple(image.shape) for image in images}
    if len(shapes) > 1:
        sizes = ", ".join("x".join(map(str, shape)) for shape in sorted(shapes)[:3])
        raise DataError(
            f"the model has no input size and the images differ in theirs ({sizes} …); wrap it: "
            "cka_probe.Backbone(model, size=(height, width), mean=…, std=…)"
        )
    return torch.stack(images)


def _like_weights(images: Tensor, model: nn.Module) -> Tensor:
    """Return float images in the dtype of the model's first floating parameter."""
    weight = next((parameter for parameter in model.parameters() if parameter.is_floating_point()), None)
    return images.to(weight.dtype) if weight is not None and images.is_floating_point() else images


def _takes_channels_last(model: nn.Module) -> bool:
    """Return whether a model comes from a library whose models accept channels-last images."""
    return type(model).__module__.startswith(CHANNELS_LAST_LIBRARIES)


@contextmanager
def _out_of_memory_hint(batch: int) -> Iterator[None]:
    """Turn running out of memory into one line that names a batch to try."""
    try:
        yield
    except CkaProbeError:
        raise
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        raise OutOfMemoryError(
            f"out of memory with {batch} images in a batch; try --batch {max(batch // 2, 4)} (a smaller "
            "--num does not help: memory holds one batch at a time)"
        ) from error


def layer_table(backbone: Backbone, spec: LayerSpec = None) -> pd.DataFrame:
    """Return index, name, module, shape (without the batch), stride and layout of a model's layers.

    One grey image of the model's size (224 pixels where it has none) is run through it. A layer that cannot be
    compared says so in place of its shape.

    Args:
        backbone: The model.
        spec: As in `select_layers`; by default the default layers, or every leaf of a model without.
    """
    if spec is None and backbone.layers is None:
        spec = "*"
    layers = select_layers(backbone.model, spec, backbone.layers)
    pixels = backbone.preprocessing.size or (224, 224)
    images = torch.full((2, 3, *pixels), 0.5, device=backbone.device)
    shapes = trace_shapes(backbone.model, images, run=backbone)
    rows = [_describe_layer(shapes.get(module, []), pixels, module, backbone.model) for module in layers.modules]
    columns = {"index": range(len(layers)), "name": layers.names, "module": layers.modules}
    return pd.DataFrame(columns | dict(zip(("shape", "stride", "layout"), zip(*rows, strict=True), strict=True)))


def _describe_layer(
    shapes: list[tuple[int, ...]], pixels: tuple[int, int], module: str, model: nn.Module
) -> tuple[str, str, str]:
    """Return shape, stride and layout of one layer for people, from the shapes of its outputs for two images."""
    if len(shapes) != 1:
        return f"runs {len(shapes)} times" if shapes else "never runs", "-", "-"
    shape = shapes[0]
    if len(shape) < 2 or shape[0] != 2:
        return f"{'x'.join(map(str, shape)) or 'no tensor'}, not one per image", "-", "-"
    layout = channel_layout(shape, pixels, model.get_submodule(module), model)
    height = {"NCHW": shape[2:3], "NHWC": shape[1:2]}.get(layout or "", (1,))[0]
    stride = str(pixels[0] // height) if height > 1 else "-"
    return "x".join(map(str, shape[1:])), stride, layout or "?"
