"""Where what was decoded is kept: within a budget, shared by processes, gone at the end."""

import multiprocessing
import os
import pickle
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from functools import partial

import pytest
import torch

from cka_probe.errors import OutputError
from cka_probe.lab.datasets.cache import PREFIX, DecodedCache


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """Keep what this test keeps apart."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path / "tmp"


def entries(cache):
    return [path for path in cache.folder.iterdir() if path.name != "size" and path.suffix != ".lock"]


def folders(root):
    return sorted(path for path in root.glob(f"{PREFIX}*") if path.is_dir())


def test_what_is_beyond_the_budget_is_read_anew():
    kept, reads = DecodedCache(budget=1000), []

    def read(number):
        reads.append(number)
        return torch.full((1, 10, 10), number + 0.3)  # 400 bytes

    for _ in range(3):
        for number in range(4):
            assert kept.get(("number", number), partial(read, number))[0, 0, 0] == torch.tensor(number + 0.3)
    assert sorted(Counter(reads).values()) == [1, 1, 3, 3]
    assert len(entries(kept)) == 2


def test_a_full_disk_is_a_budget_used_up():
    kept, reads = DecodedCache(), []

    def read():
        reads.append(1)
        return torch.rand(3, 100, 100)

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # no file grows beyond 1000 bytes
    try:
        assert kept.get(("large",), read).shape == kept.get(("large",), read).shape == (3, 100, 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(reads) == 2
    assert not entries(kept)  # and no half of one
    assert torch.equal(kept.get(("large",), read), kept.get(("large",), read))
    assert len(reads) == 3


def test_a_place_that_cannot_be_written_to_is_said(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/proc/nowhere")
    with pytest.raises(OutputError, match=r"below /proc/nowhere: No such file.*set TMPDIR .*cache=false"):
        DecodedCache()


def test_a_reader_that_fails_keeps_nothing_and_holds_nobody_up():
    kept = DecodedCache()
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            kept.get(("broken",), lambda: torch.zeros(1 // 0))
    assert kept.get(("broken",), lambda: torch.ones(1)) == 1


def wait_and_read(kept, journal):
    def read():
        with journal.open("a") as file:
            file.write("read\n")
        time.sleep(0.2)
        return torch.ones(3, 4, 5)

    assert kept.get(("slow",), read).eq(1).all()


def test_processes_that_want_the_same_at_once_wait_for_one(tmp_path):
    kept, context, journal = DecodedCache(), multiprocessing.get_context("fork"), tmp_path / "journal"
    running = [context.Process(target=wait_and_read, args=(kept, journal)) for _ in range(3)]
    for process in running:
        process.start()
    for process in running:
        process.join()
    assert [process.exitcode for process in running] == [0, 0, 0]
    assert journal.read_text() == "read\n"
    assert kept.folder.is_dir()  # those that used it did not take it with them


def test_a_pickled_one_is_the_same_one():
    kept = DecodedCache()
    kept.get(("one",), lambda: torch.ones(1))
    assert pickle.loads(pickle.dumps(kept)).get(("one",), lambda: torch.zeros(1)) == 1


def test_the_folder_goes_with_its_owner(temporary):
    kept = DecodedCache()
    kept.get(("one",), lambda: torch.ones(1))
    assert folders(temporary) == [kept.folder]
    del kept
    assert not list(temporary.iterdir())


def hold(pipe):
    cache = DecodedCache()
    pipe.send(cache.folder)
    time.sleep(100)


@pytest.mark.slow
def test_a_process_leaves_nothing_behind_or_the_next_one_clears_it_up(temporary):
    code = "from cka_probe.lab.datasets.cache import DecodedCache; cache = DecodedCache(); "
    code += "print(cache.folder, cache.folder.is_dir())"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"TMPDIR": str(temporary)}, stdout=subprocess.PIPE, text=True
    )
    assert done.stdout.startswith(f"{temporary / PREFIX}")
    assert done.stdout.endswith(" True\n")
    assert not folders(temporary)  # it has ended
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=hold, args=(theirs,))
    process.start()
    folder = ours.recv()
    first = DecodedCache()
    assert folder.is_dir()  # its owner lives
    process.kill()
    process.join()
    assert folder.is_dir()
    second = DecodedCache()
    assert folders(temporary) == sorted([first.folder, second.folder])
