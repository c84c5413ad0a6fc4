"""Files named by their frame's number, and the videos they make."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from cka_probe.errors import DataError

T = TypeVar("T")


def numbered(folder: Path, suffixes: tuple[str, ...] = (".jpeg", ".jpg", ".png")) -> dict[int, str]:
    """Return the files of a folder by their number, in order; none where it is missing; PNG before JPEG."""
    if not folder.is_dir():
        return {}
    found = {}
    for name in sorted(os.listdir(folder)):  # names, not paths: a day of driving has a hundred thousand
        stem, suffix = os.path.splitext(name)
        if suffix.lower() not in suffixes:
            continue
        if not (stem.isascii() and stem.isdigit()):
            raise DataError(f"expected files named by their frame's number in {folder}, found {name}; remove it")
        found[int(stem)] = os.path.join(folder, name)
    return dict(sorted(found.items()))


def runs(frames: Mapping[int, T]) -> list[list[T]]:
    """Return frames in order, cut where a number is missing: what stands on both sides are no neighbours.

    >>> runs({1: "a", 2: "b", 4: "c"})
    [['a', 'b'], ['c']]
    """
    scenes: list[list[T]] = []
    for number in sorted(frames):
        if number - 1 not in frames:
            scenes.append([])
        scenes[-1].append(frames[number])
    return scenes
