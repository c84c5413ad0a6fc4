"""LMDB databases of images, read and never written to.

LMDB maps a file into memory and trusts it: reading beyond the end of a file that was cut short ends the process by a
signal, so the file's length is held against its own record first. A process may have a database open once, by
whatever path, and must not use a handle it was forked with: the handles are kept here, one for each file (its device
and number) and process, and opened when needed.
Nothing is locked and nothing is written, so that a read-only disk and any number of workers will do.
"""

import os
from pathlib import Path

import lmdb
import numpy as np

from cka_probe.errors import DataError

_OPEN: dict[tuple[int, int], tuple[str, tuple[int, ...], lmdb.Environment]] = {}
"""By file: the path it was opened at, the process and the state of the file then, and the handle."""


def keys_of(folder: Path) -> np.ndarray:
    """Return the keys of a database in its order, (n,) bytes.

    Args:
        folder: The folder with `data.mdb`.

    Raises:
        DataError: It is no database, cut short, empty, or its keys differ in length.
    """
    database = _opened(folder)
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
    """Return what a database has under a key.

    Raises:
        DataError: It is no database, cut short, or has nothing there.
    """
    database = _opened(folder)
    try:
        with database.begin() as reading:
            value = reading.get(key)
    except lmdb.Error as error:
        raise DataError(f"{folder}: cannot read {key!r} ({error}); fetch it again") from error
    if value is None:
        raise DataError(f"{folder}: expected an image under {key!r}, found none; list it anew")
    return value


def _of(width: int, key: bytes, folder: Path) -> bytes:
    """Return a key, which must be as long as the first one."""
    if len(key) != width:
        raise DataError(f"{folder}: expected keys of {width} bytes, as the first is, found {key!r}; fetch it again")
    return key


def _opened(folder: Path) -> lmdb.Environment:
    """Return this process's handle of a database."""
    place = os.path.realpath(folder)
    try:
        state = os.stat(os.path.join(place, "data.mdb"))
    except OSError as error:
        raise DataError(f"{folder}: expected an LMDB database, found no data.mdb ({error.strerror})") from error
    file, now = (state.st_dev, state.st_ino), (os.getpid(), state.st_size, state.st_mtime_ns)
    if file in _OPEN and _OPEN[file][1] == now:
        return _OPEN[file][2]
    for other in [other for other, (path, _, _) in _OPEN.items() if other == file or path == place]:
        _OPEN.pop(other)[2].close()  # forked with it, or the file has changed or been replaced
    try:
        database = lmdb.open(place, readonly=True, lock=False, readahead=False, meminit=False)
    except lmdb.Error as error:
        raise DataError(f"{folder}: expected an LMDB database, found one that does not open ({error})") from error
    wanted = (database.info()["last_pgno"] + 1) * database.stat()["psize"]
    if state.st_size < wanted:
        database.close()
        raise DataError(f"{folder / 'data.mdb'} is cut short: {state.st_size} of {wanted} bytes; fetch it again")
    _OPEN[file] = (place, now, database)
    return database
