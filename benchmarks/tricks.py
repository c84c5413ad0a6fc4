"""What each trick of the engine saves on CPUs: a comparison without it over one with all of them.

Every trick is switched off alone, in alternating rounds of one process. A ratio above 1 is what the trick saves.
"""

import argparse
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from importlib import import_module
from statistics import median
from typing import Any

from machine import describe
from rivals import floor, ours
from rounds import stopwatch
from workloads import make_workload

model_run = import_module("cka_probe.comparison.model_run")
folding = import_module("cka_probe.models.folding")
gram = import_module("cka_probe.similarity.gram")


@contextmanager
def replaced(module: Any, name: str, value: Any) -> Iterator[None]:
    """Replace a name of a module for some time."""
    original = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, original)


def record_all(*arguments: Any, **keywords: Any) -> Any:
    """Record without the end of the forward pass after the last layer."""
    return RECORD(*arguments, **keywords | {"stop": False})


def probe_apart(run: Any, batches: Any, **_: Any) -> Any:
    """Probe a model, and run on the images of the probe again."""
    return PROBE(run, batches, keep=False)


RECORD, PROBE = model_run.record, model_run.ModelRun.probe

TRICKS: dict[str, Callable[[], Any]] = {
    "all of them": nullcontext,
    "channels-last images": partial(replaced, model_run, "runs_in_any_format", lambda _: False),
    "contiguous images over small maps": partial(replaced, folding, "SMALL", math.inf),
    "batch norms folded into convolutions": partial(replaced, model_run, "find_folds", lambda *_: []),
    "the end after the last layer": partial(replaced, model_run, "record", record_all),
    "outputs of the probe kept": partial(replaced, model_run.ModelRun, "probe", probe_apart),
    "activations multiplied as they are": partial(replaced, gram, "RAW", ()),
    "blocks multiplied together": partial(replaced, gram, "TOGETHER", 1),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workloads", nargs="+", default=["resnet10", "resnet61", "swin9"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="two small batches: does it run?")
    options = parser.parse_args()
    print(describe(), end="\n\n")
    for name in options.workloads:
        workload = make_workload(name, images="1/f", seed=0, quick=options.quick)
        seconds: dict[str, list[float]] = {trick: [] for trick in ("bare forward passes", *TRICKS)}
        for number in range(-1, options.rounds):  # the first round is the warm-up
            names = [*seconds]
            for trick in names[number % len(names) :] + names[: number % len(names)]:
                with TRICKS.get(trick, nullcontext)():
                    spent, _ = stopwatch(partial(floor if trick not in TRICKS else ours, workload))
                if number >= 0:
                    seconds[trick].append(spent)
        print(f"| {name}, {options.rounds} rounds | seconds | over all of them |\n|---|---|---|")
        for trick, spents in seconds.items():
            ratios = [one / whole for one, whole in zip(spents, seconds["all of them"], strict=True)]
            label = trick if trick in ("all of them", "bare forward passes") else f"without {trick}"
            print(f"| {label} | {median(spents):.2f} | {median(ratios):.3f} ({min(ratios):.3f} - {max(ratios):.3f}) |")
        print(flush=True)


if __name__ == "__main__":
    main()
