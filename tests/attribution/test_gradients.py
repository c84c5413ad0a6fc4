"""Gradients of activations leave no trace, and belong to what the layer put out."""

from typing import NamedTuple

import pytest
import timm
import torch
from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from cka_probe.attribution.gradients import gradients
from cka_probe.errors import LayerError
from cka_probe.models.recording import Place


class Net(nn.Module):
    """A batch norm before an in-place ReLU, a sum in place, and layers that run never, twice or for nothing."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.act = nn.ReLU(inplace=True)
        self.residual = nn.Conv2d(4, 4, 1)
        self.pair = nn.LSTM(4, 4, batch_first=True)
        self.shared = nn.Identity()
        self.aside = nn.Conv2d(4, 2, 1)
        self.unused = nn.Linear(1, 1)
        self.head = nn.Linear(4, 5)

    def forward(self, images):
        x = self.act(self.norm(self.conv(images)))
        y = self.residual(x)
        y += self.shared(self.shared(x))
        self.aside(y)
        return self.head(self.pair(y.flatten(2).mT)[0].mean(1))


def first_logits(output):
    return (output[:, 0], output[:, 1] * 2)


def both(activation, gradient):
    return activation.clone(), gradient.clone()


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = Net()
    net(torch.rand(4, 3, 6, 6))
    net.conv.weight.grad = torch.ones_like(net.conv.weight)
    net.norm.eval()
    net.head.bias.requires_grad_(False)
    return net


@pytest.fixture
def images():
    return torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(1))


def trace(net):
    hooks = sum(len(m._forward_hooks) + len(m._backward_hooks) + len(m._forward_pre_hooks) for m in net.modules())
    parameters = [(p.requires_grad, None if p.grad is None else p.grad.clone()) for p in net.parameters()]
    buffers = [buffer.clone() for buffer in net.buffers()]
    return hooks, [m.training for m in net.modules()], parameters, buffers


def assert_same_trace(before, after):
    assert before[:2] == after[:2]
    for (required, grad), (required_now, grad_now) in zip(before[2], after[2], strict=True):
        assert required == required_now
        assert (grad is None and grad_now is None) or torch.equal(grad, grad_now)
    assert all(torch.equal(a, b) for a, b in zip(before[3], after[3], strict=True))


def by_differences(net, images, name, place, score, step=1e-5):
    """Return dS/dA at one place, by central differences of a network in double precision."""
    values = []
    for sign in (1, -1):

        def moved(_module, _inputs, output, sign=sign):
            shifted = output.clone()
            shifted[place] += sign * step
            return shifted

        handle = net.get_submodule(name).register_forward_hook(moved)
        with torch.no_grad():
            values.append(score(net(images)))
        handle.remove()
    return (values[0] - values[1]) / (2 * step)


@pytest.mark.parametrize("name", ["conv", "norm", "act", "residual"])
def test_a_gradient_is_the_limit_of_differences_whatever_happens_in_place_afterwards(net, images, name):
    net, images = net.double().eval(), images.double()
    _, rows = gradients(net, images, name, first_logits, both)
    for place in [(0, 0, 2, 3), (1, 2, 0, 5), (1, 3, 4, 4)]:
        for row, (_, gradient) in enumerate(rows):
            expected = by_differences(net, images, name, place, lambda output, row=row: first_logits(output)[row].sum())
            torch.testing.assert_close(gradient[place], expected, rtol=1e-6, atol=1e-9)


def test_the_activation_is_what_the_layer_put_out_and_not_what_became_of_it(net, images):
    (norm, _), (act, _) = (
        gradients(net, images, name, lambda output: (output.sum(1),), both)[1][0] for name in ("norm", "act")
    )
    assert norm.min() < 0
    torch.testing.assert_close(act, norm.clamp_min(0))


def test_the_first_of_several_outputs_is_the_activation_and_the_others_go_on(net, images):
    net.eval()
    _, [(activation, gradient)] = gradients(net, images, "pair", lambda output: (output[:, 0],), both)
    assert activation.shape == (2, 36, 4)
    torch.testing.assert_close(gradient, (net.head.weight[0] / 36).expand(2, 36, 4))


class Several(NamedTuple):
    first: torch.Tensor
    second: torch.Tensor


@pytest.mark.parametrize(
    "several",
    [
        lambda x: (x, 2 * x),
        lambda x: [x, 2 * x],
        lambda x: Several(x, 2 * x),
        lambda x: {"first": x, "second": 2 * x},
        lambda x: BaseModelOutputWithPooling(last_hidden_state=x, pooler_output=2 * x),
    ],
    ids=["tuple", "list", "named tuple", "dict", "transformers"],
)
def test_an_output_of_several_keeps_its_kind_and_all_but_its_activation(several, images):
    class Inner(nn.Module):
        def forward(self, x):
            return several(x)

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Inner()

        def forward(self, x):
            output = self.inner(x)
            assert type(output) is type(several(x))
            first, second = output.values() if hasattr(output, "values") else output
            attribute = getattr(output, "last_hidden_state", first)
            return (3 * attribute + 10 * second).flatten(1)

    _, [(activation, gradient)] = gradients(Outer(), images, "inner", lambda output: (output.sum(1),), both)
    assert torch.equal(activation, images)
    assert torch.equal(gradient, torch.full_like(images, 3))


def test_nothing_is_left_behind(net, images):
    before = trace(net)
    gradients(net, images, "norm", first_logits, both)
    assert_same_trace(before, trace(net))


def test_nothing_is_left_behind_by_a_failure(net, images):
    before = trace(net)

    def fails(*_):
        raise ZeroDivisionError

    for options in ({"scores": fails, "keep": both}, {"scores": first_logits, "keep": fails}):
        with pytest.raises(ZeroDivisionError):
            gradients(net, images, "norm", **options)
        assert_same_trace(before, trace(net))
    with pytest.raises(LayerError):
        gradients(net, images, "shared", first_logits, both)
    assert_same_trace(before, trace(net))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_works_where_gradients_are_off_and_leaves_them_off(net, images, mode):
    _, expected = gradients(net, images, "norm", first_logits, both)
    with mode():
        images = images.clone()  # of inference mode, there
        _, found = gradients(net, images, "norm", first_logits, both)
        assert not torch.is_grad_enabled()
        assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode)
    torch.testing.assert_close(found, expected)


def test_a_frozen_network_has_the_same_gradients(net, images):
    _, expected = gradients(net, images, "conv", first_logits, both)
    _, found = gradients(net.requires_grad_(False), images, "conv", first_logits, both)
    torch.testing.assert_close(found, expected)


def test_parts_that_are_run_again_for_their_gradients_have_the_same():
    torch.manual_seed(0)
    network = timm.create_model("resnet18", num_classes=4, zero_init_last=False)
    images = torch.rand(2, 3, 32, 32)
    found = []
    for recomputing in (False, True):
        network.train().set_grad_checkpointing(recomputing)
        found.append(gradients(network, images, "layer1.0.bn2", first_logits, both))
    assert found[0][1][0][1].abs().max() > 0
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("shared", "layer 'shared' runs more than once in a forward pass; name one of its calls, shared#1"),
        ("unused", "layer 'unused' never ran in the forward pass; name a layer that the model uses"),
        ("aside", "layer 'aside' does not affect the score: no gradient reaches it"),
    ],
)
def test_a_layer_without_a_gradient_is_told_why(net, images, name, message):
    with pytest.raises(LayerError, match=message):
        gradients(net, images, name, first_logits, both)


def test_a_call_of_a_layer_that_runs_twice_has_its_own_gradient(net, images):
    _, [(first, whole)] = gradients(net, images, "shared#1", lambda output: (output.sum(1),), both)
    _, [(second, same)] = gradients(net, images, "shared#2", lambda output: (output.sum(1),), both)
    assert torch.equal(first, second)
    assert torch.equal(whole, same)
    with pytest.raises(LayerError, match="layer 'shared#3' never ran"):
        gradients(net, images, "shared#3", first_logits, both)


def test_examples_on_the_second_axis_come_first(images):
    class TokensFirst(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens = nn.Identity()

        def forward(self, images):
            tokens = self.tokens(images.flatten(2).permute(2, 0, 1))  # (L, n, C)
            return (tokens * torch.arange(3)).sum((0, 2))

    _, [(activation, gradient)] = gradients(
        TokensFirst(), images, "tokens", lambda output: (output,), both, place=Place(1)
    )
    assert torch.equal(activation, images.flatten(2).mT)
    assert torch.equal(gradient, torch.arange(3.0).expand(2, 36, 3))


def test_a_network_that_runs_without_gradients_is_told(net, images):
    with pytest.raises(LayerError, match=r"'norm' does not affect the score.*runs without gradients"):
        gradients(net, images, "norm", first_logits, both, run=torch.no_grad()(net))


def test_scores_are_a_number_for_each_image(net, images):
    with pytest.raises(LayerError, match=r"expected a score as float tensor \(2,\).* found torch.float32 \(\)"):
        gradients(net, images, "norm", lambda output: (output.sum(),), both)
    with pytest.raises(LayerError, match=r"expected a score .* found float"):
        gradients(net, images, "norm", lambda output: (3.0,), both)


def test_weights_made_in_inference_mode_are_told(images):
    with torch.inference_mode():
        net = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten())
    with pytest.raises(LayerError, match=r"weight '0.weight' was made inside torch.inference_mode\(\)"):
        gradients(net, images, "0", first_logits, both)
