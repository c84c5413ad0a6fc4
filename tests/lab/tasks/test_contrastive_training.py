"""Runs of contrastive pre-training: gone on with, looked into, shared by two processes."""

import hashlib
import signal

import pytest
import torch
from helpers.processes import run_in_processes

from cka_probe.lab.training import read_recipe, run_recipe
from cka_probe.lab.training.start import random_backbone
from cka_probe.models.checkpoint import load_trained, read_checkpoint

RECIPE = """
name = "contrastive"
architecture = "{architecture}"
size = 64
{options}
[stages.contrastive]
task = "contrastive"
data = "{data}"
validation = "{validation}"
steps = 4
batch = 4
lr = 1e-3
log_every = 1
options = {{ queue = 8, dim = 16, momentum = 0.5 }}
"""


def write_recipe(path, architecture="resnet18", options="", data="scenes:objects?num=6&size=72x64&frames=1"):
    path.write_text(RECIPE.format(architecture=architecture, options=options, data=data, validation=data))
    return path


def hashes(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_four_steps_are_two_and_two_and_the_checkpoint_holds_the_query_encoder(tmp_path):
    recipe = write_recipe(tmp_path / "contrastive.toml")
    (path,) = run_recipe(recipe, tmp_path / "whole", device="cpu")

    def stop(stage, step, steps, scalars):
        if step == 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe, tmp_path / "parts", device="cpu", progress=stop)
    run_recipe(recipe, tmp_path / "parts", device="cpu")
    assert hashes(tmp_path / "parts") == hashes(tmp_path / "whole")
    header, row = (tmp_path / "whole/contrastive/validation.csv").read_text().splitlines()
    assert header == "step,retrieved,retrieved_chance,cross_entropy,cross_entropy_chance"
    assert float(row.split(",")[2]) == pytest.approx((4 * 0.25 + 2 * 0.5) / 6)
    whole = load_trained(path)
    assert whole.head.oldest == 0  # 16 keys, twice round
    query, key = whole.backbone.state_dict(), whole.head.key_encoder.state_dict()
    assert not torch.equal(query["model.conv1.weight"], key["model.conv1.weight"])


@pytest.mark.slow
def test_after_one_step_the_encoder_has_moved_and_its_copy_has_not(tmp_path):
    recipe = read_recipe(write_recipe(tmp_path / "contrastive.toml"), ["contrastive.steps=1"])
    (path,) = run_recipe(recipe, tmp_path / "run", device="cpu")
    start = random_backbone(recipe, 64).state_dict()
    backbone, head, _ = read_checkpoint(path)
    for name, _ in backbone.named_parameters():
        assert torch.equal(head[f"key_encoder.{name}"], start[name])
    assert not torch.equal(backbone.state_dict()["model.conv1.weight"], start["model.conv1.weight"])


TORCHRUN = """
import sys
from cka_probe.lab.training import run_recipe
run_recipe(sys.argv[1], sys.argv[2], device="cpu")
"""


@pytest.mark.slow
def test_two_processes_share_one_queue_and_do_what_one_does(tmp_path):
    options = "[options]\ndepths = [1, 1, 2, 1]"  # a Swin: no batch norm, which would see half as many
    recipe = write_recipe(tmp_path / "contrastive.toml", "swinv2_micro", options)
    run_recipe(recipe, tmp_path / "one", device="cpu")
    run_in_processes(TORCHRUN, tmp_path, recipe, "two")
    one, two = (read_checkpoint(tmp_path / run / "contrastive.safetensors")[1] for run in ("one", "two"))
    rows = [(tmp_path / run / "contrastive/log.csv").read_text().splitlines()[1].split(",") for run in ("one", "two")]
    assert float(rows[0][2]) == pytest.approx(float(rows[1][2]), rel=1e-4)
    order = [0, 2, 1, 3, 4, 6, 5, 7]  # positions 0 and 2 of a step are the first process's
    torch.testing.assert_close(two["queue"], one["queue"][order], atol=5e-3, rtol=0)
    assert one["oldest"] == two["oldest"] == 0
