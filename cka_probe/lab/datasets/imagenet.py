"""Images sorted into a folder for each class: ImageNet (Deng et al. 2009), Caltech-101 and whatever else lies so.

    <root>/{train,val}/<class>/*.JPEG        ImageNet; classes are WordNet ids
    <root>/<class>/*                         no splits, as Caltech-101 comes

Class k is the k-th folder by name, of "train" where there is one, so that a class whose images are missing
elsewhere moves no other. `num=1200000` takes that many of all images, chosen by seed and path: as many as another
set has, so that two sets differ in what they show and not in how much. Names are kept as bytes in one array:
ImageNet's 1.3 million are some 40 MB this way, and more than ten times that as Python objects, once for each worker.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cka_probe.errors import DataError
from cka_probe.images.classes import Classes
from cka_probe.images.datasets import check_split
from cka_probe.images.reading import images_in, is_hidden, read_image, walk_images
from cka_probe.lab.datasets.name_sampling import smallest_by_seed


class Categorised:
    """Images in files, each of one category.

    Args:
        root: What names are relative to.
        names: (n,) bytes: paths below the root, with forward slashes.
        numbers: (n,) int64: the class of each.
        classes: What the numbers mean.
    """

    gives = frozenset({"image", "category"})

    def __init__(self, root: Path, names: np.ndarray, numbers: np.ndarray, classes: Classes):
        self.root, self.names, self.numbers, self.classes = root, names, numbers, classes

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"image": self.image(index), "category": torch.tensor(int(self.numbers[index]))}

    def image(self, index: int) -> Tensor:
        """Return image `index`, (3, H, W) float32 RGB in [0, 1]."""
        return read_image(self.root / self.describe(index))

    def describe(self, index: int) -> str:
        """Return the image's path below the root, with forward slashes."""
        return os.fsdecode(self.names[index])


def imagenet(root: str | Path, split: str = "all", *, num: int = 0, seed: int = 0) -> Categorised:
    """Return images with the folder they lie in as their category.

    Args:
        root: The folder.
        split: "train", "val" or "test" where there is such a folder with folders of classes in it, or "all".
        num: How many images; 0: all of them.
        seed: Which ones, if not all.

    Returns:
        A dataset that gives `image` and `category`, and whose `classes` are named after the folders.

    Raises:
        UnknownNameError: There is no split of that name anywhere.
        DataError: There are no folders of classes, an image lies beside them, a class is not one of "train", or there
            are fewer images than `num`.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"expected folders of classes at {root}, found {'a file' if root.exists() else 'nothing'}")
    splits = [name for name in ("train", "val", "test") if _folders(root / name)]
    if split not in splits and (root / split).is_dir() and splits:
        raise DataError(
            f"expected folders of classes in {root / split}, found none; sort its images into their classes' folders"
        )
    check_split(split, [*splits, "all"], f"the classes at {root}")
    parts = [root / name for name in (splits if split == "all" else [split])] if splits else [root]
    classes = _folders(root / splits[0]) if splits else _folders(root)
    names, categories = [], []
    for part in parts:
        for folder in _checked(part, classes, root / splits[0] if splits else root):
            found = images_below(part / folder)
            names += [os.fsencode((part / folder).relative_to(root).as_posix() + "/" + name) for name in found]
            categories += [classes.index(folder)] * len(found)
    if not names:
        raise DataError(f"no images below {root}: expected folders of classes with images in them, or train/ of such")
    if num > len(names):
        raise DataError(f"expected {num} images below {root}, found {len(names)}; ask for fewer with num=")
    paths, numbers = np.array(names), np.array(categories)
    chosen = smallest_by_seed(paths, num, seed) if num > 0 else slice(None)
    return Categorised(root, paths[chosen], numbers[chosen], Classes(tuple(classes)))


def images_below(folder: Path) -> list[str]:
    """Return the paths below a folder of every image in it, sorted, with forward slashes."""
    return sorted(below + name for below, names in walk_images(folder) for name in names)


def _folders(path: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted; none where it is missing."""
    if not path.is_dir():
        return []
    with os.scandir(path) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not is_hidden(entry.name))


def _checked(part: Path, classes: Sequence[str], first: Path) -> list[str]:
    """Return the folders of a split, all of them classes, with no image that has no class."""
    folders = _folders(part)
    unknown = [folder for folder in folders if folder not in set(classes)]
    if unknown:
        raise DataError(f"{part / unknown[0]}: expected one of the {len(classes)} classes of {first}; rename it")
    stray = sorted(path.name for path in images_in(part) if path.is_file())
    if stray:
        raise DataError(
            f"expected every image of {part} in the folder of its class, found {len(stray)} beside them, first: "
            f"{stray[0]}; sort them in, or read them as folder:{part}"
        )
    return folders
