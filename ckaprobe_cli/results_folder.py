"""The folder that a command writes to: one command at a time, and no result replaced by that of another command.

`commands.txt` in the folder has a line for each result: `result.json: ckaprobe compare a.pth b.pth --data images`. The
same command replaces its own result. Another command needs another folder, or `--force`. While a command runs, its line
is in a hidden file: what is there after it was killed is its own.
"""

import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import typer

from ckaprobe_cli.commands import is_main

RECORD = "commands.txt"

RUNNING = {"out", "output", "force", "keep", "device", "workers", "forward_batch", "memory", "quiet"}
DRAWING = {"draw", "style", "venue", "format", "title", "emphasis", "signed", "classes", "overlay"}
DRAWING |= {"cmap", "vmin", "vmax"}
"""Parameters that change where and how a command runs, what else it saves and how it draws, but not its result."""


def command_line(ctx: typer.Context) -> str:
    """Return a command as typed in a shell, with the options that decide its result and differ from their defaults."""
    arguments: list[str] = []
    options: list[str] = []
    for parameter in ctx.command.params:
        value = ctx.params.get(parameter.name or "")
        if parameter.name in RUNNING | DRAWING or value is None or value == parameter.get_default(ctx):
            continue
        if isinstance(value, bool):
            options.append(parameter.opts[0] if value else parameter.secondary_opts[0])
            continue
        values = [str(item) for item in value] if isinstance(value, list | tuple) else [str(value)]
        if parameter.param_type_name == "argument":
            arguments += values
        elif isinstance(value, tuple):
            options += [parameter.opts[0], *values]
        else:
            options += [word for item in values for word in (parameter.opts[0], item)]
    return shlex.join(["ckaprobe", str(ctx.info_name), *arguments, *options])


@contextmanager
def results_folder(
    ctx: typer.Context, folder: Path, result: str, *, force: bool, rivals: Sequence[str] = ()
) -> Iterator[bool]:
    """Hold a folder while a command computes and writes a result, and record the command when it has.

    Of several processes of `torchrun`, only the first does.

    Folders that were created for a result that is then not written are removed, if they are empty.

    Args:
        ctx: Context of the command.
        folder: Created if it does not exist.
        result: Name of the file that holds the result.
        force: Whether to replace the result of another command.
        rivals: Names of other results that cannot be in the same folder, as both write files of the same names.

    Yields:
        Whether a result of another command is replaced.

    Raises:
        OutputError: The folder cannot be written to, another command is writing to it, or it holds the result of
            another command.
    """
    from filelock import FileLock, Timeout

    from cka_probe.errors import OutputError
    from cka_probe.files import atomic_write, check_writable

    if not is_main():
        yield False
        return
    created = [path for path in (folder, *folder.parents) if not os.path.exists(path)]  # False without permission
    check_writable(folder)
    lock_file, begun = folder / f".{result}.lock", folder / f".{result}.command"
    lock = FileLock(lock_file, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise OutputError(
            f"expected no other command that writes {folder / result}, found one; wait for it, or choose another path"
        ) from error
    try:
        line, commands = command_line(ctx), _commands(folder)
        if begun.exists():
            commands[result] = begun.read_text("utf-8", errors="replace")
        others = [name for name in rivals if (folder / name).exists()]
        if (folder / result).exists() and commands.get(result) != line:
            others.insert(0, result)
        if others and not force:
            author = f"of `{commands[others[0]]}`" if others[0] in commands else "of an unknown command"
            raise OutputError(
                f"expected no other result at {folder / others[0]}, found that {author}; choose another path, or "
                "--force to replace it"
            )
        with atomic_write(begun) as path:
            path.write_text(line, "utf-8")
        yield bool(others)
        commands = {name: text for name, text in commands.items() if name not in rivals} | {result: line}
        with atomic_write(folder / RECORD) as path:
            path.write_text("".join(f"{name}: {text}\n" for name, text in commands.items()), "utf-8")
        begun.unlink()
    finally:
        with suppress(OSError):  # Windows removes the lock itself
            if not (folder / result).exists():
                begun.unlink(missing_ok=True)
            lock_file.unlink()
        lock.release()
        with suppress(OSError):  # not empty
            for path in created:
                path.rmdir()


def _commands(folder: Path) -> dict[str, str]:
    """Return the command of each result in a folder, by the file of the result."""
    try:
        lines = (folder / RECORD).read_text("utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return {}
    return dict(line.split(": ", 1) for line in lines if ": " in line)
