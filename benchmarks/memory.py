"""Peak memory of a tool, each measurement in a process of its own.

With both models and all images loaded and the tool imported, the kernel's high-water mark is set back and the
tool runs; the peak above that state is the tool's. The allocator is told, for all tools alike, to give freed
blocks back at once, so that what is counted is memory in use and not what the allocator keeps for later.
"""

import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "262144", "MALLOC_TRIM_THRESHOLD_": "262144", "MALLOC_ARENA_MAX": "1"}
"""glibc: blocks above 256 KiB come from the system and go back to it."""


def peak_of(workload: str, tool: str, *, images: str, seed: int, threads: int, batches: int, repeats: int) -> dict:
    """Return the median peak in MiB, above the loaded state and in all, over fresh processes; or the error.

    Args:
        workload: In `RECIPES`.
        tool: In `TOOLS`.
        images: `1/f` or `noise`.
        seed: Of models and images.
        threads: Of torch.
        batches: So many are run; a peak does not need all.
        repeats: Processes.
    """
    asked = json.dumps([workload, tool, images, seed, threads, batches])
    found = []
    for _ in range(repeats):
        done = subprocess.run(
            [sys.executable, str(Path(__file__)), asked],
            env=os.environ | ALLOCATOR,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines() or [f"ended with status {done.returncode}"]
            return {"error": lines[-1]}
        found.append(json.loads(done.stdout.splitlines()[-1]))
    above, total = ([one[part] for one in found] for part in ("above", "total"))
    return {"above_loaded": above, "total": total, "median_above": median(above), "median_total": median(total)}


def _measure(workload: str, tool: str, images: str, seed: int, threads: int, batches: int) -> dict[str, float]:
    """Return the peak of one run in this process, in MiB: above the loaded state, and in all."""
    import torch
    from rivals import TOOLS, clear_hooks, floor
    from workloads import make_workload

    torch.set_num_threads(threads)
    loaded = make_workload(workload, images=images, seed=seed).first(batches)
    small = loaded.first(1)
    floor(small)  # what a first forward pass allocates for good is nobody's
    TOOLS[tool].run(small)  # imports, and caches of the library
    clear_hooks(loaded)
    gc.collect()
    _forget_peak()
    before = _status("VmRSS")
    TOOLS[tool].run(loaded)
    peak = _status("VmHWM")
    return {"above": peak - before, "total": peak}


def _forget_peak() -> None:
    """Set the high-water mark of this process back to what it holds now (Linux: see proc_pid_clear_refs(5))."""
    Path("/proc/self/clear_refs").write_text("5")


def _status(name: str) -> float:
    """Return a line of this process's status, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    print(json.dumps(_measure(*json.loads(sys.argv[1]))))
