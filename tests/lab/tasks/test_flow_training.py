"""Flow and inpainting through a recipe, on streets that are drawn as they are asked for."""

import csv

import pytest
import torch

from cka_probe.lab.tasks.flow import Flow
from cka_probe.lab.tasks.inpainting import Inpainting
from cka_probe.lab.training import read_recipe, run_recipe
from cka_probe.models.checkpoint import load_trained

RECIPE = """
name = "pairs and holes"
architecture = "resnet18"
size = [64, 96]
[stages.flow]
task = "flow"
data = "scenes:streets?num=2&frames=2&sources=1&size=96x64&seed=1"
validation = "scenes:streets?num=1&frames=2&sources=1&size=96x64&seed=2"
steps = 2
batch = 2
lr = 3e-4
log_every = 1
cache = true
[stages.flow.options]
truth = true
[stages.inpainting]
task = "inpainting"
start = "random"
data = "scenes:streets?num=2&size=96x64&seed=1"
validation = "scenes:streets?num=1&size=96x64&seed=2"
steps = 2
batch = 2
lr = 3e-4
log_every = 1
cache = true
"""

COLUMNS = {
    "flow": ["loss", "colour", "structure", "smoothness"],
    "inpainting": ["loss", "finest"],
}
SCORES = {
    "flow": ["photometric", "epe", "photometric_zero", "epe_zero"],
    "inpainting": ["reconstruction", "mean_colour", "visible"],
}


def rows(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def run(folder, *overrides):
    (folder / "recipe.toml").write_text(RECIPE)
    return run_recipe(read_recipe(folder / "recipe.toml", overrides), folder / "run", device="cpu")


@pytest.mark.slow
def test_a_recipe_trains_evaluates_and_keeps_both(tmp_path):
    paths = run(tmp_path)
    assert [path.name for path in paths] == ["flow.safetensors", "inpainting.safetensors"]
    for stage in COLUMNS:
        log = rows(tmp_path / "run" / stage / "log.csv")
        assert len(log) == 2
        assert list(log[0]) == ["step", "lr", *COLUMNS[stage], "gradient"]
        (scores,) = rows(tmp_path / "run" / stage / "validation.csv")
        assert list(scores) == ["step", *SCORES[stage]]
    flow, inpainting = (load_trained(path) for path in paths)
    assert flow.task == Flow((64, 96), truth=True)
    assert inpainting.task == Inpainting((64, 96))
    images = torch.rand(2, 2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = flow.task.predict_pair(flow.backbone, flow.head, *images)
        batch = {"image": images[0], "mask": torch.zeros(2, 1, 64, 96, dtype=torch.bool)}
        said = inpainting.task.reconstruct(inpainting.backbone, inpainting.head, batch)
    assert found.shape == (2, 2, 64, 96)
    assert said.shape == (2, 3, 64, 96)
    assert found.isfinite().all()
    assert 0 < said.min() < said.max() < 1


@pytest.mark.slow
def test_thirty_steps_bring_the_loss_of_inpainting_down(tmp_path):
    more = ["inpainting.steps=30", "inpainting.batch=4", "inpainting.weight_decay=0.0", "flow.steps=1", "size=64"]
    run(tmp_path, *more)
    losses = [float(row["loss"]) for row in rows(tmp_path / "run" / "inpainting" / "log.csv")]
    assert len(losses) == 30
    assert sum(losses[-5:]) < 0.75 * sum(losses[:5])


@pytest.mark.slow
def test_flow_of_one_pair_is_learnt_and_nearer_to_the_truth_than_none(tmp_path):
    pair = '["scenes:streets?num=1&frames=2&sources=1&size=96x64&seed=1"]'
    more = [f"flow.data={pair}", f"flow.validation={pair}", "flow.batch=1", "flow.steps=80", "flow.schedule=constant"]
    run(tmp_path, *more, "inpainting.steps=1", "size=64")
    (scores,) = rows(tmp_path / "run" / "flow" / "validation.csv")
    assert float(scores["photometric"]) < 0.75 * float(scores["photometric_zero"])
    assert float(scores["epe"]) < float(scores["epe_zero"])
