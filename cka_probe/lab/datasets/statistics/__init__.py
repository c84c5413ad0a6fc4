"""What is counted of each field while a data set is read once: running sums and histograms, never the values.

A tally is made of the dataset, is shown one sample after the other, and then has `numbers` (for JSON), `lines` (the
same for a reader) and `remarks` (what somebody should know before training on it). A new one is one class with
these members and one line in `STATISTICS`.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from cka_probe.images.datasets import Dataset
from cka_probe.lab.datasets.statistics.camera import Camera, Poses
from cka_probe.lab.datasets.statistics.classes import Categories, Labels, Pieces, Planes
from cka_probe.lab.datasets.statistics.depth import Depth, PseudoDepth
from cka_probe.lab.datasets.statistics.images import Images, Sources
from cka_probe.lab.datasets.statistics.maps import Edges, Flow, Normals, Occluded, Valid


class FieldStatistics(Protocol):
    """Counts of one field over a data set."""

    needs: tuple[str, ...]
    """Fields of the sample that it looks at; a sample without all of them, or with a fault in one, is not shown."""

    def __init__(self, dataset: Dataset): ...

    def add(self, index: int, sample: Mapping[str, np.ndarray]) -> None:
        """Count sample `index`."""
        ...

    def numbers(self) -> dict[str, Any]:
        """Return what was counted, ready for JSON."""
        ...

    def lines(self) -> list[str]:
        """Return the same in words."""
        ...

    def remarks(self) -> list[str]:
        """Return what is allowed and still strange."""
        ...


STATISTICS: dict[str, type[FieldStatistics]] = {
    "image": Images,
    "depth": Depth,
    "pseudo_depth": PseudoDepth,
    "K": Camera,
    "world_T_target": Poses,
    "sources": Sources,
    "flow": Flow,
    "occluded": Occluded,
    "labels": Labels,
    "instances": Pieces,
    "planes": Planes,
    "normals": Normals,
    "edges": Edges,
    "valid": Valid,
    "category": Categories,
}

__all__ = ["TALLIES", "Tally"]
