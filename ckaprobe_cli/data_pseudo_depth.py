"""`ckaprobe data pseudo-depth`: what a network takes the depth of videos to be, as files."""

from typing import Annotated

import typer

from ckaprobe_cli.bars import progress_bar
from ckaprobe_cli.options import Device


def pseudo_depth(
    source: Annotated[
        str,
        typer.Argument(
            help="A checkpoint of `ckaprobe train` (a teacher), or transformers:NAME_OR_PATH.", show_default=False
        ),
    ],
    data: Annotated[str, typer.Argument(help="scdepth:DIR", show_default=False)],
    gives: Annotated[
        str | None,
        typer.Option(help="depth or disparity: what a model of transformers gives, if it does not tell."),
    ] = None,
    device: Device = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace pseudo-depth of other origin.")] = False,
) -> None:
    """Write pseudo-depth of every image for training, in LeReS's format; prints the folders.

    Interrupted, the same command goes on where it was. Train the teacher on other scenes than these.
    """
    from cka_probe.lab.pseudo_depth import write_pseudo_depth

    with progress_bar("images") as progress:
        folders = write_pseudo_depth(
            source, data, gives=gives or "", device=device, overwrite=overwrite, progress=progress
        )
    for folder in folders:
        typer.echo(folder)
