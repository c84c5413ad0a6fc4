"""The pyramid of a backbone: every stride once, and its last map what `features` gives."""

import pytest
import torch

from cka_probe.lab.tasks.decoders import maps
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import Backbone


@pytest.mark.parametrize("name", ["swinv2_micro", "resnet18"])
def test_the_pyramid_has_every_stride_and_ends_in_the_features(name):
    torch.manual_seed(0)
    options = {"depths": (1, 1, 2, 1)} if name.startswith("swin") else {}
    backbone = Backbone(ARCHITECTURES[name].build(size=64, **options), size=64).eval()
    for parameter in backbone.parameters():  # so that no norm is the identity or zero
        torch.nn.init.normal_(parameter, 0.1, 0.3) if parameter.ndim == 1 else None
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        pyramid, features = backbone.pyramid(images), backbone.features(images)
    assert [(m.shape[1], 64 // m.shape[-1]) for m in pyramid] == maps(backbone)
    assert torch.equal(pyramid[-1], features)
    assert {stride for _, stride in maps(backbone)} >= {4, 8, 16, 32}
