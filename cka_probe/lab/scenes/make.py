"""Make a data set of worlds: settings in, a folder out that a real data set's reader opens.

    make_worlds("data/rooms", Settings("rooms", num=240, frames=2))        then open nyuv2:data/rooms

World i of a seed is the same world however many there are, and the same settings give the same bytes. An interrupted
run goes on where it was when it is started again with the same settings; several at once, on one machine or on
several with one file system, share the work. Until the last world is there, nothing stands at the wanted place.
"""

import errno
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from signal import SIG_IGN, SIGINT, signal
from threading import Thread

from cka_probe.errors import DataError, OutputError
from cka_probe.lab.scenes.claims import NOTE, Making, line_of
from cka_probe.lab.scenes.kinds import draw_world
from cka_probe.lab.scenes.layouts import LAYOUTS
from cka_probe.lab.scenes.layouts.layout import Unit, Written
from cka_probe.lab.scenes.room_style import USUAL_STYLE
from cka_probe.lab.scenes.settings import Settings
from cka_probe.lab.scenes.view import see
from cka_probe.lab.scenes.world import View, World

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
