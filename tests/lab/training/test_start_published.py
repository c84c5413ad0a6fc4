"""Published weights as starts of a stage: each kind of file trains a step, and what cannot be is said."""

import pytest
import torch
from helpers import foreign
from helpers.foreign import prefixed

from cka_probe.errors import CheckpointError, RecipeError
from cka_probe.lab.training import read_recipe, run_recipe
from cka_probe.lab.training.start import begin
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import IMAGENET_MEAN
from cka_probe.models.checkpoint import load_trained, read_checkpoint

RECIPE = """
name = "starts"
architecture = "{architecture}"
size = {size}
[stages.probe]
task = "{task}"
start = "{start}"
data = "scenes:streets?num=2&size=96x64&frames=1"
steps = 1
batch = 2
lr = 1e-3
freeze = "{freeze}"
options = {{ {options} }}
"""

PRESENT = {"task": "scene_class", "options": "classes = 19", "freeze": ""}


def recipe_of(folder, architecture, start, size="64", **how):
    path = folder / "starts.toml"
    path.write_text(RECIPE.format(architecture=architecture, start=start, size=size, **(PRESENT | how)))
    return read_recipe(path)


def moco(path, state):
    torch.save({"state_dict": prefixed("module.encoder_q.", state) | {"module.queue": torch.zeros(128, 8)}}, path)


def dino(path, state):
    torch.save({"teacher": prefixed("module.backbone.", state), "student": prefixed("module.backbone.", state)}, path)


def deeplab(path, state):
    head = {"0.convs.0.0.weight": torch.zeros(256, 2048, 1, 1), "4.weight": torch.zeros(21, 256, 1, 1)}
    torch.save(prefixed("backbone.", state) | prefixed("classifier.", head), path)


def monodepth2(path, state):
    torch.save(prefixed("encoder.", state) | {"height": 192, "width": 640, "use_stereo": False}, path)


KINDS = {
    "moco": (moco, IMAGENET_MEAN, 32),
    "dino": (dino, IMAGENET_MEAN, 32),
    "dino, flat": (lambda path, state: torch.save(state, path), IMAGENET_MEAN, 32),
    "segmentation": (deeplab, IMAGENET_MEAN, 8),
    "monodepth2": (monodepth2, (0.45,) * 3, 32),
}
"""How a file is written, what its encoder's images are centred by, and at which stride its last map is."""


@pytest.fixture(scope="module")
def resnet50():
    return foreign.randomised(ARCHITECTURES["resnet50"].build(size=64)).state_dict()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_resnet50_of_every_kind_trains_a_step(tmp_path, resnet50, kind):
    write, mean, stride = KINDS[kind]
    write(tmp_path / "theirs.pth", resnet50)
    recipe = recipe_of(tmp_path, "resnet50", tmp_path / "theirs.pth", size="[64, 96]")
    start = begin(recipe, recipe.stages[0], tmp_path).backbone
    assert all(torch.equal(value, resnet50[name]) for name, value in start.model.state_dict().items())
    (path,) = run_recipe(recipe, tmp_path / "run", device="cpu")
    backbone, _, header = read_checkpoint(path)
    assert (backbone.preprocessing.mean, backbone.preprocessing.size) == (mean, (64, 96))
    assert backbone.model.feature_info[-1]["reduction"] == stride
    assert header.parent
    weight = "layer4.2.conv3.weight"
    assert 0 < (backbone.model.state_dict()[weight] - resnet50[weight]).abs().max() < 0.01
    assert backbone(torch.rand(1, 3, 64, 96)).isfinite().all()


@pytest.mark.slow
def test_a_dilated_start_is_strided_where_a_stage_says_so(tmp_path):
    state = foreign.resnet().state_dict()
    deeplab(tmp_path / "theirs.pth", state)
    recipe = recipe_of(tmp_path, "resnet18", tmp_path / "theirs.pth")
    for stride, expected in ((0, 8), (32, 32), (16, 16)):
        stage = read_recipe(tmp_path / "starts.toml", [f"probe.output_stride={stride}"]).stages[0]
        backbone = begin(recipe, stage, tmp_path).backbone.eval()
        assert backbone.features(torch.rand(1, 3, 64, 64)).shape[-1] == 64 // expected
        assert all(torch.equal(value, state[name]) for name, value in backbone.model.state_dict().items())


@pytest.fixture
def depth_anything(tmp_path):
    model = foreign.randomised(ARCHITECTURES["dinov2_micro"].build(size=84))
    state = prefixed("pretrained.", model.state_dict() | {"mask_token": torch.zeros(1, 64)})
    torch.save(state | {"depth_head.projects.0.weight": torch.zeros(4, 64, 1, 1)}, tmp_path / "vits.pth")
    return tmp_path / "vits.pth", model.state_dict()


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("segmentation", "classes = 19, network = 'linear'"),
        ("scene_class", "classes = 19"),
        ("masked", "cell = 14"),
        ("contrastive", "queue = 4, dim = 8"),
    ],
)
def test_depth_anything_is_probed_frozen_or_trained_on(tmp_path, depth_anything, task, options):
    file, state = depth_anything
    freeze = "encoder" if task == "segmentation" else ""
    how = {"task": task, "options": options, "freeze": freeze}
    (path,) = run_recipe(
        recipe_of(tmp_path, "dinov2_micro", file, size="[56, 84]", **how), tmp_path / "run", device="cpu"
    )
    trained = load_trained(path)
    same = [torch.equal(value, state[name]) for name, value in trained.backbone.model.state_dict().items()]
    assert all(same) == bool(freeze)
    assert trained.backbone.preprocessing.size == (56, 84)
    if task == "segmentation":
        assert trained.task.predict(trained.backbone, trained.head, torch.rand(1, 3, 56, 84)).shape == (1, 19, 56, 84)


def test_dpt_is_fine_tuned_on_the_encoder_of_mae(tmp_path):
    state = foreign.randomised(ARCHITECTURES["vit_micro"].build(size=64)).state_dict()
    torch.save({"model": state}, tmp_path / "mae.pth")
    how = {"task": "segmentation", "options": "classes = 19, network = 'dpt', area = [0.5, 1.0]"}
    recipe = recipe_of(tmp_path, "vit_micro", tmp_path / "mae.pth", size="[64, 96]", **how)
    (path,) = run_recipe(recipe, tmp_path / "run", device="cpu")
    trained = load_trained(path)
    moved = {name: not torch.equal(value, state[name]) for name, value in trained.backbone.model.state_dict().items()}
    assert all(moved.values()), [name for name in moved if not moved[name]]
    assert trained.task.predict(trained.backbone, trained.head, torch.rand(1, 3, 64, 96)).shape == (1, 19, 64, 96)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["size=64"], "expected an input of multiples of 14 pixels for dinov2_micro, found 64x64; .* such as 224"),
        (["size=84", "probe.output_stride=16"], "expected a ResNet to set output_stride of, found dinov2_micro"),
        (["size=84", "probe.task=depth", "probe.options={}"], "depth: expected an encoder of stride 32, found 14"),
        (
            ["size=224", "probe.task=segmentation", "probe.options.network=skip"],
            r"maps at strides out of 2, 4, 8, 16, 32, each once and the last 32, found \[14\]",
        ),
    ],
)
def test_what_a_vision_transformer_cannot_be_is_said(tmp_path, overrides, expected):
    recipe_of(tmp_path, "dinov2_micro", "random")
    recipe = read_recipe(tmp_path / "starts.toml", overrides)
    task = recipe.stages[0].build_task()
    with pytest.raises(RecipeError, match=expected):
        task.head(begin(recipe, recipe.stages[0], tmp_path).backbone)


def test_a_folder_of_transformers_is_a_start(tmp_path):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 64, "num_attention_heads": 1, "num_hidden_layers": 12}
    theirs = transformers.Dinov2Model(transformers.Dinov2Config(image_size=518, patch_size=14, **sizes))
    theirs.save_pretrained(tmp_path / "dinov2")
    recipe = recipe_of(tmp_path, "dinov2_micro", tmp_path / "dinov2", size="84")
    start = begin(recipe, recipe.stages[0], tmp_path)
    assert torch.equal(start.backbone.model.cls_token, theirs.embeddings.cls_token)
    assert len(start.parent) == 64
    (tmp_path / "empty").mkdir()
    recipe = recipe_of(tmp_path, "dinov2_micro", tmp_path / "empty", size="84")
    with pytest.raises(
        RecipeError, match=r"the folder with encoder\.pth, of transformers that with model\.safetensors"
    ):
        begin(recipe, recipe.stages[0], tmp_path)


@pytest.mark.slow
def test_another_architecture_than_the_files_is_refused(tmp_path, depth_anything):
    recipe = recipe_of(tmp_path, "resnet18", depth_anything[0])
    with pytest.raises(
        CheckpointError, match=r"expected resnet18, found a DINOv2 of width 64, 12 blocks and 1370 positions"
    ):
        begin(recipe, recipe.stages[0], tmp_path)
