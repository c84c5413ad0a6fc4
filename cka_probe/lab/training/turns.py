"""Work that several processes share, of one job or of several jobs with one folder: each piece is done by one of them.

A piece is locked while it is done. The lock ends with its process, however that ends. The file system needs working
locks (a local disk; NFS from version 4).
"""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from filelock import FileLock, Timeout

T = TypeVar("T")

PAUSE = 5.0
"""Seconds after which pieces that others do are looked at again."""


def take_turns(
    items: Sequence[T],
    work: Callable[[T], object],
    lock: Callable[[T], Path],
    is_done: Callable[[T], bool],
    *,
    is_ready: Callable[[T], bool] = lambda item: True,
    together: bool = True,
) -> None:
    """Do the pieces of work that nobody else does, each locked meanwhile, until all are done here or elsewhere.

    Args:
        items: Pieces of work, the same in all processes.
        work: Does a piece.
        lock: Returns the file that is locked while a piece is done.
        is_done: Whether a piece needs nothing more.
        is_ready: Whether a piece can be begun.
        together: Whether all processes of a job do each piece together. Otherwise each process does pieces of its own,
            and all of a job end together.
    """
    state, mine = PartialState(), set[int]()
    while True:
        with ExitStack() as locked:
            turn: list[int | None] = [None]
            if state.is_main_process or not together:
                turn = [_next(items, mine, lock, is_done, is_ready, locked)]
            if together:
                broadcast_object_list(turn)
            if turn[0] is None:
                break
            if turn[0] < 0:
                time.sleep(PAUSE)
                continue
            mine.add(turn[0])
            work(items[turn[0]])
            if state.is_main_process or not together:
                lock(items[turn[0]]).unlink(missing_ok=True)  # who has opened it finds the piece done
    state.wait_for_everyone()


def _next(
    items: Sequence[T],
    mine: set[int],
    lock: Callable[[T], Path],
    is_done: Callable[[T], bool],
    is_ready: Callable[[T], bool],
    locked: ExitStack,
) -> int | None:
    """Return the number of a piece, locked; -1 if others do all that are left, `None` if all are done."""
    number: int | None = None
    for index, item in enumerate(items):
        if index in mine or is_done(item):
            continue
        number = -1
        path = lock(item)
        path.parent.mkdir(parents=True, exist_ok=True)
        file = FileLock(path)
        try:
            file.acquire(timeout=0)
        except Timeout:
            continue
        if is_done(item):
            path.unlink(missing_ok=True)
        elif is_ready(item):
            locked.callback(file.release)
            return index
        file.release()
    return number
