"""No command silently replaces the result of another, and two commands do not write to one folder at once."""

import numpy as np
import pytest
import torch
from filelock import FileLock
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


def run(*words):
    return CliRunner().invoke(app, list(map(str, words)))


def compare(x, y, out, *more):
    return run("compare", x, y, "--out", out, "--permutations", 0, *more)


def refusal(done):
    assert done.exit_code == 2, done.output
    return done.stderr


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_another_measure_or_model_needs_another_folder_or_force(prints, tmp_path):
    assert compare(*prints[:2], tmp_path).exit_code == 0
    before = contents(tmp_path)
    for other in ((prints[0], prints[1], tmp_path, "--measure", "rsa"), (prints[0], prints[2], tmp_path)):
        line = refusal(compare(*other))
        assert f"found that of `ckaprobe compare {prints[0]} {prints[1]} --permutations 0`" in line
        assert "choose another path, or --force" in line
        assert contents(tmp_path) == before
    assert compare(*prints[:2], tmp_path).exit_code == 0
    assert contents(tmp_path) == before
    assert compare(*prints[:2], tmp_path, "--measure", "rsa", "--force").exit_code == 0
    assert (tmp_path / RECORD).read_text().endswith("--measure rsa --permutations 0\n")
    assert "rsa" in (tmp_path / "result.json").read_text()


def test_nothing_of_a_replaced_comparison_remains(prints, tmp_path):
    assert compare(*prints[:2], tmp_path).exit_code == 0
    (tmp_path / "images.jpg").write_bytes(b"images of the first comparison")
    assert compare(prints[1], prints[2], tmp_path, "--no-fingerprints", "--force").exit_code == 0
    assert not {"images.jpg", "x.fingerprint", "y.fingerprint"} & contents(tmp_path).keys()


def test_fingerprints_in_the_folder_are_kept_when_they_are_compared_there(prints, tmp_path):
    assert compare(*prints[:2], tmp_path).exit_code == 0
    sides = [tmp_path / f"{name}.fingerprint" for name in "xy"]
    before = [path.read_bytes() for path in sides]
    assert compare(*sides, tmp_path, "--measure", "rsa", "--no-fingerprints", "--force").exit_code == 0
    assert [path.read_bytes() for path in sides] == before


def test_a_result_of_unknown_origin_is_not_replaced(prints, tmp_path):
    (tmp_path / "result.json").write_text("mine")
    assert "found that of an unknown command" in refusal(compare(*prints[:2], tmp_path))
    assert contents(tmp_path) == {"result.json": b"mine"}


def test_a_folder_that_another_command_writes_to_is_refused(prints, tmp_path):
    with FileLock(tmp_path / ".result.json.lock"):
        assert "found one; wait for it" in refusal(compare(*prints[:2], tmp_path))
    assert compare(*prints[:2], tmp_path).exit_code == 0
    assert ".result.json.lock" not in contents(tmp_path)


def test_a_difference_from_another_comparison_is_not_replaced(prints, tmp_path):
    folders = [tmp_path / name for name in ("ab", "ac", "bc")]
    for folder, (x, y) in zip(folders, ((0, 1), (0, 2), (1, 2)), strict=True):
        assert compare(prints[x], prints[y], folder).exit_code == 0
    draw = ("draw", "--figure", "difference", "--format", "svg")
    assert run(*draw, *folders[:2]).exit_code == 0
    assert run(*draw, *folders[:2], "--style", "talk").exit_code == 0  # the same difference
    assert "found that of `ckaprobe draw" in refusal(run(*draw, folders[0], folders[2]))
    assert run(*draw, folders[0], folders[2], "--force").exit_code == 0
    assert compare(*prints[:2], folders[0]).exit_code == 0  # each result of a folder has its own command


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
