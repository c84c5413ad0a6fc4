"""`ckaprobe inspect`: the kind and contents of a file of weights, or of a fingerprint."""

from typing import Annotated

import typer

from ckaprobe_cli.options import Encoder, with_encoder


def inspect(
    file: Annotated[str, typer.Argument(help="A file of weights, a folder of a model, or a fingerprint.")],
    encoder: Encoder = None,
) -> None:
    """Print what a file of weights or a fingerprint is.

    Of weights: their origin, which fit, and which would be renamed or dropped. Of a fingerprint: how many dimensions
    each layer uses, in a batch of its size.

    \b
    Example:
      ckaprobe inspect checkpoint.pth
    """
    from cka_probe.comparison.fingerprint import Fingerprint, is_fingerprint
    from cka_probe.errors import printable
    from cka_probe.models.checkpoints import inspect_file

    if is_fingerprint(file):
        from cka_probe.comparison.dimensions import layer_dimensions

        fingerprint = Fingerprint.load(file)
        typer.echo(printable(repr(fingerprint)))
        typer.echo(layer_dimensions(fingerprint).to_string(float_format="{:.2f}".format))
        return
    lines = (printable(str(line)) for line in inspect_file(with_encoder(file, encoder)).lines())  # names are the file's
    typer.echo("\n".join(lines))
