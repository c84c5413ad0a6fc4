"""Networks: the first layer, the last one and the classes; which layer and class are taken without names."""

from dataclasses import replace

import numpy as np
import pytest
import timm
import torch
import torchvision
import transformers
from helpers.foreign import randomised
from PIL import Image
from torch import nn

from cka_probe import Backbone, grad_cam
from cka_probe.attribution.networks import network_of
from cka_probe.errors import DataError, LayerError, ModelError, UnknownNameError
from cka_probe.images.conversion import to_example
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


def hf_dinov2():
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 64, "patch_size": 16}
    config = transformers.Dinov2WithRegistersConfig(**sizes, num_labels=5)
    return transformers.Dinov2WithRegistersForImageClassification(config)


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
    "transformers dinov2, registers": (hf_dinov2, "dinov2_with_registers.layernorm", (4, 4)),
    "timm cait": (lambda: timm.create_model("cait_xxs24_224", img_size=64), "blocks_token_only.1.norm1", (4, 4)),
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
    assert grad_cam(torchvision.models.resnet18(), images, target="class:tabby").target == "class:281"
    with pytest.raises(UnknownNameError, match="no class 5: the network has 5, from 0 to 4"):
        grad_cam(hf_vit(), images, target=5)
    with pytest.raises(UnknownNameError, match="no class 'tabbi'; did you mean 'tabby'"):
        grad_cam(imagenet, images, target="class:tabbi")
    with pytest.raises(UnknownNameError, match=r"2 classes are called 'crane'.*\[134, 517\]"):
        grad_cam(imagenet, images, target="class:crane")
    with pytest.raises(UnknownNameError, match="no class 1000: the network has 1000, from 0 to 999"):
        grad_cam(imagenet, images, target=1000)
    with pytest.raises(DataError, match=r"expected a target such as 'class:3', a number from 0 or a callable, found"):
        grad_cam(imagenet, images, target=[3])


def classifier():
    """Return a small classifier for images of 64 px that are normalised, and images."""
    torch.manual_seed(0)
    model = randomised(timm.create_model("test_resnet", num_classes=5))
    model.pretrained_cfg["input_size"] = (3, 64, 64)
    return wrap(model), torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)


def forms_of(images):
    """Return the same uint8 images in every form that `compare` takes too."""
    last = images.permute(0, 2, 3, 1).numpy()
    return {
        "uint8": images,
        "channels last": last,
        "floats channels last": last.astype(np.float32) / 255,
        "a mapping": {"pixel_values": images / 255.0, "labels": torch.zeros(3)},
        "a batch of a loader": (images, torch.zeros(3)),
        "arrays": list(last),
        "PIL": [Image.fromarray(image) for image in last],
        "PIL with alpha": [Image.fromarray(image).convert("RGBA") for image in last],
    }


@pytest.mark.parametrize("form", list(forms_of(torch.zeros(3, 3, 8, 8, dtype=torch.uint8))))
def test_images_of_every_form_have_the_same_maps(form):
    model, images = classifier()
    expected = grad_cam(model, images / 255.0, target=2)
    maps = grad_cam(model, forms_of(images)[form], target=2)
    torch.testing.assert_close(maps.signed, expected.signed)
    assert expected.signed.abs().max() > 0


def test_a_palette_image_has_its_colours_and_a_single_image_is_a_batch_of_one():
    model, images = classifier()
    palette = Image.fromarray(images[0].permute(1, 2, 0).numpy()).convert("P")
    pixels = torch.from_numpy(np.asarray(palette.convert("RGB")).copy()).permute(2, 0, 1)[None]
    torch.testing.assert_close(grad_cam(model, palette, target=2).signed, grad_cam(model, pixels, target=2).signed)


def test_images_of_a_list_and_of_another_size_are_fitted_as_in_compare():
    model, _ = classifier()
    images = [Image.fromarray(np.random.default_rng(0).integers(0, 256, size, np.uint8)) for size in ((80, 90, 3),) * 2]
    pixels = torch.stack([to_example(image) for image in images])
    maps = grad_cam(model, images, target=2)
    assert maps.size == (64, 64)
    torch.testing.assert_close(maps.signed, grad_cam(model, model.preprocessing.fit(pixels), target=2).signed)
    assert grad_cam(model, pixels, target=2).size == (80, 90)
    larger = grad_cam(model, pixels, target=2, size="96x128")
    assert larger.size == (96, 128)
    expected = replace(model.preprocessing, size=(96, 128)).fit(pixels)
    torch.testing.assert_close(larger.signed, grad_cam(model, expected, target=2).signed)
    assert model.preprocessing.size == (64, 64)
    with pytest.raises(DataError, match=r"expected images of a size that the model takes, found 32x32 \("):
        grad_cam(torchvision.models.VisionTransformer(64, 16, 1, 1, 16, 16), images, target=2, size=32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda images: images.float(), r"in \[0, 1\], found 0 to 255; divide them by 255"),
        (lambda images: (images / 255.0 - 0.45) / 0.2, r"undo their normalisation, or pass normalised=True"),
        (lambda images: {"picture": images}, r"expected one of 'image', .* found picture; rename one"),
        (lambda images: images[:0], "expected a batch or a list of images, found Tensor without an image"),
        (lambda images: "cat.jpg", "expected a batch or a list of images, found str; give one or more"),
        (lambda images: 3, "expected a batch or a list of images, found int; give one or more"),
        (lambda images: images[:, :2] / 255.0, r"takes images of 3 channels.* found \(2, 64, 64\)"),
    ],
)
def test_what_is_no_image_in_range_is_one_line(change, message):
    model, images = classifier()
    with pytest.raises(DataError, match=message) as raised:
        grad_cam(model, change(images), target=2)
    assert "\n" not in str(raised.value)


def test_normalised_images_are_given_as_they_are():
    model, images = classifier()
    normalised = model.preprocessing.normalise(images / 255.0)
    expected = grad_cam(model, images, target=2)
    torch.testing.assert_close(grad_cam(model, normalised, target=2, normalised=True).signed, expected.signed)
    with pytest.raises(DataError, match="expected size or normalised, found both"):
        grad_cam(model, normalised, target=2, normalised=True, size=32)


def test_progress_counts_images_by_backward_passes():
    model, steps = nn.Conv2d(3, 4, 1), []
    maps = grad_cam(nn.Sequential(nn.ReLU(), model), torch.rand(4, 3, 8, 8), progress=lambda *step: steps.append(step))
    passes = len(maps.predictions.unique())
    assert steps == [(0, 4), *((4 * (i + 1) // passes, 4) for i in range(passes)), (4, 4)]


def test_a_classifier_is_explained_by_its_predicted_class_without_a_target():
    images = torch.rand(1, 3, 64, 64)
    for build in (hf_vit, LAST["torchvision resnet"][0], LAST["timm resnet"][0]):
        assert grad_cam(build().eval(), images).target == "class"
    assert grad_cam(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), images).target == "segmentation"


def test_an_exception_of_the_model_is_one_line():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(7, 2))
    for layer in ("1", "last"):
        with pytest.raises(
            ModelError, match=r"forward pass of Sequential failed in module '3': RuntimeError: mat1"
        ) as e:
            grad_cam(model, torch.rand(1, 3, 8, 8), layer, 1)
        assert "\n" not in str(e.value)
