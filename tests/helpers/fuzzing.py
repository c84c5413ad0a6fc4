"""Files of every kind that is read, changed at random: each is read or refused in one line, whatever is in it.

`Target` makes true files in a folder and reads them; `attack` changes one of them and reads again. Tries run in forks
of this process, so that a crash or a loop of a library is a finding and not the end.
"""

import json
import os
import random
import resource
import shutil
import signal
import sys
import traceback
from pathlib import Path

from helpers.damaged_files import TARGETS

from cka_probe.errors import CkaProbeError

SECONDS, MEMORY, ROUND = 20, 4 << 30, 250
"""Limits of a try, the first of the processor's time, and tries of a fork."""


def changed(data: bytes, generator: random.Random) -> bytes:
    """Return bytes after one to four random changes."""
    result = bytearray(data or b"\0")
    for _ in range(generator.randint(1, 4)):
        place, length = generator.randrange(len(result)), min(len(result), generator.choice((1, 2, 4, 8, 64)))
        kind = generator.randrange(7)
        if kind == 0:
            result[place] ^= 1 << generator.randrange(8)
        elif kind == 1:
            result[place : place + length] = generator.randbytes(length)
        elif kind == 2:
            result[place : place + length] = bytes([generator.choice((0, 1, 0x7F, 0x80, 0xFF))]) * length
        elif kind == 3:
            del result[place : place + length]
        elif kind == 4:
            result[place:place] = result[:length]
        elif kind == 5:
            result[place:] = b"" if generator.random() < 0.5 else bytes(len(result) - place)
        else:
            result[place:place] = generator.choice(
                (b"[" * 99_999, b"nan", b"-1", b"1e999", b"\xff\xfe", b"../", b"\n", b"{}")
            )
        result = result or bytearray(b"\0")
    return bytes(result)


VALUES = (None, True, -1, 1e308, 1 << 70, 10**400, "", "é\n", [], {}, [[]], [None], {"a": None}, float("nan"))


def changed_json(document, generator: random.Random):
    """Return a document with one value replaced or left out."""
    if isinstance(document, dict) and document and generator.random() < 0.85:
        key = generator.choice(list(document))
        if generator.random() < 0.15:
            return {name: value for name, value in document.items() if name != key}
        return document | {key: changed_json(document[key], generator)}
    if isinstance(document, list) and document and generator.random() < 0.85:
        place = generator.randrange(len(document))
        if generator.random() < 0.15:
            return document[:place] + document[place + 1 :]
        return [*document[:place], changed_json(document[place], generator), *document[place + 1 :]]
    return generator.choice(VALUES)


def attacked(path: Path, data: bytes, generator: random.Random) -> bytes:
    """Return other contents of a file: other JSON for half of the tries on JSON, also within safetensors."""
    if path.suffix == ".json" and generator.random() < 0.5:
        return json.dumps(changed_json(json.loads(data), generator)).encode()
    if path.suffix in (".fingerprint", ".safetensors") and generator.random() < 0.5:
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        if "ckaprobe" in header.get("__metadata__", {}) and generator.random() < 0.7:
            inner = changed_json(json.loads(header["__metadata__"]["ckaprobe"]), generator)
            header["__metadata__"]["ckaprobe"] = json.dumps(inner)
        else:
            header = changed_json(header, generator)
        text = json.dumps(header).encode()
        return len(text).to_bytes(8, "little") + text + data[8 + length :]
    return changed(data, generator)


def attack(name: str, count: int, seed: int, folder: Path) -> list[str]:
    """Return what went wrong in `count` tries on files of a kind, one line each."""
    findings: list[str] = []
    source = folder / "source"
    source.mkdir(parents=True)
    TARGETS[name].make(source)
    TARGETS[name].read(source)
    for first in range(0, count, ROUND):
        tries = range(first, min(first + ROUND, count))
        progress, log = folder / "progress", folder / "log"
        log.touch()
        while tries:
            process = os.fork()
            if not process:
                _run(name, tries, seed, source, folder)
            _, status = os.waitpid(process, 0)
            if not status:
                break
            last = int(progress.read_text() or tries[0])
            findings.append(f"{name}, seed {seed}, try {last}: the process ended with status {status}")
            tries = range(last + 1, tries.stop)
        findings += log.read_text().splitlines()
        log.unlink()
    return findings


def _run(name: str, tries: range, seed: int, source: Path, folder: Path) -> None:
    """Make some tries in this process, and exit."""
    usage = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (usage + MEMORY, usage + MEMORY))
    files = sorted(path.relative_to(source) for path in source.rglob("*") if path.is_file() and path.name != "root")
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(source, work)
    before = sorted(path for path in folder.rglob("*"))
    for index in tries:
        (folder / "progress").write_text(str(index))
        generator = random.Random(f"{name} {seed} {index}")
        file = generator.choice(files)
        (work / file).write_bytes(attacked(file, (source / file).read_bytes(), generator))
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            TARGETS[name].read(work)
            problem = ""
        except CkaProbeError as error:
            problem = "more than one line" if "\n" in str(error) else ""
        except BaseException as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            problem = f"{type(error).__name__} in {where.filename}:{where.lineno}: {str(error)[:120]!r}"
        signal.setitimer(signal.ITIMER_PROF, 0)
        if problem:
            with (folder / "log").open("a") as log:
                log.write(f"{name}, seed {seed}, try {index}, {file}: {' '.join(problem.split())}\n")
        (work / file).write_bytes((source / file).read_bytes())
    written = set(folder.rglob("*")) - {*before, folder / "progress", folder / "log"}
    if written:
        with (folder / "log").open("a") as log:
            log.write(f"{name}, seed {seed}: wrote {sorted(map(str, written))[:3]}\n")
    sys.stdout.flush()
    os._exit(0)
