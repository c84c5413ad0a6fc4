"""A ViT that is named: from files of MAE, MiDaS and transformers, for any input size, with their output."""

import pytest
import torch
from helpers import foreign
from helpers.foreign import prefixed

from cka_probe.errors import CheckpointError
from cka_probe.models.architectures import ARCHITECTURES, VIT
from cka_probe.models.backbone import IMAGENET_MEAN
from cka_probe.models.checkpoints import load_file

HALF = (0.5,) * 3


@pytest.fixture(scope="module")
def vit():
    return foreign.randomised(ARCHITECTURES["vit_micro"].build(size=96, trained_size=96))


def zeros(*names):
    return {name: torch.zeros(2) for name in names}


FILES = {
    "MAE with its decoder": (
        lambda state: {"model": state | zeros("mask_token", "decoder_blocks.0.norm1.weight", "decoder_norm.bias")},
        IMAGENET_MEAN,
    ),
    "MiDaS": (
        lambda state: (
            prefixed("pretrained.model.", state | zeros("head.weight"))
            | zeros("scratch.layer1_rn.weight", "pretrained.act_postprocess1.3.weight")
        ),
        HALF,
    ),
    "classifier of timm": (lambda state: state | zeros("head.weight", "head.bias"), HALF),
}
"""What each kind of file holds, and the mean of its images."""


@pytest.mark.parametrize("kind", FILES)
def test_a_named_vit_is_that_of_the_file(tmp_path, vit, kind):
    contents, mean = FILES[kind]
    torch.save(contents(vit.state_dict()), tmp_path / "a.pth")
    backbone = load_file(tmp_path / "a.pth", arch="vit_micro")
    assert (backbone.preprocessing.mean, backbone.preprocessing.size) == (mean, (96, 96))
    assert any("dropped" in note for note in backbone.origin.notes)
    rebuilt = VIT["vit_micro"].build(**backbone.origin.options)
    rebuilt.load_state_dict(backbone.model.state_dict())
    images = torch.rand(2, 3, 64, 112)
    assert torch.equal(rebuilt.eval()(images), vit(images))
    assert load_file(tmp_path / "a.pth", arch="vit_micro@64x112").preprocessing.size == (64, 112)


SIZES = {"hidden_size": 64, "num_hidden_layers": 12, "num_attention_heads": 1, "intermediate_size": 256}
SIZES |= {"image_size": 96, "patch_size": 16}
NECK = {"backbone_out_indices": [2, 5, 8, 11], "neck_hidden_sizes": [8, 8, 8, 8], "fusion_hidden_size": 8}


@pytest.mark.parametrize("name", ["DPT", "ViTMAE"])
def test_a_folder_of_transformers_is_a_named_vit(tmp_path, name):
    transformers = pytest.importorskip("transformers")
    if name == "DPT":
        theirs = transformers.DPTForDepthEstimation(transformers.DPTConfig(**SIZES, **NECK, is_hybrid=False))
        encoder, mean = theirs.dpt, HALF
    else:
        theirs = transformers.ViTMAEModel(transformers.ViTMAEConfig(**SIZES, mask_ratio=0.0))
        encoder, mean = theirs, IMAGENET_MEAN
    foreign.randomised(theirs).save_pretrained(tmp_path)
    backbone = load_file(tmp_path, arch="vit_micro")
    assert backbone.preprocessing.mean == pytest.approx(mean)
    images = torch.rand(1, 3, 96, 96)
    inputs = {"noise": torch.arange(36.0)[None]} if name == "ViTMAE" else {}  # keeps the patches in their order
    with torch.no_grad():
        tokens = encoder(images, **inputs).last_hidden_state
        torch.testing.assert_close(backbone.model.forward_features(images), tokens, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("Dinov2", {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}),
        ("Hiera", {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1], "image_size": [64, 64]}),
        ("FocalNet", {"embed_dim": 8, "depths": [1, 1, 1, 1]}),
        ("Swinv2", {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1], "window_size": 7}),
    ],
)
def test_a_folder_without_a_processor_is_normalised_as_the_published_models_of_its_type(tmp_path, name, sizes):
    """Of sizes that timm has no definition of, so that transformers builds it, whose default processor has others."""
    transformers = pytest.importorskip("transformers")
    model = getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**sizes))
    model.save_pretrained(tmp_path)
    assert load_file(tmp_path).preprocessing.mean == IMAGENET_MEAN


@pytest.mark.parametrize(
    ("change", "arch", "message"),
    [
        (lambda state: state, "vit_small", "expected vit_small, whose blocks.0.attn.proj.bias is"),
        (lambda state: state, "vit_micro@60", "expected an input size of multiples of 16, found"),
        (lambda state: state | zeros("dist_token"), "vit_micro", "missing, found .* and 0 more differences"),
        (lambda state: state | {"pos_embed": torch.zeros(1, 36, 64)}, "vit_micro", "a class token and of a square"),
        (lambda state: zeros("fc.weight"), "vit_micro", "expected a ViT in the names of timm or transformers"),
    ],
)
def test_another_encoder_is_refused(tmp_path, vit, change, arch, message):
    torch.save(change(vit.state_dict()), tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=message):
        load_file(tmp_path / "a.pth", arch=arch)
