"""With what a study is done; none of it changes a number by more than rounding."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from accelerate import PartialState

from cka_probe.reproduce.ground import Progress as Drawing
from cka_probe.training.trainer import Progress


@dataclass(frozen=True)
class Means:
    """Device, processes, and who is told of the progress.

    Attributes:
        device: "auto", "cpu", "cuda" or "mps".
        workers: Processes that read pictures ahead, and that draw worlds.
        training: Called after each step of training, as `run_recipe` does.
        drawing: Called as worlds are made, with (name, more, wanted).
        say: Called with a line at the beginning of each part.
    """

    device: str = "auto"
    workers: int = 0
    training: Progress | None = None
    drawing: Drawing = lambda name, more, wanted: None
    say: Callable[[str], None] = lambda line: None


T = TypeVar("T")


def alone(work: Callable[[], T]) -> T | None:
    """Do something in one of the processes that train together, while the others wait for it.

    Returns:
        What it returned, in that process; `None` in the others.
    """
    state = PartialState()
    done = work() if state.is_main_process else None
    state.wait_for_everyone()
    return done
