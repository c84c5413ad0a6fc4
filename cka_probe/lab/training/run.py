"""Run the stages of a recipe in order. Run again, it resumes where it stopped.

OUT/recipe.json                the recipe with every default written out; `--recipe` reads it too
OUT/<stage>.safetensors        the checkpoint; its presence means that the stage is finished
OUT/<stage>/log.csv            step, learning rate, loss and its parts
OUT/<stage>/validation.csv     step and the task's scores
OUT/<stage>/resume.pt          weights and optimizer state of an unfinished stage
"""

import json
import os
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from cka_probe.errors import OutputError, RecipeError
from cka_probe.files import atomic_write
from cka_probe.lab.datasets.cache import DecodedCache
from cka_probe.lab.training.recipe import Recipe, Stage, read_recipe, recipe_of
from cka_probe.lab.training.sampling import Samples
from cka_probe.lab.training.start import Start, begin, fill, frozen, reference, seeded
from cka_probe.lab.training.trainer import Objective, StepCallback, Trainer
from cka_probe.models.checkpoint import Checkpoint, save_checkpoint


def run_recipe(
    recipe: Recipe | str | Path,
    out: str | Path,
    *,
    device: str = "auto",
    workers: int | None = None,
    progress: StepCallback | None = None,
) -> list[Path]:
    """Train every unfinished stage of a recipe.

    Args:
        recipe: A recipe, or what `read_recipe` takes.
        out: Folder for all output.
        device: "auto", "cpu", "cuda" or "mps".
        workers: Processes that read images ahead; 0 reads in this one, by default as many as `readers` returns.
            It changes no number.
        progress: Called after each step with (stage, step, steps, scalars).

    Returns:
        The checkpoints, one per stage.

    Raises:
        RecipeError: The recipe is inconsistent, or does not fit its data or this machine.
        OutputError: The folder holds a run of another recipe.
    """
    recipe = recipe if isinstance(recipe, Recipe) else read_recipe(recipe)
    folder = Path(out)
    samples = open_samples(recipe)
    for stage in recipe.stages:
        reference(recipe, stage)
    accelerator = accelerator_for(device, recipe.stages[0].precision)
    workers = readers(accelerator) if workers is None else workers
    _claim(recipe, folder, accelerator)
    for stage in recipe.stages:
        if not checkpoint_path(folder, stage).exists():
            _run_stage(recipe, stage, folder, samples[stage.name], device=device, workers=workers, progress=progress)
    return [checkpoint_path(folder, stage) for stage in recipe.stages]


def checkpoint_path(folder: Path, stage: Stage) -> Path:
    """Return where a stage's checkpoint is written."""
    return folder / f"{stage.name}.safetensors"


def open_samples(recipe: Recipe) -> dict[str, tuple[Samples, Samples]]:
    """Return (training, validation) samples of each stage; check that they have the fields that the task needs."""
    samples = {}
    kept = DecodedCache() if any(stage.cache for stage in recipe.stages) else None
    for stage in recipe.stages:
        needs = stage.build_task().needs
        pair = tuple(Samples(specs, needs, kept if stage.cache else None) for specs in (stage.data, stage.validation))
        chosen, held_out = pair[0].split(stage.num, stage.held_out, None if stage.choose == "first" else recipe.seed)
        for spec, dataset in (place for part in pair for place in zip(part.specs, part.datasets, strict=True)):
            if missing := needs - dataset.gives:
                raise RecipeError(
                    f"stages.{stage.name}: task {stage.task!r} needs {', '.join(sorted(needs))}, and {spec!r} has no "
                    f"{', '.join(sorted(missing))}; choose another dataset or task"
                )
        samples[stage.name] = (chosen, held_out if stage.held_out else pair[1])
    return samples


def _claim(recipe: Recipe, folder: Path, accelerator: Accelerator) -> None:
    """Write the recipe into its folder, or find it there already, or one with fewer of its stages, or with more.

    Raises:
        OutputError: Another recipe was run there.
    """
    path, ours = folder / "recipe.json", recipe.as_dict()
    if path.exists():
        before = recipe_of(json.loads(path.read_text("utf-8")))
        there = before.as_dict()  # with the keys that an older version did not know
        if _part(before, recipe) or _part(recipe, before):
            there |= {key: ours[key] for key in ("stages", "data")}  # the paths stand in the stages
        if difference := _difference(there, ours):
            raise OutputError(
                f"{folder} holds a run of another recipe: {difference}; choose another --out, or delete that run"
            )
        if accelerator.is_main_process and len(before.stages) < len(recipe.stages):
            _write(path, ours)
    elif found := [checkpoint_path(folder, s).name for s in recipe.stages if checkpoint_path(folder, s).exists()]:
        raise OutputError(f"{folder} holds {found[0]} and no recipe.json that says what it is; choose another --out")
    elif accelerator.is_main_process:
        _write(path, ours)
    accelerator.wait_for_everyone()


def _part(recipe: Recipe, whole: Recipe) -> bool:
    """Return whether all stages of a recipe are in another one, unchanged and with the same start."""
    stages = {stage.name: (stage, reference(whole, stage)) for stage in whole.stages}
    return all(stages.get(stage.name) == (stage, reference(recipe, stage)) for stage in recipe.stages)


def _write(path: Path, table: dict) -> None:
    with atomic_write(path) as beside:
        beside.write_text(json.dumps(table, indent=2) + "\n", "utf-8")


def _difference(there: dict, here: dict, where: str = "") -> str:
    """Return the first key in which two recipes differ, in words, or ""."""
    for key in [*here, *(key for key in there if key not in here)]:
        old, new = there.get(key), here.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            if found := _difference(old, new, f"{where}{key}."):
                return found
        elif old != new:
            return f"{where}{key} is {old!r} there and {new!r} here"
    return ""


def _run_stage(
    recipe: Recipe,
    stage: Stage,
    folder: Path,
    samples: tuple[Samples, Samples],
    *,
    device: str,
    workers: int,
    progress: StepCallback | None,
) -> None:
    """Train one stage and write its checkpoint; arguments as of `run_recipe`."""
    accelerator = accelerator_for(device, stage.precision)
    start, task = begin(recipe, stage, folder), stage.build_task()
    head = seeded(lambda: task.head(start.backbone), recipe.seed, stage.name, "head")
    fill(head, start.head_state, start.carried)
    inside = folder / stage.name
    if accelerator.is_main_process:
        inside.mkdir(parents=True, exist_ok=True)
    accelerator.wait_for_everyone()
    objective = Objective(frozen(start.backbone.train(), stage.freeze), head.train(), task)
    trainer = Trainer(stage, recipe.seed, objective, samples, accelerator, inside)
    trainer.run(progress, workers)
    if accelerator.is_main_process:
        save_checkpoint(checkpoint_path(folder, stage), objective.backbone, head, _header(recipe, stage, start))
        trainer.resume_point.unlink()
    accelerator.wait_for_everyone()


def _header(recipe: Recipe, stage: Stage, start: Start) -> Checkpoint:
    """Return the header of a stage's checkpoint."""
    table = recipe.as_dict()
    height, width = start.backbone.preprocessing.size or stage.shape
    until = [other.name for other in recipe.stages].index(stage.name) + 1
    table["stages"] = dict(list(table["stages"].items())[:until])
    return Checkpoint(
        architecture=recipe.architecture,
        options=start.backbone.origin.options,
        mean=start.backbone.preprocessing.mean,
        std=start.backbone.preprocessing.std,
        stage=stage.name,
        task=stage.task,
        task_options=table["stages"][stage.name]["options"],
        step=stage.steps,
        seed=recipe.seed,
        recipe=table,
        parent=start.parent,
        size=() if height == width else (height, width),
    )


DEVICES = {"auto": "the first there is of cuda, mps, cpu", "cpu": "", "cuda": "", "mps": ""}


def accelerator_for(device: str, precision: str) -> Accelerator:
    """Return the accelerator of this process; under `torchrun` it knows the others.

    Args:
        device: A name in `DEVICES`.
        precision: "no", "bf16" or "fp16".

    Raises:
        RecipeError: There is no such device here.
    """
    available = {"auto": True, "cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(device, False):
        found = ", ".join(name for name, usable in available.items() if usable)
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
