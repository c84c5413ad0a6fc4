"""How long work reports how far it is."""

from collections.abc import Callable

Progress = Callable[[int, int | None], None]
"""Called as `progress(done, total)`: how many items are done so far, and how many there are in all, or None if
that is not known. The first call has 0 items done."""
