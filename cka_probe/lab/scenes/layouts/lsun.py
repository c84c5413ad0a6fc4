"""LSUN: an LMDB for each category and split.

    ROOT/<category>_<train|val>_lmdb/data.mdb       key: 40 hexadecimal digits; value: a JPEG of quality 75

A key is the SHA-1 of its value. The databases are assembled when all images exist, in the order of the keys, and copied
compactly, so that their bytes do not depend on the order of writing. There is no lock.mdb: LMDB creates one if needed.
"""

import errno
import io
import shutil
from collections.abc import Iterable
from hashlib import sha1
from pathlib import Path

import numpy as np
from PIL import Image

from cka_probe.lab.scenes.layouts.files import write_image
from cka_probe.lab.scenes.layouts.layout import Layout, SetFolders, Unit, Written

QUALITY = 75
_PAGE = 4096
_ROUND = 1000  # images in a transaction


def write(unit: Unit, folders: SetFolders) -> list[str]:
    """Leave the images of one scene as parts, each named by its key."""
    folder = folders.parts / f"{unit.category}_{'val' if unit.test else 'train'}_lmdb"
    folder.mkdir(parents=True, exist_ok=True)
    for _, view, _ in unit.views():
        buffer = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(view.image)).save(buffer, "JPEG", quality=QUALITY)
        (folder / sha1(buffer.getvalue()).hexdigest()).write_bytes(buffer.getvalue())
    return []


def finish(written: Iterable[Written], folders: SetFolders) -> None:
    """Put the databases together."""
    for folder in sorted(folders.parts.glob("*_lmdb")):
        _put_together(folder, folders)


def _put_together(folder: Path, folders: SetFolders) -> None:
    """Write one database of the files in a folder."""
    import lmdb  # only this layout needs the extra

    growing, done = folders.parts / f"{folder.name}.growing", folders.tree / folder.name
    for path in (growing, done):
        shutil.rmtree(path, ignore_errors=True)  # what an interrupted run left
        path.mkdir(parents=True)
    keys = np.sort(np.array([path.name for path in folder.iterdir()], "S40"))
    pages = sum(2 + (folder / key.decode()).stat().st_size // _PAGE for key in keys)
    try:
        with lmdb.open(str(growing), map_size=(1024 + 2 * pages) * _PAGE) as database:
            for start in range(0, len(keys), _ROUND):
                with database.begin(write=True) as transaction:
                    for key in keys[start : start + _ROUND]:
                        transaction.put(bytes(key), (folder / key.decode()).read_bytes(), append=True)
            database.copy(str(done), compact=True)
    except (lmdb.DiskError, lmdb.MapFullError) as error:
        raise OSError(errno.ENOSPC, str(error)) from error
    shutil.rmtree(growing)


LSUN = Layout(
    reader="lsun",
    kinds=("rooms",),
    holds=frozenset({"image", "category"}),
    write=write,
    finish=finish,
)


def write_imagenet(unit: Unit, folders: SetFolders) -> list[str]:
    """Write the images of one scene; its lines are the classes that there are."""
    folder = folders.tree / ("val" if unit.test else "train") / unit.category
    for frame, view, _ in unit.views():
        write_image(folder / f"{unit.name}_{frame}.JPEG", view.image)
    classes = unit.scene.classes
    return [name.replace(" ", "_") for name in classes] if unit.scene.category in classes else [unit.category]


def finish_imagenet(written: Iterable[Written], folders: SetFolders) -> None:
    """Make the folders of the classes."""
    for name in {name for one in written for name in one.lines}:
        (folders.tree / "train" / name).mkdir(parents=True, exist_ok=True)


IMAGENET = Layout(
    reader="imagenet",
    kinds=("objects", "rooms"),
    holds=frozenset({"image", "category"}),
    write=write_imagenet,
    finish=finish_imagenet,
)
