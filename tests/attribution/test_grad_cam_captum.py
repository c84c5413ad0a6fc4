"""Maps equal captum's, at layers with and without a consumer that works in place, of ResNets and of a Swin-v2."""

import warnings

import pytest
import torch
import torchvision
from torch import nn

from cka_probe import grad_cam, registry
from cka_probe.lab.tasks import TASKS
from cka_probe.models.checkpoint import Trained
from cka_probe.models.load import random_backbone

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # captum's own, when it is imported
    from captum.attr import LayerGradCam

SIZE = (64, 96)
IN_PLACE = {"resnet18": "layer1.0.bn2", "resnet50": "layer1.0.bn3"}
"""Batch norms whose output the block adds its input to, in place."""


def lively(module, seed=0):
    """Give batch norms statistics, scales and shifts that are not those of a start, and return it for evaluation."""
    generator = torch.Generator().manual_seed(seed)
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            with torch.no_grad():
                norm.running_mean.normal_(0, 0.2, generator=generator)
                norm.running_var.uniform_(0.5, 1.5, generator=generator)
                norm.weight.uniform_(0.5, 1.5, generator=generator)
                norm.bias.normal_(0, 0.2, generator=generator)
    return module.eval()


def trained(architecture, size=SIZE, **options):
    """Return an encoder with the head of a task, both at random."""
    task = registry.get(TASKS, options.pop("task", "segmentation"), "task")(size, **options)
    backbone = random_backbone(architecture)
    torch.manual_seed(1)
    return Trained(lively(backbone), lively(task.head(backbone)), task)


def logits_of(model):
    return lambda images: model.task.predict(model.backbone, model.head, images)


def segmentation_score(logits):
    return logits.max(1).values.sum((1, 2))


def captums(forward, layer, images, relu=False, **options):
    """Return captum's map, (n, h, w)."""
    return LayerGradCam(forward, layer).attribute(images, relu_attributions=relu, **options)[:, 0].detach()


def assert_equal(maps, expected):
    """Assert equality to 1e-5 of the greatest value, of maps that are not trivial."""
    scale = expected.abs().max()
    assert scale > 0
    assert maps.shape == expected.shape
    assert maps.dtype == torch.float32
    assert ((maps - expected).abs().max() / scale).item() < 1e-5


def random_images(n, size=SIZE, seed=2):
    return torch.rand(n, 3, *size, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module", params=[("resnet18", "skip"), ("resnet50", "linear")], ids=["resnet18", "resnet50"])
def segmenter(request):
    architecture, network = request.param
    return trained(architecture, classes=5, network=network)


LAYERS = ["conv1", "bn1", "act1", "layer1.0.bn2", "layer1", "layer2.0.downsample.1", "layer4"]


@pytest.mark.parametrize("layer", LAYERS)
def test_segmentation_maps_equal_captum(segmenter, layer):
    images, predict = random_images(2), logits_of(segmenter)
    module = segmenter.backbone.model.get_submodule(layer)
    maps = grad_cam(segmenter, images, layer)
    expected = captums(lambda z: segmentation_score(predict(z)), module, images)
    assert_equal(maps.signed, expected)
    if layer == "bn1":
        positive = captums(lambda z: segmentation_score(predict(z)), module, images, relu=True)
        assert_equal(maps.signed.clamp_min(0), positive)


def test_maps_of_a_layer_of_the_head_equal_captum():
    model, images = trained("resnet18", classes=5), random_images(2)
    convolutions = [name for name, module in model.head.named_modules() if isinstance(module, nn.Conv2d)]
    predict = logits_of(model)
    for name in (convolutions[0], convolutions[-1]):
        maps = grad_cam(model, images, f"head.{name}")
        assert maps.layer == f"head.{name}"
        expected = captums(lambda z: segmentation_score(predict(z)), model.head.get_submodule(name), images)
        assert_equal(maps.signed, expected)


@pytest.mark.parametrize("architecture", ["resnet18", "resnet50"])
def test_maps_of_a_class_equal_captum(architecture):
    torch.manual_seed(0)
    classifier = lively(torchvision.models.get_model(architecture, num_classes=7))
    images = random_images(2, (32, 64))
    for layer in ("bn1", "relu", IN_PLACE[architecture], "layer4"):
        module, maps = classifier.get_submodule(layer), grad_cam(classifier, images, layer, "class:4")
        assert_equal(maps.signed, captums(classifier, module, images, target=4))
    maps = grad_cam(classifier, images, "layer4", "class")
    assert_equal(maps.signed, captums(classifier, classifier.layer4, images, target=maps.predictions))


class ChannelsFirst(nn.Module):
    """A module that puts out (n, h, w, C), with its map (n, C, h, w) passing through a module of its own."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.feature_map = inner, nn.Identity()

    def forward(self, *inputs):
        return self.feature_map(self.inner(*inputs).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


@pytest.mark.parametrize(
    "layer", ["patch_embed", "layers.0", "module:layers.1.downsample.norm", "layers.2", "layers.3"]
)
def test_maps_of_a_swin_equal_captum_through_a_module_that_permutes(layer):
    size = (64, 64)
    model = trained("swinv2_micro", size, classes=5, network="linear")
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():  # layer norms of a Swin-v2 block start at 0, which leaves every block without effect
        for name, parameter in model.backbone.model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5, generator=generator)
    # in double precision: a map before a layer norm is what is left of terms that nearly cancel
    model.backbone.double(), model.head.double()
    images = random_images(2, size).double()
    maps = grad_cam(model, images, layer)
    layer = layer.removeprefix("module:")
    encoder, predict = model.backbone.model, logits_of(model)
    inner = encoder.get_submodule(layer)
    permuting = ChannelsFirst(inner)
    for name in ("grid_size", "patch_size", "output_nhwc"):
        if hasattr(inner, name):
            setattr(permuting, name, getattr(inner, name))
    encoder.set_submodule(layer, permuting)
    expected = captums(lambda z: segmentation_score(predict(z)), permuting.feature_map, images)
    assert_equal(maps.signed, expected)
