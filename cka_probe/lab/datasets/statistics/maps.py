"""Maps of a frame that are one share or one range: flow, normals, edges, what is hidden, what is scored."""

from typing import Any

import numpy as np

from cka_probe.images.datasets import Dataset
from cka_probe.lab.datasets.statistics.depth import Shares
from cka_probe.lab.datasets.statistics.histogram import LogHistogram


class _Share:
    """The share of pixels in which a map is true or known."""

    needs: tuple[str, ...]
    words: str
    lacking = ""

    def __init__(self, dataset: Dataset):
        self.shares = Shares()

    def add(self, index: int, sample: dict[str, np.ndarray]) -> None:
        """Count one map."""
        self.shares.add(self._there(sample[self.needs[0]]))

    def _there(self, value: np.ndarray) -> np.ndarray:
        """Return where the map is true, or known."""
        return value

    def numbers(self) -> dict[str, Any]:
        """Return the shares of pixels."""
        return self.shares.numbers()

    def lines(self) -> list[str]:
        """Return the share in words."""
        return [self.shares.line(self.words)]

    def remarks(self) -> list[str]:
        """Return what is said of frames that have none, where that is strange."""
        if not self.lacking or not self.shares.none:
            return []
        field = self.needs[0]
        return [f"{field} is given, but {self.shares.none} of {self.shares.frames} frames have {self.lacking}"]


class Occluded(_Share):
    """The share that is hidden or outside in the next frame."""

    needs = ("occluded",)
    words = "hidden or outside in the next frame:"


class Edges(_Share):
    """The share of pixels on occluding edges."""

    needs = ("edges",)
    words = "on an occluding edge:"
    lacking = "none"


class Valid(_Share):
    """The share that a score may use."""

    needs = ("valid",)
    words = "may be scored:"
    lacking = "no pixel to score"


class Normals(_Share):
    """The share with a normal, and how many of these look away from the camera."""

    needs = ("normals",)
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

    def remarks(self) -> list[str]:
        """Return what is said of frames without, and of normals that look away."""
        share = self.away / max(self.known, 1)
        turned = [f"{share:.1%} of normals look away from the camera: is their sign turned?"] if share > 0.2 else []
        return super().remarks() + turned


class Flow(_Share):
    """The share whose flow is known, and its length in pixels."""

    needs = ("flow",)
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

    def lines(self) -> list[str]:
        """Return the share, and the lengths."""
        found = self.lengths.summary()
        if not found:  # single frames, whose flow leads nowhere
            return [*super().lines(), "nothing moves"]
        middle, most, longest = (found[name] for name in ("median", "percentile_99", "max"))
        return [*super().lines(), f"length: median {middle:.3g}, 99 % {most:.3g}, max {longest:.3g} px"]
