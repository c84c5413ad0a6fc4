"""LSUN scenes (Yu et al. 2015): millions of images of rooms, one LMDB database per category and split.

    <root>/{bedroom,dining_room,living_room,kitchen,…}_{train,val}_lmdb/{data.mdb,lock.mdb}
    <root>/<category>_{train,val}/**          the same, exported to files (any nesting; named after their keys)
    <root>/<category>/**                      exported, without a split

A database maps a key (40 hexadecimal digits) to an encoded image. The encoding differs between releases (JPEG,
WebP), so it is detected from the bytes.

`each=300000` selects that many images of every category by seed and key (`smallest_by_seed`): exported files give the
same images as the database.

LMDB maps a file into memory: reading beyond the end of a truncated file would kill the process by a signal, so the
file's length is first compared with its own record. A process may open a database once, by whatever path, and must
not use a handle from before a fork: handles are stored per file (device and inode) and process, and opened on first
use. Nothing is locked or written, so a read-only disk and any number of workers are fine.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from cka_probe import registry
from cka_probe.errors import DataError
from cka_probe.images.classes import Classes
from cka_probe.images.datasets import check_split
from cka_probe.images.reading import decode_image, is_hidden
from cka_probe.lab.datasets import fields
from cka_probe.lab.datasets.imagenet import Categorised, images_below, smallest_by_seed

if TYPE_CHECKING:
    import lmdb

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
    """Images in databases, each of one category; a name is the folder of the database and the key of the image."""

    def image(self, index: int) -> Tensor:
        """Return image `index`, (3, H, W) float32 RGB in [0, 1]."""
        name = self.describe(index)
        folder, _, key = name.partition("/")
        return decode_image(value_of(self.root / folder, os.fsencode(key)), str(self.root / name))


def lsun(root: str | Path, split: str = "all", *, categories: str = "", each: int = 0, seed: int = 0) -> Categorised:
    """Return LSUN scenes, from databases or from exported files.

    Args:
        root: The folder.
        split: "train" or "val" if they exist, or "all".
        categories: Some of the categories, by commas; by default all. Class k is the k-th by name.
        each: Number of images of each category; 0 for all.
        seed: Seed of their choice.

    Returns:
        A dataset that gives `image` and `category`.

    Raises:
        UnknownNameError: There is no such split or category.
        DataError: There is neither a database nor an exported folder, or a database is broken or has too few images.
    """
    root = Path(root)
    parts = _parts_of(root, split, categories)
    classes = sorted({part.category for part in parts})
    names, numbers = [], []
    for number, category in enumerate(classes):
        names.append(_sampled([part for part in parts if part.category == category], each, seed))
        numbers.append(np.full(len(names[-1]), number))
    kind = Databases if parts[0].database else Categorised
    return kind(root, np.concatenate(names), np.concatenate(numbers), Classes(tuple(classes)))


def _parts_of(root: Path, split: str, categories: str) -> list[Part]:
    """Return the parts of a split and of some categories, all of one kind, sorted by name."""
    parts = _parts(root)
    splits = sorted({part.split for part in parts} - {""})
    check_split(split, [*splits, "all"], f"LSUN at {root}")
    parts = [part for part in parts if split in (part.split, "all")]
    known = {part.category: part.category for part in parts}
    names = [name.strip() for name in categories.split(",") if name.strip()] or list(known)
    selection = {registry.get(known, name, f"category in LSUN at {root}") for name in names}
    parts = [part for part in parts if part.category in selection]
    kinds = {part.database: part.path.name for part in parts}
    if len(kinds) > 1:
        raise DataError(
            f"expected LSUN at {root} as databases or as exported files, found both ({kinds[True]} and "
            f"{kinds[False]}); choose with categories=, or keep one of them"
        )
    return parts


def _parts(root: Path) -> list[Part]:
    """Return every database and every folder with an image in it, sorted by name."""
    fields.check_folder(root, "LSUN")
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not is_hidden(path.name))
    if folders and all(re.fullmatch("[0-9a-f]", path.name) for path in folders):
        raise DataError(
            f"expected a folder for each category at {root}, found the folders of one export ({folders[0].name}, …); "
            "give the folder above it, in which this one has the name of its category"
        )
    parts = []
    for path in folders:
        match = _NAME.fullmatch(path.name)
        assert match is not None
        category, split, database = match.groups()
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


def _sampled(parts: list[Part], each: int, seed: int) -> np.ndarray:
    """Return the names of the images of one category, (n,) bytes below the root."""
    names, keys = (np.concatenate(arrays) for arrays in zip(*map(_names_and_keys, parts), strict=True))
    if each <= 0:
        return names
    if len(names) < each:
        raise DataError(
            f"expected {each} images of {parts[0].category} in {parts[0].path.parent}, found {len(names)}; ask for "
            "fewer with each="
        )
    return names[smallest_by_seed(keys, each, seed)]


def _names_and_keys(part: Part) -> tuple[np.ndarray, np.ndarray]:
    """Return the paths of the images of a part below the root, and their keys, both (n,) bytes."""
    prefix = part.path.name + "/"
    if part.database:
        keys = keys_of(part.path)
        return np.char.add(os.fsencode(prefix), keys), keys
    names = images_below(part.path)
    keys = np.array([os.fsencode(Path(name).stem) for name in names])
    return np.array([os.fsencode(prefix + name) for name in names]), keys


_OPEN: dict[tuple[int, int], tuple[str, tuple[int, ...], "lmdb.Environment"]] = {}
"""By file: its path, the process that opened it and its state then, and the handle."""


def keys_of(folder: Path) -> np.ndarray:
    """Return the keys of a database in its order, (n,) bytes.

    Args:
        folder: The folder with `data.mdb`.

    Raises:
        DataError: The database is broken, truncated or empty, or its keys differ in length.
    """
    database = _opened(folder)
    import lmdb  # after `_opened`, which names the extra if it is missing

    try:
        count = database.stat()["entries"]
        with database.begin() as reading, reading.cursor() as cursor:
            width = len(cursor.key()) if cursor.first() else 0
            keys = np.fromiter((_of(width, key, folder) for key in cursor.iternext(values=False)), f"S{width or 1}")
    except lmdb.Error as error:
        raise DataError(f"{folder}: cannot list the keys of the database ({error}); fetch it again") from error
    if not len(keys) == count > 0:
        raise DataError(f"{folder}: expected a database of {count or 'some'} images, found {len(keys)}; fetch it again")
    return keys


def value_of(folder: Path, key: bytes) -> bytes:
    """Return the value of a key.

    Raises:
        DataError: The database is broken or truncated, or does not have the key.
    """
    database = _opened(folder)
    import lmdb  # after `_opened`, which names the extra if it is missing

    try:
        with database.begin() as reading:
            value = reading.get(key)
    except lmdb.Error as error:
        raise DataError(f"{folder}: cannot read {key!r} ({error}); fetch it again") from error
    if value is None:
        raise DataError(f"{folder}: expected an image under {key!r}, found none; list it again")
    return value


def _of(width: int, key: bytes, folder: Path) -> bytes:
    """Return a key, which has to be as long as the first one."""
    if len(key) != width:
        raise DataError(f"{folder}: expected keys of {width} bytes, as the first is, found {key!r}; fetch it again")
    return key


def _opened(folder: Path) -> "lmdb.Environment":
    """Return the handle of a database in this process."""
    try:
        import lmdb  # only databases need the extra
    except ModuleNotFoundError as error:
        raise registry.missing_extra(error) from error
    real_path = os.path.realpath(folder)
    try:
        state = os.stat(os.path.join(real_path, "data.mdb"))
    except OSError as error:
        raise DataError(f"{folder}: expected an LMDB database, found no data.mdb ({error.strerror})") from error
    file, now = (state.st_dev, state.st_ino), (os.getpid(), state.st_size, state.st_mtime_ns)
    if file in _OPEN and _OPEN[file][1] == now:
        return _OPEN[file][2]
    for other in [other for other, (path, _, _) in _OPEN.items() if other == file or path == real_path]:
        _OPEN.pop(other)[2].close()  # forked with it, or the file has changed or been replaced
    try:
        database = lmdb.open(real_path, readonly=True, lock=False, readahead=False, meminit=False)
    except lmdb.Error as error:
        raise DataError(f"{folder}: expected an LMDB database, found one that does not open ({error})") from error
    length = (database.info()["last_pgno"] + 1) * database.stat()["psize"]
    if state.st_size < length:
        database.close()
        raise DataError(f"{folder / 'data.mdb'} is truncated: {state.st_size} of {length} bytes; fetch it again")
    _OPEN[file] = (real_path, now, database)
    return database
