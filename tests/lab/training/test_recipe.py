"""Recipes: read strictly, every complaint names its key; schedules and groups against hand values."""

import json
from itertools import pairwise

import pytest
import torch
from torch import nn

from cka_probe import registry
from cka_probe.errors import RecipeError, UnknownNameError
from cka_probe.lab.tasks import TASKS
from cka_probe.lab.training.optimizer import OPTIMIZERS, SCHEDULES, depths, multiplier, parameter_groups
from cka_probe.lab.training.recipe import bundled, parse_toml, read_recipe
from cka_probe.lab.training.sampling import seed_of, step_batches
from cka_probe.lab.training.start import resized
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import Backbone

PLAIN = """
name = "plain"
architecture = "swinv2_micro"
[data]
rooms = "rooms"
[stages.first]
task = "masked"
data = "nyuv2:{rooms}:train"
steps = 10
batch = 4
lr = 1e-3
[stages.first.options]
cell = 16
[stages.second]
task = "depth"
data = ["nyuv2:{rooms}:train", "nyuv2:other:train"]
steps = 5
batch = 4
lr = 1
"""


@pytest.fixture
def read(tmp_path):
    def read(*overrides, text=PLAIN):
        path = tmp_path / "plain.toml"
        path.write_text(text)
        return read_recipe(path, overrides)

    return read


def test_a_recipe_is_what_stands_in_its_file(read):
    recipe = read()
    first, second = recipe.stages
    assert (recipe.name, recipe.architecture, recipe.size, recipe.seed) == ("plain", "swinv2_micro", 64, 0)
    assert (first.name, first.data, first.steps, first.size) == ("first", ("nyuv2:rooms:train",), 10, 64)
    assert second.data == ("nyuv2:rooms:train", "nyuv2:other:train")
    assert second.lr == 1.0
    assert isinstance(second.lr, float)
    assert first.build_task() == registry.get(TASKS, "masked", "task")((64, 64), cell=16)


def test_overrides(read):
    recipe = read(
        "seed=3", "data.rooms='my rooms'", "first.steps=7", "first.schedule=polynomial", "first.options.ratio=0.75",
        "second.start=random", "second.size=96", "options.window=4", "second.cache=true",
    )  # fmt: skip
    first, second = recipe.stages
    assert (recipe.seed, recipe.options) == (3, {"window": 4})
    assert first.data == ("nyuv2:my rooms:train",)
    assert (first.steps, first.schedule, first.options) == (7, "polynomial", {"cell": 16, "ratio": 0.75})
    assert (second.start, second.size, second.cache) == ("random", 96, True)


def test_the_copy_a_run_keeps_reads_back_as_the_same_recipe(read, tmp_path):
    recipe = read("first.warmup=2")
    (tmp_path / "recipe.json").write_text(json.dumps(recipe.as_dict()))
    again = read_recipe(tmp_path / "recipe.json")
    assert again.as_dict() == recipe.as_dict()
    assert again.stages[0] == recipe.stages[0]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("first.stps=3", r"stages\.first: unknown key 'stps'; did you mean 'steps'\?"),
        ("first.steps=many", r"stages\.first\.steps: expected a whole number, found 'many'"),
        ("first.steps=1.5", r"stages\.first\.steps: expected a whole number, found 1\.5"),
        ("first.steps=true", r"stages\.first\.steps: expected a whole number, found True"),
        ("first.steps=0", r"stages\.first\.steps: expected at least 1, found 0"),
        ("first.lr=-1", r"stages\.first\.lr: expected more than 0, found -1\.0"),
        (
            "first.warmup=11",
            r"stages\.first\.warmup: .* 10 steps of the stage, found 11; set it too: --set first\.warmup=1",
        ),
        ("first.layer_decay=2", r"stages\.first\.layer_decay: expected a number in \(0, 1\], found 2\.0"),
        ("first.cache=1", r"stages\.first\.cache: expected true or false, found 1"),
        ("first.data=[]", r"stages\.first\.data: expected at least one dataset"),
        ("first.data=[1]", r"stages\.first\.data: expected a string, found 1"),
        ("first.data=nyuv2:{romos}", r"stages\.first: \{romos\} is no key of \[data\]; did you mean 'rooms'\?"),
        ("data.rooms=", r"expected a path for 'rooms', found none; set it by --set data\.rooms=PATH"),
        ("first.options.cel=3", r"stages\.first\.options: unknown key 'cel'; did you mean 'cell'\?"),
        ("first.options.size=3", r"stages\.first\.options: unknown key 'size'"),
        ("first.options.cell=24", r"expected `cell` to divide the size \(64, 64\), found 24"),
        ("first.options.scale=[0.5]", r"first\.options\.scale: expected 2 values, found \[0\.5\]"),
        ("frist.steps=3", r"--set: no stage or key 'frist'; did you mean 'first'\?"),
        ("steps", r"--set: expected KEY=VALUE such as masked\.steps=10 or seed=1, found 'steps'"),
        ("first.steps.more=1", r"--set: expected a table at 'steps' of 'first\.steps\.more', found 10"),
        ("sed=1", r"--set: no stage or key 'sed'; did you mean 'seed' or 'second'\?"),
        ("seed=one", r"recipe\.seed: expected a whole number, found 'one'"),
    ],
)
def test_complaints_name_the_key(read, override, message):
    with pytest.raises(RecipeError, match=message):
        read(override)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("first.task=maskd", "no task 'maskd'; did you mean 'masked'"),
        ("first.schedule=cosin", "no schedule 'cosin'; did you mean 'cosine'"),
        ("first.precision=half", "no precision 'half'; There are: no, tf32, bf16, fp16"),
        ("architecture=swinv2_mikro", "no architecture 'swinv2_mikro'; did you mean 'swinv2_micro'"),
    ],
)
def test_unknown_names_say_what_there_is(read, override, message):
    with pytest.raises(UnknownNameError, match=message):
        read(override)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            PLAIN.replace("steps = 5\n", ""),
            r"second: expected the key 'steps', found nothing",
        ),
        (PLAIN.replace('architecture = "swinv2_micro"\n', ""), r"recipe: expected the key 'architecture'"),
        (PLAIN + "colour = 1\n", r"stages\.second: unknown key 'colour'"),
        ("name = [", r"plain\.toml: expected TOML, found"),
        ("name = 'a'\narchitecture = 'resnet18'", r"expected a table \[stages\.NAME\] for each stage, found none"),
        (PLAIN.replace("stages.second", "stages.seed"), r"stages\.seed: expected another name"),
        (PLAIN.replace("stages.second", "stages.'a b'"), r"stages: expected names of letters and digits, found 'a b'"),
    ],
)
def test_broken_files_say_where(read, text, message):
    with pytest.raises(RecipeError, match=message):
        read(text=text)


def test_a_recipe_that_is_not_there():
    with pytest.raises(RecipeError, match=r"expected a recipe at nowhere\.toml, found No such file"):
        read_recipe("nowhere.toml")
    with pytest.raises(UnknownNameError, match="no recipe 'demmo'; did you mean 'demo'"):
        read_recipe("demmo")


LIKE = (
    PLAIN
    + """
[stages.third]
like = "second"
start = "first"
lr = 0.5
options = { max_depth = 5.0 }
[stages.fourth]
like = "third"
options = { min_depth = 1.0 }
[stages.fifth]
like = "third"
task = "masked"
"""
)


def test_a_stage_like_another_says_only_what_differs(read):
    _, second, third, fourth, fifth = read(text=LIKE).stages
    assert (third.task, third.data, third.steps) == (second.task, second.data, second.steps)
    assert (third.lr, third.start, second.start) == (0.5, "first", "")
    assert (fourth.options, fourth.lr) == ({"max_depth": 5.0, "min_depth": 1.0}, 0.5)
    assert (fifth.options, fifth.lr) == ({}, 0.5), "options are a task's own"
    assert [stage.steps for stage in read("second.steps=7", text=LIKE).stages] == [10, 7, 7, 7, 7]


@pytest.mark.parametrize("like", ["fourth", "nobody"])
def test_a_stage_is_like_an_earlier_one_or_none(read, like):
    message = rf"stages.third.like: expected an earlier stage \(first, second\), found '{like}'"
    with pytest.raises(RecipeError, match=message):
        read(text=LIKE.replace('like = "second"', f'like = "{like}"'))


@pytest.mark.parametrize("name", bundled())
def test_bundled_recipes_read_and_say_what_they_cost(name):
    text = bundled()[name]
    keys = parse_toml(text, name)["data"]
    recipe = read_recipe(name, [f"data.{key}=somewhere" for key in keys])
    assert recipe.name == name
    header = text[: text.index("name = ")]
    assert header.startswith("#")
    for word in ("ckaprobe train --recipe", "Cost:", "Gives:"):
        assert word in header


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_stay_in_the_unit_interval(name):
    values = [multiplier(step, 50, 5, name) for step in range(50)]
    assert all(0 <= value <= 1 for value in values)
    assert values[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    if name in ("cosine", "polynomial"):
        assert all(a >= b for a, b in pairwise(values[4:]))


def test_schedules_by_hand():
    assert multiplier(50, 100, 0, "cosine") == pytest.approx(0.5)
    assert multiplier(50, 100, 0, "polynomial") == pytest.approx(0.5**0.9)
    assert [multiplier(s, 8, 0, "up_down") for s in (0, 2, 4, 6)] == pytest.approx([0, 0.5**0.9, 1, 1 - 0.5**0.9])
    assert [multiplier(s, 8, 0, "late_drops") for s in (0, 6, 7)] == [1, 1, 0.1]
    assert [multiplier(s, 4, 0, "linear") for s in range(4)] == [1, 0.75, 0.5, 0.25]
    rates = [multiplier(s, 8, 0, "step", (0.25, 0.75), 0.1) for s in range(8)]
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01])


def test_sgd_decays_every_parameter_and_has_momentum():
    backbone, head = Backbone(ARCHITECTURES["resnet18"].build(size=64)), nn.Linear(3, 3)
    groups = parameter_groups(backbone, head, 1e-4, 1.0, decay_all=True)
    assert {group["weight_decay"] for group in groups} == {1e-4}
    assert sum(len(group["params"]) for group in groups) == len([*backbone.parameters(), *head.parameters()])
    assert {group["momentum"] for group in OPTIMIZERS["sgd"](groups).param_groups} == {0.9}


def test_layer_decay_of_the_paper_model():
    with torch.device("meta"):
        model = ARCHITECTURES["swinv2_micro"].build(size=64)
    depth_of, last = depths(model)
    expected = {
        "patch_embed.proj.weight": 0,
        "layers.0.blocks.0.attn.qkv.weight": 1,
        "layers.1.downsample.norm.weight": 3,
        "layers.2.blocks.3.norm1.weight": 10,
        "layers.2.blocks.15.norm1.weight": 22,
        "layers.3.downsample.reduction.weight": 25,
        "layers.3.blocks.1.mlp.fc2.weight": 27,
        "norm.weight": 28,
    }
    assert last == 28
    assert {name: depth_of(name) for name in expected} == expected
    assert set(expected) <= set(model.state_dict())
    assert 0.85 ** (28 - depth_of("layers.1.downsample.norm.weight")) == pytest.approx(0.0172, abs=1e-4)


def test_layer_decay_of_a_vision_transformer():
    with torch.device("meta"):
        model = ARCHITECTURES["vit_micro"].build(size=64)
    depth_of, last = depths(model)
    expected = {"cls_token": 0, "pos_embed": 0, "patch_embed.proj.bias": 0, "norm.weight": 13}
    expected |= {"blocks.0.norm1.weight": 1, "blocks.11.mlp.fc2.bias": 12}
    assert last == 13
    assert {name: depth_of(name) for name in expected} == expected
    assert set(expected) <= set(model.state_dict())


@pytest.mark.parametrize("name", ["swinv2_micro", "resnet18", "vit_micro"])
@pytest.mark.parametrize("layer_decay", [1.0, 0.85])
def test_groups_hold_every_parameter_once_and_norms_do_not_decay(name, layer_decay):
    backbone, head = Backbone(ARCHITECTURES[name].build(size=64)), nn.Linear(3, 3)
    groups = parameter_groups(backbone, head, 0.05, layer_decay)
    ours = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(ours) == sorted(id(parameter) for module in (backbone, head) for parameter in module.parameters())
    decays = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    for key, parameter in backbone.named_parameters():
        still = parameter.ndim == 1 or "cpb_mlp" in key or "logit_scale" in key
        assert decays[id(parameter)] == (0.0 if still else 0.05), key
    scales = {group["scale"] for group in groups}
    assert scales == {1.0} if layer_decay == 1 else min(scales) < 0.5


def test_processes_share_a_step_between_them():
    one = [list(step) for step in step_batches(range(8, 20), 4, 0, 1)]
    two = [step_batches(range(8, 20), 4, rank, 2) for rank in (0, 1)]
    assert one == [[8, 9, 10, 11], [12, 13, 14, 15], [16, 17, 18, 19]]
    assert [sorted([*a, *b]) for a, b in zip(*two, strict=True)] == one
    assert seed_of(0, "a", 1) != seed_of(0, "a", 2)
    assert 0 <= seed_of("x") < 2**63


def test_a_backbone_of_another_size_keeps_its_weights_and_remembers_its_windows():
    from cka_probe.models.backbone import Origin

    options = {"size": 64, "depths": (1, 1, 2, 1)}
    architecture = ARCHITECTURES["swinv2_micro"]
    small = Backbone(architecture.build(**options), size=64, origin=Origin("x", "swinv2_micro", options))
    large = resized(small, 128)
    assert large.preprocessing.size == (128, 128)
    assert tuple(large.origin.options["pretrained_windows"]) == (4, 4, 4, 2)
    assert all(torch.equal(a, b) for a, b in zip(small.parameters(), large.parameters(), strict=True))
    assert large(torch.rand(1, 3, 128, 128)).isfinite().all()
    assert tuple(resized(large, 64).origin.options["pretrained_windows"]) == (4, 4, 4, 2)
    assert resized(small, 64) is small
