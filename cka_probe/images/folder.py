"""Any folder of images, with or without subfolders (an ImageNet folder too).

Subfolders named `train`, `val` or `test` are its splits; the split "all" is every image below the root. Other
subfolders have no meaning here: they are not classes.

A list selects images and sets their order: a text file with one path per line, relative to the folder of the split.
"""

import os
from functools import lru_cache
from pathlib import Path

from torch import Tensor

from cka_probe.errors import DataError
from cka_probe.images.datasets import check_split
from cka_probe.images.reading import find_images, read_image, read_pixels, unread_files


class Folder:
    """The images below a folder, sorted by path or in the order of a list.

    Args:
        root: The folder.
        split: "all", or the name of a folder in it: "train", "val" or "test".
        list: A text file of paths; its own path is below the root or relative to the working directory. By default
            every image.

    Raises:
        UnknownNameError: The split has another name.
        DataError: There is no such folder, split or image, or an image of the list is missing.
    """

    gives = frozenset({"image"})

    def __init__(self, root: str | Path, split: str = "all", *, list: str = ""):  # users write ?list=val.txt
        self.root = Path(root)
        splits = [name for name in ("train", "val", "test") if (self.root / name).is_dir()]
        if self.root.is_dir():  # else find_images raises a clearer error
            check_split(split, [*splits, "all"], f"folder {self.root}")
        self.listed = bool(list)
        below = self.root if split == "all" else self.root / split
        if list:
            path = next((file for file in (self.root / list, Path(list)) if file.is_file()), self.root / list)
            self.paths = listed_images(path, below)
        else:
            self.paths = find_images(below)
        self._folder = below

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"image": self.image(index)}

    def image(self, index: int) -> Tensor:
        """Return image `index`, (3, H, W) float32 RGB in [0, 1]."""
        return read_image(self.paths[index])

    def pixels(self, index: int, decode_size: int | None = None) -> Tensor:
        """Return image `index`, (3, H, W) uint8 RGB; `decode_size` as in `images.reading.decode_pixels`."""
        return read_pixels(self.paths[index], decode_size)

    def unread(self) -> str:
        """Return a sentence that counts and names files in the folder that are no images, or "" if there are none."""
        return "" if self.listed else unread_files(self._folder)

    def describe(self, index: int) -> str:
        """Return the image's path below the root, with forward slashes."""
        return self.paths[index].relative_to(self.root).as_posix()


def listed_images(path: Path, below: Path) -> list[Path]:
    """Return the images a list names, in its order.

    Args:
        path: The list: one path a line, with forward slashes; blank lines are ignored.
        below: The folder that the paths are relative to.

    Raises:
        DataError: The list cannot be read or is empty, or a path is repeated, missing, or outside the folder.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: expected a text file of paths, found one that cannot be read ({error}); check the list"
        ) from error
    names = {number: line.strip() for number, line in enumerate(lines, 1) if line.strip()}
    entries = lru_cache(maxsize=None)(lambda folder: frozenset(os.listdir(folder)) if folder.is_dir() else frozenset())
    first: dict[str, int] = {}
    for number, name in names.items():
        file = below / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise DataError(f"{path}, line {number}: expected a path below {below}, found {name}; correct the list")
        if file.name not in entries(file.parent):
            raise DataError(f"{path}, line {number}: names {file}, which is not there; complete the data or the list")
        if first.setdefault(name, number) != number:
            raise DataError(f"{path}, line {number}: names {name} again, as line {first[name]} does; remove one")
    if not names:
        raise DataError(f"{path}: expected paths, one a line, found none; complete the list")
    return [below / name for name in names.values()]
