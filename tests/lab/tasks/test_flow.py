"""Flow without a label: who sees what, what comes out, and what samples become."""

import math

import pytest
import torch
from torch import Generator

from cka_probe.errors import DataError, RecipeError
from cka_probe.images.datasets import open_dataset
from cka_probe.lab.tasks.decoders import at_full_size
from cka_probe.lab.tasks.flow import Flow, in_pixels
from cka_probe.lab.transforms import flipped, resized
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import Backbone

SIZE = (64, 96)
STREETS = "scenes:streets?num=2&frames=2&sources=1&size=160x96&seed=3"


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(0)
    return Backbone(ARCHITECTURES["resnet18"].build(size=SIZE), size=SIZE).eval()


@pytest.fixture(scope="module")
def streets():
    data = open_dataset(STREETS)
    return [data[i] for i in range(len(data))]


def drawn(*shape, seed=0):
    return torch.rand(*shape, generator=Generator().manual_seed(seed))


def pair(n=2, seed=0):
    return {"image": drawn(n, 3, *SIZE, seed=seed), "sources": drawn(n, 1, 3, *SIZE, seed=seed + 1)}


def test_swapping_the_images_swaps_what_the_decoder_sees(backbone):
    task, batch = Flow(SIZE), pair(1)
    head, seen = task.head(backbone).eval(), []

    def record(target, source):
        seen.append((target, source))
        return head.forward(target, source)

    with torch.no_grad():
        first = task.flows(backbone, record, batch["image"], batch["sources"][:, 0])
        second = task.flows(backbone, record, batch["sources"][:, 0], batch["image"])
    (target, source), (other_target, other_source) = seen
    for ours, theirs in ((target, other_source), (source, other_target)):
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
    alone = backbone.pyramid(batch["image"])
    for a, b in zip(target, alone, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(first[1], second[1])


def test_the_gradient_reaches_the_encoder_from_both_images(backbone):
    task, batch = Flow(SIZE), pair(1)
    head = task.head(backbone)
    images = [batch["image"].requires_grad_(), batch["sources"][:, 0].requires_grad_()]
    flow = task.flows(backbone, head, *images)
    sum(f.square().sum() for f in flow.values()).backward()
    assert all(image.grad.isfinite().all() and image.grad.any() for image in images)
    assert all(p.grad is not None and p.grad.any() for p in head.parameters())
    backbone.zero_grad()


def test_flow_is_at_most_a_fifth_of_the_sides(backbone):
    task = Flow(SIZE)
    head = task.head(backbone).eval()
    batch = pair()
    for bias, share in ((50.0, 0.2), (-50.0, -0.2), (0.0, 0.0)):
        for layer in head.to_flow.values():
            torch.nn.init.zeros_(layer.weight), torch.nn.init.constant_(layer.bias, bias)
        with torch.no_grad():
            flow = task.predict_pair(backbone, head, batch["image"], batch["sources"][:, 0])
        assert flow.shape == (2, 2, *SIZE)
        expected = share * torch.tensor([96.0, 64.0]).view(1, 2, 1, 1)
        torch.testing.assert_close(flow, expected.expand_as(flow))


def test_shares_become_pixels_of_whatever_size():
    share = torch.tensor([0.25, -0.5]).view(1, 2, 1, 1)
    assert in_pixels(share.expand(1, 2, 4, 8))[0, :, 0, 0].tolist() == [2.0, -2.0]
    assert in_pixels(share.expand(1, 2, 8, 24))[0, :, 0, 0].tolist() == [6.0, -4.0]


def test_outputs_come_to_full_size_between_their_pixels():
    ramp = torch.arange(0.5, 16, 1.0).expand(1, 1, 16, 16)
    coarse = torch.arange(2.0, 16, 4.0).expand(1, 1, 4, 4)
    found = at_full_size({1: ramp, 4: coarse})
    assert torch.equal(found[1], ramp)
    torch.testing.assert_close(found[4][..., 2:-2], ramp[..., 2:-2])


def test_prepared_flow_leads_where_the_images_say_after_scaling_and_mirroring(streets):
    task = Flow((64, 128), truth=True)
    seen_mirrored = set()
    for seed in range(8):
        view = task.prepare(streets[0], Generator().manual_seed(seed), True)
        assert view["sources"].shape == (1, 3, 64, 128)
        expected = resized({name: streets[0][name] for name in view}, (64, 128))
        mirrored = not torch.equal(view["image"], expected["image"])
        seen_mirrored.add(mirrored)
        if mirrored:
            expected = flipped(expected)
        assert all(torch.equal(view[name].nan_to_num(), expected[name].nan_to_num()) for name in view)
        image, source, flow = view["image"][None], view["sources"], view["flow"][None].nan_to_num()
        still, wrong = torch.zeros_like(flow), flow * torch.tensor([-1.0, 1.0]).view(2, 1, 1)
        true, *others = (sum(e.mean() for e in task.errors(image, source, f)) for f in (flow, still, wrong))
        assert all(true < other for other in others)
    assert seen_mirrored == {True, False}


def test_the_source_is_the_one_that_was_asked_for(streets):
    sample = {"image": drawn(3, *SIZE), "sources": drawn(3, 3, *SIZE, seed=1)}
    for source in range(3):
        view = Flow(SIZE, source=source).prepare(sample, Generator(), False)
        assert torch.equal(view["sources"][0], sample["sources"][source])
    with pytest.raises(DataError, match="expected a source with the number 3, found 3 sources; name them"):
        Flow(SIZE, source=3).prepare(sample, Generator(), False)


def test_crops_are_boxes_of_both_images_at_their_own_resolution(streets):
    task = Flow(SIZE, crop=True, flip=False, truth=True)
    view = task.prepare(streets[1], Generator().manual_seed(4), True)
    found = [
        (y, x)
        for y in range(96 - 64 + 1)
        for x in range(160 - 96 + 1)
        if torch.equal(view["image"], streets[1]["image"][:, y : y + 64, x : x + 96])
    ]
    assert len(found) == 1
    (y, x) = found[0]
    for name in ("flow", "occluded"):
        assert torch.equal(view[name], streets[1][name][:, y : y + 64, x : x + 96])
    assert torch.equal(view["sources"][0], streets[1]["sources"][0, :, y : y + 64, x : x + 96])


def test_evaluation_is_in_pixels_and_perfect_flow_has_no_error(streets, backbone, monkeypatch):
    task = Flow((96, 160), truth=True)
    samples = [task.prepare(sample, Generator(), False) for sample in streets]
    batch = {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}
    monkeypatch.setattr(Flow, "predict_pair", lambda self, b, h, image, source: batch["flow"].nan_to_num())
    values = task.evaluate(backbone, None, batch)
    assert set(values) == {"photometric", "photometric_zero", "epe", "epe_zero"}
    assert (values["epe"] == 0).all()
    assert (values["photometric"] < values["photometric_zero"]).all()
    for i, sample in enumerate(samples):
        seen = (sample["flow"].isfinite().all(0) & ~sample["occluded"][0]).nonzero().tolist()
        lengths = [math.hypot(*sample["flow"][:, y, x].tolist()) for y, x in seen[:: max(1, len(seen) // 4000)]]
        assert values["epe_zero"][i].item() == pytest.approx(sum(lengths) / len(lengths), rel=0.02)
    assert set(Flow((96, 160)).evaluate(backbone, None, batch)) == {"photometric", "photometric_zero"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"smoothness": -1.0}, "flow: expected weights of 0 or more"),
        ({"colour": 0.0, "structure": 0.0}, "flow: expected `colour` or `structure` above 0"),
        ({"window": 4}, "flow: expected an odd `window`, found 4"),
        ({"source": -1}, "flow: expected `source` of 0 or more, found -1"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(RecipeError, match=message):
        Flow(SIZE, **options)


def test_sizes_and_encoders_that_do_not_fit_are_refused():
    with pytest.raises(RecipeError, match="flow: expected sides that are multiples of 32, at least 64, found 32 x 64"):
        Flow((32, 64))
    dilated = Backbone(ARCHITECTURES["resnet18"].build(size=64, output_stride=16), size=64)
    with pytest.raises(RecipeError, match=r"expected an encoder with maps at strides .*, found \[2, 4, 8, 16, 16\]"):
        Flow(SIZE).head(dilated)
