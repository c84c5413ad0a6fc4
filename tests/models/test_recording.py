"""Recording leaves no trace, and records what the layer put out."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from cka_probe.errors import LayerError, ModelError
from cka_probe.models.devices import full_float32
from cka_probe.models.recording import Place, probe, record, trace_calls


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.act = nn.ReLU(inplace=True)
        self.shared = nn.Identity()
        self.pair = nn.ModuleList([nn.Flatten(), nn.Flatten()])
        self.unused = nn.Linear(1, 1)
        self.head = nn.LazyLinear(5)

    def forward(self, images):
        x = self.shared(self.act(self.norm(self.conv(images))))
        return self.head(self.pair[0](self.shared(x)))


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = Net()
    net(torch.rand(2, 3, 6, 6))
    return net.train()


@pytest.fixture
def images():
    return torch.rand(5, 3, 6, 6, generator=torch.Generator().manual_seed(1))


def clone(_, activation):
    return activation.clone()


def hooks(net):
    return sum(len(module._forward_hooks) for module in net.modules())


def test_an_in_place_operation_after_the_layer_changes_nothing(net, images):
    norm, act = record(net, images, ["norm", "act"], clone)
    assert norm.min() < 0
    torch.testing.assert_close(act, norm.clamp_min(0))


def test_modes_gradients_and_hooks_are_as_before(net, images):
    net.norm.eval()
    statistics = net.norm.running_mean.clone()
    (out,) = record(net, images, ["head"], clone)
    assert (net.training, net.conv.training, net.norm.training) == (True, True, False)
    assert hooks(net) == 0
    assert not out.requires_grad
    assert torch.equal(net.norm.running_mean, statistics)


def test_order_is_that_of_the_request_and_not_of_the_pass(net, images):
    forwards = record(net, images, ["conv", "head"], lambda name, _: name)
    backwards = record(net, images, ["head", "conv"], lambda name, _: name)
    assert (forwards, backwards) == (["conv", "head"], ["head", "conv"])


def test_the_pass_stops_after_the_last_wanted_layer(net, images):
    ran = []
    net.head.register_forward_hook(lambda *_: ran.append("head"))
    record(net, images, ["conv", "norm"], clone)
    assert ran == []
    record(net, images, ["conv", "norm"], clone, stop=False)
    assert ran == ["head"]


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        (["unused"], "'unused' never ran in the forward pass"),
        (["shared"], "'shared' runs more than once"),
    ],
)
def test_layers_that_run_never_or_twice(net, images, modules, message):
    with pytest.raises(LayerError, match=message):
        record(net, images, modules, clone, stop=False)
    assert hooks(net) == 0


def test_hooks_are_gone_after_any_error(net, images):
    def fail(*_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        record(net, images, ["conv"], fail)
    with pytest.raises(AttributeError):
        record(net, images, ["conv", "nope"], clone)
    with pytest.raises(ModelError, match=r"the forward pass of Net failed in module 'conv': RuntimeError: "):
        record(net, images[:, :2], ["conv"], clone)
    assert hooks(net) == 0
    assert net.training


def test_windows_and_tokens_are_not_taken_for_images():
    net = nn.Sequential(nn.Flatten(0, 1), nn.Linear(4, 2))
    with pytest.raises(LayerError, match=r"puts out \(6, 4\) for 3 images; expected one activation per image"):
        record(net, torch.rand(3, 2, 4), ["0"], clone)


def test_outputs_that_wrap_a_tensor_are_opened():
    class Pair(nn.Module):
        def forward(self, x):
            return x + 1, "state"

    class Named(nn.Module):
        def forward(self, x):
            return {"last_hidden_state": x[0] * 2}

    net = nn.Sequential(Pair(), Named())
    assert record(net, torch.ones(4, 2), ["0", "1"], lambda _, a: float(a.mean())) == [2.0, 4.0]


def test_each_call_of_a_module_has_a_name(net, images):
    first, second = record(net, images, ["shared#1", "shared#2"], clone)
    torch.testing.assert_close(first, second)
    (again,) = record(net, images, ["shared#2"], clone)
    torch.testing.assert_close(again, second)
    assert record(net, images, ["conv#1"], clone)[0].shape == (5, 4, 4, 4)


@dataclass
class Output:
    cache: None
    indices: torch.Tensor
    states: tuple


class Wraps(nn.Module):
    def forward(self, x):
        return Output(None, x.argmax(1), (torch.zeros(7), x[None], x))


def test_the_first_tensor_with_one_entry_per_example_is_taken_from_any_output():
    net = nn.Sequential(Wraps())
    places = probe(net, torch.rand(8, 4)).places
    assert places == {"0#1": Place(axis=1, tensor=1)}
    assert record(net, torch.ones(8, 4), ["0"], lambda _, a: tuple(a.shape), places=places) == [(8, 1, 4)]


@pytest.mark.parametrize(
    ("net", "layer", "runs"),
    [
        (nn.Sequential(nn.ReLU(), nn.ReLU(True)), "0", 1),
        (nn.Sequential(nn.Unflatten(1, (4, 1, 1)), nn.UpsamplingNearest2d((3, 3))), "1", 1),  # (3, 4, 3, 3)
        (nn.Sequential(Wraps()), "0", 2),  # not on the first axis
        (nn.Sequential(nn.Linear(4, 3)), "0", 2),  # (3, 3): either axis may be that of the examples
    ],
)
def test_a_probe_runs_twice_if_in_doubt_and_keeps_the_activations_of_its_examples(net, layer, runs):
    inputs = torch.randn(8, 4)
    found = probe(net, inputs, keep=[layer])
    parts = [part for part, _ in found.parts]
    assert parts == [range(3), range(3, 5)][:runs]
    (activation,) = record(net, inputs[: parts[-1].stop], [layer], clone, places=found.places)
    assert torch.equal(torch.cat([found.activation(layer, number) for number in range(runs)]), activation)
    assert found.places == {layer + "#1": probe(net, inputs).places[layer + "#1"]}
    assert probe(net, inputs[:5], keep=[layer]).parts == probe(net, inputs).parts == ()


def test_a_layer_without_floats_is_named():
    class Labels(nn.Module):
        def forward(self, x):
            return x.argmax(1)

    with pytest.raises(LayerError, match=r"layer '0' puts out no float tensor"):
        record(nn.Sequential(Labels()), torch.rand(4, 2), ["0"], clone)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("convert", [torch.Tensor.to_sparse, lambda x: torch.nested.nested_tensor([*x])])
def test_a_sparse_or_nested_output_is_named(convert):
    class Converted(nn.Module):
        def forward(self, x):
            return convert(x)

    with pytest.raises(LayerError, match=r"layer '0' puts out no float tensor but a sparse or nested one of float32"):
        record(nn.Sequential(Converted()), torch.rand(4, 2), ["0"], clone)


def test_a_survey_counts_the_calls_of_every_module(net, images):
    seen = trace_calls(net, images)
    assert [call.shape for call in seen["conv"]] == [(5, 4, 4, 4)]
    assert len(seen["shared"]) == 2
    assert "unused" not in seen
    assert hooks(net) == 0


@pytest.mark.parametrize("before", [True, False])
def test_tf32_is_off_while_recording_on_a_gpu_and_as_before_afterwards(before):
    convolutions, products = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    try:
        torch.backends.cudnn.allow_tf32 = before
        torch.set_float32_matmul_precision("high" if before else "highest")
        with full_float32(torch.device("cuda")):
            assert not torch.backends.cudnn.allow_tf32
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.backends.cudnn.allow_tf32 == before
        assert torch.get_float32_matmul_precision() == ("high" if before else "highest")
    finally:
        torch.backends.cudnn.allow_tf32 = convolutions
        torch.set_float32_matmul_precision(products)
