"""Options shared by several commands."""

from pathlib import Path
from typing import Annotated, Any

import typer

MODELS, IMAGES, SIMILARITY, FIGURES, OUTPUT, RUN = "Models", "Images", "Similarity", "Figures", "Output", "Run"
"""Sections of the help of a command."""

MODEL = "A checkpoint (or FILE#ENCODER), timm:NAME, random:NAME[:SEED], package.module:function, or a fingerprint."

Data = Annotated[
    str | None,
    typer.Option(
        help="Images: a folder, or nyuv2:PATH:test (see README). Not needed for fingerprints and features.",
        rich_help_panel=IMAGES,
    ),
]
Layers = Annotated[
    str | None,
    typer.Option(
        help="Indices, module names, globs or all, separated by commas.  [default: the default layers of the model]",
        rich_help_panel=MODELS,
    ),
]
Arch = Annotated[
    str | None,
    typer.Option(
        help="Architecture of the files, where their tensors fit several: NAME, NAME.TAG or NAME@SIZE.",
        rich_help_panel=MODELS,
    ),
]
Num = Annotated[int | None, typer.Option(help="Number of images at most.  [default: 512]", rich_help_panel=IMAGES)]
Batch = Annotated[int | None, typer.Option(help="Images in a batch.  [default: 64]", rich_help_panel=RUN)]
ForwardBatch = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Images in a forward pass; halved where memory does not suffice.  [default: those of a batch]",
        rich_help_panel=RUN,
    ),
]
Seed = Annotated[
    int | None, typer.Option(help="Seed of the choice of images and of the null.  [default: 0]", rich_help_panel=IMAGES)
]
Size = Annotated[
    str | None,
    typer.Option(
        help="Input size in pixels, one number or HEIGHTxWIDTH.  [default: that of each model]", rich_help_panel=MODELS
    ),
]
Encoder = Annotated[
    str | None,
    typer.Option(
        help="Encoder to load from files with several, such as teacher; FILE#teacher for one file.",
        rich_help_panel=MODELS,
    ),
]
Base = Annotated[
    str | None,
    typer.Option(help="File or folder of the model that a LoRA adapter was trained on.", rich_help_panel=MODELS),
]
Features = Annotated[
    str | None,
    typer.Option(
        help="Features of an activation: flatten, gap or tokens.  [default: flatten]", rich_help_panel=SIMILARITY
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(help="Precision of the forward pass: float32 or bfloat16.  [default: float32]", rich_help_panel=RUN),
]
Device = Annotated[str, typer.Option(help="Device: auto, cpu, cuda, cuda:1 or mps.", rich_help_panel=RUN)]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Skip unreadable images; the result lists them.", rich_help_panel=IMAGES)
]
Readers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=0,
        help="Threads that read images; 0: none.  [default: one per core, at most 16]",
        rich_help_panel=RUN,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Processes that prefetch images and generate scenes.  [default: what suits the device]",
        rich_help_panel=RUN,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.", rich_help_panel=RUN)]
Style = Annotated[
    str,
    typer.Option(
        help="Style of figures: paper, talk (text of 12 points or more) or screen (pages, notebooks).",
        rich_help_panel=FIGURES,
    ),
]
Venue = Annotated[
    str | None,
    typer.Option(
        help="Make figures as wide as a column or page of: acl, acm, cvpr, iclr, icml, ieee, lncs, nature, neurips.",
        rich_help_panel=FIGURES,
    ),
]
Cmap = Annotated[
    str | None,
    typer.Option(help="Colours of the heatmap: a colour map of matplotlib.  [default: magma]", rich_help_panel=FIGURES),
]
Vmin = Annotated[
    str | None,
    typer.Option(
        help="Value of the first colour: a number, or auto for the smallest value.  [default: that of the measure]",
        rich_help_panel=FIGURES,
    ),
]
Vmax = Annotated[
    str | None,
    typer.Option(
        help="Value of the last colour: a number, or auto for the largest value.  [default: that of the measure]",
        rich_help_panel=FIGURES,
    ),
]
Out = Annotated[Path, typer.Option(help="Folder to write to.", rich_help_panel=OUTPUT)]
Force = Annotated[bool, typer.Option("--force", help="Replace the result of another command.", rich_help_panel=OUTPUT)]


def with_encoder(reference: str, encoder: str | None) -> str:
    """Return `FILE#ENCODER` for a file without an encoder of its own; any other reference stays as it is."""
    return reference if encoder is None or not Path(reference).exists() else f"{reference}#{encoder}"


def drop_none(**options: Any) -> dict[str, Any]:
    """Return the options that are not None; the library has its own defaults for the rest."""
    return {name: value for name, value in options.items() if value is not None}
