"""Prefetch items: threads read the next ones while the current one is used.

Items that are read within a millisecond, such as tensors in memory, are not worth a thread: on a machine whose cores
run the model, handing them over costs more than reading them.

`CopyStream` copies batches to a GPU while a model runs there.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from time import perf_counter
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from cka_probe.errors import DataError

Index = TypeVar("Index")
Item = TypeVar("Item")

MOST_WORKERS = 16
"""Largest number of threads by default; decoding, resizing and hashing an image run outside the interpreter's lock."""
QUICK, IN_A_ROW = 1e-3, 2
"""Seconds within which an item is worth no thread, and slower items in a row after which threads start."""
AHEAD = 16
"""Number of items that are read ahead of the consumer by default."""


def default_workers() -> int:
    """Return the number of cores that this process may use, at most 16; those of torchrun on a machine share them."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, min(cores // processes, MOST_WORKERS))


def prefetch(
    read: Callable[[Index], Item], indices: Iterable[Index], workers: int | None = None, ahead: int = AHEAD
) -> Iterator[Item]:
    """Yield `read(index)` for each index, in order, prefetched by threads.

    An exception of `read` is raised in place of its item. The indices are iterated in the thread of the consumer.

    Args:
        read: Called in a thread.
        indices: What to read.
        workers: Number of threads; 0 to read each item when it is needed. By default none as long as items are quick to
            read, then `default_workers`.
        ahead: Number of items that are read ahead of the consumer.

    Raises:
        DataError: `workers` is negative.

    >>> list(prefetch(lambda index: index * index, range(4)))
    [0, 1, 4, 9]
    """
    if workers is not None and workers < 0:
        raise DataError(f"expected a number of threads of 0 or more, found workers={workers}; omit it for the default")
    queue = iter(indices)
    slow = 0
    for index in queue if not workers else ():  # not `map`, which a StopIteration of `read` would end
        start = perf_counter()
        item = read(index)
        slow = slow + 1 if perf_counter() - start > QUICK else 0
        yield item
        if workers is None and slow == IN_A_ROW:
            break
    readers = ThreadPoolExecutor(workers or default_workers())
    try:
        futures = deque(readers.submit(read, index) for index in islice(queue, ahead))
        while futures:
            item = futures.popleft().result()
            futures.extend(readers.submit(read, index) for index in islice(queue, 1))
            yield item
    finally:  # also where the consumer stops early
        readers.shutdown(cancel_futures=True)


class Copy(NamedTuple):
    """A tensor on its way to a GPU, and what is recorded there when it has arrived."""

    tensor: Tensor
    arrival: torch.cuda.Event


class CopyStream:
    """Copies tensors to a GPU of CUDA on a stream of its own, next to the work on other streams.

    A copy is read only after `receive`. Its memory is used again only after what the receiving stream does with it.

    Args:
        device: The GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device)

    def copy(self, tensor: Tensor) -> Copy:
        """Start to copy a tensor of the CPU, from page-locked memory, and return at once; in any thread."""
        with torch.cuda.stream(self._stream):
            return Copy(tensor.pin_memory().to(self.device, non_blocking=True), self._stream.record_event())

    def receive(self, copy: Copy) -> Tensor:
        """Return the copy to the current stream of this thread, which waits for it."""
        current = torch.cuda.current_stream(self.device)
        current.wait_event(copy.arrival)
        copy.tensor.record_stream(current)  # else the next copy could have its memory while it is read
        return copy.tensor


def copy_stream(device: torch.device) -> CopyStream | None:
    """Return a stream of copies to a GPU of CUDA, None for any other device."""
    return CopyStream(device) if device.type == "cuda" else None
