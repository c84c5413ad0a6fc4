"""A run of `ckaprobe train`: its recipe, how its losses fell, what was held out, and the checkpoints it left."""

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from safetensors import SafetensorError

from cka_probe.errors import CheckpointError, DataError
from cka_probe.models.checkpoint import FORMAT, Checkpoint, file_hash, read_header
from cka_probe.plotting.curves import Curves, save_curves
from cka_probe.plotting.runs import Run, read_run
from cka_probe.report.commands import train_command
from cka_probe.report.page import Facts, FigureItem, Section, TableItem, Text
from cka_probe.report.part import Part, in_words, own_name

EXPECTED = "recipe.json of `ckaprobe train`"
RECIPE, LOG = "recipe.json", "log.csv"
SHOWN = ("task", "start", "steps", "batch", "lr", "weight_decay", "layer_decay", "size", "freeze", "data", "options")
"""What the table says of each stage, of all that a recipe holds."""


def is_here(folder: Path) -> bool:
    """Return whether the folder holds a run."""
    return (folder / RECIPE).is_file()


def read(folder: Path) -> Part:
    """Return what a run says.

    Raises:
        DataError: The recipe, a log or a checkpoint cannot be read.
    """
    recipe = _recipe(folder / RECIPE)
    stages = tuple(recipe["stages"])
    runs = {stage: read_run(folder / stage / LOG, stage) for stage in stages if (folder / stage / LOG).is_file()}
    headers = {stage: _header(folder / f"{stage}.safetensors") for stage in stages}
    done = {stage: header for stage, header in headers.items() if header is not None}
    name, architecture = (
        recipe.get("name", own_name(folder)),
        recipe.get("architecture", "an architecture not recorded"),
    )
    validated = _validated(runs)
    sections = (
        Section("Learning curves", _curves(runs)),
        *([Section("Held out, at the end", (validated,))] if validated else []),
        Section("Stages", (Facts(_facts(recipe)), _stages(recipe["stages"]))),
        Section("Checkpoints", _checkpoints(folder, done)),
    )
    return Part(
        label="Training",
        title=f"Training of {architecture}: {name}",
        subtitle=f"{architecture}, {len(stages)} {'stage' if len(stages) == 1 else 'stages'}: {', '.join(stages)}.",
        sections=sections,
        cautions=_cautions(recipe["stages"], runs, done),
        provenance=_provenance(recipe, done),
        command=train_command(recipe, own_name(folder)),
    )


def _recipe(path: Path) -> dict[str, Any]:
    """Return a recipe as its file has it; older versions know fewer keys."""
    try:
        table = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"expected a recipe.json of `ckaprobe train` at {path}, found: {error}") from error
    stages = table.get("stages") if isinstance(table, dict) else None
    if not isinstance(stages, dict) or not stages or not all(isinstance(stage, dict) for stage in stages.values()):
        raise DataError(f"{path}: expected a recipe with its stages, found none; give the folder of a run")
    return table


def _curves(runs: Mapping[str, Run]) -> tuple[FigureItem | Text, ...]:
    """Return the curves of each stage."""
    if not runs:
        return (Text(("No stage has a log yet.",)),)
    items = []
    with TemporaryDirectory() as place:
        for stage, run in runs.items():
            path = Path(place) / f"{stage}.png"
            save_curves(Curves((run,), title=stage), [path])
            caption = f"Stage `{stage}`: the loss and its parts over {int(run.log['step'].max())} steps"
            caption += ", and what was held out (hollow)." if len(run.validation) else "; nothing was held out."
            items.append(FigureItem(path.read_bytes(), caption, f"curves_{stage}"))
    return tuple(items)


def _validated(runs: Mapping[str, Run]) -> TableItem | None:
    """Return the last values of validation, a row for each stage and measure."""
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
    return TableItem(frame, "Measured on data that was not trained on. These numbers have no interval.", "validation")


def _facts(recipe: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    kept = {key: value for key, value in recipe.items() if key not in ("stages", "data") and value not in ({}, [], "")}
    paths = [(f"data {name}", str(path)) for name, path in (recipe.get("data") or {}).items()]
    return (*((name, in_words(value)) for name, value in kept.items()), *paths)


def _stages(stages: Mapping[str, Mapping[str, Any]]) -> TableItem:
    """Return the recipe's stages, without columns in which nothing is said."""
    empty = (None, "", [], {})
    rows = {
        key: [in_words(stage[key]) if stage.get(key) not in empty else "" for stage in stages.values()] for key in SHOWN
    }
    for key in ("steps", "batch", "lr"):
        rows[key] = [stage.get(key) for stage in stages.values()]
    kept = {key: values for key, values in rows.items() if any(value not in empty for value in values)}
    frame = pd.DataFrame({"stage": list(stages), **kept})
    return TableItem(frame.rename(columns=lambda name: name.replace("_", " ")), "What each stage does.", "stages")


def _checkpoints(folder: Path, done: Mapping[str, Checkpoint]) -> tuple[TableItem | Text, ...]:
    if not done:
        return (Text(("No stage is finished: there is no checkpoint.",)),)
    rows = []
    for stage, header in done.items():
        path = folder / f"{stage}.safetensors"
        rows.append((path.name, path.stat().st_size / 2**20, header.step, file_hash(path), header.parent or "none"))
    columns = ["file", "MiB", "steps", "SHA-256", "SHA-256 of its parent"]
    frame = pd.DataFrame(rows, columns=columns).round({"MiB": 2})
    return (TableItem(frame, "Each rebuilds its network without this folder.", "checkpoints"),)


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


def _cautions(stages: Mapping[str, Any], runs: Mapping[str, Run], done: Mapping[str, Checkpoint]) -> tuple[str, ...]:
    """Return what is not there."""
    gone = [name for name in runs if name not in done and runs[name].log["step"].max() == stages[name].get("steps")]
    waiting = [stage for stage in stages if stage not in done and stage not in gone]
    said = [f"Not finished: {', '.join(waiting)}. The same command goes on."] if waiting else []
    said += [f"Trained to the last step, and the checkpoint is not here: {', '.join(gone)}."] if gone else []
    silent = [stage for stage in stages if stage in done and stage not in runs]
    said += [f"No log is kept of {', '.join(silent)}."] if silent else []
    unseen = [stage for stage, run in runs.items() if not len(run.validation)]
    said += [f"Nothing was held out of {', '.join(unseen)}: its loss is that of its training data."] if unseen else []
    return tuple(said)


def _provenance(recipe: Mapping[str, Any], done: Mapping[str, Checkpoint]) -> tuple[tuple[str, str], ...]:
    made = dict.fromkeys(
        ", ".join(f"{name} {one}" for name, one in header.versions.items()) for header in done.values()
    )
    pairs = [("seed", str(recipe.get("seed", "not recorded")))]
    return (*pairs, *(("versions", said or "not recorded") for said in made), ("format", FORMAT))
