"""What was decoded once, kept for all processes of a run, so that no image is decoded twice.

Decoding is what loading costs: a JPEG of 640 x 480 takes milliseconds, reading its pixels from memory a fraction
of one. But memory is a process's own, and those that read ahead are new with every epoch. So what was decoded is
written to a temporary folder (`TMPDIR` says where; the system keeps in memory what has room there), from where
every process reads it back bit for bit: images as bytes and class numbers as small ones where that loses nothing,
all else as it is.

Two that want the same file at once wait for each other, on systems with POSIX locks; elsewhere both decode it. What
is kept stays until the end: in an epoch that visits all, throwing out the oldest would throw out what comes next.
The folder goes when its owner does; one left behind by a process that was killed goes when the next is made.
Processes that were started apart from each other, as `torchrun` starts them, keep each their own.
"""

import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from hashlib import sha256
from pathlib import Path, PurePath
from types import FunctionType, NoneType
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from cka_probe.errors import OutputError
from cka_probe.files import atomic_write

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

BUDGET = 16 * 2**30
"""Bytes that are kept, unless half of the free disk is less."""

PREFIX = "ckaprobe-kept-"

AS_IS, IMAGE, NUMBERS = "as it is", "image", "numbers"
"""How an entry is packed, the first words of its first line: not at all; 255 x as bytes; whole numbers as bytes."""


class DecodedCache:
    """Fields that were read, on disk, for this process and all that it starts.

    Args:
        budget: Bytes to keep at most; what comes after is read anew each time.

    Attributes:
        folder: Where they lie.

    Raises:
        OutputError: The temporary folder cannot be written to.
    """

    def __init__(self, budget: int = BUDGET):
        try:
            _sweep()
            self.folder, owner = _own_folder()
        except OSError as error:
            raise OutputError(
                f"cannot keep what is decoded below {tempfile.gettempdir()}: {error.strerror}; set TMPDIR to a folder "
                "with room, or leave the cache out (cache=false)"
            ) from error
        self.budget = min(budget, shutil.disk_usage(self.folder).free // 2)
        self.turns = threading.Lock()
        self.lock: tuple[int, int] | None = None  # process, descriptor
        self.close = weakref.finalize(self, _remove, self.folder, owner, os.getpid())

    def __getstate__(self) -> dict:
        return {"folder": self.folder, "budget": self.budget}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state, turns=threading.Lock(), lock=None)

    def get(self, key: tuple, read: Callable[[], Tensor]) -> Tensor:
        """Return what `read` gives; it is called only if no process has kept its result under this key.

        Args:
            key: Strings and numbers that name it, and nothing else, in every process.
            read: Returns a tensor on the CPU.
        """
        return self.get_all(key, ("",), lambda: {"": read()})[""]

    def get_all(self, key: tuple, names: Iterable[str], read: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Return the named ones of what `read` gives; it is called only if one of them has not been kept.

        Args:
            key: Strings and numbers that name them, and nothing else, in every process.
            names: Which are wanted.
            read: Returns at least these, tensors on the CPU.
        """
        paths = {name: self.folder / sha256(repr((key, name)).encode()).hexdigest()[:32] for name in names}
        found = _found(paths)
        if found is not None:
            return found
        with self._turn(1 + int(sha256(repr(key).encode()).hexdigest()[:7], 16)):
            found = _found(paths)  # another process may have been faster
            if found is None:
                given = read()
                found = {name: given[name] for name in paths}
                for name, path in paths.items():
                    self._keep(path, found[name])
        return found

    def _keep(self, path: Path, field: Tensor) -> None:
        """Write a field, if it is not there and there is room; a disk that is full is a budget that is used up."""
        kind, packed = _packed(field)
        if path.exists() or not self._take(packed.nbytes):
            return
        with suppress(OutputError), atomic_write(path) as beside, beside.open("wb") as file:
            file.write(f"{kind},{packed.dtype.str},{','.join(map(str, packed.shape))}\n".encode())
            packed.tofile(file)

    def _take(self, count: int) -> bool:
        """Count bytes against the budget; return whether they fit."""
        with self._locked(0) as lock:
            os.lseek(lock, 0, os.SEEK_SET)
            used = int.from_bytes(os.read(lock, 8), "little") + count
            if used <= self.budget:
                os.lseek(lock, 0, os.SEEK_SET)
                os.write(lock, used.to_bytes(8, "little"))
        return used <= self.budget

    @contextmanager
    def _turn(self, place: int) -> Iterator[None]:
        """Wait until nobody else is at this place, in this process or any other."""
        with self.turns, self._locked(place):
            yield

    @contextmanager
    def _locked(self, place: int) -> Iterator[int]:
        """Hold one byte of the lock file, whose descriptor is given; a process that dies lets go of it."""
        if self.lock is None or self.lock[0] != os.getpid():  # a lock belongs to a process, not to its children
            self.lock = (os.getpid(), os.open(self.folder / "lock", os.O_RDWR | getattr(os, "O_BINARY", 0)))
            weakref.finalize(self, os.close, self.lock[1])
        lock = self.lock[1]
        if fcntl is None:
            yield lock
            return
        fcntl.lockf(lock, fcntl.LOCK_EX, 1, place)
        try:
            yield lock
        finally:
            fcntl.lockf(lock, fcntl.LOCK_UN, 1, place)


def key_of(read: Callable[[], Tensor]) -> tuple | None:
    """Return a key for what a function reads that is the same wherever it is read, or None.

    An image is read as a target, as its neighbours' source and as its partner's partner. `partial(read_image,
    path)` says each time that it is the same; a closure says nothing of that kind.

    Args:
        read: Called without arguments.
    """
    if not isinstance(read, partial) or not isinstance(read.func, FunctionType) or "<" in read.func.__qualname__:
        return None
    given = (read.args, tuple(sorted(read.keywords.items())))
    return (read.func.__module__, read.func.__qualname__, repr(given)) if _is_plain(given) else None


def _is_plain(value: object) -> bool:
    """Return whether a value's text says all of it."""
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return isinstance(value, str | int | float | bool | PurePath | NoneType)


def _found(paths: Mapping[str, Path]) -> dict[str, Tensor] | None:
    """Return what was kept, if all of it was."""
    fields = {}
    for name, path in paths.items():
        try:
            with path.open("rb") as file:
                kind, dtype, *shape = file.readline().decode().rstrip("\n").split(",")
                packed = np.fromfile(file, dtype)
        except FileNotFoundError:
            return None
        fields[name] = _unpacked(kind, torch.from_numpy(packed).view([int(side) for side in shape if side]))
    return fields


def _packed(field: Tensor) -> tuple[str, np.ndarray]:
    """Return how a field is packed, and as what: as bytes where that loses nothing."""
    kind, packed = AS_IS, field
    if field.dtype == torch.float32 and field.numel():
        kind, packed = IMAGE, (field * 255).round().clamp(0, 255).to(torch.uint8)
    elif field.dtype == torch.int64 and field.numel():
        kind, packed = NUMBERS, field.clamp(0, 255).to(torch.uint8)
    if kind != AS_IS and not _same_bits(_unpacked(kind, packed), field):
        kind, packed = AS_IS, field
    return kind, np.ascontiguousarray(packed.detach().numpy()).reshape(field.shape)  # contiguous: () would be (1,)


def _unpacked(kind: str, packed: Tensor) -> Tensor:
    """Return a field as it was; an image by the division that made it."""
    if kind == IMAGE:
        return packed.float().div_(255.0)
    return packed.long() if kind == NUMBERS else packed


def _same_bits(a: Tensor, b: Tensor) -> bool:
    """Return whether two fields of one dtype are equal to the sign of a zero."""
    if a.dtype == torch.float32:
        a, b = a.view(torch.int32), b.contiguous().view(torch.int32)
    return torch.equal(a, b)


def _own_folder() -> tuple[Path, BinaryIO]:
    """Return a new folder and a file in it that is locked as long as its owner or a process of it lives."""
    hidden = Path(tempfile.mkdtemp(prefix=f".{PREFIX}"))
    (hidden / "lock").write_bytes(bytes(8))
    owner = open(hidden / "owner", "wb")  # noqa: SIM115 (open, and so locked, until `_remove` closes it)
    if fcntl is not None:
        fcntl.flock(owner, fcntl.LOCK_EX)
    folder = hidden.with_name(hidden.name[1:])  # seen by `_sweep` only now that it is locked
    if fcntl is not None:
        hidden.rename(folder)
    else:
        folder = hidden
    return folder, owner


def _remove(folder: Path, owner: BinaryIO, pid: int) -> None:
    """Remove a folder, in the process that made it."""
    owner.close()
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep() -> None:
    """Remove the folders of processes that are gone."""
    if fcntl is None:
        return
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError), open(folder / "owner", "rb") as owner:  # another user's, or gone meanwhile
            fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
