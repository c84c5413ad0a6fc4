"""Tools timed side by side: one after the other in every round, each round beginning with another tool.

A ratio is of a tool to the floor of the same round, so that a machine that slows down slows both.
"""

import gc
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter

from rivals import TOOLS, clear_hooks
from torch import Tensor
from truth import largest_error, true_cka
from workloads import Workload

PATIENCE = 4.0
"""A tool that took more than this many floors runs no more rounds; its spread would not change the verdict."""
HOPELESS = 8.0
"""One that took this many floors over the warm-up's single batch runs no round at all; that batch is its row."""


@dataclass
class Measured:
    """What one tool did on one workload.

    Attributes:
        seconds: By round.
        ratios: To the floor of the same round.
        matrix: Of the last round.
        error: Why there is none.
        worst: Largest absolute error of a cell against float64.
        not_numbers: Cells that are NaN or infinite.
        batches: Of the workload that were run, if not all.
    """

    seconds: dict[int, float] = field(default_factory=dict)
    ratios: list[float] = field(default_factory=list)
    matrix: Tensor | None = None
    error: str = ""
    worst: float | None = None
    not_numbers: int = 0
    batches: int | None = None

    def recorded(self) -> dict:
        """Return it as JSON keeps it."""
        return {
            "seconds": list(self.seconds.values()),
            "ratios": self.ratios,
            "median_ratio": median(self.ratios) if self.ratios else None,
            "largest_error": self.worst,
            "cells_not_numbers": self.not_numbers,
            "batches": self.batches,
            "error": self.error,
        }


def time_tools(workload: Workload, tools: list[str], rounds: int) -> dict[str, Measured]:
    """Return what each tool did; an error ends a tool and is kept.

    Args:
        workload: The same for all.
        tools: Names in `TOOLS`; `floor` among them.
        rounds: How often each runs, after a warm-up over one batch.
    """
    measured = {name: Measured() for name in tools}
    for name in tools:
        _warm_up(name, workload.first(1), measured)
    for number in range(rounds):
        turn = number % len(tools)
        for name in tools[turn:] + tools[:turn]:
            one = measured[name]
            if one.error or one.batches or _too_slow(one, measured):
                continue
            seconds = _timed(name, workload, one)
            if seconds is not None:
                one.seconds[number] = seconds
                _say(f"  round {number + 1}/{rounds}: {name} {seconds:.2f} s")
    for one in measured.values():
        if not one.batches:
            one.ratios = [seconds / measured["floor"].seconds[number] for number, seconds in one.seconds.items()]
    return measured


def judge(measured: dict[str, Measured], workload: Workload) -> None:
    """Fill in the largest error of each tool's matrix, against the truth about the batches it ran over."""
    _say("  reference in float64")
    references = {}
    for one in measured.values():
        if one.matrix is not None:
            if one.batches not in references:
                references[one.batches] = true_cka(workload.first(one.batches) if one.batches else workload)
            one.worst, one.not_numbers = largest_error(one.matrix, references[one.batches])


def stopwatch(run: Callable[[], object]) -> tuple[float, object]:
    """Return the seconds that a call took, and what it gave; garbage is collected before."""
    gc.collect()
    start = perf_counter()
    given = run()
    return perf_counter() - start, given


def _warm_up(name: str, one_batch: Workload, measured: dict[str, Measured]) -> None:
    """Run a tool and the floor over one batch; a hopeless one keeps what that took as its row."""
    one = measured[name]
    _say(f"  warm-up: {name}")
    _timed("floor", one_batch, measured["floor"])
    bare, seconds = _timed("floor", one_batch, measured["floor"]), _timed(name, one_batch, one)
    if bare and seconds and seconds > HOPELESS * bare:
        one.batches, one.seconds, one.ratios = 1, {0: seconds}, [seconds / bare]
        _say(f"  {name} took {seconds / bare:.0f} floors over one batch: no more of it")


def _too_slow(one: Measured, measured: dict[str, Measured]) -> bool:
    """Return whether a tool has shown that more rounds of it would be a waste."""
    floor = measured["floor"].seconds
    return bool(one.seconds and floor) and min(one.seconds.values()) > PATIENCE * min(floor.values())


def _timed(name: str, workload: Workload, one: Measured) -> float | None:
    """Return the seconds of one run, or None where it failed."""
    try:
        seconds, one.matrix = stopwatch(lambda: TOOLS[name].run(workload))
    except Exception as error:  # whatever another package raises belongs in the table
        one.error = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        _say(f"  {name} failed: {one.error}")
        return None
    finally:
        clear_hooks(workload)
    return seconds


def _say(line: str) -> None:
    """Tell how far it is."""
    print(line, file=sys.stderr, flush=True)
