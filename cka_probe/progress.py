"""Progress of long work: a callback, or a bar on stderr."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tqdm import tqdm

Progress = Callable[[int, int | None], None]
"""Called as `progress(done, total)` with the number of items done so far and in all, which is None if not known. The
first call has 0 items done."""

ProgressSpec = Progress | bool | None
"""What functions take: a callback, True for a bar on stderr, or False or None for nothing."""


@contextmanager
def reporting(progress: ProgressSpec, items: str = "images") -> Iterator[Progress]:
    """Give the callback of a progress option: the callback itself, one that draws a bar, or one that does nothing.

    Args:
        progress: The option.
        items: What is counted, in the plural.

    >>> with reporting(None) as progress:
    ...     progress(0, 10)
    """
    if callable(progress):
        yield progress
        return
    bar: tqdm | None = None

    def draw(done: int, total: int | None) -> None:
        nonlocal bar
        if bar is None and done != total:  # nothing is drawn if all of it was done before
            from tqdm import tqdm

            bar = tqdm(total=total, initial=done, desc=items, unit=items.removesuffix("s"), dynamic_ncols=True)
        if bar is not None:
            bar.update(done - bar.n)

    try:
        yield draw if progress else _ignore
    finally:
        if bar is not None:
            bar.close()


def _ignore(_done: int, _total: int | None) -> None:
    """Report nothing."""
