"""Layouts: inferred where they are certain, an error where they are not."""

import pytest
import torch
from torch import nn

from cka_probe.errors import LayerError
from cka_probe.models.layouts import Layout, check_layout, infer_layout, parse_layout


def network(module=None, **declared):
    model = nn.Module()
    model.layer = module or nn.Identity()
    for name, value in declared.items():
        setattr(model, name, value)
    return model


@pytest.mark.parametrize(
    ("shape", "pixels", "model", "expected"),
    [
        ((2, 64, 16, 24), (64, 96), network(), Layout("NCHW")),
        ((2, 16, 24, 64), (64, 96), network(), Layout("NHWC")),
        ((2, 16, 16, 16), (64, 64), network(nn.Conv2d(1, 16, 1)), Layout("NCHW")),
        ((2, 16, 16, 16), (64, 64), network(nn.LayerNorm(16)), Layout("NHWC")),
        ((2, 16, 16, 16), (64, 64), network(output_fmt="NHWC"), Layout("NHWC")),
        ((2, 16, 16, 16), (64, 64), network(other=nn.Conv2d(1, 1, 1)), Layout("NCHW")),
        ((2, 24, 8), (64, 96), network(), Layout("NLC", (4, 6))),
        ((2, 25, 8), (64, 96), network(), Layout("NLC", (4, 6))),
        ((2, 29, 8), (64, 96), network(), Layout("NLC", (4, 6))),
        ((2, 4, 8), (64, 64), network(output_fmt="NHWC"), Layout("NLC", (2, 2))),
        ((2, 5, 8), (64, 64), network(num_prefix_tokens=1), Layout("NLC", (2, 2))),
    ],
)
def test_a_certain_layout_is_inferred(shape, pixels, model, expected):
    assert infer_layout(shape, pixels, "layer", model) == expected


@pytest.mark.parametrize(
    ("shape", "pixels", "message"),
    [
        ((2, 16, 16, 16), (64, 64), "cannot tell the channels.*write layer@NCHW or layer@NHWC"),
        ((2, 4, 8), (64, 64), "cannot tell the grid of the 4 tokens.*2x2 or 1x1.* layer@2x2"),
        ((2, 40, 8), (64, 64), "possible: none.* layer@14x14"),
        ((2, 8), (64, 64), "has no positions in the image; name a layer before pooling"),
        ((2, 8, 4, 4, 4), (64, 64), "has no positions in the image"),
    ],
)
def test_an_ambiguous_layout_is_an_error_that_names_the_choices(shape, pixels, message):
    with pytest.raises(LayerError, match=message):
        infer_layout(shape, pixels, "layer", network())


def test_a_layout_from_the_user_is_parsed_and_checked():
    check_layout(parse_layout("NHWC"), (2, 16, 16, 16), "layer", nn.Identity())
    check_layout(parse_layout("4x6"), (2, 25, 8), "layer", nn.Identity())
    assert parse_layout("4x6") == Layout("NLC", (4, 6))
    for word in ("CHW", "4x0", "4"):
        with pytest.raises(LayerError, match="expected a layout NCHW, NHWC or a grid of patches such as 14x14, found"):
            parse_layout(word)
    for word, shape, module in [
        ("5x6", (2, 25, 8), nn.Identity()),
        ("NCHW", (2, 25, 8), nn.Identity()),
        ("4x6", (2, 8, 4, 6), nn.Identity()),
        ("NHWC", (2, 8, 4, 6), nn.Conv2d(1, 8, 1)),
    ]:
        with pytest.raises(LayerError, match=rf"which cannot have the layout {word}; write layer alone"):
            check_layout(parse_layout(word), shape, "layer", module)


def test_patches_are_row_by_row_and_after_the_prefix_tokens():
    activation = torch.arange(2 * 9 * 5).view(2, 9, 5)
    feature_map = Layout("NLC", (2, 3)).feature_map(activation)
    assert feature_map.shape == (2, 5, 2, 3)
    assert torch.equal(feature_map[1, 4, 1, 2], activation[1, 8, 4])
    assert torch.equal(feature_map[0, 2, 0, 1], activation[0, 4, 2])
