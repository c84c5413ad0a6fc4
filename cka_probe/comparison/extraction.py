"""Extract fingerprints from models: one pass over the images, and one forward pass of each model.

Each batch of images is read once and given to every model at its size and normalisation. Each activation becomes a Gram
inside its hook and is freed.
"""

import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import chain, repeat, zip_longest
from typing import NamedTuple, Protocol

import pandas as pd
import torch
from torch import Tensor, nn

from cka_probe.comparison.fingerprint import TF32, Fingerprint, Partner, Settings, Shard
from cka_probe.comparison.model_run import FeatureOutput, ModelRun, Output
from cka_probe.comparison.ranks import Ranks, current_ranks
from cka_probe.comparison.results import Side
from cka_probe.errors import CkaProbeWarning, DataError, DeviceError, ModelError
from cka_probe.images.conversion import stack_images
from cka_probe.images.prefetch import Copy, copy_stream, default_workers, prefetch
from cka_probe.images.stream import WHOLE, ImageStream, Share, batches, image_hash, list_hash
from cka_probe.models.backbone import Backbone, Preprocessing, as_size
from cka_probe.models.devices import counts_memory, lacks_bfloat16, lacks_tf32
from cka_probe.models.layers import LayerMap, call_name, split_call
from cka_probe.models.layouts import channel_layout
from cka_probe.models.load import weights_hash
from cka_probe.models.recording import EXAMPLES, Probe, probe
from cka_probe.models.selection import (
    LayerSpec,
    expanded_layers,
    recorded_layers,
    select_layers,
    unusable_reason,
)
from cka_probe.progress import Progress

SLOW_BFLOAT16 = (
    "this processor has no instructions for bfloat16: expect several times the time of float32 (6 times where it was "
    "measured); --precision float32 is faster, and exact"
)

REDUCTION = 2
"""Least ratio of a decode size to the longer side of an input: reduced images are still resized by as much."""

FeatureReceiver = Callable[[Sequence[dict[str, Tensor]]], None]
"""Called with the features of a batch, (n, p) by module for each model."""


class FeatureSink(Protocol):
    """Takes the features of x and y, in place of Grams of each batch."""

    def start(self, sides: Sequence[Backbone | Fingerprint], settings: Settings, stream: ImageStream | None) -> None:
        """Check what is compared, before the first batch."""

    def add(self, x: Sequence[Tensor], y: Sequence[Tensor]) -> None:
        """Add a batch: per layer, (n, p)."""


_Prepared = tuple[str, dict[Hashable, Tensor]]
"""Hash of an image, and the image in the size and channels of each model."""
_Group = Sequence[Sequence[Sequence[_Prepared]]]
"""The batches of a forward pass, each with the images of each stream."""


class _Batch(NamedTuple):
    """What is kept of one batch: the hashes of its images of each stream, and what each model gives."""

    hashes: list[list[str]]
    outputs: list[Output | FeatureOutput]


def extract(
    models: Sequence[tuple[Backbone, LayerMap, int]],
    streams: Sequence[ImageStream],
    settings: Settings,
    progress: Progress | None = None,
    pairing: str = "",
    shard: Share = WHOLE,
    receive: FeatureReceiver | None = None,
) -> list[Fingerprint]:
    """Return the fingerprint of each model, from one pass over the images.

    Args:
        models: Backbones, on their devices, each with its layers and the index of its stream.
        streams: Images, read once: one stream for all models, or two in step.
        settings: The settings to run with, recorded in the fingerprints.
        progress: Called with the number of images done and in all, at the start, after each layer and after each batch.
            Within a batch, an image counts as done in proportion to the layers of all models that have run.
        pairing: How two streams are paired, `name` or `order`.
        shard: Which of the batches to run; the fingerprints say so.
        receive: Called for each batch with the features of every model; then the fingerprints have no Grams.

    Raises:
        LayerError: A layer never runs, runs twice, or does not give one activation per image.
        DataError: There are too few images, or one is unreadable.
        OutOfMemoryError: Memory does not suffice for one image at a time.
    """
    runs = model_runs(models, settings)
    for run in runs:
        run.gives_features = receive is not None
    for stream in streams:
        if stream.workers is None and all(run.backbone.device.type != "cpu" for run in runs):
            stream.workers = default_workers()  # the cores are free for images of any kind
    hashes: list[list[str]] = [[] for _ in streams]
    report = progress or (lambda _done, _total: None)
    report(0, streams[0].total)
    for batch in _run_batches(runs, streams, shard, settings.forward_batch or 0, report):
        for run, output in zip(runs, batch.outputs, strict=True):
            run.add(output, len(batch.hashes[run.stream]))
        if receive is not None:
            receive([output.features for output in batch.outputs if isinstance(output, FeatureOutput)])
        for stream_hashes, digests in zip(hashes, batch.hashes, strict=True):
            stream_hashes += digests
    with ThreadPoolExecutor() as threads:  # hashing releases the GIL
        weights = list(threads.map(weights_hash, [run.backbone.model for run in runs]))
    prints = [
        as_fingerprint(run, digest, hashes[run.stream], streams) for run, digest in zip(runs, weights, strict=True)
    ]
    if shard != WHOLE:
        prints = [replace(print_, shard=_shard(run, shard, streams)) for print_, run in zip(prints, runs, strict=True)]
    if len(streams) == 1:
        return prints
    partners = [
        Partner(list_hash(digests), stream.source, pairing) for digests, stream in zip(hashes, streams, strict=True)
    ]
    return [replace(print_, partner=partners[1 - run.stream]) for print_, run in zip(prints, runs, strict=True)]


def side_features(
    indices: Sequence[int], maps: Sequence[LayerMap], features: Sequence[dict[str, Tensor]]
) -> list[list[Tensor]]:
    """Return the features of the layers of x and of y over a batch.

    Args:
        indices: Index in `features` of the model of x and of that of y.
        maps: Layers of x and of y; calls of a module that runs several times are those that were recorded.
        features: Per model, features by module.
    """
    sides = []
    for index, layers in zip(indices, maps, strict=True):
        recorded = LayerMap.of(features[index])
        sides.append([features[index][module] for module in recorded_layers(layers, recorded).modules])
    return sides


def model_runs(models: Sequence[tuple[Backbone, LayerMap, int]], settings: Settings) -> list[ModelRun]:
    """Return the run of each model, before its first batch; arguments as in `extract`."""
    if settings.precision == "bfloat16" and any(lacks_bfloat16(backbone.device) for backbone, _, _ in models):
        warnings.warn(SLOW_BFLOAT16, CkaProbeWarning, stacklevel=2)
    for backbone, _, _ in models:
        if settings.precision == TF32 and lacks_tf32(backbone.device):
            raise DeviceError(f"expected a GPU of CUDA that has TF32, found {backbone.device}; use --precision float32")
        if settings.memory is not None and not counts_memory(backbone.device):
            raise DeviceError(
                f"expected a GPU of CUDA for --memory, whose allocator counts its memory, found {backbone.device}; "
                "give --forward-batch"
            )
    inputs = [_preprocessing(backbone, settings) for backbone, _, _ in models]
    if settings.preprocess == "shared":
        inputs = inputs[:1] * len(models)
    return [
        ModelRun(backbone, layers, preprocessing, settings, stream, forward_batch=settings.forward_batch)
        for (backbone, layers, stream), preprocessing in zip(models, inputs, strict=True)
    ]


def preparation(runs: Sequence[ModelRun]) -> Callable[[Tensor, int], _Prepared]:
    """Return a function of an image and its stream that hashes it and gives it the forms in which models take it."""
    forms: dict[int, dict[Hashable, Preprocessing]] = {}
    for run in runs:
        forms.setdefault(run.stream, {})[run.form] = run.preprocessing

    def prepare(image: Tensor, stream: int) -> _Prepared:
        return image_hash(image), {name: form.fit(image) for name, form in forms.get(stream, {}).items()}

    return prepare


def _run_batches(
    runs: Sequence[ModelRun], streams: Sequence[ImageStream], shard: Share, forward_batch: int, report: Progress
) -> Iterator[_Batch]:
    """Run all models on the batches of this process, and yield those of all processes, in their order.

    The first process finds out on the first batch which layers can be compared. Where a model is distributed itself, as
    by FSDP, its forward pass needs all processes, and each of them runs all batches.

    Raises:
        DataError: The processes do not read the same images.
    """
    ranks = Ranks() if any(is_distributed(run.backbone.model) for run in runs) else current_ranks()
    ranks.omit_unreadable(streams, shard)
    share = ranks.share.within(shard)
    done = 0
    groups = _staged(runs, _grouped(batches(streams, preparation(runs), share), forward_batch))
    for group, inputs in chain(groups, repeat(((), []))):
        if not runs[0].probed:
            if not group and ranks.index == 0:
                raise DataError(
                    f"expected a batch for each of {shard.count} shards, found {shard.index} or fewer; make fewer "
                    "shards, or give more images or a smaller batch"
                )
            probes = []
            if ranks.index == 0:  # the first batch of all runs in the same parts, whatever the shards
                first = shard.index == 0
                probes = [run.probe(images, keep=first) for run, images in zip(runs, inputs, strict=True)]
            for run, outputs in zip(runs, ranks.exchange(probes)[0], strict=True):
                run.choose_layers(outputs)
        size = sum(len(batch[0]) for batch in group) * ranks.count
        report_share = partial(_report_share, report, streams[0].total, done, size)
        rounds = zip_longest(*ranks.exchange(_run_group(runs, group, inputs, report_share)))
        results = [batch for batches_of_ranks in rounds for batch in batches_of_ranks if batch is not None]
        if not results:
            break
        done += sum(len(batch.hashes[0]) for batch in results)
        yield from results
        report(done, streams[0].total)
    ranks.check_images(streams)


def is_distributed(model: nn.Module) -> bool:
    """Return whether the weights of a model lie in several processes."""
    parts = chain(model.modules(), model.parameters())
    return any(type(part).__module__.startswith("torch.distributed.") for part in parts)


def _report_share(report: Progress, total: int | None, done: int, size: int, share: float) -> None:
    """Report a share of the images of a round as done."""
    done += int(size * share)
    report(done if total is None else min(done, total), total)


def _run_group(
    runs: Sequence[ModelRun],
    group: Sequence[Sequence[Sequence[_Prepared]]],
    inputs: Sequence[Sequence[Tensor]],
    report: Callable[[float], None],
) -> list[_Batch]:
    """Run all models on the batches of a forward pass."""
    outputs = [
        run.run(inputs[index], lambda share, index=index: report((index + share) / len(runs)))  # type: ignore[misc]
        for index, run in enumerate(runs if group else ())
    ]
    hashes = [[[digest for digest, _ in images] for images in batch] for batch in group]
    return [_Batch(digests, [each[number] for each in outputs]) for number, digests in enumerate(hashes)]


def _staged(runs: Sequence[ModelRun], groups: Iterable[_Group]) -> Iterator[tuple[_Group, list[list[Tensor]]]]:
    """Yield the batches of each forward pass, and their images for each model; see `model_inputs`.

    For models on GPUs of CUDA, a thread stacks the images of the next pass and copies them there during this one.
    Where the images of a batch are more than those of a forward pass, they stay on the CPU until it comes to them.
    """
    devices = {run.backbone.device for run in runs}
    streams = {device: stream for device in devices if (stream := copy_stream(device)) is not None}

    def stage(group: _Group) -> tuple[_Group, list[list[Tensor]], dict[tuple[int, torch.device], Copy]]:
        inputs = model_inputs(runs, group)
        copies: dict[tuple[int, torch.device], Copy] = {}
        for run, stacks in zip(runs, inputs, strict=True):
            stream = streams.get(run.backbone.device)
            if stream is not None and (run.forward_batch is None or run.forward_batch >= len(stacks[0])):
                for stack in stacks:
                    if (key := (id(stack), stream.device)) not in copies:
                        copies[key] = stream.copy(stack)
        return group, inputs, copies

    for group, inputs, copies in prefetch(stage, groups, workers=min(len(streams), 1), ahead=1):
        received = {key: streams[key[1]].receive(copy) for key, copy in copies.items()}
        yield (
            group,
            [
                [received.get((id(stack), run.backbone.device), stack) for stack in stacks]
                for run, stacks in zip(runs, inputs, strict=True)
            ],
        )


def model_inputs(runs: Sequence[ModelRun], group: _Group) -> list[list[Tensor]]:
    """Return the images of batches for each model; models that take the same share them."""
    stacks: dict[tuple[int, Hashable], list[Tensor]] = {}
    for run in runs:
        if (key := (run.stream, run.form)) not in stacks:
            stacks[key] = [stack_images([fitted[run.form] for _, fitted in batch[run.stream]]) for batch in group]
    return [stacks[run.stream, run.form] for run in runs]


def _grouped(batches: Iterable[list[list[_Prepared]]], forward_batch: int) -> Iterator[list[list[list[_Prepared]]]]:
    """Yield as many batches at a time as one forward pass takes, at least one."""
    group: list[list[list[_Prepared]]] = []
    for batch in batches:
        group.append(batch)
        if (len(group) + 1) * len(batch[0]) > forward_batch:
            yield group
            group = []
    if group:
        yield group


def _preprocessing(backbone: Backbone, settings: Settings) -> Preprocessing:
    """Return how images become the input of a model.

    Raises:
        DataError: The model does not take images of the size asked for, a size is asked for normalised images, or
            images are decoded at less than twice the size.
    """
    preprocessing = _sized_preprocessing(backbone, settings)
    if settings.decode_size is not None:
        least = REDUCTION * max(preprocessing.size) if preprocessing.size else None
        if least is None or settings.decode_size < least:
            expected = "a model with an input size" if least is None else f"a decode size of at least {least}"
            raise DataError(
                f"{backbone.origin.reference}: expected {expected} (--decode-size), found {settings.decode_size}; omit "
                "it, which decodes images at full size, or give a larger one"
            )
    return preprocessing


def _sized_preprocessing(backbone: Backbone, settings: Settings) -> Preprocessing:
    """Return the preprocessing at the size of the settings."""
    if settings.normalised and settings.size:
        raise DataError("expected size or normalised, found both: normalised images are not resized; omit one")
    if settings.normalised:
        return Preprocessing()
    return backbone.preprocessing if settings.size is None else backbone.preprocessing_at(settings.size)


def as_fingerprint(run: ModelRun, weights: str, hashes: list[str], streams: Sequence[ImageStream]) -> Fingerprint:
    """Return the fingerprint of a model that was run on all batches."""
    images = streams[run.stream]
    squares = sum(run.squares, torch.zeros(len(run.layers), dtype=torch.float64)) / len(hashes)
    origin = run.backbone.origin
    side = Side(
        reference=origin.reference,
        architecture=origin.architecture,
        hash=weights,
        preprocessing=run.preprocessing.record,
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
        sample=run.sample(),
    )


def _shard(run: ModelRun, share: Share, streams: Sequence[ImageStream]) -> Shard:
    """Return what a fingerprint of a share of the batches has in addition."""
    return Shard(
        index=share.index + 1,
        count=share.count,
        squares=tuple(tuple(squares.tolist()) for squares in run.squares),
        not_finite=tuple(sorted(run.not_finite)),
        constant=run.constant,
        images=[[stream.total, stream.batch, stream.samples] for stream in streams],
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
