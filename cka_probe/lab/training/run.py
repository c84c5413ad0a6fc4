"""Run the stages of a recipe in order. A second run resumes where the first stopped.

Several jobs with one folder share the stages: each trains the next one that no other trains and whose start is there.

OUT/recipe.json                the recipe with every default; `--recipe` reads it too
OUT/<stage>.safetensors        the checkpoint of a finished stage
OUT/<stage>/log.csv            step, learning rate, loss and its parts
OUT/<stage>/validation.csv     step and the task's scores
OUT/<stage>/resume.pt          weights and optimizer state of an unfinished stage
"""

import atexit
import json
import os
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import InitProcessGroupKwargs
from torch import distributed as dist

from cka_probe.comparison.ranks import TIMEOUT
from cka_probe.errors import OutputError, RecipeError
from cka_probe.files import atomic_write, remove_abandoned
from cka_probe.lab.datasets.cache import DecodedCache
from cka_probe.lab.tasks.task import least_images, published_weights
from cka_probe.lab.training.batch_norm import share_batch_norms
from cka_probe.lab.training.compiling import check_compiler, compile_blocks
from cka_probe.lab.training.recipe import Recipe, Stage, read_recipe
from cka_probe.lab.training.sampling import AugmentedDataset, Samples, num_parts
from cka_probe.lab.training.start import Start, adapted, begin, fill, random_backbone, reference, seeded
from cka_probe.lab.training.tracking import check_trackers, open_trackers
from cka_probe.lab.training.trainer import RESUME_POINTS, Objective, StepCallback, Trainer
from cka_probe.lab.training.turns import take_turns
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
        workers: Processes that prefetch images; 0 reads in this one. By default `default_workers`. It does not change
            results.
        progress: Called after each step with (stage, step, steps, scalars).

    Returns:
        The checkpoints, one per stage.

    Raises:
        RecipeError: The recipe is inconsistent, or does not fit its data, this machine or the number of processes.
        OutputError: The folder contains a run of another recipe.
    """
    recipe = recipe if isinstance(recipe, Recipe) else read_recipe(recipe)
    folder = Path(out)
    accelerator = accelerator_for(device, recipe.stages[0].precision)
    samples = check_recipe(recipe, folder, accelerator.num_processes, device)
    workers = default_workers(accelerator) if workers is None else workers
    _claim(recipe, folder, accelerator)

    def finish(stage: Stage) -> None:
        if not checkpoint_path(folder, stage).exists():
            _run_stage(recipe, stage, folder, samples[stage.name], device=device, workers=workers, progress=progress)
        if accelerator.is_main_process:
            for written in (folder, folder / stage.name):
                remove_abandoned(written)
            for path in resume_points(folder, stage):  # last: while one is there, a killed run is finished here
                path.unlink(missing_ok=True)

    take_turns(
        recipe.stages,
        finish,
        lambda stage: folder / ".locks" / stage.name,
        lambda stage: checkpoint_path(folder, stage).exists() and not resume_points(folder, stage),
        is_ready=lambda stage: _can_start(recipe, stage, folder),
    )
    return [checkpoint_path(folder, stage) for stage in recipe.stages]


def resume_points(folder: Path, stage: Stage) -> list[Path]:
    """Return the resume points of a stage that exist; those of a finished stage are left by a run that was killed."""
    return [path for name in RESUME_POINTS if (path := folder / stage.name / name).exists()]


def _can_start(recipe: Recipe, stage: Stage, folder: Path) -> bool:
    """Return whether the stage that another starts from is finished, if it starts from one."""
    start = reference(recipe, stage)
    return start not in {other.name for other in recipe.stages} or (folder / f"{start}.safetensors").exists()


def checkpoint_path(folder: Path, stage: Stage) -> Path:
    """Return where a stage's checkpoint is written."""
    return folder / f"{stage.name}.safetensors"


def open_samples(recipe: Recipe) -> dict[str, tuple[Samples, Samples]]:
    """Return (training, validation) samples of each stage; check that they have the fields that the task needs."""
    samples = {}
    cache = DecodedCache() if any(stage.cache for stage in recipe.stages) else None
    for stage in recipe.stages:
        needs = stage.build_task().needs
        pair = [Samples(specs, needs, cache if stage.cache else None) for specs in (stage.data, stage.validation)]
        training, held_out = pair[0].split(stage.num, stage.held_out, None if stage.choose == "first" else recipe.seed)
        for spec, dataset in zip(stage.data + stage.validation, pair[0].datasets + pair[1].datasets, strict=True):
            if missing := needs - dataset.gives:
                raise RecipeError(
                    f"stages.{stage.name}: task {stage.task!r} needs {', '.join(sorted(needs))}, and {spec!r} has no "
                    f"{', '.join(sorted(missing))}; choose another dataset or task"
                )
        samples[stage.name] = (training, held_out if stage.held_out else pair[1])
    return samples


def check_recipe(
    recipe: Recipe, folder: Path | None, processes: int = 1, device: str = "auto"
) -> dict[str, tuple[Samples, Samples]]:
    """Check all unfinished stages, so that none fails for its settings or files after others were trained.

    Of each stage these are checked: the sharing of its batch, where it starts, the fields of its data, that its first
    samples can be read and prepared, that encoder and head can be built for its input size, and that weights of others
    that its head begins with can be loaded. Nothing is written.

    Args:
        recipe: The recipe.
        folder: Of its run; `None` looks at no run.
        processes: Number of processes that will run it.
        device: On which `torch.compile` has to work, if a stage compiles.

    Returns:
        The training and validation samples of each unfinished stage.

    Raises:
        CkaProbeError: A stage cannot be run, or the folder contains a run of another recipe.
    """
    unfinished = recipe.stages
    if folder is not None:
        recipe_of_folder(recipe, folder)
        unfinished = tuple(stage for stage in recipe.stages if not checkpoint_path(folder, stage).exists())
    check_trackers(recipe.track)
    for stage in recipe.stages:
        reference(recipe, stage)
    for stage in unfinished:
        check_processes(stage, processes)
        with torch.device("meta"):  # without memory or time
            backbone = adapted(random_backbone(recipe, stage.size), stage)
            stage.build_task().head(backbone)
        if stage.compile:
            check_compiler(device)
            compile_blocks(backbone.model)
        published_weights(stage.build_task())
    samples = open_samples(replace(recipe, stages=unfinished))
    for stage in unfinished:
        for part, train in zip(samples[stage.name], (True, False), strict=True):
            if len(part):
                _ = AugmentedDataset(part, stage.build_task(), recipe.seed, train)[0]
    return samples


def check_processes(stage: Stage, processes: int) -> None:
    """Check that a stage has images for each of several processes in every step.

    Raises:
        RecipeError: Its batch is too small to be shared.
    """
    least = least_images(stage.build_task())
    if not num_parts(stage.batch, stage.accumulate, processes, least):
        many = f" for each of {processes} processes" if processes > 1 else ""
        raise RecipeError(
            f"stages.{stage.name}.batch: expected at least {least} images{many}, found {stage.batch}; "
            + (f"start at most {stage.batch // least} processes" if stage.batch >= least else "set it higher")
        )


RUNTIME = ("cache", "checkpointing", "compile", "log_every", "save_every", "validate_every")
"""Keys of a stage that do not change what it computes."""


def recipe_of_folder(recipe: Recipe, folder: Path, finished: Collection[str] = ()) -> Recipe:
    """Return what the folder of a run has to record: a recipe, and the stages of earlier calls that it lacks.

    A stage may be changed until it has a checkpoint or a resume point.

    Args:
        recipe: The recipe of the call.
        folder: Of the run.
        finished: Names of stages that are finished although their checkpoints were deleted.

    Raises:
        OutputError: The folder contains a run of another recipe.
    """
    path = folder / "recipe.json"
    if not path.exists():
        if checkpoints := [file.name for stage in recipe.stages if (file := checkpoint_path(folder, stage)).exists()]:
            raise OutputError(f"{folder} holds {checkpoints[0]}, but not its recipe.json; choose another --out")
        return recipe
    before = read_recipe(path)  # with defaults for keys of newer versions
    stages = {stage.name: stage for stage in recipe.stages}
    for old in before.stages:
        done = old.name in finished or checkpoint_path(folder, old).exists()
        stage = stages.get(old.name)
        difference = _difference(_facts(before, old if stage else None), _facts(recipe, stage))
        if difference and (done or resume_points(folder, old)):
            advice = "delete that run" if done else f"delete {folder / old.name} to begin that stage again"
            raise OutputError(
                f"{folder} holds a run of another recipe: {difference}; choose another --out, or {advice}"
            )
    missing = [replace(old, start=reference(before, old)) for old in before.stages if old.name not in stages]
    return replace(recipe, stages=(*recipe.stages, *missing), data=before.data | recipe.data)


def _facts(recipe: Recipe, stage: Stage | None) -> dict[str, Any]:
    """Return the keys of a recipe that determine the weights of one of its stages, or of all."""
    table = recipe.as_dict()
    facts = {key: table[key] for key in ("architecture", "size", "seed", "options")}
    if stage is not None:
        keys = {key: value for key, value in table["stages"][stage.name].items() if key not in RUNTIME}
        facts["stages"] = {stage.name: keys | {"start": reference(recipe, stage)}}
    return facts


def _claim(recipe: Recipe, folder: Path, accelerator: Accelerator) -> None:
    """Write the recipe into its folder, unless it is there.

    Raises:
        OutputError: The folder contains a run of another recipe.
    """
    path, record = folder / "recipe.json", recipe_of_folder(recipe, folder)
    if accelerator.is_main_process and not (path.exists() and read_recipe(path) == record):
        write_recipe(record, path)
    accelerator.wait_for_everyone()


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Write a recipe as JSON, with every default."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(recipe.as_dict(), indent=2) + "\n", "utf-8")


def _difference(old: dict, new: dict, where: str = "") -> str:
    """Return the first key in which two recipes differ, with both values, or an empty string."""
    for key in {**new, **old}:
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            if difference := _difference(before, after, f"{where}{key}."):
                return difference
        elif before != after:
            return f"{where}{key} is {before!r} there and {after!r} here"
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
    new = published_weights(task)
    fill(head, new, tuple(new))
    fill(head, start.head_state, start.prefixes)
    stage_folder = folder / stage.name
    if accelerator.is_main_process:
        stage_folder.mkdir(parents=True, exist_ok=True)
    accelerator.wait_for_everyone()
    backbone = start.backbone.train(not stage.freeze)  # nothing in training calls `train` again
    if stage.freeze == "encoder":
        backbone.requires_grad_(False)
    objective = Objective(backbone, head.train(), task)
    if stage.compile:
        compile_blocks(backbone.model)
    if stage.sync_batch_norm:
        share_batch_norms(objective)
    trainer = Trainer(stage, recipe.seed, objective, samples, accelerator, stage_folder)
    with open_trackers(recipe, stage, folder, trainer.step) as trackers:
        trainer.run(progress, workers, trackers)
    if accelerator.is_main_process:
        save_checkpoint(checkpoint_path(folder, stage), backbone, head, _header(recipe, stage, start))
    accelerator.wait_for_everyone()


def _header(recipe: Recipe, stage: Stage, start: Start) -> Checkpoint:
    """Return the header of a stage's checkpoint."""
    last = recipe.stages.index(stage)
    table = replace(recipe, stages=recipe.stages[: last + 1], track=()).as_dict()
    height, width = start.backbone.preprocessing.size or stage.shape
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


def accelerator_for(device: str, precision: str) -> Accelerator:
    """Return the accelerator of this process; under `torchrun` it knows the others.

    Args:
        device: "auto" (the first available of cuda, mps and cpu), "cpu", "cuda" or "mps".
        precision: In `PRECISIONS`. Only "tf32" lets GPUs compute float32 in TF32.

    Raises:
        RecipeError: The device is not available.
    """
    available = {"auto": True, "cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not available.get(device, False):
        names = ", ".join(name for name, usable in available.items() if usable)
        raise RecipeError(f"expected a device of {names}, found {device!r}; omit --device to choose automatically")
    # accelerate remembers the first precision and device of a process and refuses others; a recipe may change
    # precision from stage to stage, and a notebook may run two recipes
    AcceleratorState._reset_state(reset_partial_state=True)
    waiting = InitProcessGroupKwargs(timeout=TIMEOUT)  # for scores in one process, or for a stage in another job
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    mixed = "no" if precision == "tf32" else precision
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision=mixed, kwargs_handlers=[waiting])
    atexit.unregister(_leave)
    atexit.register(_leave)
    return accelerator


def _leave() -> None:
    """Leave the process group while the interpreter is whole; gloo's threads may abort one that they outlive."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


MAX_WORKERS = 16
"""More per GPU did not help, and each takes memory."""


def default_workers(accelerator: Accelerator) -> int:
    """Return the default number of processes that prefetch images.

    On a CPU none: the networks use its cores. With a GPU, all cores that this process may use, less one, shared among
    the processes of this machine: a GPU would mostly wait for a single process to decode images.
    """
    if accelerator.device.type == "cpu":
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(MAX_WORKERS, max(1, (cores - 1) // processes))
