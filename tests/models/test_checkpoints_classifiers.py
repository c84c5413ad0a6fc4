"""Classifiers of plain files are loaded with their encoders, and give the logits of the original model."""

import pytest
import timm
import torch
import torchvision

from cka_probe.models.checkpoints import inspect_file, load_file
from cka_probe.models.load import weights_hash
from tests.helpers import foreign


def logits_of(model, backbone, images):
    """Return the logits of a whole model for images in [0, 1], normalised as its backbone does."""
    with torch.no_grad():
        return model(backbone.preprocessing.normalise(images))


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        ("resnet", ""),
        ("resnet", "module."),
        ("test_vit", ""),
        ("test_vit", "module.model."),
        ("test_convnext", ""),
        ("test_efficientnet", ""),
        ("test_nfnet", ""),
    ],
)
def test_a_classifier_gives_the_logits_of_the_original(tmp_path, name, prefix):
    if name == "resnet":
        model, arch, size = torchvision.models.resnet18(num_classes=7), None, 64
    else:
        model, arch, size = timm.create_model(name, num_classes=7), name, 160
    model = foreign.randomised(model)
    torch.save({"state_dict": foreign.prefixed(prefix, model.state_dict())}, tmp_path / "a.pth")
    backbone, images = load_file(tmp_path / "a.pth", arch=arch), torch.rand(2, 3, size, size)
    with torch.no_grad():
        logits = backbone.logits(images)
    torch.testing.assert_close(logits, logits_of(model, backbone, images))
    assert not any("dropped" in note for note in backbone.origin.notes)


@pytest.mark.parametrize("name", ["classifier", "head", "module.fc"])
def test_a_classifier_next_to_an_encoder_with_a_prefix(tmp_path, name):
    encoder, weight = foreign.resnet(), torch.randn(10, 512)
    front = "module.backbone." if name.startswith("module.") else "encoder."
    torch.save(foreign.prefixed(front, encoder.state_dict()) | {f"{name}.weight": weight}, tmp_path / "a.pth")
    backbone = load_file(tmp_path / "a.pth")
    assert torch.equal(backbone.classifier.weight, weight)
    assert not any("dropped" in note for note in backbone.origin.notes)


def test_the_weights_of_an_encoder_have_the_same_hash_with_a_classifier(tmp_path):
    model = torchvision.models.resnet18()
    torch.save(model.state_dict(), tmp_path / "a.pth")
    torch.save({name: t for name, t in model.state_dict().items() if not name.startswith("fc.")}, tmp_path / "b.pth")
    classifier, encoder = (load_file(tmp_path / name) for name in ("a.pth", "b.pth"))
    assert classifier.classifier is not None
    assert encoder.classifier is None
    assert weights_hash(classifier.model) == weights_hash(encoder.model)
    assert "classifier" not in dict(classifier.model.named_modules())


@pytest.mark.parametrize(
    ("front", "extra"),
    [
        ("encoder.", {"encoder.fc.weight": (1000, 512), "height": 64, "width": 64}),  # Monodepth2: left from ImageNet
        ("module.encoder_q.", {"module.encoder_q.fc.weight": (128, 512)}),  # MoCo v1: a projection
        ("", {"fc.weight": (1000, 2048)}),  # of another width
    ],
)
def test_what_is_no_classifier_of_the_encoder_is_dropped(tmp_path, front, extra):
    extra = {name: torch.zeros(shape) if isinstance(shape, tuple) else shape for name, shape in extra.items()}
    torch.save(foreign.prefixed(front, foreign.resnet().state_dict()) | extra, tmp_path / "a.pth")
    backbone = load_file(tmp_path / "a.pth")
    assert backbone.classifier is None
    assert any("dropped: fc (1)" in note for note in backbone.origin.notes)


@pytest.mark.parametrize("name", ["squeezenet1_1", "deit_tiny_distilled_patch16_224"])
def test_logits_that_are_not_one_linear_layer_after_the_pooling_are_dropped(tmp_path, name):
    torchvisions = name in torchvision.models.list_models()
    model = torchvision.models.get_model(name) if torchvisions else timm.create_model(name)
    torch.save(model.state_dict(), tmp_path / "a.pth")
    backbone = load_file(tmp_path / "a.pth")
    assert backbone.classifier is None
    assert any("dropped: " in note for note in backbone.origin.notes)


def test_the_report_of_a_file_names_its_classifier(tmp_path):
    state = torchvision.models.resnet18().state_dict()
    torch.save(state, tmp_path / "a.pth")
    report = inspect_file(tmp_path / "a.pth")
    assert report.heads == ("fc.weight", "fc.bias")
    assert not report.dropped
    assert report.parameters == sum(t.numel() for name, t in state.items() if "fc." not in name and t.ndim)
