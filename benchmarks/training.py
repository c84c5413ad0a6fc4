"""Images per second of every kind of stage, the time it waits for data, and bare forward and backward beside it.

    python benchmarks/training.py --out training.json
    python benchmarks/training.py --device cuda --architecture swinv2_base --size 192 --batch 64 --workers 12
    python benchmarks/training.py --rounds 1 --steps 3 --scenes 4      # does it run?

A row is the trainer's own loop as `ckaprobe train` runs it: reading, augmenting, forward, backward, clipping, AdamW,
the log. Bare is forward and backward of the same networks on the same batches, held in memory. Both run once a round,
the one that begins alternates, and a ratio is of one round. Nothing is asserted. See README.md.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from machine import describe
from torch import Tensor

from cka_probe.lab.datasets.cache import DecodedCache
from cka_probe.lab.scenes import Settings, make_scenes
from cka_probe.lab.scenes.objects import OBJECTS
from cka_probe.lab.tasks import TASKS
from cka_probe.lab.training.recipe import Recipe, Stage
from cka_probe.lab.training.run import accelerator_for
from cka_probe.lab.training.sampling import Samples
from cka_probe.lab.training.start import begin, seeded
from cka_probe.lab.training.trainer import Objective, Trainer

VIDEOS, SEQUENCES, PHOTOGRAPHS = "scdepth:{rooms}", "scdepth:{rooms}?sources=-1,1", "imagenet:{objects}"
EXAMPLES: dict[str, tuple[str, dict]] = {
    "masked": (VIDEOS, {"cell": 16}),
    "geometric": (SEQUENCES, {}),
    "pseudo_depth": (SEQUENCES, {}),
    "teacher": (VIDEOS, {}),
    "depth": (VIDEOS, {}),
    "classification": (PHOTOGRAPHS, {"classes": len(OBJECTS)}),
}
"""What each task is shown, and its options; a new task is a line."""

HELD = 8
"""Batches held in memory for the bare passes; more steps begin again with the first."""
LINE = "{:<16} {:>10} {:>8} {:>6} {:>11} {:>2} {:>9} {:>11}"


class Timed(Trainer):
    """A trainer that notes how long it waits for batches, from the end of its `warm`-th step on."""

    def __init__(self, *arguments, warm: int):
        super().__init__(*arguments)
        self.warm, self.waited, self.began, self.took = warm, 0.0, 0.0, 0.0

    def _batches(self, *arguments) -> Iterator[dict[str, Tensor]]:
        batches = super()._batches(*arguments)
        while True:
            asked = perf_counter()
            batch = next(batches, None)
            if self.step >= self.warm:
                self.waited += perf_counter() - asked
            if batch is None:
                return
            yield batch

    def note(self, _stage: str, step: int, _steps: int, _scalars: dict) -> None:
        """Take the time; called after each step, before the resume point and the evaluation of the last one."""
        if step == self.warm:
            self.began = perf_counter()
        self.took = perf_counter() - self.began


def main() -> None:
    """Measure, print, write."""
    options = parse()
    if options.device == "cpu":
        torch.set_num_threads(options.threads)
    result = {"machine": describe(), "options": vars(options), "rows": {}}
    print(head(result))
    with tempfile.TemporaryDirectory() as folder:
        paths = make(Path(folder), options)
        for task in TASKS if options.only is None else options.only:
            if task not in EXAMPLES:
                print(f"{task:<16} not measured: no line in EXAMPLES says what to show it")
                continue
            result["rows"][task] = measure(task, paths, Path(folder), options)
            print(line(task, result["rows"][task]), flush=True)
    if options.out:
        Path(options.out).write_text(json.dumps(result, indent=1) + "\n", "utf-8")


def parse() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(TASKS), help="tasks to measure")
    parser.add_argument("--architecture", default="swinv2_micro")
    parser.add_argument("--size", type=int, default=64, help="input side in pixels")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=20, help="that are timed, each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1, help="processes that read ahead")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda", "mps"])
    parser.add_argument("--precision", default="no", choices=["no", "bf16", "fp16"])
    parser.add_argument("--threads", type=int, default=1, help="of the networks, on a CPU")
    parser.add_argument("--cache", action="store_true", help="read images from what is kept once decoded")
    parser.add_argument("--scenes", type=int, default=24, help="of each kind; rooms have 12 frames")
    parser.add_argument("--pixels", type=int, nargs=2, default=(240, 320), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--out", help="JSON with every time")
    return parser.parse_args()


def make(folder: Path, options: argparse.Namespace) -> dict[str, Path]:
    """Return folders of videos with every truth and of labelled images."""
    kinds = {"rooms": ("sc_depth", 12), "objects": ("imagenet", 1)}
    for kind, (layout, frames) in kinds.items():
        say(f"{options.scenes} {kind}")
        settings = Settings(kind, options.scenes, frames, options.pixels, test=0, layout=layout)
        make_scenes(folder / kind, settings)
    return {kind: folder / kind for kind in kinds}


def measure(task: str, paths: dict[str, Path], folder: Path, options: argparse.Namespace) -> dict:
    """Return images per second by round, trained and bare, and the share of the time spent waiting."""
    spec, settings = EXAMPLES[task]
    warm = 2 * options.workers + 2  # what was read ahead during the first step is not counted
    stage = Stage(
        task, task, (spec.format(**paths),), warm + options.steps, options.batch, 1e-5, size=options.size,
        precision=options.precision, clip=5.0, save_every=10**9, options=settings,
    )  # fmt: skip
    row = {"trained": [], "bare": [], "waiting": []}
    kept = filled(stage) if options.cache else None
    for number in range(options.rounds + 1):
        trainer = trainer_of(stage, kept, folder, warm, options)
        for run in (trained, bare) if number % 2 else (bare, trained):
            found = run(trainer, options)
            if number:  # the first round fetches files, memory and kernels, and is not counted
                for name, value in found.items():
                    row[name].append(value)
        say(f"  {task}: round {number} of {options.rounds}")
    return row


def filled(stage: Stage) -> DecodedCache:
    """Return a cache that holds all images of a stage."""
    kept = DecodedCache()
    samples = Samples(stage.data, stage.build_task().needs, kept)
    for index in range(len(samples)):
        samples[index]
    return kept


def trainer_of(stage: Stage, kept: DecodedCache | None, folder: Path, warm: int, options: argparse.Namespace) -> Timed:
    """Return a trainer at its first step, its weights random."""
    recipe = Recipe("benchmark", options.architecture, (stage,), size=options.size)
    accelerator = accelerator_for(options.device, stage.precision)
    task, backbone = stage.build_task(), begin(recipe, stage, folder).backbone
    network = seeded(lambda: task.head(backbone), 0)
    samples = (Samples(stage.data, task.needs, kept), Samples((), task.needs))
    place = Path(tempfile.mkdtemp(dir=folder))
    objective = Objective(backbone.train(), network.train(), task)
    return Timed(stage, 0, objective, samples, accelerator, place, warm=warm)


def trained(trainer: Timed, options: argparse.Namespace) -> dict[str, float]:
    """Return images per second of the trainer's loop, and the share of its time that it waited."""
    trainer.run(trainer.note, options.workers)
    images = options.batch * (trainer.stage.steps - trainer.warm)
    return {"trained": images / trainer.took, "waiting": trainer.waited / trainer.took}


def bare(trainer: Timed, options: argparse.Namespace) -> dict[str, float]:
    """Return images per second of forward and backward alone, on batches that are there."""
    positions = range(min(HELD, options.steps) * options.batch)
    batches = list(Trainer._batches(trainer, trainer.views, positions, 0))

    def passes(count: int) -> None:
        for batch in islice(cycle(batches), count):
            loss, _ = trainer.model(batch)
            trainer.accelerator.backward(loss)
            trainer.model.zero_grad()
        loss.item()  # a GPU is done only now

    passes(2)
    start = perf_counter()
    passes(options.steps)
    return {"bare": options.steps * options.batch / (perf_counter() - start)}


def head(result: dict) -> str:
    """Return what stands above the rows."""
    machine, options = result["machine"], result["options"]
    graphics = f"{torch.cuda.get_device_name()}, " if options["device"] == "cuda" else ""
    source = "kept" if options["cache"] else "decoded again"
    return "\n".join(
        [
            f"{graphics}{machine['processor']}, {machine['cores']} cores, load {machine['load']:.1f}; "
            f"{options['architecture']} at {options['size']} pixels, batches of {options['batch']}, "
            f"{options['workers']} workers, {options['threads']} threads, "
            f"precision {options['precision']}, images {source}",
            LINE.format("stage", "images/s", "bare", "ratio", "min-max", "n", "waiting %", "min-max"),
        ]
    )


def line(task: str, row: dict) -> str:
    """Return a row as text."""
    ratios = [ours / theirs for ours, theirs in zip(row["trained"], row["bare"], strict=True)]
    waiting = [100 * share for share in row["waiting"]]
    return LINE.format(
        task, f"{median(row['trained']):.1f}", f"{median(row['bare']):.1f}", f"{median(ratios):.2f}",
        f"{min(ratios):.2f}-{max(ratios):.2f}", len(ratios), f"{median(waiting):.1f}",
        f"{min(waiting):.1f}-{max(waiting):.1f}",
    )  # fmt: skip


def say(line: str) -> None:
    """Tell how far it is."""
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
