"""Grad-CAM of several checkpoints over the same images: their maps, and how well these follow label boundaries.

Each network sees an image as in its training: squeezed to its input size, or the largest central box of the input's
proportions. Labels are resized in the same way (nearest), so a map and its labels have the same pixels, those of the
network's input: checkpoints of different input size are each compared at their own. A network that takes any size sees
the images as they are stored.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from cka_probe import registry
from cka_probe.attribution.alignment import alignment, ceiling, controls, find_boundaries
from cka_probe.attribution.attributions import AVERAGED, COLUMNS, SIGNED, UNLABELLED, Attributions
from cka_probe.attribution.grad_cam import Maps, grad_cam
from cka_probe.attribution.networks import Network, network_of
from cka_probe.attribution.saved_maps import SavedMap
from cka_probe.errors import DataError, OutOfMemoryError
from cka_probe.images.datasets import Dataset, batches_of_one_size, open_with_field, read_samples
from cka_probe.images.sample import Sample
from cka_probe.images.sampling import sample_indices
from cka_probe.images.stream import image_hash, list_hash
from cka_probe.models.checkpoint import versions
from cka_probe.models.devices import pick_device, usual_batch
from cka_probe.progress import Progress
from cka_probe.similarity.resampling import RESAMPLES

TRUTH = {"depth": "depth", "class": "category"}
"""The field with the truth of a prediction, by kind of target; `labels` for all others."""
PASSES = 2
"""Forward passes that need the memory of a forward and a backward pass."""


def attribute(
    checkpoints: Mapping[str, str | Path],
    data: str | Path | Dataset,
    layer: str | int = "first",
    target: str = "segmentation",
    *,
    num: int | None = 8,
    seed: int = 0,
    tolerance: float = 1.0,
    resamples: int = RESAMPLES,
    log_softmax: bool = False,
    device: str = "auto",
    keep: int = 0,
    progress: Progress | None = None,
) -> tuple[Attributions, dict[str, list[SavedMap]]]:
    """Return how well the maps of checkpoints follow label boundaries, and some of the maps.

    Args:
        checkpoints: The name of each, to a checkpoint of `ckaprobe train` or any reference that `load` takes.
        data: A dataset, or what `open_dataset` takes for one. Without labels the alignment is NaN.
        layer: As for `grad_cam`.
        target: As for `grad_cam`; the class after a colon may also be a name in the data's vocabulary.
        num: Number of images, drawn with the seed; `None` for all.
        seed: Of the choice of images and of the bootstrap.
        tolerance: Distance in pixels of the network's input that still counts as on a boundary.
        resamples: Of the bootstrap.
        log_softmax: Use log-softmax instead of logits.
        device: `auto`, `cpu`, `cuda` …
        keep: Number of images whose maps are returned, evenly spaced; -1 for all.
        progress: Called with the number of maps made so far and in total.

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
    indices = sorted(sample_indices(len(dataset), num, seed))
    names, drawn = [dataset.describe(index) for index in indices], evenly_spaced(len(indices), keep)
    run = _Run(
        dataset,
        indices,
        frozenset({"image", "labels", TRUTH.get(target.partition(":")[0], "labels")}) & dataset.gives,
        str(layer),
        _target_with_number(target, dataset),
        log_softmax,
        pick_device(device),
    )
    progress = progress or (lambda _done, _total: None)
    progress(0, len(indices) * len(checkpoints))
    rows: list[dict[str, Any]] = []
    models: dict[str, dict[str, Any]] = {}
    saved: dict[str, list[SavedMap]] = {}
    for checkpoint, reference in checkpoints.items():
        network, saved[checkpoint], start = network_of(reference, run.device), [], len(rows)
        for batch, maps in run.batches(network):
            for index, sample in enumerate(batch):
                number = len(rows) - start
                one = SavedMap.of_batch(names[number], sample, maps, index, run.categories)
                row = _row(one, float(maps.scores[index]), sample, tolerance)
                rows.append({"checkpoint": checkpoint, "image": one.name} | row)
                saved[checkpoint] += [one] * (number in drawn)
            layer_size, size = list(maps.signed.shape[1:]), list(maps.size)
            models.setdefault(checkpoint, {"layer": maps.layer, "layer_size": layer_size, "size": size})
            progress(len(rows), len(indices) * len(checkpoints))
        models[checkpoint] = network.describe() | models[checkpoint]
    table = pd.DataFrame(rows, columns=COLUMNS)
    images = {"source": source, "hash": list_hash(run.hashes), "num": len(names), "labels": "labels" in dataset.gives}
    settings = {"layer": run.layer, "target": target, "num": num, "seed": seed, "tolerance": tolerance}
    settings |= {"resamples": resamples, "log_softmax": log_softmax}
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
    hashes: list[str] = field(default_factory=list)

    @property
    def categories(self) -> tuple[str, ...]:
        """The names of the classes of whole images."""
        return getattr(getattr(self.dataset, "classes", None), "names", ()) if "category" in self.fields else ()

    def batches(self, network: Network) -> Iterator[tuple[list[Sample], Maps]]:
        """Yield batches as a network sees them, and their maps."""
        num = usual_batch(self.device, PASSES, network.size) if network.size else 1
        for batch in batches_of_one_size(self._samples(network), num):
            images = torch.stack([sample["image"] for sample in batch]).to(self.device)
            try:
                maps = grad_cam(network, images, self.layer, self.target, log_softmax=self.log_softmax)
            except torch.OutOfMemoryError as error:
                raise OutOfMemoryError(
                    f"out of memory with a batch of {len(batch)} images of {images.shape[-1]}x{images.shape[-2]}; try "
                    "--device cpu"
                ) from error
            yield batch, maps

    def _samples(self, network: Network) -> Iterator[Sample]:
        """Yield samples as a network sees them; the first network's pass hashes the images as they are stored."""
        for sample in read_samples(self.dataset, self.indices, self.fields):
            if len(self.hashes) < len(self.indices):
                self.hashes.append(image_hash(sample["image"]))
            yield network.prepare_sample(sample)


def _target_with_number(target: str, dataset: Dataset) -> str:
    """Return a target with the number of its class instead of its name in the data's vocabulary."""
    kind, _, word = target.partition(":")
    names = getattr(getattr(dataset, "classes", None), "names", ())
    if not word or word.isdigit() or not names:
        return target
    return f"{kind}:{registry.get({name: number for number, name in enumerate(names)}, word, 'class')}"


def _row(saved: SavedMap, score: float, sample: Sample, tolerance: float) -> dict[str, Any]:
    """Return the numbers of one image."""
    row: dict[str, Any] = dict.fromkeys(AVERAGED, np.nan)
    row |= {"boundary": 0.0, "counted": 0.0, "score": score, "zero": float((saved.signed <= 0).all())}
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
