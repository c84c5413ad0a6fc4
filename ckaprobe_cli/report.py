"""`ckaprobe report`: one page of whatever a folder holds."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    folder: Annotated[
        Path,
        typer.Argument(
            help="Of `ckaprobe compare`, `train`, `evaluate`, `gradcam` or `reproduce`, or a folder of such folders.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="File to write.  [default: index.html in the folder]", show_default=False)
    ] = None,
) -> None:
    """Write one self-contained page of a folder's results: it needs no network and no other file.

    Prints its path and its size.
    """
    from cka_probe.report import report as write

    path = write(folder, out)
    typer.echo(f"{path}  {path.stat().st_size / 1e6:.2f} MB")
