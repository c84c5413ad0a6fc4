"""Where nothing can be written, every command that writes ends with one line, and leaves the folder as it was."""

import ctypes
import os
import re
import subprocess
import sys
from contextlib import contextmanager, nullcontext

import pytest
from helpers.every_command import WRITING, fill, words_of
from helpers.folders import contents
from typer.testing import CliRunner

from ckaprobe_cli import app

DAC = 0b110
"""The capabilities of root to read and write what the permission bits forbid."""

REFUSED = re.compile("cannot write .* no permission to write there; choose another folder")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="folders of Windows have no permission bits"),
]


@contextmanager
def permission_bits_count():
    """Let permission bits bind root, as they do any other user."""
    if os.geteuid():
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, before, without = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)(), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, before) == libc.capget(header, without) == 0
    without[0] &= ~DAC
    assert libc.capset(header, without) == 0
    try:
        yield
    finally:
        assert libc.capset(header, before) == 0


@pytest.fixture
def file_system(tmp_path):
    """A folder that is a file system."""
    place = tmp_path / "mounted"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "none", place], capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a file system")
    yield place
    subprocess.run(["umount", place], check=True)


def folders(place):
    return [place, *(path for path in place.rglob("*") if path.is_dir())]


def refusal(command, inputs, place, context):
    """Run a command where it cannot write, and return its line."""
    before = contents(place)
    with context:
        done = CliRunner().invoke(app, words_of(command, inputs, place))
    assert done.exit_code == 2, done.output
    assert done.stderr.count("\n") == 1, done.stderr
    assert contents(place) == before
    return done.stderr


@pytest.mark.parametrize("command", WRITING)
def test_a_folder_without_permission(command, inputs, tmp_path):
    fill(command, inputs, tmp_path)
    for path in folders(tmp_path):
        path.chmod(0o555)
    assert REFUSED.search(refusal(command, inputs, tmp_path, permission_bits_count()))
    for path in folders(tmp_path):
        path.chmod(0o755)


@pytest.mark.parametrize("command", WRITING)
def test_a_folder_that_cannot_be_entered(command, inputs, tmp_path):
    place = tmp_path / "place"
    fill(command, inputs, place)
    tmp_path.chmod(0)
    line = refusal(command, inputs, place, permission_bits_count())
    tmp_path.chmod(0o755)
    assert str(place) in line
    assert "permission" in line


@pytest.mark.parametrize("command", WRITING)
def test_a_read_only_file_system(command, inputs, file_system):
    fill(command, inputs, file_system)
    subprocess.run(["mount", "-o", "remount,ro", file_system], check=True)
    assert REFUSED.search(refusal(command, inputs, file_system, nullcontext()))
