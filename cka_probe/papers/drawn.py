"""Figures of a study as the page shows them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SUFFIXES = ("png", "pdf")


@dataclass(frozen=True)
class Drawn:
    """A figure that was drawn, or not.

    Attributes:
        stem: Name of its files.
        caption: What it shows.
        paths: Its files, the image for a page first; none if there was nothing to draw.
        missing: What of it was not run.
    """

    stem: str
    caption: str
    paths: Sequence[Path] = ()
    missing: Sequence[str] = ()


def files_of(path: Path) -> list[Path]:
    """Return a figure's files; `path` has no suffix."""
    return [path.with_name(f"{path.name}.{suffix}") for suffix in SUFFIXES]
