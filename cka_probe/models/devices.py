"""The device that a model runs on, its precision there, and how many images fit into its memory."""

import gc
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch

from cka_probe.errors import DataError, DeviceError, OutOfMemoryError

T = TypeVar("T")

PIXELS = {"cuda": 1 << 22, "cpu": 1 << 20}
"""Pixels of all windows in one forward pass, by device: 18, or 4, windows of 480 x 480."""
REFUSALS = ("allocate memory", "out of memory", "ALLOC_FAILED")
"""What errors say that memory does not suffice: of the CPU's allocator, of CUDA and MPS, and of cuBLAS and cuDNN."""
UNITS = {
    f"{prefix}{unit}".lower(): base**power
    for base, unit in ((1000, "B"), (1024, "iB"))
    for power, prefix in enumerate(("", "K", "M", "G", "T"))
    if prefix or unit == "B"
}
"""Bytes of a unit, such as `gb` and `gib`."""
CPU_INFO = Path("/proc/cpuinfo")
BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
"""Flags of processors with instructions for bfloat16: of x86 with AVX-512 or AMX, and of ARM."""


def pick_device(name: str) -> torch.device:
    """Return the device of this name; `auto` is a GPU if there is one.

    Under `torchrun`, `auto` and `cuda` are the GPU of the process, by its number on the machine (`LOCAL_RANK`).

    Raises:
        DeviceError: There is no such device.
    """
    local_rank = os.environ.get("LOCAL_RANK")
    if local_rank is not None and name in ("auto", "cuda") and torch.cuda.is_available():
        return torch.device("cuda", int(local_rank) % torch.cuda.device_count())
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
    """Return how many images of `views` views of a size (height, width) each fit into the memory of a usual device."""
    return min(max(PIXELS.get(device.type, PIXELS["cpu"]) // (views * size[0] * size[1]), 1), 16)


def lacks_bfloat16(device: torch.device) -> bool:
    """Return whether a device is known to have no instructions for bfloat16: a CPU of Linux that does not list them."""
    if device.type != "cpu" or not CPU_INFO.exists():
        return False
    return BFLOAT16_FLAGS.isdisjoint(CPU_INFO.read_text("utf-8").split())


def lacks_tf32(device: torch.device) -> bool:
    """Return whether a device is no GPU of CUDA with TF32, which came with compute capability 8.0."""
    return device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 0)


@contextmanager
def full_float32(device: torch.device, *, tf32: bool = False) -> Iterator[None]:
    """Turn autocast off, and TF32 off or with `tf32` on; afterwards they are as before."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception says that memory does not suffice."""
    refused = isinstance(error, RuntimeError) and any(words in str(error) for words in REFUSALS)
    return refused or isinstance(error, MemoryError | torch.OutOfMemoryError)


def free_memory(device: torch.device) -> None:
    """Free what a failed forward pass held: its exception refers to itself, and the allocator of a GPU keeps blocks."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def counts_memory(device: torch.device) -> bool:
    """Return whether `memory_left` and `peak_memory` are known of a device: of a GPU of CUDA."""
    return device.type == "cuda"


def memory_left(device: torch.device) -> int:
    """Return how many bytes of a GPU of CUDA this process can still have: free ones, and those its allocator keeps."""
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def peak_memory(device: torch.device, work: Callable[[], T]) -> tuple[T, int]:
    """Return the result of some work, and the most bytes of a GPU of CUDA that it has in use."""
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    result = work()
    return result, torch.cuda.max_memory_allocated(device) - before


def byte_count(size: int | str) -> int:
    """Return a number of bytes, such as "20GB" or "18.5 GiB", as an integer.

    Raises:
        DataError: It is not a positive number with a unit from B to TB or TiB.

    >>> byte_count("20GB"), byte_count("1.5KiB"), byte_count(4096)
    (20000000000, 1536, 4096)
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]*)", str(size).strip().lower())
    count = int(float(match[1]) * UNITS.get(match[2] or "b", 0)) if match else 0
    if count < 1:
        raise DataError(
            f"expected an amount of memory such as 20GB or 512MiB, found {size!r}; give a number and a unit"
        )
    return count


def as_bytes(size: float) -> str:
    """Return a number of bytes as text.

    >>> as_bytes(900), as_bytes(3 * 2**20)
    ('900 B', '3 MiB')
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1000 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.3g} {unit}"


@contextmanager
def out_of_memory_hint(batch: int, least: int = 1) -> Iterator[None]:
    """Turn running out of memory into an error that names a batch to try.

    Args:
        batch: Images in the batch.
        least: Least number of images that a batch can have.

    Raises:
        OutOfMemoryError: The batch does not fit into memory.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(
            f"out of memory with {batch} images in a batch; try --batch {max(batch // 2, least)} (a smaller --num does "
            "not help: memory holds one batch at a time)"
        ) from error


@contextmanager
def predicting(device: torch.device, num: int) -> Iterator[None]:
    """Run a model on a batch of `num` images without gradients and in full float32.

    Raises:
        OutOfMemoryError: The batch does not fit into memory.
    """
    with torch.inference_mode(), full_float32(device), out_of_memory_hint(num):
        yield
