"""docs/walkthrough.md: every command of it, run on files with the names and keys of their authors at a small width."""

import re
import shlex

import pytest
import torch
from helpers import foreign
from helpers.depth_models import save_dpt
from helpers.paths import ROOT
from typer.testing import CliRunner

from cka_probe.comparison.results import SimilarityMatrix
from cka_probe.lab.evaluation.label_scores import LabelScores
from cka_probe.lab.evaluation.scores import Scores
from cka_probe.lab.scenes import Settings, make_scenes
from cka_probe.lab.tasks.disparity import NAMES
from cka_probe.lab.tasks.monodepth import Monodepth
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import Backbone
from ckaprobe_cli import app

TEXT = (ROOT / "docs" / "walkthrough.md").read_text("utf-8")
COMMANDS = [shlex.split(line)[1:] for block in re.findall(r"```\n(.*?)```", TEXT, re.S) for line in block.splitlines()]
STUDIES = [shlex.split(line)[1:-1] for line in TEXT.splitlines() if line.startswith("    ckaprobe reproduce")]
"""Commands that end with "…", in place of the paths of data."""

SCENES = {
    "videos": Settings("rooms", num=10, frames=3, size=(72, 96), seed=1, test=0.2, layout="sc_depth"),
    "nyuv2": Settings("rooms", num=12, frames=1, size=(72, 96), seed=2, test=0.5, layout="nyuv2"),
    "ibims1": Settings("rooms", num=2, frames=1, size=(90, 120), seed=3, test=0.0, layout="ibims1"),
    "kitti": Settings("streets", num=46, frames=1, size=(64, 64), seed=4, test=0.0, layout="kitti_semantics"),
}
SHORT = ("steps=2", "batch=2", "warmup=0", "save_every=9")
SMALL = {
    "mesa_published": [
        "architecture=swinv2_micro", "size=64",
        *(f"{stage}.{key}" for stage in ("gp", "mp_depth") for key in ("size=64", "accumulate=1", *SHORT)),
        *(f"{stage}.sync_batch_norm=false" for stage in ("gp", "sp")),
    ],
    "segmentation": ["size=[64,64]", "segment.num=4", "segment.held_out=2", *(f"segment.{key}" for key in SHORT)],
}  # fmt: skip
"""What makes a training of the documentation small."""


def write_published_files(folder):
    """Write the files that the documentation names, in the layouts of their authors."""
    foreign.simmim(folder / "swinv2_large_1k_500k.pth", foreign.swin())
    foreign.mim_depth(folder / "nyudepthv2_swin_large.ckpt", foreign.swin(seed=1))
    foreign.monodepth2(folder / "mono_640x192", foreign.resnet())
    decoder = Monodepth((64, 64)).head(Backbone(foreign.resnet(), size=64)).state_dict()
    torch.save({theirs: decoder[ours] for theirs, ours in NAMES.items()}, folder / "mono_640x192/depth.pth")
    save_dpt(folder / "depth-anything-large-hf", "depth_anything")
    state = foreign.randomised(ARCHITECTURES["dinov2_micro"].build(size=518)).state_dict()
    state |= {"mask_token": torch.zeros(1, 64)}
    torch.save(state, folder / "dinov2_vitl14_pretrain.pth")
    head = {"depth_head.projects.0.weight": torch.zeros(48, 64, 1, 1)}
    torch.save(foreign.prefixed("pretrained.", state) | head, folder / "depth_anything_vitl14.pth")


def small(words):
    """Return a command with what makes it small."""
    if words[0] != "train":
        return [*words, "--overwrite"] if words[0] == "data" else words
    extra = [word for key in SMALL[words[2]] for word in ("--set", key)]
    if "architecture=dinov2_large" in words:
        extra += ["--set", "architecture=dinov2_micro", "--set", "size=[56,56]"]
    return [*words, *extra, "--device", "cpu"]


@pytest.mark.slow
def test_every_command_of_the_walk_through_runs(tmp_path, monkeypatch):
    write_published_files(tmp_path)
    for name, scenes in SCENES.items():
        make_scenes(tmp_path / name, scenes)
    monkeypatch.chdir(tmp_path)
    assert len(COMMANDS) == 18
    for words in COMMANDS:
        done = CliRunner().invoke(app, small(words))
        assert done.exit_code == 0, (words, done.output)
    for name in ("figure2/left", "figure2/right", "figure5/mp", "figure5/gp", "figure5/sp"):
        matrix = SimilarityMatrix.load(tmp_path / name / "result.json")
        assert matrix.values.shape == (9, 9)
    left = SimilarityMatrix.load(tmp_path / "figure2/left/result.json").values
    assert left.diagonal() == pytest.approx([1.0] * 9, abs=1e-6)
    assert list((tmp_path / "figure5").glob("*.pdf"))
    for name in ("nyuv2", "ibims1"):
        assert "abs_rel" in Scores.load(tmp_path / f"scores/{name}/scores.json").table
    for name in ("monodepth2", "dinov2", "depth_anything"):
        scores = LabelScores.load(tmp_path / f"scores/{name}/scores.json")
        assert scores.model["architecture"] == ("resnet18" if name == "monodepth2" else "dinov2_micro")


def test_the_studies_of_the_walk_through_lack_nothing_but_data(tmp_path, monkeypatch):
    foreign.monodepth2(tmp_path / "mono_640x192", foreign.resnet())
    (tmp_path / "dinov2_vitl14_pretrain.pth").touch()  # read when there are data
    monkeypatch.chdir(tmp_path)
    assert [words[3] for words in STUDIES] == ["paper", "paper_vit"]
    for words in STUDIES:
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 2, done.output
        assert done.stderr.startswith("ckaprobe: expected a path for ")
        assert "add --set data." in done.stderr
