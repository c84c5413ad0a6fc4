"""`ckaprobe compare`: two models, some pictures, and how alike their layers are."""

from typing import Annotated

import typer

from ckaprobe_cli.options import (
    MODEL,
    Arch,
    Batch,
    Data,
    Device,
    Features,
    Layers,
    Num,
    Out,
    Precision,
    Seed,
    SkipBad,
    given,
    pictures_bar,
)


def compare(
    x: Annotated[str, typer.Argument(help=MODEL, show_default=False)],
    y: Annotated[str, typer.Argument(help=MODEL, show_default=False)],
    out: Out,
    data: Data = None,
    num: Num = None,
    batch: Batch = None,
    layers: Layers = None,
    layers_y: Annotated[str | None, typer.Option(help="Of y, where they differ.", show_default=False)] = None,
    seed: Seed = None,
    features: Features = None,
    estimator: Annotated[str, typer.Option(help="unbiased or biased.")] = "unbiased",
    permutations: Annotated[int, typer.Option(help="Of the pictures of y, for the null.", min=0)] = 200,
    preprocess: Annotated[
        str | None,
        typer.Option(help="own or shared (y is fed as x is).  [default: own]", show_default=False),
    ] = None,
    precision: Precision = None,
    arch: Arch = None,
    device: Device = "auto",
    skip_bad: SkipBad = False,
) -> None:
    """Compare every layer of X with every layer of Y.

    Writes result.json, result.csv, heatmap.png and heatmap.pdf (and the profile of the diagonal, where there is
    one) and prints the table of the diagonal and the paths.
    """
    import cka_probe
    from cka_probe.writing import check_writable

    check_writable(out)
    settings = given(num=num, batch=batch, seed=seed, features=features, precision=precision, preprocess=preprocess)
    with pictures_bar() as progress:
        result = cka_probe.compare(
            x,
            y,
            data,
            layers=layers,
            layers_y=layers_y,
            arch=arch,
            estimator=estimator,
            permutations=permutations,
            progress=progress,
            device=device,
            skip_bad=skip_bad,
            **settings,
        )
    typer.echo(result.summary())
    from cka_probe.figures import figures_for, save_figure

    paths = [result.save(out / "result.json"), result.save(out / "result.csv")]
    for name in figures_for(result):
        paths += save_figure(result, name, [out / f"{name}.png", out / f"{name}.pdf"])
    for path in paths:
        typer.echo(path)
