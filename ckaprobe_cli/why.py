"""`ckaprobe why`: what carries the value of one cell."""

from pathlib import Path
from typing import Annotated

import typer

from ckaprobe_cli.options import IMAGES, MODELS, OUTPUT, SIMILARITY, Force, option
from ckaprobe_cli.results_folder import results_folder


def why(
    ctx: typer.Context,
    x: Annotated[Path, typer.Argument(help="Fingerprint of X.")],
    y: Annotated[Path, typer.Argument(help="Fingerprint of Y, of the same images.")],
    cell: Annotated[str, option("Layer of X and layer of Y, separated by a comma; one layer for both.", MODELS)],
    out: Annotated[Path | None, option("Folder to write why.json and why.csv to.  [default: none]", OUTPUT)] = None,
    inputs: Annotated[
        Path | None,
        option("Fingerprint of the images as they are; its first layer is partialled out.", SIMILARITY),
    ] = None,
    untrained: Annotated[Path | None, option("Fingerprint of X before training, the baseline.", SIMILARITY)] = None,
    estimator: Annotated[str, option("Estimator of CKA: unbiased or biased.", SIMILARITY)] = "unbiased",
    pair: Annotated[str | None, option("order: pair the images of X and Y by their order.", IMAGES)] = None,
    data: Annotated[str | None, option("The images, for their names.", IMAGES)] = None,
    force: Force = False,
) -> None:
    """Explain one value of CKA, from two fingerprints.

    Prints the images that raise and lower it most, the value without the most influential images, the share of the
    leading components, outliers and copies; with --inputs the value without the similarity of the images, and with
    --untrained that of the untrained model. Images are named with --data, else counted from 0.

    \b
    Example:
      ckaprobe why a_b/x.fingerprint a_b/y.fingerprint --cell layer3,layer4 --out why
    """
    from cka_probe.comparison.explanation import explain
    from cka_probe.comparison.fingerprint import Fingerprint
    from cka_probe.comparison.groups import image_names
    from cka_probe.errors import DataError

    names = [name.strip() for name in cell.split(",")]
    if len(names) > 2:
        raise DataError(f"expected one or two layers for --cell, found {len(names)}; give that of X and that of Y")
    twins = {
        name: None if path is None else Fingerprint.load(path)
        for name, path in (("inputs", inputs), ("untrained", untrained))
    }
    first, second = Fingerprint.load(x), Fingerprint.load(y)
    chosen = {name: getattr(first.settings, name) for name in ("num", "seed", "decode_size")}
    known = None if data is None else image_names(data, hashes=first.images, **chosen)
    explanation = explain(first, second, names[0], names[-1], pair=pair, estimator=estimator, names=known, **twins)
    typer.echo(explanation.summary())
    if out is not None:
        with results_folder(ctx, out, "why.json", force=force):
            for suffix in ("json", "csv"):
                typer.echo(explanation.save(out / f"why.{suffix}"))
