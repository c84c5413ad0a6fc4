"""What a comparison will cost in operations, memory, disk and time, from a trial on two batches; nothing is written.

The trial reads two batches of the images, and runs every model on them. FLOPs count a multiplication with its addition
as two. Times are those of the second batch, in proportion to the number of images. Models that the comparison loads one
after another are tried one after another.
"""

import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import ceil
from statistics import fmean
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from cka_probe.comparison.extraction import model_inputs, model_runs, preparation, side_features
from cka_probe.comparison.features import are_pooled
from cka_probe.comparison.fingerprint import Settings
from cka_probe.comparison.model_run import FeatureOutput, ModelRun, Output
from cka_probe.comparison.sides import (
    Entry,
    Images,
    Model,
    Options,
    fingerprints_and_models,
    open_sides,
    pair_entries,
    run_in_turn,
)
from cka_probe.comparison.stored import space_of
from cka_probe.errors import DataError
from cka_probe.images.stream import BATCH, FEWEST, batches
from cka_probe.models.devices import as_bytes, lacks_bfloat16, lacks_tf32
from cka_probe.models.recording import EXAMPLES
from cka_probe.models.selection import LayerSpec
from cka_probe.similarity.moments import Moments

TRIAL = 2
"""Batches of a trial; the first one warms up."""
PROCESSES = (2, 4, 8, 16)
"""Numbers of processes of `torchrun` to state the time of."""
HASHES = 150
"""Bytes of memory for each image of one batch of all."""


@dataclass(frozen=True)
class ModelCost:
    """The cost of one model.

    Attributes:
        name: Its reference.
        layers: Number of layers compared.
        flops: Floating-point operations per image, up to the last of these layers.
        weights: Bytes of parameters and buffers.
        activations: Bytes of the activations of one forward pass, at their peak, and of features held for a batch.
        grams: Bytes of all its Grams, float64.
        sample: Bytes of its sampled features, float32.
        fingerprint: Bytes of its fingerprint on disk.
        forward_batch: Images in a forward pass.
        seconds: Time per image of forward pass and Grams.
    """

    name: str
    layers: int
    flops: int
    weights: int
    activations: int
    grams: int
    sample: int
    fingerprint: int
    forward_batch: int
    seconds: float


@dataclass(frozen=True)
class Plan:
    """The cost of a comparison.

    Attributes:
        num: Number of images.
        batch: Images in a batch.
        device: Where the models run.
        settings: Of the run.
        models: Cost of each model.
        reading: Seconds per image to read, resize and hash it.
        passes: How often the images are read.
        in_turn: Whether models are loaded and run one after another.
        sums: Bytes of the sums over images and of the sample, for one batch of all images.
        adding: Seconds per image to add to these sums.
        stored: Bytes of temporary files of features and Grams, for one batch of all images with flattened features.
    """

    num: int
    batch: int
    device: torch.device
    settings: Settings
    models: tuple[ModelCost, ...]
    reading: float
    passes: int
    in_turn: bool
    sums: int = 0
    adding: float = 0.0
    stored: int = 0

    @property
    def reading_seconds(self) -> float:
        """Time to read all images."""
        return self.reading * self.num * self.passes

    @property
    def forward_seconds(self) -> float:
        """Time of all forward passes, with their Grams."""
        return sum(model.seconds for model in self.models) * self.num

    @property
    def seconds(self) -> float:
        """Time of reading and forward passes: their sum where both use the same cores, else that of the longer."""
        return self.seconds_of(1)

    def seconds_of(self, processes: int) -> float:
        """Return the time with so many processes, each on a GPU or machine of its own; they share whole batches."""
        count = batch_count(self.num, self.batch)
        parts = self.reading_seconds, self.forward_seconds
        shared = sum(parts) if self.device.type == "cpu" else max(parts)
        return shared * ceil(count / processes) / count + self.adding * self.num

    @property
    def memory(self) -> int:
        """Bytes above the program itself, in RAM and on a GPU together."""
        weights = [model.weights for model in self.models]
        grams = sum(model.grams for model in self.models)
        return (
            (max(weights) if self.in_turn else sum(weights))
            + max(model.activations for model in self.models)
            + grams
            + sum(model.sample for model in self.models)
            + (self.sums + HASHES * self.num if self.sums or self.stored else 0)
        )

    @property
    def hint(self) -> str:
        """Which option would help most."""
        if self.reading_seconds > self.forward_seconds:
            return (
                "Reading images takes most of the time: --workers as many as there are cores, --decode-size for large "
                "JPEGs, or a smaller --num."
            )
        if self.settings.precision == "float32" and not lacks_bfloat16(self.device) and self.device.type != "mps":
            faster = "--precision bfloat16" if lacks_tf32(self.device) else "--precision tf32 or bfloat16"
            return f"The forward passes take most of the time: {faster}, or a smaller --num or --size."
        return "The forward passes take most of the time: a smaller --num or --size, or a GPU."

    @property
    def torchrun_hint(self) -> str:
        """What several processes would save."""
        count = batch_count(self.num, self.batch)
        numbers = [number for number in PROCESSES if number < 2 * count] if count > 1 else []
        if not numbers:
            return "saves nothing, because there is one batch; a smaller --batch makes more"
        times = ", ".join(f"{self.seconds_of(number):.3g} s with {min(number, count)}" for number in numbers)
        return f"about {times} processes, each on a {'machine' if self.device.type == 'cpu' else 'GPU'} of its own"

    @property
    def memory_hint(self) -> str:
        """Which option would save most memory."""
        costs = {
            "weights": (max if self.in_turn else sum)(model.weights for model in self.models),
            "activations": max(model.activations for model in self.models),
            "Grams": sum(model.grams for model in self.models),
            "sampled features": sum(model.sample for model in self.models),
            "sums over images": self.sums,
        }
        options = {
            "weights": "which no option changes",
            "activations": "which a smaller --forward-batch reduces (if it is below --batch, --features gap as well)",
            "Grams": "which a smaller --batch, --num or fewer --layers reduce",
            "sampled features": "which a smaller --num-features or --num reduces",
            "sums over images": "which fewer --layers reduce",
        }
        largest = max(costs, key=lambda name: costs[name])
        return f"Most of the memory is for {largest}, {options[largest]}."

    def __str__(self) -> str:
        """Return a table for a terminal."""
        count, forward = batch_count(self.num, self.batch), min(model.forward_batch for model in self.models)
        width = max(5, *(len(model.name) for model in self.models))
        lines = [
            f"{self.num} images in {count} batch{'es' * (count > 1)} of {self.batch}, {forward} in a forward pass, "
            f"{self.settings.precision} on {self.device}; estimates from a trial of {TRIAL} batches",
            "",
            f"{'model':{width}}  layers  GFLOPs/image  ms/image  {'weights':>9}  {'activations':>11}  {'Grams':>9}",
        ]
        lines += [
            f"{model.name:{width}}  {model.layers:6}  {model.flops / 1e9:12.3g}  {model.seconds * 1e3:8.3g}  "
            f"{as_bytes(model.weights):>9}  {as_bytes(model.activations):>11}  {as_bytes(model.grams):>9}"
            for model in self.models
        ]
        times = f"reading {self.reading_seconds:.3g} s, forward passes {self.forward_seconds:.3g} s"
        times += f", sums {self.adding * self.num:.3g} s" if self.sums else ""
        disk = sum(model.fingerprint for model in self.models)
        files = f", {as_bytes(self.stored)} of features and Grams until the end" if self.stored else ""
        sums = f", {as_bytes(self.sums)} of them sums over images and a sample of features" if self.sums else ""
        return "\n".join(
            [
                *lines,
                "",
                f"time      about {self.seconds:.3g} s ({times}), and that of loading, the matrix and the figures",
                f"torchrun  {self.torchrun_hint}",
                f"memory    about {as_bytes(self.memory)} above that of Python and its packages{sums}",
                f"disk      {as_bytes(disk)} of fingerprints{files}",
                f"hint      {self.hint}",
                f"hint      {self.memory_hint}",
            ]
        )


def plan(
    models: Sequence[Model],
    images: Any = None,
    *,
    images_y: Any = None,
    pair: str | None = None,
    layers: LayerSpec = None,
    layers_y: LayerSpec = None,
    arch: str | None = None,
    arch_y: str | None = None,
    everything: bool = False,
    options: Options | None = None,
) -> Plan:
    """Return what it will cost to compare models over images; arguments as in `compare`.

    Args:
        models: Two, or any other number, which have the same layers, images and architecture; fingerprints cost no
            forward pass, and are left out.
        images: A folder, dataset or tensor, which is read again by the comparison.
        images_y: Other images of the second of two models.
        pair: How these are paired.
        layers: Layers of all models.
        layers_y: Layers of the second of two models, where they differ.
        arch: Architecture of files.
        arch_y: Architecture of the second of two models, where it differs.
        everything: All images are one batch, as with `batch="all"`.
        options: All other arguments.

    Raises:
        DataError: No model is to be run, or the number of images is not known.

    >>> net = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU())
    >>> cost = plan([net], torch.randn(16, 6), layers="*")
    >>> cost.num, cost.models[0].layers, cost.models[0].flops, cost.models[0].grams
    (16, 2, 60, 4096)
    """
    options, sources = options or Options(), Images(images, images_y, pair)
    if len(models) != 2 and (everything or any(each is not None for each in (images_y, pair, layers_y, arch_y))):
        raise DataError(f"expected two models for options of the second and for one batch of all, found {len(models)}")
    stored, waiting = fingerprints_and_models(models)
    if not waiting:
        raise DataError("expected a model that is to be run, found only fingerprints, which cost little")
    in_turn = len(models) > 2 and run_in_turn(list(waiting.values()), images, options)
    if len(models) == 2:
        groups = [pair_entries(models[0], models[1], sources, (layers, layers_y), (arch, arch_y))]
    else:
        parts = [[model] for model in waiting.values()] if in_turn else [[*waiting.values()]]
        groups = [[Entry(model, layers, arch) for model in (*part, *stored.values())] for part in parts]
    plans = [_plan_together(entries, sources, options, everything) for entries in groups]
    return replace(
        plans[0],
        models=tuple(model for part in plans for model in part.models),
        reading=fmean(part.reading for part in plans),
        passes=len(plans),
        in_turn=in_turn,
    )


def _plan_together(entries: Sequence[Entry], images: Images, options: Options, everything: bool) -> Plan:
    """Return the cost of models that run next to each other, with one reading of the images."""
    opened = open_sides(entries, images, options)
    pooled = everything and are_pooled(opened.sides, opened.settings.features)
    stream, by_key = opened.streams[0], opened.runs()
    if stream.total is None:
        raise DataError("expected images whose number is known (a folder, dataset or tensor), or num, found neither")
    runs = model_runs(list(by_key.values()), opened.settings)
    start = perf_counter()
    trial = list(islice(batches(opened.streams, preparation(runs)), TRIAL))
    reading = (perf_counter() - start) / sum(len(batch[0]) for batch in trial)
    num, batch = stream.total, stream.batch or BATCH  # an iterable has its size after the first batch
    costs, features = [], []
    for run, inputs in zip(runs, model_inputs(runs, trial), strict=True):
        run.gives_features = everything
        cost, output = _cost(run, inputs, num, batch)
        costs.append(cost)
        if isinstance(output, FeatureOutput):
            features.append(output.features)
    device = runs[0].backbone.device
    plan = Plan(num, batch, device, opened.settings, tuple(costs), reading, passes=1, in_turn=False)
    if not everything:
        return plan
    indices = [list(by_key).index(key) for key in opened.keys]
    x, y = side_features(indices, opened.maps, features)
    if not pooled:
        return replace(plan, stored=space_of(x, y, num))
    moments = Moments(seed=0)
    for _ in range(TRIAL):
        start = perf_counter()
        moments.add(x, y)
        adding = (perf_counter() - start) * TRIAL / moments.x.count
    tensors = filter(_is_tensor, tree_leaves([vars(part) for part in (moments, moments.x, moments.y)]))
    return replace(plan, sums=sum(tensor.nbytes for tensor in tensors), adding=adding)


def _cost(run: ModelRun, stacks: Sequence[Tensor], num: int, batch: int) -> tuple[ModelCost, Output | FeatureOutput]:
    """Return the cost of a model for `num` images, from those of a trial, and what it gives for the last of these."""
    run.choose_layers(run.probe(stacks))
    for stack in (stacks[0], stacks[-1]):  # where there is one batch, it runs twice
        start = perf_counter()
        (output,) = run.run([stack], lambda _share: None)
        seconds = (perf_counter() - start) / len(stack)
    few = stacks[0][: max(EXAMPLES)]
    with LiveMemory() as memory, FlopCounterMode(display=False) as counter:
        run.run_once(few)
    forward_batch = min(run.forward_batch or batch, run.settings.forward_batch or batch, num)
    held = run.held_bytes(output.shapes, min(batch, num))
    weights = [*run.backbone.parameters(), *run.backbone.buffers()]
    count, layers = batch_count(num, batch), len(run.layers)
    sample = sum(4 * num * value.shape[1] for value in output.values) if isinstance(output, Output) else 0
    sizes = [] if run.gives_features else [*([batch] * (count - 1)), num - batch * (count - 1)]
    cost = ModelCost(
        name=run.backbone.origin.reference,
        layers=layers,
        flops=counter.get_total_flops() // len(few),
        weights=sum(tensor.nbytes for tensor in weights),
        activations=memory.peak * forward_batch // len(few) + (held if forward_batch < min(batch, num) else 0),
        grams=sum(8 * layers * size**2 for size in sizes),
        sample=sample,
        fingerprint=sum(8 * layers * size * (size + 1) // 2 for size in sizes) + (36 * num if sizes else 0) + sample,
        forward_batch=forward_batch,
        seconds=seconds,
    )
    return cost, output


class LiveMemory(TorchDispatchMode):
    """Counts the bytes of the tensors that operations put out and that are alive.

    Attributes:
        peak: The largest number of bytes at one time.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = self.peak = 0
        self._alive: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        inputs = {tensor.untyped_storage().data_ptr() for tensor in tree_leaves((args, kwargs)) if _is_tensor(tensor)}
        outputs = func(*args, **(kwargs or {}))
        for tensor in filter(_is_tensor, tree_leaves(outputs)):
            storage = tensor.untyped_storage()
            address = storage.data_ptr()
            if address not in inputs and address not in self._alive:
                self._alive.add(address)
                self.bytes += storage.nbytes()
                self.peak = max(self.peak, self.bytes)
                weakref.finalize(storage, self._free, address, storage.nbytes())
        return outputs

    def _free(self, address: int, size: int) -> None:
        self._alive.discard(address)
        self.bytes -= size


def _is_tensor(value: Any) -> bool:
    """Return whether a value is a tensor."""
    return isinstance(value, torch.Tensor)


def batch_count(num: int, batch: int) -> int:
    """Return the number of batches; a last one of fewer than four images is added to the one before.

    >>> batch_count(512, 64), batch_count(515, 64), batch_count(516, 64)
    (8, 8, 9)
    """
    return max(num - FEWEST, 0) // batch + 1
