"""`ckaprobe inspect`: the kind and contents of a weights file."""

from typing import Annotated

import typer

from ckaprobe_cli.options import Encoder, with_encoder


def inspect(
    file: Annotated[str, typer.Argument(help="A file of weights, or a folder of Monodepth2 or transformers.")],
    encoder: Encoder = None,
) -> None:
    """Print what a weights file is.

    Its origin, which weights fit, and which would be renamed or dropped.

    \b
    Example:
      ckaprobe inspect checkpoint.pth
    """
    from cka_probe.errors import printable
    from cka_probe.models.checkpoints import inspect_file

    lines = (printable(str(line)) for line in inspect_file(with_encoder(file, encoder)).lines())  # names are the file's
    typer.echo("\n".join(lines))
