"""Datasets by name, and one opened from one word.

A dataset is written as a string, so that a command line, a recipe and a result file can all say it:

    pictures/                 any folder of pictures
    folder:pictures/:val      the pictures below pictures/val
    nyuv2:nyu/:test           the test frames of NYU Depth v2, in whichever of its layouts
"""

from collections.abc import Callable
from pathlib import Path

from cka_probe.data.dataset import SPLITS, Dataset
from cka_probe.data.folder import Folder
from cka_probe.data.nyuv2 import nyuv2
from cka_probe.errors import DataError
from cka_probe.lookup import lookup

DATASETS: dict[str, Callable[[str, str], Dataset]] = {
    "folder": Folder,
    "nyuv2": nyuv2,
}


def open_dataset(spec: str | Path) -> Dataset:
    """Return the dataset a string means.

    Args:
        spec: `NAME:PATH`, `NAME:PATH:SPLIT` with a name in `DATASETS`, or a bare `PATH`, which is a folder of
            pictures. Without a split it is everything there is.

    Raises:
        UnknownNameError: There is no such dataset, or no such split.
        DataError: The path does not hold what the dataset expects.
    """
    name, path, split = _parts(str(spec))
    return lookup(DATASETS, name, "dataset")(path, split)


def _parts(spec: str) -> tuple[str, str, str]:
    """Return (name, path, split) of a dataset's string."""
    name, colon, path = spec.partition(":")
    if not colon or (name not in DATASETS and (Path(spec).exists() or len(name) == 1 or "/" in name)):
        return "folder", spec, "all"  # a path may hold a colon, and one letter before it is a Windows drive
    head, colon, tail = path.rpartition(":")
    if colon and (tail in SPLITS or ("/" not in tail and "\\" not in tail and not Path(path).exists())):
        path, split = head, tail
    else:
        split = "all"
    if not path:
        raise DataError(f"expected NAME:PATH or NAME:PATH:SPLIT, found {spec!r} without a path")
    return name, path, split


__all__ = ["DATASETS", "SPLITS", "Dataset", "open_dataset"]
