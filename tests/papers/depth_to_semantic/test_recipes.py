"""Cases of Depth-to-Semantic as recipes, and settings."""

from dataclasses import replace

import pytest
import timm
import torch
from helpers import foreign
from helpers.foreign import prefixed
from helpers.semantic_run import CASES, tiny

from cka_probe.errors import CheckpointError, RecipeError, UnknownNameError
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import NORMALISATIONS
from cka_probe.models.load import load
from cka_probe.papers.depth_to_semantic.recipes import (
    Trial,
    labelled_data,
    pretraining_recipe,
    read_settings,
    tuning_recipe,
    write_given,
)
from cka_probe.papers.depth_to_semantic.study import LABELLED, QUIRKS, SCALES, TABLES, Case

PATHS = {name: f"somewhere/{name.removesuffix('_labels')}" for name in labelled_data(LABELLED)}


@pytest.fixture
def scale(tmp_path):
    """The smallest scale."""
    return tiny(tmp_path)


def stage_of(scale, case, number=0, seed=0, settings=()):
    return tuning_recipe(scale, Trial(case, 1e-3, seed, number), "arm.safetensors", PATHS, settings).stages[0]


@pytest.mark.parametrize("name", ["demo", "gpu"])
def test_all_arms_start_alike_and_train_equally_long(name):
    stages = pretraining_recipe(SCALES[name].with_tables(["all"]), 0, (), {}).stages
    starts = {stage.name: stage.start for stage in stages}
    assert starts.pop("video_classification") == "classification"
    assert starts.pop("video_high") == "video_classification"
    assert set(starts.values()) == {"random"}
    assert len({(stage.steps, stage.shape) for stage in stages if stage.name != "video_high"}) == 1
    assert len({stage.batch for stage in stages if stage.name != "classification"}) == 1
    assert all(stage.weight_decay == 0 for stage in stages)


def facts(stage, *keys):
    return tuple(getattr(stage, key) for key in keys)


SGD, STEPS = ("optimizer", "weight_decay"), ("steps", "batch", "lr", "schedule", "milestones", "gamma")


def test_pretraining_at_the_scale_of_the_paper_has_its_settings():
    every = SCALES["paper_resnet50"].with_tables(["all"])
    stages = {stage.name: stage for stage in pretraining_recipe(every, 0, (), {}).stages}
    assert all(facts(stage, "precision", "clip", "warmup") == ("no", 0.0, 0) for stage in stages.values())
    supervised = {"classification", "contrastive"}
    assert all(facts(stages[name], *SGD) == ("sgd", 1e-4) for name in supervised)
    assert all(facts(stage, *SGD) == ("adamw", 0.0) for name, stage in stages.items() if name not in supervised)
    assert facts(stages["flow"], *STEPS) == (248_800, 8, 5e-4, "step", (0.5,), 0.1)
    assert stages["flow_printed"].options["structure"] == 0.15
    assert stages["flow"].build_task().structure == 0.85
    assert facts(stages["video_classification"], *STEPS) == (66_350, 12, 1e-4, "step", (0.75,), 0.1)
    larger = stages["video_high"]
    assert facts(larger, "start", "shape", "steps", "lr") == ("video_classification", (320, 1024), 16_600, 1e-5)
    city, cropped = stages["cityscapes_depth"], stages["cityscapes_cropped"]
    assert facts(city, *STEPS[:4]) == facts(cropped, *STEPS[:4]) == (15_000, 8, 1e-4, "linear")
    assert (city.build_task().network, city.output_stride, city.normalisation) == ("deeplab", 16, "imagenet")
    assert (cropped.shape, cropped.build_task().crop, city.build_task().crop) == ((256, 256), True, False)
    assert "train_extra" in city.data[0]
    rooms = stages["rooms_depth"]
    assert facts(rooms, *STEPS) == (508_780, 8, 1e-4, "step", (0.5,), 0.5)
    assert (rooms.shape, rooms.build_task().jitter_probability) == ((384, 448), 0.5)


def test_fine_tuning_at_the_scale_of_the_paper_has_its_settings():
    scale = SCALES["paper_resnet50"]
    trials = {case: Trial(case, scale.rates_for(case)[0], 0, 0) for case in scale.cases()}
    assert all(len(scale.rates_for(case)) == 1 for case in trials)
    stages = {case: tuning_recipe(scale, trial, "a", PATHS, ()).stages[0] for case, trial in trials.items()}
    assert {stage.held_out for stage in stages.values()} == {0}
    city = {case: stage for case, stage in stages.items() if case.data == "cityscapes"}
    assert {facts(stage, *SGD, "schedule", "batch", "num", "shape") for stage in city.values()} == {
        ("sgd", 1e-4, "polynomial", 8, 0, (512, 512))
    }
    assert {(case.setting, stage.steps, stage.options["color_jitter"]) for case, stage in city.items()} == {
        ("", 60_000, 0.5),
        ("controlled", 30_000, 0.0),
    }
    assert {case.arm: stage.lr for case, stage in city.items()} == {
        "none": 0.01,
        "classification": 0.01,
        "cityscapes_depth": 0.1,
        "cityscapes_cropped": 0.1,
    }
    rooms = Case("rooms_depth", "rooms")
    adam = ("steps", "batch", "lr", "schedule", "num", "shape", "optimizer")
    assert facts(stages[rooms], *adam) == (20_000, 16, 1e-5, "cosine", 0, (384, 448), "adamw")
    assert stage_of(SCALES["paper"], rooms).batch == 32
    assert facts(stages[Case("video")], *adam) == (20_000, 16, 1e-5, "cosine", 16, (192, 640), "adamw")
    assert stage_of(SCALES["paper"], Case("video_classification", size="high")).shape == (320, 1024)
    large = stages[Case("video", "kitti_all", "deeplab")]
    assert facts(large, "steps", "num", "shape") == (50_000, 0, (320, 1024))


def test_several_rates_need_images_by_which_one_is_chosen():
    scale = read_settings(["rates=[1e-5, 5e-8]"]).applied(SCALES["paper"])
    with pytest.raises(RecipeError, match=r"expected held-out images.*found none; add --set segment.held_out=40"):
        stage_of(scale, Case("video"))
    held_out = ("segment.held_out=40", "segment.validation=[]")
    assert stage_of(scale, Case("video"), settings=held_out).held_out == 40


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
    fewer = read_settings(["num=8", "tested=12"]).applied(scale)
    assert (fewer.num, fewer.labelled("kitti", "test", {"kitti_labels": "x"})) == (
        8,
        scale.labelled("kitti", "test", {"kitti_labels": "x"}).replace(str(scale.tested), "12"),
    )
    assert stage_of(scale, Case("none"), settings=parsed.segment).steps == 7
    assert [stage.steps for stage in pretraining_recipe(scale, 0, parsed.pre, {}).stages] == [2, 3]


@pytest.fixture
def weights(tmp_path):
    """A file of torchvision's names."""
    path = tmp_path / "resnet18.pth"
    torch.save(timm.create_model("resnet18", num_classes=3).state_dict(), path)
    return path


def test_an_arm_may_be_a_file_and_others_start_from_it(scale, weights, tmp_path):
    scale = replace(scale, without=("video", "stereo", "video_stereo"))
    given = read_settings([f"weights.classification={weights}"]).applied(scale)
    stages = {stage.name: stage.start for stage in pretraining_recipe(given, 0, (), {}).stages}
    assert stages == {"lidar": "random", "video_classification": str(weights)}
    assert given.arms == scale.arms
    path = tmp_path / "classification.safetensors"
    write_given(pretraining_recipe(given, 0, (), {}), "classification", str(weights), path)
    backbone = load(path)
    assert torch.equal(backbone.model.state_dict()["conv1.weight"], torch.load(weights)["conv1.weight"])
    assert backbone.preprocessing.mean == NORMALISATIONS["imagenet"][0]


def test_arms_of_files_alone_are_run_where_the_file_is_given(weights):
    scale = SCALES["paper_resnet50"]
    assert "dino" not in scale.arms
    given = read_settings([f"weights.dino={weights}"]).applied(scale)
    assert set(given.arms) == {*scale.arms, "dino"}
    with pytest.raises(CheckpointError, match=r"expected resnet50, found a ResNet of .* resnet18 fits"):
        write_given(pretraining_recipe(given, 0, (), {}), "dino", str(weights), weights.with_name("dino.safetensors"))
    with pytest.raises(UnknownNameError, match="no arm with weights 'dini'; did you mean 'dino'"):
        read_settings(["weights.dini=a"])


def vit_scale(folder):
    """Return the scale of ViT-L with toy files of its arms, in their authors' names, and the encoders in them."""
    vit, dinov2 = (
        foreign.randomised(ARCHITECTURES[name].build(size=size)).state_dict()
        for name, size in (("vit_micro", 224), ("dinov2_micro", 518))
    )
    mask = {"mask_token": torch.zeros(1, 64)}
    contents = {
        "imagenet_vit": vit | {"head.weight": torch.zeros(5, 64), "head.bias": torch.zeros(5)},
        "dpt_depth": prefixed("pretrained.model.", vit) | {"scratch.layer1_rn.weight": torch.zeros(2)},
        "mae": {"model": vit},
        "dinov2": dinov2 | mask,
        "depth_anything": prefixed("pretrained.", dinov2 | mask) | {"depth_head.projects.0.weight": torch.zeros(2)},
    }
    for arm, content in contents.items():
        torch.save(content, folder / f"{arm}.pth")
    settings = [f"weights.{arm}={folder / arm}.pth" for arm in contents]
    scale = read_settings(settings).applied(SCALES["paper_vit"])
    return scale, {arm: dinov2 if arm in ("dinov2", "depth_anything") else vit for arm in contents}


MICRO = ("architecture=vit_micro",)


def test_vision_transformers_are_those_in_the_files_of_their_authors(tmp_path):
    scale, encoders = vit_scale(tmp_path)
    half, imagenet = NORMALISATIONS["half"][0], NORMALISATIONS["imagenet"][0]
    assert set(scale.arms) == set(encoders)
    for arm, file in scale.weights.items():
        path = tmp_path / f"{arm}.safetensors"
        write_given(pretraining_recipe(scale, 0, MICRO, {}, arm), arm, file, path)
        backbone = load(path)
        patches_of_14 = arm in ("dinov2", "depth_anything")
        assert backbone.origin.architecture == ("dinov2_micro" if patches_of_14 else "vit_micro")
        assert backbone.preprocessing.size == (224, 672)
        assert backbone.preprocessing.mean == (half if arm in ("imagenet_vit", "dpt_depth") else imagenet)
        assert all(torch.equal(value, encoders[arm][name]) for name, value in backbone.model.state_dict().items())


def test_fine_tuning_of_vision_transformers_has_its_settings(tmp_path):
    scale, _ = vit_scale(tmp_path)
    assert scale.rates_for(Case.of("dpt_depth~dpt")) == (5e-8, 5e-7, 5e-6, 5e-5)
    assert scale.rates_for(Case.of("mae~voc~linear~frozen")) == (1e-3,)
    assert Case.of("dpt_depth~dpt~frozen").base == Case.of("dpt_depth~dpt")
    stages = {case: stage_of(scale, case) for case in scale.cases() if not case.has_objects}
    assert len(stages) == 4 + 18
    sizes = {"kitti": (192, 640), "ade20k": (896, 896), "voc": (448, 448), "cityscapes": (896, 896)}
    for case, stage in stages.items():
        assert (stage.shape, stage.batch) == (sizes[case.data], 16)
        assert (stage.num, stage.held_out) == ((16, 40) if case.data == "kitti" else (0, 0))
        assert stage.normalisation == ("imagenet" if case.arm == "mae" else "")
        assert stage.freeze == ("encoder" if case.mode == "frozen" else "")
        if case.network == "dpt":
            assert (stage.layer_decay, stage.warmup) == ((1.0, 0) if case.data == "kitti" else (0.95, 1500))
            assert set(stage.undecayed) == {"pos_embed", "cls_token"}
    assert {stages[case].steps for case in stages if case.network == "linear"} == {40_000}
    assert stages[Case.of("mae~ade20k~dpt")].options["area"] == [0.25, 1.0]
    recipe = tuning_recipe(scale, Trial(Case.of("dinov2~voc~dpt"), 1e-5, 0, 0), "a.pth", PATHS, ())
    assert recipe.architecture == "dinov2_large"


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


def test_objects_are_found_by_another_task_of_the_same_stage():
    scale = read_settings([f"weights.{arm}=FILE" for arm in ("dinov2", "depth_anything")]).applied(SCALES["paper_vit"])
    cases = [case for case in scale.cases() if case.has_objects]
    assert cases == list(TABLES["table7"])
    assert all(case.base == case for case in cases)
    stages = {case.data: stage_of(scale, case) for case in cases}
    assert {stage.task for stage in stages.values()} == {"detection"}
    assert {data: stage.options for data, stage in stages.items()} == {
        "ade20k_objects": {"classes": 100},
        "cityscapes_objects": {"classes": 8},
        "coco_objects": {"classes": 80},
    }
    assert stages["coco_objects"].batch == 64
    small = stage_of(replace(scale, rehearsal=True), cases[0])
    assert small.shape == (224, 224)  # a multiple of patches of 14 and of strides of 32
