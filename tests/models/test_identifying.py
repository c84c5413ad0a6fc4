"""A model is identified by its tensors; where these leave something open, a note or an error says so."""

import json

import pytest
import timm
import torch
import torchvision
from helpers import foreign
from torch import nn

from cka_probe.errors import CheckpointError
from cka_probe.models.catalogue import candidates, shapes_of, signatures
from cka_probe.models.checkpoints import inspect_file, load_file


def state_of(name):
    """A state dict of a model of timm with a classifier, of the right shapes and hardly any size."""
    model = timm.create_model(name, pretrained=False, num_classes=5)
    return {key: torch.zeros((), dtype=value.dtype).expand(value.shape) for key, value in model.state_dict().items()}


@pytest.mark.parametrize("signature", signatures()[::75], ids=lambda signature: signature.definition.name)
def test_the_table_agrees_with_the_installed_libraries(signature):
    try:
        model = signature.definition.skeleton()
    except CheckpointError:
        pytest.skip("the installed version has no such model")
    assert signature.definition in candidates(shapes_of(model))[""]


@pytest.mark.parametrize(
    "name", ["test_vit", "convnext_atto", "regnetx_002", "resnet26", "densenet121", "mixer_s32_224"]
)
def test_a_model_of_timm_is_identified_with_its_classifier(tmp_path, name):
    state = {f"model.{key}": value for key, value in state_of(name).items()}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "last.ckpt")
    backbone = load_file(tmp_path / "last.ckpt")
    assert backbone.origin.architecture == name
    assert backbone.classifier.out_features == 5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit_b_32", "mobilenet_v3_small", "regnet_x_400mf", "efficientnet_b0", "vgg11"])
def test_a_model_of_torchvision_computes_as_its_own_class(tmp_path, name):
    model = foreign.randomised(torchvision.models.get_model(name, weights=None, num_classes=5)).eval()
    torch.save(model.state_dict(), tmp_path / "a.pth")
    backbone = load_file(tmp_path / "a.pth")
    images = torch.rand(2, 3, *backbone.preprocessing.size)
    with torch.no_grad():
        expected = model(backbone.preprocessing.normalise(images))
        torch.testing.assert_close(backbone.logits(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "head", [None, nn.Linear(576, 3), nn.Sequential(nn.Linear(576, 8), nn.ReLU(), nn.Linear(8, 3))]
)
def test_a_model_of_torchvision_with_another_head_is_loaded_without_it(head, tmp_path):
    model = foreign.randomised(torchvision.models.mobilenet_v3_small(weights=None)).eval()
    model.classifier = head or nn.Identity()
    torch.save(model.state_dict(), tmp_path / "a.pth")
    backbone = load_file(tmp_path / "a.pth")
    assert backbone.classifier is None
    assert isinstance(backbone.model.classifier, nn.Identity)
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(backbone.model.features(images), model.features(images))


@pytest.mark.slow
def test_models_that_compute_different_things_are_left_to_the_user_or_to_the_files_name(tmp_path):
    state = state_of("efficientnet_b0")
    torch.save(state, tmp_path / "last.pth")
    with pytest.raises(CheckpointError, match=r"efficientnet_b0 and .*tf_.*, which differ in .*Conv2d or Conv2dSame"):
        load_file(tmp_path / "last.pth")
    assert load_file(tmp_path / "last.pth", arch="tf_efficientnet_b0").origin.architecture == "tf_efficientnet_b0"
    torch.save(state, tmp_path / "tf_efficientnet_b0_ns.pth")
    backbone = load_file(tmp_path / "tf_efficientnet_b0_ns.pth")
    assert backbone.origin.architecture == "tf_efficientnet_b0"
    assert any("as the file is called" in note for note in backbone.origin.notes)
    torch.save({"arch": "efficientnet_b0", "state_dict": state}, tmp_path / "checkpoint.pth")
    assert load_file(tmp_path / "checkpoint.pth").origin.architecture == "efficientnet_b0"


def test_clip_has_the_activation_that_its_file_shows(tmp_path):
    state = {f"visual.{name}": tensor for name, tensor in state_of("vit_base_patch32_clip_224").items()}
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="which differ in GELU or QuickGELU; choose one, as in --arch vit_base"):
        load_file(tmp_path / "a.pth")
    numbers = {name: torch.tensor(77) for name in ("input_resolution", "context_length", "vocab_size")}
    torch.save(state | numbers, tmp_path / "b.pth")
    assert inspect_file(tmp_path / "b.pth").architectures == ("vit_base_patch32_clip_quickgelu_224",)


@pytest.mark.slow
def test_another_normalisation_of_the_same_tensors_is_named(tmp_path):
    state = state_of("vit_tiny_patch16_224")
    torch.save(state, tmp_path / "a.pth")
    backbone = load_file(tmp_path / "a.pth")
    assert backbone.preprocessing.mean == (0.5, 0.5, 0.5)
    assert any("deit_tiny_patch16_224, with the same tensors, has others" in note for note in backbone.origin.notes)
    assert load_file(tmp_path / "a.pth", arch="vit_tiny_patch16_224").preprocessing.mean == (0.5, 0.5, 0.5)
    small = state_of("vit_small_patch16_224")
    torch.save(small, tmp_path / "b.pth")
    dino = load_file(tmp_path / "b.pth", arch="vit_small_patch16_224.dino")
    assert dino.preprocessing.mean == (0.485, 0.456, 0.406)


def test_what_lies_next_to_a_file_decides(tmp_path):
    torch.save(state_of("tf_efficientnet_b0"), tmp_path / "pytorch_model.bin")
    config = {"architecture": "tf_efficientnet_b0", "pretrained_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    backbone = load_file(tmp_path)
    assert backbone.origin.architecture == "tf_efficientnet_b0"
    assert backbone.preprocessing.mean == (0.5, 0.5, 0.5)


def test_the_size_of_position_embeddings_is_the_input_size(tmp_path):
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=256)
    torch.save(model.state_dict(), tmp_path / "v.pth")
    for arch in (None, "vit_tiny_patch16_224@256"):
        backbone = load_file(tmp_path / "v.pth", arch=arch)
        assert backbone.preprocessing.size == (256, 256)
        assert torch.equal(backbone.model.pos_embed, model.pos_embed)
        assert not any("resampled" in note for note in backbone.origin.notes)
    assert inspect_file(tmp_path / "v.pth").size == (256, 256)
    wide = load_file(tmp_path / "v.pth", arch="vit_tiny_patch16_224@128x192")
    assert wide.model.pos_embed.shape == (1, 1 + 8 * 12, 192)
    assert any("pos_embed resampled" in note for note in wide.origin.notes)


def test_a_file_that_nearly_fits_names_what_is_missing(tmp_path):
    state = state_of("convnext_atto")
    del state["stages.3.blocks.1.mlp.fc2.weight"]
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(
        CheckpointError, match=r"nearest is convnext_\w+, found missing stages.3.blocks.1.mlp.fc2.weight"
    ):
        load_file(tmp_path / "a.pth")
    torch.save({"layer.weight": torch.ones(3, 3)}, tmp_path / "b.pth")
    with pytest.raises(CheckpointError, match="expected an encoder of timm, torchvision or transformers, found 1"):
        load_file(tmp_path / "b.pth")
