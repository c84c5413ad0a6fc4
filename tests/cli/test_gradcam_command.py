"""`ckaprobe gradcam` from checkpoints to numbers and figure: labels, depth, classes, nothing; sizes, files, errors."""

import numpy as np
import pytest
import timm
import torch
from helpers.blocks import Blocks, checkpoint
from helpers.foreign import randomised
from PIL import Image
from typer.testing import CliRunner

from cka_probe.attribution.attributions import UNLABELLED, Attributions
from cka_probe.images.datasets import DATASETS
from ckaprobe_cli import app


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def small(folder):
    return checkpoint(folder / "small.safetensors", "segmentation", classes=4, network="linear")


@pytest.fixture(scope="module")
def large(folder):
    return checkpoint(folder / "large.safetensors", "segmentation", 96, seed=1, classes=4, network="linear")


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (70, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"p{number}.png")
    return folder


@pytest.fixture
def blocks(monkeypatch):
    monkeypatch.setitem(DATASETS, "blocks", lambda path, split="all": Blocks((60, 90), block=15))
    return "blocks:x"


def run(*words):
    return CliRunner().invoke(app, ["gradcam", *map(str, words), "--device", "cpu"])


@pytest.mark.slow
def test_the_command_writes_numbers_maps_and_the_figure(small, large, blocks, tmp_path):
    done = run(small, large, "--data", blocks, "--out", tmp_path, "--num", 4, "--draw", 2, "--keep", "--signed",
               "--classes", "grass")  # fmt: skip
    assert done.exit_code == 0, done.output
    names = ("gradcam.json", "gradcam.csv", "maps/small.npz", "maps/large.npz", "gradcam.png", "gradcam.pdf")
    assert done.stdout.splitlines()[-6:] == [str(tmp_path / name) for name in names]
    assert all((tmp_path / name).stat().st_size for name in names)
    found = Attributions.load(tmp_path / "gradcam.json")
    assert found.summary() in done.stdout
    assert list(found.models) == ["small", "large"]
    assert [found.models[name]["size"] for name in found.models] == [[64, 64], [96, 96]]
    assert found.models["small"]["layer_size"] == [32, 32]
    assert (found.of("large")["counted"] > 1.8 * found.of("small")["counted"]).all()  # labels are at each one's size
    assert len(found.images) == 4
    again = run(small, large, "--data", blocks, "--out", tmp_path / "b", "--num", 4, "--draw", 0)
    assert again.exit_code == 0
    assert (tmp_path / "b" / "gradcam.json").read_bytes() == (tmp_path / "gradcam.json").read_bytes()
    assert not (tmp_path / "b" / "gradcam.png").exists()


@pytest.mark.slow
def test_a_folder_of_images_has_maps_and_no_alignment(small, images, tmp_path):
    done = run(small, "--data", images, "--out", tmp_path, "--num", 0)
    assert done.exit_code == 0, done.output
    assert f"No alignment with label boundaries: {UNLABELLED}." in done.stdout
    found = Attributions.load(tmp_path / "gradcam.json")
    assert found.table["ap"].isna().all()
    assert len(found.images) == 3
    assert (tmp_path / "gradcam.png").exists()


@pytest.mark.slow
def test_an_encoder_without_head_has_the_strength_of_its_activation(images, tmp_path):
    models = ("random:resnet18", "random:resnet18:1")
    done = run(*models, "--data", images, "--out", tmp_path, "--target", "none", "--names", "a,b", "--layer", "layer1")
    assert done.exit_code == 0, done.output
    found = Attributions.load(tmp_path / "gradcam.json")
    assert found.table["score"].isna().all()
    assert not found.table["zero"].any()
    assert found.models["b"]["layer"] == "layer1"
    assert found.models["a"]["hash"] != found.models["b"]["hash"]


@pytest.mark.slow
def test_depth_is_drawn_beside_its_maps(folder, images, tmp_path):
    path = checkpoint(folder / "lidar.safetensors", "lidar")
    done = run(path, "--data", images, "--out", tmp_path, "--target", "depth")
    assert done.exit_code == 0, done.output
    assert (Attributions.load(tmp_path / "gradcam.json").table["score"] > 0).all()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--layer", "layer9"], "no layer 'layer9'"),
        (["--target", "segmentatoin"], "no target 'segmentatoin'; did you mean 'segmentation'"),
        (["--target", "segmentation:gras"], "no class 'gras'; did you mean 'grass'"),
        (["--target", "depth"], "expected depth"),
        (["--tolerance", "-1"], "expected a tolerance of 0 pixels or more, found -1"),
        (["--names", "a,b"], "expected 1 different names, one for each checkpoint, found a, b"),
        (["--names", "chance"], "expected other names of checkpoints than chance"),
        (["--classes", "gras"], "no class 'gras'; did you mean 'grass'"),
        (["--target", "none", "--log-softmax"], "expected no class, region or log-softmax"),
        (["--target", "none", "--signed"], "expected a target with a gradient for maps before their ReLU"),
        (["--style", "papr"], "no style 'papr'; did you mean 'paper'"),
        (["--venue", "neurps"], "no venue 'neurps'; did you mean 'neurips'"),
    ],
)
def test_what_makes_no_sense_is_one_line(small, blocks, tmp_path, more, said):
    refused = run(small, "--data", blocks, "--out", tmp_path, "--num", 1, *more)
    assert refused.exit_code == 2, refused.output
    assert said in refused.stderr
    assert refused.stderr.rstrip().rpartition("ckaprobe: ")[2].count("\n") == 0


def test_the_same_checkpoint_twice_is_one_line(small, blocks, tmp_path):
    refused = run(small, small, "--data", blocks, "--out", tmp_path)
    assert refused.exit_code == 2
    assert "give them with --names and commas, and each checkpoint once" in refused.stderr


def test_encoder_and_size_are_those_of_compare(images, tmp_path):
    states = [randomised(timm.create_model("test_resnet", num_classes=5), seed).state_dict() for seed in (0, 1)]
    torch.save({"teacher": states[0], "student": states[1]}, tmp_path / "both.pth")
    torch.save({"student": states[1]}, tmp_path / "student.pth")
    options = ("--data", images, "--target", "class:2", "--size", "64", "--draw", 0, "--num", 2)
    results = {}
    for name, words in {
        "alone": (tmp_path / "student.pth",),
        "option": (tmp_path / "both.pth", "--encoder", "student"),
        "reference": (f"{tmp_path / 'both.pth'}#student",),
        "default": (tmp_path / "both.pth",),
    }.items():
        done = run(*words, *options, "--out", tmp_path / name)
        assert done.exit_code == 0, done.output
        results[name] = Attributions.load(tmp_path / name / "gradcam.json")
        assert next(iter(results[name].models.values()))["size"] == [64, 64]
    scores = {name: result.table["score"].tolist() for name, result in results.items()}
    assert scores["option"] == scores["reference"] == scores["alone"] != scores["default"]
    refused = run(tmp_path / "student.pth", *options, "--base", tmp_path / "both.pth", "--out", tmp_path / "base")
    assert (refused.exit_code, "found a model; omit --base" in refused.stderr) == (2, True)
