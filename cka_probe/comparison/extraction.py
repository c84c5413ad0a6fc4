"""From images and models to fingerprints: one pass over the images, one forward pass per model.

Each batch of images is read once and shown to every model, each with its own size and normalisation; each
activation becomes a Gram inside its hook and is let go.
"""

from collections.abc import Sequence
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
from cka_probe.models.load import weights_hash
from cka_probe.models.recording import full_float32, record, trace_shapes
from cka_probe.models.selection import LayerSpec, select_layers
from cka_probe.progress import Progress
from cka_probe.similarity.features import FEATURES, layout_of
from cka_probe.similarity.gram import Grams, Product, anchored_product, centred_grams

PRECISIONS: dict[str, torch.dtype | None] = {"float32": None, "bfloat16": torch.bfloat16}
CHANNELS_LAST_LIBRARIES = ("timm.", "torchvision.", "cka_probe.")
"""Whose models are known not to mind the memory format; a user's own may call `view`."""


@dataclass
class _ModelRun:
    """One model on its way through the batches."""

    backbone: Backbone
    layers: LayerMap
    preprocessing: Preprocessing
    grams: list[Tensor] = field(default_factory=list)
    squares: list[Tensor] = field(default_factory=list)
    flaws: dict[str, str] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)


def extract(
    models: Sequence[tuple[Backbone, LayerMap]],
    images: ImageStream,
    settings: Settings,
    progress: Progress | None = None,
) -> list[Fingerprint]:
    """Return the fingerprint of each model over the same images.

    Args:
        models: Backbones, on the devices they are to run on, each with its layers.
        images: Read once.
        settings: As recorded in the fingerprints.
        progress: Called with the number of images done and in all, at the start and after each batch.

    Raises:
        LayerError: A layer never runs, runs twice, or does not give one activation per image.
        DataError: Too few images, or an unreadable one.
        OutOfMemoryError: A batch does not fit.
    """
    registry.get(PRECISIONS, settings.precision, "precision")
    registry.get(FEATURES, settings.features, "features")
    registry.get(dict.fromkeys(("own", "shared")), settings.preprocess, "preprocess")
    shared = models[0][0].preprocessing if settings.preprocess == "shared" else None
    runs = [_ModelRun(backbone, layers, shared or backbone.preprocessing) for backbone, layers in models]
    hashes: list[str] = []
    tell = progress or (lambda _done, _total: None)
    tell(0, images.total)
    for batch in images:
        fitted: dict[Any, Tensor] = {}
        for run in runs:
            size = run.preprocessing.size
            if size not in fitted:
                fitted[size] = _stack([run.preprocessing.fit(image) for image in batch])
            with _room_for(len(batch)):
                _run_batch(run, fitted[size], settings)
        hashes += [image_hash(image) for image in batch]
        tell(len(hashes), images.total)
    with ThreadPoolExecutor() as threads:  # hashing lets go of the interpreter's lock
        weights = list(threads.map(weights_hash, [run.backbone.model for run in runs]))
    return [
        _fingerprint(run, hashed, tuple(hashes), images, settings) for run, hashed in zip(runs, weights, strict=True)
    ]


def _run_batch(run: _ModelRun, images: Tensor, settings: Settings) -> None:
    """Show one batch to one model and add its Grams."""
    backbone, device = run.backbone, run.backbone.device
    pixels = tuple(images.shape[-2:]) if images.dim() == 4 else None
    images = images.to(device)
    if pixels is not None and _takes_channels_last(backbone.model):
        images = images.contiguous(memory_format=torch.channels_last)
    declared = getattr(backbone.model, "output_fmt", None)

    def keep(module: str, activation: Tensor) -> Product:
        run.shapes[module] = tuple(activation.shape[1:])
        layout = layout_of(tuple(activation.shape), pixels, declared)
        features = FEATURES[settings.features](activation, layout)
        with torch.autocast(device.type, enabled=False):
            return anchored_product(features)

    def forward(inputs: Tensor) -> Tensor:
        # dtype of the weights: a half-precision model is fed what it computes in
        ready = run.preprocessing.normalise(inputs) if inputs.is_floating_point() else inputs
        return backbone.model(_like_weights(ready, backbone.model))

    dtype = PRECISIONS[settings.precision]
    with full_float32(device), torch.autocast(device.type, dtype) if dtype else nullcontext():
        # the first batch runs to the end, so that a layer that runs again is found out
        products = record(backbone.model, images, run.layers.modules, keep, run=forward, stop=bool(run.grams))
    grams = centred_grams(products)
    run.grams.append(grams.matrices)
    run.squares.append(grams.spread.square() * len(images))
    for index in (~(grams.finite & grams.varies)).nonzero().flatten().tolist():
        run.flaws.setdefault(run.layers[index].module, _undefined_reason(grams, index))


def _undefined_reason(grams: Grams, index: int) -> str:
    """Return what is wrong with a layer that has no similarity."""
    if not grams.finite[index]:
        return "it puts out NaN or infinite values"
    if grams.size[index] == 0:
        return "it is exactly 0 for every image (as norm1 of a Swin-v2 is before training)"
    return "it is the same for every image"


def _fingerprint(
    run: _ModelRun, weights: str, hashes: tuple[str, ...], images: ImageStream, settings: Settings
) -> Fingerprint:
    """Return what one run has gathered."""
    traces = sum(stack.diagonal(dim1=1, dim2=2).abs().sum(dim=1) for stack in run.grams)
    undefined = tuple(
        run.flaws.get(name, "") if trace == 0 or not _finite(run, name) else ""
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
        spreads=tuple(squares.sqrt().tolist()),
        undefined=undefined,
        side=side,
        images=hashes,
        source=images.source,
        settings=replace(settings, batch=images.batch),  # as it was, where it was left to the images
        skipped=tuple(images.skipped),
        shapes=tuple(run.shapes[module] for module in run.layers.modules),
    )


def _finite(run: _ModelRun, name: str) -> bool:
    """Return whether a layer put out only finite numbers."""
    return not run.flaws.get(name, "").startswith("it puts out")


def _stack(images: list[Tensor]) -> Tensor:
    """Return images of one size as one tensor."""
    shapes = {tuple(image.shape) for image in images}
    if len(shapes) > 1:
        found = ", ".join("x".join(map(str, shape)) for shape in sorted(shapes)[:3])
        raise DataError(
            f"the model has no input size and the images differ in theirs ({found} …); wrap it: "
            "cka_probe.Backbone(model, size=(height, width), mean=…, std=…)"
        )
    return torch.stack(images)


def _like_weights(images: Tensor, model: nn.Module) -> Tensor:
    """Return float images in the dtype of the model's first floating parameter."""
    weight = next((parameter for parameter in model.parameters() if parameter.is_floating_point()), None)
    return images.to(weight.dtype) if weight is not None and images.is_floating_point() else images


def _takes_channels_last(model: nn.Module) -> bool:
    """Return whether a model comes from a library that is known to take channels-last images."""
    return type(model).__module__.startswith(CHANNELS_LAST_LIBRARIES)


@contextmanager
def _room_for(batch: int):
    """Turn running out of memory into one line that names a batch to try."""
    try:
        yield
    except CkaProbeError:
        raise
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        raise OutOfMemoryError(
            f"out of memory with {batch} images in a batch; try --batch {max(batch // 2, 4)} (fewer images with "
            "--num do not help: only one batch is held)"
        ) from error


def layer_table(backbone: Backbone, spec: LayerSpec = None) -> pd.DataFrame:
    """Return index, name, module, shape (without the batch), stride and layout of a model's layers.

    One grey image of the model's size (224 pixels where it has none) is run through it. A layer that cannot be
    compared says so where its shape would stand.

    Args:
        backbone: The model.
        spec: As in `select_layers`; where the model has no natural layers, by default every leaf.
    """
    if spec is None and backbone.layers is None:
        spec = "*"
    layers = select_layers(backbone.model, spec, backbone.layers)
    pixels = backbone.preprocessing.size or (224, 224)
    images = torch.full((2, 3, *pixels), 0.5, device=backbone.device)
    seen = trace_shapes(backbone.model, images, run=backbone)
    declared = getattr(backbone.model, "output_fmt", None)
    rows = [_described(seen.get(module, []), pixels, declared) for module in layers.modules]
    columns = {"index": range(len(layers)), "name": layers.names, "module": layers.modules}
    return pd.DataFrame(columns | dict(zip(("shape", "stride", "layout"), zip(*rows, strict=True), strict=True)))


def _described(shapes: list[tuple[int, ...]], pixels: tuple[int, int], declared: str | None) -> tuple[str, str, str]:
    """Return shape, stride and layout of one layer for people, from the shapes that it put out for two images."""
    if len(shapes) != 1:
        return f"runs {len(shapes)} times" if shapes else "never runs", "-", "-"
    shape = shapes[0]
    if len(shape) < 2 or shape[0] != 2:
        return f"{'x'.join(map(str, shape)) or 'no tensor'}, not one per image", "-", "-"
    layout = layout_of(shape, pixels, declared)
    height = {"NCHW": shape[2:3], "NHWC": shape[1:2]}.get(layout or "", (1,))[0]
    stride = str(pixels[0] // height) if height > 1 else "-"
    return "x".join(map(str, shape[1:])), stride, layout or "?"
