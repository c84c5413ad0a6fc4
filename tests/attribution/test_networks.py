"""Networks: the first layer."""

import pytest
import timm
import torch
import torchvision
from torch import nn

from cka_probe import grad_cam
from cka_probe.errors import LayerError
from cka_probe.models.load import random_backbone


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        (lambda: torchvision.models.resnet18(), "relu"),
        (lambda: timm.create_model("resnet18"), "act1"),
        (lambda: timm.create_model("resnet18d"), "conv1.2"),
        (lambda: torchvision.models.vgg.make_layers([8, "M", 16]), "1"),
        (lambda: random_backbone("swinv2_micro"), "patch_embed"),
        (lambda: random_backbone("dinov2_micro"), "patch_embed"),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.SiLU()), nn.Flatten()), "1.0"),
    ],
)
def test_the_first_layer_is_the_relu_before_pooling_or_the_patch_embedding(build, expected):
    model = build()
    size = 56 if expected == "patch_embed" and "Vision" in type(model.model).__name__ else 64
    assert grad_cam(model, torch.rand(1, 3, size, size), target="none").layer == expected


def test_a_network_without_a_first_layer_is_an_error():
    with pytest.raises(LayerError, match=r"no ReLU that runs once and no patch embedding.*name a layer"):
        grad_cam(nn.Sequential(nn.Conv2d(3, 4, 3)), torch.rand(1, 3, 8, 8), target="none")
