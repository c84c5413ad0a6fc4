"""Statistics of each field, accumulated while a dataset is read once: running sums and histograms, never the values.

An instance is created for a dataset and updated with one sample after another. It then returns `numbers` (for JSON),
`summary_lines` (the same as text) and `warnings` (what to check before training). To add one, write a class with these
members and add a line to `STATISTICS`.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from cka_probe.images.datasets import Dataset
from cka_probe.lab.datasets.statistics.images import Camera, Images, Poses, Sources
from cka_probe.lab.datasets.statistics.maps import (
    Categories,
    Depth,
    Edges,
    Flow,
    Labels,
    Normals,
    Occluded,
    Pieces,
    Planes,
    PseudoDepth,
    Valid,
)


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

    def summary_lines(self) -> list[str]:
        """Return the same in words."""
        ...

    def warnings(self) -> list[str]:
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
