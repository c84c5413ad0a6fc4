"""`ckaprobe regions`: the similarity of the layers of two models over parts of the images."""

import re
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from ckaprobe_cli.bars import progress_bar
from ckaprobe_cli.compare import save_result
from ckaprobe_cli.options import (
    IMAGES,
    MODEL,
    MODELS,
    OUTPUT,
    SIMILARITY,
    Arch,
    Batch,
    Device,
    Encoder,
    Force,
    Layers,
    Num,
    Quiet,
    Seed,
    Size,
    drop_none,
    option,
    with_encoder,
)
from ckaprobe_cli.results_folder import results_folder

RESULT = "regions.csv"


def regions(
    ctx: typer.Context,
    x: Annotated[str, typer.Argument(help=MODEL.replace(", or a fingerprint", ""))],
    y: Annotated[str, typer.Argument(help="The other model.")],
    data: Annotated[str, option("Images with labels: nyuv2:PATH:test, cityscapes:PATH, …", IMAGES)],
    out: Annotated[Path, option("Folder to write to.", OUTPUT)],
    region: Annotated[
        str,
        option("Regions, separated by commas: border, interior, or names or numbers of classes.", IMAGES),
    ] = "border,interior",
    num: Num = None,
    batch: Batch = None,
    layers: Layers = None,
    layers_y: Annotated[str | None, option("Layers of Y, where they differ.", MODELS)] = None,
    seed: Seed = None,
    measure: Annotated[str, option("As in ckaprobe compare.", SIMILARITY)] = "cka",
    estimator: Annotated[str, option("Estimator of CKA: unbiased or biased.", SIMILARITY)] = "unbiased",
    permutations: Annotated[int, option("Number of permutations for the null; 0: none.", SIMILARITY, min=0)] = 200,
    size: Size = None,
    arch: Arch = None,
    arch_y: Annotated[str | None, option("Architecture of Y, where it differs; auto to find it.", MODELS)] = None,
    encoder: Encoder = None,
    device: Device = "auto",
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Compare two models over parts of images.

    A part is a class, or what is near the borders of classes. Writes regions.csv, a figure of the diagonals of all
    regions, and for each region a folder as of ckaprobe compare. Differences are between each region and the first,
    over the same images.

    \b
    Example:
      ckaprobe regions a.pth b.pth --data nyuv2:nyu:test --region border,interior,chair --out a_b_regions
    """
    from cka_probe.comparison.regions import compare_regions
    from cka_probe.errors import DataError
    from cka_probe.files import atomic_write
    from cka_probe.plotting import save
    from cka_probe.plotting.labels import model_names
    from cka_probe.plotting.matrix import ColourScale
    from cka_probe.plotting.profile import LayerDivergence, Pair

    settings: dict[str, Any] = drop_none(num=num, batch=batch, seed=seed, size=size)
    names = [name.strip() for name in region.split(",") if name.strip()]
    with results_folder(ctx, out, RESULT, force=force):
        with progress_bar("images", quiet) as progress:
            comparison = compare_regions(
                with_encoder(x, encoder),
                with_encoder(y, encoder),
                data,
                names,
                layers=layers,
                layers_y=layers_y,
                arch=arch,
                arch_y=arch_y,
                device=device,
                measure=measure,
                estimator=estimator,
                permutations=permutations,
                progress=progress,
                **settings,
            )
        paths = []
        first, *_ = comparison.results
        for name, result in comparison.results.items():
            folder = out / re.sub(r"[/\\]|^\.+", "_", name)  # a class of some data set may be called ..
            typer.echo(f"region   {name}")
            save_result(folder, result, ColourScale(None, None))
            for letter, side in zip("xy", comparison.sides[name], strict=True):
                side.save(folder / f"{letter}.fingerprint")
            paths.append(folder)
        for name, difference in comparison.differences.items():
            typer.echo(f"{name} minus {first}\n{difference.summary()}")
        with suppress(DataError):  # the layers of x and y are others, or there are too many regions
            names_of_models = model_names(comparison.results[first], room=16)
            figure = LayerDivergence([Pair(" and ".join(names_of_models), comparison.results)])
            paths += save(figure, [out / "regions.png", out / "regions.pdf"])
        with atomic_write(out / RESULT) as path:
            comparison.to_frame().to_csv(path, index=False)
    typer.echo("\n".join(map(str, [*paths, out / RESULT])))
