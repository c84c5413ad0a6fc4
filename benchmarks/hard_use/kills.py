"""Stop commands by SIGKILL or Ctrl-C, run them again to their end, and compare what they wrote.

    python benchmarks/hard_use/kills.py --tries 30 --out kills.json
    python benchmarks/hard_use/kills.py --tries 3 --only train compare --signal INT
    python benchmarks/hard_use/kills.py --tries 40 --only train --before-files

Each command is first run undisturbed, twice: what differs between these two runs (times of day, say) is left out. Then
it is started and stopped at random moments until it has been stopped so many times; whenever it ends by itself, its
folder is compared with that of the undisturbed run, byte by byte, and it begins in a new one. With `--before-files` it
is stopped once just before each of so many changes of files and folders, evenly spread over all that it makes, each
time in a new folder. A try survives if its run ended with the same bytes and left no other file or folder, hidden
ones included.

The commands run in forks of a process that has loaded the libraries, so that kills hit their work and not their
imports. That process itself computes nothing and sets no number of threads: torch would have made a pool of threads,
which it makes again in a fork, but not safely if two threads of the fork come to it first ("Invalid thread pool").
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from helpers.every_command import COMMANDS, fill, make_inputs, words_of

FOLDER = Path(tempfile.gettempdir()) / "ckaprobe_kills"
INPUTS = FOLDER / "inputs"


def main() -> None:
    """Kill each command so many times and print a line of JSON for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tries", type=int, default=30, help="kills of each command")
    parser.add_argument("--only", nargs="*", default=list(COMMANDS), choices=list(COMMANDS))
    parser.add_argument("--signal", default="KILL", choices=["KILL", "INT", "TERM"])
    parser.add_argument("--before-files", action="store_true", help="stop before changes of files, evenly spread")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    prepare()
    rows = []
    for name in options.only:
        number = signal.Signals[f"SIG{options.signal}"]
        if options.before_files:
            row = kill_before_files(name, options.tries, number)
        else:
            row = kill_often(name, options.tries, number, random.Random(options.seed))
        rows.append({"command": name, "signal": options.signal, **row})
        print(json.dumps(rows[-1]), flush=True)
        if options.out:
            options.out.write_text(json.dumps(rows, indent=1) + "\n")
    sys.exit(any(row["survived"] < row["kills"] for row in rows))


def prepare(make: Callable[[Path], object] = make_inputs) -> None:
    """Load the libraries, and make the inputs of the commands in another process."""
    from cka_probe.lab.training import run_recipe  # noqa: F401
    from cka_probe.papers.depth_to_semantic import study  # noqa: F401
    from cka_probe.plotting import figure  # noqa: F401
    from ckaprobe_cli import main as ckaprobe  # noqa: F401

    shutil.rmtree(INPUTS, ignore_errors=True)
    INPUTS.mkdir(parents=True)
    process = os.fork()
    if not process:
        try:
            make(INPUTS)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    if os.waitpid(process, 0)[1]:
        raise SystemExit("the inputs could not be made")


def kill_often(
    name: str, tries: int, number: signal.Signals, generator: random.Random, runs: int = 2
) -> dict[str, object]:
    """Send a signal to a command so many times; return how many kills its runs survived, and times."""
    expected = Expected(name, runs)
    kills = survived = 0
    problems: list[str] = []
    while kills < tries:
        with new_folder(name) as folder:
            pending = 0
            while kills < tries and run_until_killed(name, folder, number, generator.uniform(0, expected.seconds)):
                kills, pending = kills + 1, pending + 1
            wrong = expected.differences(name, folder)
            survived += 0 if wrong else pending
            problems += wrong
        print(f"{name}: {survived} of {kills} survived", file=sys.stderr, flush=True)
    return {"kills": kills, "survived": survived, **expected.facts(), "problems": problems}


def kill_before_files(name: str, tries: int, number: signal.Signals) -> dict[str, object]:
    """Stop a command before some of its changes of files, once each; return how many stops its runs survived."""
    expected = Expected(name)
    kills = survived = 0
    problems: list[str] = []
    with new_folder(name) as folder:
        changes = count_changes(name, folder)
    for change in sorted({round(place) for place in np.linspace(1, changes, min(tries, changes))}):
        with new_folder(name) as folder:
            _, status = os.waitpid(start(name, folder, Stop(number, change)), 0)
            check_end(name, os.waitstatus_to_exitcode(status), number)
            wrong = expected.differences(name, folder)
            kills, survived = kills + 1, survived + (not wrong)
            problems += [f"before change {change}: {problem}" for problem in wrong]
        print(f"{name}: {survived} of {kills} survived", file=sys.stderr, flush=True)
    return {"kills": kills, "survived": survived, **expected.facts(), "changes": changes, "problems": problems}


class Expected:
    """What a command writes that nobody disturbs, by two runs of it; by one where all is known to be the same."""

    def __init__(self, name: str, runs: int = 2):
        seconds, contents = zip(*(undisturbed(name) for _ in range(runs)), strict=True)
        self.seconds, self.contents, other = min(seconds), contents[0], contents[-1]
        paths = self.contents.keys() | other.keys()
        self.varying = sorted(path for path in paths if self.contents.get(path) != other.get(path))

    def differences(self, name: str, folder: Path) -> list[str]:
        """Run a command that was stopped to its end; return the first files that are other ones, and the output."""
        _, output = run(name, folder)
        contents = digests(folder)
        paths = sorted((self.contents.keys() | contents.keys()) - set(self.varying))
        wrong = [path for path in paths if self.contents.get(path) != contents.get(path)]
        return [f"{path}: {output[-200:]}" for path in wrong[:3]]

    def facts(self) -> dict[str, object]:
        """Return how long the command took, how many files it wrote, and which differ between runs."""
        files = sum(digest != FOLDER_DIGEST for digest in self.contents.values())
        return {"seconds undisturbed": round(self.seconds, 1), "files": files, "varying": self.varying}


CHANGES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate")
"""Audit events of Python that change files or folders, next to the opening of a file to write to it."""


class Stop:
    """An audit hook that counts what changes files, and sends this process a signal just before one of these changes.

    Args:
        number: The signal.
        change: Before which, from 1; 0 for none.
    """

    def __init__(self, number: signal.Signals, change: int = 0):
        self.number, self.change, self.changes = number, change, 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Take an event."""
        if event == "open":
            _, mode, flags = arguments
            writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) if isinstance(flags, int) else "r" not in str(mode)
            if not writes or not isinstance(arguments[0], str | bytes) or os.fsdecode(arguments[0]).startswith("/dev/"):
                return
        elif event not in CHANGES:
            return
        self.changes += 1
        if self.changes == self.change:
            signal.raise_signal(self.number)


def count_changes(name: str, folder: Path) -> int:
    """Run a command; return how often it changes files."""
    note = FOLDER / "changes"
    _, status = os.waitpid(start(name, folder, Stop(signal.SIGKILL), note), 0)
    check_end(name, os.waitstatus_to_exitcode(status))
    return int(note.read_text())


def undisturbed(name: str) -> tuple[float, dict[str, str]]:
    """Run a command in an empty folder; return the seconds and the hash of each file."""
    with new_folder(name) as folder:
        seconds, _ = run(name, folder)
        return seconds, digests(folder)


@contextmanager
def new_folder(name: str) -> Iterator[Path]:
    """Yield an empty folder, always at the same path: some results record the paths they were made with."""
    folder = FOLDER / name.replace(" ", "_")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    fill(name, INPUTS, folder)
    yield folder


def start(name: str, folder: Path, stop: Stop | None = None, note: Path | None = None) -> int:
    """Start a command in a fork, and return its process; it writes how often it changed files to `note`."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # until the command itself handles it
    process = os.fork()
    if process:
        signal.signal(signal.SIGINT, before)
        with suppress(PermissionError, ProcessLookupError):  # the child does it too, whichever is first
            os.setpgid(process, process)
        return process
    os.setpgid(0, 0)
    log = os.open(FOLDER / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(folder)
    from ckaprobe_cli import main as ckaprobe

    sys.argv = ["ckaprobe", *words_of(name, INPUTS, ".")]
    code: object = 0
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if stop is not None:
            sys.addaudithook(stop)
        ckaprobe()
    except SystemExit as end:
        code = end.code
    sys.stdout.flush()
    if stop is not None and note is not None:
        note.write_text(str(stop.changes))
    os._exit(code if isinstance(code, int) else bool(code))


def run(name: str, folder: Path) -> tuple[float, str]:
    """Run a command to its end; return the seconds and what it printed."""
    begin = time.perf_counter()
    _, status = os.waitpid(start(name, folder), 0)
    output = (FOLDER / "log").read_text(errors="replace")
    if status:
        raise SystemExit(f"{name} ended with status {status}: {output[-2000:]}")
    return time.perf_counter() - begin, output


def run_until_killed(name: str, folder: Path, number: signal.Signals, seconds: float) -> bool:
    """Start a command and send a signal to it, and to its workers, after some seconds; return whether that ended it."""
    process = start(name, folder)
    time.sleep(seconds)
    if os.waitpid(process, os.WNOHANG) != (0, 0):  # it had ended
        return False
    os.killpg(process, number)
    return check_end(name, os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), number)


def check_end(name: str, code: int, number: signal.Signals | None = None) -> bool:
    """Return whether a command was ended by a signal; end this program if it ended in a way that it never may."""
    output = (FOLDER / "log").read_text(errors="replace")
    stopped = () if number is None else (130, -number)
    if "Traceback" in output or code not in (0, 2, *stopped):
        raise SystemExit(f"{name} ended with {code} after {number}: {output[-2000:]}")
    return code in stopped


FOLDER_DIGEST = "a folder"


def digests(folder: Path) -> dict[str, str]:
    """Return the hash of each file below a folder, and its folders, hidden ones included, but not locks."""
    return {
        path.relative_to(folder).as_posix(): FOLDER_DIGEST
        if path.is_dir()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if not path.name.endswith(".lock") and ".locks" not in path.parts
    }


if __name__ == "__main__":
    main()
