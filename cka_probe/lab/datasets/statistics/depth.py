"""Depth: its range, and how much of it was measured."""

from typing import Any

import numpy as np

from cka_probe.images.datasets import Dataset
from cka_probe.lab.datasets.statistics.histogram import LogHistogram

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

    def add(self, index: int, sample: dict[str, np.ndarray]) -> None:
        """Count one map."""
        (field,) = self.needs
        measured = sample[field] > 0
        self.values.add(sample[field][measured])
        self.shares.add(measured)

    def numbers(self) -> dict[str, Any]:
        """Return `values` (min, quantiles, mean, max) and `measured` (shares of pixels)."""
        return {"values": self.values.summary(), "measured": self.shares.numbers()}

    def lines(self) -> list[str]:
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

    def remarks(self) -> list[str]:
        """Return what is said of frames without depth and of depth in another unit than metres."""
        field, remarks = self.needs[0], []
        if self.shares.none:
            remarks.append(f"{field} is given, but {self.shares.none} of {self.shares.frames} frames have none")
        median = self.values.quantile(0.5)
        if self.unit and len(self.values) and not NEAR <= median <= FAR:
            remarks.append(f"the median depth is {median:.3g} m: is it in metres?")
        return remarks


class PseudoDepth(Depth):
    """The same of depth without a scale."""

    needs = ("pseudo_depth",)
    unit = ""
