"""The page of `ckaprobe train`: the recipe, the learning curves, validation, and the checkpoints."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd

from cka_probe.errors import CheckpointError, DataError
from cka_probe.files import read_json
from cka_probe.models.checkpoint import FORMAT, Checkpoint, file_hash, read_header
from cka_probe.plotting.curves import Curves
from cka_probe.plotting.figure import save
from cka_probe.plotting.runs import Run, read_run
from cka_probe.report.blocks import Facts, FigureBlock, Heading, Page, TableBlock, Text, format_value, provenance_of

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
    stages = recipe["stages"]
    runs = {stage: read_run(path, stage) for stage in stages if (path := folder / stage / "log.csv").is_file()}
    paths = {stage: path for stage in stages if (path := folder / f"{stage}.safetensors").is_file()}
    checkpoints = {stage: _header(path) for stage, path in paths.items()}
    architecture = recipe.get("architecture", "an architecture not recorded")
    settings = {key: value for key, value in recipe.items() if key not in ("stages", "data") and value not in EMPTY}
    facts = [(key, format_value(value)) for key, value in settings.items()]
    facts += [(f"data {name}", str(path)) for name, path in (recipe.get("data") or {}).items()]
    caption = "Stage `{}`, measured on data not used for training. These numbers have no interval."
    validation = [
        TableBlock(run.validation, caption.format(stage), f"validation_{stage}")
        for stage, run in runs.items()
        if len(run.validation)
    ]
    name = folder.resolve().name
    command = shlex.join(["ckaprobe", "train", "--recipe", f"{name}/recipe.json", "--out", f"{name}-again"])
    versions = {name: version for header in checkpoints.values() for name, version in header.versions.items()}
    return Page(
        title=f"Training of {architecture}: {recipe.get('name', name)}",
        blocks=(
            Heading("Learning curves"),
            *(_curves(runs) if runs else [Text("No stage has a log yet.")]),
            *([Heading("Validation")] if validation else []),
            *validation,
            Heading("Stages"),
            Facts(tuple(facts)),
            _stages(stages),
            Heading("Checkpoints"),
            _checkpoints(paths, checkpoints) if paths else Text("No stage is finished: there is no checkpoint."),
            *provenance_of(command, (), {}, versions, FORMAT),
        ),
        subtitle=f"{architecture}, {len(stages)} {'stage' if len(stages) == 1 else 'stages'}: {', '.join(stages)}.",
        warnings=_warnings(stages, runs, checkpoints),
        label="Training",
    )


def _recipe(path: Path) -> dict[str, Any]:
    """Return the recipe of a run, as its file has it."""
    try:
        table = read_json(path)
    except (OSError, ValueError) as error:
        raise DataError(f"expected a recipe.json of `ckaprobe train` at {path}, found: {error}") from error
    stages = table.get("stages") if isinstance(table, dict) else None
    if not isinstance(stages, dict) or not stages or not all(isinstance(stage, dict) for stage in stages.values()):
        raise DataError(f"{path}: expected a recipe with its stages, found none; give the folder of a run")
    return table


def _header(path: Path) -> Checkpoint:
    """Return a checkpoint's header."""
    try:
        header = read_header(path)
    except CheckpointError as error:
        raise DataError(f"expected a checkpoint of `ckaprobe train` at {path}, found: {error}") from error
    if header is None:
        raise DataError(f"expected a checkpoint of `ckaprobe train` at {path}, found a file of other tensors; move it")
    return header


def _curves(runs: Mapping[str, Run]) -> list[FigureBlock]:
    """Return the curves of each stage."""
    figures = []
    with TemporaryDirectory() as folder:
        for stage, run in runs.items():
            path = Path(folder) / f"{stage}.png"
            save(Curves((run,), title=stage), [path])
            caption = f"Stage `{stage}`: the loss and its parts over {int(run.log['step'].max())} steps"
            caption += ", and validation (hollow markers)." if len(run.validation) else "; without validation."
            figures.append(FigureBlock(path.read_bytes(), caption, f"curves_{stage}"))
    return figures


def _stages(stages: Mapping[str, Mapping[str, Any]]) -> TableBlock:
    """Return the recipe's stages, without empty columns."""
    columns: dict[str, list[Any]] = {"stage": list(stages)}
    for key in STAGE_COLUMNS:
        values = [stage.get(key) for stage in stages.values()]
        if any(value not in EMPTY for value in values):
            texts = ["" if value in EMPTY else format_value(value) for value in values]
            columns[key.replace("_", " ")] = values if key in ("steps", "batch", "lr") else texts
    return TableBlock(pd.DataFrame(columns), "What each stage does.", "stages")


def _checkpoints(paths: Mapping[str, Path], checkpoints: Mapping[str, Checkpoint]) -> TableBlock:
    rows = [
        (path.name, path.stat().st_size / 2**20, header.step, file_hash(path), header.parent or "none")
        for path, header in zip(paths.values(), checkpoints.values(), strict=True)
    ]
    columns = ["file", "MiB", "steps", "SHA-256", "SHA-256 of its parent"]
    frame = pd.DataFrame(rows, columns=columns).round({"MiB": 2})
    return TableBlock(frame, "Each file can rebuild its network without this folder.", "checkpoints")


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
