"""What all commands have in common: help in sections, and errors as one line."""

import os
import sys
import traceback
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

INTERRUPTED = 130  # the exit code that shells report after Ctrl-C
SECTIONS = ("Arguments", "Models", "Images", "Similarity", "Scores", "Maps", "Figures", "Options", "Output", "Run")
"""Sections of the help of a command, in order."""
DEBUG, DEBUG_HELP = "--debug", "Show the traceback of an error."


class Commands(TyperGroup):
    """All commands. Of several processes of `torchrun`, the first prints what is wrong with the command line."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run a command and exit."""
        if is_main():
            return super().main(*args, **options)
        try:
            code = super().main(*args, **options | {"standalone_mode": False})
        except Exception as error:
            if not hasattr(error, "exit_code"):  # no error of the command line
                raise
            code = error.exit_code
        sys.exit(code if isinstance(code, int) else 0)


class Command(TyperCommand):
    """A command with its options in sections (`rich_help_panel`), `--debug`, and one line for an error.

    An error that the user can fix ends with exit code 2, a bug with 1. Both are one line on stderr; `--debug` writes
    the traceback first.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take `--debug` out of the arguments, and parse the others."""
        ctx.meta[DEBUG] = DEBUG in args
        return super().parse_args(ctx, [word for word in args if word != DEBUG])

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and options, each once, in sections."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            default = "Run" if parameter.name == "help" else "Options"
            default = "Arguments" if parameter.param_type_name == "argument" else default
            if record := parameter.get_help_record(ctx):
                sections.setdefault(getattr(parameter, "rich_help_panel", None) or default, []).append(record)
        sections.setdefault("Run", []).append((DEBUG, DEBUG_HELP))
        for name, records in sorted(sections.items(), key=lambda section: SECTIONS.index(section[0])):
            with formatter.section(name):
                formatter.write_dl(records)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            with warnings.catch_warnings():
                warnings.showwarning = partial(_show_warning, warnings.showwarning, self.prints)
                return self.run(ctx)
        except (typer.Exit, typer.Abort, BrokenPipeError):
            raise
        except (KeyboardInterrupt, Exception) as error:
            if (interrupt := interrupt_of(error)) is not None:
                if self.prints:
                    typer.echo(f"ckaprobe: {interrupt or 'interrupted; no file is half-written'}", err=True)
                raise typer.Exit(INTERRUPTED) from error
            if ctx.meta.get(DEBUG):
                traceback.print_exc()
            message, code = _one_line(error)
            if self.prints or not self._in_all_processes(error):
                typer.echo(f"ckaprobe: {' '.join(message.split())}", err=True)
            raise typer.Exit(code) from error

    @property
    def prints(self) -> bool:
        """Whether this process prints: the only one, or the first of those that `torchrun` started."""
        return is_main()

    def _in_all_processes(self, error: BaseException) -> bool:
        """Return whether an error is of the command line or recipe, and so arises in all processes."""
        errors = sys.modules.get("cka_probe.errors")
        kinds = ("RecipeError", "UnknownNameError", "MissingExtraError", "DeviceError")
        return errors is not None and isinstance(error, tuple(getattr(errors, kind) for kind in kinds))

    def run(self, ctx: Any) -> Any:
        """Run the function of the command."""
        return super().invoke(ctx)


class SharedCommand(Command):
    """A command that several processes of `torchrun` run together; an error of one ends all."""

    def _in_all_processes(self, error: BaseException) -> bool:
        return True

    def invoke(self, ctx: Any) -> Any:
        """Run the command, in a process group if there are several processes."""
        if os.environ.get("WORLD_SIZE", "1") == "1":
            return super().invoke(ctx)
        from cka_probe.comparison.ranks import joined

        with joined():
            return super().invoke(ctx)

    def run(self, ctx: Any) -> Any:
        """Run the function of the command; no process is done before all are."""
        if os.environ.get("WORLD_SIZE", "1") == "1":
            return super().run(ctx)
        from cka_probe.comparison.ranks import current_ranks

        with current_ranks().together():
            return super().run(ctx)


def is_main() -> bool:
    """Return whether this process prints and writes: the only one, or the first of those that `torchrun` started."""
    return os.environ.get("RANK", "0") == "0"


def _show_warning(
    show: Callable[..., None], prints: bool, message: Warning | str, *details: Any, **options: Any
) -> None:
    """Write a warning of the library as one line on stderr in the process that prints, and show any other as before."""
    errors = sys.modules.get("cka_probe.errors")  # loaded, if it is one of them
    if errors is not None and isinstance(message, errors.CkaProbeWarning):
        if prints:
            typer.echo(f"ckaprobe: {message}", err=True)
    else:
        show(message, *details, **options)


def interrupt_of(error: BaseException) -> KeyboardInterrupt | None:
    """Return the interrupt that an error is: itself, or what Python made a `RuntimeError` of while it made a class."""
    cause = error.__cause__ if isinstance(error, RuntimeError) else error
    return cause if isinstance(cause, KeyboardInterrupt) else None


def _one_line(error: BaseException) -> tuple[str, int]:
    """Return what an error says, and the exit code."""
    if isinstance(error, ModuleNotFoundError):
        from cka_probe.registry import missing_extra

        error = missing_extra(error)
    errors = sys.modules.get("cka_probe.errors")  # loaded, if one of them was raised
    if errors is not None and isinstance(error, errors.CkaProbeError):
        return str(error), 2
    if isinstance(error, OSError) and error.filename is not None:
        return f"cannot open {error.filename}: {error.strerror}; check that it exists and the permissions there", 2
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = "/".join(frame.filename.replace("\\", "/").split("/")[-2:])
    return (
        f"{type(error).__name__} in {where}, line {frame.lineno}: {error}; this is a bug: please report it with the "
        "output of the same command and --debug",
        1,
    )
