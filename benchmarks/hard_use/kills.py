"""Stop commands by SIGKILL or Ctrl-C at random moments, run them again to their end, and compare what they wrote.

    python benchmarks/hard_use/kills.py --tries 30 --out kills.json
    python benchmarks/hard_use/kills.py --tries 3 --only train compare --signal INT

Each command is first run undisturbed, twice: what differs between these two runs (times of day, say) is left out. Then
it is started and killed until it has been killed so many times; whenever it ends by itself, its folder is compared with
that of the undisturbed run, byte by byte, and it begins in a new one. A try survives if its run ended with the same
bytes and left no other file, hidden ones included. The commands run in forks of a process that has loaded the
libraries, so that kills hit their work and not their imports.
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
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

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
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    prepare()
    rows = []
    for name in options.only:
        number = signal.Signals[f"SIG{options.signal}"]
        row = kill_often(name, options.tries, number, random.Random(options.seed))
        rows.append({"command": name, "signal": options.signal, **row})
        print(json.dumps(rows[-1]), flush=True)
        if options.out:
            options.out.write_text(json.dumps(rows, indent=1) + "\n")
    sys.exit(any(row["survived"] < row["kills"] for row in rows))


def prepare() -> None:
    """Load the libraries, and make the inputs of the commands."""
    import torch

    from cka_probe.lab.training import run_recipe  # noqa: F401
    from cka_probe.papers.depth_to_semantic import study  # noqa: F401
    from cka_probe.plotting import figure  # noqa: F401
    from ckaprobe_cli import main as ckaprobe  # noqa: F401

    torch.set_num_threads(1)
    shutil.rmtree(INPUTS, ignore_errors=True)
    INPUTS.mkdir(parents=True)
    make_inputs(INPUTS)


def kill_often(name: str, tries: int, number: signal.Signals, generator: random.Random) -> dict[str, object]:
    """Send a signal to a command so many times; return how many kills its runs survived, and times."""
    (seconds, expected), (more_seconds, other) = undisturbed(name), undisturbed(name)
    seconds = min(seconds, more_seconds)
    varying = sorted(path for path in expected.keys() | other.keys() if expected.get(path) != other.get(path))
    kills = survived = 0
    problems: list[str] = []
    while kills < tries:
        with new_folder(name) as folder:
            pending = 0
            while kills < tries and run_until_killed(name, folder, number, generator.uniform(0, seconds)):
                kills, pending = kills + 1, pending + 1
            _, output = run(name, folder)
            contents = digests(folder)
            wrong = sorted(
                path
                for path in (expected.keys() | contents.keys()) - set(varying)
                if expected.get(path) != contents.get(path)
            )
            survived += 0 if wrong else pending
            problems += [f"{path}: {output[-200:]}" for path in wrong[:3]]
        print(f"{name}: {survived} of {kills} survived", file=sys.stderr, flush=True)
    return {
        "kills": kills,
        "survived": survived,
        "seconds undisturbed": round(seconds, 1),
        "files": len(expected),
        "varying": varying,
        "problems": problems,
    }


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


def start(name: str, folder: Path) -> int:
    """Start a command in a fork, and return its process."""
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
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        ckaprobe()
    except SystemExit as end:
        sys.stdout.flush()
        os._exit(end.code if isinstance(end.code, int) else bool(end.code))
    os._exit(0)


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
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    output = (FOLDER / "log").read_text(errors="replace")
    if "Traceback" in output or code not in (0, 2, 130, -number):
        raise SystemExit(f"{name} ended with {code} after {number.name}: {output[-2000:]}")
    return code in (130, -number)


def digests(folder: Path) -> dict[str, str]:
    """Return the hash of each file below a folder, hidden ones included, but not locks, which are empty."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(".lock") and ".locks" not in path.parts
    }


if __name__ == "__main__":
    main()
