"""`ckaprobe join`: one fingerprint from the shards that separate jobs wrote."""

from pathlib import Path
from typing import Annotated

import typer

from ckaprobe_cli.options import OUTPUT, Force, option
from ckaprobe_cli.results_folder import results_folder


def join(
    ctx: typer.Context,
    shards: Annotated[list[Path], typer.Argument(help="All shards of one fingerprint, in any order.")],
    output: Annotated[Path, option("File to write.", OUTPUT, "--output", "-o")],
    force: Force = False,
) -> None:
    """Join the shards of a fingerprint.

    The file has the same bytes as that of one `ckaprobe fingerprint` without --shard.

    \b
    Example:
      ckaprobe join shards/*.fingerprint -o checkpoint.fingerprint
    """
    from cka_probe.comparison.shards import join_shards

    with results_folder(ctx, output.parent, output.name, force=force):
        typer.echo(join_shards(shards).save(output))
