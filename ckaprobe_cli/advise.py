"""`ckaprobe advise`: how many images a comparison needs."""

from pathlib import Path
from typing import Annotated

import typer

from ckaprobe_cli.options import IMAGES, OUTPUT, Force, option
from ckaprobe_cli.results_folder import results_folder


def advise(
    ctx: typer.Context,
    files: Annotated[
        list[Path], typer.Argument(help="A folder of `ckaprobe compare` with its fingerprints, or two fingerprints.")
    ],
    out: Annotated[
        Path | None, option("Folder to write advice.json and its figure to.  [default: none]", OUTPUT)
    ] = None,
    pair: Annotated[str | None, option("order: pair the images of X and Y by their order.", IMAGES)] = None,
    force: Force = False,
) -> None:
    """Print how many images a comparison needs.

    It says how intervals and bias shrink with their number.

    \b
    Example:
      ckaprobe advise a_b --out a_b/advice
    """
    from cka_probe.comparison.advice import advise as advice_of
    from cka_probe.comparison.fingerprint import Fingerprint
    from cka_probe.comparison.results import SimilarityMatrix
    from cka_probe.errors import DataError
    from cka_probe.plotting import save
    from cka_probe.plotting.advice import HalfWidths

    folder = files[0].parent if files[0].name == "result.json" else files[0]
    paths = [folder / f"{side}.fingerprint" for side in "xy"] if len(files) == 1 else files
    if len(paths) != 2 or not all(path.is_file() for path in paths):
        raise DataError(
            "expected a folder of ckaprobe compare with x.fingerprint and y.fingerprint, or two fingerprints, found "
            f"{', '.join(map(str, files))}; compare two models without --no-fingerprints"
        )
    stored = paths[0].parent / "result.json"
    if len(files) == 1 and stored.is_file() and "groups" in SimilarityMatrix.load(stored).images:
        raise DataError(
            f"{stored}: expected independent images, found groups of them, which fingerprints do not hold; compare "
            "without --groups for advice, and count groups in place of images"
        )
    advice = advice_of(*map(Fingerprint.load, paths), pair=pair)
    typer.echo(advice.summary())
    if out is not None:
        with results_folder(ctx, out, "advice.json", force=force):
            written = [advice.save(out / "advice.json"), advice.save(out / "advice.csv")]
            written += save(HalfWidths(advice), [out / "advice.png", out / "advice.pdf"])
        typer.echo("\n".join(map(str, written)))
