"""Statistics of images, their sources, cameras and poses."""

from collections import Counter

import numpy as np
import torch

from cka_probe.images.datasets import Dataset
from cka_probe.images.stream import image_hash
from cka_probe.lab.datasets.map_statistics import Array, Arrays, LogHistogram, Summary

MIN_STD = 0.01
"""Standard deviation of all values of an image, below which it counts as a single colour."""
MAX_SIZES = MAX_CAMERAS = 1000
"""Distinct image sizes and cameras that are counted separately."""
MAX_OFFSET = 0.15
"""Distance of the principal point from the image centre that is still ordinary, as a share of width or height."""
NARROW, WIDE = 15.0, 130.0
"""Degrees between which the horizontal field of view of an ordinary camera lies."""
JUMP = 10.0
"""A step longer than this many medians is a jump: lost tracking, or two videos in one folder."""


class Images:
    """Sizes, mean and standard deviation of each channel, copies, and images of a single colour.

    Copies are identified by 64 bits of a hash of each image: 16 bytes per frame with its index.
    """

    def __init__(self, dataset: Dataset, field: str):
        self.dataset = dataset
        self.sizes: Counter[str] = Counter()
        self.pixels, self.sums, self.squares = 0, np.zeros(3), np.zeros(3)
        self.blocks: list[Array] = []
        self.recent: list[tuple[int, int]] = []
        self.flat, self.first_flat = 0, -1

    def add(self, index: int, sample: Arrays) -> None:
        """Count one sample."""
        image = sample["image"]
        size = f"{image.shape[2]}x{image.shape[1]}"
        self.sizes[size if size in self.sizes or len(self.sizes) < MAX_SIZES else "others"] += 1
        values = image.reshape(3, -1).astype(np.float64)
        sums, squares = values.sum(1), np.einsum("cn,cn->c", values, values)
        self.pixels, self.sums, self.squares = self.pixels + values.shape[1], self.sums + sums, self.squares + squares
        if squares.sum() / values.size - (sums.sum() / values.size) ** 2 < MIN_STD**2:
            self.first_flat = index if not self.flat else self.first_flat
            self.flat += 1
        self.recent.append((index, int(image_hash(torch.from_numpy(image))[:16], 16)))
        if len(self.recent) == 4096:
            self._pack()

    def _pack(self) -> None:
        """Move recent hashes into an array, 8 bytes for the index and 8 for the hash."""
        self.blocks.append(np.array(self.recent, np.uint64).reshape(-1, 2))
        self.recent = []

    def summary(self) -> Summary:
        """Return the statistics."""
        self._pack()
        hashes = np.concatenate(self.blocks)
        copies = np.delete(hashes[:, 0], np.unique(hashes[:, 1], return_index=True)[1]).astype(np.int64)
        mean = self.sums / max(self.pixels, 1)
        std = np.sqrt(np.maximum(self.squares / max(self.pixels, 1) - mean**2, 0))
        sizes = dict(self.sizes.most_common())
        listed = ", ".join(f"{size} ({count})" for size, count in [*sizes.items()][:6])
        more = f" and {len(sizes) - 6} other sizes" if len(sizes) > 6 else ""
        channels = [" ".join(f"{value:.3f}" for value in values) for values in (mean, std)]
        kinds = [
            (len(copies), "a copy of an earlier image", copies.min(initial=len(self.dataset))),
            (self.flat, "of a single colour", self.first_flat),
        ]
        return Summary(
            {"sizes": sizes, "mean": mean.tolist(), "std": std.tolist(), "copies": len(copies), "flat": self.flat},
            [
                f"width x height (frames): {listed}{more}",
                f"mean {channels[0]}, standard deviation {channels[1]} (R, G, B)",
            ],
            [
                f"{count} {_plural('image', count)} {what}; the first: {self.dataset.describe(int(first))}"
                for count, what, first in kinds
                if count
            ],
        )


class Sources:
    """The number of sources, their difference from the target, and their distance from it.

    The difference is the mean of |source - target| over pixels and channels, without any warping. It is near 0 where
    nothing moves.
    """

    def __init__(self, dataset: Dataset, field: str):
        self.counts: Counter[int] = Counter()
        self.differences, self.same = LogHistogram(), 0
        self.baselines, self.unknown, self.still = LogHistogram(), 0, 0

    def add(self, index: int, sample: Arrays) -> None:
        """Count one sample."""
        sources = sample["sources"]
        self.counts[len(sources)] += 1
        differences = np.abs(sources - sample["image"]).mean((1, 2, 3), dtype=np.float64)
        self.differences.add(differences[differences > 0])
        self.same += int((differences == 0).sum())
        if "source_T_target" in sample:
            lengths = np.linalg.norm(sample["source_T_target"][:, :3, 3].astype(np.float64), axis=1)
            self.unknown += int(np.isnan(lengths).sum())
            self.still += int((lengths == 0).sum())
            self.baselines.add(lengths[lengths > 0])

    def summary(self) -> Summary:
        """Return the statistics."""
        counts = dict(sorted(self.counts.items()))
        difference, baseline = self.differences.summary(), self.baselines.summary()
        lines = [f"how many (frames): {', '.join(f'{count} ({frames})' for count, frames in counts.items())}"]
        for name, values, digits, unit in (
            ("mean |source - target|", difference, ".3f", ""),
            ("distance from the target", baseline, ".3g", " m"),
        ):
            if values:
                median, low, high = (f"{values[key]:{digits}}" for key in ("median", "min", "max"))
                lines.append(f"{name}: median {median}{unit}, {low} … {high}{unit}")
        if self.unknown:
            lines.append(f"motion not known: {self.unknown}")
        numbers = {
            "counts": {str(count): frames for count, frames in counts.items()},
            "difference": difference,
            "same": self.same,
            "baseline": baseline,
            "unknown": self.unknown,
            "still": self.still,
        }
        warning = f"{self.same} {_plural('source', self.same)} the target's own image"
        return Summary(numbers, lines, [warning] if self.same else [])


class Camera:
    """The different K, the field of view, and the principal point.

    The field of view is atan((W - 1/2 - cx) / fx) + atan((cx + 1/2) / fx): from border to border of the image, whose
    first pixel has its centre at 0.
    """

    def __init__(self, dataset: Dataset, field: str):
        self.dataset = dataset
        self.cameras: set[tuple[float, ...]] = set()
        self.min, self.max = np.full(6, np.inf), np.full(6, -np.inf)
        self.off, self.first_off = 0, -1

    def add(self, index: int, sample: Arrays) -> None:
        """Count one sample."""
        K, (height, width) = sample["K"].astype(np.float64), sample["image"].shape[1:]
        focal, centre, size = K[[0, 1], [0, 1]], K[:2, 2], np.array([width, height])
        if len(self.cameras) < MAX_CAMERAS:
            self.cameras.add((*focal, *centre, *size))
        view = np.degrees(np.arctan((size - 0.5 - centre) / focal) + np.arctan((centre + 0.5) / focal))
        numbers = np.concatenate([focal, centre, view])
        self.min, self.max = np.minimum(self.min, numbers), np.maximum(self.max, numbers)
        if (np.abs(centre - (size - 1) / 2) / size).max() > MAX_OFFSET:
            self.first_off = index if not self.off else self.first_off
            self.off += 1

    def summary(self) -> Summary:
        """Return the statistics."""
        names = ("fx", "fy", "cx", "cy", "degrees_across", "degrees_down")
        pairs = [(float(low), float(high)) for low, high in zip(self.min, self.max, strict=True)]
        fx, fy, cx, cy, across, down = (_format_range(*pair) for pair in pairs)
        count, warnings = len(self.cameras), []
        different = f"{'at least ' if count == MAX_CAMERAS else ''}{count} different"
        if self.off:
            warnings.append(
                f"the principal point is more than {MAX_OFFSET:.0%} off the middle in {self.off} frames; the first: "
                f"{self.dataset.describe(self.first_off)}; is K of this image's size?"
            )
        if pairs[4][0] < NARROW or pairs[4][1] > WIDE:
            warnings.append(f"fields of view of {across}° across; is K of this size?")
        return Summary(
            {"cameras": count, **dict(zip(names, map(list, pairs), strict=True)), "off_centre": self.off},
            [
                f"{'the same in all frames' if count == 1 else different}: fx {fx}, fy {fy}, cx {cx}, cy {cy} px",
                f"field of view {across}° across, {down}° down",
            ],
            warnings,
        )


class Poses:
    """The camera's steps and turns from one frame of a folder to the next.

    A step joins frames that are neighbours in the dataset and lie in one folder, so there are none where only some of
    the frames are read.
    """

    def __init__(self, dataset: Dataset, field: str):
        self.dataset = dataset
        self.last: tuple[int, str, Array] | None = None
        self.frames, self.still, self.error, self.turn = 0, 0, 0.0, 0.0
        self.steps, self.longest = LogHistogram(), (0.0, -1)

    def add(self, index: int, sample: Arrays) -> None:
        """Count one sample."""
        pose = sample["world_T_target"].astype(np.float64)
        folder = self.dataset.describe(index).rpartition("/")[0]
        self.frames += 1
        self.error = max(self.error, float(np.abs(pose[:3, :3].T @ pose[:3, :3] - np.eye(3)).max()))
        if self.last and self.last[:2] == (index - 1, folder):
            previous = self.last[2]
            length = float(np.linalg.norm(pose[:3, 3] - previous[:3, 3]))
            cosine = (np.trace(previous[:3, :3].T @ pose[:3, :3]) - 1) / 2
            self.turn = max(self.turn, float(np.degrees(np.arccos(np.clip(cosine, -1, 1)))))
            self.still += length == 0
            self.steps.add(np.array([length] if length else []))
            self.longest = max(self.longest, (length, index))
        self.last = (index, folder, pose)

    def summary(self) -> Summary:
        """Return the statistics."""
        step, steps, warnings = self.steps.summary(), len(self.steps) + self.still, []
        jumps = self.steps.above(JUMP * step["median"]) if step else 0
        line = "no two neighbouring frames that the camera moves between"
        if step:
            line = f"{steps} steps: median {step['median']:.3g} m, longest {step['max']:.3g} m, "
            line += f"turning by at most {self.turn:.3g}°"
        if jumps:
            warnings.append(
                f"{jumps} of {steps} steps of the camera are more than {JUMP:.0f} times as long as the median; the "
                f"longest, {self.longest[0]:.3g} m, leads to {self.dataset.describe(self.longest[1])}"
            )
        if self.still:
            warnings.append(f"the camera stands still in {self.still} of {steps} steps")
        numbers = {
            "frames": self.frames,
            "step": step,
            "still": self.still,
            "jumps": jumps,
            "greatest_turn_degrees": self.turn,
            "not_orthonormal_by": self.error,
        }
        return Summary(numbers, [f"rotations are orthonormal to {self.error:.1g}", line], warnings)


def _plural(noun: str, count: int) -> str:
    return f"{noun} is" if count == 1 else f"{noun}s are"


def _format_range(low: float, high: float) -> str:
    """Return one number, or a range."""
    first, last = f"{low:.4g}", f"{high:.4g}"
    return first if first == last else f"{first} … {last}"
