"""Classes: of pixels, of images, and the things and planes that pixels belong to."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cka_probe.images.datasets import Dataset
from cka_probe.images.sample import IGNORE

ACROSS = 3
"""Classes beside each other in a table."""
MOST_CATEGORIES = 30
"""Categories that are listed one by one."""


def class_names(dataset: Dataset, field: str) -> Sequence[str] | None:
    """Return the names of the classes in "labels" or "category", if the dataset says them.

    Its `classes` are those of its labels, or of its categories where it has no labels; `categories` are always
    those of its categories.
    """
    if field == "category":
        own = getattr(dataset, "categories", None)
        found = own if own is not None or "labels" in dataset.gives else getattr(dataset, "classes", None)
    else:
        found = getattr(dataset, "classes", None)
    return None if found is None else getattr(found, "names", found)


class Labels:
    """Pixels of each class, ignored pixels, and classes that never come."""

    needs = ("labels",)

    def __init__(self, dataset: Dataset):
        self.names = class_names(dataset, "labels")
        self.pixels = np.zeros(IGNORE + 1, np.int64)
        self.frames, self.none = 0, 0

    def add(self, index: int, sample: dict[str, np.ndarray]) -> None:
        """Count one label map."""
        counts = np.bincount(sample["labels"].ravel(), minlength=IGNORE + 1)
        self.pixels += counts
        self.frames += 1
        self.none += not counts[:IGNORE].any()

    def _shares(self) -> dict[str, float]:
        """Return each class's share of the pixels that are not ignored, the largest first, then by number."""
        counts = self.pixels[:IGNORE]
        known = len(self.names) if self.names is not None else int(np.flatnonzero(counts).max(initial=-1)) + 1
        shares = counts[:known] / max(counts.sum(), 1)
        order = np.argsort(-shares, kind="stable")
        return {self._name(number): float(shares[number]) for number in order}

    def _name(self, number: int) -> str:
        return str(number) if self.names is None else self.names[number]

    def numbers(self) -> dict[str, Any]:
        """Return `pixels` (class to count), `shares` (class to share of those not ignored), `ignored`, `none`."""
        known = len(self.names) if self.names is not None else IGNORE
        pixels = {self._name(number): int(count) for number, count in enumerate(self.pixels[:known]) if count}
        return {
            "classes": None if self.names is None else len(self.names),
            "pixels": pixels,
            "shares": self._shares(),
            "ignored": float(self.pixels[IGNORE] / max(self.pixels.sum(), 1)),
            "never": [name for name, share in self._shares().items() if share == 0],
            "none": self.none,
        }

    def lines(self) -> list[str]:
        """Return the table of classes."""
        found = self.numbers()
        there = {name: share for name, share in found["shares"].items() if share > 0}
        named = "" if self.names is None else f" of {len(self.names)}"
        lines = [f"{len(there)}{named} classes; ignored {found['ignored']:.1%} of pixels"]
        lines += columns([(name, _percent(share)) for name, share in there.items()])
        if found["never"]:
            lines.append(f"never: {', '.join(found['never'])}")
        return lines

    def remarks(self) -> list[str]:
        """Return what is said of frames without labels."""
        return [f"labels are given, but {self.none} of {self.frames} frames have none"] if self.none else []


class Categories:
    """Images of each category."""

    needs = ("category",)

    def __init__(self, dataset: Dataset):
        self.names = class_names(dataset, "category")
        self.counts: dict[int, int] = {}

    def add(self, index: int, sample: dict[str, np.ndarray]) -> None:
        """Count one image."""
        number = int(sample["category"])
        self.counts[number] = self.counts.get(number, 0) + 1

    def _name(self, number: int) -> str:
        return str(number) if self.names is None else self.names[number]

    def numbers(self) -> dict[str, Any]:
        """Return `images` (category to count) and the categories that `never` come."""
        never = [] if self.names is None else [n for i, n in enumerate(self.names) if i not in self.counts]
        order = sorted(self.counts, key=lambda number: (-self.counts[number], number))
        return {"images": {self._name(number): self.counts[number] for number in order}, "never": never}

    def lines(self) -> list[str]:
        """Return the table of categories, or how even they are if there are many."""
        found = self.numbers()
        images = found["images"]
        least, most = min(images.values()), max(images.values())
        each = f"{least}" if least == most else f"{least} … {most}"
        lines = [f"{len(images)} categories of {each} images each"]
        if len(images) <= MOST_CATEGORIES:
            lines += columns([(name, str(count)) for name, count in images.items()])
        if found["never"]:
            lines.append(f"never: {', '.join(found['never'][:MOST_CATEGORIES])}")
        return lines

    def remarks(self) -> list[str]:
        """Return what is said of a single category."""
        return ["all images are of one category"] if len(self.counts) == 1 else []


class Pieces:
    """How many things a frame has, and the share of pixels that belong to one."""

    needs: tuple[str, ...] = ("instances",)

    def __init__(self, dataset: Dataset):
        self.frames, self.least, self.greatest, self.total, self.covered = 0, 2**63, 0, 0, 0.0

    def add(self, index: int, sample: dict[str, np.ndarray]) -> None:
        """Count one map."""
        maps = sample[self.needs[0]]
        maps = maps.reshape(-1, *maps.shape[-2:])  # planes are three maps: walls, tables, floors
        count = sum(len(np.unique(numbers[numbers > 0])) for numbers in maps)
        self.frames += 1
        self.least, self.greatest, self.total = min(self.least, count), max(self.greatest, count), self.total + count
        self.covered += float((maps > 0).any(0).mean())

    def numbers(self) -> dict[str, Any]:
        """Return the `mean`, `min` and `max` count in a frame and the share of pixels `covered`."""
        frames = max(self.frames, 1)
        return {
            "mean": self.total / frames,
            "min": self.least,
            "max": self.greatest,
            "covered": self.covered / frames,
        }

    def lines(self) -> list[str]:
        """Return the same in words."""
        found = self.numbers()
        return [
            f"{found['mean']:.3g} in a frame, {found['min']} … {found['max']}, on {found['covered']:.1%} of the pixels"
        ]

    def remarks(self) -> list[str]:
        """Return what is said where there is none anywhere."""
        return [] if self.greatest else [f"{self.needs[0]} are given, but no frame has one"]


class Planes(Pieces):
    """The same of walls, tables and floors."""

    needs = ("planes",)


def columns(cells: Sequence[tuple[str, str]], across: int = ACROSS) -> list[str]:
    """Return names and values as a table read downwards, every name cut to 18 letters."""
    names = [name if len(name) <= 18 else name[:17] + "…" for name, _ in cells]
    widths = max(map(len, names), default=0), max((len(value) for _, value in cells), default=0)
    words = [f"{name:<{widths[0]}} {value:>{widths[1]}}" for name, (_, value) in zip(names, cells, strict=True)]
    rows = -(-len(words) // across)
    return ["   ".join(words[row::rows]) for row in range(rows)]


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 else "< 0.1%"
