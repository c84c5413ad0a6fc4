"""Statistics of maps and classes: histograms of positive values, shares of pixels, counts of classes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cka_probe.images.datasets import Dataset
from cka_probe.images.sample import IGNORE

LOWEST, DECADES, BINS = -5, 10, 400  # from 1e-5 to 1e5, 400 bins for each factor of ten


class LogHistogram:
    """Counts of positive values; a quantile is off by at most half a bin, 0.3 %.

    Values outside 1e-5 … 1e5 are counted in the outermost bins; least, greatest and mean are exact for all.
    """

    def __init__(self):
        self.counts = np.zeros(DECADES * BINS, np.int64)
        self.least, self.greatest, self.total = np.inf, -np.inf, 0.0

    def add(self, values: np.ndarray) -> None:
        """Count values above 0, of any shape."""
        if not values.size:
            return
        places = ((np.log10(values.astype(np.float32).ravel()) - LOWEST) * BINS).astype(np.int64)
        self.counts += np.bincount(places.clip(0, len(self.counts) - 1), minlength=len(self.counts))
        self.least = min(self.least, float(values.min()))
        self.greatest = max(self.greatest, float(values.max()))
        self.total += float(values.sum(dtype=np.float64))

    def __len__(self) -> int:
        return int(self.counts.sum())

    def quantile(self, share: float) -> float:
        """Return the value below which this share of all lies; NaN if there are none."""
        if not len(self):
            return float("nan")
        place = int(np.searchsorted(np.cumsum(self.counts), share * (len(self) - 1), side="right"))
        return float(np.clip(10 ** (LOWEST + (place + 0.5) / BINS), self.least, self.greatest))

    def above(self, value: float) -> int:
        """Return how many values are above one, to half a bin."""
        place = int(np.ceil((np.log10(value) - LOWEST) * BINS))
        return int(self.counts[max(place, 0) :].sum())

    def summary(self) -> dict[str, float]:
        """Return min, 1 %, median, mean, 99 % and max; nothing if there are no values."""
        if not len(self):
            return {}
        return {
            "min": self.least,
            "percentile_1": self.quantile(0.01),
            "median": self.quantile(0.5),
            "mean": self.total / len(self),
            "percentile_99": self.quantile(0.99),
            "max": self.greatest,
        }


NEAR, FAR = 0.05, 500.0
"""Metres between which the median of a real scene's depth lies."""


class Shares:
    """The share of pixels that something holds for, over frames."""

    def __init__(self):
        self.frames, self.total, self.least, self.greatest, self.none = 0, 0.0, 1.0, 0.0, 0

    def add(self, there: np.ndarray) -> None:
        """Count one frame's bool map."""
        share = float(there.mean())
        self.frames += 1
        self.total += share
        self.least, self.greatest = min(self.least, share), max(self.greatest, share)
        self.none += share == 0

    def numbers(self) -> dict[str, Any]:
        """Return `frames`, the `mean`, `min` and `max` share, and in how many frames there is `none`."""
        return {
            "frames": self.frames,
            "mean": self.total / max(self.frames, 1),
            "min": self.least,
            "max": self.greatest,
            "none": self.none,
        }

    def line(self, what: str) -> str:
        """Return the same in words."""
        found = self.numbers()
        return (
            f"{what} {found['mean']:.1%} of pixels; in single frames {found['min']:.1%} … {found['max']:.1%}, "
            f"none in {found['none']}"
        )


class Depth:
    """Metres over all measured pixels, and the share of those."""

    needs: tuple[str, ...] = ("depth",)
    unit = " m"

    def __init__(self, dataset: Dataset):
        self.values, self.shares = LogHistogram(), Shares()

    def add(self, index: int, sample: Mapping[str, np.ndarray]) -> None:
        """Count one map."""
        (field,) = self.needs
        measured = sample[field] > 0
        self.values.add(sample[field][measured])
        self.shares.add(measured)

    def numbers(self) -> dict[str, Any]:
        """Return `values` (min, quantiles, mean, max) and `measured` (shares of pixels)."""
        return {"values": self.values.summary(), "measured": self.shares.numbers()}

    def summary_lines(self) -> list[str]:
        """Return range and share."""
        lines = [self.shares.line("measured")]
        if len(self.values):
            found = {
                name: f"{value:.3g}{self.unit}" if value < 1000 else f"{value:.0f}{self.unit}"  # not 1.28e+03
                for name, value in self.values.summary().items()
            }
            lines.insert(
                0,
                f"{found['min']} … {found['max']}; 1 % {found['percentile_1']}, median {found['median']}, "
                f"99 % {found['percentile_99']}",
            )
        return lines

    def warnings(self) -> list[str]:
        """Return what is said of frames without depth and of depth in another unit than metres."""
        field, warnings = self.needs[0], []
        if self.shares.none:
            warnings.append(f"{field} is given, but {self.shares.none} of {self.shares.frames} frames have none")
        median = self.values.quantile(0.5)
        if self.unit and len(self.values) and not NEAR <= median <= FAR:
            warnings.append(f"the median depth is {median:.3g} m: is it in metres?")
        return warnings


class PseudoDepth(Depth):
    """The same of depth without a scale."""

    needs: tuple[str, ...] = ("pseudo_depth",)
    unit = ""


class _Share:
    """The share of pixels in which a map is true or known."""

    needs: tuple[str, ...]
    words: str
    lacking = ""

    def __init__(self, dataset: Dataset):
        self.shares = Shares()

    def add(self, index: int, sample: Mapping[str, np.ndarray]) -> None:
        """Count one map."""
        self.shares.add(self._there(sample[self.needs[0]]))

    def _there(self, value: np.ndarray) -> np.ndarray:
        """Return where the map is true, or known."""
        return value

    def numbers(self) -> dict[str, Any]:
        """Return the shares of pixels."""
        return self.shares.numbers()

    def summary_lines(self) -> list[str]:
        """Return the share in words."""
        return [self.shares.line(self.words)]

    def warnings(self) -> list[str]:
        """Return what is said of frames that have none, where that is strange."""
        if not self.lacking or not self.shares.none:
            return []
        field = self.needs[0]
        return [f"{field} is given, but {self.shares.none} of {self.shares.frames} frames have {self.lacking}"]


class Occluded(_Share):
    """The share that is hidden or outside in the next frame."""

    needs: tuple[str, ...] = ("occluded",)
    words = "hidden or outside in the next frame:"


class Edges(_Share):
    """The share of pixels on occluding edges."""

    needs: tuple[str, ...] = ("edges",)
    words = "on an occluding edge:"
    lacking = "none"


class Valid(_Share):
    """The share that a score may use."""

    needs: tuple[str, ...] = ("valid",)
    words = "may be scored:"
    lacking = "no pixel to score"


class Normals(_Share):
    """The share with a normal, and how many of these look away from the camera."""

    needs: tuple[str, ...] = ("normals",)
    words = "known in"
    lacking = "none"

    def __init__(self, dataset: Dataset):
        super().__init__(dataset)
        self.known, self.away = 0, 0

    def _there(self, value: np.ndarray) -> np.ndarray:
        known = (value != 0).any(0)
        self.known += int(known.sum())
        self.away += int((value[2][known] > 0.1).sum())  # a ray at the border may meet a face with z > 0
        return known

    def numbers(self) -> dict[str, Any]:
        """Return the shares of pixels, and the share of normals that look `away`."""
        return {**self.shares.numbers(), "away": self.away / max(self.known, 1)}

    def warnings(self) -> list[str]:
        """Return what is said of frames without, and of normals that look away."""
        share = self.away / max(self.known, 1)
        turned = [f"{share:.1%} of normals look away from the camera: is their sign turned?"] if share > 0.2 else []
        return super().warnings() + turned


class Flow(_Share):
    """The share whose flow is known, and its length in pixels."""

    needs: tuple[str, ...] = ("flow",)
    words = "known in"
    lacking = "none"

    def __init__(self, dataset: Dataset):
        super().__init__(dataset)
        self.lengths, self.zeros = LogHistogram(), 0

    def _there(self, value: np.ndarray) -> np.ndarray:
        known = ~np.isnan(value).any(0)
        lengths = np.hypot(*value[:, known])
        self.lengths.add(lengths[lengths > 0])
        self.zeros += int((lengths == 0).sum())
        return known

    def numbers(self) -> dict[str, Any]:
        """Return `known` (shares of pixels), `length` (pixels, of those that move) and how many `still` pixels."""
        return {"known": self.shares.numbers(), "length": self.lengths.summary(), "still": self.zeros}

    def summary_lines(self) -> list[str]:
        """Return the share, and the lengths."""
        found = self.lengths.summary()
        if not found:  # single frames, whose flow leads nowhere
            return [*super().summary_lines(), "nothing moves"]
        middle, most, longest = (found[name] for name in ("median", "percentile_99", "max"))
        return [*super().summary_lines(), f"length: median {middle:.3g}, 99 % {most:.3g}, max {longest:.3g} px"]


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

    needs: tuple[str, ...] = ("labels",)

    def __init__(self, dataset: Dataset):
        self.names = class_names(dataset, "labels")
        self.pixels = np.zeros(IGNORE + 1, np.int64)
        self.frames, self.none = 0, 0

    def add(self, index: int, sample: Mapping[str, np.ndarray]) -> None:
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

    def summary_lines(self) -> list[str]:
        """Return the table of classes."""
        found = self.numbers()
        there = {name: share for name, share in found["shares"].items() if share > 0}
        named = "" if self.names is None else f" of {len(self.names)}"
        lines = [f"{len(there)}{named} classes; ignored {found['ignored']:.1%} of pixels"]
        lines += columns([(name, _percent(share)) for name, share in there.items()])
        if found["never"]:
            lines.append(f"never: {', '.join(found['never'])}")
        return lines

    def warnings(self) -> list[str]:
        """Return what is said of frames without labels."""
        return [f"labels are given, but {self.none} of {self.frames} frames have none"] if self.none else []


class Categories:
    """Images of each category."""

    needs: tuple[str, ...] = ("category",)

    def __init__(self, dataset: Dataset):
        self.names = class_names(dataset, "category")
        self.counts: dict[int, int] = {}

    def add(self, index: int, sample: Mapping[str, np.ndarray]) -> None:
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

    def summary_lines(self) -> list[str]:
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

    def warnings(self) -> list[str]:
        """Return what is said of a single category."""
        return ["all images are of one category"] if len(self.counts) == 1 else []


class Pieces:
    """How many things a frame has, and the share of pixels that belong to one."""

    needs: tuple[str, ...] = ("instances",)

    def __init__(self, dataset: Dataset):
        self.frames, self.least, self.greatest, self.total, self.covered = 0, 2**63, 0, 0, 0.0

    def add(self, index: int, sample: Mapping[str, np.ndarray]) -> None:
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

    def summary_lines(self) -> list[str]:
        """Return the same in words."""
        found = self.numbers()
        return [
            f"{found['mean']:.3g} in a frame, {found['min']} … {found['max']}, on {found['covered']:.1%} of the pixels"
        ]

    def warnings(self) -> list[str]:
        """Return what is said where there is none anywhere."""
        return [] if self.greatest else [f"{self.needs[0]} are given, but no frame has one"]


class Planes(Pieces):
    """The same of walls, tables and floors."""

    needs: tuple[str, ...] = ("planes",)


def columns(cells: Sequence[tuple[str, str]], across: int = ACROSS) -> list[str]:
    """Return names and values as a table read downwards, every name cut to 18 letters."""
    names = [name if len(name) <= 18 else name[:17] + "…" for name, _ in cells]
    widths = max(map(len, names), default=0), max((len(value) for _, value in cells), default=0)
    words = [f"{name:<{widths[0]}} {value:>{widths[1]}}" for name, (_, value) in zip(names, cells, strict=True)]
    rows = -(-len(words) // across)
    return ["   ".join(words[row::rows]) for row in range(rows)]


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 else "< 0.1%"
