"""Statistics of maps and classes: histograms of positive values, shares of pixels, counts of classes.

Running sums and histograms only, never the values. Each class is created for a dataset and one of its fields.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cka_probe.images.datasets import Dataset
from cka_probe.images.sample import IGNORE

Array = np.ndarray
Arrays = Mapping[str, np.ndarray]

NEAR, FAR = 0.05, 500.0
"""Metres between which the median depth of a real scene lies."""
MAX_CATEGORIES = 30
"""Categories that are listed one by one."""


class Summary(NamedTuple):
    """Statistics of one field: `numbers` for JSON, the same as `lines` of text, and `warnings`."""

    numbers: dict[str, Any]
    lines: list[str]
    warnings: list[str]


class LogHistogram:
    """Counts of positive values in 400 bins per factor of ten; a quantile is off by at most half a bin, 0.3 %.

    Values outside 1e-5 … 1e5 are counted in the outermost bins; minimum, maximum and mean are exact for all.
    """

    LOWEST, DECADES, BINS = -5, 10, 400

    def __init__(self):
        self.counts = np.zeros(self.DECADES * self.BINS, np.int64)
        self.min, self.max, self.total = np.inf, -np.inf, 0.0

    def add(self, values: Array) -> None:
        """Count values above 0, of any shape."""
        if not values.size:
            return
        bins = ((np.log10(values.astype(np.float32).ravel()) - self.LOWEST) * self.BINS).astype(np.int64)
        self.counts += np.bincount(bins.clip(0, len(self.counts) - 1), minlength=len(self.counts))
        self.min, self.max = min(self.min, float(values.min())), max(self.max, float(values.max()))
        self.total += float(values.sum(dtype=np.float64))

    def __len__(self) -> int:
        return int(self.counts.sum())

    def quantile(self, share: float) -> float:
        """Return the value below which this share of all values lies; NaN if there are none."""
        if not len(self):
            return float("nan")
        bin_ = int(np.searchsorted(np.cumsum(self.counts), share * (len(self) - 1), side="right"))
        return float(np.clip(10 ** (self.LOWEST + (bin_ + 0.5) / self.BINS), self.min, self.max))

    def above(self, value: float) -> int:
        """Return the number of values above `value`, to half a bin."""
        return int(self.counts[max(int(np.ceil((np.log10(value) - self.LOWEST) * self.BINS)), 0) :].sum())

    def summary(self) -> dict[str, float]:
        """Return minimum, 1 %, median, mean, 99 % and maximum; an empty dict if there are no values."""
        if not len(self):
            return {}
        low, median, high = (self.quantile(share) for share in (0.01, 0.5, 0.99))
        mean = self.total / len(self)
        return {
            "min": self.min,
            "percentile_1": low,
            "median": median,
            "mean": mean,
            "percentile_99": high,
            "max": self.max,
        }


class Mask:
    """The share of pixels in which a map is true or known.

    Args:
        dataset: The dataset.
        field: The map's name.
        label: What the share is called.
        missing: What a frame without any such pixel has, for a warning; "" if this is ordinary.
    """

    def __init__(self, dataset: Dataset, field: str, label: str = "known in", missing: str = "none"):
        self.field, self.label, self.missing = field, label, missing
        self.frames, self.total, self.min, self.max, self.none = 0, 0.0, 1.0, 0.0, 0
        self.values = LogHistogram()

    def known(self, value: Array) -> Array:
        """Return where a map is known, and count its values."""
        return value

    def add(self, index: int, sample: Arrays) -> None:
        """Count one sample."""
        share = float(self.known(sample[self.field]).mean())
        self.frames, self.total, self.none = self.frames + 1, self.total + share, self.none + (share == 0)
        self.min, self.max = min(self.min, share), max(self.max, share)

    def summary(self) -> Summary:
        """Return the statistics."""
        mean = self.total / max(self.frames, 1)
        numbers = {"frames": self.frames, "mean": mean, "min": self.min, "max": self.max, "none": self.none}
        line = f"{self.label} {mean:.1%} of pixels; in single frames {self.min:.1%} … {self.max:.1%}"
        warning = f"{self.field} is given, but {self.none} of {self.frames} frames have {self.missing}"
        return Summary(numbers, [f"{line}, none in {self.none}"], [warning] if self.missing and self.none else [])


class Depth(Mask):
    """The share of measured pixels and the range of their depth, in metres or (`unit=""`) without a scale."""

    def __init__(self, dataset: Dataset, field: str, unit: str = ""):
        super().__init__(dataset, field, "measured")
        self.unit = unit

    def known(self, value: Array) -> Array:
        """Return where a map is known, and count its values."""
        self.values.add(value[value > 0])
        return value > 0

    def summary(self) -> Summary:
        """Return the statistics."""
        measured, lines, warnings = super().summary()
        values = self.values.summary()
        if values:
            low, p1, median, _, p99, high = (
                f"{value:.3g}{self.unit}" if value < 1000 else f"{value:.0f}{self.unit}"  # not 1.28e+03
                for value in values.values()
            )
            lines.insert(0, f"{low} … {high}; 1 % {p1}, median {median}, 99 % {p99}")
            if self.unit and not NEAR <= values["median"] <= FAR:
                warnings.append(f"the median depth is {values['median']:.3g} m: is it in metres?")
        return Summary({"values": values, "measured": measured}, lines, warnings)


class Normals(Mask):
    """The share of pixels with a normal, and how many normals face away from the camera."""

    count, away = 0, 0

    def known(self, value: Array) -> Array:
        """Return where a map is known, and count its values."""
        known = (value != 0).any(0)
        self.count += int(known.sum())
        self.away += int((value[2][known] > 0.1).sum())  # a ray at the border may meet a face with z > 0
        return known

    def summary(self) -> Summary:
        """Return the statistics."""
        numbers, lines, warnings = super().summary()
        away = self.away / max(self.count, 1)
        if away > 0.2:
            warnings.append(f"{away:.1%} of normals look away from the camera: is their sign turned?")
        return Summary({**numbers, "away": away}, lines, warnings)


class Flow(Mask):
    """The share of pixels with known flow, and its length in pixels."""

    still = 0

    def known(self, value: Array) -> Array:
        """Return where a map is known, and count its values."""
        known = ~np.isnan(value).any(0)
        lengths = np.hypot(*value[:, known])
        self.values.add(lengths[lengths > 0])
        self.still += int((lengths == 0).sum())
        return known

    def summary(self) -> Summary:
        """Return the statistics."""
        known, lines, warnings = super().summary()
        length, line = self.values.summary(), "nothing moves"  # the flow of a single frame leads nowhere
        if length:
            median, p99, longest = (length[name] for name in ("median", "percentile_99", "max"))
            line = f"length: median {median:.3g}, 99 % {p99:.3g}, max {longest:.3g} px"
        return Summary({"known": known, "length": length, "still": self.still}, [*lines, line], warnings)


class Labels:
    """Pixels of each class, ignored pixels, and classes that never occur."""

    def __init__(self, dataset: Dataset, field: str):
        self.names = class_names(dataset, field)
        self.pixels = np.zeros(IGNORE + 1, np.int64)
        self.frames, self.none = 0, 0

    def add(self, index: int, sample: Arrays) -> None:
        """Count one sample."""
        counts = np.bincount(sample["labels"].ravel(), minlength=IGNORE + 1)
        self.pixels += counts
        self.frames += 1
        self.none += not counts[:IGNORE].any()

    def summary(self) -> Summary:
        """Return the statistics."""
        counts = self.pixels[:IGNORE]
        names = self.names or [str(number) for number in range(int(np.flatnonzero(counts).max(initial=-1)) + 1)]
        order = np.argsort(-counts[: len(names)], kind="stable")
        shares = {names[number]: float(counts[number] / max(counts.sum(), 1)) for number in order}
        present = [(name, f"{share:.1%}" if share >= 0.001 else "< 0.1%") for name, share in shares.items() if share]
        never = [name for name, share in shares.items() if share == 0]
        ignored = float(self.pixels[IGNORE] / max(self.pixels.sum(), 1))
        known = f" of {len(names)}" if self.names else ""
        numbers = {
            "classes": len(names) if self.names else None,
            "pixels": {name: int(count) for name, count in zip(names, counts, strict=False) if count},
            "shares": shares,
            "ignored": ignored,
            "never": never,
            "none": self.none,
        }
        lines = [f"{len(present)}{known} classes; ignored {ignored:.1%} of pixels", *columns(present)]
        lines += [f"never: {', '.join(never)}"] if never else []
        warning = f"labels are given, but {self.none} of {self.frames} frames have none"
        return Summary(numbers, lines, [warning] if self.none else [])


class Categories:
    """Images of each category."""

    def __init__(self, dataset: Dataset, field: str):
        self.names = class_names(dataset, field)
        self.counts: Counter[int] = Counter()

    def add(self, index: int, sample: Arrays) -> None:
        """Count one sample."""
        self.counts[int(sample["category"])] += 1

    def summary(self) -> Summary:
        """Return the statistics."""
        names = self.names or {number: str(number) for number in self.counts}
        never = [name for number, name in enumerate(self.names or ()) if number not in self.counts]
        order = sorted(self.counts, key=lambda number: (-self.counts[number], number))
        images = {names[number]: self.counts[number] for number in order}
        low, high = min(images.values()), max(images.values())
        lines = [f"{len(images)} categories of {low if low == high else f'{low} … {high}'} images each"]
        if len(images) <= MAX_CATEGORIES:
            lines += columns([(name, str(count)) for name, count in images.items()])
        lines += [f"never: {', '.join(never[:MAX_CATEGORIES])}"] if never else []
        warnings = ["all images are of one category"] if len(images) == 1 else []
        return Summary({"images": images, "never": never}, lines, warnings)


class Segments:
    """The number of instances or planes in a frame, and the share of pixels that belong to one."""

    def __init__(self, dataset: Dataset, field: str):
        self.field, self.covered = field, 0.0
        self.frames, self.min, self.max, self.total = 0, 2**63, 0, 0

    def add(self, index: int, sample: Arrays) -> None:
        """Count one sample."""
        maps = sample[self.field]
        maps = maps.reshape(-1, *maps.shape[-2:])  # planes are three maps: walls, tables, floors
        count = sum(len(np.unique(numbers[numbers > 0])) for numbers in maps)
        self.frames, self.total = self.frames + 1, self.total + count
        self.min, self.max = min(self.min, count), max(self.max, count)
        self.covered += float((maps > 0).any(0).mean())

    def summary(self) -> Summary:
        """Return the statistics."""
        mean, covered = self.total / max(self.frames, 1), self.covered / max(self.frames, 1)
        return Summary(
            {"mean": mean, "min": self.min, "max": self.max, "covered": covered},
            [f"{mean:.3g} in a frame, {self.min} … {self.max}, on {covered:.1%} of the pixels"],
            [] if self.max else [f"{self.field} are given, but no frame has one"],
        )


def class_names(dataset: Dataset, field: str) -> Sequence[str] | None:
    """Return the names of the classes in "labels" or "category", if the dataset has them.

    Its `classes` are those of its labels, or of its categories if it has no labels; `categories` are always those of
    its categories.
    """
    names = getattr(dataset, "classes", None)
    if field == "category":
        names = getattr(dataset, "categories", None) or (None if "labels" in dataset.gives else names)
    return getattr(names, "names", names)


def columns(cells: Sequence[tuple[str, str]], across: int = 3) -> list[str]:
    """Return names and values as a table read downwards, every name cut to 18 letters."""
    names = [name if len(name) <= 18 else name[:17] + "…" for name, _ in cells]
    widths = max(map(len, names), default=0), max((len(value) for _, value in cells), default=0)
    words = [f"{name:<{widths[0]}} {value:>{widths[1]}}" for name, (_, value) in zip(names, cells, strict=True)]
    rows = -(-len(words) // across)
    return ["   ".join(words[row::rows]) for row in range(rows)]
