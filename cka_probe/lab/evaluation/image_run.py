"""A pass over the images of a dataset that scores each of them.

Several processes share the images: blocks of a batch are dealt to them. Batches end where blocks do, in one process
too, so that the scores do not depend on the number of processes.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar

import torch

from cka_probe.comparison.ranks import current_ranks
from cka_probe.images.datasets import Dataset, batches_of_one_size, read_samples
from cka_probe.images.sample import Sample
from cka_probe.images.stream import image_hash, list_hash
from cka_probe.models.devices import predicting
from cka_probe.progress import Progress

P = TypeVar("P")
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class ImageRun:
    """The images that a model is scored on, and how they are read.

    Attributes:
        dataset: The dataset.
        source: Its name.
        indices: Of the images in it.
        names: Of the images.
        device: The device of the model.
        batch: Images in a forward pass.
        progress: Called with the number of images done and in all.
        hashes: Of the images that were read.
    """

    dataset: Dataset
    source: str
    indices: list[int]
    names: list[str]
    device: torch.device
    batch: int
    progress: Progress
    hashes: list[str] = field(default_factory=list)

    def results(
        self,
        fields: frozenset[str],
        score: Callable[[str, Sample, P], T],
        predict: Callable[[list[Sample]], Iterable[P]],
    ) -> list[T]:
        """Return the results of the images, in their order, in all processes that share them.

        Args:
            fields: The fields to read.
            score: Returns the result of an image from its name, its sample and its prediction.
            predict: Returns the predictions of a batch of one size.
        """
        ranks, total = current_ranks(), len(self.names)
        self.progress(0, total)
        items: dict[int, tuple[str, T]] = {}
        with ranks.together():
            blocks = ranks.blocks(total, self.batch)
            samples = read_samples(self.dataset, [self.indices[i] for block in blocks for i in block], fields)
            for block in blocks:
                positions = iter(block)
                for batch in batches_of_one_size(islice(samples, len(block)), self.batch):
                    with predicting(self.device, len(batch)):
                        for sample, prediction, position in zip(batch, predict(batch), positions, strict=False):
                            result = score(self.names[position], sample, prediction)
                            items[position] = image_hash(sample["image"]), result
                    self.progress(min(len(items) * ranks.count, total), total)
            merged = ranks.merge(items)
        self.hashes[:] = [image for image, _ in merged]
        return [result for _, result in merged]

    def describe(self) -> dict[str, Any]:
        """Return what a result records about the images that were read."""
        return {"source": self.source, "hash": list_hash(self.hashes), "num": len(self.hashes)}
