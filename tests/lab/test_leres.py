"""LeReS's released files: their names, the function of their weights, and pseudo-depth from them."""

import pytest
import torch
import torch.nn.functional as F
from torchvision.models import resnet50

from cka_probe.errors import CheckpointError, DataError
from cka_probe.lab.leres import LeReS
from cka_probe.lab.pseudo_depth import open_source


def random_weights(seed=0):
    """Return random weights under the names of the released res50.pth, but for its prefixes."""
    torch.manual_seed(seed)
    encoder = {f"encoder_modules.encoder.{name}": value for name, value in resnet50().state_dict().items()}
    encoder = {name: value for name, value in encoder.items() if ".fc." not in name}
    decoder = LeReS("resnet50").decoder.state_dict()
    decoder = {f"decoder_modules.{name}": value.clone() for name, value in decoder.items()}
    for name, value in decoder.items():
        if name.endswith(("running_mean", "bias")):
            value.normal_(std=0.1)
        if name.endswith("running_var"):
            value.uniform_(0.5, 2)
    return encoder | decoder


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """A file in the released layout, and its weights."""
    weights = random_weights()
    path = tmp_path_factory.mktemp("leres") / "res50.pth"
    depth_model = {f"module.depth_model.{name}": value for name, value in weights.items()}
    torch.save({"depth_model": depth_model, "shift_model": {"module.weight": torch.ones(3)}}, path)
    return path, weights


def by_formula(weights, images):
    """Return depth from the weights by their names: torchvision's encoder, and a decoder of functions."""
    encoder = resnet50().eval()
    encoder.load_state_dict(
        {name.split("encoder.")[1]: value for name, value in weights.items() if "encoder_modules" in name}, strict=False
    )
    w = {name.removeprefix("decoder_modules."): value for name, value in weights.items()}
    x = encoder.maxpool(encoder.relu(encoder.bn1(encoder.conv1(images))))
    maps = []
    for stage in (encoder.layer1, encoder.layer2, encoder.layer3, encoder.layer4):
        x = stage(x)
        maps.append(x)

    def conv(x, name):
        return F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], padding=1)

    def norm(x, name):
        statistics = (w[f"{name}.{key}"] for key in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *statistics)

    def ftb(x, name):
        x = conv(x, f"{name}.conv1")
        branch = F.relu(x, inplace=True)  # as released: what is added to the branch changes too
        branch = norm(conv(branch, f"{name}.conv_branch.1"), f"{name}.conv_branch.2")
        return F.relu(x + conv(F.relu(branch), f"{name}.conv_branch.4"))

    def double(x):
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)

    x = double(conv(ftb(maps[3], "conv"), "conv1"))
    for number in (2, 1, 0):
        x = double(ftb(ftb(maps[number], f"ffm{number}.ftb1") + x, f"ffm{number}.ftb2"))
    x = F.relu(norm(conv(x, "outconv.adapt_conv.0"), "outconv.adapt_conv.1"))
    return double(conv(x, "outconv.adapt_conv.3"))


def test_a_released_file_is_the_function_of_its_weights(released):
    path, weights = released
    source = open_source(path, device="cpu")
    images = torch.rand(1, 3, 448, 448)  # of the network's size: nothing is scaled
    with torch.inference_mode():
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        expected = by_formula(weights, (images - mean) / std)[0, 0]
    assert expected.std() > 0
    (depth,) = source.depth(list(images))
    torch.testing.assert_close(depth, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    assert (source.note["source"], source.note["architecture"]) == ("leres", "resnet50")


def test_other_weights_are_refused(released, tmp_path):
    path, weights = released
    with pytest.raises(DataError, match="gives=depth: a checkpoint of ckaprobe or LeReS determines it"):
        open_source(path, gives="depth")
    weights = {name: value for name, value in weights.items() if "adapt_conv.3" not in name}
    torch.save({"depth_model": weights}, tmp_path / "broken.pth")
    with pytest.raises(CheckpointError, match=r"weights of LeReS with resnet50, found others .*adapt_conv\.3"):
        open_source(tmp_path / "broken.pth")
    weights = {name: value for name, value in weights.items() if ".layer3.5." not in name}
    torch.save({"depth_model": weights}, tmp_path / "resnet34.pth")
    with pytest.raises(CheckpointError, match="expected LeReS with resnext101_32x8d or resnet50, found another"):
        open_source(tmp_path / "resnet34.pth")


def test_the_large_network_has_the_names_of_its_encoder():
    from torchvision.models import resnext101_32x8d

    with torch.device("meta"):
        model, encoder = LeReS("resnext101_32x8d"), resnext101_32x8d()
    shapes = {name: value.shape for name, value in encoder.state_dict().items() if not name.startswith("fc.")}
    assert {name: value.shape for name, value in model.encoder.state_dict().items()} == shapes
