"""Grad-CAM of several checkpoints over the same images: their maps, and how well these follow label boundaries.

Each network sees an image as in its training: squeezed to its input size, or the largest central box of the input's
proportions. Labels are resized in the same way (nearest), so a map and its labels have the same pixels, those of the
network's input: checkpoints of different input size are each compared at their own. A network that takes any size sees
the images as they are stored.

Several processes of a process group share the images, and all of them have the result.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from cka_probe.attribution.alignment import alignment, ceiling, controls, find_boundaries
from cka_probe.attribution.attributions import AVERAGED, COLUMNS, SIGNED, UNLABELLED, Attributions
from cka_probe.attribution.grad_cam import Maps, grad_cam
from cka_probe.attribution.networks import FOUND_BY_RUNNING, Network, network_of
from cka_probe.attribution.saved_maps import SavedMap
from cka_probe.attribution.targets import target_score, target_with_number
from cka_probe.comparison.ranks import Ranks, current_ranks
from cka_probe.errors import DataError, OutOfMemoryError, prefixed_errors
from cka_probe.images.datasets import Dataset, batches_of_one_size, open_with_field, read_samples, sample_indices
from cka_probe.images.sample import Sample
from cka_probe.images.stream import image_hash, list_hash
from cka_probe.models.backbone import as_size
from cka_probe.models.checkpoint import versions
from cka_probe.models.devices import is_out_of_memory, pick_device, usual_batch
from cka_probe.progress import ProgressSpec, reporting
from cka_probe.similarity.resampling import RESAMPLES

TRUTH = {"depth": "depth", "class": "category"}
"""The field with the truth of a prediction, by kind of target; `labels` for all others."""
PASSES = 2
"""Forward passes that need the memory of a forward and a backward pass."""


def attribute(
    checkpoints: Mapping[str, str | Path],
    data: str | Path | Dataset,
    layer: str | int = "auto",
    target: str = "auto",
    *,
    num: int | None = 8,
    seed: int = 0,
    tolerance: float = 1.0,
    resamples: int = RESAMPLES,
    log_softmax: bool = False,
    arch: str | None = None,
    encoder: str | None = None,
    base: str | Path | None = None,
    size: int | str | Sequence[int] | None = None,
    device: str = "auto",
    keep: int = 0,
    progress: ProgressSpec = None,
) -> tuple[Attributions, dict[str, list[SavedMap]]]:
    """Return how well the maps of checkpoints follow label boundaries, and some of the maps.

    Args:
        checkpoints: The name of each, to a checkpoint of `ckaprobe train` or any reference that `load` takes.
        data: A dataset, or what `open_dataset` takes for one. Without labels the alignment is NaN.
        layer: As for `grad_cam`.
        target: As for `grad_cam`; the class after a colon may also be a name in the data's vocabulary, of networks that
            have as many classes.
        num: Number of images, drawn with the seed; `None` for all.
        seed: Of the choice of images and of the bootstrap.
        tolerance: Distance in pixels of the network's input that still counts as on a boundary.
        resamples: Of the bootstrap.
        log_softmax: Use log-softmax instead of logits.
        arch: Architecture of the files, as in `load`.
        encoder: Encoder in files with several, as in `load`.
        base: Model that a LoRA adapter was trained on, as in `load`.
        size: Input size of all networks in place of their own, as in `compare`.
        device: `auto`, `cpu`, `cuda` …
        keep: Number of images whose maps are returned, evenly spaced; -1 for all.
        progress: True for a bar on stderr, or a function called as `progress(maps_done, total)`.

    Returns:
        The result, and a list of maps for each checkpoint.

    Raises:
        CheckpointError: A model cannot be loaded.
        DataError: There is no checkpoint; images do not fit a network; an output does not fit the target.
        LayerError: A network has no such layer.
        UnknownNameError: There is no such target or class.
        OutOfMemoryError: A batch does not fit.
    """
    if not checkpoints:
        raise DataError("expected at least one checkpoint, found none; give some")
    for option, count in (("num", num), ("resamples", resamples)):
        if count is not None and count < 1:
            raise DataError(f"expected {option} of at least 1, found {count}")
    if not 0 <= tolerance < np.inf:
        raise DataError(f"expected a tolerance of 0 pixels or more, found {tolerance}")
    dataset, source = open_with_field(data, "image", "a folder of images")
    networks = {}
    for name, reference in checkpoints.items():
        with prefixed_errors(str(reference)):
            networks[name] = network_of(reference, arch=arch, encoder=encoder, base=base, size=size)
    if target == "auto":
        target, *others = dict.fromkeys(network.default_target for network in networks.values())
        if others:
            raise DataError("expected classifiers or networks of segmentation, found both; give --target")
    indices = sorted(sample_indices(len(dataset), num, seed))
    names, drawn = [dataset.describe(index) for index in indices], evenly_spaced(len(indices), keep)
    run = _Run(
        dataset,
        indices,
        frozenset({"image", "labels", TRUTH.get(target.partition(":")[0], "labels")}) & dataset.gives,
        str(layer),
        target,
        log_softmax,
        pick_device(device),
        current_ranks(),
    )
    for name, network in networks.items():
        run.check(name, network)
    rows: list[dict[str, Any]] = []
    models: dict[str, dict[str, Any]] = {}
    saved: dict[str, list[SavedMap]] = {}
    ranks, total = run.ranks, len(indices) * len(checkpoints)
    with reporting(progress) as report, ranks.together():
        report(0, total)
        for checkpoint, network in networks.items():
            items: dict[int, dict[str, Any]] = {}
            kept: dict[int, SavedMap] = {}
            shape: dict[str, Any] = {}
            for numbers, batch, maps in run.batches(network):
                for index, (number, sample) in enumerate(zip(numbers, batch, strict=True)):
                    known = run.class_names(network)
                    one = SavedMap.of_batch(names[number], sample, maps, index, run.categories, known)
                    row = _row(one, float(maps.scores[index]), bool(maps.empty[index]), sample, tolerance)
                    items[number] = {"checkpoint": checkpoint, "image": one.name} | row
                    if number in drawn:
                        kept[number] = one
                layer_size, pixels = list(maps.signed.shape[1:]), list(maps.size)
                shape = shape or {"layer": maps.layer, "layer_size": layer_size, "size": pixels}
                report(len(rows) + min(len(items) * ranks.count, len(indices)), total)
            rows += ranks.merge(items)
            saved[checkpoint] = ranks.merge(kept)
            models[checkpoint] = network.describe() | ranks.exchange(shape)[0]  # the first process has images
        hashes = ranks.merge(run.hashes)
    table = pd.DataFrame(rows, columns=COLUMNS)
    images = {"source": source, "hash": list_hash(hashes), "num": len(names), "labels": "labels" in dataset.gives}
    settings: dict[str, Any] = {"layer": run.layer, "target": target, "num": num, "seed": seed, "tolerance": tolerance}
    settings |= {"resamples": resamples, "log_softmax": log_softmax}
    settings |= {"input_size": list(as_size(size))} if size is not None else {}
    return Attributions(table, models, images, settings, versions()), saved


def evenly_spaced(count: int, num: int) -> frozenset[int]:
    """Return the indices of `num` items of a list (-1: all), evenly spaced and away from its ends.

    >>> sorted(evenly_spaced(10, 2)), sorted(evenly_spaced(2, 5))
    ([2, 7], [0, 1])
    """
    num = count if num < 0 else min(num, count)
    return frozenset(int((index + 0.5) * count / num) for index in range(num))


@dataclass(frozen=True)
class _Run:
    """The images, and how their maps are made for every checkpoint."""

    dataset: Dataset
    indices: list[int]
    fields: frozenset[str]
    layer: str
    target: str
    log_softmax: bool
    device: torch.device
    ranks: Ranks
    hashes: dict[int, str] = field(default_factory=dict)

    @property
    def categories(self) -> tuple[str, ...]:
        """The names of the classes of whole images."""
        return getattr(getattr(self.dataset, "classes", None), "names", ()) if "category" in self.fields else ()

    def class_names(self, network: Network) -> Sequence[str]:
        """Return the names of a network's classes: those of the data if there are as many, else its own."""
        names: Sequence[str] = getattr(getattr(self.dataset, "classes", None), "names", ())
        return names if names and network.num_classes in (None, len(names)) else network.class_names

    def check(self, checkpoint: str, network: Network) -> None:
        """Check target and layer of a network before any image is read.

        Raises:
            CkaProbeError: As `grad_cam`, with the name of the checkpoint.
        """
        with prefixed_errors(checkpoint):
            target = target_with_number(self.target, self.class_names(network))
            target_score(target, log_softmax=self.log_softmax)
            network.check_target(target)
            if self.layer not in FOUND_BY_RUNNING:
                network.find_layer(self.layer.partition("@")[0])

    def batches(self, network: Network) -> Iterator[tuple[list[int], list[Sample], Maps]]:
        """Yield this process's batches as a network sees them: the numbers of the images, the samples and the maps."""
        target, layer = target_with_number(self.target, self.class_names(network)), self.layer
        network.to(self.device)
        num = usual_batch(self.device, PASSES, network.size) if network.size else 1
        blocks = self.ranks.blocks(len(self.indices), num)
        numbers = iter([number for block in blocks for number in block])
        samples = self._samples(network, [number for block in blocks for number in block])
        for batch in (part for block in blocks for part in batches_of_one_size(islice(samples, len(block)), num)):
            images = torch.stack([sample["image"] for sample in batch]).to(self.device)
            try:
                maps = grad_cam(network, images, layer, target, log_softmax=self.log_softmax)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                raise OutOfMemoryError(
                    f"out of memory with a batch of {len(batch)} images of {images.shape[-1]}x{images.shape[-2]}; try "
                    "--device cpu"
                ) from error
            if layer in FOUND_BY_RUNNING:  # the same for all images
                layer = f"module:{maps.layer}"
            yield list(islice(numbers, len(batch))), batch, maps
        network.to(torch.device("cpu"))

    def _samples(self, network: Network, numbers: Sequence[int]) -> Iterator[Sample]:
        """Yield samples as a network sees them; the first network's pass hashes the images as they are stored."""
        samples = read_samples(self.dataset, [self.indices[number] for number in numbers], self.fields)
        for number, sample in zip(numbers, samples, strict=True):
            if number not in self.hashes:
                self.hashes[number] = image_hash(sample["image"])
            yield network.prepare_sample(sample)


def _row(saved: SavedMap, score: float, empty: bool, sample: Sample, tolerance: float) -> dict[str, Any]:
    """Return the numbers of one image."""
    row: dict[str, Any] = dict.fromkeys(AVERAGED, np.nan)
    row |= {"boundary": 0.0, "counted": 0.0, "score": score, "zero": float(empty)}
    row["predicted"] = saved.prediction if isinstance(saved.prediction, str) else ""
    if "labels" not in sample:
        return row | {"undefined": UNLABELLED}
    labels, layer_size = sample["labels"].numpy(), saved.signed.shape
    boundaries = find_boundaries(labels, tolerance)
    aligned = alignment(saved.heatmap.astype(np.float64), boundaries)
    row |= {"correlation": aligned.correlation, "ap": aligned.ap, "undefined": aligned.undefined}
    row |= {"chance": boundaries.share, "ceiling": ceiling(labels, boundaries, layer_size)}
    row |= {"boundary": float(boundaries.mask[boundaries.counted].sum()), "counted": float(boundaries.counted.sum())}
    others = {SIGNED: saved.resized().astype(np.float64)}
    others |= controls(sample["image"].permute(1, 2, 0).numpy(), layer_size)
    for name, values in others.items():
        aligned = alignment(values, boundaries)
        row |= {f"correlation_{name}": aligned.correlation, f"ap_{name}": aligned.ap}
    return row
