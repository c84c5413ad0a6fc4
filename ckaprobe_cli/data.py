"""`ckaprobe data`: make data sets, and look into them."""

import typer

from ckaprobe_cli.data_check import check
from ckaprobe_cli.data_make import make
from ckaprobe_cli.data_pseudo_depth import pseudo_depth

data = typer.Typer(
    help="Make data sets, and look into them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
for command in (make, check, pseudo_depth):
    data.command()(command)
