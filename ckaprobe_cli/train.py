"""`ckaprobe train`: run or resume a recipe."""

import os
from pathlib import Path
from typing import Annotated

import typer

from ckaprobe_cli.bars import Bars
from ckaprobe_cli.options import OUTPUT, RUN, Quiet, Track, Workers, option


def train(
    recipe: Annotated[str, typer.Option(help="A bundled recipe, a .toml file, or the recipe.json of a run.")],
    out: Annotated[Path, option("Folder to write to; an interrupted run in it is resumed.", OUTPUT)],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe: seed=1, data.rooms=PATH, masked.steps=10."),
    ] = None,
    track: Track = None,
    device: Annotated[str, option("Device: auto, cpu, cuda or mps.", RUN)] = "auto",
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Train the stages of a recipe. Interrupt it at any time; the same command resumes it.

    Several GPUs: torchrun --nproc_per_node 8 --no-python ckaprobe train --recipe NAME --out DIR

    \b
    Example:
      ckaprobe train --recipe demo --out runs/demo --set seed=1
    """
    from cka_probe.lab.training import read_recipe, run_recipe

    with Bars(quiet) as bars:
        paths = run_recipe(
            read_recipe(recipe, [*(overrides or ()), *([f"track={track}"] if track else [])]),
            out,
            device=device,
            workers=workers,
            progress=bars.step,
        )
    if os.environ.get("RANK", "0") == "0":  # under torchrun, only the main process prints
        typer.echo("\n".join(map(str, paths)))
