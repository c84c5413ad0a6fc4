"""`ckaprobe inspect`: what a file of weights is, before anything is done with it."""

from pathlib import Path
from typing import Annotated

import typer


def inspect(
    file: Annotated[
        Path, typer.Argument(help="A file of weights, or a Monodepth2 weights folder.", show_default=False)
    ],
) -> None:
    """Say what a file of weights is: who wrote it, what fits, what would be renamed and dropped."""
    from cka_probe.models.checkpoints import inspect_file

    for line in inspect_file(file).lines():
        typer.echo(line)
