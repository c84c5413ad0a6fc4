"""Runs of training as their files tell them: which arms and seeds there are, what was logged and validated."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from cka_probe.errors import DataError
from cka_probe.files import read_json


@dataclass(frozen=True)
class Run:
    """One stage of one run.

    Attributes:
        arm: What runs that differ only in their seed have in common; the legend's word.
        log: Column `step`, and others such as `lr`, `loss`, its parts, `gradient`.
        validation: Column `step`, and measures; empty: nothing was validated.
    """

    arm: str
    log: pd.DataFrame
    validation: pd.DataFrame = field(default_factory=lambda: pd.DataFrame({"step": []}))


def read_run(log: str | Path, arm: str) -> Run:
    """Read `log.csv` of a stage, and the `validation.csv` next to it if there is one.

    Args:
        log: The file.
        arm: The legend's word.

    Raises:
        DataError: A file cannot be read, or has no steps.
    """
    validation = Path(log).with_name("validation.csv")
    return Run(arm, read_log(Path(log)), *([read_log(validation)] if validation.exists() else []))


def read_runs(paths: Sequence[str | Path]) -> dict[str, list[Run]]:
    """Read runs by stage.

    Args:
        paths: Folders of `ckaprobe train`, folders of one stage, or `log.csv` files.

    Returns:
        Stage to the runs that have it, in the order of `paths`. Runs whose recipes differ only in the seed are one
        arm; an arm is called as the folder of its first run.

    Raises:
        DataError: A path has no log, or one that cannot be read.
    """
    stages: dict[str, list[Run]] = {}
    arms: dict[str, str] = {}
    for path in map(Path, paths):
        logs = [file for file in (path, path / "log.csv") if file.is_file()] or _logs_of_stages(path)
        if not logs:
            raise DataError(f"expected a log.csv, or a folder of `ckaprobe train` with one, found none at {path}")
        for log in logs:
            folder = log.absolute().parent.parent
            recipe = json.dumps(_recipe(folder) or {"folder": str(folder)}, sort_keys=True)
            arm = arms.setdefault(recipe, _arm_name(folder.name, list(arms.values())))
            stages.setdefault(log.absolute().parent.name, []).append(read_run(log, arm))
    return stages


def _recipe(folder: Path) -> dict[str, Any]:
    """Return the recipe of a run without its seed; empty if there is none."""
    try:
        table = read_json(folder / "recipe.json")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise DataError(f"expected a recipe.json of `ckaprobe train` in {folder}, found: {error}") from error
    return {key: value for key, value in table.items() if key != "seed"}


def _logs_of_stages(folder: Path) -> list[Path]:
    """Return the logs of a run in the order of its recipe's stages, or else by name."""
    stages = list(_recipe(folder).get("stages") or ())
    logs = sorted(folder.glob("*/log.csv"))
    return sorted(logs, key=lambda log: stages.index(log.parent.name) if log.parent.name in stages else len(stages))


def _arm_name(folder: str, arms: Sequence[str]) -> str:
    """Return a folder's name without the number of its seed, or with it where another arm is called that."""
    short = re.sub(r"[-_. ]?(seed)?[-_. ]?\d+$", "", folder) or folder
    return next(name for name in (short, folder, f"{folder} ({len(arms) + 1})") if name not in arms)


def read_log(path: Path) -> pd.DataFrame:
    """Return a log of numbers with a column `step`.

    Raises:
        DataError: It cannot be read, is empty, or has others.
    """
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise DataError(f"expected a log of `ckaprobe train` at {path}, found: {error}") from error
    if "step" not in table or table.empty or not all(map(pd.api.types.is_numeric_dtype, table.dtypes)):
        raise DataError(
            f"{path}: expected numbers with a column 'step', found {', '.join(table.columns)}; give a log.csv"
        )
    return table
