"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

MODEL = "A checkpoint, timm:NAME, random:NAME[:SEED], package.module:function, or a fingerprint."

Data = Annotated[
    str | None,
    typer.Option(
        help="Images: a folder, or nyuv2:PATH:test (see README). Not needed for two fingerprints.", show_default=False
    ),
]
Layers = Annotated[
    str | None,
    typer.Option(
        help="Comma list of indices, module names or globs; by default the nine natural layers.", show_default=False
    ),
]
Arch = Annotated[
    str | None,
    typer.Option(help="Architecture of files that do not tell theirs: NAME or NAME@SIZE.", show_default=False),
]
Num = Annotated[int | None, typer.Option(help="At most so many images.  [default: 512]", show_default=False)]
Batch = Annotated[int | None, typer.Option(help="Images in a batch.  [default: 64]", show_default=False)]
Seed = Annotated[
    int | None, typer.Option(help="Of the choice of images and of the null.  [default: 0]", show_default=False)
]
Features = Annotated[str | None, typer.Option(help="flatten, gap or tokens.  [default: flatten]", show_default=False)]
Precision = Annotated[str | None, typer.Option(help="float32 or bfloat16.  [default: float32]", show_default=False)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave unreadable images out (they are listed).")]
Style = Annotated[
    str,
    typer.Option(help="Of figures: paper, talk (letters of 12 points or more) or screen (pages, notebooks)."),
]
Venue = Annotated[
    str | None,
    typer.Option(
        help="Figures as wide as a column or the page of: acl, acm, cvpr, iclr, icml, ieee, lncs, nature, neurips.",
        show_default=False,
    ),
]
Out = Annotated[Path, typer.Option(help="Folder to write to.", show_default=False)]


def given(**options: object) -> dict[str, object]:
    """Return the options that were given: a fingerprint brings its own for the rest."""
    return {name: value for name, value in options.items() if value is not None}
