"""Default layers by structure: the stem or embedding first, then whole blocks in the order of the forward pass."""

import pytest
import timm
import torch
import torchvision
from torch import nn

from cka_probe.models.default_layers import default_layers
from cka_probe.models.recording import probe
from cka_probe.models.selection import comparable_layers


def of_timm(name):
    with torch.device("meta"):
        return timm.create_model(name)


@pytest.mark.parametrize(
    ("name", "number", "first", "last"),
    [
        ("coat_lite_tiny", 9, "patch_embed1", "serial_blocks4.1"),
        ("convnext_atto", 13, "stem", "stages.3.blocks.1"),
        ("densenet121", 25, "features.pool0", "features.denseblock4.denselayer16"),
        ("efficientformer_l1", 13, "stem", "stages.3"),  # its last stage has blocks of two kinds
        ("efficientvit_m0", 7, "patch_embed", "stages.2.blocks.2"),
        ("gcvit_xxtiny", 13, "stem", "stages.3.blocks.1"),
        ("hgnet_tiny", 6, "stem", "stages.3.blocks.0"),
        ("hrnet_w18_small", 4, "layer1", "stage4"),
        ("tiny_vit_5m_224", 13, "patch_embed", "stages.3.blocks.1"),
        ("tnt_s_legacy_patch16_224", 13, "norm2_proj", "blocks.11"),  # `pixel_embed` has 16 pixels, not images, first
        ("twins_pcpvt_small", 17, "patch_embeds.0", "blocks.3.2"),
        ("vit_tiny_patch16_224", 13, "patch_embed", "blocks.11"),
    ],
)
def test_models_of_timm_begin_with_the_stem_and_end_with_the_last_block(name, number, first, last):
    model = of_timm(name)
    layers = default_layers(model)
    assert (len(layers), layers.modules[0], layers.modules[-1]) == (number, first, last)
    size = timm.get_pretrained_cfg(name).input_size[-1]
    comparable, warnings = comparable_layers(layers, probe(model, torch.empty(3, 3, size, size, device="meta")))
    assert comparable.modules == layers.modules
    assert warnings == ()


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_auxiliary_classifiers_are_no_layers(name):
    with torch.device("meta"):
        model = torchvision.models.get_model(name, weights=None, init_weights=False)
    assert not any("aux" in path.lower() for path in default_layers(model).modules)


def test_the_direct_children_of_a_model_without_blocks():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))
    assert default_layers(model).modules == ("0", "1", "3")
