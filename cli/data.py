"""`ckaprobe data`: make data sets, and look into them."""

import typer

from ckaprobe_cli.data_check import check
from ckaprobe_cli.data_make import make

data = typer.Typer(
    help="Make data sets, and look into them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
for command in (make, check):
    data.command()(command)
