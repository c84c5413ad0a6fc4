"""Training for segmentation: what begins as pre-trained, what stays frozen to the bit, what is overfitted."""

import csv

import pytest
import torch

from cka_probe.images.datasets import DATASETS
from cka_probe.lab.scenes.make import make_scenes
from cka_probe.lab.scenes.settings import Settings
from cka_probe.lab.tasks.segmentation import NETWORKS, Segmentation
from cka_probe.lab.training import run_recipe
from cka_probe.lab.training.recipe import bundled, read_recipe, recipe_of
from cka_probe.lab.training.start import begin, fill, random_backbone, seeded
from cka_probe.models.checkpoint import load_trained, read_checkpoint, read_header

SIZE = [64, 64]
STRIDES = {"skip": 0, "deeplab": 16, "linear": 0}
STREETS = Settings("streets", num=3, frames=1, size=(64, 96), seed=7, test=0.0, layout="kitti_semantics")


class Memory:
    """Eight images with labels of three classes and depth."""

    gives = frozenset({"image", "labels", "depth"})

    def __init__(self, path, split):
        self.split = split

    def __len__(self):
        return 8

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        labels = torch.randint(3, (8, 8), generator=generator).repeat_interleave(8, 0).repeat_interleave(8, 1)
        return {
            "image": (labels / 2 + 0.1 * torch.rand(3, 64, 64, generator=generator)).clamp(0, 1),
            "labels": labels,
            "depth": 1.0 + labels[None].float(),
        }


@pytest.fixture(autouse=True)
def memory(monkeypatch):
    monkeypatch.setitem(DATASETS, "memory", Memory)


def segment(network="skip", **keys):
    stage = {"task": "segmentation", "data": "memory:x:all", "steps": 2, "batch": 2, "lr": 1e-3, "log_every": 1,
             "weight_decay": 0.0, "output_stride": STRIDES[network]}  # fmt: skip
    return stage | {"options": {"classes": 3, "network": network}} | keys


def depth(task="lidar", **keys):
    return {"task": task, "data": "memory:x:all", "steps": 1, "batch": 2, "lr": 1e-3, "log_every": 1} | keys


def recipe(seed=0, **stages):
    return recipe_of({"name": "t", "architecture": "resnet18", "size": SIZE, "seed": seed, "stages": stages})


def states(path):
    """Return the encoder's state and the head's."""
    backbone, head, _ = read_checkpoint(path)
    return backbone.model.state_dict(), head


def scores(folder):
    """Return the rows of a run's evaluations."""
    return list(csv.DictReader((folder / "segment/validation.csv").read_text().splitlines()))


def is_statistic(name):
    return name.endswith(("running_mean", "running_var", "num_batches_tracked"))


def same(before, after):
    return {name for name, value in before.items() if torch.equal(value, after[name])}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Return a checkpoint of depth pre-training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DATASETS, "memory", Memory)
        return run_recipe(recipe(lidar=depth()), tmp_path_factory.mktemp("lidar"), device="cpu")[0]


@pytest.mark.slow
@pytest.mark.parametrize("network", [network for network in NETWORKS if network != "dpt"])  # which needs another
def test_a_frozen_encoder_stays_bit_for_bit_and_its_head_learns(tmp_path, network, measured):
    stage = segment(network, start=str(measured), freeze="encoder")
    (path,) = run_recipe(recipe(segment=stage), tmp_path, device="cpu")
    before, after = states(measured)[0], states(path)[0]
    assert before.keys() == after.keys()
    assert any(name.endswith("num_batches_tracked") for name in before)
    assert same(before, after) == before.keys()
    begun = head_at_step_0(tmp_path, stage)
    assert not same(begun, states(path)[1]) & {name for name in begun if not is_statistic(name)}


@pytest.mark.slow
def test_frozen_statistics_stay_and_parameters_move(tmp_path, measured):
    (path,) = run_recipe(recipe(segment=segment(start=str(measured), freeze="statistics")), tmp_path, device="cpu")
    before, after = states(measured)[0], states(path)[0]
    assert same(before, after) == {name for name in before if is_statistic(name)}


@pytest.mark.slow
def test_without_freezing_all_of_it_moves(tmp_path, measured):
    (path,) = run_recipe(recipe(segment=segment(start=str(measured))), tmp_path, device="cpu")
    assert not same(states(measured)[0], states(path)[0])


def test_calibration_takes_statistics_from_the_images_and_leaves_every_weight(tmp_path):
    stage = segment(freeze="encoder", calibrate=3, start="random")
    (path,) = run_recipe(recipe(segment=stage), tmp_path, device="cpu")
    before, after = random_backbone(recipe(segment=stage), (64, 64)).model.state_dict(), states(path)[0]
    assert same(before, after) == {name for name in before if not is_statistic(name)}
    assert all(after[name] == 3 for name in after if name.endswith("num_batches_tracked"))


# what begins as pre-trained


def head_at_step_0(folder, stage):
    """Return the weights of the head that a run of this stage begins with."""
    whole = recipe(segment=stage)
    (one,) = whole.stages
    start, task = begin(whole, one, folder), one.build_task()
    head = seeded(lambda: task.head(start.backbone), whole.seed, one.name, "head")
    fill(head, start.head_state, start.prefixes)
    return head.state_dict()


def decoder(state):
    return {name for name in state if name.startswith("decoder.")}


@pytest.fixture(scope="module")
def moving(tmp_path_factory):
    """Return a checkpoint of depth from stereo, whose head has more than a decoder."""

    class Pairs(Memory):
        gives = Memory.gives | {"sources", "source_T_target", "K"}

        def __getitem__(self, index):
            pose = torch.eye(4)[None].clone()
            pose[0, 0, 3] = -0.54
            camera = torch.tensor([[60.0, 0, 31.5], [0, 60, 31.5], [0, 0, 1]])
            sample = super().__getitem__(index)
            return sample | {"sources": sample["image"][None].roll(2, -1), "source_T_target": pose, "K": camera}

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DATASETS, "memory", Pairs)
        stage = depth("monodepth", options={"sources": "stereo"})
        return run_recipe(recipe(stereo=stage), tmp_path_factory.mktemp("stereo"), device="cpu")[0]


@pytest.mark.parametrize("arm", ["measured", "moving"])
def test_the_decoder_begins_as_depth_left_it_and_the_last_convolution_anew(tmp_path, arm, request):
    checkpoint = request.getfixturevalue(arm)
    trained, begun = states(checkpoint)[1], head_at_step_0(tmp_path, segment(start=str(checkpoint)))
    assert decoder(trained) == decoder(begun)
    assert same({name: begun[name] for name in decoder(begun)}, trained) == decoder(begun)
    anew = head_at_step_0(tmp_path, segment(start=str(checkpoint), reset_head=True))
    weights = {name for name in decoder(anew) if name.endswith("weight")}
    assert not weights & same({name: anew[name] for name in weights}, trained)
    rest = begun.keys() - decoder(begun)
    assert rest
    assert rest <= same(begun, anew), "what is new is drawn from the seed alone"


def test_encoder_only_begins_with_the_arm_s_encoder(tmp_path, measured):
    whole = recipe(segment=segment(start=str(measured), reset_head=True))
    start = begin(whole, whole.stages[0], tmp_path)
    assert not start.head_state
    assert same(states(measured)[0], start.backbone.model.state_dict()) == states(measured)[0].keys()


@pytest.mark.parametrize("network", ["deeplab", "linear"])
def test_other_networks_take_nothing_over_from_the_decoder_of_depth(tmp_path, network, measured):
    whole = recipe(segment=segment(network, start=str(measured)))
    start = begin(whole, whole.stages[0], tmp_path)
    assert not start.head_state
    assert head_at_step_0(tmp_path, segment(network, start=str(measured))).keys() == same(
        head_at_step_0(tmp_path, segment(network, start=str(measured))),
        head_at_step_0(tmp_path, segment(network, start="random")),
    )


@pytest.mark.slow
def test_a_segmentation_goes_on_with_its_whole_head(tmp_path, measured):
    (first,) = run_recipe(recipe(segment=segment(start=str(measured))), tmp_path / "first", device="cpu")
    trained, begun = states(first)[1], head_at_step_0(tmp_path, segment(start=str(first)))
    assert same(begun, trained) == trained.keys()


@pytest.mark.slow
@pytest.mark.parametrize("network", ["skip", "deeplab"])
def test_a_trained_network_is_written_and_read_again(tmp_path, network):
    stage = segment(network, options={"classes": 3, "network": network, "subset": [0, 2]}, held_out=2)
    (path,) = run_recipe(recipe(segment=stage), tmp_path, device="cpu")
    trained = load_trained(path)
    assert trained.task == Segmentation((64, 64), 3, network, (0, 2))
    with torch.no_grad():
        logits = trained.task.predict(trained.backbone, trained.head, torch.rand(1, 3, 64, 64))
    assert logits.shape == (1, 3, 64, 64)
    (row,) = scores(tmp_path)
    assert {"miou", "miou_subset", "accuracy", "cross_entropy"} <= row.keys()
    assert float(row["accuracy"]) == pytest.approx(float(row["accuracy_per_image"]), abs=1e-4)  # as many labels each
    assert read_header(path).task_options["subset"] == [0, 2]


@pytest.mark.slow
def test_every_quirk_of_the_released_code_is_a_word_in_a_stage(tmp_path):
    released = segment(
        zero_grad=False, freeze="statistics", normalisation="imagenet_twice", rate_per="epoch", choose="first", num=2,
        options={"classes": 19, "flip": False, "bicubic_labels": True},
    )  # fmt: skip
    (path,) = run_recipe(recipe(segment=released), tmp_path, device="cpu")
    assert read_header(path).std == pytest.approx([0.225 * std for std in (0.229, 0.224, 0.225)])


# recipes


@pytest.mark.parametrize("name", [name for name in bundled() if name.startswith("segmentation")])
def test_the_bundled_recipes_are_one_stage_that_a_study_fills_in(name, tmp_path):
    (stage,) = read_recipe(
        name, ["data.train=kitti_semantics:x:train", "segment.num=4", "segment.lr=3e-4", "segment.freeze=encoder"]
    ).stages
    assert (stage.name, stage.task, stage.num, stage.lr, stage.freeze) == (
        "segment",
        "segmentation",
        4,
        3e-4,
        "encoder",
    )
    assert (stage.data, stage.weight_decay, stage.schedule) == (("kitti_semantics:x:train",), 0.0, "cosine")
    assert stage.zero_grad
    assert stage.rate_per == "step"
    assert stage.build_task() == Segmentation(stage.shape, 19, subset=(0, 1, 2, 8, 9, 10, 13))


BY_HEART = ("segment.held_out=0", "segment.steps=320", "segment.lr=2e-3", "segment.warmup=10", "segment.clip=1",
            "segment.options.flip=false")  # fmt: skip
"""As the header of the recipe says it."""


@pytest.mark.slow
def test_three_images_are_learnt_by_heart(tmp_path):
    """Convergence: of 3 generated streets, ResNet-18 learns to name over 90 % of the labelled pixels."""
    spec = f"kitti_semantics:{make_scenes(tmp_path / 'streets', STREETS)}"
    fewer = ("segment.num=3", "segment.batch=3", "segment.steps=72", "segment.validate_every=18")
    whole = read_recipe("segmentation_demo", [f"data.train={spec}", f"segment.validation={spec}", *BY_HEART, *fewer])
    run_recipe(whole, tmp_path / "run", device="cpu")
    rows = scores(tmp_path / "run")
    assert float(rows[-1]["accuracy"]) > 0.9
    assert float(rows[-1]["cross_entropy"]) < float(rows[0]["cross_entropy"]) / 2


def test_the_recipe_says_how_to_learn_by_heart():
    text = bundled()["segmentation_demo"]
    assert all(f"--set {setting}" in text for setting in BY_HEART)
