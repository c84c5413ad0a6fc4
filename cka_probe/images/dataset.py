"""What a dataset is: a few words about itself and one sample per index.

A dataset is any object with the four members below: no base class, no registration beyond one line in
`cka_probe.images.datasets.DATASETS`. It reads a sample at its stored size; resizing, cropping and batching belong to
whoever asks, so that two models of different input size can be shown the same images.
"""

from collections.abc import Collection
from typing import Protocol

from torch import Tensor

from cka_probe import registry
from cka_probe.errors import DataError

SPLITS = ("train", "val", "test", "all")


class Dataset(Protocol):
    """Samples by index; `gives` names the fields of `cka_probe.images.sample` that each of them has."""

    gives: frozenset[str]

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return the sample `index`, every field in `gives`, at its stored size."""
        ...

    def image(self, index: int) -> Tensor:
        """Return only the image of sample `index`, (3, H, W) float32 RGB in [0, 1]; nothing else is read."""
        ...

    def describe(self, index: int) -> str:
        """Return a name for the image that is the same wherever the data lies: its path below the root."""
        ...


def check_split(split: str, there: Collection[str], where: object) -> None:
    """Check that a split was asked for that this data has.

    Args:
        split: What was asked for.
        there: The splits this data has.
        where: What the message calls the data ("folder images").

    Raises:
        UnknownNameError: No dataset has a split of this name.
        DataError: Others do, this one does not.
    """
    registry.get(dict.fromkeys(SPLITS), split, "split")
    if split not in there:
        raise DataError(f"no split {split!r} in {where}; there are: {', '.join(there)}")
