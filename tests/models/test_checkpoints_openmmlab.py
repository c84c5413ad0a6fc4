"""The settings that OpenMMLab saves with its weights are read as literals, and applied."""

from pathlib import Path

import pytest
import timm
import torch
import torchvision
from torch import nn

from cka_probe.errors import CheckpointError
from cka_probe.models.architectures import ARCHITECTURES, dilate_last_stages, set_stages
from cka_probe.models.backbone import Backbone
from cka_probe.models.checkpoints.openmmlab import apply_settings, mit_config, read_settings
from cka_probe.models.checkpoints.reading import Contents


def contents_with(text, **tensors):
    """A file with settings."""
    return Contents(Path("iter.pth"), "", tensors, {"meta.cfg": text})


def test_settings_are_literals_and_nothing_is_run(capsys):
    text = "a = dict(b=[1, (2, -3)], c={'d': None})\ne = print('run')\nf = dict(g=print('run'))\nh = dict(a=a)\n1 +"
    assert read_settings({"meta.cfg": text}) == {}
    settings = read_settings({"meta.cfg": text.removesuffix("1 +")})
    assert settings == {"a": {"b": [1, [2, -3]], "c": {"d": None}}, "h": {"a": {"b": [1, [2, -3]], "c": {"d": None}}}}
    assert capsys.readouterr().out == ""
    assert read_settings({"meta.cfg": "(" * 10000}) == {}
    assert read_settings({}) == {}


PREPROCESSOR = "data_preprocessor = dict(mean=[10.0, 20.0, 30.0], std=[1.0, 2.0, 4.0], {})"


@pytest.mark.parametrize(
    ("text", "first_mean"),
    [
        (PREPROCESSOR.format("to_rgb=True"), 10 / 255),
        (PREPROCESSOR.format("bgr_to_rgb=True"), 10 / 255),
        (PREPROCESSOR.format("bgr_to_rgb=False"), 30 / 255),
        ("p = [dict(type='Normalize', mean=[10.0, 20.0, 30.0], std=[1.0, 1.0, 1.0])]", 10 / 255),
        ("p = [dict(type='Normalize', mean=[10, 20, 30], std=[1, 1, 1], to_rgb=False)]", 30 / 255),
    ],
)
def test_images_are_rgb_and_normalised_as_the_settings_say(text, first_mean):
    conv = nn.Conv2d(3, 4, 1)
    weight = conv.weight.detach().clone()
    backbone = Backbone(nn.Sequential(conv))
    apply_settings(backbone, contents_with(text))
    assert backbone.preprocessing.mean[0] == pytest.approx(first_mean)
    assert torch.equal(conv.weight, weight if first_mean == 10 / 255 else weight.flip(1))
    assert any("settings in the file" in note for note in backbone.origin.notes)


def test_an_unknown_order_of_channels_is_refused():
    with pytest.raises(CheckpointError, match="rgb_to_bgr"):
        apply_settings(Backbone(nn.Conv2d(3, 4, 1)), contents_with(PREPROCESSOR.format("rgb_to_bgr=True")))


def test_dilation_of_the_settings_is_torchvisions_and_outlasts_a_checkpoint():
    text = "model = dict(backbone=dict(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4), contract_dilation=True))"
    backbone = Backbone(timm.create_model("resnet50", num_classes=0))
    apply_settings(backbone, contents_with(text))
    reference = torchvision.models.resnet50(replace_stride_with_dilation=[False, True, True])
    rebuilt = ARCHITECTURES["resnet50"].build(size=224, **backbone.origin.options)
    dilated = timm.create_model("resnet50", num_classes=0, output_stride=8)
    plain = timm.create_model("resnet50", num_classes=0)
    dilate_last_stages(plain)
    for model in (backbone.model, rebuilt, dilated, plain):
        for name, module in reference.named_modules():
            if isinstance(module, nn.Conv2d):
                conv = model.get_submodule(name)
                settings = (conv.stride, conv.padding, conv.dilation)
                assert settings == (module.stride, module.padding, module.dilation), name


@pytest.mark.parametrize(
    ("backbone", "strides"),
    [
        ("style='caffe'", "strides 1, 2, 2, 2, in the 1 x 1 convolutions"),
        (
            "strides=(1, 2, 1, 1), dilations=(1, 1, 1, 2), multi_grid=(1, 2, 4)",
            "strides 1, 2, 1, 1 and dilations 1, 1, 1, 4",
        ),
        ("strides=(1, 2, 1, 1), dilations=(1, 1, 2)", "not understood"),
        ("dilations=7", "not understood"),
        ("type='ResNeSt', dilations=(1, 1, 2, 4)", "not understood"),
        ("depth=50", ""),
    ],
)
def test_other_settings_of_a_resnet(backbone, strides):
    model = Backbone(timm.create_model("resnet50", num_classes=0))
    apply_settings(model, contents_with(f"model = dict(backbone=dict({backbone}))"))
    assert strides in " ".join(model.origin.notes)
    assert bool(strides) == bool(model.origin.notes)


@pytest.mark.parametrize("name", ["resnet18", "resnet50d"])
def test_strides_are_those_of_the_first_blocks(name):
    model = timm.create_model(name, num_classes=0).eval()
    depths = [len(model.get_submodule(f"layer{stage}")) for stage in (1, 2, 3, 4)]
    set_stages(model, (1, 2, 1, 1), [[2] * depth for depth in depths])
    with torch.no_grad():
        assert model.forward_features(torch.rand(1, 3, 64, 64)).shape[-2:] == (8, 8)


def test_a_resnet_of_a_segmentation_network_without_settings_has_a_note():
    backbone = Backbone(torchvision.models.resnet18())
    tensors = {"decode_head.conv_seg.weight": torch.zeros(1)}
    apply_settings(backbone, Contents(Path("iter.pth"), "", tensors, {}))
    assert any("output stride 32" in note for note in backbone.origin.notes)


def test_heads_of_an_unknown_mix_transformer_are_not_guessed():
    widths = {f"stages.{stage}.layer_norm.weight": torch.zeros(48 * 2**stage) for stage in range(4)}
    with pytest.raises(CheckpointError, match="no tensor shows"):
        mit_config(widths)
