"""Channels and positions of an activation: found where they are certain, refused where they are not."""

import pytest
import timm
import torch
import torchvision
from torch import nn

from cka_probe import grad_cam
from cka_probe.attribution.layouts import Layout, check_layout, infer_layout, parse_layout
from cka_probe.errors import LayerError
from cka_probe.models.load import random_backbone


def weighted_sum(output):
    return (output * torch.linspace(-1, 1, output.shape[-1])).sum(-1)


def owner(module=None, **said):
    model = nn.Module()
    model.layer = module or nn.Identity()
    for name, value in said.items():
        setattr(model, name, value)
    return model


@pytest.mark.parametrize(
    ("shape", "pixels", "model", "expected"),
    [
        ((2, 64, 16, 24), (64, 96), owner(), Layout("NCHW")),
        ((2, 16, 24, 64), (64, 96), owner(), Layout("NHWC")),
        ((2, 16, 16, 16), (64, 64), owner(nn.Conv2d(1, 16, 1)), Layout("NCHW")),
        ((2, 16, 16, 16), (64, 64), owner(nn.LayerNorm(16)), Layout("NHWC")),
        ((2, 16, 16, 16), (64, 64), owner(output_fmt="NHWC"), Layout("NHWC")),
        ((2, 16, 16, 16), (64, 64), owner(other=nn.Conv2d(1, 1, 1)), Layout("NCHW")),
        ((2, 24, 8), (64, 96), owner(), Layout("NLC", (4, 6))),
        ((2, 25, 8), (64, 96), owner(), Layout("NLC", (4, 6))),
        ((2, 29, 8), (64, 96), owner(), Layout("NLC", (4, 6))),
        ((2, 4, 8), (64, 64), owner(output_fmt="NHWC"), Layout("NLC", (2, 2))),
        ((2, 5, 8), (64, 64), owner(num_prefix_tokens=1), Layout("NLC", (2, 2))),
    ],
)
def test_a_layout_that_is_certain_is_found(shape, pixels, model, expected):
    assert infer_layout(shape, pixels, "layer", model) == expected


@pytest.mark.parametrize(
    ("shape", "pixels", "message"),
    [
        ((2, 16, 16, 16), (64, 64), "cannot tell the channels.*say which it is, layer@NCHW or layer@NHWC"),
        ((2, 4, 8), (64, 64), "cannot tell how the 4 tokens.*2x2 or 1x1.* layer@2x2"),
        ((2, 40, 8), (64, 64), "grids that fit: none.* layer@14x14"),
        ((2, 8), (64, 64), "has no positions in the image; name a layer before pooling"),
        ((2, 8, 4, 4, 4), (64, 64), "has no positions in the image"),
    ],
)
def test_what_is_not_certain_is_refused_with_what_to_say(shape, pixels, message):
    with pytest.raises(LayerError, match=message):
        infer_layout(shape, pixels, "layer", owner())


def test_what_a_user_says_is_taken_and_checked():
    check_layout(parse_layout("NHWC"), (2, 16, 16, 16), "layer", nn.Identity())
    check_layout(parse_layout("4x6"), (2, 25, 8), "layer", nn.Identity())
    assert parse_layout("4x6") == Layout("NLC", (4, 6))
    for word in ("CHW", "4x0", "4"):
        with pytest.raises(LayerError, match="expected a layout NCHW, NHWC or a grid of tokens such as 14x14, found"):
            parse_layout(word)
    for word, shape, module in [
        ("5x6", (2, 25, 8), nn.Identity()),
        ("NCHW", (2, 25, 8), nn.Identity()),
        ("4x6", (2, 8, 4, 6), nn.Identity()),
        ("NHWC", (2, 8, 4, 6), nn.Conv2d(1, 8, 1)),
    ]:
        with pytest.raises(LayerError, match=rf"which is not laid out as {word}; write layer alone"):
            check_layout(parse_layout(word), shape, "layer", module)


def test_cells_come_row_by_row_and_after_what_is_no_cell():
    activation = torch.arange(2 * 9 * 5).view(2, 9, 5)
    laid = Layout("NLC", (2, 3)).map(activation)
    assert laid.shape == (2, 5, 2, 3)
    assert torch.equal(laid[1, 4, 1, 2], activation[1, 8, 4])
    assert torch.equal(laid[0, 2, 0, 1], activation[0, 4, 2])


@pytest.mark.parametrize("before", [1, 5], ids=["class token", "class token and 4 registers"])
def test_tokens_give_what_the_rest_of_the_transformer_gives_from_them(before):
    torch.manual_seed(0)
    model = timm.models.VisionTransformer(
        img_size=(28, 42), patch_size=14, embed_dim=16, depth=3, num_heads=2, num_classes=4, reg_tokens=before - 1
    ).eval()
    images = torch.rand(2, 3, 28, 42)
    maps = grad_cam(model, images, "blocks.1", "class:2")

    tokens = model.norm_pre(model._pos_embed(model.patch_embed(images)))
    for block in model.blocks[:2]:
        tokens = block(tokens)
    tokens = tokens.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(model.forward_head(model.norm(model.blocks[2](tokens)))[:, 2].sum(), tokens)
    assert tokens.shape[1] == before + 6
    alpha = gradient[:, before:].mean(1)
    expected = (tokens.detach()[:, before:] * alpha[:, None]).sum(-1).view(2, 2, 3)
    assert expected.abs().max() > 0
    torch.testing.assert_close(maps.signed, expected, rtol=1e-5, atol=1e-8)


def test_a_dinov2_is_mapped_at_any_size_and_is_empty_behind_its_last_attention():
    model, images = random_backbone("dinov2_micro"), torch.rand(2, 3, 56, 84)
    for layer in ("patch_embed", "blocks.3", 4):
        assert grad_cam(model, images, layer, weighted_sum).signed.shape == (2, 4, 6)
    last = grad_cam(model, images, "blocks.11", weighted_sum)  # the class token alone is read
    assert last.empty.tolist() == [True, True]
    strength = grad_cam(model, images, "blocks.11", "none")
    assert not strength.empty.any()
    tokens = model.model.forward_features(model.preprocessing.normalise(images)).detach()
    assert tokens.shape == (2, 25, 64)
    torch.testing.assert_close(
        grad_cam(model, images, "norm", "none").signed, tokens[:, 1:].square().mean(-1).sqrt().view(2, 4, 6)
    )


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
def test_the_first_layer_is_the_relu_before_the_pooling_or_the_patch_embedding(build, expected):
    model = build()
    size = 56 if expected == "patch_embed" and "Vision" in type(model.model).__name__ else 64
    assert grad_cam(model, torch.rand(1, 3, size, size), target="none").layer == expected


def test_a_network_without_a_first_layer_is_told():
    with pytest.raises(LayerError, match=r"no ReLU that runs once and no patch embedding.*name one"):
        grad_cam(nn.Sequential(nn.Conv2d(3, 4, 3)), torch.rand(1, 3, 8, 8), target="none")
