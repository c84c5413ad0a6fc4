"""LSUN scenes (Yu et al. 2015): millions of images of rooms, an LMDB database for each category and split.

    <root>/{bedroom,dining_room,living_room,kitchen,…}_{train,val}_lmdb/{data.mdb,lock.mdb}
    <root>/<category>_{train,val}/**          the same, exported to files (any nesting; named after their keys)
    <root>/<category>/**                      exported, of no split

A database takes a key (40 hexadecimal digits) to an encoded image. Which encoding is not said and differs between
the releases (JPEG, WebP), so the bytes are looked at.

`each=300000` takes that many images of every category: those whose keys, mixed with the seed, give the smallest
numbers. Such a choice does not depend on the order of the database or on the machine, the images of a smaller
choice are among those of a larger one, and exported files give the same images as the database.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from cka_probe import registry
from cka_probe.errors import DataError
from cka_probe.images.classes import Classes
from cka_probe.images.datasets import check_split
from cka_probe.images.reading import decode_image
from cka_probe.images.sampling import smallest_by_seed
from cka_probe.lab.datasets.databases import keys_of, value_of
from cka_probe.lab.datasets.imagenet import Categorised, images_below

_NAME = re.compile(r"(.+?)(?:_(train|val))?(_lmdb)?", re.DOTALL)


@dataclass(frozen=True)
class Part:
    """A folder of images of one category: a database, or files.

    Attributes:
        path: The folder.
        category: What they show.
        split: "train", "val" or "".
        database: Whether it is an LMDB database.
    """

    path: Path
    category: str
    split: str
    database: bool


class Databases(Categorised):
    """Images out of databases, each of one category; a name is the database's folder and the image's key."""

    def image(self, index: int) -> Tensor:
        """Return image `index`, (3, H, W) float32 RGB in [0, 1]."""
        name = self.describe(index)
        folder, _, key = name.partition("/")
        return decode_image(value_of(self.root / folder, key.encode("ascii")), str(self.root / name))


def lsun(root: str | Path, split: str = "all", *, categories: str = "", each: int = 0, seed: int = 0) -> Categorised:
    """Return LSUN scenes, from databases or from exported files.

    Args:
        root: The folder.
        split: "train" or "val" where there are such, or "all".
        categories: Some of those that are there, by commas; all of them by default. Class k is the k-th by name.
        each: How many of each category; 0: all of them.
        seed: Which ones, if not all.

    Returns:
        A dataset that gives `image` and `category`.

    Raises:
        UnknownNameError: There is no such split or category.
        DataError: There is neither a database nor an exported folder, a database is broken, or has too few images.
    """
    root = Path(root)
    parts = _wanted(root, split, categories)
    classes = sorted({part.category for part in parts})
    names, numbers = [], []
    for number, category in enumerate(classes):
        names.append(_chosen([part for part in parts if part.category == category], each, seed))
        numbers.append(np.full(len(names[-1]), number))
    kind = Databases if parts[0].database else Categorised
    return kind(root, np.concatenate(names), np.concatenate(numbers), Classes(tuple(classes)))


def _wanted(root: Path, split: str, categories: str) -> list[Part]:
    """Return the parts of a split and of some categories, all of one kind, sorted by name."""
    parts = _parts(root)
    splits = sorted({part.split for part in parts} - {""})
    check_split(split, [*splits, "all"], f"LSUN at {root}")
    parts = [part for part in parts if split in (part.split, "all")]
    there = {part.category: part.category for part in parts}
    said = [name.strip() for name in categories.split(",") if name.strip()] or list(there)
    wanted = {registry.get(there, name, f"category in LSUN at {root}") for name in said}
    parts = [part for part in parts if part.category in wanted]
    kinds = {part.database: part.path.name for part in parts}
    if len(kinds) > 1:
        raise DataError(
            f"expected LSUN at {root} as databases or as exported files, found both ({kinds[True]} and "
            f"{kinds[False]}); choose with categories=, or keep one of them"
        )
    return parts


def _parts(root: Path) -> list[Part]:
    """Return every database and every folder with an image in it, sorted by name."""
    if not root.is_dir():
        raise DataError(f"expected LSUN at {root}, found {'a file' if root.exists() else 'nothing there'}")
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if folders and all(re.fullmatch("[0-9a-f]", path.name) for path in folders):
        raise DataError(
            f"expected a folder for each category at {root}, found the folders of one export ({folders[0].name}, …); "
            "give the folder above, in which this one is called after its category"
        )
    parts = []
    for path in folders:
        category, split, database = _NAME.fullmatch(path.name).groups()
        if database and split and not (path / "data.mdb").is_file():
            raise DataError(f"{path}: expected an LMDB database, found no data.mdb in it; unpack it again")
        if (path / "data.mdb").is_file() and split:
            parts.append(Part(path, category, split, True))
        elif not database and images_below(path):
            parts.append(Part(path, category, split or "", False))
    if not parts:
        raise DataError(
            f"expected LSUN at {root}: <category>_train_lmdb/data.mdb, or exported files below <category>/; found "
            "neither; give the folder that holds them"
        )
    return parts


def _chosen(parts: list[Part], each: int, seed: int) -> np.ndarray:
    """Return the names of the images of one category, (n,) bytes below the root."""
    listed = [_listed(part) for part in parts]
    names, keys = (np.concatenate(arrays) for arrays in zip(*listed, strict=True))
    if each <= 0:
        return names
    if len(names) < each:
        raise DataError(
            f"expected {each} images of {parts[0].category} in {parts[0].path.parent}, found {len(names)}; ask for "
            "fewer with each="
        )
    return names[smallest_by_seed(keys, each, seed)]


def _listed(part: Part) -> tuple[np.ndarray, np.ndarray]:
    """Return (names below the root, keys) of a part's images, both (n,) bytes."""
    prefix = part.path.name + "/"
    if part.database:
        keys = keys_of(part.path)
        return np.char.add(os.fsencode(prefix), keys), keys
    names = images_below(part.path)
    return np.array([os.fsencode(prefix + name) for name in names]), np.array(
        [os.fsencode(Path(n).stem) for n in names]
    )
