"""A pass over the images of a dataset that scores each of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor

from cka_probe.images.datasets import Dataset, batches_of_one_size, read_samples
from cka_probe.images.sample import Sample
from cka_probe.images.stream import image_hash, list_hash
from cka_probe.models.devices import predicting
from cka_probe.progress import Progress

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
        score: Callable[[str, Sample, Tensor], T],
        predict: Callable[[list[Sample]], Tensor],
    ) -> Iterator[tuple[str, T]]:
        """Yield the name and the result of each image.

        Args:
            fields: The fields to read.
            score: Returns the result of an image from its name, its sample and its prediction.
            predict: Returns the predictions of a batch of one size, (n, ...).
        """
        self.progress(0, len(self.names))
        for batch in batches_of_one_size(read_samples(self.dataset, self.indices, fields), self.batch):
            with predicting(self.device, len(batch)):
                names = self.names[len(self.hashes) : len(self.hashes) + len(batch)]
                results = [score(*parts) for parts in zip(names, batch, predict(batch), strict=True)]
            yield from zip(names, results, strict=True)
            self.hashes.extend(image_hash(sample["image"]) for sample in batch)
            self.progress(len(self.hashes), len(self.names))

    def describe(self) -> dict[str, Any]:
        """Return what a result records about the images that were read."""
        return {"source": self.source, "hash": list_hash(self.hashes), "num": len(self.hashes)}
