"""`ckaprobe report`: one page for any result folder."""

from pathlib import Path
from typing import Annotated

import typer

from ckaprobe_cli.options import Venue


def report(
    folder: Annotated[
        Path,
        typer.Argument(
            help="A folder of `ckaprobe compare`, `train`, `evaluate`, `gradcam` or `reproduce`, or a folder of these."
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="File to write.  [default: index.html in the folder]")] = None,
    venue: Venue = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is not a page of ckaprobe.")] = False,
) -> None:
    """Write the results in a folder as one HTML page.

    The page needs no network and no other file.

    Prints the path and size of the page.

    \b
    Example:
      ckaprobe report a_b
    """
    from cka_probe.report import report as write

    path = write(folder, out, force=force, venue=venue)
    typer.echo(f"{path}  {path.stat().st_size / 1e6:.2f} MB")
