"""Networks: the first layer, the last one and the classes; which layer and class are taken without names."""

import pytest
import timm
import torch
import torchvision
import transformers
from helpers.foreign import randomised
from torch import nn

from cka_probe import Backbone, grad_cam
from cka_probe.attribution.networks import network_of
from cka_probe.errors import DataError, LayerError, UnknownNameError
from cka_probe.models.load import random_backbone, wrap


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


def hf_vit():
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    return transformers.ViTForImageClassification(transformers.ViTConfig(**sizes, image_size=64, num_labels=5))


def hf_swin():
    config = transformers.SwinConfig(
        image_size=64, embed_dim=8, depths=[1, 1], num_heads=[2, 2], num_labels=5, window_size=4
    )
    return transformers.SwinForImageClassification(config)


STEM = nn.Conv2d(3, 4, 3, 2), nn.ReLU(True), nn.MaxPool2d(2)
LAST = {
    "torchvision resnet": (lambda: torchvision.models.resnet18(num_classes=5), "layer4.1", (2, 2)),
    "torchvision densenet": (
        lambda: torchvision.models.DenseNet(8, (1, 1), 8, num_classes=5),
        "features.norm5",
        (8, 8),
    ),
    "torchvision vit": (
        lambda: torchvision.models.VisionTransformer(64, 16, 2, 2, 16, 16, num_classes=5),
        "encoder.layers.encoder_layer_1.ln_1",
        (4, 4),
    ),
    "torchvision swin": (
        lambda: torchvision.models.SwinTransformer([4, 4], 8, [1, 1], [2, 2], [4, 4], num_classes=5),
        "norm",
        (8, 8),
    ),
    "timm vit": (lambda: timm.create_model("test_vit", img_size=64), "blocks.5.norm1", (4, 4)),
    "timm vit, pooled": (lambda: timm.create_model("test_vit2", img_size=64), "blocks.7", (4, 4)),
    "timm convnext": (lambda: timm.create_model("test_convnext"), "stages.3.blocks.1", (2, 2)),
    "timm efficientnet": (lambda: timm.create_model("test_efficientnet"), "bn2", (2, 2)),
    "timm resnet": (lambda: timm.create_model("test_resnet"), "layer4.0", (2, 2)),
    "transformers vit": (hf_vit, "vit.layers.1.layernorm_before", (4, 4)),
    "transformers swin": (hf_swin, "swin.layernorm", (8, 8)),
    "sequence": (lambda: nn.Sequential(*STEM, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)), "1", (31, 31)),
}


@pytest.mark.parametrize("name", LAST)
def test_the_last_layer_is_the_last_map_that_the_score_depends_on(name):
    build, layer, size = LAST[name]
    torch.manual_seed(0)
    model = randomised(build())
    maps = grad_cam(model, torch.rand(2, 3, 64, 64), target="class:2")
    assert maps.layer == layer
    assert maps.signed.shape == (2, *size)
    assert maps.signed.abs().max() > 0


def test_the_map_of_pooled_features_is_the_class_activation_map():
    model, images = randomised(torchvision.models.resnet18(num_classes=5)), torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        features = nn.Sequential(*list(model.children())[:-2])(images)
    expected = torch.einsum("c,nchw->nhw", model.fc.weight[3], features) / 6  # Zhou et al. 2016, mean of 2 x 3
    torch.testing.assert_close(grad_cam(model, images, target=3).signed, expected.detach())


def test_the_map_of_a_vision_transformer_is_that_of_its_last_attention():
    model, images = randomised(timm.create_model("test_vit", img_size=64)), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        tokens = model.norm_pre(model._pos_embed(model.patch_embed(wrap(model).preprocessing.normalise(images))))
        for block in model.blocks[:-1]:
            tokens = block(tokens)
    block = model.blocks[-1]
    norm = block.norm1(tokens).detach().requires_grad_()
    after = tokens + block.ls1(block.attn(norm))
    logits = model.forward_head(model.norm(after + block.ls2(block.mlp(block.norm2(after)))))
    (gradient,) = torch.autograd.grad(logits[:, 7].sum(), norm)
    alpha, activation = gradient[:, 1:].mean(1), norm.detach()[:, 1:]
    expected = torch.einsum("nc,nlc->nl", alpha, activation).view(2, 4, 4)
    torch.testing.assert_close(grad_cam(model, images, target="class:7").signed, expected, rtol=1e-4, atol=1e-7)


def test_a_dense_prediction_is_not_its_own_last_layer():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 1))
    assert grad_cam(model, torch.rand(1, 3, 8, 8), "last", "class:1").layer == "1"
    assert grad_cam(model, torch.rand(1, 3, 8, 8)).layer == "1"  # the first, for a segmentation


def test_without_a_score_there_is_no_last_layer():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(LayerError, match="expected a target for the layer last"):
        grad_cam(model, torch.rand(1, 3, 8, 8), "last", "none")
    with pytest.raises(LayerError, match=r"no feature map that the score depends on.*name a layer"):
        grad_cam(model, torch.rand(1, 3, 8, 8), "last", lambda output: 0 * output[:, 0])


def test_a_class_is_a_number_or_a_name_that_the_network_or_imagenet_has():
    images, named = torch.rand(1, 3, 64, 64), hf_vit()
    named.config.id2label = {0: "ant", 1: "bee", 2: "cat", 3: "dog", 4: "eel"}
    assert grad_cam(named, images, target="class:dog").target == "class:3"
    imagenet = Backbone(timm.create_model("test_resnet"))
    assert network_of(imagenet).num_classes == 1000
    assert {grad_cam(imagenet, images, target=target).target for target in (281, "class:tabby", "class:Tabby cat")} == {
        "class:281"
    }
    with pytest.raises(UnknownNameError, match="no class 'tabbi'; did you mean 'tabby'"):
        grad_cam(imagenet, images, target="class:tabbi")
    with pytest.raises(UnknownNameError, match=r"2 classes are called 'crane'.*\[134, 517\]"):
        grad_cam(imagenet, images, target="class:crane")
    with pytest.raises(UnknownNameError, match="no class 1000: the network has 1000, from 0 to 999"):
        grad_cam(imagenet, images, target=1000)
    with pytest.raises(DataError, match=r"expected a target such as 'class:3', a number from 0 or a callable, found"):
        grad_cam(imagenet, images, target=[3])
