"""The page of `ckaprobe train`: the recipe, the learning curves, validation, and the checkpoints."""

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from safetensors import SafetensorError

from cka_probe.errors import CheckpointError, DataError
from cka_probe.models.checkpoint import FORMAT, Checkpoint, file_hash, read_header
from cka_probe.plotting.curves import Curves
from cka_probe.plotting.figure import save
from cka_probe.plotting.runs import Run, read_run
from cka_probe.report.blocks import (
    Block,
    Facts,
    FigureBlock,
    Page,
    Paragraph,
    Section,
    TableBlock,
    folder_name,
    format_value,
)
from cka_probe.report.commands import train_command

STAGE_COLUMNS = (
    "task", "start", "steps", "batch", "lr", "weight_decay", "layer_decay", "size", "freeze", "data", "options",
)  # fmt: skip
"""Keys of a recipe's stages that the page shows."""
EMPTY: tuple[Any, ...] = (None, "", [], {})


def read(folder: Path) -> Page:
    """Return the page of a run.

    Raises:
        DataError: The recipe, a log or a checkpoint cannot be read.
    """
    recipe = _recipe(folder / "recipe.json")
    stages = tuple(recipe["stages"])
    logs = {stage: folder / stage / "log.csv" for stage in stages}
    runs = {stage: read_run(path, stage) for stage, path in logs.items() if path.is_file()}
    headers = {stage: _header(folder / f"{stage}.safetensors") for stage in stages}
    checkpoints = {stage: header for stage, header in headers.items() if header is not None}
    architecture = recipe.get("architecture", "an architecture not recorded")
    validation = _validation(runs)
    sections = (
        Section("Learning curves", _curves(runs)),
        *([Section("Validation at the end", (validation,))] if validation else []),
        Section("Stages", (Facts(_facts(recipe)), _stages(recipe["stages"]))),
        Section("Checkpoints", _checkpoints(folder, checkpoints)),
    )
    return Page(
        title=f"Training of {architecture}: {recipe.get('name', folder_name(folder))}",
        subtitle=f"{architecture}, {len(stages)} {'stage' if len(stages) == 1 else 'stages'}: {', '.join(stages)}.",
        sections=sections,
        warnings=_warnings(recipe["stages"], runs, checkpoints),
        provenance=_provenance(recipe, checkpoints),
        command=train_command(recipe, folder_name(folder)),
        label="Training",
    )


def _recipe(path: Path) -> dict[str, Any]:
    """Return the recipe of a run, as its file has it."""
    try:
        table = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"expected a recipe.json of `ckaprobe train` at {path}, found: {error}") from error
    stages = table.get("stages") if isinstance(table, dict) else None
    if not isinstance(stages, dict) or not stages or not all(isinstance(stage, dict) for stage in stages.values()):
        raise DataError(f"{path}: expected a recipe with its stages, found none; give the folder of a run")
    return table


def _curves(runs: Mapping[str, Run]) -> tuple[Block, ...]:
    """Return the curves of each stage."""
    if not runs:
        return (Paragraph("No stage has a log yet."),)
    figures = []
    with TemporaryDirectory() as folder:
        for stage, run in runs.items():
            path = Path(folder) / f"{stage}.png"
            save(Curves((run,), title=stage), [path])
            caption = f"Stage `{stage}`: the loss and its parts over {int(run.log['step'].max())} steps"
            caption += ", and validation (hollow markers)." if len(run.validation) else "; without validation."
            figures.append(FigureBlock(path.read_bytes(), caption, f"curves_{stage}"))
    return tuple(figures)


def _validation(runs: Mapping[str, Run]) -> TableBlock | None:
    """Return the last validation scores, one row per stage and measure; None without validation."""
    rows = []
    for stage, run in runs.items():
        if not len(run.validation):
            continue
        first, last = run.validation.iloc[0], run.validation.iloc[-1]
        for measure in run.validation.columns.drop("step"):
            before = first[measure] if len(run.validation) > 1 else float("nan")
            rows.append((stage, measure, float(last[measure]), int(last["step"]), float(before), int(first["step"])))
    if not rows:
        return None
    columns = ["stage", "measure", "value", "at step", "first value", "first at step"]
    frame = pd.DataFrame(rows, columns=columns)
    if frame["first value"].isna().all():
        frame = frame.drop(columns=["first value", "first at step"])
    return TableBlock(frame, "Measured on data not used for training. These numbers have no interval.", "validation")


def _facts(recipe: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    settings = {key: value for key, value in recipe.items() if key not in ("stages", "data") and value not in EMPTY[1:]}
    paths = [(f"data {name}", str(path)) for name, path in (recipe.get("data") or {}).items()]
    return (*((name, format_value(value)) for name, value in settings.items()), *paths)


def _stages(stages: Mapping[str, Mapping[str, Any]]) -> TableBlock:
    """Return the recipe's stages, without empty columns."""
    columns: dict[str, list[Any]] = {"stage": list(stages)}
    for key in STAGE_COLUMNS:
        values = [stage.get(key) for stage in stages.values()]
        if all(value in EMPTY for value in values):
            continue
        numeric = key in ("steps", "batch", "lr")
        columns[key] = values if numeric else ["" if value in EMPTY else format_value(value) for value in values]
    frame = pd.DataFrame(columns)
    return TableBlock(frame.rename(columns=lambda name: name.replace("_", " ")), "What each stage does.", "stages")


def _checkpoints(folder: Path, checkpoints: Mapping[str, Checkpoint]) -> tuple[Block, ...]:
    if not checkpoints:
        return (Paragraph("No stage is finished: there is no checkpoint."),)
    rows = []
    for stage, header in checkpoints.items():
        path = folder / f"{stage}.safetensors"
        rows.append((path.name, path.stat().st_size / 2**20, header.step, file_hash(path), header.parent or "none"))
    columns = ["file", "MiB", "steps", "SHA-256", "SHA-256 of its parent"]
    frame = pd.DataFrame(rows, columns=columns).round({"MiB": 2})
    return (TableBlock(frame, "Each file can rebuild its network without this folder.", "checkpoints"),)


def _header(path: Path) -> Checkpoint | None:
    """Return a checkpoint's header; None where the stage is not finished."""
    if not path.is_file():
        return None
    try:
        header = read_header(path)
    except (SafetensorError, CheckpointError) as error:
        raise DataError(f"expected a checkpoint of `ckaprobe train` at {path}, found: {error}") from error
    if header is None:
        raise DataError(f"expected a checkpoint of `ckaprobe train` at {path}, found a file of other tensors; move it")
    return header


def _warnings(
    stages: Mapping[str, Any], runs: Mapping[str, Run], checkpoints: Mapping[str, Checkpoint]
) -> tuple[str, ...]:
    """Return what is missing."""
    complete = [name for name, run in runs.items() if run.log["step"].max() == stages[name].get("steps")]
    removed = [name for name in complete if name not in checkpoints]
    groups = {
        "Not finished: {}. The same command resumes the run.": [
            stage for stage in stages if stage not in checkpoints and stage not in removed
        ],
        "Trained to the last step, but the checkpoint is missing: {}.": removed,
        "Without a log: {}.": [stage for stage in stages if stage in checkpoints and stage not in runs],
        "Without validation: {}; the loss is that of the training data.": [
            stage for stage, run in runs.items() if not len(run.validation)
        ],
    }
    return tuple(text.format(", ".join(names)) for text, names in groups.items() if names)


def _provenance(recipe: Mapping[str, Any], checkpoints: Mapping[str, Checkpoint]) -> tuple[tuple[str, str], ...]:
    versions = dict.fromkeys(
        ", ".join(f"{name} {version}" for name, version in header.versions.items()) for header in checkpoints.values()
    )
    pairs = [("versions", packages or "not recorded") for packages in versions]
    return (("seed", str(recipe.get("seed", "not recorded"))), *pairs, ("format", FORMAT))
