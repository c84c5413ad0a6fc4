"""Several processes share the batches of a run: the same bytes for any number, one line for an error, no hang."""

import json
import shutil
from itertools import zip_longest
from pathlib import Path

import pytest
import torch
from helpers import shared_runs
from helpers.paths import ROOT
from helpers.processes import torchrun
from helpers.shared_runs import folder_of_images
from typer.testing import CliRunner

from cka_probe.images.stream import Share, batches, stream_images
from ckaprobe_cli import app

COMPARE = ["compare", "random:resnet18:0", "random:resnet18:1", "--size", "32", "--layers", "layer1,layer4", "--quiet"]
COMPARE += ["--batch", "8", "--permutations", "10"]


def files(folder):
    suffixes = (".json", ".csv", ".fingerprint", ".txt", ".jpg")
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.suffix in suffixes}


def test_two_processes_write_the_bytes_of_one(tmp_path):
    data = folder_of_images(tmp_path / "images", 27)  # three batches, the last of eleven
    command = ["fingerprint", "random:resnet18", "--size", "32", "--batch", "8", "--layers", "layer1", "--quiet"]
    command += ["--data", data, "--output", tmp_path / "out" / "a.fingerprint"]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone = CliRunner().invoke(app, list(map(str, command)))
    finally:
        torch.set_num_threads(threads)
    expected = files(tmp_path / "out")
    assert (alone.exit_code, len(expected)) == (0, 3)
    shutil.rmtree(tmp_path / "out")
    done = torchrun(2, *command)
    assert done.returncode == 0, done.stderr
    assert done.stdout == alone.stdout
    assert files(tmp_path / "out") == expected


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What one process, and each of two, saved of every run."""
    folder = tmp_path_factory.mktemp("ranks")
    images = folder / "images"
    images.mkdir()
    folder_of_images(images / "good", 27)
    folder_of_images(images / "noisy", 27, seed=1)
    for name, numbers in (("bad", (2, 11, 12, 20)), ("worst", range(5))):
        data = folder_of_images(images / name, 27 if name == "bad" else 5)
        for number in numbers:
            (data / f"{number:03}.png").write_bytes(b"no image")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        shared_runs.save_all(images, folder / "alone")
    finally:
        torch.set_num_threads(threads)
    done = torchrun(2, images, folder / "two", script=(ROOT / "tests" / "helpers" / "shared_runs.py",))
    assert done.returncode == 0, done.stderr
    paths = (folder / "alone", folder / "two" / "0", folder / "two" / "1")
    return [{path.name: path.read_bytes() for path in each.iterdir()} for each in paths]


RUNS = [name for name in shared_runs.runs(Path()) if name not in ("shuffled", "alone")]


@pytest.mark.parametrize("name", RUNS)
def test_every_process_gets_what_one_process_gets(outcomes, name):
    alone, first, second = ({key: text for key, text in each.items() if key.split(".")[0] == name} for each in outcomes)
    assert len(alone) == 1
    assert first == alone
    assert second == alone


def test_what_each_run_is_about(outcomes):
    alone = outcomes[0]
    errors = {name.removesuffix(".txt") for name in alone if name.endswith(".txt")}
    assert errors == {"unreadable", "all_unreadable", "failing"}
    assert alone["unreadable.txt"].startswith(b"DataError")
    assert b"no second batch" in alone["failing.txt"]
    skipped = {name: json.loads(alone[f"{name}.json"])["images"]["skipped"] for name in ("folder", "skip_bad", "pairs")}
    assert [len(names) for names in skipped.values()] == [0, 4, 4]
    assert "it is the same for every image of a batch" in alone["constant.json"].decode()


def test_a_run_of_one_process_of_a_group(outcomes):
    assert outcomes[1]["alone.json"] == outcomes[0]["alone.json"]
    assert "alone.json" not in outcomes[2]


def test_loaders_that_shuffle_in_each_process_are_refused(outcomes):
    message = b"DataError: expected the same images in the same order in all 2 processes, found others in process 1"
    assert outcomes[1]["shuffled.txt"].startswith(message)
    assert outcomes[2]["shuffled.txt"].startswith(message)


def test_an_error_of_one_process_is_one_line_and_nothing_is_written(tmp_path):
    data = folder_of_images(tmp_path / "images", 24)
    (data / "023.png").write_bytes(b"no image")
    order = ["--seed", "1"]
    done = torchrun(2, *COMPARE, *order, "--data", data, "--out", tmp_path / "out")
    lines = [line for line in done.stderr.splitlines() if line.startswith("ckaprobe: ")]
    assert len(lines) == 1
    assert "023.png" in lines[0]
    assert "exitcode  : 2" in done.stderr
    assert "Traceback" not in done.stderr.partition("ChildFailedError")[0].partition(lines[0])[0]
    assert not (tmp_path / "out").exists()


def test_shares_are_whole_batches_each_in_one_share():
    rows = torch.arange(35.0)[:, None]
    whole = [images[0].flatten().tolist() for images in parts(rows, Share())]
    for count in (1, 2, 3, 4, 7):
        shares = [parts(rows, Share(index, count)) for index in range(count)]
        dealt = [images[0].flatten().tolist() for row in zip_longest(*shares) for images in row if images is not None]
        assert dealt == whole


def parts(rows, share):
    return [[torch.stack(images)] for (images,) in batches([stream_images(rows, batch=8)], lambda row, _: row, share)]
