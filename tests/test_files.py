"""Whole files or none, and one line for a place that cannot be written to."""

import errno
import os
import subprocess
import sys

import pytest

from cka_probe.errors import OutputError
from cka_probe.files import HOST, atomic_write, check_writable, make_folder, read_json


def test_a_file_appears_whole_and_replaces_the_old_one(tmp_path):
    path = tmp_path / "deep" / "result.json"
    for content in ("old", "new"):
        with atomic_write(path) as temporary:
            assert temporary.suffix == ".json"
            (temporary.parent / ".tmpdqmuS1").touch()  # a writer's own temporary file
            temporary.write_text(content)
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_is_created_even_if_another_process_removes_it_meanwhile(tmp_path, monkeypatch):
    folder, mkdir, removed = tmp_path / "folder", os.mkdir, []

    def late(path, *args, **options):
        if not removed:  # it existed when `mkdir` looked, and was removed right after
            removed.append(path)
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        mkdir(path, *args, **options)

    monkeypatch.setattr(os, "mkdir", late)
    make_folder(folder)
    assert folder.is_dir()
    assert removed
    make_folder(folder)
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "file")


@pytest.mark.parametrize("interruption", [ValueError, KeyboardInterrupt])
def test_an_interruption_leaves_what_was_there(tmp_path, interruption):
    path = tmp_path / "result.json"
    path.write_text("old")

    def write():
        with atomic_write(path) as temporary:
            temporary.write_text("ne")
            raise interruption

    with pytest.raises(interruption):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("code", "message"),
    [(errno.ENOSPC, "no space left; free some"), (errno.EACCES, "no permission to write there"), (errno.EIO, "error")],
)
def test_the_systems_refusals_become_one_line(tmp_path, code, message):
    def write():
        with atomic_write(tmp_path / "result.json") as temporary:
            raise OSError(code, os.strerror(code), str(temporary))

    with pytest.raises(OutputError, match=f"cannot write .*result.json: .*{message}") as caught:
        write()
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_another_files_trouble_is_not_taken_for_this_ones(tmp_path):
    def write():
        with atomic_write(tmp_path / "result.json"):
            (tmp_path / "nowhere" / "input.txt").read_text()

    with pytest.raises(FileNotFoundError):
        write()


def test_a_folder_is_checked_before_the_work(tmp_path):
    check_writable(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="a file is where a folder is needed"):
        check_writable(tmp_path / "file")


def test_a_folder_may_be_checked_by_two_processes_at_once(tmp_path, monkeypatch):
    replace = os.replace

    def replace_and_lose(source, target):
        replace(source, target)
        os.remove(target)  # the other process has written the same file, and removes it first

    monkeypatch.setattr(os, "replace", replace_and_lose)
    check_writable(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_may_be_read_by_whoever_may_read_new_files(tmp_path):
    (tmp_path / "new").touch()
    with atomic_write(tmp_path / "kept.safetensors") as temporary:
        temporary.touch(mode=0o600)
    assert (tmp_path / "kept.safetensors").stat().st_mode == (tmp_path / "new").stat().st_mode


def test_what_a_killed_process_left_is_removed_and_what_others_write_is_not(tmp_path):
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    abandoned, other, writing, elsewhere = (
        tmp_path / name
        for name in (
            f".{int(done.stdout)}@{HOST}.result.json",
            f".{int(done.stdout)}@{HOST}.other.json",
            f".{os.getppid()}@{HOST}.result.json",
            f".{int(done.stdout)}@another.result.json",
        )
    )
    for folder in (abandoned, other, writing, elsewhere):
        folder.mkdir()
        (folder / ".tmpdqmuS1").touch()  # as safetensors leaves it
    with atomic_write(tmp_path / "result.json") as temporary:
        temporary.touch()
    assert set(tmp_path.iterdir()) == {writing, elsewhere, tmp_path / "result.json"}


def test_a_pipe_is_refused_and_not_renamed_over(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OutputError, match="it is a device or a pipe"), atomic_write(pipe) as temporary:
        temporary.write_text("new")
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]


def test_json_of_any_depth_and_pipes_are_refused(tmp_path):
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match="nested too deeply"):
        read_json(tmp_path / "deep.json")
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(OSError, match="a device or a pipe"):
        read_json(tmp_path / "pipe.json")
