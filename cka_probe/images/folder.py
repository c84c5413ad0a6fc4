"""Any folder of images, with or without folders in it (an ImageNet folder too).

Where the folder has `train`, `val` or `test` in it these are its splits; "all" is every image below the
root. Folders below that are classes only to a reader who wants classes: here an image is an image.

A list says which images and in which order: a text file of one path a line, below the folder that the split means.
"""

import os
from functools import lru_cache
from pathlib import Path

from torch import Tensor

from cka_probe.errors import DataError
from cka_probe.images.datasets import check_split
from cka_probe.images.reading import find_images, read_image


class Folder:
    """The images below a folder, sorted by path, or as a list has them.

    Args:
        root: The folder.
        split: "all", or the name of a folder in it: "train", "val" or "test".
        list: A text file of paths: its own path, below the root or from here. No list: every image.

    Raises:
        UnknownNameError: The split's name is not one of these.
        DataError: There is no such folder, no such split in it, no image, or not what the list names.
    """

    gives = frozenset({"image"})

    def __init__(self, root: str | Path, split: str = "all", *, list: str = ""):  # as a user writes it: ?list=val.txt
        self.root = Path(root)
        there = [name for name in ("train", "val", "test") if (self.root / name).is_dir()]
        if self.root.is_dir():  # else find_images says it better
            check_split(split, [*there, "all"], f"folder {self.root}")
        below = self.root if split == "all" else self.root / split
        self.paths = listed_images(_list_file(self.root, list), below) if list else find_images(below)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"image": self.image(index)}

    def image(self, index: int) -> Tensor:
        """Return image `index`, (3, H, W) float32 RGB in [0, 1]."""
        return read_image(self.paths[index])

    def describe(self, index: int) -> str:
        """Return the image's path below the root, with forward slashes."""
        return self.paths[index].relative_to(self.root).as_posix()


def listed_images(path: Path, below: Path) -> list[Path]:
    """Return the images a list names, in its order.

    Args:
        path: The list: one path a line, with forward slashes. Blank lines are passed over, and the last line needs
            no end.
        below: The folder the paths are below.

    Raises:
        DataError: The list cannot be read or is empty, or a line names something twice, outside, or not there.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected a text file of paths, found one that does not read ({error})") from error
    named = {number: line.strip() for number, line in enumerate(lines, 1) if line.strip()}
    there = lru_cache(maxsize=None)(lambda folder: frozenset(os.listdir(folder)) if folder.is_dir() else frozenset())
    first: dict[str, int] = {}
    for number, name in named.items():
        file = below / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise DataError(f"{path}, line {number}: expected a path below {below}, found {name}; write it from there")
        if file.name not in there(file.parent):
            raise DataError(f"{path}, line {number}: names {file}, which is not there; complete the data or the list")
        if first.setdefault(name, number) != number:
            raise DataError(f"{path}, line {number}: names {name} again, as line {first[name]} does; take one out")
    if not named:
        raise DataError(f"{path}: expected paths, one a line, found none; complete the list")
    return [below / name for name in named.values()]


def _list_file(root: Path, said: str) -> Path:
    """Return the file a list is in: below the root, or as it stands."""
    return next((path for path in (root / said, Path(said)) if path.is_file()), root / said)
