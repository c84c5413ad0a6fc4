"""No command silently replaces the result of another, and two commands do not write to one folder at once."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from helpers.every_command import RESULTS, words_of
from PIL import Image
from torch import nn
from typer.testing import CliRunner

import cka_probe
from ckaprobe_cli import app
from ckaprobe_cli.results_folder import RECORD


@pytest.fixture(scope="module")
def prints(tmp_path_factory):
    """Three fingerprints of the same eight random images."""
    folder, images = tmp_path_factory.mktemp("prints"), torch.randn(8, 6)
    paths = [folder / f"{name}.fingerprint" for name in "abc"]
    for seed, path in enumerate(paths):
        torch.manual_seed(seed)
        cka_probe.fingerprint(nn.Sequential(nn.Linear(6, 5), nn.ReLU()), images, layers="*").save(path)
    return paths


@pytest.fixture(scope="module")
def folder(prints, tmp_path_factory):
    """A comparison of the first two, for tests that copy it."""
    out = tmp_path_factory.mktemp("compared")
    assert compare(*prints[:2], out).exit_code == 0
    return out


@pytest.fixture
def compared(folder, tmp_path):
    """A comparison of the first two in a folder of the test's own."""
    return Path(shutil.copytree(folder, tmp_path / "compared"))


def run(*words):
    return CliRunner().invoke(app, list(map(str, words)))


def compare(x, y, out, *more):
    return run("compare", x, y, "--out", out, "--permutations", 0, *more)


def refusal(done):
    assert done.exit_code == 2, done.output
    return done.stderr


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.slow
def test_another_measure_or_model_needs_another_folder_or_force(prints, compared):
    before = contents(compared)
    for other in ((prints[0], prints[1], compared, "--measure", "rsa"), (prints[0], prints[2], compared)):
        line = refusal(compare(*other))
        assert f"found that of `ckaprobe compare {prints[0]} {prints[1]} --permutations 0`" in line
        assert "choose another path, or --force" in line
        assert contents(compared) == before
    assert compare(*prints[:2], compared).exit_code == 0
    assert contents(compared) == before
    assert compare(*prints[:2], compared, "--measure", "rsa", "--force").exit_code == 0
    assert (compared / RECORD).read_text().endswith("--measure rsa --permutations 0\n")
    assert "rsa" in (compared / "result.json").read_text()


@pytest.mark.slow
def test_nothing_of_a_replaced_comparison_remains(prints, compared):
    (compared / "images.jpg").write_bytes(b"images of the first comparison")
    assert compare(prints[1], prints[2], compared, "--no-fingerprints", "--force").exit_code == 0
    assert not {"images.jpg", "x.fingerprint", "y.fingerprint"} & contents(compared).keys()


@pytest.mark.slow
def test_fingerprints_in_the_folder_are_kept_when_they_are_compared_there(compared):
    sides = [compared / f"{name}.fingerprint" for name in "xy"]
    before = [path.read_bytes() for path in sides]
    assert compare(*sides, compared, "--measure", "rsa", "--no-fingerprints", "--force").exit_code == 0
    assert [path.read_bytes() for path in sides] == before


def test_a_result_of_unknown_origin_is_not_replaced(prints, tmp_path):
    (tmp_path / "result.json").write_text("mine")
    assert "found that of an unknown command" in refusal(compare(*prints[:2], tmp_path))
    assert contents(tmp_path) == {"result.json": b"mine"}


@pytest.mark.slow
def test_a_folder_that_another_command_writes_to_is_refused(prints, tmp_path):
    with FileLock(tmp_path / ".result.json.lock"):
        assert "found one; wait for it" in refusal(compare(*prints[:2], tmp_path))
    assert compare(*prints[:2], tmp_path).exit_code == 0
    assert ".result.json.lock" not in contents(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("command", RESULTS)
def test_every_command_leaves_the_result_of_another(command, inputs, tmp_path):
    result = tmp_path / RESULTS[command]
    result.parent.mkdir(exist_ok=True)
    with FileLock(result.with_name(f".{result.name}.lock")):
        assert "found one; wait for it" in refusal(run(*words_of(command, inputs, tmp_path))).splitlines()[-1]
    result.write_text("mine")
    assert "found that of an unknown command" in refusal(run(*words_of(command, inputs, tmp_path))).splitlines()[-1]
    assert contents(result.parent) == {result.name: b"mine"}


@pytest.mark.slow
def test_a_difference_from_another_comparison_is_not_replaced(prints, compared, tmp_path):
    folders = [compared, tmp_path / "ac", tmp_path / "bc"]
    for folder, x in zip(folders[1:], (0, 1), strict=True):
        assert compare(prints[x], prints[2], folder).exit_code == 0
    draw = ("draw", "--figure", "difference", "--format", "svg")
    assert run(*draw, *folders[:2]).exit_code == 0
    assert run(*draw, *folders[:2], "--style", "talk").exit_code == 0  # the same difference
    assert "found that of `ckaprobe draw" in refusal(run(*draw, folders[0], folders[2]))
    assert run(*draw, folders[0], folders[2], "--force").exit_code == 0
    assert compare(*prints[:2], folders[0]).exit_code == 0  # each result of a folder has its own command


@pytest.mark.slow
def test_a_fingerprint_is_replaced_by_the_same_one_only(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for index in range(4):
        Image.fromarray(np.full((32, 32, 3), 60 * index, np.uint8)).save(images / f"{index}.png")
    file = tmp_path / "a.fingerprint"
    words = ("fingerprint", "random:swinv2_micro", "--data", images, "-o", file)
    assert run(*words, "--layers", "0").exit_code == 0
    assert contents(tmp_path).keys() == {"a.fingerprint", "a.images.jpg", RECORD}
    before = file.read_bytes()
    assert run(*words, "--layers", "0").exit_code == 0
    others = (words, (*words, "--layers", "1"), (*words, "--layers", "0", "--features", "gap"))
    for other in (*others, (words[0], "random:resnet18", *words[2:])):
        assert "found that of `ckaprobe fingerprint random:swinv2_micro --data" in refusal(run(*other))
    assert file.read_bytes() == before
    assert run(*words, "--layers", "1", "--force").exit_code == 0


@pytest.mark.slow
def test_a_killed_command_goes_on_and_others_are_told_whose_result_it_is(prints, compared):
    """A result that was written just before a kill is in no record yet."""
    before, begun = contents(compared), compared / ".result.json.command"
    begun.write_text((compared / RECORD).read_text().removeprefix("result.json: ").strip())
    (compared / RECORD).unlink()
    assert f"found that of `ckaprobe compare {prints[0]}" in refusal(compare(*prints[:2], compared, "--measure", "rsa"))
    assert compare(*prints[:2], compared).exit_code == 0
    assert contents(compared) == before
