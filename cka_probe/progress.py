"""The callback by which long work reports its progress."""

from collections.abc import Callable

Progress = Callable[[int, int | None], None]
"""Called as `progress(done, total)` with the number of items done so far and in all, which is None if not known. The
first call has 0 items done."""
