"""Statistics of images, their sources, cameras and poses."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from cka_probe.images.datasets import Dataset
from cka_probe.images.stream import image_hash
from cka_probe.lab.datasets.statistics.maps import LogHistogram

FLAT = 0.01
"""Standard deviation of all values of an image below which it shows nothing."""
MOST_SIZES = 1000
"""Different sizes that are told apart; a folder of images may have as many as images."""


class Images:
    """Sizes, mean and standard deviation of each channel, copies, and images that show nothing.

    Copies are found by 64 bits of a hash of each image, the one thing kept per frame: 8 bytes.
    """

    needs: tuple[str, ...] = ("image",)

    def __init__(self, dataset: Dataset):
        self.dataset = dataset
        self.sizes: dict[str, int] = {}
        self.pixels, self.sums, self.squares = 0, np.zeros(3), np.zeros(3)
        self.hashes: list[np.ndarray] = []
        self.recent: list[tuple[int, int]] = []
        self.flat: list[int] = []
        self.flat_count = 0

    def add(self, index: int, sample: Mapping[str, np.ndarray]) -> None:
        """Count one image."""
        image = sample["image"]
        size = f"{image.shape[2]}x{image.shape[1]}"
        size = size if size in self.sizes or len(self.sizes) < MOST_SIZES else "others"
        self.sizes[size] = self.sizes.get(size, 0) + 1
        values = image.reshape(3, -1).astype(np.float64)
        sums, squares = values.sum(1), np.einsum("cn,cn->c", values, values)
        self.pixels, self.sums, self.squares = self.pixels + values.shape[1], self.sums + sums, self.squares + squares
        if squares.sum() / values.size - (sums.sum() / values.size) ** 2 < FLAT**2:
            self.flat_count += 1
            self.flat = [*self.flat, index][:1]
        self.recent.append((index, int(image_hash(torch.from_numpy(image))[:16], 16)))
        if len(self.recent) == 4096:
            self._pack()

    def _pack(self) -> None:
        """Move the hashes of late into arrays, 8 bytes for the index and 8 for the hash."""
        if self.recent:
            self.hashes.append(np.array(self.recent, np.uint64))
        self.recent = []

    def _copies(self) -> np.ndarray:
        """Return the indices of images that came before."""
        self._pack()
        if not self.hashes:
            return np.empty(0, np.int64)
        seen = np.concatenate(self.hashes)
        _, first = np.unique(seen[:, 1], return_index=True)
        return np.delete(seen[:, 0], first).astype(np.int64)

    def numbers(self) -> dict[str, Any]:
        """Return `sizes` (width x height to frames), `mean`, `std` (of R, G, B), `copies`, `flat`."""
        mean = self.sums / max(self.pixels, 1)
        std = np.sqrt(np.maximum(self.squares / max(self.pixels, 1) - mean**2, 0))
        return {
            "sizes": dict(sorted(self.sizes.items(), key=lambda item: -item[1])),
            "mean": mean.tolist(),
            "std": std.tolist(),
            "copies": len(self._copies()),
            "flat": self.flat_count,
        }

    def summary_lines(self) -> list[str]:
        """Return the sizes, and mean and standard deviation."""
        found = self.numbers()
        sizes = [f"{size} ({count})" for size, count in list(found["sizes"].items())[:6]]
        more = len(found["sizes"]) - len(sizes)
        mean, std = (" ".join(f"{value:.3f}" for value in found[name]) for name in ("mean", "std"))
        return [
            f"width x height (frames): {', '.join(sizes)}{f' and {more} other sizes' if more else ''}",
            f"mean {mean}, standard deviation {std} (R, G, B)",
        ]

    def warnings(self) -> list[str]:
        """Return what is said of copies and of images that show nothing."""
        copies, warnings = self._copies(), []
        if len(copies):
            first = self.dataset.describe(int(copies.min()))
            warnings.append(f"{len(copies)} {_are(len(copies))} a copy of an earlier image; the first: {first}")
        if self.flat:
            first = self.dataset.describe(self.flat[0])
            warnings.append(f"{self.flat_count} {_are(self.flat_count)} of a single colour; the first: {first}")
        return warnings


def _are(count: int) -> str:
    return "image is" if count == 1 else "images are"


class Sources:
    """How many sources a frame has, how much each differs from the target, and how far it was taken from it.

    The difference is the mean of |source - target| over pixels and channels, without any warping: what motion,
    light and another camera make together. It is near 0 where nothing moves.
    """

    needs: tuple[str, ...] = ("image", "sources")

    def __init__(self, dataset: Dataset):
        self.frames = 0
        self.counts: dict[int, int] = {}
        self.differences, self.same = LogHistogram(), 0
        self.baselines, self.unknown, self.still = LogHistogram(), 0, 0

    def add(self, index: int, sample: Mapping[str, np.ndarray]) -> None:
        """Count the sources of one frame."""
        sources = sample["sources"]
        self.frames += 1
        self.counts[len(sources)] = self.counts.get(len(sources), 0) + 1
        differences = np.abs(sources - sample["image"]).mean((1, 2, 3), dtype=np.float64)
        self.differences.add(differences[differences > 0])
        self.same += int((differences == 0).sum())
        if "source_T_target" in sample:
            lengths = np.linalg.norm(sample["source_T_target"][:, :3, 3].astype(np.float64), axis=1)
            self.unknown += int(np.isnan(lengths).sum())
            self.still += int((lengths == 0).sum())
            self.baselines.add(lengths[lengths > 0])

    def numbers(self) -> dict[str, Any]:
        """Return `counts` (sources to frames), `difference`, `same`, `baseline` (metres), `unknown`, `still`."""
        return {
            "counts": {str(count): frames for count, frames in sorted(self.counts.items())},
            "difference": self.differences.summary(),
            "same": self.same,
            "baseline": self.baselines.summary(),
            "unknown": self.unknown,
            "still": self.still,
        }

    def summary_lines(self) -> list[str]:
        """Return how many there are, their difference, and their distance where it is known."""
        counts = ", ".join(f"{count} ({frames})" for count, frames in sorted(self.counts.items()))
        lines = [f"how many (frames): {counts}"]
        if len(self.differences):
            found = self.differences.summary()
            lines.append(
                f"mean |source - target|: median {found['median']:.3f}, {found['min']:.3f} … {found['max']:.3f}"
            )
        if len(self.baselines):
            found = self.baselines.summary()
            lines.append(
                f"distance from the target: median {found['median']:.3g} m, {found['min']:.3g} … {found['max']:.3g} m"
            )
        if self.unknown:
            lines.append(f"motion not known: {self.unknown}")
        return lines

    def warnings(self) -> list[str]:
        """Return what is said of sources that are the target itself."""
        if not self.same:
            return []
        return [f"{self.same} {'source is' if self.same == 1 else 'sources are'} the target's own image"]


MOST_CAMERAS = 1000
OFF_CENTRE = 0.15
"""Part of the width or height by which a principal point may be off the middle without a word."""
NARROW, WIDE = 15.0, 130.0
"""Degrees across between which the field of view of an ordinary camera lies."""
JUMP = 10.0
"""A step longer than so many times the median is a jump: lost tracking, or two videos taken for one."""


class Camera:
    """The different K, the field of view, and the principal point.

    The field of view is atan((W - 1/2 - cx) / fx) + atan((cx + 1/2) / fx): from border to border of the image,
    whose first pixel's centre is 0.
    """

    needs: tuple[str, ...] = ("image", "K")

    def __init__(self, dataset: Dataset):
        self.dataset = dataset
        self.seen: dict[bytes, list[float]] = {}
        self.low, self.high = np.full(6, np.inf), np.full(6, -np.inf)
        self.off, self.off_first = 0, -1

    def add(self, index: int, sample: Mapping[str, np.ndarray]) -> None:
        """Count one camera."""
        K, (height, width) = sample["K"].astype(np.float64), sample["image"].shape[1:]
        fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
        if len(self.seen) < MOST_CAMERAS:
            self.seen.setdefault(np.array([fx, fy, cx, cy, width, height]).tobytes(), [fx, fy, cx, cy])
        across = [
            np.degrees(np.arctan((size - 0.5 - c) / f) + np.arctan((c + 0.5) / f))
            for size, f, c in ((width, fx, cx), (height, fy, cy))
        ]
        numbers = np.array([fx, fy, cx, cy, *across])
        self.low, self.high = np.minimum(self.low, numbers), np.maximum(self.high, numbers)
        if max(abs(cx - (width - 1) / 2) / width, abs(cy - (height - 1) / 2) / height) > OFF_CENTRE:
            self.off += 1
            self.off_first = index if self.off == 1 else self.off_first

    def numbers(self) -> dict[str, Any]:
        """Return `cameras`, and [least, greatest] of fx, fy, cx, cy (pixels) and the fields of view (degrees)."""
        names = ("fx", "fy", "cx", "cy", "degrees_across", "degrees_down")
        ranges = {name: [float(low), float(high)] for name, low, high in zip(names, self.low, self.high, strict=True)}
        return {"cameras": len(self.seen), **ranges, "off_centre": self.off}

    def summary_lines(self) -> list[str]:
        """Return the cameras in words."""
        span = [_span(low, high) for low, high in zip(self.low, self.high, strict=True)]
        count = len(self.seen)
        many = f"{'at least ' if count == MOST_CAMERAS else ''}{count} different"
        return [
            f"{'the same in all frames' if count == 1 else many}: fx {span[0]}, fy {span[1]}, cx {span[2]}, "
            f"cy {span[3]} px",
            f"field of view {span[4]}° across, {span[5]}° down",
        ]

    def warnings(self) -> list[str]:
        """Return what is said of cameras that are not as others are."""
        warnings = []
        if self.off:
            warnings.append(
                f"the principal point is more than {OFF_CENTRE:.0%} off the middle in {self.off} frames; the first: "
                f"{self.dataset.describe(self.off_first)}; is K of this image's size?"
            )
        if self.low[4] < NARROW or self.high[4] > WIDE:
            warnings.append(f"fields of view of {_span(self.low[4], self.high[4])}° across; is K of this size?")
        return warnings


class Poses:
    """How far the camera goes from one frame of a folder to the next, and how much it turns.

    A step is counted between frames that follow each other in the dataset and lie in one folder, so none are where
    only some of the frames are looked at.
    """

    needs: tuple[str, ...] = ("world_T_target",)

    def __init__(self, dataset: Dataset):
        self.dataset = dataset
        self.last: tuple[int, str, np.ndarray] | None = None
        self.frames, self.still, self.off, self.turn = 0, 0, 0.0, 0.0
        self.steps, self.longest = LogHistogram(), (0.0, -1)

    def add(self, index: int, sample: Mapping[str, np.ndarray]) -> None:
        """Count one pose."""
        pose = sample["world_T_target"].astype(np.float64)
        folder = self.dataset.describe(index).rpartition("/")[0]
        R = pose[:3, :3]
        self.frames += 1
        self.off = max(self.off, float(np.abs(R.T @ R - np.eye(3)).max()))
        if self.last and self.last[:2] == (index - 1, folder):
            self._step(index, self.last[2], pose)
        self.last = (index, folder, pose)

    def _step(self, index: int, before: np.ndarray, after: np.ndarray) -> None:
        """Count the way between two poses."""
        length = float(np.linalg.norm(after[:3, 3] - before[:3, 3]))
        cosine = (np.trace(before[:3, :3].T @ after[:3, :3]) - 1) / 2
        self.turn = max(self.turn, float(np.degrees(np.arccos(np.clip(cosine, -1, 1)))))
        self.still += length == 0
        self.steps.add(np.array([length])[:1] if length else np.empty(0))
        self.longest = max(self.longest, (length, index))

    def _jumps(self) -> int:
        """Return how many steps are much longer than the others."""
        return self.steps.above(JUMP * self.steps.quantile(0.5)) if len(self.steps) else 0

    def numbers(self) -> dict[str, Any]:
        """Return `step` (metres), `still` steps, `jumps`, the greatest turn and how far RᵀR is from I."""
        return {
            "frames": self.frames,
            "step": self.steps.summary(),
            "still": self.still,
            "jumps": self._jumps(),
            "greatest_turn_degrees": self.turn,
            "not_orthonormal_by": self.off,
        }

    def summary_lines(self) -> list[str]:
        """Return the steps in words."""
        orthonormal = f"rotations are orthonormal to {self.off:.1g}"
        if not len(self.steps):
            return [orthonormal, "no two neighbouring frames that the camera moves between"]
        found = self.steps.summary()
        return [
            orthonormal,
            f"{len(self.steps) + self.still} steps: median {found['median']:.3g} m, longest {found['max']:.3g} m, "
            f"turning by at most {self.turn:.3g}°",
        ]

    def warnings(self) -> list[str]:
        """Return what is said of jumps and of a camera that stands."""
        warnings, jumps = [], self._jumps()
        if jumps:
            warnings.append(
                f"{jumps} of {len(self.steps) + self.still} steps of the camera are more than {JUMP:.0f} times as long "
                f"as the median; the longest, {self.longest[0]:.3g} m, leads to "
                f"{self.dataset.describe(self.longest[1])}"
            )
        if self.still:
            warnings.append(f"the camera stands still in {self.still} of {len(self.steps) + self.still} steps")
        return warnings


def _span(low: float, high: float) -> str:
    """Return one number, or from where to where."""
    first, last = f"{low:.4g}", f"{high:.4g}"
    return first if first == last else f"{first} … {last}"
