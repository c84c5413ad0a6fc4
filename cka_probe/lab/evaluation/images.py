"""The images that are scored: which of a dataset, read ahead of the model, and in batches of one size."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cka_probe.errors import DataError, OutOfMemoryError
from cka_probe.images.dataset import Dataset
from cka_probe.images.datasets import open_dataset
from cka_probe.lab.tasks.task import Sample
from cka_probe.lab.tasks.trained import Trained
from cka_probe.models.checkpoint import Checkpoint, file_hash
from cka_probe.models.load import weights_hash
from cka_probe.models.recording import full_float32

READERS = 2
"""Threads that decode images, ahead of the model."""

PIXELS = {"cuda": 1 << 22, "cpu": 1 << 20}
"""Of all windows in one forward pass, by device: eighteen, or four, of 480 x 480."""

Progress = Callable[[int, int | None], None]


@dataclass(frozen=True)
class Asked:
    """What `evaluate` was asked to do, whatever the task.

    Attributes:
        checkpoint: Its file.
        header: What stands at its beginning.
        data: A dataset, or what `open_dataset` takes for one.
        batch: Images in a forward pass; None: as many as a usual device has room for.
        device: `auto`, `cpu`, `cuda` …
        keep: A folder for the predictions, or None.
        progress: Called as `progress(images_more, total)`.
    """

    checkpoint: str | Path
    header: Checkpoint
    data: str | Path | Dataset
    batch: int | None
    device: str
    keep: str | Path | None
    progress: Progress

    def __post_init__(self):
        if self.batch is not None and self.batch < 1:
            raise DataError(f"expected at least one image in a batch, found {self.batch}")

    def described(self, trained: Trained) -> dict[str, Any]:
        """Return what a result says of the model."""
        return {
            "reference": str(self.checkpoint),
            "hash": file_hash(self.checkpoint),
            "backbone_hash": weights_hash(trained.backbone.model),
            "stage": self.header.stage,
            "task": self.header.task,
            "architecture": self.header.architecture,
            "size": list(trained.task.size),
            "step": self.header.step,
            "seed": self.header.seed,
        }


def opened(data: str | Path | Dataset, field: str, example: str) -> tuple[Dataset, str]:
    """Return a dataset with images and a field, and where it comes from.

    Args:
        data: A dataset, or what `open_dataset` takes for one.
        field: Of `data.sample`, besides `image`.
        example: Of such a dataset, for the message.

    Raises:
        DataError: It lacks one of the two.
    """
    named = isinstance(data, str | Path)
    dataset, source = (open_dataset(data), str(data)) if named else (data, type(data).__name__)
    if {"image", field} - dataset.gives:
        raise DataError(
            f"expected a dataset with {field}, found {source}, which gives {', '.join(sorted(dataset.gives))}; "
            f"give one as {example}"
        )
    return dataset, source


def chosen(dataset: Dataset, num: int | None, seed: int) -> list[int]:
    """Return the places of `num` images (None: all) drawn by a seed, in the dataset's order."""
    return np.sort(np.random.default_rng(seed).permutation(len(dataset))[:num]).tolist()


def read_from(source: str, names: list[str]) -> dict[str, Any]:
    """Return what a result says of its images."""
    return {"source": source, "hash": sha256("\n".join(names).encode()).hexdigest(), "num": len(names)}


def samples(dataset: Dataset, places: list[int], needs: frozenset[str]) -> Iterator[Sample]:
    """Yield the samples at some places, read ahead, with those of the fields `needs` that the dataset has."""

    def read(index: int) -> Sample:
        sample = dataset.some(index, needs) if hasattr(dataset, "some") else dataset[index]
        return {name: sample[name] for name in needs & sample.keys()}

    following = iter(places)
    with ThreadPoolExecutor(READERS) as readers:
        reading = deque(readers.submit(read, index) for index in islice(following, 8 * READERS))
        while reading:
            sample = reading.popleft().result()
            reading.extend(readers.submit(read, index) for index in islice(following, 1))
            yield sample


def batches(each: Iterator[Sample], batch: int) -> Iterator[list[Sample]]:
    """Yield neighbours of one size, at most `batch` of them."""
    waiting: list[Sample] = []
    for sample in each:
        if waiting and (len(waiting) == batch or waiting[0]["image"].shape != sample["image"].shape):
            yield waiting
            waiting = []
        waiting.append(sample)
    if waiting:
        yield waiting


def usual_batch(device: torch.device, views: int, size: tuple[int, int]) -> int:
    """Return how many images a usual device has room for, of so many views of this size each."""
    return min(max(PIXELS.get(device.type, PIXELS["cpu"]) // (views * size[0] * size[1]), 1), 16)


@contextmanager
def predicting(device: torch.device, num: int) -> Iterator[None]:
    """Run a model without gradients and in full float32.

    Args:
        device: Where it runs.
        num: Images in the batch, for the message.

    Raises:
        OutOfMemoryError: They do not fit.
    """
    try:
        with torch.inference_mode(), full_float32(device):
            yield
    except torch.OutOfMemoryError as error:
        raise OutOfMemoryError(f"out of memory with {num} images in a batch; try --batch {max(num // 2, 1)}") from error
