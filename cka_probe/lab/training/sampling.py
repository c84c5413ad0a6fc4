"""The order and the augmentation of samples: functions of seed, stage and position alone.

Position p is the p-th image of a stage; step s of batch b takes positions s b to (s + 1) b - 1. Every epoch is a
permutation of the data drawn from (seed, stage, epoch), every augmentation is drawn from (seed, stage, position). So a
resumed run continues with the same images, and P processes, each with every P-th position of a step, together take the
images of one.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from hashlib import sha256
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, default_collate
from torch.utils.data import Dataset as TorchDataset

from cka_probe.errors import CkaProbeError, DataError
from cka_probe.images.datasets import Dataset, open_dataset, sample_indices
from cka_probe.images.sample import OBJECTS
from cka_probe.lab.datasets.cache import DecodedCache
from cka_probe.lab.datasets.frames import Frames
from cka_probe.lab.tasks import Task
from cka_probe.lab.tasks.task import NO_OBJECT


def seed_of(*parts: int | str) -> int:
    """Return a seed, 0 to 2^63 - 1: a hash of its parts."""
    return int.from_bytes(sha256(repr(parts).encode()).digest()[:8], "big") >> 1


class Samples:
    """Several datasets as one sequence of samples with the fields that a task needs.

    Args:
        specs: As `open_dataset` takes them.
        needs: Fields to read.
        cache: Of decoded samples, shared with other processes and other `Samples`; `None` caches nothing.
    """

    def __init__(self, specs: Sequence[str], needs: frozenset[str], cache: DecodedCache | None = None):
        self.specs = tuple(specs)
        self.datasets: list[Dataset] = [open_dataset(spec) for spec in specs]
        self.needs, self.cache = needs, cache
        for spec, dataset in zip(self.specs, self.datasets, strict=True):
            if cache is not None and isinstance(dataset, Frames):
                dataset.cache_in(cache, spec)
        self.positions = [(number, index) for number, data in enumerate(self.datasets) for index in range(len(data))]

    def split(self, num: int, held_out: int, seed: int | None) -> "tuple[Samples, Samples]":
        """Return samples to train on, and others that are held out.

        Args:
            num: Number of samples to train on, the first of an order; 0 for all that are not held out.
            held_out: Number of samples held out, the last of the same order.
            seed: Seed of the order, which is that of `sample_indices`: the same `num` and `seed` choose the same images
                as in a comparison. `None` keeps the order of the data.

        Raises:
            DataError: There are too few samples.
        """
        if num + held_out > len(self) or held_out == len(self):
            numbers = f"{num or 'some'} to train on" + (f" and {held_out} to validate on" if held_out else "")
            raise DataError(f"expected images in {', '.join(self.specs)}, {numbers}, found {len(self)}; set num lower")
        order = list(range(len(self)))
        if seed is not None and (num or held_out):
            order = sample_indices(len(self), None, seed)
        return self._subset(order[: num or len(self) - held_out]), self._subset(order[len(self) - held_out :])

    def _subset(self, order: Sequence[int]) -> "Samples":
        """Return the samples with these indices, in this order."""
        subset = copy(self)
        subset.positions = [self.positions[index] for index in order]
        return subset

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        number, position = self.positions[index]
        dataset = self.datasets[number]
        if self.cache is None or isinstance(dataset, Frames):  # frames cache each file
            return self._read(dataset, position)
        return self.cache.get_all((self.specs[number], position), self.needs, lambda: self._read(dataset, position))

    def _read(self, dataset: Dataset, index: int) -> dict[str, Tensor]:
        if self.needs == {"image"}:
            return {"image": dataset.image(index)}
        sample = dataset.some(index, self.needs) if isinstance(dataset, Frames) else dataset[index]
        return {name: sample[name] for name in self.needs}


class AugmentedDataset(TorchDataset):
    """Samples prepared for training or evaluation, by position.

    Args:
        samples: The samples.
        task: Prepares each sample.
        seed: Of the order and of all augmentation.
        train: Whether epochs are shuffled and samples augmented; otherwise a position is an index.
    """

    def __init__(self, samples: Samples, task: Task, seed: int, train: bool):
        self.samples, self.task, self.seed, self.train = samples, task, seed, train
        self.epoch: tuple[int, list[int]] = (-1, [])

    def __getitem__(self, position: int) -> dict[str, Tensor]:
        generator = Generator().manual_seed(seed_of(self.seed, "view", position))
        return self.task.prepare(self.samples[self.index(position)], generator, self.train)

    def index(self, position: int) -> int:
        """Return the index of the sample at a position."""
        if not self.train:
            return position
        epoch, rank = divmod(position, len(self.samples))
        if self.epoch[0] != epoch:
            generator = Generator().manual_seed(seed_of(self.seed, "epoch", epoch))
            self.epoch = (epoch, torch.randperm(len(self.samples), generator=generator).tolist())
        return self.epoch[1][rank]


def num_parts(batch: int, accumulate: int, processes: int, least: int = 1) -> int:
    """Return the number of parts of a step's batch: the most, up to `accumulate`, that have enough for each process.

    All parts have the same number of images, over all processes. With more processes each has fewer of them, so that
    fewer parts need no more memory.

    Args:
        batch: Images of a step, over all processes.
        accumulate: Parts that one process needs.
        processes: Number of processes.
        least: Images of a part that each process needs.

    Returns:
        A divisor of the batch, or 0 if the whole batch does not have enough.

    >>> [num_parts(12, 4, processes) for processes in (1, 3, 4, 5, 8, 16)]
    [4, 4, 3, 2, 1, 0]
    """
    return max((n for n in range(1, accumulate + 1) if batch % n == 0 and batch // n >= processes * least), default=0)


def step_batches(positions: range, batch: int, rank: int, processes: int) -> list[range]:
    """Return the positions of one process, step by step; the numbers of two processes differ by at most one.

    Args:
        positions: All positions, over all processes.
        batch: Positions per step over all processes; the last step may have fewer.
        rank: Of this process.
        processes: Number of processes.
    """
    steps = (positions[first : first + batch] for first in range(0, len(positions), batch))
    return [part for step in steps if (part := step[rank::processes])]


def collate(samples: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return samples as one batch; objects are filled up to the most of an image, with those of class `NO_OBJECT`."""
    ragged = {
        name: pad_sequence([sample[name] for sample in samples], True, NO_OBJECT if name == "box_classes" else 0)
        for name in OBJECTS
        if name in samples[0]
    }
    rest = [{name: field for name, field in sample.items() if name not in OBJECTS} for sample in samples]
    return default_collate(rest) | ragged


def batches(views: AugmentedDataset, steps: Sequence[range], workers: int, pin: bool) -> DataLoader:
    """Return a loader of batches, dicts of (n, ...) tensors.

    Args:
        views: Samples by position.
        steps: Positions of each batch.
        workers: Processes that prefetch; 0 reads in this process.
        pin: Whether to use page-locked memory, for a GPU.
    """
    # a loader draws a seed for its workers; from torch's own generator that would shift the draws of its first step,
    # which is another one in a resumed run
    more: dict[str, Any] = {"pin_memory": pin, "generator": Generator()}
    indices: Any = steps  # ranges serve as the lists that the loader's signature names
    return DataLoader(views, batch_sampler=indices, num_workers=workers, collate_fn=collate, **more)


@contextmanager
def reader_errors() -> Iterator[None]:
    """Raise the errors of the processes of a loader as they were raised there, and one for a process that died."""
    try:
        yield
    except CkaProbeError as error:
        text = str(error.args[0])
        if "Original Traceback" not in text:
            raise
        raise type(error)(text.strip().splitlines()[-1].partition(": ")[2]) from None
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise DataError(
            "a process that reads images died, perhaps for lack of memory; run the same command again with fewer "
            "--workers to continue"
        ) from error
