"""Where a model runs, how many images it is shown at once, and what happens when they do not fit."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cka_probe.errors import DeviceError, OutOfMemoryError
from cka_probe.models.recording import full_float32

PIXELS = {"cuda": 1 << 22, "cpu": 1 << 20}
"""Pixels of all windows in one forward pass, by device: eighteen, or four, windows of 480 x 480."""


def pick_device(name: str) -> torch.device:
    """Return the device of this name; `auto` is a GPU where there is one.

    Raises:
        DeviceError: It is not here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DeviceError(f"no device {name!r} here: {str(error).splitlines()[0]}; try --device auto") from error
    return device


def usual_batch(device: torch.device, views: int, size: tuple[int, int]) -> int:
    """Return how many images a usual device has room for, of so many views of this size each."""
    return min(max(PIXELS.get(device.type, PIXELS["cpu"]) // (views * size[0] * size[1]), 1), 16)


@contextmanager
def predicting(device: torch.device, num: int) -> Iterator[None]:
    """Run a model without gradients and in full float32.

    Args:
        device: Where it runs.
        num: Images in the batch, for the message.

    Raises:
        OutOfMemoryError: They do not fit.
    """
    try:
        with torch.inference_mode(), full_float32(device):
            yield
    except torch.OutOfMemoryError as error:
        raise OutOfMemoryError(f"out of memory with {num} images in a batch; try --batch {max(num // 2, 1)}") from error
