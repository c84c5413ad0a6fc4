"""Whole files or none: write beside, then rename.

An interrupted run, a full disk or an error half-way leaves the file that was there before, or nothing.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cka_probe.errors import OutputError


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Give a path beside `path` to write to; on success it becomes `path`, on any failure it is gone.

    The folder is made if it is not there. The name given ends as `path` does, so that writers that look at
    the suffix choose the same format.

    Args:
        path: The file that is wanted.

    Yields:
        The path to write to.

    Raises:
        OutputError: The place cannot be written to, or the disk is full; or a device or a pipe is there,
            which must not be renamed over.
    """
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():  # a folder says so when it is renamed over
        raise OutputError(f"cannot write {path}: it is a device or a pipe, not a file; choose another place")
    beside = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = _usual_mode(beside)
        yield beside
        beside.chmod(mode)  # safetensors leaves files that nobody but their writer may read
        os.replace(beside, path)
    except OSError as error:
        if error.filename is not None and Path(error.filename) not in (path, beside, *path.parents):
            raise  # some other file's trouble, met while writing this one
        raise OutputError(f"cannot write {path}: {_reason(error)}") from error
    finally:
        if beside.parent.is_dir():
            beside.unlink(missing_ok=True)


def check_writable(folder: str | Path) -> None:
    """Make a folder if it is not there and find out now, not after the work, whether it can be written to.

    Raises:
        OutputError: It cannot.
    """
    with atomic_write(Path(folder) / ".writable") as beside:
        beside.write_bytes(b"")
    (Path(folder) / ".writable").unlink()


def _usual_mode(path: Path) -> int:
    """Return the permissions that a new file gets here, by making one for a moment."""
    path.touch()
    mode = path.stat().st_mode
    path.unlink()
    return mode


def _reason(error: OSError) -> str:
    """Return what went wrong and what to do about it, in half a line."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "no space left; free some or choose another folder with --out"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "no permission to write there; choose another folder with --out"
    if error.errno in (errno.EEXIST, errno.ENOTDIR, errno.EISDIR):
        return "a file stands where a folder is needed (or a folder where a file is); choose another place"
    return error.strerror or str(error)
