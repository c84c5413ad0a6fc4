"""What a drift monitor costs the training that it watches: the first stage of the demo recipe, with it and without.

    OMP_NUM_THREADS=1 python benchmarks/monitoring.py
    python benchmarks/monitoring.py --rounds 1 --steps 6 --scenes 8 --num 16      # does it run?

Each round trains twice from the same start for the same steps, and the one that begins alternates. Times are of the
processor, which other load on the machine changes less than those of a clock. The weights after both have to be the
same bits. See README.md.
"""

import argparse
import tempfile
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from statistics import median
from time import process_time

import torch
from machine import describe

import cka_probe
from cka_probe.lab.scenes import Settings, make_scenes
from cka_probe.lab.training.recipe import Recipe, read_recipe
from cka_probe.lab.training.run import accelerator_for, open_samples
from cka_probe.lab.training.start import begin, seeded
from cka_probe.lab.training.trainer import Objective, Trainer

LIMIT = 0.02
"""Share of the time of the training that a monitor may take."""
MEASURED = 3
"""Fingerprints of a round, besides that of the start."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=30, help="of the training, each round")
    parser.add_argument("--scenes", type=int, default=240)
    parser.add_argument("--num", type=int, nargs="+", default=[64, 128, 256], help="images of the monitor")
    options = parser.parse_args()
    machine, threads = describe(), torch.get_num_threads()
    print(f"{machine['processor']}, torch {torch.__version__}, {threads} threads, load {machine['load']:.1f}")
    print("| images | step (ms) | with it (ms) | first (s) | later (s) | later (steps) | every | % of the training |")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_scenes(folder / "scenes", Settings("rooms", options.scenes))
        data = f"data.scenes={folder / 'scenes'}"
        whole = read_recipe("demo", [data]).stages[0].steps
        recipe = read_recipe("demo", [data, f"masked.steps={options.steps}", "masked.warmup=0"])
        for num in options.num:
            rounds = []
            for number in range(options.rounds):
                watched = (False, True) if number % 2 else (True, False)
                rounds.append({each: train(recipe, folder, num if each else 0) for each in watched})
                weights = [times.weights for times in rounds[-1].values()]
                assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
            print(row(num, rounds, whole), flush=True)


@dataclass
class Times:
    """Seconds of each step, of the first fingerprint with the reading of its images, and of each later one."""

    steps: list[float]
    first: float
    later: list[float]
    weights: dict[str, torch.Tensor]


def train(recipe: Recipe, folder: Path, num: int) -> Times:
    """Train from the start, with a monitor of so many images, or of 0 without."""
    place = Path(tempfile.mkdtemp(dir=folder))
    trainer, every = trainer_of(recipe, place), max(1, recipe.stages[0].steps // MEASURED)
    backbone = trainer.accelerator.unwrap_model(trainer.model).backbone
    times = Times([], 0.0, [], {})
    monitor = None
    start = process_time()
    if num:
        images = f"nyuv2:{folder / 'scenes'}:test"
        monitor = cka_probe.DriftMonitor(backbone, images, out=place / "drift", every=every, num=num)
        monitor.step(0)
        times.first = process_time() - start
    start = process_time()

    def note(*_: object) -> None:
        nonlocal start
        end = process_time()
        times.steps.append(end - start)
        if monitor:
            monitor.step(trainer.step)
            if trainer.step % every == 0:
                times.later.append(process_time() - end)
        start = process_time()

    trainer.run(note)
    times.weights = {name: value.clone() for name, value in backbone.state_dict().items()}
    return times


def trainer_of(recipe: Recipe, folder: Path) -> Trainer:
    """Return a trainer of the first stage at its first step."""
    stage = recipe.stages[0]
    accelerator = accelerator_for("cpu", stage.precision)
    backbone, task = begin(recipe, stage, folder).backbone, stage.build_task()
    head = seeded(lambda: task.head(backbone), recipe.seed, stage.name, "head")
    objective = Objective(backbone.train(), head.train(), task)
    return Trainer(stage, recipe.seed, objective, open_samples(recipe)[stage.name], accelerator, folder)


def row(num: int, rounds: list[dict[bool, Times]], whole: int) -> str:
    """Return the cost with so many images as a row of a table in Markdown, in a training of so many steps."""
    bare, watched = (median(step for each in rounds for step in each[key].steps[1:]) for key in (False, True))
    later = median(seconds for each in rounds for seconds in each[True].later)
    first = median(each[True].first for each in rounds)
    every = ceil(later / (LIMIT * bare - first / whole)) if first < LIMIT * bare * whole else whole
    share = (first + later * (whole // every)) / (bare * whole)
    cells = (f"{1000 * bare:.0f}", f"{1000 * watched:.0f}", f"{first:.2f}", f"{later:.2f}", f"{later / bare:.1f}")
    return f"| {num} | {' | '.join(cells)} | {every} | {100 * share:.1f} |"


if __name__ == "__main__":
    main()
