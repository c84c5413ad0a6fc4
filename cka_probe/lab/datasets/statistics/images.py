"""The images themselves, and the other images of the same scene."""

from typing import Any

import numpy as np
import torch

from cka_probe.images.datasets import Dataset
from cka_probe.images.stream import image_hash
from cka_probe.lab.datasets.statistics.histogram import LogHistogram

FLAT = 0.01
"""Standard deviation of all values of an image below which it shows nothing."""
MOST_SIZES = 1000
"""Different sizes that are told apart; a folder of images may have as many as images."""


class Images:
    """Sizes, mean and standard deviation of each channel, copies, and images that show nothing.

    Copies are found by 64 bits of a hash of each image, the one thing kept per frame: 8 bytes.
    """

    needs = ("image",)

    def __init__(self, dataset: Dataset):
        self.dataset = dataset
        self.sizes: dict[str, int] = {}
        self.pixels, self.sums, self.squares = 0, np.zeros(3), np.zeros(3)
        self.hashes: list[np.ndarray] = []
        self.recent: list[tuple[int, int]] = []
        self.flat: list[int] = []
        self.flat_count = 0

    def add(self, index: int, sample: dict[str, np.ndarray]) -> None:
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

    def lines(self) -> list[str]:
        """Return the sizes, and mean and standard deviation."""
        found = self.numbers()
        sizes = [f"{size} ({count})" for size, count in list(found["sizes"].items())[:6]]
        more = len(found["sizes"]) - len(sizes)
        mean, std = (" ".join(f"{value:.3f}" for value in found[name]) for name in ("mean", "std"))
        return [
            f"width x height (frames): {', '.join(sizes)}{f' and {more} other sizes' if more else ''}",
            f"mean {mean}, standard deviation {std} (R, G, B)",
        ]

    def remarks(self) -> list[str]:
        """Return what is said of copies and of images that show nothing."""
        copies, remarks = self._copies(), []
        if len(copies):
            first = self.dataset.describe(int(copies.min()))
            remarks.append(f"{len(copies)} {_are(len(copies))} a copy of an earlier image; the first: {first}")
        if self.flat:
            first = self.dataset.describe(self.flat[0])
            remarks.append(f"{self.flat_count} {_are(self.flat_count)} of a single colour; the first: {first}")
        return remarks


def _are(count: int) -> str:
    return "image is" if count == 1 else "images are"


class Sources:
    """How many sources a frame has, how much each differs from the target, and how far it was taken from it.

    The difference is the mean of |source - target| over pixels and channels, without any warping: what motion,
    light and another camera make together. It is near 0 where nothing moves.
    """

    needs = ("image", "sources")

    def __init__(self, dataset: Dataset):
        self.frames, self.counts = 0, {}
        self.differences, self.same = LogHistogram(), 0
        self.baselines, self.unknown, self.still = LogHistogram(), 0, 0

    def add(self, index: int, sample: dict[str, np.ndarray]) -> None:
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

    def lines(self) -> list[str]:
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

    def remarks(self) -> list[str]:
        """Return what is said of sources that are the target itself."""
        if not self.same:
            return []
        return [f"{self.same} {'source is' if self.same == 1 else 'sources are'} the target's own image"]
