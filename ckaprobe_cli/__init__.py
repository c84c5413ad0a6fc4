"""The command line: parse, one library call, print the paths written.

No module here imports the library before its command runs, so that `ckaprobe --help` is fast. Results go to stdout,
progress to stderr. An error that the user can fix is one line with exit code 2; any other is a bug and keeps its
traceback.
"""

import sys
from typing import Any

import typer
from typer.core import TyperGroup

from ckaprobe_cli.compare import compare
from ckaprobe_cli.data import data
from ckaprobe_cli.draw import draw
from ckaprobe_cli.evaluate import evaluate
from ckaprobe_cli.fingerprint import fingerprint
from ckaprobe_cli.gradcam import gradcam
from ckaprobe_cli.inspect import inspect
from ckaprobe_cli.layers import layers
from ckaprobe_cli.report import report
from ckaprobe_cli.reproduce import reproduce
from ckaprobe_cli.train import train

INTERRUPTED = 130  # the exit code that shells report after Ctrl-C


class OneLineErrors(TyperGroup):
    """Commands that report a `CkaProbeError` as one line on stderr with exit code 2."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            typer.echo(f"ckaprobe: {interrupt or 'interrupted; no file is half-written'}", err=True)
            raise typer.Exit(INTERRUPTED) from interrupt
        except Exception as error:
            errors = sys.modules.get("cka_probe.errors")  # loaded, if one of them was raised
            cause = error
            if isinstance(error, ModuleNotFoundError):
                from cka_probe.registry import missing_extra

                cause = missing_extra(error)
            if cause is error and (errors is None or not isinstance(error, errors.CkaProbeError)):
                raise
            typer.echo(f"ckaprobe: {' '.join(str(cause).split())}", err=True)
            raise typer.Exit(2) from error


app = typer.Typer(
    name="ckaprobe",
    cls=OneLineErrors,
    help="See what vision models have learnt, layer by layer.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (compare, fingerprint, draw, layers, inspect, train, evaluate, gradcam, reproduce, report):
    app.command()(command)
app.add_typer(data, name="data")


def main() -> None:
    """Run the command line; the console script `ckaprobe`."""
    app()
