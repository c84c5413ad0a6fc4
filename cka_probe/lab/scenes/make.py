"""Generate a data set of scenes in the layout of a real data set, whose reader then opens it.

The same settings give the same bytes, with any number of processes and after any interruption. A set at `data/rooms`
is generated in a hidden folder next to it, `data/.rooms.making`:

    scenes.json          the settings; a run with other settings is refused
    lock                 held while the folder is prepared, and while the set is finished
    done/000007          what the layout recorded about scene 7, written when the scene is complete
    done/000007.lock     held by the process that generates scene 7
    tree/, parts/        see `layouts.layout.SetFolders`

A process that dies releases its locks and keeps the scenes it finished: the next run generates those without a record.
All processes need one file system with working locks (a local disk; NFS from version 4). At the end `tree` is renamed
to its final path, which therefore exists complete or not at all.
"""

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from signal import SIG_IGN, SIGINT, signal
from threading import Thread
from typing import Any

from filelock import FileLock, Timeout

from cka_probe.errors import DataError, OutputError
from cka_probe.files import atomic_write, disk_errors, make_folder, read_json
from cka_probe.lab.scenes.layouts import LAYOUTS
from cka_probe.lab.scenes.layouts.layout import SetFolders, Unit, Written
from cka_probe.lab.scenes.room import USUAL_STYLE
from cka_probe.lab.scenes.scene import Scene, View
from cka_probe.lab.scenes.settings import Settings, draw_scene
from cka_probe.lab.scenes.view import see
from cka_probe.progress import Progress, reporting

NOTE = "scenes.json"
_REMOVED = ".gone"

Map = Callable[[Callable[[int], bool], Iterable[int]], Iterable[bool]]


class GenerationLock:
    """The hidden folder in which a set is generated, and the locks that let several processes share the work.

    Args:
        target: Where the set will be.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.folder = target.parent / f".{target.name}.making"
        self.folders = SetFolders(self.folder / "tree", self.folder / "parts")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the whole folder, which is created if it does not exist.

        Raises:
            OSError: It cannot be created.
        """
        make_folder(self.folder)
        with FileLock(self.folder / "lock"):
            yield

    def note(self) -> str | None:
        """Return the settings of the set that is generated here, or `None`."""
        try:
            return (self.folder / NOTE).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None

    def begin(self, note: str) -> None:
        """Record the settings of the set; the folder must be locked."""
        with atomic_write(self.folder / NOTE) as path:
            path.write_text(note, encoding="utf-8")

    @contextmanager
    def claim(self, index: int, *, wait: bool) -> Iterator[bool]:
        """Lock one scene; yield whether it is locked, which fails while another process has it.

        Args:
            index: The scene.
            wait: Whether to wait until it is free.

        Raises:
            FileNotFoundError: Other processes have finished the set.
        """
        if self.note() is None:
            raise FileNotFoundError(self.folder)
        lock = FileLock(self._record(index).with_suffix(".lock"), timeout=-1 if wait else 0)
        try:
            lock.acquire()
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def record(self, index: int) -> list[str] | None:
        """Return what the layout recorded about a finished scene; None while it is not finished."""
        try:
            lines = read_json(self._record(index))
        except (FileNotFoundError, ValueError):
            return None
        return lines if isinstance(lines, list) and all(isinstance(line, str) for line in lines) else None

    def mark_done(self, index: int, lines: list[str]) -> None:
        """Record that a scene is finished; it must be held."""
        with atomic_write(self._record(index)) as path:
            path.write_text(json.dumps(lines) + "\n", encoding="utf-8")

    def _record(self, index: int) -> Path:
        return self.folder / "done" / f"{index:06d}"

    def publish(self) -> None:
        """Move the complete tree to its final path; the folder must be locked."""
        if self.target.is_dir():
            self.target.rmdir()  # an empty one: any other was refused
        self.target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(self.folders.tree, self.target)

    def remove(self) -> None:
        """Remove the folder, which must be locked."""
        os.replace(self.folder, self.folder.with_name(f"{self.folder.name}.{os.getpid()}{_REMOVED}"))
        self.sweep()  # renamed first, so that no other process meets it half removed

    def sweep(self) -> None:
        """Remove what killed runs left of folders they were removing."""
        for path in self.target.parent.iterdir():
            if path.name.startswith(f"{self.folder.name}.") and path.name.endswith(_REMOVED):
                shutil.rmtree(path, ignore_errors=True)  # another process may be removing it, too


def make_scenes(root: str | Path, settings: Settings, *, workers: int = 1, progress: Progress | None = None) -> Path:
    """Make a set of scenes at `root`, or continue an interrupted run.

    A complete set of the same settings is left as it is.

    Args:
        root: The folder to make.
        settings: What the set consists of.
        workers: Processes that make scenes. A script that asks for more than one needs the usual guard
            `if __name__ == "__main__"`.
        progress: Called with the number of finished scenes and their total.

    Returns:
        `root`.

    Raises:
        DataError: There are no workers.
        OutputError: Something else is there or being made there, it cannot be written, or the disk is full.
    """
    if workers < 1:
        raise DataError(f"expected at least 1 worker, found {workers}; ask for more")
    lock = GenerationLock(Path(root).resolve())
    if lock.target == Path.cwd() or lock.target.is_mount():
        raise OutputError(f"expected a folder that can be moved into its place, found {root}; choose one inside it")
    with disk_errors(f"scenes to {root}"), reporting(progress, "scenes") as report:
        while not _is_complete(root, lock, settings.note()):
            try:
                _make_all(lock, settings, workers, report)
                _finish(lock, settings)
            except FileNotFoundError:
                if lock.note() is not None:
                    raise
                # Without a note, other processes have finished the set and removed the folder.
    return Path(root)


def _is_complete(root: str | Path, lock: GenerationLock, note: str) -> bool:
    """Return whether the set is complete; if it is not, begin it or join the runs that make it."""
    if not _exists(root, lock.target, note):
        with lock.locked():
            if not _exists(root, lock.target, note):
                _begin(root, lock, note)
                return False
    if lock.folder.exists():  # a run was killed between its last two steps
        with lock.locked():
            lock.remove()
    lock.sweep()
    return True


def _exists(root: str | Path, target: Path, note: str) -> bool:
    """Return whether the set of a note is at its path; False if nothing is there.

    Raises:
        OutputError: Something else is there.
    """
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return False
    path = target / NOTE
    other = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None
    if other == note:
        return True
    what = f"scenes of other settings ({_difference(other, note)})" if other else "something else"
    raise OutputError(
        f"expected nothing at {root}, or the same scenes; found {what}; remove it or choose another folder"
    )


def _begin(root: str | Path, lock: GenerationLock, note: str) -> None:
    """Begin a set, or join those who make it."""
    other = lock.note()
    if other is None:
        lock.begin(note)
    elif other != note:
        raise OutputError(
            f"expected nothing begun at {root}, or the same scenes; found an unfinished set of other settings "
            f"({_difference(other, note)}); finish it, remove {lock.folder}, or choose another folder"
        )


def _difference(note: str, requested: str) -> str:
    """Return how two notes differ: "seed 3, not 4"."""
    try:
        values, targets = _flat(json.loads(note)), _flat(json.loads(requested))
    except (ValueError, AttributeError):
        return "of another version"
    lines = [f"{name} {values.get(name)}, not {value}" for name, value in targets.items() if values.get(name) != value]
    return "; ".join(lines) or "of another version"


def _flat(note: dict[str, Any]) -> dict[str, Any]:
    """Return a note with the sensor's settings among the others, and the default style filled in."""
    plain = {name: value for name, value in note.items() if name != "sensor"}
    return {"style": USUAL_STYLE, **plain, **note.get("sensor", {})}


def _make_all(lock: GenerationLock, settings: Settings, workers: int, progress: Progress) -> None:
    """Make every unfinished scene, and wait for those that other processes make."""
    missing = [index for index in range(settings.num) if lock.record(index) is None]
    done = settings.num - len(missing)
    progress(done, settings.num)
    make = partial(_make_one, lock, settings)
    busy = []
    with _process_map(min(workers, len(missing))) as run:
        for index, finished in zip(missing, run(make, missing), strict=True):
            if finished:
                done += 1
                progress(done, settings.num)
            else:
                busy.append(index)
    for index in busy:
        make(index, wait=True)
        done += 1
        progress(done, settings.num)


def _make_one(lock: GenerationLock, settings: Settings, index: int, wait: bool = False) -> bool:
    """Make a scene; return whether it is finished, which it is not while another process makes it."""
    with lock.claim(index, wait=wait) as held:
        if not held:
            return False
        if lock.record(index) is None:
            layout = LAYOUTS[settings.layout]
            scene = draw_scene(settings.kind, settings.seed, index, settings.frames, settings.style)
            unit = Unit(index, settings.is_test(index), scene, settings.size, partial(_seen, settings, index, scene))
            lock.mark_done(index, layout.write(unit, lock.folders))
    return True


def _seen(settings: Settings, index: int, scene: Scene, frame: int) -> tuple[View, View]:
    """Return a frame of a scene as the sensor gives it, and as it is."""
    layout = LAYOUTS[settings.layout]
    view = see(scene, frame, settings.size, partner=layout.partner, flow=layout.flow)
    return settings.sensor.through(view, (settings.seed, index, frame)), view


def _finish(lock: GenerationLock, settings: Settings) -> None:
    """Make a data set of the scenes, unless another process has done so."""
    with lock.locked():
        if lock.note() is None:  # another process has, and this folder is a new one
            lock.remove()
            return
        LAYOUTS[settings.layout].finish(_written(lock, settings), lock.folders)
        lock.folders.tree.mkdir(parents=True, exist_ok=True)
        (lock.folders.tree / NOTE).write_text(settings.note(), encoding="utf-8", newline="\n")
        lock.publish()
        lock.remove()


def _written(lock: GenerationLock, settings: Settings) -> Iterator[Written]:
    """Yield every scene in order."""
    for index in range(settings.num):
        lines = lock.record(index)
        if lines is None:
            raise FileNotFoundError(errno.ENOENT, "the record of a finished scene is missing", str(index))
        yield Written(index, settings.is_test(index), lines)


@contextmanager
def _process_map(workers: int) -> Iterator[Map]:
    """Yield a `map` over that many processes; with fewer than two it runs in this one."""
    if workers < 2:
        yield map
        return
    context = get_context("forkserver")  # loads the libraries once, in a process without threads
    context.set_forkserver_preload([__name__])
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_follow_parent)
    try:
        yield pool.map
    except BrokenProcessPool as error:
        raise OutputError(
            "a worker process died, perhaps for lack of memory; run the same again with fewer workers to continue"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _follow_parent() -> None:
    """Ignore Ctrl-C, which the parent handles after each worker has ended its scene; exit when the parent is killed."""
    signal(SIGINT, SIG_IGN)
    parent = parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    Thread(target=follow, daemon=True).start()
