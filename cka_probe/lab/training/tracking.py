"""Metrics of training for TensorBoard, Weights & Biases and other trackers, by the classes of accelerate.

Each stage is a run of its own. Only the main process writes to trackers. TensorBoard's files are in the folder of the
stage, next to its log, so that `tensorboard --logdir OUT` shows all stages.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker, get_available_trackers

from cka_probe import registry
from cka_probe.errors import MissingExtraError
from cka_probe.lab.training.recipe import Recipe, Stage

TRACKERS: dict[str, type[GeneralTracker]] = {str(name): kind for name, kind in LOGGER_TYPE_TO_CLASS.items()}
"""Trackers by name. Each is called with the name of a project, and with the folder of its files if it
`requires_logging_directory`."""

PACKAGES = {"comet_ml": "comet-ml"}
"""Packages of trackers that have another name."""


def check_trackers(names: Sequence[str]) -> None:
    """Check that trackers exist and that their packages are installed.

    Raises:
        UnknownNameError: There is no such tracker.
        MissingExtraError: A package is not installed.
    """
    installed = {str(name) for name in get_available_trackers()}
    for name in names:
        kind = registry.get(TRACKERS, name, "tracker")
        if kind is LOGGER_TYPE_TO_CLASS.get(name) and name not in installed:
            raise MissingExtraError(
                f"tracker {name!r} needs a package that is not installed; "
                f"install it with: pip install {PACKAGES.get(name, name)}"
            )


@contextmanager
def open_trackers(recipe: Recipe, stage: Stage, folder: Path, step: int = 0) -> Iterator[list[GeneralTracker]]:
    """Give the trackers of a recipe, started for a stage, and finish them at the end. Only the main process has any.

    Args:
        recipe: Names the trackers, and the project of those that have projects.
        stage: The stage.
        folder: Of the run.
        step: The step of the resume point; TensorBoard forgets later ones, which will be written again.
    """
    with ExitStack() as opened:
        trackers = []
        for name in recipe.track if PartialState().is_main_process else ():
            kind: Any = registry.get(TRACKERS, name, "tracker")
            options = _options(name, f"{folder}/{stage.name}", step)
            in_folder = kind.requires_logging_directory
            tracker = kind(stage.name, str(folder), **options) if in_folder else kind(recipe.name, **options)
            tracker.start()
            opened.callback(tracker.finish)
            if not in_folder:  # else recipe.json is there; TensorBoard would open another run for it
                tracker.store_init_configuration({"seed": recipe.seed, **_flat(stage)})
            trackers.append(tracker)
        yield trackers


def _options(name: str, run: str, step: int) -> dict[str, Any]:
    """Return the arguments of a tracker besides project and folder."""
    if name == "tensorboard":
        return {"purge_step": step + 1} if step else {}
    return {"name": run[-128:]} if name == "wandb" else {}


def _flat(stage: Stage) -> Mapping[str, Any]:
    """Return the keys of a stage as numbers, truth values and texts."""
    values = asdict(stage).items()
    return {key: value if isinstance(value, str | int | float) else json.dumps(value) for key, value in values}
