"""Options shared by several commands."""

from pathlib import Path
from typing import Annotated, Any

import typer

MODEL = "A checkpoint (or FILE#ENCODER), timm:NAME, random:NAME[:SEED], package.module:function, or a fingerprint."

Data = Annotated[
    str | None,
    typer.Option(help="Images: a folder, or nyuv2:PATH:test (see README). Not needed for fingerprints and features."),
]
Layers = Annotated[
    str | None,
    typer.Option(
        help="Indices, module names, globs or all, separated by commas.  [default: the default layers of the model]"
    ),
]
Arch = Annotated[
    str | None,
    typer.Option(help="Architecture of the files, where their tensors fit several: NAME, NAME.TAG or NAME@SIZE."),
]
Size = Annotated[
    str | None,
    typer.Option(help="Input size in pixels, one number or HEIGHTxWIDTH.  [default: that of each model]"),
]
Encoder = Annotated[
    str | None,
    typer.Option(help="Encoder to load from files with several, such as teacher; FILE#teacher for one file."),
]
Num = Annotated[int | None, typer.Option(help="Number of images at most.  [default: 512]")]
Batch = Annotated[int | None, typer.Option(help="Images in a batch.  [default: 64]")]
Seed = Annotated[int | None, typer.Option(help="Seed of the choice of images and of the null.  [default: 0]")]
Features = Annotated[
    str | None,
    typer.Option(help="Features of an activation: flatten, gap or tokens.  [default: flatten]"),
]
Precision = Annotated[
    str | None,
    typer.Option(help="Precision of the forward pass: float32 or bfloat16.  [default: float32]"),
]
Device = Annotated[str, typer.Option(help="Device: auto, cpu, cuda, cuda:1 or mps.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Skip unreadable images; the result lists them.")]
Workers = Annotated[
    int | None,
    typer.Option(min=0, help="Processes that prefetch images and generate scenes.  [default: what suits the device]"),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]
Style = Annotated[
    str,
    typer.Option(help="Style of figures: paper, talk (text of 12 points or more) or screen (pages, notebooks)."),
]
Venue = Annotated[
    str | None,
    typer.Option(
        help="Make figures as wide as a column or page of: acl, acm, cvpr, iclr, icml, ieee, lncs, nature, neurips."
    ),
]
Out = Annotated[Path, typer.Option(help="Folder to write to.")]


def with_encoder(reference: str, encoder: str | None) -> str:
    """Return `FILE#ENCODER` for a file without an encoder of its own; any other reference stays as it is."""
    return reference if encoder is None or not Path(reference).exists() else f"{reference}#{encoder}"


def drop_none(**options: Any) -> dict[str, Any]:
    """Return the options that are not None; the library has its own defaults for the rest."""
    return {name: value for name, value in options.items() if value is not None}
