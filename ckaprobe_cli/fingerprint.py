"""`ckaprobe fingerprint`: what a comparison needs of a model, in one small file."""

from pathlib import Path
from typing import Annotated

import typer

from ckaprobe_cli.bars import progress_bar
from ckaprobe_cli.commands import is_main
from ckaprobe_cli.options import (
    OUTPUT,
    RUN,
    Arch,
    Base,
    Batch,
    Data,
    DecodeSize,
    Device,
    Encoder,
    Features,
    Force,
    ForwardBatch,
    Layers,
    Memory,
    Num,
    NumFeatures,
    Precision,
    Quiet,
    Readers,
    Seed,
    Size,
    SkipBad,
    drop_none,
    option,
    with_encoder,
)
from ckaprobe_cli.results_folder import results_folder


def fingerprint(
    ctx: typer.Context,
    model: Annotated[
        str,
        typer.Argument(help="A checkpoint, timm:NAME, random:NAME[:SEED] or package.module:function."),
    ],
    output: Annotated[Path, option("File to write.", OUTPUT, "--output", "-o")],
    data: Data = None,
    num: Num = None,
    batch: Batch = None,
    layers: Layers = None,
    seed: Seed = None,
    features: Features = None,
    num_features: NumFeatures = None,
    precision: Precision = None,
    size: Size = None,
    arch: Arch = None,
    encoder: Encoder = None,
    base: Base = None,
    device: Device = "auto",
    skip_bad: SkipBad = False,
    workers: Readers = None,
    forward_batch: ForwardBatch = None,
    memory: Memory = None,
    decode_size: DecodeSize = None,
    shard: Annotated[
        str | None, option("Part of the batches to run, such as 3/16; join them with ckaprobe join.", RUN)
    ] = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Record a model over images, to compare it later.

    Writes the file, such as a.fingerprint, and a.images.jpg next to it, a strip of the first images; prints both paths.
    Of a shard, writes the file only.

    \b
    Example:
      ckaprobe fingerprint checkpoint.pth --data images -o checkpoint.fingerprint
    """
    import cka_probe
    from cka_probe.comparison.features import is_features
    from cka_probe.images.thumbnails import save_strip, thumbnails

    settings = drop_none(
        num=num,
        batch=batch,
        seed=seed,
        features=features,
        num_features=num_features,
        precision=precision,
        size=size,
        base=base,
        decode_size=decode_size,
    )
    with results_folder(ctx, output.parent, output.name, force=force):
        with progress_bar("images", quiet or not is_main()) as progress:
            result = cka_probe.fingerprint(
                model if is_features(model) else with_encoder(model, encoder),
                data,
                layers=layers,
                arch=arch,
                progress=progress,
                device=device,
                skip_bad=skip_bad,
                workers=workers,
                shard=shard,
                forward_batch=forward_batch,
                memory=memory,
                **settings,
            )
        if not is_main():
            return
        typer.echo(result.save(output))
        if data is None or shard is not None:  # features have no images, and a shard not the first ones
            return
        strip = thumbnails(data, num=result.settings.num, seed=result.settings.seed, skip_bad=skip_bad)
        typer.echo(save_strip(strip, output.with_name(f"{output.stem}.images.jpg")))
