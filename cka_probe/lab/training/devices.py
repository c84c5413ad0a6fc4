"""The device a run is on, who reads its images, and how it is asked to stop."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from cka_probe.errors import RecipeError

DEVICES = {"auto": "the first there is of cuda, mps, cpu", "cpu": "", "cuda": "", "mps": ""}


def accelerator_for(device: str, precision: str) -> Accelerator:
    """Return the accelerator of this process; under `torchrun` it knows the others.

    Args:
        device: A name in `DEVICES`.
        precision: "no", "bf16" or "fp16".

    Raises:
        RecipeError: There is no such device here.
    """
    there = {"auto": True, "cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(device, False):
        found = ", ".join(name for name, is_there in there.items() if is_there)
        raise RecipeError(f"expected a device of {found}, found {device!r}; leave --device out to take what is there")
    # accelerate remembers the first precision and device of a process and refuses others; a recipe may
    # change precision from stage to stage, and a notebook may run two recipes
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(cpu=device == "cpu", mixed_precision=precision)


MOST_READERS = 16
"""More than these per GPU have not been seen to help, and each holds memory."""


def readers(accelerator: Accelerator) -> int:
    """Return how many processes should read images ahead where nobody says.

    On a CPU none: the networks keep its cores busy, and reading takes turns with them. Beside a GPU the cores have
    nothing else to do, and a GPU that waits for one process to decode images waits most of the time: all cores that
    this process may use, less one, shared among the processes of this machine.
    """
    if accelerator.device.type == "cpu":
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    sharing = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(MOST_READERS, max(1, (cores - 1) // sharing))


@contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Note the first Ctrl-C or SIGTERM instead of dying in the middle of a step; the second acts at once."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    asked = threading.Event()

    def note(*_: object) -> None:
        asked.set()
        restore()

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    for number in before:
        signal.signal(number, note)
    try:
        yield asked.is_set
    finally:
        restore()
