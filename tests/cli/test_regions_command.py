"""`ckaprobe regions`: the files that it writes, and what it refuses."""

import pandas as pd
import pytest
from helpers.blocks import COLOURS, Blocks
from typer.testing import CliRunner

from cka_probe.images.classes import Classes
from cka_probe.images.datasets import DATASETS
from ckaprobe_cli import app

MODELS = ("random:resnet18", "random:resnet18:1")
FEW = ("--layers", "layer1.0,layer4.1", "--size", 32, "--permutations", 5, "--quiet")


@pytest.fixture(autouse=True)
def blocks(monkeypatch):
    monkeypatch.setitem(DATASETS, "blocks", lambda path, split="all": Blocks(num=12))


def run(*words):
    return CliRunner().invoke(app, ["regions", *map(str, words)])


def test_every_region_has_a_folder_and_all_have_a_table_and_a_figure(tmp_path):
    done = run(*MODELS, "--data", "blocks:x", "--region", "border, interior,2", "--out", tmp_path, *FEW)
    assert done.exit_code == 0, done.output
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")} >= {
        "border", "interior", "water", "regions.csv", "regions.png", "regions.pdf",
    }  # fmt: skip
    assert {path.name for path in (tmp_path / "water").iterdir()} >= {"result.json", "x.fingerprint", "heatmap.pdf"}
    table = pd.read_csv(tmp_path / "regions.csv")
    assert table.groupby("region").size().to_dict() == {"border": 4, "interior": 4, "water": 4}
    assert table["difference_value"].isna().sum() == 4
    assert "water minus border" in done.stdout


def test_a_class_of_a_hostile_name_stays_in_the_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(Blocks, "classes", Classes(("..", "a/../../b", "water", "sand"), COLOURS))
    out = tmp_path / "deep" / "out"
    done = run(*MODELS, "--data", "blocks:x", "--region", "..,a/../../b", "--out", out, *FEW)
    assert done.exit_code == 0, done.output
    assert list(tmp_path.iterdir()) == [tmp_path / "deep"]
    assert list(out.parent.iterdir()) == [out]
    assert {path.parent.name for path in out.glob("*/result.json")} == {"_", "a_.._.._b"}


def test_images_without_labels_are_refused_before_anything_is_written(tmp_path):
    (tmp_path / "images").mkdir()
    done = run(*MODELS, "--data", tmp_path / "images", "--out", tmp_path / "out", *FEW)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert not (tmp_path / "out").exists()
