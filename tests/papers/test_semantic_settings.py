"""What a study of Depth-to-Semantic runs: scales, cases as recipes, settings, the choice of a learning rate."""

import math
from dataclasses import replace

import pytest
from helpers.semantic_run import CASES, tiny

from cka_probe.errors import DataError, RecipeError, UnknownNameError
from cka_probe.images.classes import CITYSCAPES
from cka_probe.lab.scenes import Settings
from cka_probe.papers.depth_to_semantic.run import model_pairs
from cka_probe.papers.depth_to_semantic.study import (
    ARMS,
    DATA,
    LABELLED,
    QUIRKS,
    SCALES,
    SEVEN,
    TABLES,
    Case,
    SemanticPaths,
)
from cka_probe.papers.depth_to_semantic.training import (
    PRETRAINED_ON,
    Trial,
    best_rate,
    data_of,
    held_out,
    is_compared,
    keeps_weights,
    pretraining_recipe,
    read_settings,
    tuning_recipe,
)

PATHS = {f"{data}_labels": f"somewhere/{data}" for data in DATA}


@pytest.fixture
def scale(tmp_path):
    """The smallest scale."""
    return tiny(tmp_path)


def stage_of(scale, case, number=0, seed=0, settings=()):
    return tuning_recipe(scale, Trial(case, 1e-3, seed, number), "arm.safetensors", PATHS, settings).stages[0]


@pytest.mark.parametrize("name", SCALES)
def test_a_scale_has_a_stage_for_every_arm_and_no_scene_twice(name):
    scale = SCALES[name]
    names = {stage.name for stage in pretraining_recipe(scale, 0, (), {}).stages}
    assert set(scale.arms) - {"none"} <= names
    assert set(data_of(scale, ())) <= set(PRETRAINED_ON)
    seeds = [scene.seed for scene in scale.scenes.values()]
    assert len(seeds) == len(set(seeds))
    if scale.scenes:
        assert set(scale.scenes) == {*PRETRAINED_ON, *PATHS}
        assert isinstance(scale.scenes["kitti"], Settings)


@pytest.mark.parametrize("name", SCALES)
def test_all_arms_begin_alike_and_learn_as_long_as_each_other(name):
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


def test_the_protocol_released_adds_quirks_and_takes_nothing_away():
    scale = SCALES["gpu"]
    paper, released = scale.cases(), scale.cases("released")
    assert released[: len(paper)] == paper
    assert {quirk for case in released[len(paper) :] for quirk in case.quirks} == set(QUIRKS)
    assert not any(case.quirks for case in paper)
    with pytest.raises(UnknownNameError, match="did you mean 'paper'"):
        scale.cases("papre")


def test_what_is_run_can_be_said_table_by_table():
    scale = SCALES["demo"]
    assert scale.with_tables(["figure3"]).cases() == TABLES["figure3"]
    everything = set(scale.with_tables(["all"]).cases())
    assert everything > set(scale.cases())
    assert {case.arm for case in everything} == set(ARMS) - set(scale.without)
    with pytest.raises(UnknownNameError, match="no table 'tabel1'; did you mean 'table1'"):
        scale.with_tables(["table2", "tabel1"])


def test_arms_can_be_left_out(scale):
    assert scale.arms == ("none", "classification", "lidar")
    assert scale.cases() == CASES
    alone = replace(scale, without=(*scale.without, "classification", "lidar"))
    assert alone.arms == ("none",)
    assert pretraining_recipe(alone, 0, (), {}).stages == ()
    assert data_of(scale, ()) == ("objects", "kitti")


def test_every_case_is_named_and_read_back():
    for case in (case for cases in TABLES.values() for case in cases):
        assert Case.of(case.name) == case
    with pytest.raises(UnknownNameError, match="no quirk 'unmirored'; did you mean 'unmirrored'"):
        Case.of("video~unmirored")


def test_the_seven_classes_are_those_of_the_paper():
    assert SEVEN == (0, 1, 2, 8, 9, 10, 13)
    assert [CITYSCAPES.names[number] for number in SEVEN][-1] == "car"
    assert set(LABELLED) == set(DATA)


def test_a_trial_draws_the_same_for_every_arm_and_case(scale):
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
def test_a_case_changes_what_it_says_and_nothing_else(scale, case, expected):
    stage = stage_of(scale, case)
    assert {key: getattr(stage, key) for key in expected} == expected
    plain = stage_of(scale, Case("video"))
    own = {"num", "size", "freeze", "calibrate", "reset_head", "output_stride", "options", "normalisation"}
    same = {key for key in vars(stage) if getattr(stage, key) == getattr(plain, key)}
    assert vars(stage).keys() - same <= own | {"zero_grad", "rate_per", "choose"}


def test_options_follow_from_the_data_and_the_quirks(scale):
    assert stage_of(scale, Case("video")).options == {"classes": 19, "network": "skip", "subset": list(SEVEN)}
    rooms = stage_of(scale, Case("none", data="rooms", network="linear"))
    assert rooms.options == {"classes": 13, "network": "linear", "subset": []}
    assert rooms.data == ("nyuv2:somewhere/rooms?split=train&classes=13",)
    released = stage_of(scale, Case("video", quirks=tuple(QUIRKS)))
    assert (released.options["flip"], released.options["bicubic_labels"]) == (False, True)


def test_every_quirk_alone_changes_the_recipe(scale):
    for case in TABLES["quirks"]:
        clean = Case(case.arm, case.data, case.network, case.mode)
        assert stage_of(scale, case) != stage_of(scale, clean), case.name


def test_settings_are_sorted_by_whom_they_are_for(scale):
    given = read_settings(
        ["data.kitti=a=b", "pre.lidar.steps=3", "segment.steps=7", "architecture=resnet50", "rates=[1e-2, 1]"]
    )
    assert given.data == {"kitti": "a=b"}
    assert given.pre == ["lidar.steps=3", "architecture=resnet50"]
    assert given.segment == ["segment.steps=7", "architecture=resnet50"]
    assert given.applied(scale).rates == (0.01, 1.0)
    assert read_settings([]).applied(scale) == scale
    assert stage_of(scale, Case("none"), settings=given.segment).steps == 7
    assert [stage.steps for stage in pretraining_recipe(scale, 0, given.pre, {}).stages] == [2, 3]


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
def test_settings_that_mean_nothing_are_refused(text, message):
    with pytest.raises(RecipeError, match=message):
        read_settings([text])


def test_the_best_held_out_rate_is_taken():
    nan = math.nan
    tried = {1e-3: {"miou_subset": 0.2, "miou": 0.9}, 1e-2: {"miou_subset": 0.3, "miou": 0.1}, 1.0: {}}
    rate, measure, values = best_rate(tried, "case")
    assert (rate, measure) == (1e-2, "miou_subset")
    assert values[1e-3] == 0.2
    assert math.isnan(values[1.0])
    whole = {1e-3: {"miou_subset": nan, "miou": 0.2}, 1e-2: {"miou_subset": 0.5, "miou": 0.2}}
    assert best_rate(whole, "case")[:2] == (1e-3, "miou")
    with pytest.raises(DataError, match=r"case: expected a held-out mIoU at one of the learning rates 1, found none"):
        best_rate({1.0: {}}, "case")


def test_without_held_out_images_no_rate_can_be_chosen(tmp_path):
    with pytest.raises(DataError, match=r"validation.csv, found nothing; set segment.held_out"):
        held_out(tmp_path)
    (tmp_path / "segment").mkdir()
    (tmp_path / "segment" / "validation.csv").write_text("step,miou,accuracy\n1,0.1,0\n2,0.25,0\n")
    assert held_out(tmp_path) == {"miou": 0.25}


def test_what_is_kept_and_compared():
    base = Case("video")
    assert keeps_weights(Trial(base, 1, 0, 0))
    assert not keeps_weights(Trial(base, 1, 0, 1))
    assert not keeps_weights(Trial(Case("video", mode="frozen"), 1, 0, 0))
    assert is_compared(base)
    assert is_compared(Case("video", mode="frozen"))
    assert not is_compared(Case("video", network="deeplab"))
    assert not is_compared(Case("video", num=4))


def test_every_arm_is_compared_with_itself_tuned_and_with_every_other(tmp_path):
    tuned = [Case("none"), Case("video"), Case("video", mode="frozen"), Case("rooms_depth", data="rooms")]
    found = model_pairs(SemanticPaths(tmp_path), 0, ["none", "video", "rooms_depth"], tuned)
    assert len(found) == len(set(found)) == 4 + 3 + 1
    assert found[0] == ("none", "none~kitti~skip~all~trial0")
    assert ("none~kitti~skip~all~trial0", "video~kitti~skip~all~trial0") in found
    assert set(ARMS) >= {"none", "video", "rooms_depth"}
