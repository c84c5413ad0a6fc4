"""Folders as `ckaprobe train` leaves them, without its checkpoints."""

import json

from helpers.figures_of_lines import log, validation


def write_run(folder, seed, *, arm="full", stages=("geometric", "depth")):
    """Write the logs of a run and its recipe, and return the folder."""
    for stage in stages:
        (folder / stage).mkdir(parents=True)
        log(seed).to_csv(folder / stage / "log.csv", index=False)
        validation(seed, "abs_rel").to_csv(folder / stage / "validation.csv", index=False)
    recipe = {"seed": seed, "arm": arm, "stages": {stage: {} for stage in stages}}
    (folder / "recipe.json").write_text(json.dumps(recipe))
    return folder
