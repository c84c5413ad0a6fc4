"""The command line, as a user meets it: what it writes, and one line for everything that goes wrong."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import cka_probe
from cka_probe.comparison.dimensions import layer_dimensions
from ckaprobe_cli import app

MICRO = ["random:swinv2_micro", "random:swinv2_micro:1"]
FEW = ["--batch", 6, "--permutations", 20]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Twelve images of different sizes, in two folders."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for index in range(12):
        path = root / "ab"[index % 2] / f"{index:02d}.{'png' if index % 3 else 'jpg'}"
        path.parent.mkdir(exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8))
        coarse.resize((70 + index, 66), Image.Resampling.BICUBIC).save(path)
    return root


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(*arguments):
    """Return the one line of a command that must fail with exit code 2."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("ckaprobe: ")]
    assert len(lines) == 1
    assert "Traceback" not in result.output
    return lines[0]


@pytest.fixture(scope="module")
def compared(folder, tmp_path_factory):
    """A folder that `compare` wrote, for tests that only read it, and what the command printed."""
    out = tmp_path_factory.mktemp("compared") / "out"
    result = run("compare", *MICRO, "--data", folder, "--out", out, *FEW)
    assert result.exit_code == 0, result.output
    return out, result


def test_compare_writes_result_table_and_figures(compared):
    out, result = compared
    names = {path.name for path in out.iterdir()}
    drawn = {f"{name}.{suffix}" for name in ("heatmap", "profile", "uncertainty") for suffix in ("png", "pdf")}
    kept = {"x.fingerprint", "y.fingerprint", "images.jpg", "influential.jpg", "commands.txt"}
    assert {"result.json", "result.csv", "result.tex"} | drawn | kept == names
    document = json.loads((out / "result.json").read_text())
    assert document["num_examples"] == 12
    assert np.array(document["values"], dtype=float).shape == (9, 9)
    assert document["values"][2][2] is None
    assert "norm1" in document["rows"][2]["name"]
    assert "exactly 0 for every image" in document["rows"][2]["undefined"]
    assert "layers.0.downsample.norm" in result.stdout
    assert str(out / "result.json") in result.stdout
    assert "images:" not in result.stdout
    assert "images:" in result.stderr


@pytest.mark.slow
def test_another_measure_says_its_name_and_fingerprints_need_not_be_kept(folder, tmp_path):
    result = run(
        "compare", *MICRO, "--data", folder, "--out", tmp_path, "--batch", 6, "--permutations", 0, "--layers", "0,1",
        "--measure", "rsa", "--no-fingerprints",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "RSA (Spearman) over 12 images" in result.stdout
    assert "warning  No images were permuted" in result.stdout
    assert not list(tmp_path.glob("*.fingerprint"))
    document = json.loads((tmp_path / "result.json").read_text())
    assert (document["settings"]["measure"], document["settings"]["range"]) == ("rsa", [-1.0, 1.0])
    assert "no measure 'rda'; did you mean 'rsa'" in refused("compare", *MICRO, "--out", tmp_path, "--measure", "rda")


NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")


def assert_equal_up_to_rounding(text, other):
    """Assert that two texts have the same words, and numbers that differ by the rounding of a larger product."""
    assert NUMBER.sub("#", text) == NUMBER.sub("#", other)
    numbers, others = ([float(number) for number in NUMBER.findall(part)] for part in (text, other))
    assert numbers == pytest.approx(others, rel=1e-9, abs=1e-12)


@pytest.mark.slow
def test_three_models_write_their_matrix_every_pair_and_one_page(folder, tmp_path):
    out, models = tmp_path / "out", ["random:resnet18", "random:resnet18:1", "random:resnet18:2"]
    options = ["--data", folder, "--batch", 6, "--permutations", 5, "--layers", "layer1.0,layer4.1", "--size", 64]
    result = run("compare", *models, *options, "--out", out)
    assert result.exit_code == 0, result.output
    drawn = {f"{name}.{suffix}" for name in ("models", "tree", "map", "curves") for suffix in ("png", "pdf")}
    tables = {"atlas.json", "pairs.csv", "curves.csv", "images.jpg", "commands.txt"}
    assert {path.name for path in out.iterdir()} == drawn | tables | {"pairs", "fingerprints"}
    assert "0 random:resnet18:0" in result.stdout
    two = tmp_path / "two"
    run("compare", models[0], models[2], *options, "--out", two)
    for name in ("result.json", "result.csv"):
        assert_equal_up_to_rounding((out / "pairs" / "0-2" / name).read_text(), (two / name).read_text())
    assert (out / "fingerprints" / "2.fingerprint").read_bytes() == (two / "y.fingerprint").read_bytes()
    before = (out / "models.png").read_bytes()
    names = ("models.png", "tree.png", "map.png", "curves.png")
    assert run("draw", out, "--format", "png").stdout.split() == [str(out / name) for name in names]
    assert (out / "models.png").read_bytes() == before
    assert "index.html" in run("report", out).stdout
    again = run("compare", *sorted((out / "fingerprints").iterdir()), "--out", tmp_path / "again", "--permutations", 5)
    assert again.exit_code == 0, again.output
    assert (tmp_path / "again" / "atlas.json").read_bytes() == (out / "atlas.json").read_bytes()


def test_one_model_and_options_of_two_are_refused(folder, tmp_path):
    assert "two or more models to compare, found only a.pth" in refused("compare", "a.pth", "--out", tmp_path)
    three = ["random:resnet18", "random:resnet18:1", "random:resnet18:2"]
    assert "--layers-y is for two models, found 3" in refused("compare", *three, "--layers-y", 0, "--out", tmp_path)
    message = refused("compare", *three[:2], "random:resnet19", "--data", folder, "--out", tmp_path)
    assert "random:resnet19" in message


@pytest.mark.slow
def test_same_inputs_same_bytes(folder, compared, tmp_path):
    run("compare", *MICRO, "--data", folder, "--out", tmp_path / "again", *FEW)
    for file in compared[0].iterdir():
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes(), file.name


@pytest.mark.slow
def test_fingerprint_then_compare_without_models(folder, compared, tmp_path):
    for index, model in enumerate(MICRO):
        made = run("fingerprint", model, "--data", folder, "-o", tmp_path / f"{index}.fingerprint", "--batch", 6)
        assert made.exit_code == 0, made.output
    live, stored = compared[0], tmp_path / "stored"
    prints = [tmp_path / f"{index}.fingerprint" for index in (0, 1)]
    result = run("compare", *prints, "--out", stored, "--permutations", 20)
    assert result.exit_code == 0, result.output
    assert (live / "result.json").read_bytes() == (stored / "result.json").read_bytes()
    assert (live / "x.fingerprint").read_bytes() == (tmp_path / "0.fingerprint").read_bytes()
    assert (live / "images.jpg").read_bytes() == (tmp_path / "0.images.jpg").read_bytes()
    assert not (stored / "images.jpg").exists()


@pytest.mark.slow
def test_features_are_compared_without_models_and_images(tmp_path):
    rows = np.random.default_rng(0).normal(size=(64, 6))
    np.save(tmp_path / "a.npy", rows)
    np.savez(tmp_path / "b.npz", early=rows[:, :4], late=rows**2, labels=np.arange(64))
    command = run("compare", tmp_path / "a.npy", tmp_path / "b.npz", "--out", tmp_path / "out", "--permutations", 20)
    assert command.exit_code == 0, command.output
    assert "64 rows of features" in command.output
    assert "left out, as they are not floats: labels" in command.output
    result = cka_probe.SimilarityMatrix.load(tmp_path / "out" / "result.json")
    assert [axis.name for axis in result.columns] == ["early", "late"]
    assert not (tmp_path / "out" / "images.jpg").exists()
    np.save(tmp_path / "short.npy", rows[:60])
    message = refused("compare", tmp_path / "a.npy", tmp_path / "short.npy", "--out", tmp_path / "short")
    assert "expected as many rows of x as of y, which are paired, found 64 and 60" in message


def test_draw_redraws_what_compare_drew(compared, tmp_path):
    result = run("draw", shutil.copy(compared[0] / "result.json", tmp_path))
    assert result.exit_code == 0
    for name in ("heatmap", "profile", "uncertainty"):
        assert (tmp_path / f"{name}.png").read_bytes() == (compared[0] / f"{name}.png").read_bytes()


@pytest.mark.slow
def test_layers_prints_where_to_look():
    result = run("layers", "random:swinv2_micro")
    assert "7 layers.2.downsample.norm layers.3.downsample.norm 2x2x256     32   NHWC" in result.stdout
    blocks = run("layers", "random:vit_tiny_patch16_224").stdout
    assert "blocks.11" in blocks
    assert "197x192" in blocks
    assert "layer4.1.conv2" in run("layers", "random:resnet18", "--layers", "*").stdout


def test_inspect_of_a_fingerprint_has_the_dimensions_of_its_layers(tmp_path):
    net = torch.nn.Sequential(torch.nn.Linear(6, 5))
    side = cka_probe.fingerprint(net, torch.randn(40, 6, generator=torch.manual_seed(0)), layers="0")
    side.save(tmp_path / "a.fingerprint")
    *_, heading, name, row = run("inspect", tmp_path / "a.fingerprint").stdout.rstrip().split("\n")
    assert name.split() == ["layer"]
    expected = layer_dimensions(side).iloc[0]
    assert heading.split() == list(expected.index)
    assert [float(number) for number in row.split()[1:]] == pytest.approx(list(expected), abs=0.006)


def test_inspect_refuses_the_dimensions_of_sampled_features(tmp_path):
    net, images = torch.nn.Sequential(torch.nn.Linear(6, 40)), torch.randn(20, 6)
    cka_probe.fingerprint(net, images, layers="0", num_features=16).save(tmp_path / "a.fingerprint")
    done = run("inspect", tmp_path / "a.fingerprint")
    assert done.exit_code == 2
    assert "expected all features for the dimensions of layers, found a sample (--num-features 16)" in done.stderr


def test_inspect_tells_a_file(tmp_path):
    torch.save({"model": {"nothing": torch.zeros(2)}}, tmp_path / "a.pth")
    result = run("inspect", tmp_path / "a.pth")
    assert result.exit_code == 0
    assert "a.pth" in result.stdout


def bad_checkpoints(root: Path) -> dict[str, tuple[Path, str]]:
    """Write files that are no checkpoints; by name, the file and what its message must say."""

    class Trap:
        def __reduce__(self):
            return os.system, (f"touch {root / 'sprung'}",)

    torch.save({"model": Trap()}, root / "malicious.pth")
    torch.save({"model": torch.nn.Linear(50, 50).state_dict()}, root / "whole.pth")
    (root / "truncated.pth").write_bytes((root / "whole.pth").read_bytes()[:700])
    (root / "text.pth").write_text("not a checkpoint")
    torch.save({"layer.weight": torch.zeros(3, 3)}, root / "stranger.pth")
    return {
        "missing": (root / "missing.pth", "missing.pth"),
        "text": (root / "text.pth", "text.pth"),
        "truncated": (root / "truncated.pth", "truncated.pth"),
        "malicious": (root / "malicious.pth", "system"),
        "stranger": (root / "stranger.pth", "--arch"),
    }


@pytest.mark.parametrize("name", ["missing", "text", "truncated", "malicious", "stranger"])
def test_a_file_that_is_no_checkpoint(name, folder, tmp_path):
    path, says = bad_checkpoints(tmp_path)[name]
    assert says in refused("compare", path, MICRO[0], "--data", folder, "--out", tmp_path / "out")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "{folder}/nowhere"], "nowhere"),
        (["--data", "{empty}"], "no images below"),
        (["--data", "{folder}", "--num", "3"], "at least 4 images"),
        (["--data", "{folder}", "--layers", "layers.9"], "no layer 'layers.9'"),
        (["--data", "{folder}", "--layers", "layers.1.downsample.norm"], "means two layers"),
        (["--data", "{folder}", "--layers", "layers.0.blocks.0.attn.attn_drop"], "expected one activation per image"),
        (["--data", "{folder}", "--features", "mean"], "no features 'mean'"),
        (["--data", "{folder}", "--device", "cuda:9"], "no device 'cuda:9' here"),
        ([], "a model was given and no images"),
    ],
)
def test_bad_arguments_are_one_line(arguments, message, folder, tmp_path):
    (tmp_path / "empty").mkdir()
    filled = [argument.format(folder=folder, empty=tmp_path / "empty") for argument in arguments]
    assert message in refused("compare", *MICRO, "--out", tmp_path / "out", *filled)
    assert not any((tmp_path / "out").glob("*"))


MINE = """
from torch import nn
import cka_probe

class Mine(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.twice, self.never = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(1, 1)

    def forward(self, images):
        return self.twice(self.twice(self.conv(images)) - 0.1)

def make():
    return cka_probe.Backbone(Mine(), size=(24, 32))
"""


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("twice", "layer 'twice' runs more than once"),
        ("never", "layer 'never' never ran"),
        ("nev*", "no layer can be compared; Of 'nev*', 1 layer is left out: never ran (never)."),
    ],
)
def test_layers_of_a_users_own_model_that_cannot_be_compared(layers, message, folder, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    arguments = ["--data", folder, "--out", tmp_path / "out", "--layers", layers]
    assert message in refused("compare", *["mine:make"] * 2, *arguments)
    monkeypatch.delitem(sys.modules, "mine")


@pytest.mark.slow
def test_an_unreadable_image_is_named_and_skipped_only_on_request(folder, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for path in folder.rglob("*.*g"):
        (images / path.name).write_bytes(path.read_bytes())
    (images / "broken.jpg").write_bytes(b"\xff\xd8 no more")
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(images / "depth.png")
    arguments = ["compare", *MICRO, "--data", images, "--out", tmp_path / "out", "--layers", "0,1"]
    assert "--skip-bad" in (line := refused(*arguments))
    assert "broken.jpg" in line or "depth.png" in line
    result = run(*arguments, "--skip-bad")
    assert result.exit_code == 0, result.output
    document = json.loads((tmp_path / "out" / "result.json").read_text())
    assert document["num_examples"] == 12
    assert len(document["images"]["skipped"]) == 2
    assert "broken.jpg" in result.stdout


def test_an_output_that_is_a_file_is_refused_before_the_work(folder, tmp_path):
    (tmp_path / "out").write_text("here already")
    message = refused("compare", *MICRO, "--data", folder, "--out", tmp_path / "out")
    assert "cannot write" in message
    assert (tmp_path / "out").read_text() == "here already"


@pytest.mark.slow
def test_fingerprints_of_different_images_are_refused(folder, tmp_path):
    for index, seed in enumerate((0, 1)):
        run("fingerprint", MICRO[0], "--data", folder, "--num", 6, "--seed", seed, "-o", tmp_path / str(index))
    assert "are of different images" in refused("compare", tmp_path / "0", tmp_path / "1", "--out", tmp_path / "out")


def test_a_result_that_is_none_is_refused(tmp_path):
    (tmp_path / "result.json").write_text("{}")
    assert "expected a result of format" in refused("draw", tmp_path / "result.json")
    assert "expected a result.json" in refused("draw", tmp_path / "nowhere.json")


@pytest.mark.slow
def test_interrupting_leaves_nothing_half_written(folder, tmp_path):
    """Ctrl-C in the middle of the images: no traceback, exit 130, no result and no folder."""
    out = tmp_path / "out"
    # a shell's background jobs ignore SIGINT, and so would their children
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); import ckaprobe_cli as c; c.main()"
    )
    command = [sys.executable, "-c", program, "compare", *MICRO]
    command += ["--data", str(folder), "--out", str(out), "--permutations", "2000000"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 90
    while not out.exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert not out.exists()
