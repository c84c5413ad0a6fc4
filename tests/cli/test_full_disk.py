"""On a full disk every command ends with one line, and nothing half-written has its final name."""

import resource
import sys
from contextlib import contextmanager

import pytest
import torch
from helpers.every_command import WRITING, fill, words_of
from helpers.folders import contents
from safetensors.torch import save_file
from typer.testing import CliRunner

from cka_probe.errors import OutputError
from cka_probe.files import atomic_write
from ckaprobe_cli import app


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "free"),
    [*((name, 0) for name in WRITING), *((name, 600) for name in ("fingerprint", "compare", "data make"))],
)
def test_a_full_disk_is_one_line(command, free, inputs, tmp_path):
    fill(command, inputs, tmp_path)
    before = contents(tmp_path)
    with full_disk(free):
        done = CliRunner().invoke(app, words_of(command, inputs, tmp_path))
    assert done.exit_code == 2, done.output
    assert "cannot write" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    for name, data in contents(tmp_path).items():
        hidden = "/." in f"/{name}"
        assert hidden or before.get(name) == data or name.endswith(".txt") or len(data) in (0, free), name


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
