"""`ckaprobe compare`: the similarity of the layers of two models over the same images."""

from typing import Annotated

import typer

from ckaprobe_cli.bars import progress_bar
from ckaprobe_cli.options import (
    MODEL,
    Arch,
    Batch,
    Data,
    Device,
    Encoder,
    Features,
    Layers,
    Num,
    Out,
    Precision,
    Seed,
    Size,
    SkipBad,
    drop_none,
    with_encoder,
)


def compare(
    x: Annotated[str, typer.Argument(help=MODEL)],
    y: Annotated[str, typer.Argument(help=MODEL)],
    out: Out,
    data: Data = None,
    num: Num = None,
    batch: Batch = None,
    layers: Layers = None,
    layers_y: Annotated[str | None, typer.Option(help="Layers of Y, where they differ.")] = None,
    seed: Seed = None,
    features: Features = None,
    measure: Annotated[str, typer.Option(help="cka, rsa, mutual_knn, or procrustes (slow).")] = "cka",
    estimator: Annotated[str, typer.Option(help="Estimator of CKA: unbiased or biased.")] = "unbiased",
    permutations: Annotated[int, typer.Option(help="Number of permutations for the null; 0: none.", min=0)] = 200,
    preprocess: Annotated[
        str | None,
        typer.Option(help="own (each model its size and normalisation) or shared (those of X).  [default: own]"),
    ] = None,
    precision: Precision = None,
    size: Size = None,
    arch: Arch = None,
    encoder: Encoder = None,
    device: Device = "auto",
    skip_bad: SkipBad = False,
    keep: Annotated[
        bool, typer.Option("--fingerprints/--no-fingerprints", help="Save the fingerprints of both models in OUT.")
    ] = True,
) -> None:
    """Compare every layer of X with every layer of Y.

    Writes result.json, result.csv, the figures as PNG and PDF, the fingerprints of both models and a strip of the
    first images. Prints the table of the diagonal, warnings, and the paths written.
    """
    import cka_probe
    from cka_probe.comparison.fingerprint import is_fingerprint
    from cka_probe.comparison.warnings import warnings_for
    from cka_probe.files import check_writable
    from cka_probe.images.thumbnails import save_strip, thumbnails
    from cka_probe.plotting import figures_of, save
    from cka_probe.similarity import choose_measure

    check_writable(out)
    choose_measure(measure, estimator)
    settings = drop_none(
        num=num, batch=batch, seed=seed, features=features, precision=precision, preprocess=preprocess, size=size
    )
    with progress_bar("images") as progress:
        sides = cka_probe.fingerprints(
            with_encoder(x, encoder),
            with_encoder(y, encoder),
            data,
            layers=layers,
            layers_y=layers_y,
            arch=arch,
            progress=progress,
            device=device,
            skip_bad=skip_bad,
            **settings,
        )
    result = cka_probe.compare_fingerprints(*sides, measure=measure, estimator=estimator, permutations=permutations)
    typer.echo(result.summary())
    for name, side in (("x", result.x), ("y", result.y)):
        for note in side.notes:
            typer.echo(f"note on {name}  {note}")
    for warning in warnings_for(result):
        typer.echo(f"warning  {warning}")

    paths = [result.save(out / "result.json"), result.save(out / "result.csv")]
    for name, figure in figures_of(result).items():
        paths += save(figure, [out / f"{name}.png", out / f"{name}.pdf"])
    if keep:
        paths += [side.save(out / f"{name}.fingerprint") for name, side in zip("xy", sides, strict=True)]
    if not (is_fingerprint(x) and is_fingerprint(y)):  # else no image was read
        choice = sides[0].settings
        strip = thumbnails(data, num=choice.num, seed=choice.seed, skip_bad=skip_bad)
        paths.append(save_strip(strip, out / "images.jpg"))
    typer.echo("\n".join(map(str, paths)))
