"""What a stage may choose besides a task: which images, how wide, what is frozen, when the rate is set."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cka_probe.errors import DataError, OutputError, RecipeError, UnknownNameError
from cka_probe.images.datasets import DATASETS
from cka_probe.lab.tasks.depth import Depth
from cka_probe.lab.training import run_recipe
from cka_probe.lab.training.recipe import read_recipe, recipe_of
from cka_probe.lab.training.sampling import Samples
from cka_probe.lab.training.start import random_backbone, resized
from cka_probe.models.checkpoint import load_trained, read_checkpoint, read_header


class Memory:
    gives = frozenset({"image", "depth", "K", "category"})

    def __init__(self, path, split):
        self.split = split

    def __len__(self):
        return 12

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        depth = 1 + 4 * torch.rand(1, 64, 96, generator=generator)
        return {
            "image": torch.rand(3, 64, 96, generator=generator),
            "depth": depth,
            "K": torch.eye(3),
            "category": torch.tensor(0),
        }


@pytest.fixture(autouse=True)
def memory(monkeypatch):
    monkeypatch.setitem(DATASETS, "memory", Memory)


def table_of(architecture="resnet18", seed=0, **keys):
    stage = {"task": "depth", "data": "memory:x:all", "steps": 4, "batch": 2, "lr": 1e-3, "log_every": 1} | keys
    return {"name": "t", "architecture": architecture, "size": [64, 96], "seed": seed, "stages": {"depth": stage}}


def samples():
    return Samples(["memory:x:all"], frozenset({"image"}))


@given(st.integers(1, 6), st.integers(0, 4), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_fewer_images_are_a_part_of_more_and_none_is_held_out_from_itself(num, held_out, seed):
    DATASETS["memory"] = Memory
    fewer, out = samples().split(num, held_out, seed)
    more, same = samples().split(num + 1, held_out, seed)
    assert fewer.positions == more.positions[:num]
    assert out.positions == same.positions
    assert (len(fewer), len(out)) == (num, held_out)
    assert not set(fewer.positions) & set(out.positions)


def test_the_split_follows_from_the_seed():
    choices = [samples().split(4, 2, seed)[0].positions for seed in range(8)]
    assert len({tuple(places) for places in choices}) > 1
    assert choices[0] == samples().split(4, 2, 0)[0].positions
    first, last = samples().split(4, 2, None)
    assert [place[1] for place in (*first.positions, *last.positions)] == [0, 1, 2, 3, 10, 11]
    everything, nothing = samples().split(0, 0, 5)
    assert everything.positions == samples().positions
    assert len(nothing) == 0


def test_too_few_images_are_one_clear_line():
    with pytest.raises(DataError, match="10 to train on and 4 to validate on, found 12; set num lower"):
        samples().split(10, 4, 0)
    with pytest.raises(RecipeError, match="not both `validation` and `held_out`"):
        recipe_of(table_of(validation="memory:x:all", held_out=2))


def test_an_unknown_way_to_freeze_is_told_those_there_are():
    with pytest.raises(UnknownNameError, match=r"did you mean 'encoder'\? There are: , encoder, statistics"):
        recipe_of(table_of(freeze="encodr"))


def test_milestones_are_those_of_a_step_schedule(tmp_path):
    for keys in ({"schedule": "step"}, {"milestones": [0.5]}):
        with pytest.raises(RecipeError, match="expected milestones for the schedule 'step', and for no other"):
            recipe_of(table_of(**keys))
    for milestones in ([0.5, 0.5], [0.0], [1.0], [0.7, 0.2]):
        with pytest.raises(RecipeError, match="milestones: expected rising shares of the steps"):
            recipe_of(table_of(schedule="step", milestones=milestones))


def test_sgd_steps_at_the_rate_of_its_schedule(tmp_path):
    keys = {"optimizer": "sgd", "schedule": "step", "milestones": [0.5], "gamma": 0.25, "weight_decay": 1e-4}
    run_recipe(recipe_of(table_of(num=2, lr=1e-2, **keys)), tmp_path, device="cpu")
    rates = [float(line.split(",")[1]) for line in (tmp_path / "depth" / "log.csv").read_text().splitlines()[1:]]
    assert rates == pytest.approx([1e-2, 1e-2, 2.5e-3, 2.5e-3])


@pytest.mark.slow
def test_a_wide_network_is_trained_written_and_read_again(tmp_path):
    (path,) = run_recipe(recipe_of(table_of(steps=1, num=4, held_out=2)), tmp_path, device="cpu")
    assert read_header(path).size == (64, 96)
    trained = load_trained(path)
    assert trained.backbone.preprocessing.size == trained.task.size == (64, 96)
    assert trained.task.predict(trained.backbone, trained.head, torch.rand(2, 3, 64, 96)).shape == (2, 1, 64, 96)
    lines = (tmp_path / "depth" / "validation.csv").read_text().splitlines()
    assert len(lines) == 2  # on what was held out
    square = recipe_of(table_of() | {"size": 64})
    assert random_backbone(square, 64).preprocessing.size == (64, 64)


def test_a_swin_says_that_it_is_square():
    with pytest.raises(RecipeError, match="square input for swinv2_micro, found 96x64"):
        random_backbone(recipe_of(table_of("swinv2_micro")), (64, 96))
    for size in ([64, 96, 3], "64", [0, 64], -1, [64.0, 96.0]):
        with pytest.raises(RecipeError, match="size"):
            recipe_of(table_of() | {"size": size})


@pytest.mark.parametrize("stride", [8, 16])
def test_a_dilated_encoder_has_the_same_weights_and_finer_maps(stride):
    backbone = random_backbone(recipe_of(table_of()), (64, 96)).eval()
    finer = resized(backbone, (64, 96), stride).eval()
    images = torch.rand(1, 3, 64, 96)
    assert finer.features(images).shape[-2:] == (64 // stride, 96 // stride)
    for name, value in backbone.model.state_dict().items():
        assert torch.equal(value, finer.model.state_dict()[name])
    again = resized(finer, (64, 96), 32)
    assert "output_stride" not in again.origin.options
    assert torch.equal(again.eval().features(images), backbone.features(images))
    assert resized(finer, (64, 96)) is finer  # what is not said stays
    swin = random_backbone(recipe_of(table_of("swinv2_micro") | {"size": 64}), 64)
    with pytest.raises(RecipeError, match="ResNet to set output_stride of"):
        resized(swin, 64, stride)


@pytest.mark.slow
def test_a_dilated_encoder_is_read_again_as_it_was(tmp_path):
    (path,) = run_recipe(
        recipe_of(table_of(steps=1, output_stride=16, task="classification", options={"classes": 2})),
        tmp_path,
        device="cpu",
    )
    assert read_checkpoint(path)[0].features(torch.rand(1, 3, 64, 96)).shape[-2:] == (4, 6)


@pytest.mark.slow
def test_the_rate_is_set_once_an_epoch(tmp_path):
    """Five images, batches of two: epochs begin in steps 0, 2.5 and 5, and a rate holds until the next step."""
    keys = {"steps": 6, "num": 5, "rate_per": "epoch"}
    run_recipe(recipe_of(table_of(**keys)), tmp_path / "epoch", device="cpu")
    run_recipe(recipe_of(table_of(**keys | {"rate_per": "step"})), tmp_path / "step", device="cpu")
    epoch, step = (
        [float(line.split(",")[1]) for line in (tmp_path / way / "depth/log.csv").read_text().splitlines()[1:]]
        for way in ("epoch", "step")
    )
    assert epoch == [step[0]] * 3 + [step[3]] * 2 + [step[5]]


@pytest.mark.slow
def test_gradients_that_are_never_set_to_zero_add_up_and_survive_an_interruption(tmp_path, monkeypatch):
    lasting = table_of(zero_grad=False, save_every=2)
    run_recipe(recipe_of(lasting), tmp_path / "whole", device="cpu")
    run_recipe(recipe_of(table_of(save_every=2)), tmp_path / "usual", device="cpu")

    seen, loss = [], Depth.loss

    def stopped(self, *given):
        seen.append(1)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return loss(self, *given)

    monkeypatch.setattr(Depth, "loss", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_recipe(recipe_of(lasting), tmp_path / "parts", device="cpu")
    run_recipe(recipe_of(lasting), tmp_path / "parts", device="cpu")
    whole, parts, usual = (
        read_checkpoint(tmp_path / way / "depth.safetensors")[0].model.state_dict()
        for way in ("whole", "parts", "usual")
    )
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert any(not torch.equal(whole[name], usual[name]) for name in whole)


@pytest.mark.slow
def test_a_run_grows_by_stages_and_by_nothing_else(tmp_path):
    table = table_of(steps=1)
    (first,) = run_recipe(recipe_of(table), tmp_path, device="cpu")
    written = first.stat().st_mtime_ns

    def grown(**more):
        return recipe_of(table | {"stages": table["stages"] | more})

    other = table["stages"]["depth"] | {"start": "random"}
    paths = run_recipe(grown(other=other), tmp_path, device="cpu")
    assert [path.stem for path in paths] == ["depth", "other"]
    assert first.stat().st_mtime_ns == written
    assert run_recipe(recipe_of(table), tmp_path, device="cpu") == [first]  # a part of what is there
    for wrong in (grown(other=other | {"start": "depth"}), grown(other=other | {"steps": 2})):
        with pytest.raises(OutputError, match=r"run of another recipe: stages.other.st.* delete that run"):
            run_recipe(wrong, tmp_path, device="cpu")
    run_recipe(grown(third=other), tmp_path, device="cpu")
    assert [stage.name for stage in read_recipe(tmp_path / "recipe.json").stages] == ["depth", "third", "other"]


def test_a_stage_may_be_corrected_until_it_has_begun(tmp_path, monkeypatch):
    stages = table_of(steps=1)["stages"]
    second = stages["depth"] | {"start": "random"}

    def run(**keys):
        return run_recipe(
            recipe_of(table_of(steps=1) | {"stages": stages | {"other": second | keys}}), tmp_path, device="cpu"
        )

    loss = Depth.loss
    monkeypatch.setattr(Depth, "loss", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_recipe(recipe_of(table_of(steps=2)), tmp_path, device="cpu")
    monkeypatch.setattr(Depth, "loss", loss)
    run()
    run(log_every=5, save_every=2)  # changes no weights
    (tmp_path / "other.safetensors").unlink()
    (tmp_path / "other/resume.pt").touch()
    with pytest.raises(
        OutputError, match=r"other.lr is 0.001 there and 0.1 here; .* delete .*other to begin that stage"
    ):
        run(lr=0.1)
