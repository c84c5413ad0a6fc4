"""Progress bars on stderr."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from tqdm import tqdm


class Bars:
    """One bar at a time; another part of the work closes it and opens its own. As a context, it closes the last one.

    Args:
        quiet: Draw nothing.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet, self.part = quiet, ""
        self.bar: tqdm | None = None

    def __enter__(self) -> "Bars":
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    def step(self, stage: str, step: int, steps: int, scalars: Mapping[str, float]) -> None:
        """Draw a step of a stage of training, with its loss and learning rate."""
        if bar := self._bar(stage, steps, "step", step - 1):
            bar.update(step - bar.n)
            bar.set_postfix({name: f"{scalars[name]:.4g}" for name in ("loss", "lr")}, refresh=False)

    def count(self, part: str, done: int, total: int | None, unit: str = "scene") -> None:
        """Draw how many items of a part are done; nothing if all of them were."""
        if done == total and part != self.part:
            return
        if bar := self._bar(part, total, unit, done):
            bar.update(done - bar.n)

    def say(self, line: str) -> None:
        """Write a line, and close the bar that is in its way."""
        self.close()
        if not self.quiet:
            typer.echo(line, err=True)

    def close(self) -> None:
        """Close the open bar, if there is one."""
        if self.bar is not None:
            self.bar.close()
        self.part, self.bar = "", None

    def _bar(self, part: str, total: int | None, unit: str, initial: int) -> "tqdm | None":
        """Return the bar of a part, opened first if another is open; None if nothing is drawn."""
        if self.quiet:
            return None
        if part != self.part:
            from tqdm import tqdm

            self.close()
            self.part, self.bar = part, tqdm(total=total, initial=initial, desc=part, unit=unit, dynamic_ncols=True)
        return self.bar


@contextmanager
def progress_bar(items: str, quiet: bool = False) -> Iterator[Callable[[int, int | None], None]]:
    """Give a function that takes how many items are done and how many there are, drawn as a bar with items per second.

    Args:
        items: What is counted, in the plural.
        quiet: Draw nothing.
    """
    from cka_probe.progress import reporting

    with reporting(not quiet, items) as progress:
        yield progress
