"""With what a study is done; none of it changes a number by more than rounding."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from accelerate import PartialState

from cka_probe.lab.training.trainer import StepCallback
from cka_probe.papers.study_data import NamedProgress


@dataclass(frozen=True)
class RunContext:
    """Device, processes, and who is told of the progress.

    Attributes:
        device: "auto", "cpu", "cuda" or "mps".
        workers: Processes that read images ahead, and that draw scenes; by default as many as training takes
            on this device, and one for each core to draw.
        training: Called after each step of training, as `run_recipe` does.
        drawing: Called as scenes are made, with (name, done, total).
        say: Called with a line at the beginning of each part.
    """

    device: str = "auto"
    workers: int | None = None
    training: StepCallback | None = None
    drawing: NamedProgress = lambda name, done, total: None
    say: Callable[[str], None] = lambda line: None

    @property
    def drawers(self) -> int:
        """Return how many processes draw scenes."""
        return self.workers or os.cpu_count() or 1


T = TypeVar("T")


def main_process_only(work: Callable[[], T]) -> T | None:
    """Do something in one of the processes that train together, while the others wait for it.

    Returns:
        What it returned, in that process; `None` in the others.
    """
    state = PartialState()
    done = work() if state.is_main_process else None
    state.wait_for_everyone()
    return done
