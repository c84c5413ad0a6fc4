"""Which layers a name means; never a neighbour's."""

import pytest
import timm
import torch
from torch import nn

from cka_probe.errors import LayerError
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.layers import Layer, LayerMap
from cka_probe.models.selection import default_layers, select_layers


@pytest.fixture(scope="module")
def swin():
    return ARCHITECTURES["swinv2_micro"].build(size=64)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_has_nine_layers_that_exist(name):
    architecture = ARCHITECTURES[name]
    with torch.device("meta"):
        model = architecture.build(size=architecture.size)
    assert len(architecture.layers) == 9
    for layer in architecture.layers:
        model.get_submodule(layer.module)
    assert default_layers(model) == architecture.layers


def test_the_papers_names_are_moved_by_one_in_timm(swin):
    layers = default_layers(swin)
    assert layers[0] == Layer("layers.0.downsample.norm", "layers.1.downsample.norm")
    assert layers[7] == Layer("layers.2.downsample.norm", "layers.3.downsample.norm")
    assert layers[8] == Layer("norm3", "norm")


class Original(nn.Module):
    """The skeleton of the original implementation, by which it is known."""

    def __init__(self, last_norm):
        super().__init__()
        stages = []
        for stage, depth in enumerate((2, 2, 18, 2)):
            part = nn.Module()
            part.blocks = nn.ModuleList(self.block() for _ in range(depth))
            if stage < 3:
                part.downsample = nn.Module()
                part.downsample.reduction, part.downsample.norm = nn.Linear(4, 2), nn.LayerNorm(2)
            stages.append(part)
        self.layers = nn.ModuleList(stages)
        setattr(self, last_norm, nn.LayerNorm(2))

    @staticmethod
    def block():
        block = nn.Module()
        block.norm1, block.attn = nn.LayerNorm(2), nn.Module()
        block.attn.logit_scale = nn.Parameter(torch.zeros(1))
        return block


@pytest.mark.parametrize("last_norm", ["norm", "norm3"])
def test_the_original_implementation_keeps_the_papers_names(last_norm):
    layers = default_layers(Original(last_norm))
    assert layers[1] == Layer("layers.1.downsample.norm", "layers.1.downsample.norm")
    assert layers[8] == Layer("norm3", last_norm)
    wrapped = nn.Module()
    wrapped.encoder = Original(last_norm)
    assert default_layers(wrapped)[2].module == "encoder.layers.2.blocks.3.norm1"


def test_transformers_names_are_found():
    transformers = pytest.importorskip("transformers")
    config = transformers.Swinv2Config(
        image_size=64, embed_dim=8, depths=[2, 2, 6, 2], num_heads=[1, 1, 1, 1], window_size=4
    )
    model = transformers.Swinv2Model(config)
    layers = default_layers(model)
    for layer in layers:
        model.get_submodule(layer.module)
    assert layers[2].module == "encoder.layers.2.blocks.1.layernorm_before"
    assert layers[8] == Layer("norm3", "layernorm")


def test_a_bare_name_with_two_meanings_is_refused_and_each_can_be_said(swin):
    with pytest.raises(LayerError, match=r"means two layers: the paper's is 'layers\.2\.downsample\.norm' here"):
        select_layers(swin, "layers.1.downsample.norm")
    assert select_layers(swin, "paper:layers.1.downsample.norm").modules == ("layers.2.downsample.norm",)
    assert select_layers(swin, "module:layers.1.downsample.norm").modules == ("layers.1.downsample.norm",)


def test_names_with_one_meaning_need_no_prefix(swin):
    assert select_layers(swin, "layers.0.downsample.norm").modules == ("layers.1.downsample.norm",)
    assert select_layers(swin, "norm3,layers.2.blocks.6.norm1").modules == ("norm", "layers.2.blocks.6.norm1")


def test_indices_globs_lists_and_maps(swin):
    assert select_layers(swin, "8,0").names == ("norm3", "layers.0.downsample.norm")
    assert len(select_layers(swin, "layers.2.blocks.*.norm1")) == 18
    assert select_layers(swin, ["norm", 0]).modules == ("norm", "layers.1.downsample.norm")
    given = LayerMap.of(["norm", "patch_embed"])
    assert select_layers(swin, given) == given


def test_a_star_means_leaves_that_do_something():
    net = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.Identity()), nn.ReLU())
    assert select_layers(net, "*").modules == ("0.0", "1")
    assert select_layers(net, "0*").modules == ("0", "0.0", "0.1")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("layer5", r"no layer 'layer5' in ResNet; did you mean 'layer4'"),
        ("layers.2.blocks.9.norm1", "no layer 'layers.2.blocks.9.norm1' in ResNet"),
        ("stage*", r"no layer 'stage\*' in ResNet"),
        ("9", "no layer with index 9: there are 9 default layers, from 0"),
        ("paper:norm3", "no layer 'norm3' in the paper's map"),
    ],
)
def test_unknown_names_are_errors_with_the_nearest(spec, message):
    with pytest.raises(LayerError, match=message):
        select_layers(timm.create_model("resnet18"), spec)


def test_the_blocks_that_tiny_lacks_are_an_error_and_not_skipped():
    with torch.device("meta"):
        tiny = ARCHITECTURES["swinv2_tiny"].build(size=192)
    with pytest.raises(LayerError, match=r"no layer 'layers\.2\.blocks\.9\.norm1'"):
        select_layers(tiny, "layers.2.blocks.9.norm1")


def test_a_model_without_default_layers_asks_for_names():
    with pytest.raises(LayerError, match=r"Sequential has no default layers known here; name some with --layers"):
        select_layers(nn.Sequential(nn.Linear(2, 2)), None)
