"""Monodepth2's folder: every tensor of its decoder in its place, what that computes, and stages that begin with it."""

import pytest
import torch
from helpers import foreign
from torch import nn
from torch.nn.functional import elu, interpolate, pad

from cka_probe.errors import CheckpointError, RecipeError
from cka_probe.lab.tasks.decoders import at_scales
from cka_probe.lab.tasks.disparity import DisparityHead, read_monodepth2_decoder
from cka_probe.lab.tasks.lidar import Lidar
from cka_probe.lab.training.recipe import recipe_of
from cka_probe.lab.training.start import begin, fill, reference

CHANNELS = (64, 64, 128, 256, 512)  # of a ResNet-18's maps, fine to coarse
WIDTHS = (16, 32, 64, 128, 256)


class Convolution(nn.Module):
    """The original's convolution: mirrored border, in a module of its own."""

    def __init__(self, before, after):
        super().__init__()
        self.conv = nn.Conv2d(before, after, 3)

    def forward(self, x):
        return self.conv(pad(x, (1,) * 4, mode="reflect"))


class Block(nn.Module):
    def __init__(self, before, after):
        super().__init__()
        self.conv = Convolution(before, after)

    def forward(self, x):
        return elu(self.conv(x))


class TheirDecoder(nn.Module):
    """The original by its description: a list of ten blocks and four outputs, read by number."""

    def __init__(self):
        super().__init__()
        layers = []
        for i in range(4, -1, -1):
            before = CHANNELS[-1] if i == 4 else WIDTHS[i + 1]
            layers += [Block(before, WIDTHS[i]), Block(WIDTHS[i] + (CHANNELS[i - 1] if i else 0), WIDTHS[i])]
        self.decoder = nn.ModuleList([*layers, *(Convolution(WIDTHS[s], 1) for s in range(4))])

    def forward(self, features):
        x, sigmas = features[-1], {}
        for i in range(4, -1, -1):
            x = interpolate(self.decoder[2 * (4 - i)](x), scale_factor=2, mode="nearest")
            x = self.decoder[2 * (4 - i) + 1](torch.cat([x, features[i - 1]], 1) if i else x)
            if i < 4:
                sigmas[2**i] = self.decoder[10 + i](x).sigmoid()
        return sigmas


@pytest.fixture
def folder(tmp_path):
    """Return a folder as published, and the decoder in it."""
    torch.manual_seed(1)
    theirs = TheirDecoder()
    path = foreign.monodepth2(tmp_path / "weights_19", foreign.resnet(), height=64, width=96)
    torch.save(theirs.state_dict(), path / "depth.pth")
    return path, theirs


def recipe_for(path, task="lidar", **more):
    stage = {"task": task, "data": ["scenes:streets"], "steps": 1, "batch": 2, "lr": 1e-4, "start": str(path)} | more
    return recipe_of({"name": "t", "architecture": "resnet18", "size": [64, 96], "stages": {"depth": stage}})


def test_the_decoder_computes_what_theirs_does(folder):
    path, theirs = folder
    state = read_monodepth2_decoder(path)
    assert state.keys() == read_monodepth2_decoder(path / "depth.pth").keys()
    head = DisparityHead([(c, 2 ** (i + 1)) for i, c in enumerate(CHANNELS)])
    head.load_state_dict(state)
    generator = torch.Generator().manual_seed(0)
    features = [
        torch.randn(2, c, 64 // 2 ** (i + 1), 96 // 2 ** (i + 1), generator=generator) for i, c in enumerate(CHANNELS)
    ]
    with torch.no_grad():
        found, expected = head(features), theirs(features)
    assert found.keys() == expected.keys()
    for stride, sigma in found.items():
        torch.testing.assert_close(sigma, expected[stride], atol=1e-5, rtol=1e-5)
    assert at_scales(head.to_disparity, head.decoder(features))[1].shape == (2, 1, 64, 96)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["lidar", "monodepth"])
def test_a_stage_goes_on_with_encoder_and_decoder(folder, tmp_path, task):
    path, theirs = folder
    recipe = recipe_for(path, task)
    stage = recipe.stages[0]
    assert reference(recipe, stage) == str(path)
    start = begin(recipe, stage, tmp_path)
    assert start.backbone.preprocessing.mean == (0.45,) * 3
    assert start.backbone.preprocessing.size == (64, 96)
    torch.manual_seed(0)
    head = stage.build_task().head(start.backbone)
    before = {name: value.clone() for name, value in head.state_dict().items()}
    fill(head, start.head_state, start.prefixes)
    theirs = list(theirs.state_dict().values())
    ours = read_monodepth2_decoder(path)
    assert len(ours) == len(theirs) == 28
    for name, value in head.state_dict().items():
        assert torch.equal(value, ours.get(name, before[name])), name
    assert begin(recipe, stage, tmp_path).parent == start.parent
    state = torch.load(path / "depth.pth", weights_only=True)
    torch.save({name: value + 1 for name, value in state.items()}, path / "depth.pth")
    assert begin(recipe, stage, tmp_path).parent != start.parent, "other weights have another hash"


def test_without_its_folder_or_with_a_new_head_only_the_encoder_is_taken(folder, tmp_path):
    path, _ = folder
    for recipe in (recipe_for(path / "encoder.pth"), recipe_for(path, reset_head=True)):
        assert begin(recipe, recipe.stages[0], tmp_path).head_state == {}
    (path / "depth.pth").unlink()
    recipe = recipe_for(path)
    assert begin(recipe, recipe.stages[0], tmp_path).head_state == {}


def test_a_task_that_learns_something_else_does_not_take_the_decoder(folder, tmp_path):
    recipe = recipe_for(folder[0], "depth")
    assert begin(recipe, recipe.stages[0], tmp_path).head_state == {}


def test_what_is_not_their_decoder_is_refused(folder, tmp_path):
    _, theirs = folder
    state = theirs.state_dict()
    torch.save({name: value for name, value in state.items() if "decoder.13" not in name}, tmp_path / "less.pth")
    with pytest.raises(
        CheckpointError, match=r"expected the 28 tensors.*2 missing, the first is decoder\.13\.conv\.bias"
    ):
        read_monodepth2_decoder(tmp_path / "less.pth")
    torch.save(state | {"decoder.14.conv.weight": torch.zeros(1)}, tmp_path / "more.pth")
    with pytest.raises(CheckpointError, match=r"1 unexpected, the first is decoder\.14\.conv\.weight"):
        read_monodepth2_decoder(tmp_path / "more.pth")
    with pytest.raises(CheckpointError, match="found no such file"):
        read_monodepth2_decoder(tmp_path / "none.pth")
    empty = tmp_path / "empty"
    empty.mkdir()
    recipe = recipe_for(empty)
    with pytest.raises(RecipeError, match=r"stages.depth.start: expected random or a file \(of Monodepth2 the folder"):
        reference(recipe, recipe.stages[0])


def test_a_decoder_for_another_encoder_is_refused_when_it_is_put_in(folder):
    path, _ = folder
    wide = DisparityHead([(c * (4 if i else 1), 2 ** (i + 1)) for i, c in enumerate(CHANNELS)])
    with pytest.raises(RecipeError, match="expected the head of the previous stage to fit"):
        fill(wide, read_monodepth2_decoder(path), Lidar.carries)
