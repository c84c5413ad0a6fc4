"""`ckaprobe draw`: redraw the figures of results and of training runs, from their files alone."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from ckaprobe_cli.options import FIGURES, OUTPUT, Cmap, Force, Style, Venue, Vmax, Vmin, drop_none, option
from ckaprobe_cli.results_folder import results_folder


def draw(
    ctx: typer.Context,
    files: Annotated[
        list[Path],
        typer.Argument(
            help="A result.json or atlas.json of `ckaprobe compare`, or its folder; several results, which are drawn "
            "side by side; or runs of `ckaprobe train` (their folders, or a log.csv), whose learning curves are drawn."
        ),
    ],
    figure: Annotated[
        list[str] | None,
        option(
            "Of one result: heatmap, profile or uncertainty; of several models: models or curves; repeat for "
            "several. By default all. Of two results, or folders of `ckaprobe compare`: difference, of the first less "
            "the second.",
            FIGURES,
        ),
    ] = None,
    emphasis: Annotated[
        str | None,
        option(
            "Of results side by side, what is read: row (layer 0 with each) or diagonal (each with itself).", FIGURES
        ),
    ] = None,
    title: Annotated[
        list[str] | None, option("Of results side by side: repeat for each. By default the models.", FIGURES)
    ] = None,
    out: Annotated[Path | None, option("Folder to write to. By default that of the first file.", OUTPUT)] = None,
    format: Annotated[str, option("png, pdf, svg, or several with commas.", OUTPUT)] = "png,pdf",
    style: Style = "paper",
    venue: Venue = None,
    cmap: Cmap = None,
    vmin: Vmin = None,
    vmax: Vmax = None,
    force: Force = False,
) -> None:
    """Redraw the figures of results or of training runs.

    Prints the paths written.

    \b
    Example:
      ckaprobe draw result.json --figure heatmap --venue cvpr --format pdf
    """
    from cka_probe.errors import DataError
    from cka_probe.plotting.matrix import ColourScale
    from cka_probe.plotting.redraw import redraw
    from cka_probe.plotting.style import check_style

    suffixes = [suffix.strip().lstrip(".") for suffix in format.split(",")]
    check_style(style, venue)
    scale = ColourScale(vmin, vmax, **drop_none(cmap=cmap)) if vmin or vmax or cmap else None
    folder = out or (files[0] if files[0].is_dir() else files[0].parent)
    difference = figure == ["difference"] and len(files) > 1 and emphasis is None
    if difference and scale is not None:
        raise DataError("--cmap, --vmin and --vmax are for heatmaps; omit them for a difference")
    results = all(path.suffix == ".json" or (path / "result.json").is_file() for path in files)
    product = "difference.json" if difference else f"layer_grid.{suffixes[0]}" if results and files[1:] else ""
    with results_folder(ctx, folder, product, force=force) if product else nullcontext():
        if difference:
            paths = _difference(files, folder, suffixes, title or (), style, venue)
        else:
            paths = redraw(
                files,
                folder,
                suffixes,
                figures=figure or (),
                emphasis=emphasis,
                titles=title or (),
                scale=scale,
                style=style,
                venue=venue,
            )
    typer.echo("\n".join(map(str, paths)))


def _difference(
    files: Sequence[Path],
    folder: Path,
    suffixes: Sequence[str],
    titles: Sequence[str],
    style: str,
    venue: str | None,
) -> list[Path]:
    """Subtract the second comparison from the first, keep and draw the difference, and return the paths written."""
    from dataclasses import replace

    from cka_probe.comparison.differences import difference
    from cka_probe.errors import DataError
    from cka_probe.plotting import check_format, save
    from cka_probe.plotting.heatmap import Difference

    if len(files) != 2 or len(titles) not in (0, 2):
        raise DataError(
            f"a difference is of two comparisons, and has two titles or none; found {len(files)} files and "
            f"{len(titles)} titles"
        )
    drawn = [folder / f"difference.{suffix}" for suffix in suffixes]
    for path in drawn:
        check_format(path)
    result = difference(*files)
    if titles:
        result = replace(result, first=titles[0], second=titles[1])
    return [result.save(folder / "difference.json"), *save(Difference(result), drawn, style=style, venue=venue)]
