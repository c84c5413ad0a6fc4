"""The command line: parse, one library call, print the paths written.

No module here imports the library before its command runs, so that `ckaprobe --help` answers at once. Results go
to stdout, progress to stderr. What a user can put right is one line and exit code 2; anything else is a bug and
keeps its traceback.
"""

import sys

import typer

from ckaprobe_cli.compare import compare
from ckaprobe_cli.draw import draw
from ckaprobe_cli.fingerprint import fingerprint
from ckaprobe_cli.inspect import inspect
from ckaprobe_cli.layers import layers
from ckaprobe_cli.scenes import scenes
from ckaprobe_cli.train import train

app = typer.Typer(
    name="ckaprobe",
    help="See what vision models have learnt, layer by layer.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (compare, fingerprint, draw, layers, inspect, train, scenes):
    app.command()(command)

INTERRUPTED = 130


def main() -> None:
    """Run the command line; the console script `ckaprobe`."""
    try:
        app()
    except KeyboardInterrupt:
        typer.echo("interrupted; no file is half-written", err=True)
        sys.exit(INTERRUPTED)
    except Exception as error:
        if not _is_ours(error):
            raise
        typer.echo(f"ckaprobe: {' '.join(str(error).split())}", err=True)
        sys.exit(2)


def _is_ours(error: Exception) -> bool:
    """Return whether an error is a `CkaProbeError`; if one was raised, its module is loaded."""
    errors = sys.modules.get("cka_probe.errors")
    return errors is not None and isinstance(error, errors.CkaProbeError)
