"""Backbones: the pyramid has every stride once and ends in `features`; the classifier."""

import numpy as np
import open_clip
import pytest
import timm
import torch
import torchvision
from PIL import Image
from torch import nn

from cka_probe.errors import CheckpointError, DataError
from cka_probe.lab.tasks.decoders import maps
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import IMAGENET_MEAN, NORMALISATIONS, Backbone, Preprocessing, classifier_from
from cka_probe.models.load import wrap


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


def test_logits_are_those_of_the_classifier():
    linear, images = nn.Linear(3, 5), torch.rand(2, 3, 4, 4)
    backbone = Backbone(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), classifier=linear)
    assert torch.equal(backbone.logits(images), linear(backbone(images)))
    assert [name for name, _ in backbone.named_parameters()] == ["classifier.weight", "classifier.bias"]
    backbone.classifier = None
    with pytest.raises(CheckpointError, match="expected a classifier, found an encoder alone"):
        backbone.logits(images)


@pytest.mark.parametrize("shape", [(5, 3), (5, 3, 1, 1)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_linear_layer_or_a_convolution_of_one_pixel_is_a_classifier(shape, bias):
    weight, features = torch.randn(shape), torch.randn(2, 3)
    tensors = {"head.fc.weight": weight.half()} | ({"head.fc.bias": torch.ones(5)} if bias else {})
    classifier = classifier_from(tensors, "head.fc", 3)
    torch.testing.assert_close(classifier(features), features @ weight.half().float().flatten(1).T + bias)
    assert classifier.weight.dtype == torch.float32


@pytest.mark.parametrize("shape", [(5, 4), (3,), (5, 3, 2, 2)])
def test_tensors_of_other_shapes_are_no_classifier(shape):
    assert classifier_from({"fc.weight": torch.ones(shape)}, "fc", 3) is None
    assert classifier_from({"fc.weight": torch.ones(5, 3), "fc.bias": torch.ones(3)}, "fc", 3) is None
    assert classifier_from({"fc.weight": torch.ones(5, 3)}, "head", 3) is None


@pytest.mark.parametrize(
    ("channels", "mean", "expected"),
    [
        (3, None, IMAGENET_MEAN),
        (1, None, (0.0,)),
        (1, (0.5,), (0.5,)),
        (4, (0.5,), (0.5,) * 4),
        (3, 0.0, (0.0,) * 3),  # one number, and an array
        (3, torch.tensor([0.25, 0.5, 0.75]), (0.25, 0.5, 0.75)),
    ],
)
def test_mean_and_std_are_one_per_channel(channels, mean, expected):
    backbone = Backbone(nn.Conv2d(channels, 2, 3), mean=mean, channels=channels)
    assert backbone.preprocessing.mean == expected
    with pytest.raises(DataError, match=f"expected one std per channel of the input, {channels}, found 2"):
        Backbone(nn.Conv2d(channels, 2, 3), channels=channels, std=(1.0, 2.0))


def test_a_call_takes_bytes_and_refuses_other_ranges():
    backbone = Backbone(nn.Conv2d(3, 2, 3)).eval()
    pixels = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    assert torch.equal(backbone(pixels), backbone(pixels / 255.0))
    with pytest.raises(DataError, match="divide them by 255"):
        backbone(pixels.float())


def test_grey_is_that_of_pillow():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 9, 3), np.uint8)
    grey = Preprocessing(mean=(0.0,), std=(1.0,), channels=1).fit(torch.from_numpy(pixels).permute(2, 0, 1) / 255.0)
    np.testing.assert_allclose(grey[0] * 255, np.asarray(Image.fromarray(pixels).convert("L")), atol=0.51)


def test_images_of_other_channels_are_one_line():
    for image in (torch.rand(4, 8, 8), torch.rand(8, 8, 3)):
        with pytest.raises(DataError, match=r"the model takes images of 3 channels, \(n, 3, H, W\): found \(.*, 8, "):
            Backbone(nn.Conv2d(3, 2, 3)).preprocessing.fit(image)


def test_a_grey_model_of_timm_has_one_mean():
    model = timm.create_model("resnet18", in_chans=1, num_classes=0)
    preprocessing = wrap(model).preprocessing
    assert (preprocessing.size, preprocessing.channels) == ((224, 224), 1)
    assert (preprocessing.mean, preprocessing.std) == ((pytest.approx(0.449),), (pytest.approx(0.226),))


@pytest.mark.parametrize(
    ("name", "size"), [("test_vit", 96), ("swin_tiny_patch4_window7_224", 112), ("vit_tiny_r_s16_p8_224", (96, 64))]
)
def test_the_size_that_a_model_of_timm_was_built_for(name, size):
    with torch.device("meta"):
        model = timm.create_model(name, img_size=size)
    assert wrap(model).preprocessing.size == ((size, size) if isinstance(size, int) else size)


def test_the_size_of_models_of_other_libraries():
    from transformers import ViTConfig, ViTModel

    with torch.device("meta"):
        model = ViTModel(ViTConfig(num_hidden_layers=1, image_size=48))
        assert wrap(model).preprocessing.size == (48, 48)
        assert wrap(torchvision.models.VisionTransformer(64, 16, 1, 2, 8, 8)).preprocessing.size == (64, 64)
        assert wrap(torchvision.models.resnet18()).preprocessing.size is None


def test_the_input_of_open_clip():
    model = open_clip.create_model("ViT-B-32", pretrained=None, force_image_size=64, device="meta")
    for part in (model, model.visual):
        preprocessing = wrap(part).preprocessing
        assert preprocessing.size == (64, 64)
        assert preprocessing.mean == pytest.approx(NORMALISATIONS["clip"][0])


def test_parallel_modules_are_fed_as_what_they_contain():
    model = timm.create_model("test_vit")
    preprocessing = wrap(nn.DataParallel(model)).preprocessing
    assert preprocessing == wrap(model).preprocessing
    assert preprocessing.mean != (0.0,)


@pytest.mark.parametrize(("height", "width"), [(40, 50), (33, 32), (20, 90)])
def test_images_of_eight_bits_are_resized_as_pillow_does(height, width):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)  # edges everywhere
    scale = 32 / min(height, width)
    covering = round(scale * width), round(scale * height)
    left, top = round((covering[0] - 32) / 2), round((covering[1] - 32) / 2)
    expected = Image.fromarray(pixels).resize(covering, Image.Resampling.BICUBIC).crop((left, top, left + 32, top + 32))
    fitted = Preprocessing(size=(32, 32)).fit(torch.from_numpy(pixels).permute(2, 0, 1))
    assert fitted.dtype == torch.uint8
    assert np.abs(fitted.permute(1, 2, 0).numpy().astype(int) - np.asarray(expected, int)).max() <= 1
