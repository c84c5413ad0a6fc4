"""Read ahead of whoever consumes: threads decode the next items while the current one is used."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Index = TypeVar("Index")
Item = TypeVar("Item")

READERS, AHEAD = 2, 16
"""Threads that decode, and how many items ahead of the consumer they are."""


def prefetch(read: Callable[[Index], Item], indices: Iterable[Index]) -> Iterator[Item]:
    """Yield `read(index)` for each index, in order, read ahead by threads.

    An exception of `read` is raised where its item would have come.

    >>> list(prefetch(lambda index: index * index, range(4)))
    [0, 1, 4, 9]
    """
    following = iter(indices)
    with ThreadPoolExecutor(READERS) as readers:
        reading = deque(readers.submit(read, index) for index in islice(following, AHEAD))
        while reading:
            item = reading.popleft().result()
            reading.extend(readers.submit(read, index) for index in islice(following, 1))
            yield item
