"""Write files completely or not at all: to a temporary file, then rename; and read what ckaprobe wrote in a header.

After an interruption, a full disk or an error half-way, the file is what it was before, or absent.
"""

import errno
import glob
import json
import os
import re
import shutil
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from cka_probe.errors import OutputError

HOST = socket.gethostname()
"""Of this machine, in the names of temporary folders: a folder may be shared by several."""

WRITING = re.compile(r"PytorchStreamWriter|inline_container|IoError|I/O error|basic_ios|[Ff]ile write")
"""Messages of torch and safetensors about errors of the disk."""


def make_folder(path: Path) -> None:
    """Create a folder and its parents unless they exist, even while another process removes and creates it.

    `Path.mkdir(exist_ok=True)` raises `FileExistsError` if the folder disappears between its two looks at it.

    Raises:
        OSError: It cannot be created; `FileExistsError`, there is a file.
    """
    while True:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            if os.path.lexists(path) and not path.is_dir():
                raise
        else:
            return


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path to write to, which replaces `path` on success and is deleted on failure.

    The folder is created if it does not exist. The temporary file has the name of `path`, so that writers that choose a
    format by the suffix choose the same one, and a hidden folder of its own next to it: safetensors writes to another
    temporary file first, which a killed process leaves.

    Args:
        path: The file to write.

    Raises:
        OutputError: The path cannot be written, the disk is full, or the path is a device or a pipe.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "scores.txt"
    >>> with atomic_write(path) as temporary:
    ...     _ = temporary.write_text("0.9")
    >>> path.read_text()
    '0.9'
    """
    path = Path(path)
    folder = path.with_name(f".{os.getpid()}@{HOST}.{path.name}")  # for what a writer leaves, too, when it is killed
    temporary = folder / path.name
    try:
        if path.exists() and not path.is_file() and not path.is_dir():  # renaming over a folder raises its own error
            raise OutputError(f"cannot write {path}: it is a device or a pipe, not a file; choose another path")
        make_folder(path.parent)
        remove_abandoned(path.parent)
        make_folder(folder)
        temporary.touch()
        mode = temporary.stat().st_mode  # safetensors writes files that only their owner can read
        temporary.unlink()
        yield temporary
        temporary.chmod(mode)
        os.replace(temporary, path)
    except OSError as error:
        if error.filename is not None and Path(error.filename) not in (path, temporary, *temporary.parents):
            raise  # an error of another file, raised inside the `with` block
        raise OutputError(f"cannot write {path}: {_reason(error)}") from error
    except (RuntimeError, SafetensorError) as error:  # what torch and safetensors raise for errors of the disk
        if not WRITING.search(str(error)):
            raise
        reason = "the disk is full, or does not take the file; free some space, or choose another folder"
        raise OutputError(f"cannot write {path}: {reason}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary folders within a folder whose processes, of this machine, were killed."""
    if os.name == "nt":  # there, to ask for a process ends it
        return
    for path in folder.glob(f".*@{glob.escape(HOST)}.*"):
        process = path.name[1:].partition("@")[0]
        if process.isdecimal() and not _is_running(int(process)):
            shutil.rmtree(path, ignore_errors=True)


def _is_running(process: int) -> bool:
    """Return whether this machine has a process of a number."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # of another user
        return True
    return True


def check_writable(folder: str | Path) -> None:
    """Create a folder if it does not exist, and check before the work that files can be written to it.

    Raises:
        OutputError: They cannot.
    """
    path = Path(folder) / ".writable"
    try:
        with atomic_write(path) as temporary:
            temporary.touch()
    except OutputError as error:
        raise OutputError(str(error).replace(str(path), f"to {folder}", 1)) from error
    path.unlink(missing_ok=True)  # another process checks the same folder


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Raise `OutputError`, that `what` cannot be written and why, for errors of the file system."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write {what}: {_reason(error)}") from error


def _reason(error: OSError) -> str:
    """Return what went wrong and what to do about it, for a message."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "no space left; free some and run the same command again, or choose another folder"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "no permission to write there; choose another folder"
    if error.errno in (errno.EEXIST, errno.ENOTDIR, errno.EISDIR):
        return "a file is where a folder is needed, or a folder where a file is; choose another path"
    if error.errno == errno.ENOENT:
        return "the folder does not exist and cannot be created; choose another one"
    return error.strerror or str(error)


def check_regular(path: str | Path) -> None:
    """Check that a path is no pipe or device, the opening of which may wait for ever.

    Raises:
        OSError: It is one, or there is nothing.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError("a device or a pipe")


def read_json(path: str | Path) -> Any:
    """Return what a JSON file in UTF-8 holds.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not JSON, not UTF-8, or nested more deeply than Python reads.
    """
    check_regular(path)
    return parse_json(Path(path).read_text(encoding="utf-8"))


def parse_json(text: str) -> Any:
    """Return what JSON says.

    Raises:
        ValueError: It is not JSON, or nested more deeply than Python reads.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("JSON that is nested too deeply") from error


def is_safetensors(path: str | Path) -> bool:
    """Return whether a file starts as safetensors files do: the length of the header in 8 bytes, then JSON."""
    try:
        if not Path(path).is_file():  # to read from a pipe would block
            return False
        with open(path, "rb") as file:
            start = file.read(9)
    except OSError:
        return False
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") < 1 << 32


def read_metadata(path: str | Path) -> dict[str, Any] | None:
    """Return what ckaprobe wrote as JSON in the header of a safetensors file, or None for any other file.

    Raises:
        SafetensorError: The file is damaged.
        ValueError: Its header has something else there.
    """
    if not is_safetensors(path):
        return None
    with safe_open(path, framework="pt") as file:
        text = (file.metadata() or {}).get("ckaprobe")
    return None if text is None else parse_json(text)
