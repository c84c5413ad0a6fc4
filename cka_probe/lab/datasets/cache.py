"""Cache decoded fields on disk for all processes of a run, so that no image is decoded twice.

Decoding dominates loading: a JPEG of 640 x 480 takes milliseconds, reading its pixels from memory a fraction of one.
But memory belongs to one process, and worker processes start again with every epoch. Decoded fields are therefore
written to a temporary folder (in `TMPDIR`; the system caches it in memory as far as it fits), from where every process
reads them back bit for bit. Images are stored as bytes and class numbers as small ones where that loses nothing, all
else as it is.

Two processes that need the same file at once wait for each other. Nothing is evicted: in an epoch that visits all,
evicting the oldest entry would evict the next one needed. The folder is deleted with its owner; if a process was
killed, the next cache deletes its folder. Processes that were started independently, as by `torchrun`, have a cache
each.
"""

import os
import secrets
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from hashlib import sha256
from pathlib import Path, PurePath
from types import FunctionType, NoneType

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from cka_probe.errors import OutputError
from cka_probe.files import atomic_write

BUDGET = 16 * 2**30
"""Default size in bytes, unless half of the free disk is less."""

PREFIX = "ckaprobe-cache-"

AS_IS, IMAGE, NUMBERS = "as it is", "image", "numbers"
"""How an entry is packed, the first words of its header: not at all; 255 x as bytes; whole numbers as bytes."""

_LOCKS = 1024  # lock files for all entries: two different ones rarely wait for each other
_OWNED: list[FileLock] = []  # never freed in a forked process, which would release the lock of its parent


class DecodedCache:
    """Decoded fields on disk, for this process and all that it starts.

    Args:
        budget: Maximum size in bytes; what does not fit is decoded each time.

    Attributes:
        folder: The folder, which a lock file next to it marks as in use.

    Raises:
        OutputError: The temporary folder cannot be written to.
    """

    def __init__(self, budget: int = BUDGET):
        try:
            _sweep()
            self.folder = Path(tempfile.gettempdir(), PREFIX + secrets.token_hex(8))
            owner = FileLock(f"{self.folder}.lock")
            owner.acquire()
            self.folder.mkdir(mode=0o700)
        except OSError as error:
            raise OutputError(
                f"cannot cache decoded files below {tempfile.gettempdir()}: {error.strerror}; set TMPDIR to a folder "
                "with space, or turn the cache off (cache=false)"
            ) from error
        _OWNED.append(owner)
        self.budget = min(budget, shutil.disk_usage(self.folder).free // 2)
        self.close = weakref.finalize(self, _remove, self.folder, owner, os.getpid())

    def __getstate__(self) -> dict:
        return {"folder": self.folder, "budget": self.budget}

    def get(self, key: tuple, read: Callable[[], Tensor]) -> Tensor:
        """Return the result of `read`, which is called only if no process has cached its result under this key.

        Args:
            key: Strings and numbers that identify it in every process.
            read: Returns a tensor on the CPU.
        """
        return self.get_all(key, ("",), lambda: {"": read()})[""]

    def get_all(self, key: tuple, names: Iterable[str], read: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Return some results of `read`, which is called only if one of them is not cached.

        Args:
            key: Strings and numbers that identify them in every process.
            names: The names of the results.
            read: Returns at least these, tensors on the CPU.
        """
        paths = {name: self.folder / sha256(repr((key, name)).encode()).hexdigest()[:32] for name in names}
        fields = _load(paths)
        if fields is not None:
            return fields
        with self._lock(str(int(sha256(repr(key).encode()).hexdigest()[:7], 16) % _LOCKS)):
            fields = _load(paths)  # another process may have been faster
            if fields is None:
                results = read()
                fields = {name: results[name] for name in paths}
                for name, path in paths.items():
                    self._save(path, fields[name])
        return fields

    def _lock(self, name: str) -> FileLock:
        """Return a lock between all processes and threads, which one that dies releases."""
        return FileLock(self.folder / f"{name}.lock", poll_interval=0.001)

    def _save(self, path: Path, field: Tensor) -> None:
        """Write a field, if it is not there and there is room; a full disk counts as a used-up budget."""
        kind, packed = _pack(field)
        if path.exists() or not self._reserve(packed.nbytes):
            return
        with suppress(OutputError), atomic_write(path) as temporary, temporary.open("wb") as file:
            file.write(f"{kind},{packed.dtype.str},{','.join(map(str, packed.shape))}\n".encode())
            packed.tofile(file)

    def _reserve(self, count: int) -> bool:
        """Subtract bytes from the budget; return whether they fit."""
        path = self.folder / "size"
        with self._lock("size"):
            size = count + (int(path.read_bytes()) if path.exists() else 0)
            if size <= self.budget:
                path.write_bytes(b"%d" % size)
        return size <= self.budget


def key_of(read: Callable[[], Tensor]) -> tuple | None:
    """Return a key for the result of a function that is the same wherever it is read, or None.

    An image is read as a target, as a source of its neighbours and as the partner of its partner. Every
    `partial(read_image, path)` has the same key; a closure has none.

    Args:
        read: A function without arguments.
    """
    if not isinstance(read, partial) or not isinstance(read.func, FunctionType) or "<" in read.func.__qualname__:
        return None
    arguments = (read.args, tuple(sorted(read.keywords.items())))
    return (read.func.__module__, read.func.__qualname__, repr(arguments)) if _is_plain(arguments) else None


def _is_plain(value: object) -> bool:
    """Return whether the text of a value identifies it."""
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return isinstance(value, str | int | float | bool | PurePath | NoneType)


def _load(paths: Mapping[str, Path]) -> dict[str, Tensor] | None:
    """Return cached fields, if all of them are there."""
    fields = {}
    for name, path in paths.items():
        try:
            with path.open("rb") as file:
                kind, dtype, *shape = file.readline().decode().rstrip("\n").split(",")
                packed = np.fromfile(file, dtype)
        except FileNotFoundError:
            return None
        fields[name] = _unpack(kind, torch.from_numpy(packed).view([int(side) for side in shape if side]))
    return fields


def _pack(field: Tensor) -> tuple[str, np.ndarray]:
    """Return how a field is packed, and its packed values: bytes where that loses nothing."""
    kind, packed = AS_IS, field
    if field.dtype == torch.float32 and field.numel():
        kind, packed = IMAGE, (field * 255).round().clamp(0, 255).to(torch.uint8)
    elif field.dtype == torch.int64 and field.numel():
        kind, packed = NUMBERS, field.clamp(0, 255).to(torch.uint8)
    if kind != AS_IS and not _same_bits(_unpack(kind, packed), field):
        kind, packed = AS_IS, field
    return kind, np.ascontiguousarray(packed.detach().numpy()).reshape(field.shape)  # contiguous: () would be (1,)


def _unpack(kind: str, packed: Tensor) -> Tensor:
    """Return the original field; an image by the division that made it."""
    if kind == IMAGE:
        return packed.float().div_(255.0)
    return packed.long() if kind == NUMBERS else packed


def _same_bits(a: Tensor, b: Tensor) -> bool:
    """Return whether two fields of one dtype are equal, including the sign of zeros."""
    if a.dtype == torch.float32:
        a, b = a.view(torch.int32), b.contiguous().view(torch.int32)
    return torch.equal(a, b)


def _remove(folder: Path, owner: FileLock, pid: int) -> None:
    """Delete a folder and its lock file, in the process that created them."""
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)
        _OWNED.remove(owner)
        owner.release()
        Path(owner.lock_file).unlink(missing_ok=True)


def _sweep() -> None:
    """Delete the folders of processes that have died."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        lock = FileLock(f"{folder}.lock")
        with suppress(OSError):  # in use, another user's, or deleted meanwhile
            if folder.is_dir():
                lock.acquire(timeout=0)
                _OWNED.append(lock)
                _remove(folder, lock, os.getpid())
