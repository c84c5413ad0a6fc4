"""`ckaprobe atlas`: many models on one page."""

from typing import Annotated

import typer

from ckaprobe_cli.compare import compare
from ckaprobe_cli.options import (
    MODEL,
    OUTPUT,
    SIMILARITY,
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
    Out,
    Precision,
    Quiet,
    Readers,
    Seed,
    Size,
    SkipBad,
    option,
)


def atlas(
    ctx: typer.Context,
    models: Annotated[list[str], typer.Argument(help=f"Three or more. Each: {MODEL[0].lower()}{MODEL[1:]}")],
    out: Out,
    data: Data = None,
    num: Num = None,
    batch: Batch = None,
    layers: Layers = None,
    seed: Seed = None,
    features: Features = None,
    measure: Annotated[str, option("Name of a measure.", SIMILARITY)] = "cka",
    estimator: Annotated[str, option("Estimator of CKA: unbiased or biased.", SIMILARITY)] = "unbiased",
    permutations: Annotated[int, option("Number of permutations for the null; 0: none.", SIMILARITY, min=0)] = 200,
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
    keep: Annotated[
        bool, option("Save the fingerprints of the models in OUT.", OUTPUT, "--fingerprints/--no-fingerprints")
    ] = True,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Compare every two of many models, on one page.

    The same as `ckaprobe compare` of the models, followed by `ckaprobe report`: the page has the matrix of models and
    their map layer by layer, their tree, and of checkpoints of a training run when each layer settled.

    \b
    Example:
      ckaprobe atlas runs/*.fingerprint --out atlas
    """
    from cka_probe.errors import DataError
    from cka_probe.report import report
    from ckaprobe_cli.commands import is_main

    if len(models) < 3:
        raise DataError(
            f"expected three or more models for an atlas, found {len(models)}; compare two with ckaprobe compare"
        )
    compare(
        ctx, models, out, data, num=num, batch=None if batch is None else str(batch), layers=layers, seed=seed,
        features=features, measure=measure, estimator=estimator, permutations=permutations, precision=precision,
        size=size, arch=arch, encoder=encoder, base=base, device=device, skip_bad=skip_bad, workers=workers,
        forward_batch=forward_batch, memory=memory, decode_size=decode_size, keep=keep, force=force, quiet=quiet,
    )  # fmt: skip
    if is_main():
        typer.echo(report(out, force=force))
