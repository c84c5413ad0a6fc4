"""Which layers a name means; never a neighbour's."""

import pytest
import timm
import torch
from torch import nn

from cka_probe.errors import LayerError
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.default_layers import default_layers
from cka_probe.models.layers import Layer, LayerMap
from cka_probe.models.recording import probe
from cka_probe.models.selection import comparable_layers, select_layers


@pytest.fixture(scope="module")
def swin():
    return ARCHITECTURES["swinv2_micro"].build(size=64)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_has_default_layers_that_exist(name):
    architecture = ARCHITECTURES[name]
    with torch.device("meta"):
        model = architecture.build(size=architecture.size)
    assert 9 <= len(architecture.layers) <= 25
    for layer in architecture.layers:
        model.get_submodule(layer.module)
    assert default_layers(model) == architecture.layers


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_a_script_module_is_refused():
    with pytest.raises(LayerError, match="expected a model that runs in Python, found a ScriptModule"):
        select_layers(torch.jit.script(nn.Sequential(nn.Linear(2, 2))), "0")


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


def test_a_star_is_one_level_and_two_are_all_below():
    net = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Identity())), nn.ReLU())
    assert select_layers(net, "0.*").modules == ("0.0", "0.1")
    assert select_layers(net, "0.**").modules == ("0.0", "0.1", "0.1.0")
    assert select_layers(net, "**.0").modules == ("0", "0.0", "0.1.0")
    assert select_layers(net, "[12]").modules == ("1",)
    assert select_layers(net, "all").modules == select_layers(net, "*").modules == ("0", "0.0", "0.1", "0.1.0", "1")


class Reuses(nn.Module):
    """A model with a layer that never runs, one that runs twice, one without tensor and one of windows."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.unused = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.relu, self.same, self.windows, self.text = nn.ReLU(), nn.Identity(), nn.Flatten(0, 1), Text()

    def forward(self, x):
        x = self.relu(self.second(self.relu(self.first(x))))
        self.text(self.windows(x[:, :, None]))
        return self.same(x)


class Text(nn.Module):
    def forward(self, x):
        return "text"


@pytest.fixture(scope="module")
def reuses():
    model = Reuses()
    return model, probe(model, torch.rand(5, 4))


def test_what_a_glob_brings_in_and_cannot_be_compared_is_left_out_and_named(reuses):
    model, outputs = reuses
    layers, warnings = comparable_layers(select_layers(model, "*"), outputs)
    assert layers.modules == ("first", "second", "relu#1", "relu#2")  # `same` puts out what `relu#2` put out
    assert warnings == (
        "Of '*', 1 layer is left out: never ran (unused).",
        "Of '*', 1 layer is left out: without one activation per image (windows).",
        "Of '*', 1 layer is left out: without a float tensor (text).",
    )
    assert comparable_layers(select_layers(model, "[rs]*"), outputs)[0].modules == (
        "second",
        "relu#1",
        "relu#2",
        "same",
    )


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("unused", "'unused' never ran in the forward pass"),
        ("relu", "'relu' runs more than once in a forward pass; name one of its calls, relu#1, relu#2"),
        ("relu#3", "'relu#3' ran 2 times in the forward pass"),
        ("windows", r"'windows' puts out \(12, 1\) for 3 images"),
        ("text", "'text' puts out no float tensor but str"),
        ("un*", r"no layer can be compared; Of 'un\*', 1 layer is left out"),
    ],
)
def test_what_is_named_and_cannot_be_compared_is_an_error(reuses, name, message):
    with pytest.raises(LayerError, match=message):
        comparable_layers(select_layers(reuses[0], name), reuses[1])


def test_a_name_wins_over_a_glob(reuses):
    model, outputs = reuses
    assert comparable_layers(select_layers(model, "relu#2,re*"), outputs)[0].modules == ("relu#2", "relu#1")
    with pytest.raises(LayerError, match="'unused' never ran"):
        comparable_layers(select_layers(model, "*,unused"), outputs)


@pytest.mark.slow
def test_names_in_a_wrapper_may_omit_it():
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    compiled = nn.Sequential(torch.compile(nn.Sequential(net)), nn.ReLU())
    assert select_layers(compiled, "0.0.1") == LayerMap((Layer("0.0.1", "0._orig_mod.0.1"),))
    assert select_layers(compiled, "0._orig_mod.0.1") == select_layers(compiled, "0.0.1")
    assert select_layers(nn.DataParallel(net), "1").modules == ("module.1",)
    assert select_layers(net, "module.1").modules == ("1",)


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


def test_a_model_without_modules_is_an_error():
    with pytest.raises(LayerError, match=r"Linear has no modules; wrap it"):
        select_layers(nn.Linear(2, 2), None)
