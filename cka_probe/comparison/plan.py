"""What a comparison will cost in operations, memory, disk and time, from a trial on two batches; nothing is written.

The trial reads two batches of the images, and runs every model on them. FLOPs count a multiplication with its addition
as two. Times are those of the second batch, in proportion to the number of images.
"""

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from math import prod
from time import perf_counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from cka_probe.comparison.extraction import model_runs, preparation
from cka_probe.comparison.fingerprint import PRECISIONS, Settings
from cka_probe.comparison.model_run import ModelRun
from cka_probe.comparison.sides import Model, Options, open_models
from cka_probe.images.conversion import stack_images
from cka_probe.images.stream import FEWEST, batches
from cka_probe.models.devices import lacks_bfloat16, pick_device
from cka_probe.models.recording import EXAMPLES
from cka_probe.models.selection import LayerSpec

TRIAL = 2
"""Batches of a trial; the first one warms up."""


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
        fingerprint: Bytes of its fingerprint on disk.
        seconds: Time per image of forward pass and Grams.
    """

    name: str
    layers: int
    flops: int
    weights: int
    activations: int
    grams: int
    fingerprint: int
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
    """

    num: int
    batch: int
    device: torch.device
    settings: Settings
    models: tuple[ModelCost, ...]
    reading: float
    passes: int
    in_turn: bool

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
        parts = self.reading_seconds, self.forward_seconds
        return sum(parts) if self.device.type == "cpu" else max(parts)

    @property
    def memory(self) -> int:
        """Bytes above the program itself, in RAM and on a GPU together."""
        weights = [model.weights for model in self.models]
        grams = sum(model.grams for model in self.models)
        return (
            (max(weights) if self.in_turn else sum(weights)) + max(model.activations for model in self.models) + grams
        )

    @property
    def hint(self) -> str:
        """Which option would help most."""
        if self.reading_seconds > self.forward_seconds:
            return "Reading images takes most of the time: --workers as many as there are cores, or a smaller --num."
        if self.settings.precision == "float32" and not lacks_bfloat16(self.device) and self.device.type != "mps":
            return "The forward passes take most of the time: --precision bfloat16, or a smaller --num or --size."
        return "The forward passes take most of the time: a smaller --num or --size, or a GPU."

    @property
    def memory_hint(self) -> str:
        """Which option would save most memory."""
        costs = {
            "weights": sum(model.weights for model in self.models),
            "activations": max(model.activations for model in self.models),
            "Grams": sum(model.grams for model in self.models),
        }
        options = {
            "weights": "which no option changes",
            "activations": "which a smaller --forward-batch reduces (if it is below --batch, --features gap as well)",
            "Grams": "which a smaller --batch, --num or fewer --layers reduce",
        }
        largest = max(costs, key=lambda name: costs[name])
        return f"Most of the memory is for {largest}, {options[largest]}."

    def __str__(self) -> str:
        """Return a table for a terminal."""
        count, forward = batch_count(self.num, self.batch), self.settings.forward_batch or self.batch
        width = max(5, *(len(model.name) for model in self.models))
        lines = [
            f"{self.num} images in {count} batch{'es' * (count > 1)} of {self.batch}, {min(forward, self.num)} in a "
            f"forward pass, {self.settings.precision} on {self.device}; estimates from a trial of {TRIAL} batches",
            "",
            f"{'model':{width}}  layers  GFLOPs/image  ms/image  {'weights':>9}  {'activations':>11}  {'Grams':>9}",
        ]
        lines += [
            f"{model.name:{width}}  {model.layers:6}  {model.flops / 1e9:12.3g}  {model.seconds * 1e3:8.3g}  "
            f"{as_bytes(model.weights):>9}  {as_bytes(model.activations):>11}  {as_bytes(model.grams):>9}"
            for model in self.models
        ]
        times = f"reading {self.reading_seconds:.3g} s, forward passes {self.forward_seconds:.3g} s"
        disk = sum(model.fingerprint for model in self.models)
        return "\n".join(
            [
                *lines,
                "",
                f"time    about {self.seconds:.3g} s ({times}), and that of loading, the matrix and the figures",
                f"memory  about {as_bytes(self.memory)} above that of Python and its packages",
                f"disk    {as_bytes(disk)} of fingerprints",
                f"hint    {self.hint}",
                f"hint    {self.memory_hint}",
            ]
        )


def plan(
    models: Sequence[Model],
    images: Any,
    *,
    layers: LayerSpec = None,
    arch: str | None = None,
    options: Options | None = None,
) -> Plan:
    """Return what it will cost to compare models over images; arguments as in `compare`.

    Args:
        models: Modules or references; fingerprints and features cost no forward pass, and are left out.
        images: A folder, dataset or tensor, which is read again by the comparison.
        layers: Layers of all models.
        arch: Architecture of files.
        options: All other arguments.

    Raises:
        DataError: No model is to be run, or the number of images is not known.

    >>> net = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU())
    >>> cost = plan([net], torch.randn(16, 6), layers="*")
    >>> cost.num, cost.models[0].layers, cost.models[0].flops, cost.models[0].grams
    (16, 2, 60, 4096)
    """
    options = options or Options()
    backbones, stream, settings = open_models(models, images, layers, arch, options)
    device = pick_device(settings.device)
    for backbone, _ in backbones:
        if backbone.loaded:
            backbone.to(device)
    num, batch = stream.total or 0, stream.batch or 0
    runs = model_runs([(backbone, layers, 0) for backbone, layers in backbones], settings)
    start = perf_counter()
    trial = list(islice(batches([stream], preparation(runs)), TRIAL))
    reading = (perf_counter() - start) / sum(len(part) for (part,) in trial)
    costs = tuple(_cost(run, trial, num, batch) for run in runs)
    in_turn = len(models) > 2 and settings.preprocess == "own" and all(isinstance(model, str) for model in models)
    device = backbones[0][0].device
    return Plan(num, batch, device, settings, costs, reading, len(runs) if in_turn else 1, in_turn)


def _cost(run: ModelRun, trial: Sequence[Any], num: int, batch: int) -> ModelCost:
    """Return the cost of a model from the images of a trial, for `num` images in all."""
    stacks = [stack_images([fitted[run.form] for _, fitted in part]) for (part,) in trial]
    run.choose_layers(run.probe(stacks))
    for stack in (stacks[0], stacks[-1]):  # where there is one batch, it runs twice
        start = perf_counter()
        (output,) = run.run([stack], lambda _share: None)
        seconds = (perf_counter() - start) / len(stack)
    few = stacks[0][: max(EXAMPLES)]
    with LiveMemory() as memory, FlopCounterMode(display=False) as counter:
        run.run_once(few)
    forward_batch = min(run.forward_batch or batch, num)
    values = sum(map(prod, output.shapes.values())) if run.settings.features == "flatten" else 0
    held = values * min(batch, num) * (4 if PRECISIONS[run.settings.precision] is None else 2)
    weights = [*run.backbone.parameters(), *run.backbone.buffers()]
    count, layers = batch_count(num, batch), len(run.layers)
    sizes = [*([batch] * (count - 1)), num - batch * (count - 1)]
    return ModelCost(
        name=run.backbone.origin.reference,
        layers=layers,
        flops=counter.get_total_flops() // len(few),
        weights=sum(tensor.nbytes for tensor in weights),
        activations=memory.peak * forward_batch // len(few) + (held if forward_batch < min(batch, num) else 0),
        grams=sum(8 * layers * size**2 for size in sizes),
        fingerprint=sum(8 * layers * size * (size + 1) // 2 for size in sizes) + 36 * num,
        seconds=seconds,
    )


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


def as_bytes(size: float) -> str:
    """Return a number of bytes as text.

    >>> as_bytes(900), as_bytes(3 * 2**20)
    ('900 B', '3 MiB')
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1000 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.3g} {unit}"
