"""Run one model over batches of images; each activation becomes features and then a Gram inside its hook.

The images of a forward pass need not be those of a Gram: a forward pass of fewer images gives a part of the features
of a batch, one of more gives those of several batches.
"""

import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from math import prod
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from cka_probe.comparison.fingerprint import PRECISIONS, TF32, Settings, undefined_reason
from cka_probe.errors import CkaProbeWarning, DataError, OutOfMemoryError, prefixed_errors
from cka_probe.images.stream import FEWEST
from cka_probe.models.backbone import Backbone, Preprocessing
from cka_probe.models.devices import (
    as_bytes,
    counts_memory,
    free_memory,
    full_float32,
    is_out_of_memory,
    memory_left,
    peak_memory,
)
from cka_probe.models.folding import Fold, fast_convolutions, find_folds, fold, runs_in_any_format
from cka_probe.models.layers import LayerMap, split_call
from cka_probe.models.layouts import channel_layout
from cka_probe.models.recording import EXAMPLES, Place, Probe, own_forward, probe, record
from cka_probe.models.selection import comparable_layers
from cka_probe.similarity.feature_sampling import FeatureSample
from cka_probe.similarity.features import BatchFeatures
from cka_probe.similarity.gram import Grams, Product, anchored_product, centred_grams, need_scale

T = TypeVar("T")

ASSUMED_AXIS = (
    "The first axis of every layer was taken for the images, unchecked: the model does not run on three images"
)
RANDOM_OR_MIXED = (
    "The model is random, or mixes the images of a batch: the activation of an image in layer {layer!r} changes by "
    "{change:.0%} when it runs again with other images, and values are of these batches alone."
)
OVER_BATCH = (
    "The model normalises over the images of a batch (a batch norm without running statistics): its activation for an "
    "image depends on the images next to it."
)
TRIAL, SHARE = 8, 0.8
"""Images in a trial of how much memory a forward pass takes, and the share of the free memory that it may take."""


def _copied(_module: str, features: Tensor) -> Tensor:
    """Return features on the CPU, which no later operation of the model changes."""
    return features.to("cpu", copy=True)


class Output(NamedTuple):
    """What a model gives for one batch.

    Attributes:
        grams: The Grams of its layers.
        shapes: Shapes of modules' outputs for one image.
        values: Of each layer, if features are sampled, (n, p) float32 minus their means; zeros if it does not vary.
        totals: Number of features of each module, if they are sampled.
    """

    grams: Grams
    shapes: dict[str, tuple[int, ...]]
    values: tuple[Tensor, ...] = ()
    totals: dict[str, int] = {}  # noqa: RUF012


class FeatureOutput(NamedTuple):
    """What a model gives for one batch where no Grams are needed: features by module, (n, p) each, and shapes."""

    features: dict[str, Tensor]
    shapes: dict[str, tuple[int, ...]]


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
        layouts: Layout of a module's output of a shape for one image.
        places: Where the activations are in the outputs of the modules.
        warnings: What a reader should know of the layers.
        folds: Convolutions that run with the batch norm after them.
        forward_batch: Largest number of images in a forward pass; `None` for all of a batch.
        kept: What the modules put out for the first images of the first batch, until that runs.
        probed: Whether it is known which layers can be compared.
        scaled: Modules whose features are scaled, of those whose products are not looked at one by one.
        tried: Shapes of images of which it is known how many fit into memory.
        ran: Whether a forward pass has ended.
        gives_features: Whether it gives the features of a batch in place of Grams.
        values: Per batch, the sampled features of each layer; empty if they are not sampled.
        totals: Number of features of each module, if they are sampled.
        orders: Order of each module's axes in memory, which features of all batches have in common.
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
    layouts: dict[tuple[str, tuple[int, ...]], str | None] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    folds: Sequence[Fold] = ()
    forward_batch: int | None = None
    kept: Probe | None = None
    probed: bool = False
    scaled: set[str] = field(default_factory=set)
    tried: set[tuple[int, ...]] = field(default_factory=set)
    ran: bool = False
    gives_features: bool = False
    values: list[tuple[Tensor, ...]] = field(default_factory=list)
    totals: dict[str, int] = field(default_factory=dict)
    orders: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def probe(self, batches: Sequence[Tensor], *, keep: bool = True) -> Probe:
        """Return what the modules of the model put out for a few images of the first of some batches.

        Args:
            batches: The batches.
            keep: Keep the outputs for the run on these batches, in which these images do not run again.
        """
        outputs = self._fitting(partial(self._probe, batches[0]), batches[0], len(batches[0]))
        self.kept = outputs if keep and not self.over_batch else None
        calls = {name: [replace(call, tensors=()) for call in calls] for name, calls in outputs.calls.items()}
        return replace(outputs, calls=calls, parts=())

    def choose_layers(self, outputs: Probe) -> None:
        """Keep the layers that can be compared."""
        self.probed = True
        with prefixed_errors(self.backbone.origin.reference):
            self.layers, self.warnings = comparable_layers(self.layers, outputs)
        self.places = outputs.places
        if self.backbone.adapter is None:
            self.folds = find_folds(self.backbone.model, self.layers.modules)
        if outputs.unchecked:
            self.warnings += (f"{ASSUMED_AXIS}: {outputs.unchecked}",)
        layer, change = outputs.unstable
        if self.over_batch:
            self.warnings += (OVER_BATCH,)
        elif layer:
            self.warnings += (RANDOM_OR_MIXED.format(layer=layer, change=change),)

    def again(self) -> "ModelRun":
        """Return a run of the same model and layers with no batch yet, and with its weights as they are now."""
        folds = [fold(each.convolution, each.norm) for each in self.folds]
        return replace(self, grams=[], squares=[], not_finite=set(), constant={}, shapes={}, values=[], folds=folds)

    def run(self, batches: Sequence[Tensor], progress: Callable[[float], None]) -> list[Output | FeatureOutput]:
        """Run the model on batches, (n, ...) each, and return the Grams of each.

        Where memory does not suffice, the model runs on half as many images at a time, then and for all later batches.

        Args:
            batches: The batches.
            progress: Called with the share of its layers that have run.

        Raises:
            OutOfMemoryError: Memory does not suffice for one image at a time.
        """
        alike = len({(batch.shape[1:], batch.dtype) for batch in batches}) == 1
        if len(batches) > 1 and (self.over_batch or not alike):  # images of different sizes or types
            outputs: list[Output | FeatureOutput] = []
            for number, batch in enumerate(batches):
                outputs += self.run([batch], lambda share, done=number: progress((done + share) / len(batches)))  # type: ignore[misc]
            return outputs
        images = torch.cat([*batches]) if len(batches) > 1 else batches[0]
        self._fit_memory(images)
        work = partial(self._run, images, sizes=[*map(len, batches)], progress=progress)
        features = self._fitting(work, images, len(batches[0]))
        if self.gives_features:
            return [FeatureOutput(rows, features.shapes) for rows in features.products]
        if self.queues and (modules := self._out_of_range(features.products)):
            self.scaled |= modules
            features = self._fitting(partial(work, progress=lambda _: None), images, len(batches[0]))
        return [self._output(products, features) for products in features.products]

    def _output(self, products: dict[str, Product], features: BatchFeatures) -> Output:
        """Return what becomes of the products of a batch, which are let go."""
        values = [products[module].values for module in self.layers.modules]
        grams = centred_grams([products.pop(module) for module in self.layers.modules])
        kept = [
            value * float(varies)
            for value, varies in zip(values, grams.varies.tolist(), strict=True)
            if value is not None
        ]
        return Output(grams, features.shapes, tuple(kept), features.totals)

    @property
    def queues(self) -> bool:
        """Whether the device works through a queue, so that looking at a product leaves it idle for a while."""
        return self.backbone.device.type == "cuda"

    def _product(self, module: str, features: Tensor) -> Product:
        """Return the product of features, without a look at it where that would take long."""
        product = anchored_product(features, scaled=module in self.scaled if self.queues else None)
        if self.settings.num_features is None:
            return product
        values = features.cpu().double()
        return replace(product, values=(values - values.mean(dim=0)).float())

    def _out_of_range(self, products: Sequence[Mapping[str, Product]]) -> set[str]:
        """Return the modules that have to be scaled, and were not, from their products of each batch."""
        modules = [module for module in self.layers.modules if module not in self.scaled]
        return {
            module
            for batch in (products if modules else ())
            for module, needs in zip(modules, need_scale([batch[module] for module in modules]), strict=True)
            if needs
        }

    def add(self, output: Output | FeatureOutput, n: int) -> None:
        """Add what the model gives for the next batch, of n images, in this process or another."""
        self.shapes |= output.shapes
        if isinstance(output, FeatureOutput):
            return
        grams = output.grams
        self.grams.append(grams.matrices)
        self.totals |= output.totals
        if output.values:
            self.values.append(output.values)
        self.squares.append(grams.rms.square() * n)
        for module, finite, varies, size in zip(
            self.layers.modules, grams.finite.tolist(), grams.varies.tolist(), grams.size.tolist(), strict=True
        ):
            if not finite:
                self.not_finite.add(module)
            elif not varies:
                self.constant.setdefault(module, []).append(size)

    @property
    def over_batch(self) -> bool:
        """Whether the activation of an image depends on the other images of its forward pass."""
        modules = self.backbone.model.modules()
        return any(isinstance(module, _BatchNorm) and module.running_mean is None for module in modules)

    def held_bytes(self, shapes: Mapping[str, Sequence[int]], num: int) -> int:
        """Return the bytes of the features of so many images, of modules whose outputs for one have these shapes."""
        counts = [prod(shape) for shape in shapes.values()] if self.settings.features == "flatten" else []
        values = sum(min(count, self.settings.num_features or count) for count in counts)
        return values * num * (4 if PRECISIONS[self.settings.precision] is None else 2)

    def _fit_memory(self, images: Tensor) -> None:
        """Set the most images in a forward pass from the memory that two trials on a few of a batch take.

        This is for GPUs whose allocator counts, unless the number is given. A forward pass takes so much memory, and as
        much more for each image. While there are fewer than a batch in it, features are held for all of the batch.

        Raises:
            OutOfMemoryError: `memory` does not suffice for one image.
        """
        device, limit, n = self.backbone.device, self.settings.memory, len(images)
        skip = self.settings.forward_batch is not None or (self.over_batch and limit is None)
        if skip or not counts_memory(device) or tuple(images.shape[1:]) in self.tried:
            return
        self.tried.add(tuple(images.shape[1:]))
        kept, self.kept = self.kept, None
        most = min(TRIAL, n)
        few = max(most // 4, 1)
        (shapes, peak), (_, less) = (self._trial(images[:num], n) for num in (most, few))  # all set up in the first
        self.kept = kept
        if self.forward_batch is not None:  # the trial did not fit
            return
        each = max((peak - less) / (most - few) if most > few else peak, 1)
        grams = 8 * len(self.layers) * n**2
        room = (limit or SHARE * memory_left(device)) - (peak - each * most) - grams
        size = int(room // each)
        if size < n:
            size = int((room - self.held_bytes(shapes, n)) // each)
        if size < 1 and limit is not None:
            raise OutOfMemoryError(
                f"{self.backbone.origin.reference}: expected memory for one image and for the features of a batch of "
                f"{n}, {as_bytes(limit - room + each + self.held_bytes(shapes, n))}, found --memory {as_bytes(limit)}; "
                "give more, a smaller --batch, --features gap or fewer --layers"
            )
        self.forward_batch = max(size, 1)

    def _trial(self, images: Tensor, batch: int) -> tuple[dict[str, tuple[int, ...]], int]:
        """Return the shapes of modules' outputs for one of a few images of a batch, and the memory that all take."""
        work = partial(self._run, images, sizes=[len(images)], progress=lambda _: None)
        return peak_memory(self.backbone.device, lambda: self._fitting(work, images, batch).shapes)

    def _fitting(self, work: Callable[[list[range]], T], images: Tensor, batch: int) -> T:
        """Return the result of some work on images, in parts as large as fit into memory; errors name the model."""
        result = None
        while result is None:
            parts = equal_parts(len(images), self.forward_batch or len(images))
            if len(parts) > 1 and self.over_batch:
                raise DataError(
                    f"{self.backbone.origin.reference}: expected whole batches in a forward pass, because the model "
                    f"normalises over them, found {self.forward_batch} of {len(images)} images; omit --forward-batch "
                    "and --memory, or give a smaller --batch"
                )
            try:
                with prefixed_errors(self.backbone.origin.reference):
                    result = work(parts)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                with prefixed_errors(self.backbone.origin.reference):
                    self._halve(max(map(len, parts)), batch, error)
            if result is None:  # after the exception, which holds on to activations
                free_memory(self.backbone.device)
        return result

    def _halve(self, size: int, batch: int, error: Exception) -> None:
        """Halve the number of images in a forward pass after one of `size` images did not fit.

        Raises:
            OutOfMemoryError: There are no fewer.
        """
        least = 1 if self.probed else max(EXAMPLES)  # as many run to find out what can be compared
        if size <= least or self.over_batch:
            smaller = f"--batch {max(batch // 2, FEWEST)}, " if batch > FEWEST else ""
            raise OutOfMemoryError(
                f"out of memory with {size} image{'s' * (size > 1)} in a forward pass (--forward-batch) and {batch} "
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
        images = self._pinned(images)
        process = _copied if self.gives_features else self._product
        orders = self.orders if self.gives_features else None
        num, seed = self.settings.num_features, self.settings.seed
        features = BatchFeatures(sizes, self.settings.features, process, orders, num, seed)

        def add(part: range, ran: set[str], module: str, activation: Tensor) -> None:
            shape = tuple(activation.shape)
            features.shapes[module] = shape[1:]
            ran.add(module)
            progress((part.start + len(part) * len(ran) / len(self.layers)) / len(images))
            if (module, shape[1:]) not in self.layouts:
                layout = channel_layout(shape, pixels, model.get_submodule(split_call(module)[0]), model)
                self.layouts[module, shape[1:]] = layout
            with full_float32(device):
                features.add(module, activation, self.layouts[module, shape[1:]], part)

        start = 0
        kept, self.kept = self.kept, None
        if kept:
            for number, (part, _) in enumerate(kept.parts):  # these images need not run again
                for module in self.layers.modules:
                    add(part, set(), module, kept.activation(module, number))
                start = part.stop
        del kept
        for part in parts:
            part = range(max(part.start, start), part.stop)
            if not part:
                continue
            inputs = self._inputs(images[part.start : part.stop])
            with self._precision(), fast_convolutions(model, self.folds):
                # the first pass runs to the end, so that a layer that runs again is noticed
                keep, run = partial(add, part, set()), self.backbone.run
                record(model, inputs, self.layers.modules, keep, run=run, stop=self.ran, places=self.places)
            self.ran = True
        return features

    def run_once(self, images: Tensor, keep: Callable[[str, Tensor], object] = lambda *_: None) -> None:
        """Run the model on images, (n, ...), up to the last layer; no norm is folded.

        Args:
            images: As `preprocessing.fit` returns them.
            keep: Called with each module and its activation, (n, ...), which may be overwritten after the call.
        """
        with self._precision(), fast_convolutions(self.backbone.model):
            inputs, run = self._inputs(images), self.backbone.run
            record(self.backbone.model, inputs, self.layers.modules, keep, run=run, places=self.places)

    def _probe(self, images: Tensor, parts: Sequence[range]) -> Probe:
        """Return what the modules put out for a few images of the first part, or for all of it."""
        with self._precision(), fast_convolutions(self.backbone.model):
            inputs = self._inputs(images[: max(len(parts[0]), *EXAMPLES)])
            return probe(self.backbone.model, inputs, run=self.backbone.run, keep=self.layers.modules)

    def _pinned(self, images: Tensor) -> Tensor:
        """Return images in memory from which copies to the device do not wait for the model."""
        return images.pin_memory() if (images.device.type, self.backbone.device.type) == ("cpu", "cuda") else images

    def _inputs(self, images: Tensor) -> Tensor:
        """Return images as the model takes them, on its device and in the memory format that it runs fastest in."""
        images = images.to(self.backbone.device, non_blocking=True)
        if images.dim() == 4 and runs_in_any_format(self.backbone.model):
            images = images.contiguous(memory_format=torch.channels_last)
        if images.dim() >= 4 and (images.is_floating_point() or images.dtype == torch.uint8):  # else vectors or tokens
            images = self.preprocessing.normalise(images)
        return images.to(self.backbone.dtype or images.dtype) if images.is_floating_point() else images

    @contextmanager
    def _precision(self) -> Iterator[None]:
        """Run the model in the precision of the settings."""
        device, dtype = self.backbone.device, PRECISIONS[self.settings.precision]
        tf32 = self.settings.precision == TF32
        autocast = torch.autocast(device.type, dtype) if dtype else nullcontext()
        with full_float32(device, tf32=tf32), own_forward(self.backbone.model), autocast:
            yield

    @property
    def form(self) -> Hashable:
        """What images have in common that become the same input but for its normalisation."""
        return self.preprocessing.form

    def sample(self) -> FeatureSample | None:
        """Return the sampled features of all batches, or None."""
        if not self.values:
            return None
        return FeatureSample(tuple(self.values), tuple(self.totals[module] for module in self.layers.modules))

    def undefined(self) -> tuple[str, ...]:
        """Return for each layer why it has no similarity, or ""; see `undefined_reason`."""
        return tuple(
            undefined_reason(module in self.not_finite, self.constant.get(module, []), len(self.grams))
            for module in self.layers.modules
        )
