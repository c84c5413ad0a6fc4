"""The images of a forward pass and those of a Gram are two things, and memory decides the first where it has to."""

import gc
import re
import weakref

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from helpers.comparisons import random_images, small
from torch import nn

from cka_probe import Backbone, compare, fingerprint
from cka_probe.comparison import extraction, model_run
from cka_probe.comparison.plan import plan
from cka_probe.comparison.sides import Options
from cka_probe.errors import CkaProbeWarning, DataError, DeviceError, OutOfMemoryError
from cka_probe.similarity import anchored_product, centred_grams
from cka_probe.similarity.features import BatchFeatures
from cka_probe.similarity.gram import need_scale


class Limited(nn.Module):
    """Runs out of memory above a number of images, after a part of it ran; above another number after three passes."""

    def __init__(self, most, error=MemoryError, later=None):
        super().__init__()
        self.body, self.error = small(0), error
        self.most, self.later = most, most if later is None else later
        self.sizes, self.activations = [], []

    def forward(self, images):
        self.sizes.append(len(images))
        hidden = self.body[0](images)
        if len(images) > (self.most if len(self.sizes) <= 3 else self.later):
            self.activations.append(weakref.ref(hidden))
            raise self.error
        return self.body[1:](hidden)


@pytest.mark.parametrize("features", ["flatten", "gap", "tokens"])
@pytest.mark.parametrize("forward_batch", [1, 3, 7, 8, 12, 16, 20, 100])
def test_the_images_of_a_forward_pass_do_not_change_a_fingerprint(features, forward_batch):
    layers = ["0", "1"]
    images = random_images(27)  # in batches of 8, 8 and 11
    expected = fingerprint(small(0), images, layers=layers, batch=8, features=features)
    print_ = fingerprint(small(0), images, layers=layers, batch=8, features=features, forward_batch=forward_batch)
    assert [stack.shape for stack in print_.grams] == [stack.shape for stack in expected.grams]
    for stack, reference in zip(print_.grams, expected.grams, strict=True):
        torch.testing.assert_close(stack, reference, rtol=0, atol=4e-6 * float(reference.abs().max()))
    assert (print_.images, print_.undefined, print_.shapes) == (expected.images, expected.undefined, expected.shapes)
    assert print_.settings.recorded() == expected.settings.recorded()


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224"])
@pytest.mark.parametrize("forward_batch", [1, 5, 24])
def test_values_of_networks_differ_by_rounding_at_most(name, forward_batch):
    options = {"img_size": 32} if name.startswith("vit") else {}
    torch.manual_seed(0)
    nets = [timm.create_model(name, num_classes=0, **options) for _ in range(2)]
    images = torch.rand(24, 3, 32, 32)
    expected = compare(*nets, images, batch=8, permutations=0)
    result = compare(*nets, images, batch=8, permutations=0, forward_batch=forward_batch)
    assert np.nanmax(np.abs(result.values - expected.values)) <= 1e-6
    assert result.settings == expected.settings


def test_a_forward_pass_has_as_many_images_as_asked_for_and_no_more():
    for forward_batch, sizes in ((8, [5, 8, 5, 6]), (5, [2, 4, 4, 4, 4, 3, 4, 4]), (16, [13, 11]), (64, [24])):
        net = Limited(64)
        fingerprint(net, random_images(27), layers=["body.1"], batch=8, forward_batch=forward_batch)
        assert net.sizes == [3, 2, *sizes]  # after passes that find the axis of the images and compare two of them


def test_a_model_that_normalises_over_its_batch_runs_on_whole_batches():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.ReLU())
    images = torch.rand(24, 3, 8, 8)
    with torch.no_grad():
        features = [net(part).permute(0, 2, 3, 1).flatten(1) for part in images.split(8)]
    for forward_batch in (None, 8, 24):
        print_ = fingerprint(net, images, layers=["2"], batch=8, forward_batch=forward_batch)
        assert any("normalises over the images of a batch" in warning for warning in print_.side.warnings)
        for gram, part in zip(print_.grams, features, strict=True):
            expected = centred_grams([anchored_product(part)]).matrices
            torch.testing.assert_close(gram, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    with pytest.raises(DataError, match="expected whole batches in a forward pass"):
        fingerprint(net, images, layers=["2"], batch=8, forward_batch=5)
    with pytest.raises(OutOfMemoryError, match="with 8 images in a forward pass"):
        fingerprint(
            nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), Limited(5)), images, layers=["0"], batch=8
        )


class _Mixed(nn.Module):
    """Subtract the mean of the images, or drop values at random, also in evaluation."""

    def __init__(self, random: bool):
        super().__init__()
        self.random, self.linear, self.end = random, nn.Linear(6, 5), nn.Identity()

    def forward(self, images):
        x = self.linear(images)
        return self.end(F.dropout(x, 0.5, training=True) if self.random else x - x.mean(0))


@pytest.mark.parametrize("random", [True, False])
def test_a_model_that_is_random_or_mixes_the_images_of_a_batch_is_said_to_be(random):
    images = torch.randn(12, 6, generator=torch.Generator().manual_seed(0))
    print_ = fingerprint(_Mixed(random), images, layers="linear,end")
    said = r"The model is random, or .* the activation of an image in layer 'end' changes by \d+%"
    assert any(re.match(said, warning) for warning in print_.side.warnings)
    sure = fingerprint(nn.Sequential(nn.Linear(6, 5), nn.Dropout(), nn.BatchNorm1d(5)), images, layers="*")
    assert not any("random" in warning for warning in sure.side.warnings)


def test_batches_of_images_of_different_sizes_run_one_after_another():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1))
    batches = [torch.rand(6, 3, 8, 8), torch.rand(6, 3, 12, 10)]
    expected = fingerprint(net, batches, layers=["1"])
    print_ = fingerprint(net, batches, layers=["1"], forward_batch=100)
    assert all(map(torch.equal, print_.grams, expected.grams))


def test_parts_in_another_order_of_memory_are_the_same_features():
    torch.manual_seed(0)
    activation = torch.rand(6, 3, 4, 5)
    features = BatchFeatures([6], "flatten", lambda _, rows: anchored_product(rows))
    features.add("layer", activation[:4].to(memory_format=torch.channels_last), "NCHW", range(4))
    features.add("layer", activation[4:], "NCHW", range(4, 6))
    expected = anchored_product(activation.to(memory_format=torch.channels_last).permute(0, 2, 3, 1).flatten(1))
    assert torch.equal(features.products[0]["layer"].matrix, expected.matrix)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        MemoryError(),
    ],
)
def test_out_of_memory_halves_the_forward_pass_and_says_so(error):
    images, net = random_images(32), Limited(5, error)
    layers = ["body.0", "body.4"]
    expected = fingerprint(net.body, images, layers=["0", "4"], batch=16)
    with pytest.warns(CkaProbeWarning, match="out of memory with .* images in a forward pass; continuing with") as said:
        print_ = fingerprint(net, images, layers=layers, batch=16)
    assert len(said) == 2  # 16, 8
    assert net.sizes == [3, 2, 13, 8] + 8 * [4]  # the first three images need not run again, unless a pass fails
    for stack, reference in zip(print_.grams, expected.grams, strict=True):
        torch.testing.assert_close(stack, reference, rtol=1e-6, atol=1e-5)
    assert not any(module._forward_hooks for module in net.modules())


def test_a_failed_pass_leaves_no_activation_in_memory():
    gc.disable()
    try:
        net = Limited(8)
        with pytest.warns(CkaProbeWarning):
            fingerprint(net, random_images(16), layers=["body.4"])
        assert [activation() for activation in net.activations] == [None]
    finally:
        gc.enable()


def test_a_failed_pass_leaves_folded_weights_as_they_were():
    class LimitedResNet(timm.models.resnet.ResNet):
        def forward_head(self, x, pre_logits=False):
            if len(x) > 4:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().forward_head(x, pre_logits)

    LimitedResNet.__module__ = "timm.models.resnet"
    torch.manual_seed(0)
    net = LimitedResNet(timm.models.resnet.BasicBlock, (1, 1, 1, 1), num_classes=4)
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.warns(CkaProbeWarning):
        fingerprint(Backbone(net, size=32), torch.rand(16, 3, 32, 32), layers=["layer1.0", "fc"])
    assert list(net.state_dict()) == list(state)
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())
    assert "forward" not in net.bn1.__dict__


def test_only_where_one_image_does_not_fit_it_is_an_error():
    with pytest.raises(OutOfMemoryError, match=r"with 3 images in a forward pass \(--forward-batch\) and 16 in a"):
        fingerprint(Limited(2), random_images(), layers=["body.4"], batch=16, forward_batch=3)
    with (
        pytest.warns(CkaProbeWarning),
        pytest.raises(OutOfMemoryError, match=r"out of memory with 1 image in .*; try --batch 8, --features gap"),
    ):
        fingerprint(Limited(3, later=0), random_images(), layers=["body.4"], batch=16)


def test_the_refusal_of_the_allocator_is_understood():
    class Huge(nn.Module):
        def forward(self, x):
            return torch.empty(2**50)

    net = nn.Sequential(nn.Flatten(), Huge())
    with pytest.raises(OutOfMemoryError, match="try --batch"):
        compare(net, net, random_images(), layers=["1"], batch=16, forward_batch=3)


def test_a_forward_pass_of_no_images_is_refused():
    with pytest.raises(DataError, match="expected at least 1 image in a forward pass, found 0"):
        fingerprint(small(0), random_images(), forward_batch=0)


FIXED, EACH = 100_000, 1000
ONE = FIXED + EACH + 8 * 16**2 + 4 * 7 * 16
"""Memory for one of 16 images with a layer of 7 features: the weights' and its own, the Gram's, and the features'."""


@pytest.fixture
def counting(monkeypatch):
    """Let a device count memory, and a forward pass take as much as `FIXED` and `EACH` say."""
    net = Limited(100)
    for module in (extraction, model_run):
        monkeypatch.setattr(module, "counts_memory", lambda _: True)
    monkeypatch.setattr(model_run, "peak_memory", lambda _, work: (work(), FIXED + EACH * net.sizes[-1]))
    return net


@pytest.mark.parametrize(
    ("memory", "sizes"),
    [
        (ONE, [1] * 29),
        (ONE + 3 * EACH + 999, [1, 4, 4, 4, 4, 4, 4, 4]),  # three images ran before the trials
        ("0.2MB", [13, 16]),
    ],
)
def test_memory_decides_how_many_images_are_in_a_forward_pass(counting, monkeypatch, memory, sizes):
    images = random_images(32)
    expected = fingerprint(counting.body, images, layers=["4"], batch=16, forward_batch=16)
    print_ = fingerprint(counting, images, layers=["body.4"], batch=16, memory=memory)
    assert counting.sizes == [3, 2, 8, 2, *sizes]
    for stack, reference in zip(print_.grams, expected.grams, strict=True):
        torch.testing.assert_close(stack, reference, rtol=1e-6, atol=1e-5)
    counting.sizes.clear()
    left = memory if isinstance(memory, int) else 10**9
    monkeypatch.setattr(model_run, "memory_left", lambda _: left / model_run.SHARE + 1)
    automatic = fingerprint(counting, images, layers=["body.4"], batch=16)
    assert counting.sizes == [3, 2, 8, 2, *sizes]
    assert all(map(torch.equal, automatic.grams, print_.grams))
    assert automatic.settings.recorded() == print_.settings.recorded() == expected.settings.recorded()


def test_memory_for_less_than_one_image_is_an_error_and_a_plan_states_how_many_fit(counting, monkeypatch):
    with pytest.raises(
        OutOfMemoryError, match=r"expected memory for one image .*101 KiB, found --memory 101 KiB; give"
    ):
        fingerprint(counting, random_images(32), layers=["body.4"], batch=16, memory=ONE - 1)
    options = Options(batch=16, memory=ONE + EACH)
    assert plan([counting], random_images(32), layers=["body.4"], options=options).models[0].forward_batch == 2
    monkeypatch.setattr(model_run, "memory_left", lambda _: 1)
    counting.sizes.clear()
    fingerprint(counting, random_images(16), layers=["body.4"])
    assert counting.sizes == [3, 2, 8, 2] + [1] * 13  # what is free is an estimate


def test_a_trial_that_does_not_fit_halves_the_forward_pass(counting):
    counting.most = counting.later = 4
    with pytest.warns(CkaProbeWarning, match="continuing with 4"):
        fingerprint(counting, random_images(16), layers=["body.4"], memory="1GB")
    assert max(counting.sizes[3:]) == 4


def test_memory_is_refused_where_it_is_not_counted():
    with pytest.raises(DeviceError, match=r"expected a GPU of CUDA for --memory, whose .* found cpu; give --forward"):
        fingerprint(small(0), random_images(), memory="20GB")
    with pytest.raises(DataError, match="expected --forward-batch or --memory"):
        fingerprint(small(0), random_images(), memory="20GB", forward_batch=4)
    with pytest.raises(DataError, match="expected an amount of memory such as 20GB or 512MiB, found '20 bananas'"):
        fingerprint(small(0), random_images(), memory="20 bananas")


@pytest.mark.parametrize("factor", [1e-25, 1.0, 1e25])
def test_products_are_looked_at_once_in_a_batch_where_a_look_takes_long(monkeypatch, factor):
    class Scaled(nn.Module):
        def forward(self, images):
            return images * factor

    net = nn.Sequential(nn.Flatten(), Scaled(), nn.Linear(192, 4))
    nn.init.normal_(net[2].weight, std=1 / factor)
    calls, images = [], random_images(32)
    expected = fingerprint(net, images, layers="*", batch=8)
    net.register_forward_pre_hook(lambda *_: calls.append(1))
    monkeypatch.setattr(model_run.ModelRun, "queues", True)
    looks = []
    monkeypatch.setattr(model_run, "need_scale", lambda products: looks.append(1) or need_scale(products))
    print_ = fingerprint(net, images, layers="*", batch=8)
    assert len(calls) == 2 + 4 + (factor != 1)  # the first batch runs again, and no other
    assert len(looks) == 4
    assert (print_.rms, print_.undefined) == (expected.rms, expected.undefined)
    assert all(map(torch.equal, print_.grams, expected.grams))
    assert np.isfinite(print_.rms).all()


def test_a_layer_that_does_not_vary_or_is_not_finite_is_looked_at_once(monkeypatch):
    net, calls = nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.Linear(4, 4)), []
    nn.init.zeros_(net[1].weight)
    nn.init.constant_(net[2].weight, torch.nan)
    net.register_forward_pre_hook(lambda *_: calls.append(1))
    expected = fingerprint(net, random_images(32), layers="*", batch=8)
    calls.clear()
    monkeypatch.setattr(model_run.ModelRun, "queues", True)
    print_ = fingerprint(net, random_images(32), layers="*", batch=8)
    assert print_.undefined == expected.undefined
    assert len(calls) == 2 + 4 + 1
