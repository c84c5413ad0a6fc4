"""Batch norms folded into convolutions: the same outputs, and every module as it was."""

import pytest
import timm
import torch
from torch import nn

from cka_probe.models.folding import fast_convolutions, find_folds

IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def randomised(name):
    torch.manual_seed(0)
    net = timm.create_model(name, num_classes=5).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
            for tensor in (module.bias, module.running_mean):
                nn.init.normal_(tensor, std=0.1)
    return net


@pytest.mark.parametrize("name", ["resnet10t", "efficientnet_lite0", "mobilenetv3_small_050", "regnetx_002"])
@torch.no_grad()
def test_outputs_are_equal_and_the_model_is_unchanged(name):
    net = randomised(name)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    expected = net(IMAGES)
    folds = find_folds(net, ())
    assert len(folds) == sum(isinstance(module, nn.BatchNorm2d) for module in net.modules())
    with fast_convolutions(net, folds):
        outputs = net(IMAGES)
        assert "forward" in vars(folds[0].convolution)
    torch.testing.assert_close(outputs, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(RuntimeError), fast_convolutions(net, folds):
        net(IMAGES[:, :2])
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert torch.equal(net(IMAGES), expected)


def test_a_convolution_that_is_recorded_is_not_folded():
    net = randomised("resnet18")
    assert len(find_folds(net, ())) == 20
    names = [fold.convolution for fold in find_folds(net, ["layer1.0.conv1"])]
    assert len(names) == 19
    assert net.layer1[0].conv1 not in names
    assert len(find_folds(net, ["layer1.0.conv1#1"])) == 19
    assert len(find_folds(net.half(), ())) == 0


def test_a_convolution_whose_output_is_that_of_a_recorded_layer_is_not_folded():
    net = randomised("resnet10t")  # `conv1` ends in the convolution that `bn1` reads
    everything = len(find_folds(net, ["layer1.0", "bn1"]))
    folds = find_folds(net, ["conv1"])
    assert len(folds) == everything - 1
    assert net.conv1[-1] not in [fold.convolution for fold in folds]


def test_a_model_with_hooks_or_another_forward_has_no_folds():
    net = randomised("resnet18")
    hook = net.layer1.register_forward_hook(lambda *_: None)
    assert find_folds(net, ()) == []
    hook.remove()
    net.forward = lambda images: net.layer1(net.maxpool(net.conv1(images)))
    assert find_folds(net, ()) == []


def test_models_that_cannot_be_traced_or_are_a_users_own_have_no_folds():
    assert find_folds(timm.create_model("swinv2_cr_tiny_ns_224"), ()) == []
    assert find_folds(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), ()) == []
