"""`ckaprobe inspect`: the kind and contents of a weights file."""

from pathlib import Path
from typing import Annotated

import typer


def inspect(
    file: Annotated[Path, typer.Argument(help="A file of weights, or a Monodepth2 weights folder.")],
) -> None:
    """Print what a weights file is: its origin, which weights fit, which would be renamed or dropped."""
    from cka_probe.models.checkpoints import inspect_file

    typer.echo("\n".join(map(str, inspect_file(file).lines())))
