"""One set made by many: who does which world, and a hidden place where the set grows.

A set wanted at `data/rooms` grows in `data/.rooms.making`:

    worlds.json      what is made; others who want something else there are refused
    lock             held while the folder is made, and while the set is finished
    claims/000007    held (flock) by whoever makes world 7; when it is done, the line that says so is in it
    tree/, parts/    see `layouts.layout.Place`

A process that dies loses its locks, not what it has finished: whoever comes next makes what has no line. All
processes must see one file system with working locks (a local disk; NFS from version 4 on). At the end `tree` is
renamed to the wanted place, which is there whole or not at all.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from cka_probe.errors import OutputError
from cka_probe.lab.scenes.layouts.layout import Place

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

NOTE = "worlds.json"
_GONE = ".gone"


class Making:
    """The hidden place of a growing set.

    Args:
        wanted: Where the set shall be.

    Raises:
        OutputError: This system has no POSIX locks.
    """

    def __init__(self, wanted: Path):
        if fcntl is None:
            raise OutputError(
                "expected a system with POSIX file locks to write worlds on, found none (Windows); write them on "
                "another, or draw them as they are read: --data worlds:rooms"
            )
        self.wanted = wanted
        self.folder = wanted.parent / f".{wanted.name}.making"
        self.place = Place(self.folder / "tree", self.folder / "parts")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder, which is made if it is not there, for oneself.

        Raises:
            OSError: It cannot be made.
        """
        with self._lock():
            yield

    def _lock(self) -> BinaryIO:
        """Return the held file of the lock; closing it lets go."""
        while True:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                file = open(self.folder / "lock", "ab")  # noqa: SIM115 (the caller closes it)
            except FileNotFoundError:
                continue  # whoever held it has finished the set and taken the folder away
            fcntl.flock(file, fcntl.LOCK_EX)
            if _same(file, self.folder / "lock"):
                return file
            file.close()

    def note(self) -> str | None:
        """Return what is made here; None when nobody has said so yet."""
        try:
            return (self.folder / NOTE).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def begin(self, note: str) -> None:
        """Say what is made here; the folder must be locked."""
        (self.folder / "claims").mkdir(exist_ok=True)
        beside = self.folder / f"{NOTE}.new"
        beside.write_text(note, encoding="utf-8")
        os.replace(beside, self.folder / NOTE)

    @contextmanager
    def claim(self, index: int, *, wait: bool) -> Iterator[BinaryIO | None]:
        """Hold a world: give its file, or None while another holds it.

        Args:
            index: The world.
            wait: Whether to wait until it is free.

        Raises:
            FileNotFoundError: Others have finished the set.
        """
        with open(self.folder / "claims" / f"{index:06d}", "a+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield None
                return
            yield file

    def line(self, index: int) -> str | None:
        """Return the line that says that a world is done; None while it is not."""
        try:
            with open(self.folder / "claims" / f"{index:06d}", "rb") as file:
                return line_of(file)
        except FileNotFoundError:
            return None

    def publish(self) -> None:
        """Move the whole tree to where it is wanted; the folder must be locked."""
        if self.wanted.is_dir():
            self.wanted.rmdir()  # an empty one: anything else was refused
        self.wanted.parent.mkdir(parents=True, exist_ok=True)
        os.replace(self.place.tree, self.wanted)

    def remove(self) -> None:
        """Take the folder away; it must be locked."""
        os.replace(self.folder, self.folder.with_name(f"{self.folder.name}.{os.getpid()}{_GONE}"))
        self.sweep()  # nobody meets the folder half removed

    def sweep(self) -> None:
        """Remove what is left of folders taken away, by whomever: a run may be killed while it does this."""
        for path in self.wanted.parent.iterdir():
            if path.name.startswith(f"{self.folder.name}.") and path.name.endswith(_GONE):
                shutil.rmtree(path, ignore_errors=True)  # another may be at it


def line_of(file: BinaryIO) -> str | None:
    """Return what a claim's file says; None while its world is not done. A line cut short says nothing."""
    file.seek(0)
    text = file.read().decode("utf-8", "replace")
    return text if text.endswith("\n") else None


def _same(file: BinaryIO, path: Path) -> bool:
    """Return whether an open file is still the one at a path."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    here = os.fstat(file.fileno())
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
