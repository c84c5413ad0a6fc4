"""Options shared by several commands."""

from pathlib import Path
from typing import Annotated, Any

import typer

MODELS, IMAGES, SIMILARITY, FIGURES, OUTPUT, RUN = "Models", "Images", "Similarity", "Figures", "Output", "Run"
"""Sections of the help of a command."""


def option(help: str, panel: str, *names: str, **settings: Any) -> Any:
    """Return an option of a command with its help text and the section of the help that it is in."""
    return typer.Option(*names, help=help, rich_help_panel=panel, **settings)


MODEL = "A checkpoint (or FILE#ENCODER), timm:NAME, random:NAME[:SEED], package.module:function, or a fingerprint."

Data = Annotated[
    str | None,
    option("Images: a folder, or nyuv2:PATH:test (see README). Not needed for fingerprints and features.", IMAGES),
]
Layers = Annotated[
    str | None,
    option(
        "Indices, module names, globs or all, separated by commas.  [default: the default layers of the model]", MODELS
    ),
]
Arch = Annotated[
    str | None,
    option("Architecture of the files, where their tensors fit several: NAME, NAME.TAG or NAME@SIZE.", MODELS),
]
NUM = ("--num", "--num-images")
"""`torchrun` refuses --num, which begins options of its own, also behind the name of the program."""
Num = Annotated[int | None, option("Number of images at most.  [default: 512]", IMAGES, *NUM)]
Batch = Annotated[int | None, option("Images in a batch.  [default: 64]", RUN)]
BatchOrAll = Annotated[str | None, option("Images in a batch, or all: one batch of all of them.  [default: 64]", RUN)]
DecodeSize = Annotated[
    int | None,
    option(
        "Decode JPEGs at 1/2, 1/4 or 1/8 of their size, with sides of at least so many pixels.  [default: full size]",
        IMAGES,
        min=1,
    ),
]
ForwardBatch = Annotated[
    int | None,
    option("Images in a forward pass; halved where memory does not suffice.  [default: those of a batch]", RUN, min=1),
]
Memory = Annotated[
    str | None,
    option("Most memory of a GPU for a forward pass, such as 20GB.  [default: four fifths of what is free]", RUN),
]
Seed = Annotated[int | None, option("Seed of the choice of images and of the null.  [default: 0]", IMAGES)]
Size = Annotated[
    str | None, option("Input size in pixels, one number or HEIGHTxWIDTH.  [default: that of each model]", MODELS)
]
Encoder = Annotated[
    str | None, option("Encoder to load from files with several, such as teacher; FILE#teacher for one file.", MODELS)
]
Base = Annotated[str | None, option("File or folder of the model that a LoRA adapter was trained on.", MODELS)]
Features = Annotated[
    str | None,
    option(
        "Features of an activation: flatten, gap, tokens (of a 2 x 2 grid) or tokens:7.  [default: flatten]", SIMILARITY
    ),
]
NumFeatures = Annotated[
    int | None,
    option(
        "Features of a layer at most: of wider ones a random sample, which is corrected for.  [default: all]",
        SIMILARITY,
    ),
]
Precision = Annotated[
    str | None,
    option("Precision of the forward pass: float32, tf32 (GPUs of CUDA) or bfloat16.  [default: float32]", RUN),
]
Device = Annotated[str, option("Device: auto, cpu, cuda, cuda:1 or mps.", RUN)]
SkipBad = Annotated[bool, option("Skip unreadable images; the result lists them.", IMAGES, "--skip-bad")]
Readers = Annotated[
    int | None,
    option("Threads that read images; 0: none.  [default: one per core, at most 16]", RUN, "--workers", min=0),
]
Workers = Annotated[
    int | None,
    option("Processes that prefetch images and generate scenes.  [default: what suits the device]", RUN, min=0),
]
Track = Annotated[
    list[str] | None,
    option("Send metrics of training to tensorboard, wandb or another tracker of accelerate; repeatable.", OUTPUT),
]
Quiet = Annotated[bool, option("No progress on stderr.", RUN, "--quiet", "-q")]
Style = Annotated[
    str, option("Style of figures: paper, talk (text of 12 points or more) or screen (pages, notebooks).", FIGURES)
]
Venue = Annotated[
    str | None,
    option(
        "Make figures as wide as a column or page of: acl, acm, cvpr, iclr, icml, ieee, lncs, nature, neurips.", FIGURES
    ),
]
Cmap = Annotated[str | None, option("Colours of the heatmap: a colour map of matplotlib.  [default: magma]", FIGURES)]
Vmin = Annotated[
    str | None,
    option(
        "Value of the first colour: a number, or auto for the smallest value.  [default: that of the measure]", FIGURES
    ),
]
Vmax = Annotated[
    str | None,
    option(
        "Value of the last colour: a number, or auto for the largest value.  [default: that of the measure]", FIGURES
    ),
]
Out = Annotated[Path, option("Folder to write to.", OUTPUT)]
Force = Annotated[bool, option("Replace the result of another command.", OUTPUT, "--force")]


def with_encoder(reference: str, encoder: str | None) -> str:
    """Return `FILE#ENCODER` for a file without an encoder of its own; any other reference stays as it is."""
    return reference if encoder is None or not Path(reference).exists() else f"{reference}#{encoder}"


def drop_none(**options: Any) -> dict[str, Any]:
    """Return the options that are not None; the library has its own defaults for the rest."""
    return {name: value for name, value in options.items() if value is not None}
