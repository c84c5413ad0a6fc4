"""Images in a folder for each class: ImageNet (Deng et al. 2009), Caltech-101 and others in the same layout.

    <root>/{train,val}/<class>/*.JPEG        ImageNet; classes are WordNet ids
    <root>/<class>/*                         no splits, as in Caltech-101

Class k is the k-th folder by name, of "train" if it exists, so that a class without images in another split does not
change the numbers of the others. `num=1200000` selects that many images by seed and path (`smallest_by_seed`), to
compare training on sets of the same size. Names are stored as bytes in one array: about 40 MB for the 1.3 million of
ImageNet, and more than ten times that as Python objects, once for each worker.
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
from cka_probe.lab.datasets import fields


class Categorised:
    """Images in files, each of one category.

    Args:
        root: The folder that names are relative to.
        names: (n,) bytes: paths below the root, with forward slashes.
        numbers: (n,) int64: the class of each.
        classes: Names of the classes.
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
        """Return the path of the image below the root, with forward slashes."""
        return os.fsdecode(self.names[index])


def imagenet(root: str | Path, split: str = "all", *, num: int = 0, seed: int = 0) -> Categorised:
    """Return images whose category is their folder.

    Args:
        root: The folder.
        split: "train", "val" or "test" if there is such a folder with folders of classes, or "all".
        num: Number of images; 0 for all.
        seed: Seed of their choice.

    Returns:
        A dataset that gives `image` and `category`, with the names of the folders as `classes`.

    Raises:
        UnknownNameError: No dataset has a split of this name.
        DataError: There are no folders of classes, an image is not in one, a class is missing in "train", or there are
            fewer images than `num`.
    """
    root = Path(root)
    fields.check_folder(root, "folders of classes")
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
            files = images_below(part / folder)
            names += [os.fsencode((part / folder).relative_to(root).as_posix() + "/" + name) for name in files]
            categories += [classes.index(folder)] * len(files)
    if not names:
        raise DataError(f"no images below {root}: expected folders of classes with images in them, or train/ of such")
    if num > len(names):
        raise DataError(f"expected {num} images below {root}, found {len(names)}; ask for fewer with num=")
    paths, numbers = np.array(names), np.array(categories)
    selection = smallest_by_seed(paths, num, seed) if num > 0 else slice(None)
    return Categorised(root, paths[selection], numbers[selection], Classes(tuple(classes)))


def images_below(folder: Path) -> list[str]:
    """Return the paths below a folder of every image in it, sorted, with forward slashes."""
    return sorted(below + name for below, names in walk_images(folder) for name in names)


def _folders(path: Path) -> list[str]:
    """Return the names of the folders in a folder, sorted; a missing folder has none."""
    if not path.is_dir():
        return []
    with os.scandir(path) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not is_hidden(entry.name))


def _checked(part: Path, classes: Sequence[str], first: Path) -> list[str]:
    """Return the folders of a split; all have to be classes, and every image has to be in one."""
    folders = _folders(part)
    unknown = [folder for folder in folders if folder not in set(classes)]
    if unknown:
        raise DataError(f"{part / unknown[0]}: expected one of the {len(classes)} classes of {first}; rename it")
    stray = sorted(path.name for path in images_in(part) if path.is_file())
    if stray:
        raise DataError(
            f"expected every image of {part} in the folder of its class, found {len(stray)} next to them, first: "
            f"{stray[0]}; sort them in, or read them as folder:{part}"
        )
    return folders


def smallest_by_seed(keys: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return the positions of the keys whose hashes with the seed are the smallest.

    So the choice depends neither on the order of a database nor on the machine, and a smaller choice is part of a
    larger one.

    Args:
        keys: (n,) bytes.
        count: Number of keys to choose.
        seed: Any integer.

    Returns:
        (count,) positions in `keys`, ascending.
    """
    width = -(-keys.dtype.itemsize // 8) * 8
    words = keys.astype(f"S{width}").view("<u8").reshape(len(keys), -1)
    mixed = _mix(np.full(len(keys), seed % (1 << 64), np.uint64))
    for column in words.T:
        mixed = np.where(column == 0, mixed, _mix(mixed ^ column))  # zeros pad shorter keys
    return np.sort(np.lexsort((keys, mixed))[:count])


def _mix(numbers: np.ndarray) -> np.ndarray:
    """Return 64-bit numbers mixed by a hash, modulo 2^64 (the finaliser of SplitMix64; Steele, Lea & Flood 2014)."""
    numbers = numbers + np.uint64(0x9E3779B97F4A7C15)
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = numbers ^ (numbers >> np.uint64(31))
    return mixed
