"""Run one model over batches of images; each activation becomes features and then a Gram inside its hook.

The images of a forward pass need not be those of a Gram: a forward pass of fewer images gives a part of the features
of a batch, one of more gives those of several batches.
"""

import warnings
from collections.abc import Callable, Hashable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cka_probe.comparison.fingerprint import CONSTANT_BATCH, PRECISIONS, Settings
from cka_probe.errors import CkaProbeWarning, OutOfMemoryError
from cka_probe.images.stream import FEWEST
from cka_probe.models.backbone import Backbone, Preprocessing
from cka_probe.models.devices import free_memory, full_float32, is_out_of_memory
from cka_probe.models.folding import Fold, find_folds, folded
from cka_probe.models.layers import LayerMap, split_call
from cka_probe.models.layouts import channel_layout
from cka_probe.models.recording import EXAMPLES, Place, Probe, probe, record
from cka_probe.models.selection import comparable_layers
from cka_probe.similarity.features import FEATURES, PER_IMAGE, memory_order
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


class BatchFeatures:
    """The features of layers over batches of images; those of a batch become a Gram as soon as they are complete.

    Args:
        sizes: Number of images in each batch.
        features: `flatten`, `gap` or `tokens`.

    Attributes:
        products: Per batch, the product of each module.
    """

    def __init__(self, sizes: Sequence[int], features: str) -> None:
        ends = [*accumulate(sizes)]
        self.batches = [range(end - size, end) for end, size in zip(ends, sizes, strict=True)]
        self.products: list[dict[str, Product]] = [{} for _ in sizes]
        self._features, self._per_image = FEATURES[features], PER_IMAGE[features]
        self._orders: dict[str, tuple[int, ...]] = {}
        self._incomplete: dict[str, Tensor] = {}

    def add(self, module: str, activation: Tensor, layout: str | None, part: range) -> None:
        """Add the activation of a module for some of the images, (m, ...), which come one part after another."""
        order = self._orders.setdefault(module, memory_order(activation))
        if memory_order(activation) != order:  # features are in the order of memory
            activation = activation.permute(order).contiguous().permute(*np.argsort(order).tolist())
        features = self._features(activation, layout)
        for products, batch in zip(self.products, self.batches, strict=True):
            images = range(max(part.start, batch.start), min(part.stop, batch.stop))
            if not images:
                continue
            rows = self._rows(features, images, part)
            if images != batch:
                if images.start == batch.start:
                    self._incomplete[module] = rows.new_empty(len(batch) * self._per_image, rows.shape[1])
                self._rows(self._incomplete[module], images, batch).copy_(rows)
                if images.stop < batch.stop:
                    continue
                rows = self._incomplete.pop(module)
            products[module] = anchored_product(rows)

    def _rows(self, features: Tensor, images: range, whole: range) -> Tensor:
        """Return the rows of some images in the features of a range of images."""
        start = (images.start - whole.start) * self._per_image
        return features[start : start + len(images) * self._per_image]


def equal_parts(num: int, most: int) -> list[range]:
    """Return the fewest ranges of at most so many numbers, of about equal length, that make up the first `num`.

    >>> equal_parts(7, 3)
    [range(0, 2), range(2, 4), range(4, 7)]
    """
    count = -(-num // most)
    return [range(index * num // count, (index + 1) * num // count) for index in range(count)]


@dataclass
class ModelRun:
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
        forward_batch: Largest number of images in a forward pass; `None` for all of a batch.
        probed: Whether it is known which layers can be compared.
        ran: Whether a forward pass has ended.
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
    forward_batch: int | None = None
    probed: bool = False
    ran: bool = False

    def add(self, batches: Sequence[Tensor], progress: Callable[[float], None]) -> None:
        """Run the model on batches, (n, ...) each, and add their Grams; before the first, find what can be compared.

        Where memory does not suffice, the model runs on half as many images at a time, then and for all later batches.

        Args:
            batches: The batches.
            progress: Called with the share of its layers that have run.

        Raises:
            OutOfMemoryError: Memory does not suffice for one image at a time.
        """
        if len({(batch.shape[1:], batch.dtype) for batch in batches}) > 1:  # images of different sizes or types
            for number, batch in enumerate(batches):
                self.add([batch], lambda share, done=number: progress((done + share) / len(batches)))  # type: ignore[misc]
            return
        images = torch.cat([*batches]) if len(batches) > 1 else batches[0]
        features = None
        while features is None:
            parts = equal_parts(len(images), self.forward_batch or len(images))
            try:
                features = self._run(images, parts, [*map(len, batches)], progress)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(max(map(len, parts)), len(batches[0]), error)
            if features is None:  # after the exception, which holds on to activations
                free_memory(self.backbone.device)
        for products, batch in zip(features.products, batches, strict=True):
            self._add_grams([products[module] for module in self.layers.modules], len(batch))

    def _halve(self, size: int, batch: int, error: Exception) -> None:
        """Halve the number of images in a forward pass after one of `size` images did not fit.

        Raises:
            OutOfMemoryError: There are no fewer.
        """
        least = 1 if self.probed else max(EXAMPLES)  # as many run to find out what can be compared
        if size <= least:
            smaller = f"--batch {max(batch // 2, FEWEST)}, " if batch > FEWEST else ""
            raise OutOfMemoryError(
                f"out of memory with {least} image{'s' * (least > 1)} in a forward pass (--forward-batch) and {batch} "
                f"in a batch; try {smaller}--features gap, fewer --layers or a smaller --size"
            ) from error
        self.forward_batch = size // 2
        warnings.warn(
            f"{self.backbone.origin.reference}: out of memory with {size} images in a forward pass; continuing with "
            f"{size // 2}, as --forward-batch {size // 2} does from the start",
            CkaProbeWarning,
            stacklevel=2,
        )

    def _run(
        self, images: Tensor, parts: Sequence[range], sizes: Sequence[int], progress: Callable[[float], None]
    ) -> BatchFeatures:
        """Run the model on one part of the images after another, and return the Grams of batches of these sizes."""
        model, device = self.backbone.model, self.backbone.device
        pixels = (images.shape[-2], images.shape[-1]) if images.dim() == 4 else None
        channels_last = pixels is not None and type(model).__module__.startswith(CHANNELS_LAST_LIBRARIES)
        if (images.device.type, device.type) == ("cpu", "cuda"):
            images = images.pin_memory()  # so that copies do not wait for the model
        features = BatchFeatures(sizes, self.settings.features)
        dtype = PRECISIONS[self.settings.precision]
        for number, part in enumerate(parts):
            inputs = images[part.start : part.stop].to(device, non_blocking=True)
            if channels_last:
                inputs = inputs.contiguous(memory_format=torch.channels_last)
            seen: set[str] = set()

            def add(module: str, activation: Tensor, number: int = number, seen: set[str] = seen) -> None:
                shape = tuple(activation.shape)
                self.shapes[module] = shape[1:]
                seen.add(module)
                progress((number + len(seen) / len(self.layers)) / len(parts))
                layout = channel_layout(shape, pixels, model.get_submodule(split_call(module)[0]), model)
                with torch.autocast(device.type, enabled=False):
                    features.add(module, activation, layout, parts[number])

            with full_float32(device), torch.autocast(device.type, dtype) if dtype else nullcontext():
                if not self.probed:
                    few = inputs if len(inputs) >= max(EXAMPLES) else images[: max(EXAMPLES)].to(device)
                    self._choose_layers(probe(model, few, run=self._forward))
                # the first pass runs to the end, so that a layer that runs again is noticed
                with folded(self.folds):
                    record(
                        model,
                        inputs,
                        self.layers.modules,
                        add,
                        run=self._forward,
                        stop=self.ran,
                        places=self.places,
                    )
            self.ran = True
        return features

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
        self.probed = True
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
