"""The command line: parse, one library call, print the paths written.

No module here imports the library before its command runs, so that `ckaprobe --help` is fast. Results go to stdout,
progress to stderr. An error is one line on stderr, with exit code 2 if the user can fix it; `--debug` shows more.
"""

import _thread
import os
import signal
import sys
import threading
import time
from typing import Annotated, Any

import typer

from ckaprobe_cli.advise import advise
from ckaprobe_cli.atlas import atlas
from ckaprobe_cli.commands import INTERRUPTED, Command, Commands, SharedCommand, interrupt_of, is_main
from ckaprobe_cli.compare import compare
from ckaprobe_cli.data import data
from ckaprobe_cli.draw import draw
from ckaprobe_cli.evaluate import evaluate
from ckaprobe_cli.fingerprint import fingerprint
from ckaprobe_cli.gradcam import gradcam
from ckaprobe_cli.inspect import inspect
from ckaprobe_cli.join import join
from ckaprobe_cli.layers import layers
from ckaprobe_cli.measures import measures
from ckaprobe_cli.regions import regions
from ckaprobe_cli.report import report
from ckaprobe_cli.reproduce import reproduce
from ckaprobe_cli.seeds import seeds
from ckaprobe_cli.train import train
from ckaprobe_cli.why import why

PATIENCE = 10
"""Seconds that a process of `torchrun` that failed gives the first to end all."""

app = typer.Typer(
    cls=Commands,
    name="ckaprobe",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 1000},  # the terminal's width
)
comparisons = (compare, atlas, seeds, why, advise, regions, fingerprint, join)
for command in (*comparisons, draw, layers, measures, inspect, train, evaluate, gradcam, reproduce, report):
    app.command(cls=SharedCommand if command in (compare, atlas, fingerprint, evaluate, gradcam) else Command)(command)
app.add_typer(data, name="data")


def _print_version(value: bool) -> None:
    """Print the version and exit."""
    if value:
        from importlib.metadata import version

        typer.echo(f"ckaprobe {version('cka-probe')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """See what vision models have learnt, layer by layer.

    \b
    From two checkpoints and a folder of images to a heatmap and a page:
      ckaprobe compare a.pth b.pth --data images --out a_b
      ckaprobe report a_b

    `ckaprobe COMMAND --help` explains a command, with an example.
    """


def _interrupt() -> None:
    """Interrupt the main thread, also one that waits where the system can do that."""
    if sys.platform == "win32":
        _thread.interrupt_main()
    else:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def _interrupt_again(event: Any) -> None:
    """Interrupt the command after a Ctrl-C that Python swallowed, as it does in callbacks of weak references."""
    if issubclass(event.exc_type, KeyboardInterrupt):
        timer = threading.Timer(0.1, _interrupt)  # now, it would be swallowed, too
        timer.daemon = True
        timer.start()
    else:
        sys.__unraisablehook__(event)


def main() -> None:
    """Run the command line; the console script `ckaprobe`."""
    code: object = 0
    sys.unraisablehook = _interrupt_again
    try:
        app()
    except (KeyboardInterrupt, RuntimeError) as error:  # before a command runs, which handles its own
        if interrupt_of(error) is None:
            raise
        typer.echo("ckaprobe: interrupted", err=True)
        code = INTERRUPTED
    except SystemExit as end:
        code = end.code
    if os.environ.get("WORLD_SIZE", "1") == "1":
        raise SystemExit(code)
    if code and not is_main():
        time.sleep(PATIENCE)  # `torchrun` ends all when one fails, and the first may not have printed why
    # gloo's threads may abort an interpreter that they outlive, and `torchrun` would report that the command failed
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else bool(code))
