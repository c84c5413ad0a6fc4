"""`ckaprobe compare`: the similarity of the layers of two or more models over the same images."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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

if TYPE_CHECKING:
    from cka_probe.comparison.fingerprint import Fingerprint


def compare(
    models: Annotated[list[str], typer.Argument(help=f"X and Y, or more. Each: {MODEL[0].lower()}{MODEL[1:]}")],
    out: Out,
    data: Data = None,
    num: Num = None,
    batch: Batch = None,
    layers: Layers = None,
    layers_y: Annotated[str | None, typer.Option(help="Layers of Y, where they differ; of two models.")] = None,
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
    arch_y: Annotated[str | None, typer.Option(help="Architecture of Y, where it differs; auto to find it.")] = None,
    encoder: Encoder = None,
    device: Device = "auto",
    skip_bad: SkipBad = False,
    keep: Annotated[
        bool, typer.Option("--fingerprints/--no-fingerprints", help="Save the fingerprints of the models in OUT.")
    ] = True,
) -> None:
    """Compare every layer of X with every layer of Y; or more models, every two of them.

    Writes result.json, result.csv, the figures as PNG and PDF, the fingerprints of both models and a strip of the
    first images. Prints the table of the diagonal, warnings, and the paths written.

    Of three or more models: atlas.json, pairs.csv and the figure of the matrix of models; a folder of each pair; and
    if they have the same layers, curves of each layer over the models in their order, such as checkpoints of a run.
    """
    import cka_probe
    from cka_probe.comparison.compare import fingerprint_each
    from cka_probe.comparison.features import is_features
    from cka_probe.comparison.fingerprint import is_fingerprint
    from cka_probe.errors import DataError
    from cka_probe.files import check_writable
    from cka_probe.similarity import choose_measure

    if len(models) < 2:
        raise DataError(f"expected two or more models to compare, found only {models[0]}; give another, or it twice")
    for option, value in (("layers", layers_y), ("arch", arch_y)):
        if len(models) > 2 and value is not None:
            raise DataError(f"--{option}-y is for two models, found {len(models)}; use --{option}, for all of them")
    check_writable(out)
    choose_measure(measure, estimator)
    settings: dict[str, Any] = drop_none(
        num=num, batch=batch, seed=seed, features=features, precision=precision, preprocess=preprocess, size=size
    )
    settings |= {"layers": layers, "arch": arch, "device": device, "skip_bad": skip_bad}
    models = [
        model if is_fingerprint(model) or is_features(model) else with_encoder(model, encoder) for model in models
    ]
    with progress_bar("images") as progress:
        if len(models) == 2:
            x, y = models
            sides = list(
                cka_probe.fingerprints(x, y, data, layers_y=layers_y, arch_y=arch_y, progress=progress, **settings)
            )
        else:
            sides = fingerprint_each(models, data, progress=progress, **settings)
    method = {"measure": measure, "estimator": estimator, "permutations": permutations}
    paths = _save_pair(out, sides, keep, method) if len(models) == 2 else _save_atlas(out, sides, keep, method)
    paths += _save_strip(out, models, data, sides[0], skip_bad)
    typer.echo("\n".join(map(str, paths)))


def _save_pair(out: Path, sides: Sequence["Fingerprint"], keep: bool, method: dict[str, Any]) -> list[Path]:
    """Compare two models, print what a reader should know, and return the paths written."""
    import cka_probe
    from cka_probe.comparison.warnings import warnings_for
    from cka_probe.plotting import figures_of, save

    result = cka_probe.compare_fingerprints(*sides, **method)
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
    return paths


def _save_atlas(out: Path, sides: Sequence["Fingerprint"], keep: bool, method: dict[str, Any]) -> list[Path]:
    """Compare every two of several models, print what a reader should know, and return the paths written.

    The folder of all pairs and that of all fingerprints stand for the files in them.
    """
    from cka_probe.comparison.atlas import FINGERPRINTS, PAIRS, atlas_of
    from cka_probe.comparison.warnings import atlas_warnings
    from cka_probe.plotting import save
    from cka_probe.plotting.atlas import atlas_figures

    with progress_bar("pairs") as progress:
        atlas = atlas_of(sides, progress=progress, **method)
    typer.echo(atlas.summary())
    for name, model in zip(atlas.names, atlas.models, strict=True):
        for note in model.notes:
            typer.echo(f"note on {name}  {note}")
    for warning in atlas_warnings(atlas):
        typer.echo(f"warning  {warning}")
    paths = [path for path in atlas.save_folder(out) if path.parent == out]
    for name, figure in atlas_figures(atlas).items():
        paths += save(figure, [out / f"{name}.png", out / f"{name}.pdf"])
    if keep:
        for index, side in enumerate(sides):
            side.save(out / FINGERPRINTS / f"{index}.fingerprint")
    return [*paths, out / PAIRS, *([out / FINGERPRINTS] if keep else [])]


def _save_strip(out: Path, models: Sequence[str], data: str | None, side: "Fingerprint", skip_bad: bool) -> list[Path]:
    """Save the first images, if any were read, and return the path."""
    from cka_probe.comparison.features import is_features
    from cka_probe.comparison.fingerprint import is_fingerprint
    from cka_probe.images.thumbnails import save_strip, thumbnails

    if all(is_fingerprint(model) or is_features(model) for model in models):
        return []
    strip = thumbnails(data, num=side.settings.num, seed=side.settings.seed, skip_bad=skip_bad)
    return [save_strip(strip, out / "images.jpg")]
