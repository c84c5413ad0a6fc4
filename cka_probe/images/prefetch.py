"""Prefetch items: threads read the next ones while the current one is used."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Index = TypeVar("Index")
Item = TypeVar("Item")

READERS, AHEAD = 2, 16
"""Number of threads, and of items that they read ahead of the consumer."""


def prefetch(read: Callable[[Index], Item], indices: Iterable[Index]) -> Iterator[Item]:
    """Yield `read(index)` for each index, in order, prefetched by threads.

    An exception of `read` is raised in place of its item.

    >>> list(prefetch(lambda index: index * index, range(4)))
    [0, 1, 4, 9]
    """
    queue = iter(indices)
    with ThreadPoolExecutor(READERS) as readers:
        futures = deque(readers.submit(read, index) for index in islice(queue, AHEAD))
        while futures:
            item = futures.popleft().result()
            futures.extend(readers.submit(read, index) for index in islice(queue, 1))
            yield item
