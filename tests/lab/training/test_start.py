"""What a stage begins with: heads that go on or do not, a normalisation that is kept or changed."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from cka_probe.errors import RecipeError, UnknownNameError
from cka_probe.lab.tasks import TASKS
from cka_probe.lab.training.recipe import Recipe, Stage
from cka_probe.lab.training.start import begin, fill, random_backbone, resized
from cka_probe.models.backbone import IMAGENET_MEAN, IMAGENET_STD, NORMALISATIONS
from cka_probe.models.checkpoint import Checkpoint, read_checkpoint, read_header, save_checkpoint

OPTIONS = {"depths": [1, 1, 2, 1]}


@dataclass(frozen=True)
class Going:
    """A task that goes on with the heads of another."""

    continues = ("depth",)
    needs = frozenset({"image"})

    size: tuple[int, int]


@pytest.fixture(autouse=True)
def going(monkeypatch):
    monkeypatch.setitem(TASKS, "going", Going)


def stage_of(name, task="depth", **keys):
    return Stage(
        **{"name": name, "task": task, "data": ("memory",), "steps": 1, "batch": 2, "lr": 1e-3, "size": 64} | keys
    )


def recipe_of(*stages):
    return Recipe("test", "swinv2_micro", stages, size=64, options=OPTIONS)


def begun(folder, stages, of):
    """Return what the named stage begins with."""
    recipe = recipe_of(*stages)
    return begin(recipe, next(stage for stage in stages if stage.name == of), folder)


def finished(folder, stage, **keys):
    """Write the checkpoint of a stage, as a run would; return its header."""
    start = begin(recipe_of(stage), stage, folder)
    task = stage.build_task()
    header = Checkpoint(
        "swinv2_micro", start.backbone.origin.options, start.backbone.preprocessing.mean,
        start.backbone.preprocessing.std, stage=stage.name, task=stage.task, **keys,
    )  # fmt: skip
    save_checkpoint(folder / f"{stage.name}.safetensors", start.backbone, task.head(start.backbone), header)
    return read_header(folder / f"{stage.name}.safetensors")


@pytest.mark.parametrize("name", NORMALISATIONS)
def test_a_normalisation_is_written_down_and_the_next_stage_inherits_it(tmp_path, name):
    first, second = stage_of("first", normalisation=name), stage_of("second")
    header = finished(tmp_path, first)
    assert (header.mean, header.std) == NORMALISATIONS[name]
    preprocessing = begun(tmp_path, (first, second), "second").backbone.preprocessing
    assert (preprocessing.mean, preprocessing.std) == NORMALISATIONS[name]
    assert preprocessing.size == (64, 64)


def test_a_stage_may_have_another_normalisation_and_another_size(tmp_path):
    first = stage_of("first", normalisation="sc_depth")
    finished(tmp_path, first)
    second = stage_of("second", normalisation="none", size=128)
    start = begun(tmp_path, (first, second), "second")
    assert (start.backbone.preprocessing.mean, start.backbone.preprocessing.std) == ((0.0,) * 3, (1.0,) * 3)
    assert start.backbone.preprocessing.size == (128, 128)
    third = stage_of("third", size=128)
    larger = begun(tmp_path, (first, third), "third").backbone.preprocessing
    assert (larger.mean, larger.std) == NORMALISATIONS["sc_depth"], "another size leaves the normalisation as it was"


def test_without_a_word_the_normalisation_is_imagenets(tmp_path):
    backbone = begun(tmp_path, (stage_of("first"),), "first").backbone
    assert (backbone.preprocessing.mean, backbone.preprocessing.std) == (IMAGENET_MEAN, IMAGENET_STD)


def test_a_normalisation_changes_what_the_encoder_is_fed_and_no_weight(tmp_path):
    fed, weights = {}, {}
    images = torch.rand(1, 3, 64, 64)
    for name in NORMALISATIONS:
        backbone = begun(tmp_path, (stage_of("first", normalisation=name),), "first").backbone
        seen = []
        backbone.model.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0]))
        backbone(images)
        fed[name], weights[name] = seen[0], backbone.state_dict()
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in NORMALISATIONS[name])
        torch.testing.assert_close(fed[name], (images - mean) / std)
    assert torch.equal(fed["none"], images)
    assert all(torch.equal(value, weights["none"][key]) for key, value in weights["imagenet"].items())


def test_an_unknown_normalisation_says_what_there_is():
    with pytest.raises(UnknownNameError, match="no normalisation 'imagnet'; did you mean 'imagenet'"):
        stage_of("first", normalisation="imagnet")


@pytest.mark.parametrize(
    ("task", "keys", "goes_on"),
    [
        ("depth", {}, True),
        ("going", {}, True),
        ("masked", {}, False),
        ("depth", {"reset_head": True}, False),
        ("going", {"reset_head": True}, False),
    ],
)
def test_a_head_goes_on_in_its_own_task_and_in_those_that_say_so(tmp_path, task, keys, goes_on):
    first = stage_of("first")
    finished(tmp_path, first)
    start = begun(tmp_path, (first, stage_of("second", task, **keys)), "second")
    _, head, _ = read_checkpoint(tmp_path / "first.safetensors")
    assert set(start.head_state) == (set(head) if goes_on else set())
    assert start.parent


def test_the_encoder_goes_on_also_where_the_head_does_not(tmp_path):
    first = stage_of("first")
    finished(tmp_path, first)
    start = begun(tmp_path, (first, stage_of("second", reset_head=True)), "second")
    before = read_checkpoint(tmp_path / "first.safetensors")[0].state_dict()
    assert all(torch.equal(value, before[name]) for name, value in start.backbone.state_dict().items())


def test_branches_left_out_are_not_handed_on(tmp_path):
    first = stage_of("first", drop_path=0.5)
    plain = begun(tmp_path, (stage_of("first"),), "first").backbone
    dropping = begun(tmp_path, (first,), "first").backbone
    assert "DropPath" in repr(dropping)
    assert all(torch.equal(value, dropping.state_dict()[name]) for name, value in plain.state_dict().items())
    header = finished(tmp_path, first)
    assert not any("drop" in option for option in header.options)
    start = begun(tmp_path, (first, stage_of("second", size=128)), "second")
    assert "DropPath" not in repr(start.backbone)


def test_a_head_is_filled_with_what_it_shares():
    torch.manual_seed(0)
    head = nn.ModuleDict({"depth": nn.Linear(2, 3), "pose": nn.Linear(2, 2)})
    state = {name: torch.randn_like(value) for name, value in head.state_dict().items()}
    fill(head, state | {"rectify.weight": torch.ones(5)})
    assert all(torch.equal(value, state[name]) for name, value in head.state_dict().items())
    before = {name: value.clone() for name, value in head.state_dict().items()}
    fill(head, {})
    assert all(torch.equal(value, before[name]) for name, value in head.state_dict().items())


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda state: state.pop("pose.weight") is None, r'Missing key\(s\) in state_dict: "pose.weight"'),
        (lambda state: state.update({"pose.weight": torch.ones(4, 4)}), "size mismatch for pose.weight"),
    ],
)
def test_a_head_that_does_not_fit_says_what_to_do(change, found):
    head = nn.ModuleDict({"depth": nn.Linear(2, 3), "pose": nn.Linear(2, 2)})
    state = head.state_dict()
    change(state)
    with pytest.raises(RecipeError, match=rf"expected the head .* to fit, found: {found}.*; set reset_head=true"):
        fill(head, state)


def test_a_backbone_of_its_own_size_is_returned_as_it_is():
    backbone = random_backbone(recipe_of(stage_of("first")), 64)
    assert resized(backbone, 64) is backbone
    backbone.preprocessing = replace(backbone.preprocessing, mean=(0.1, 0.2, 0.3))
    assert resized(backbone, 128).preprocessing.mean == (0.1, 0.2, 0.3)
