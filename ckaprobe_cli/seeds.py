"""`ckaprobe seeds`: the mean similarity of several trainings, with intervals over images and trainings."""

from pathlib import Path
from typing import Annotated

import typer

from ckaprobe_cli.compare import ATLAS, RESULT, save_result
from ckaprobe_cli.options import MODELS, SIMILARITY, Cmap, Force, Out, Vmax, Vmin, drop_none, option
from ckaprobe_cli.results_folder import results_folder


def seeds(
    ctx: typer.Context,
    files: Annotated[list[Path], typer.Argument(help="Fingerprints of trainings that differ in their seed.")],
    out: Out,
    against: Annotated[
        list[Path] | None,
        option("Fingerprint of Y: a training of another recipe, or one model; repeatable.", MODELS),
    ] = None,
    estimator: Annotated[str, option("Estimator of CKA: unbiased or biased.", SIMILARITY)] = "unbiased",
    cmap: Cmap = None,
    vmin: Vmin = None,
    vmax: Vmax = None,
    force: Force = False,
) -> None:
    """Compare several trainings, with their mean.

    Writes the same result and figures as ckaprobe compare. Each cell is the mean CKA over all pairs of a training of X
    and one of Y, or of two of X. Its interval is over new images and new trainings at once.

    \b
    Example:
      ckaprobe seeds a{1,2,3}.fingerprint --against={b1,b2,b3}.fingerprint --out a_b
    """
    from cka_probe.comparison.fingerprint import Fingerprint
    from cka_probe.comparison.seeds import compare_seeds
    from cka_probe.plotting.matrix import ColourScale

    scale = ColourScale(vmin, vmax, **drop_none(cmap=cmap))
    x, y = ([Fingerprint.load(path) for path in side] for side in (files, against or ()))
    with results_folder(ctx, out, RESULT, force=force, rivals=[ATLAS]):
        paths = save_result(out, compare_seeds(x, y or None, estimator=estimator), scale)
    typer.echo("\n".join(map(str, paths)))
