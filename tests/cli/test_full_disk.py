"""On a full disk every command ends with one line, and nothing half-written has its final name."""

import resource
import sys
from contextlib import contextmanager

import pytest
import torch
from helpers.dataset_files import write_image
from safetensors import safe_open
from safetensors.torch import save_file
from typer.testing import CliRunner

from cka_probe.errors import OutputError
from cka_probe.files import atomic_write
from ckaprobe_cli import app

SMALL = ("--batch", "4", "--size", "32")
MODELS = ("random:resnet18:0", "random:resnet18:1")


@contextmanager
def full_disk(free):
    """Let no file grow beyond so many bytes: the system's answer is an error, as on a full disk."""
    before, writing = resource.getrlimit(resource.RLIMIT_FSIZE), sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # Python would leave half of a .pyc
    resource.setrlimit(resource.RLIMIT_FSIZE, (free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        sys.dont_write_bytecode = writing


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for number in range(4):
        write_image(folder / f"{number}.png", number)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("free", [0, 600])
@pytest.mark.parametrize(
    "words",
    [
        ["fingerprint", MODELS[0], "--data", "{images}", "-o", "{out}/a.fingerprint", *SMALL],
        ["compare", *MODELS, "--data", "{images}", "--out", "{out}", "--permutations", "4", *SMALL],
        ["data", "make", "rooms", "{out}/rooms", "--num", "1", "--size", "256x192"],
    ],
    ids=lambda words: words[0],
)  # fmt: skip
def test_a_full_disk_is_one_line(images, tmp_path, words, free):
    out = tmp_path / "out"
    with full_disk(free):
        done = CliRunner().invoke(app, [word.format(images=images, out=out) for word in words])
    assert done.exit_code == 2, done.output
    assert "cannot write" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    for path in out.rglob("*"):
        assert not (path.is_file() and path.suffix in (".fingerprint", ".json", ".png", ".pdf")) or path.stat().st_size
        if path.suffix == ".fingerprint":
            safe_open(path, framework="pt")


@pytest.mark.parametrize(
    "save",
    [
        lambda path: torch.save(torch.zeros(9999), path),
        lambda path: save_file({"a": torch.zeros(9999)}, path),
        lambda path: path.write_bytes(bytes(9999)),
    ],
)
def test_weights_that_do_not_fit_are_one_line(tmp_path, save):
    def write():
        with atomic_write(tmp_path / "weights") as path:
            save(path)

    with full_disk(1000), pytest.raises(OutputError, match=r"cannot write .*weights") as caught:
        write()
    assert str(caught.value).isprintable()
    assert list(tmp_path.iterdir()) == []
