"""A monitor measures what `compare` measures, and a training run is the same with it and without."""

import random

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import cka_probe
from cka_probe.comparison.fingerprint import Fingerprint
from cka_probe.errors import CkaProbeError
from cka_probe.models.recording import own_forward
from cka_probe.monitoring.live import undisturbed
from cka_probe.monitoring.monitor import read_table
from ckaprobe_cli import app

LAYERS = ["0", "2", "6"]


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(16, 3),
    )  # fmt: skip


def images(n=16, seed=0):
    return torch.rand(n, 3, 12, 12, generator=torch.Generator().manual_seed(seed))


def monitor(net, out, **options):
    return cka_probe.DriftMonitor(net, images(), out=out, **{"layers": LAYERS, "batch": 8, "every": 2} | options)


def train(net, watch=None, steps=5, start=0, autocast=False):
    """Train with random images, dropout and random labels of NumPy and Python."""
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    torch.manual_seed(1), random.seed(1), np.random.seed(1)
    for step in range(start, start + steps):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            output = net(torch.rand(8, 3, 12, 12))
            if watch:
                watch.step(step)  # between forward and backward pass: nothing that these share may change
            labels = torch.from_numpy(np.random.randint(0, 2, 8)) + random.randint(0, 1)
            loss = nn.functional.cross_entropy(output.float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return {name: value.clone() for name, value in net.state_dict().items()}


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_is_the_same_with_a_monitor(tmp_path, autocast, precision):
    expected = train(network(), autocast=autocast)
    net = network()
    weights = train(net, monitor(net, tmp_path, every=1, precision=precision), autocast=autocast)
    assert all(torch.equal(value, expected[name]) for name, value in weights.items())
    assert all(module.training for module in net.modules())
    assert not any(module._forward_hooks or "forward" in vars(module) for module in net.modules())


def test_each_fingerprint_is_that_of_the_model_at_its_step(tmp_path):
    net = network()
    watch = monitor(net, tmp_path)
    expected = {}
    for step in range(4):
        train(net, steps=1)
        watch.step(step)
        if step % 2 == 0 or step == 3:
            expected[step] = cka_probe.fingerprint(net, images(), layers=LAYERS, batch=8)
    watch.finish()
    watch.finish()  # again, nothing
    paths = sorted((tmp_path / "fingerprints").iterdir())
    assert [path.name for path in paths] == [f"step-{step:09d}.fingerprint" for step in expected]
    for path, (step, whole) in zip(paths, expected.items(), strict=True):
        print_ = Fingerprint.load(path)
        assert all(torch.equal(a, b) for a, b in zip(print_.grams, whole.grams, strict=True))
        assert (print_.images, print_.side.hash) == (whole.images, whole.side.hash)
        assert print_.side.reference == f"Sequential/step {step}"
        result = cka_probe.compare_fingerprints(expected[0], whole, permutations=0)
        rows = watch.table[watch.table["step"] == step]
        for name, values in (("value", result.values), ("low", result.low), ("high", result.high)):
            assert np.allclose(rows[name], values.diagonal(), atol=1e-12)
    assert read_table(tmp_path / "drift.csv").equals(watch.table)
    assert (watch.table["value"] < 0.999).any()


def test_folded_batch_norms_follow_the_training(tmp_path):
    from torchvision.models import resnet18

    torch.manual_seed(0)
    net = resnet18(num_classes=4)
    watch = monitor(net, tmp_path, layers=["layer1", "layer4"], every=1)
    for step in range(2):
        watch.step(step)
        net.train()(torch.rand(4, 3, 32, 32) * 3)  # moves the running statistics
    watch.step(2)
    expected = cka_probe.fingerprint(net.eval(), images(), layers=["layer1", "layer4"], batch=8)
    last = Fingerprint.load(tmp_path / "fingerprints" / "step-000000002.fingerprint")
    assert all((a - b).abs().max() < 1e-5 * b.abs().max() for a, b in zip(last.grams, expected.grams, strict=True))


def test_a_model_that_draws_random_numbers_draws_the_same_at_every_step(tmp_path):
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(432, 5)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            return self.layer(x.flatten(1) + torch.randn(432) + random.random() + np.random.rand())

    net = Noisy()
    state = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    watch = monitor(net, tmp_path, layers=["layer"], every=1)
    for step in range(3):
        watch.step(step)
    assert np.allclose(watch.table["value"], 1.0, atol=1e-9)
    assert net.calls == 0
    assert torch.equal(torch.get_rng_state(), state[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == state[1:]


def test_a_mode_that_a_model_sets_itself_is_not_called(tmp_path):
    class Merging(nn.Linear):  # as LoRA layers do
        def train(self, mode=True):
            self.weight.data += 1 if mode else -1
            return super().train(mode)

    net = Merging(432, 3)
    weight = net.weight.clone()
    wrapped = nn.Sequential(nn.Flatten(), net)
    monitor(wrapped, tmp_path, layers=["1"]).step(0)
    assert torch.equal(net.weight, weight)
    assert net.training


def test_a_run_that_resumes_goes_on_where_it_stopped(tmp_path):
    net = network()
    whole = monitor(net, tmp_path / "whole")
    train(net, whole, steps=4)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    train(net, whole, steps=5, start=4)
    whole.finish()
    net = network()
    train(net, monitor(net, tmp_path / "parts", keep=True), steps=4)
    train(net, steps=7, start=4)  # went on, and its fingerprints of later steps count no more
    net.load_state_dict(state)
    Fingerprint.load(tmp_path / "parts/fingerprints/step-000000002.fingerprint").save(
        tmp_path / "parts/fingerprints/step-000000100.fingerprint"
    )
    with pytest.raises(CkaProbeError, match="earlier run"):
        monitor(net, tmp_path / "parts")
    again = monitor(net, tmp_path / "parts", resume=True)
    train(net, again, steps=5, start=4)
    again.finish()
    assert again.table.equals(whole.table)
    names = [sorted(path.name for path in (tmp_path / part / "fingerprints").iterdir()) for part in ("whole", "parts")]
    assert names[0] == names[1]


def test_only_the_start_is_kept_if_asked_and_enough_to_resume(tmp_path):
    net = network()
    watch = monitor(net, tmp_path, keep=False)
    train(net, watch)
    assert [path.name for path in (tmp_path / "fingerprints").iterdir()] == ["step-000000000.fingerprint"]
    again = monitor(net, tmp_path, keep=False, resume=True)
    again.step(6)
    assert again.table["step"].unique().tolist() == [0, 2, 4, 6]
    assert (again.table["value"].iloc[-3:] < 0.9999).any()


def test_a_reference_is_compared_with_by_its_layers(tmp_path):
    reference = cka_probe.fingerprint(network(), images(), layers="*", batch=8)
    path = reference.save(tmp_path / "pretrained.fingerprint")
    net = network()
    train(net)
    values = []
    watch = cka_probe.DriftMonitor(
        net, images(), layers=LAYERS, reference=path, out=tmp_path / "out", log=lambda *logged: values.append(logged)
    )
    watch.step(0)
    expected = cka_probe.compare(network(), net, images(), layers=LAYERS, batch=8, permutations=0).values.diagonal()
    assert np.allclose(watch.table["value"], expected, atol=1e-12)
    assert values == [({f"cka_to_reference/{n}": v for n, v in zip(LAYERS, watch.table["value"], strict=True)}, 0)]
    with pytest.raises(CkaProbeError, match="different images"):
        cka_probe.DriftMonitor(net, images(seed=1), layers=LAYERS, reference=path, out=tmp_path / "others").step(0)
    with pytest.raises(CkaProbeError, match="batch 8, this comparison asks for 4"):
        monitor(net, tmp_path / "other", reference=path, batch=4)


def test_an_undefined_layer_has_its_reason_and_no_number(tmp_path):
    net = network()
    logged = []
    watch = monitor(net, tmp_path, log=lambda values, _step: logged.append(values))
    with torch.no_grad():
        net[6].weight.zero_()
    watch.step(0)
    nn.init.normal_(net[6].weight)
    watch.step(2)
    with torch.no_grad():
        net[6].weight.fill_(torch.nan)
    watch.step(4)
    reasons = watch.table[watch.table["layer"] == "6"]["undefined"].tolist()
    assert reasons == [
        "it is the same for every image",
        "at the start: it is the same for every image",
        "it puts out NaN or infinite values",
    ]
    assert [set(values) for values in logged] == [{"cka_to_start/0", "cka_to_start/2"}] * 3
    assert read_table(tmp_path / "drift.csv").equals(watch.table)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 0}, "at least 1 step"),
        ({"layers": ["head"]}, "no layer 'head'"),
        ({"log": "tensorbord"}, "did you mean 'tensorboard'"),
        ({"log": [3]}, "found int"),
        ({"num": 2}, "at least 4"),
        ({"reference": "nowhere.fingerprint"}, "nowhere.fingerprint"),
    ],
)
def test_what_is_wrong_is_said_before_the_training(tmp_path, options, message):
    with pytest.raises(CkaProbeError, match=message):
        monitor(network(), tmp_path, **options)
    with pytest.raises(CkaProbeError, match="found str"):
        monitor("timm:resnet18", tmp_path)


def test_steps_that_begin_again_and_another_model_are_refused(tmp_path):
    watch = monitor(network(), tmp_path)
    watch.step(4)
    with pytest.raises(CkaProbeError, match="found 0 after 4"):
        watch.step(0)
    net = network()
    watch = monitor(nn.Sequential(net[6]), tmp_path / "head", layers=["0"])
    watch.check_model(net)
    with pytest.raises(CkaProbeError, match="another model than this Sequential"):
        watch.check_model(network())


def test_a_table_of_something_else_is_refused(tmp_path):
    (tmp_path / "drift.csv").write_text("a,b\n1,2\n")
    watch = monitor(network(), tmp_path, resume=True)
    with pytest.raises(CkaProbeError, match=r"drift\.csv: expected"):
        watch.step(0)


def test_accelerates_mixed_precision_is_not_measured():
    net = nn.Linear(4, 4)
    inputs = torch.randn(5, 4)
    expected = net(inputs)
    net._original_forward = net.forward
    net.forward = lambda x: net._original_forward(x).bfloat16()
    prepared = net.forward
    with own_forward(net):
        assert torch.equal(net(inputs), expected)
    assert net.forward is prepared


def test_modes_and_buffers_are_as_before_even_after_an_error(tmp_path):
    net = network()
    net[3].eval()
    net.append(nn.Linear(4, 4))  # does not fit
    net[7].register_buffer("calls", torch.zeros(2))
    before = [module.training for module in net.modules()]
    with pytest.raises(CkaProbeError, match="module '7'"):
        monitor(net, tmp_path, layers=["7"]).step(0)
    assert [module.training for module in net.modules()] == before

    def change():
        with undisturbed(net, 0):
            net[7].calls += 1
            net[7].calls = torch.ones(2)
            raise ValueError("stop")

    calls, state = net[7].calls, torch.get_rng_state()
    with pytest.raises(ValueError, match="stop"):
        change()
    assert net[7].calls is calls
    assert calls.tolist() == [0, 0]
    assert torch.equal(torch.get_rng_state(), state)


def test_the_fingerprints_show_when_layers_settled(tmp_path):
    net = network()
    train(net, monitor(net, tmp_path / "drift", every=1), steps=4)
    paths = sorted(map(str, (tmp_path / "drift" / "fingerprints").iterdir()))
    done = CliRunner().invoke(app, ["atlas", *paths, "--permutations", "0", "--out", str(tmp_path / "atlas")])
    assert done.exit_code == 0, done.output
    curves = pd.read_csv(tmp_path / "atlas" / "curves.csv")
    assert curves["model"].unique().tolist() == ["step 1", "step 2", "step 3"]
    settling = pd.read_csv(tmp_path / "atlas" / "settling.csv")
    assert settling["layer"].tolist() == list(map(int, LAYERS))
    assert set(settling["step"].dropna()) <= {0, 1, 2}
    table = read_table(tmp_path / "drift" / "drift.csv")
    assert np.allclose(curves["first_value"], table["value"][len(LAYERS) :], atol=1e-12)
