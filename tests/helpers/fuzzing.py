"""Files of every kind that is read, changed at random: each is read or refused in one line, whatever is in it.

`Target` makes true files in a folder and reads them; `attack` changes one of them and reads again. Tries run in forks
of this process, so that a crash or a loop of a library is a finding and not the end.
"""

import json
import os
import pickle
import random
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from helpers.readers import ROOTS
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from cka_probe.comparison.advice import advise
from cka_probe.comparison.atlas import compare_many
from cka_probe.comparison.compare import compare, fingerprint
from cka_probe.comparison.explanation import explain
from cka_probe.comparison.features import load_features
from cka_probe.comparison.fingerprint import Fingerprint
from cka_probe.comparison.groups import group_labels
from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.errors import CkaProbeError
from cka_probe.images.datasets import open_dataset
from cka_probe.images.reading import FORMATS
from cka_probe.lab.training.recipe import bundled, read_recipe
from cka_probe.models.checkpoints import inspect_file
from cka_probe.report import page_of

SECONDS, MEMORY, ROUND = 20, 4 << 30, 250
"""Limits of a try, the first of the processor's time, and tries of a fork."""

SKIP = {"lsun-0"}
"""Pages of LMDB are trusted by LMDB, which is C: see SECURITY.md."""


@dataclass(frozen=True)
class Target:
    """Files of one kind.

    Attributes:
        make: Writes true files into a folder.
        read: Reads the folder.
    """

    make: Callable[[Path], object]
    read: Callable[[Path], object]


WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": {"c": 1, "d.bias": torch.zeros(2)}}
FLAT = {"a.weight": torch.arange(6.0).reshape(2, 3), "d.bias": torch.zeros(2)}
MODELS = {name: nn.Sequential(nn.Linear(4, 3), nn.ReLU()) for name in "xy"}
MANY_ROWS = torch.linspace(-1, 1, 256).reshape(64, 4).sin()
MODEL, ROWS = nn.Sequential(nn.Linear(4, 3), nn.ReLU()), torch.linspace(-1, 1, 32).reshape(8, 4).sin()


def _weights(name: str, save: Callable[[Path], object]) -> Target:
    return Target(lambda folder: save(folder / name), lambda folder: inspect_file(folder / name))


def _images(folder: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    for number, kind in enumerate(FORMATS):
        Image.fromarray(pixels).save(folder / f"{number}.png", kind)


def _listed(folder: Path) -> None:
    _images(folder)
    (folder / "list.txt").write_text("0.png\n1.png\n")


def _reader(name: str, make: Callable[[Path], Path]) -> Target:
    def read(folder: Path) -> None:
        dataset = open_dataset(f"{name}:{folder / (folder / 'root').read_text()}")
        for index in range(len(dataset)):
            dataset[index]

    def write(folder: Path) -> None:
        (folder / "set").mkdir()
        (folder / "root").write_text(str(make(folder / "set").relative_to(folder)))

    return Target(write, read)


def _prints(folder: Path) -> None:
    for name, model in MODELS.items():
        fingerprint(model, MANY_ROWS, layers="*", batch=16).save(folder / f"{name}.fingerprint")


def _read_prints(folder: Path) -> None:
    x, y = (Fingerprint.load(folder / f"{name}.fingerprint") for name in "xy")
    explain(x, y, "0")
    advise(x, y)


def _atlas(folder: Path) -> None:
    models = dict(zip("xyz", (*MODELS.values(), MODEL), strict=True))
    compare_many(models, ROWS, layers="*", permutations=4).save_folder(folder)


def _grouped(folder: Path) -> None:
    _images(folder)
    rows = [f"{number}.png,video {number % 2}\n" for number in range(len(FORMATS))]
    (folder / "groups.csv").write_text("name,group\n" + "".join(rows))


def _result(folder: Path) -> None:
    compare(MODEL, MODEL, ROWS, layers="*", permutations=4).save(folder / "result.json")


TARGETS: dict[str, Target] = {
    "torch zip": _weights("a.pth", lambda path: torch.save(WEIGHTS, path)),
    "torch legacy": _weights("a.pth", lambda path: torch.save(WEIGHTS, path, _use_new_zipfile_serialization=False)),
    "pickle": _weights("a.pkl", lambda path: path.write_bytes(pickle.dumps({"a": np.ones(3), "b": [1, "c"]}))),
    "safetensors": _weights("a.safetensors", lambda path: save_file(FLAT, path, metadata={"format": "pt"})),
    "npz": _weights("a.npz", lambda path: np.savez(path, a=np.ones((2, 3)), b=np.ones(2))),
    "fingerprint": Target(
        lambda folder: fingerprint(MODEL, ROWS, layers="*").save(folder / "a.fingerprint"),
        lambda folder: Fingerprint.load(folder / "a.fingerprint"),
    ),
    "result": Target(_result, lambda folder: SimilarityMatrix.load(folder / "result.json").summary()),
    "why and advise": Target(_prints, _read_prints),
    "atlas": Target(_atlas, page_of),
    "groups": Target(_grouped, lambda folder: group_labels(str(folder / "groups.csv"), str(folder), num=None, seed=0)),
    "features": Target(
        lambda folder: np.savez(folder / "a.npz", a=MANY_ROWS.numpy(), b=ROWS.numpy()[:, :1].repeat(8, 0)),
        lambda folder: load_features(folder / "a.npz"),
    ),
    "recipe.toml": Target(
        lambda folder: (folder / "a.toml").write_text(bundled()["demo"]), lambda folder: read_recipe(folder / "a.toml")
    ),
    "recipe.json": Target(
        lambda folder: (folder / "a.json").write_text(json.dumps(read_recipe("demo").as_dict())),
        lambda folder: read_recipe(folder / "a.json"),
    ),
    "images": Target(_images, lambda folder: [image["image"] for image in _each(open_dataset(folder))]),
    "list": Target(_listed, lambda folder: open_dataset(f"folder:{folder}?list=list.txt")),
    **{
        f"{name}-{number}": _reader(name, make)
        for name, makes in ROOTS.items()
        for number, make in enumerate(makes)
        if f"{name}-{number}" not in SKIP
    },
}


def _each(dataset) -> Iterator[dict]:
    """Yield every sample that can be read; an error of one must not hide the others."""
    errors = []
    for index in range(len(dataset)):
        try:
            yield dataset[index]
        except CkaProbeError as error:
            errors.append(error)
    if errors:
        raise errors[0]


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
                (b"[" * 99, b"nan", b"-1", b"1e999", b"\xff\xfe", b"../", b"\n", b"{}")
            )
        result = result or bytearray(b"\0")
    return bytes(result)


VALUES = (None, True, -1, 1e308, 1 << 70, "", "é\n", [], {}, [[]], [None], {"a": None}, float("nan"))


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
    if path.suffix == ".fingerprint" and generator.random() < 0.5:
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        if generator.random() < 0.7:
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
