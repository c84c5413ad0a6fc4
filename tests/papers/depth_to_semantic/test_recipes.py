"""Cases of Depth-to-Semantic as recipes, and settings."""

import pytest
from helpers.semantic_run import CASES, tiny

from cka_probe.errors import RecipeError
from cka_probe.papers.depth_to_semantic.recipes import (
    Trial,
    pretraining_recipe,
    read_settings,
    tuning_recipe,
)
from cka_probe.papers.depth_to_semantic.study import LABELLED, QUIRKS, SCALES, TABLES, Case

PATHS = {f"{data}_labels": f"somewhere/{data}" for data in LABELLED}


@pytest.fixture
def scale(tmp_path):
    """The smallest scale."""
    return tiny(tmp_path)


def stage_of(scale, case, number=0, seed=0, settings=()):
    return tuning_recipe(scale, Trial(case, 1e-3, seed, number), "arm.safetensors", PATHS, settings).stages[0]


@pytest.mark.parametrize("name", SCALES)
def test_all_arms_start_alike_and_train_equally_long(name):
    stages = pretraining_recipe(SCALES[name], 0, (), {}).stages
    starts = {stage.name: stage.start for stage in stages}
    assert starts.pop("video_classification") == "classification"
    assert set(starts.values()) == {"random"}
    if name != "paper":
        assert len({(stage.steps, stage.shape) for stage in stages}) == 1
        assert len({stage.batch for stage in stages if stage.name != "classification"}) == 1
    assert all(stage.weight_decay == 0 for stage in stages)


def test_every_case_of_every_scale_is_a_recipe():
    for scale in SCALES.values():
        for case in scale.cases("released"):
            assert stage_of(scale, case).options["network"] == case.network


def test_a_trial_has_one_random_seed_for_every_arm_and_case(scale):
    recipes = [tuning_recipe(scale, Trial(case, 1e-3, 2, 3), "a", PATHS, ()) for case in CASES]
    assert {recipe.seed for recipe in recipes} == {2003}
    others = {
        tuning_recipe(scale, Trial(CASES[0], 1e-3, seed, number), "a", PATHS, ()).seed
        for seed in range(3)
        for number in range(3)
    }
    assert len(others) == 9


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (Case("video"), {"freeze": "", "reset_head": False, "calibrate": 0, "num": 3, "output_stride": 0}),
        (Case("video", mode="encoder"), {"reset_head": True, "freeze": ""}),
        (Case("video", mode="frozen"), {"freeze": "encoder", "calibrate": 0}),
        (Case("none", mode="frozen"), {"freeze": "encoder", "calibrate": 1}),
        (Case("none"), {"calibrate": 0}),
        (Case("video", network="deeplab"), {"output_stride": 16}),
        (Case("video", num=4), {"num": 4}),
        (Case("video", size="high"), {"size": (128, 128)}),
        (Case("video", size="low"), {"size": (64, 64)}),
        (Case("video", quirks=("accumulated_gradients",)), {"zero_grad": False}),
        (Case("video", mode="frozen", quirks=("unfrozen_encoder",)), {"freeze": "statistics"}),
        (Case("none", mode="frozen", quirks=("unfrozen_encoder",)), {"freeze": "statistics", "calibrate": 0}),
        (Case("classification", quirks=("normalised_twice",)), {"normalisation": "imagenet_twice"}),
        (Case("video", quirks=("normalised_twice",)), {"normalisation": ""}),
        (Case("video", quirks=("rate_per_epoch",)), {"rate_per": "epoch"}),
        (Case("video", quirks=("first_images",)), {"choose": "first"}),
    ],
    ids=lambda value: value.name if isinstance(value, Case) else "",
)
def test_a_case_sets_its_keys_and_no_others(scale, case, expected):
    stage = stage_of(scale, case)
    assert {key: getattr(stage, key) for key in expected} == expected
    plain = stage_of(scale, Case("video"))
    own = {"num", "size", "freeze", "calibrate", "reset_head", "output_stride", "options", "normalisation"}
    same = {key for key in vars(stage) if getattr(stage, key) == getattr(plain, key)}
    assert vars(stage).keys() - same <= own | {"zero_grad", "rate_per", "choose"}


def test_options_follow_from_the_data_and_the_quirks(scale):
    assert stage_of(scale, Case("video")).options == {
        "classes": 19,
        "network": "skip",
        "subset": [0, 1, 2, 8, 9, 10, 13],
    }
    rooms = stage_of(scale, Case("none", data="rooms", network="linear"))
    assert rooms.options == {"classes": 13, "network": "linear", "subset": []}
    assert rooms.data == ("nyuv2:somewhere/rooms?split=train&classes=13",)
    released = stage_of(scale, Case("video", quirks=tuple(QUIRKS)))
    assert (released.options["flip"], released.options["bicubic_labels"]) == (False, True)


def test_every_quirk_alone_changes_the_recipe(scale):
    for case in TABLES["quirks"]:
        clean = Case(case.arm, case.data, case.network, case.mode)
        assert stage_of(scale, case) != stage_of(scale, clean), case.name


def test_settings_are_sorted_by_recipe(scale):
    parsed = read_settings(
        ["data.kitti=a=b", "pre.lidar.steps=3", "segment.steps=7", "architecture=resnet50", "rates=[1e-2, 1]"]
    )
    assert parsed.data == {"kitti": "a=b"}
    assert parsed.pre == ["lidar.steps=3", "architecture=resnet50"]
    assert parsed.segment == ["segment.steps=7", "architecture=resnet50"]
    assert parsed.applied(scale).rates == (0.01, 1.0)
    assert read_settings([]).applied(scale) == scale
    assert stage_of(scale, Case("none"), settings=parsed.segment).steps == 7
    assert [stage.steps for stage in pretraining_recipe(scale, 0, parsed.pre, {}).stages] == [2, 3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps=3", "expected data.NAME=PATH, pre.STAGE.KEY=VALUE, segment.KEY=VALUE"),
        ("segment.lr=1", r"the study sets this itself; it is chosen for each arm; use rates=\[…\]"),
        ("segment.options.network=linear", "the study sets this itself; it depends on the case"),
        ("segment.start=a", "the study sets this itself; it depends on the arm"),
        ("pre.seed=3", "the study's seeds are 0, 1, …; use --seeds"),
        ("pre.data.kitti=a", "use data.kitti_labels=PATH"),
        ("rates=[0]", "expected numbers above 0"),
        ("rates=fast", "expected numbers above 0"),
        ("rates", "expected data.NAME=PATH"),
    ],
)
def test_unknown_settings_are_refused(text, message):
    with pytest.raises(RecipeError, match=message):
        read_settings([text])
