"""Samples of a dataset: opened by the field they need, prefetched, and batched by size."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from cka_probe.errors import DataError
from cka_probe.images.datasets import Dataset, open_dataset
from cka_probe.images.prefetch import prefetch
from cka_probe.images.sample import Sample


def open_with_field(data: str | Path | Dataset, field: str, example: str) -> tuple[Dataset, str]:
    """Return a dataset that gives images and another field, and the name of its source.

    Args:
        data: A dataset, or what `open_dataset` takes for one.
        field: A field of `images.sample`, required in addition to `image`.
        example: An example of such a dataset, for the message.

    Raises:
        DataError: The dataset lacks one of the two.
    """
    if isinstance(data, str | Path):
        dataset, source = open_dataset(data), str(data)
    else:
        dataset, source = data, type(data).__name__
    if {"image", field} - dataset.gives:
        raise DataError(
            f"expected a dataset with {field}, found {source}, which gives {', '.join(sorted(dataset.gives))}; "
            f"give one as {example}"
        )
    return dataset, source


def read_samples(dataset: Dataset, indices: Iterable[int], fields: frozenset[str]) -> Iterator[Sample]:
    """Yield the samples at some indices, prefetched, with those of `fields` that the dataset has."""

    def read(index: int) -> Sample:
        sample = dataset.some(index, fields) if hasattr(dataset, "some") else dataset[index]
        return {name: sample[name] for name in fields & sample.keys()}

    yield from prefetch(read, indices)


def batches_of_one_size(samples: Iterable[Sample], batch: int) -> Iterator[list[Sample]]:
    """Yield consecutive samples whose images have the same size, at most `batch` of them."""
    waiting: list[Sample] = []
    for sample in samples:
        if waiting and (len(waiting) == batch or waiting[0]["image"].shape != sample["image"].shape):
            yield waiting
            waiting = []
        waiting.append(sample)
    if waiting:
        yield waiting
