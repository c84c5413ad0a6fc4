"""`ckaprobe data check`: what is in a data set, before anything learns from it."""

from pathlib import Path
from typing import Annotated

import typer

from ckaprobe_cli.bars import progress_bar


def check(
    spec: Annotated[str, typer.Argument(help="A data set: a folder, or nyuv2:PATH:test (see README).")],
    out: Annotated[Path, typer.Option(help="Contact sheet to draw: *.png, *.pdf or *.svg.")] = Path(
        "contact_sheet.png"
    ),
    num: Annotated[
        int | None,
        typer.Option(help="Read only so many frames, evenly spaced. By default all.", show_default=False),
    ] = None,
    sheet: Annotated[
        int | None,
        typer.Option(
            help="Samples on the contact sheet; 0 draws none. By default six rows of them.",
            show_default=False,
        ),
    ] = None,
    json: Annotated[
        Path | None, typer.Option(help="Write the numbers into this file, too.", show_default=False)
    ] = None,
) -> None:
    """Read a data set, print what is in it, and draw some samples; exit code 2 if a frame is broken."""
    from cka_probe.files import check_writable
    from cka_probe.images.datasets import open_dataset
    from cka_probe.lab.datasets.check import check_dataset
    from cka_probe.plotting import check_format

    drawn = sheet != 0
    if drawn:
        check_format(out)
    for path in [out] * drawn + ([] if json is None else [json]):
        check_writable(path.parent)  # before hours of reading
    dataset = open_dataset(spec)
    with progress_bar("frames") as progress:
        check = check_dataset(dataset, num=num, progress=progress)
    typer.echo(check.table())
    if json is not None:
        typer.echo(check.save(json))
    if drawn:
        for path in _draw(dataset, spec, out, sheet):
            typer.echo(path)
    check.refuse_problems()


def _draw(dataset, spec: str, out: Path, count: int | None) -> list[Path]:
    """Draw the contact sheet and return its path; none if nothing on it could be read."""
    from cka_probe.images.classes import numbered
    from cka_probe.lab.datasets.check import evenly_spaced, read_valid_fields
    from cka_probe.lab.datasets.statistics.maps import class_names
    from cka_probe.plotting.contact_sheet import Sheet, Shot, fitting, save_contact_sheet

    def shot(index: int) -> Shot:
        return Shot(dataset.describe(index), read_valid_fields(dataset, index)[0])

    chosen = evenly_spaced(len(dataset), fitting(shot(0)) if count is None else count)
    shots = [shot(index) for index in chosen]
    if not any(shot.fields for shot in shots):
        return []
    names = class_names(dataset, "labels")
    classes = numbered(255) if names is None else dataset.classes
    drawn = Sheet(
        title=f"{Path(spec).name}: {len(chosen)} of {len(dataset)} frames",
        shots=shots,
        names=classes.names,
        colours=classes.colours,
        categories=class_names(dataset, "category") or (),
    )
    return save_contact_sheet(drawn, [out])
