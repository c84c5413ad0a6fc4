"""Several processes that share the batches of one run, as `torchrun` starts them.

A run is the same program in every process. Whole batches are dealt to the processes in turn, and after each round the
processes exchange what they computed, so that all of them have the whole result. What is exchanged lies in the memory
of the host, so gloo carries it; the models are on GPUs or not. An error in one process is raised in all of them at the
next exchange.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch.distributed as dist

from cka_probe import errors
from cka_probe.errors import CkaProbeError, DataError
from cka_probe.images.stream import WHOLE, ImageStream, Share, omit_rows, unreadable

T = TypeVar("T")

TIMEOUT = timedelta(hours=24)
"""How long a process waits for the others: until the slowest has loaded its models and run its batch."""
MEETING = timedelta(minutes=10)
"""How long the first process waits for the last at the start of a run."""


class RankError(CkaProbeError):
    """Another process of the run failed, ended, or did not come."""


@dataclass(frozen=True)
class _Failure:
    """What an exception in one process says to the others."""

    kind: str
    message: str
    rank: int

    def error(self) -> CkaProbeError:
        """Return the exception to raise in the other processes: of the same class if it is one that a user can fix."""
        kind = getattr(errors, self.kind, None)
        if isinstance(kind, type) and issubclass(kind, CkaProbeError):
            return kind(self.message)
        return RankError(f"process {self.rank} failed: {self.kind}: {self.message}")


@dataclass
class Ranks:
    """The processes of a run.

    Attributes:
        index: Number of this process, from 0.
        count: Number of processes.
        group: Their gloo group; None for the default group.
        failed: Whether the run has failed, and all processes know or cannot be told.
    """

    index: int = 0
    count: int = 1
    group: Any = None
    failed: bool = False

    @property
    def share(self) -> Share:
        """The batches of this process."""
        return Share(self.index, self.count)

    def exchange(self, item: T) -> list[T]:
        """Return the items of all processes, in their order; each process has to call this equally often.

        Raises:
            CkaProbeError: The error of the first process that failed; or a process has ended.
        """
        items = self._gather(item)
        if failure := self._first_failure(items):
            raise failure.error()
        return items

    def blocks(self, count: int, size: int) -> list[range]:
        """Return this process's part of `count` positions, which are dealt in blocks of `size`.

        >>> Ranks(1, 2).blocks(7, 2)
        [range(2, 4), range(6, 7)]
        """
        starts = range(0, count, size)[self.index :: self.count]
        return [range(start, min(start + size, count)) for start in starts]

    def merge(self, items: Mapping[int, T]) -> list[T]:
        """Return the items of all processes, sorted by their positions; an exchange."""
        merged = {position: item for part in self.exchange(items) for position, item in part.items()}
        return [merged[position] for position in sorted(merged)]

    def omit_unreadable(self, streams: Sequence[ImageStream], share: Share = WHOLE) -> None:
        """Try all images, each in one process, and omit those that cannot be read where they are to be skipped.

        The borders of batches depend on it, so it comes before the batches are dealt.
        """
        if streams[0].skip_bad and (self.count > 1 or share != WHOLE):
            parts = self.exchange(unreadable(streams, self.share))
            omit_rows(streams, {row: reasons for part in parts for row, reasons in part.items()})

    def check_images(self, streams: Sequence[ImageStream]) -> None:
        """Raise `DataError` if the processes read batches of different images.

        Of an iterable, which each process reads whole, the first images of all batches are compared.
        """
        states = self.exchange([(stream.source, stream.total, stream.batch, stream.samples) for stream in streams])
        if other := next((rank for rank, state in enumerate(states) if state != states[0]), 0):
            raise DataError(
                f"expected the same images in the same order in all {self.count} processes, found others in process "
                f"{other}; turn shuffling and random augmentation off, or give all processes the same seed and files"
            )

    @contextmanager
    def together(self) -> Iterator[None]:
        """Do a part of the work, and go on when all processes have done it; an error in one of them is raised in all.

        Parts within this part belong to the same run.
        """
        token = _RUN.set(self)
        try:
            yield
            self.exchange(None)
        except Exception as error:
            if self.failed or self.count == 1:  # the others know
                raise
            failure = self._first_failure(self._gather(_Failure(type(error).__name__, str(error), self.index)))
            if failure is None or failure.rank == self.index:
                raise
            raise failure.error() from error
        finally:
            _RUN.reset(token)

    def _first_failure(self, items: list[Any]) -> _Failure | None:
        """Return what the first process that failed says, if one did."""
        failure = next((item for item in items if isinstance(item, _Failure)), None)
        self.failed = self.failed or failure is not None
        return failure

    def _gather(self, item: Any) -> list[Any]:
        """Return the items of all processes."""
        if self.count == 1:
            return [item]
        items: list[Any] = [None] * self.count
        try:
            dist.all_gather_object(items, item, group=self.group)
        except RuntimeError as error:
            self.failed = True
            raise RankError(
                "expected all processes of the run to go on, found that one has ended; see its messages "
                f"({' '.join(str(error).split())[:100]})"
            ) from error
        return items


_RUN: ContextVar[Ranks | None] = ContextVar("run", default=None)
"""The processes of the run that this one takes part in."""
_GROUPS: dict[Any, Any] = {}
"""The gloo group of the processes of a default group that has another backend."""


def current_ranks() -> Ranks:
    """Return the processes that take part in a run: those of the default process group if there is one, else this one.

    Raises:
        RankError: Not all processes came here within ten minutes.
    """
    if (run := _RUN.get()) is not None:
        return run
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return Ranks()
    try:
        dist.monitored_barrier(_gloo(MEETING), timeout=MEETING)
        return Ranks(dist.get_rank(), dist.get_world_size(), _gloo(TIMEOUT))
    except RuntimeError as error:
        raise RankError(
            f"expected a call in all {dist.get_world_size()} processes of the process group, found some missing "
            f"({' '.join(str(error).split())[:100]}); call it in each, or in one under `comparison.ranks.alone()`"
        ) from error


def _gloo(timeout: timedelta) -> Any:
    """Return a gloo group of all processes, None for the default group."""
    if dist.get_backend() == "gloo":
        return None  # without a reference, which would outlive the group
    key = dist.group.WORLD, timeout
    if key not in _GROUPS:
        _GROUPS[key] = dist.new_group(backend="gloo", timeout=timeout)
    return _GROUPS[key]


@contextmanager
def alone() -> Iterator[None]:
    """Run everything within in this process only, whatever process group there is."""
    token = _RUN.set(Ranks())
    try:
        yield
    finally:
        _RUN.reset(token)


def world_size() -> int:
    """Return the number of processes that `torchrun` started, as its environment tells, 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def joined() -> Iterator[None]:
    """Join the processes that `torchrun` started, as its environment tells, in a process group; leave it at the end.

    All processes leave together, so that the first can report an error before a launcher stops it because of others.
    """
    if world_size() == 1:
        yield
        return
    dist.init_process_group("gloo", timeout=TIMEOUT)
    try:
        yield
    finally:
        with suppress(RuntimeError):  # a process has ended already
            dist.barrier()
        dist.destroy_process_group()
