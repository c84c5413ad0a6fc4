"""Progress of what is done one part after another: a bar for each, on stderr."""

from collections.abc import Mapping


class Bars:
    """One bar at a time; another part closes it and opens its own.

    Args:
        quiet: Draw nothing.
    """

    def __init__(self, quiet: bool):
        self.quiet, self.part, self.bar = quiet, "", None

    def step(self, stage: str, step: int, steps: int, scalars: Mapping[str, float]) -> None:
        """Draw that a stage of training is at a step of so many, its loss and its rate beside it."""
        if not self.quiet:
            self._open(stage, steps, "step", step - 1)
            self.bar.update(step - self.bar.n)
            self.bar.set_postfix({name: f"{scalars[name]:.4g}" for name in ("loss", "lr")}, refresh=False)

    def worlds(self, name: str, more: int, wanted: int) -> None:
        """Draw that more worlds of a set of so many are made."""
        if not self.quiet:
            self._open(name, wanted, "world", 0)
            self.bar.update(more)

    def say(self, line: str) -> None:
        """Write a line where no bar is in its way."""
        import typer

        self.close()
        if not self.quiet:
            typer.echo(line, err=True)

    def close(self) -> None:
        """Close the bar that is open, if one is."""
        if self.bar is not None:
            self.bar.close()
        self.part, self.bar = "", None

    def _open(self, part: str, total: int, unit: str, initial: int) -> None:
        if part != self.part:
            from tqdm import tqdm

            self.close()
            self.part, self.bar = part, tqdm(total=total, initial=initial, desc=part, unit=unit, dynamic_ncols=True)
