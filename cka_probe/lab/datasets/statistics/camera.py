"""Cameras and where they stood."""

from typing import Any

import numpy as np

from cka_probe.images.datasets import Dataset
from cka_probe.lab.datasets.statistics.histogram import LogHistogram

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

    needs = ("image", "K")

    def __init__(self, dataset: Dataset):
        self.dataset = dataset
        self.seen: dict[bytes, list[float]] = {}
        self.low, self.high = np.full(6, np.inf), np.full(6, -np.inf)
        self.off, self.off_first = 0, -1

    def add(self, index: int, sample: dict[str, np.ndarray]) -> None:
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

    def lines(self) -> list[str]:
        """Return the cameras in words."""
        span = [_span(low, high) for low, high in zip(self.low, self.high, strict=True)]
        count = len(self.seen)
        many = f"{'at least ' if count == MOST_CAMERAS else ''}{count} different"
        return [
            f"{'the same in all frames' if count == 1 else many}: fx {span[0]}, fy {span[1]}, cx {span[2]}, "
            f"cy {span[3]} px",
            f"field of view {span[4]}° across, {span[5]}° down",
        ]

    def remarks(self) -> list[str]:
        """Return what is said of cameras that are not as others are."""
        remarks = []
        if self.off:
            remarks.append(
                f"the principal point is more than {OFF_CENTRE:.0%} off the middle in {self.off} frames; the first: "
                f"{self.dataset.describe(self.off_first)}; is K of this image's size?"
            )
        if self.low[4] < NARROW or self.high[4] > WIDE:
            remarks.append(f"fields of view of {_span(self.low[4], self.high[4])}° across; is K of this size?")
        return remarks


class Poses:
    """How far the camera goes from one frame of a folder to the next, and how much it turns.

    A step is counted between frames that follow each other in the dataset and lie in one folder, so none are where
    only some of the frames are looked at.
    """

    needs = ("world_T_target",)

    def __init__(self, dataset: Dataset):
        self.dataset = dataset
        self.last: tuple[int, str, np.ndarray] | None = None
        self.frames, self.still, self.off, self.turn = 0, 0, 0.0, 0.0
        self.steps, self.longest = LogHistogram(), (0.0, -1)

    def add(self, index: int, sample: dict[str, np.ndarray]) -> None:
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

    def lines(self) -> list[str]:
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

    def remarks(self) -> list[str]:
        """Return what is said of jumps and of a camera that stands."""
        remarks, jumps = [], self._jumps()
        if jumps:
            remarks.append(
                f"{jumps} of {len(self.steps) + self.still} steps of the camera are more than {JUMP:.0f} times as long "
                f"as the median; the longest, {self.longest[0]:.3g} m, leads to "
                f"{self.dataset.describe(self.longest[1])}"
            )
        if self.still:
            remarks.append(f"the camera stands still in {self.still} of {len(self.steps) + self.still} steps")
        return remarks


def _span(low: float, high: float) -> str:
    """Return one number, or from where to where."""
    first, last = f"{low:.4g}", f"{high:.4g}"
    return first if first == last else f"{first} … {last}"
