"""`ckaprobe draw`: redraw the figures of a result, from its file alone."""

from pathlib import Path
from typing import Annotated

import typer


def draw(
    result: Annotated[Path, typer.Argument(help="A result.json of `ckaprobe compare`.", show_default=False)],
    figure: Annotated[
        list[str] | None,
        typer.Option(help="heatmap or profile; repeat for both. By default all that apply.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to. By default the result's own.", show_default=False)
    ] = None,
    format: Annotated[str, typer.Option(help="png, pdf, svg, or several with commas.")] = "png,pdf",
) -> None:
    """Redraw the figures of a result; prints the paths written."""
    from cka_probe.figures import figures_for, save_figure
    from cka_probe.results import SimilarityMatrix

    matrix = SimilarityMatrix.load(result)
    folder = result.parent if out is None else out
    suffixes = [suffix.strip().lstrip(".") for suffix in format.split(",")]
    for name in figure or figures_for(matrix):
        for path in save_figure(matrix, name, [folder / f"{name}.{suffix}" for suffix in suffixes]):
            typer.echo(path)
