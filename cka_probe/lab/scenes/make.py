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

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from signal import SIG_IGN, SIGINT, signal
from threading import Thread
from typing import BinaryIO

from cka_probe.errors import DataError, OutputError
from cka_probe.lab.scenes.layouts import LAYOUTS
from cka_probe.lab.scenes.layouts.layout import Place, Unit, Written
from cka_probe.lab.scenes.room import USUAL_STYLE
from cka_probe.lab.scenes.settings import Settings, draw_world
from cka_probe.lab.scenes.view import see
from cka_probe.lab.scenes.world import View, World

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


Progress = Callable[[int, int], None]
"""Called with how many more worlds are there, and how many are wanted."""


def make_worlds(root: str | Path, settings: Settings, *, workers: int = 1, progress: Progress | None = None) -> Path:
    """Make a set of worlds at `root`, or go on making it.

    A root that holds the set of the same settings already is left as it is.

    Args:
        root: The folder that is wanted.
        settings: What it is made of.
        workers: Processes that make worlds; a script that asks for more than one is guarded by
            `if __name__ == "__main__"`, as ever with processes.
        progress: Told of each world that is there.

    Returns:
        `root`.

    Raises:
        DataError: There are no workers.
        OutputError: Something else stands or is being made there, it cannot be written, or the disk is full.
    """
    if workers < 1:
        raise DataError(f"expected at least 1 worker, found {workers}; ask for more")
    making = Making(Path(root).resolve())
    if making.wanted == Path.cwd() or making.wanted.is_mount():
        raise OutputError(f"expected a folder that can be moved into its place, found {root}; choose one in it")
    with _trouble_in_one_line(root):
        while not _is_there(root, making, settings.note()):
            try:
                _make_all(making, settings, workers, progress or _silence)
                _finish(making, settings)
            except FileNotFoundError:
                if making.note() is not None:  # else others have finished the set and taken the folder away; one that
                    raise  # is there again without a note is only somebody's who looks whether there is anything to do
    return Path(root)


def _is_there(root: str | Path, making: Making, note: str) -> bool:
    """Return whether the set is there; if it is not, say at its hidden place that it is being made."""
    if not _stands(root, making.wanted, note):
        with making.locked():
            if not _stands(root, making.wanted, note):
                _begin(root, making, note)
                return False
    if making.folder.exists():  # a run was killed between its last two steps
        with making.locked():
            making.remove()
    making.sweep()
    return True


def _stands(root: str | Path, wanted: Path, note: str) -> bool:
    """Return whether the set of a note stands at a place; False if nothing does.

    Raises:
        OutputError: Something else does.
    """
    if not wanted.exists() or (wanted.is_dir() and not any(wanted.iterdir())):
        return False
    path = wanted / NOTE
    there = path.read_text(encoding="utf-8") if path.is_file() else None
    if there == note:
        return True
    found = f"worlds of other settings ({_difference(there, note)})" if there else "something else"
    raise OutputError(f"expected nothing at {root}, or the same worlds; found {found}; remove it or choose another")


def _begin(root: str | Path, making: Making, note: str) -> None:
    """Begin a set, or join those who make it."""
    begun = making.note()
    if begun is None:
        making.begin(note)
    elif begun != note:
        raise OutputError(
            f"expected nothing begun at {root}, or the same worlds; found an unfinished set of other settings "
            f"({_difference(begun, note)}); finish it, remove {making.folder}, or choose another place"
        )


def _difference(there: str, wanted: str) -> str:
    """Return how two notes differ: "seed 3, not 4"."""
    try:
        found, asked = _flat(json.loads(there)), _flat(json.loads(wanted))
    except (ValueError, AttributeError):
        return "of another version"
    differing = [f"{name} {found.get(name)}, not {value}" for name, value in asked.items() if found.get(name) != value]
    return "; ".join(differing) or "of another version"


def _flat(note: dict) -> dict:
    """Return a note with the sensor's settings among the others, and the usual style said."""
    plain = {name: value for name, value in note.items() if name != "sensor"}
    return {"style": USUAL_STYLE} | plain | note.get("sensor", {})


def _make_all(making: Making, settings: Settings, workers: int, progress: Progress) -> None:
    """Make every world that is not there yet, and wait for those that others make."""
    missing = [index for index in range(settings.num) if making.line(index) is None]
    if len(missing) < settings.num:
        progress(settings.num - len(missing), settings.num)
    make, busy = partial(_make_one, making, settings), []
    with _processes(min(workers, len(missing))) as run:
        for index, there in zip(missing, run(make, missing), strict=True):
            if there:
                progress(1, settings.num)
            else:
                busy.append(index)
    for index in busy:
        make(index, wait=True)
        progress(1, settings.num)


def _make_one(making: Making, settings: Settings, index: int, wait: bool = False) -> bool:
    """Make a world; return whether it is there, which it is not while another makes it."""
    with making.claim(index, wait=wait) as file:
        if file is None:
            return False
        if not line_of(file):
            layout = LAYOUTS[settings.layout]
            world = draw_world(settings.kind, settings.seed, index, settings.frames, settings.style)
            unit = Unit(index, settings.is_test(index), world, settings.size, partial(_seen, settings, index, world))
            lines = layout.write(unit, making.place)
            file.truncate(0)
            file.write(json.dumps(lines).encode() + b"\n")
    return True


def _seen(settings: Settings, index: int, world: World, frame: int) -> tuple[View, View]:
    """Return a frame of a world as the sensor gives it, and as it is."""
    layout = LAYOUTS[settings.layout]
    view = see(world, frame, settings.size, partner=layout.partner, flow=layout.flow)
    return settings.sensor.through(view, (settings.seed, index, frame)), view


def _finish(making: Making, settings: Settings) -> None:
    """Make a set of the worlds, unless others have done it meanwhile."""
    with making.locked():
        if making.note() is None:  # others have, and the folder is a new one
            making.remove()
            return
        LAYOUTS[settings.layout].finish(_written(making, settings), making.place)
        making.place.tree.mkdir(parents=True, exist_ok=True)
        (making.place.tree / NOTE).write_text(settings.note(), encoding="utf-8", newline="\n")
        making.publish()
        making.remove()


def _written(making: Making, settings: Settings) -> Iterator[Written]:
    """Yield every world in its order."""
    for index in range(settings.num):
        yield Written(index, settings.is_test(index), json.loads(making.line(index)))


@contextmanager
def _processes(workers: int) -> Iterator[Callable]:
    """Give a `map` that works in so many processes; with one it works here."""
    if workers < 2:
        yield map
        return
    context = get_context("forkserver")  # libraries are loaded once, and by a process without threads
    context.set_forkserver_preload([__name__])
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_follow_parent)
    try:
        yield pool.map
    except BrokenProcessPool as error:
        raise OutputError(
            "a worker ended without a word, perhaps for want of memory; start the same again with fewer workers, it "
            "goes on where it was"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _follow_parent() -> None:
    """Leave Ctrl-C to the parent, which lets each worker end its world, and end when the parent is killed."""
    signal(SIGINT, SIG_IGN)

    def follow() -> None:
        parent_process().join()
        os._exit(1)

    Thread(target=follow, daemon=True).start()


@contextmanager
def _trouble_in_one_line(root: str | Path) -> Iterator[None]:
    """Turn what a disk can do to us into one line."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            said = "no space left; free some and start the same again, it goes on where it was"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            said = "no permission to write there; choose another folder"
        elif error.errno in (errno.EEXIST, errno.ENOTDIR, errno.EISDIR):
            said = "a file stands where a folder is needed; choose another place"
        else:
            said = f"{error.strerror or error}; choose another folder"
        raise OutputError(f"cannot write worlds to {root}: {said}") from error


def _silence(more: int, wanted: int) -> None:
    """Progress that nobody watches."""
