"""`ckaprobe layers`: the layers of a model that can be compared."""

from typing import Annotated

import typer

from ckaprobe_cli.options import Arch, Base, Encoder, Layers, Size


def layers(
    model: Annotated[
        str,
        typer.Argument(help="A checkpoint, timm:NAME, random:NAME[:SEED] or package.module:function."),
    ],
    layers: Layers = None,
    arch: Arch = None,
    size: Size = None,
    encoder: Encoder = None,
    base: Base = None,
) -> None:
    """Print the layers of a model that can be compared.

    A table of their index, name, module, shape, stride and layout.

    These are the default layers of `compare`, and how they were selected; with --layers all, every layer that can be
    compared.

    \b
    Example:
      ckaprobe layers checkpoint.pth --layers all
    """
    import cka_probe
    from cka_probe.comparison.extraction import layer_table

    backbone = cka_probe.load(model, arch=arch, encoder=encoder, base=base)
    table = layer_table(backbone, layers, size)
    typer.echo(table.to_string(index=False))
    if rule := table.attrs["rule"]:
        typer.echo(f"default layers: {rule}")
    if backbone.classifier is not None:
        typer.echo(f"classifier, which is not compared: {backbone.classifier}")
