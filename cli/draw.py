"""`ckaprobe draw`: redraw the figures of results and of training runs, from their files alone."""

from pathlib import Path
from typing import Annotated

import typer


def draw(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="A result.json of `ckaprobe compare`; several, which are drawn side by side; or runs of `ckaprobe "
            "train` (their folders, or a log.csv), whose learning curves are drawn.",
            show_default=False,
        ),
    ],
    figure: Annotated[
        list[str] | None,
        typer.Option(help="Of one result: heatmap or profile; repeat for both. By default all.", show_default=False),
    ] = None,
    emphasis: Annotated[
        str | None,
        typer.Option(
            help="Of results side by side, what is read: row (layer 0 with each) or diagonal (each with itself).",
            show_default=False,
        ),
    ] = None,
    title: Annotated[
        list[str] | None,
        typer.Option(help="Of results side by side: repeat for each. By default the models.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to. By default that of the first file.", show_default=False)
    ] = None,
    format: Annotated[str, typer.Option(help="png, pdf, svg, or several with commas.")] = "png,pdf",
) -> None:
    """Redraw the figures of results or of training runs; prints the paths written."""
    from cka_probe.figures.redraw import redraw

    suffixes = [suffix.strip().lstrip(".") for suffix in format.split(",")]
    for path in redraw(files, out, suffixes, figures=figure or (), emphasis=emphasis, titles=title or ()):
        typer.echo(path)
