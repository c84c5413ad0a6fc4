"""The loss of flow: what it is lowest at, and each of its sums once more by loops."""

import math

import pytest
import torch
from helpers.paths import REAL
from torch import Generator
from torch.nn.functional import interpolate

from cka_probe.images.datasets import open_dataset
from cka_probe.lab.geometry import rigid_flow
from cka_probe.lab.losses import edge_aware_slope, smoothness
from cka_probe.lab.tasks.flow import Flow, end_point_error, in_pixels
from cka_probe.models.architectures import ARCHITECTURES
from cka_probe.models.backbone import Backbone

SIZE = (64, 96)
STREETS = "scenes:streets?num=4&frames=2&sources=1&size=160x96&seed=3"


@pytest.fixture(scope="module")
def streets():
    data = open_dataset(STREETS)
    return [data[i] for i in range(len(data))]


def drawn(*shape, seed=0):
    return torch.rand(*shape, generator=Generator().manual_seed(seed))


def smooth_image(height, width):
    """Return an image (1, 3, H, W) without a pixel like its neighbours and without sharp edges."""
    return interpolate(drawn(1, 3, height // 4, width // 4, seed=2), size=(height, width), mode="bicubic").clamp(0, 1)


def photometric(task, image, source, flow):
    colour, structure = task.errors(image, source, flow)
    return task.colour * colour + task.structure * structure


@pytest.mark.slow
def test_the_error_of_rendered_streets_is_lowest_at_their_true_flow(streets):
    task = Flow((96, 160))
    for sample in streets:
        image, source, flow = sample["image"][None], sample["sources"], sample["flow"][None]
        seen = (flow.isfinite().all(1, keepdim=True) & ~sample["occluded"][None]).expand_as(image)

        def error(flow, image=image, source=source, seen=seen):
            return photometric(task, image, source, flow)[seen].mean().item()

        flow = flow.nan_to_num()
        true = error(flow)
        assert true < 0.6 * error(torch.zeros_like(flow))
        assert true < error(-flow)
        for step in ((0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5)):
            assert 1.2 * true < error(flow + torch.tensor(step).view(2, 1, 1))
        assert all(true < error(factor * flow) for factor in (0.8, 1.2))


def test_the_whole_loss_prefers_the_true_flow_to_none_and_to_its_mean(streets, monkeypatch):
    task = Flow((96, 160))
    for sample in streets:
        batch = {"image": sample["image"][None], "sources": sample["sources"][None]}
        true = (sample["flow"] / torch.tensor([160.0, 96.0]).view(2, 1, 1))[None].nan_to_num()
        losses = []
        for flow in (true, torch.zeros_like(true), true.mean((2, 3), keepdim=True).expand_as(true)):
            said = dict.fromkeys((1, 2, 4, 8), flow)
            monkeypatch.setattr(Flow, "flows", lambda self, b, h, image, source, said=said: said)
            losses.append(task.loss(None, None, batch)[0].item())
        assert losses[0] < 0.7 * min(losses[1:])


@pytest.mark.skipif(not REAL.is_dir(), reason="the real recordings (../shared/data) are not here")
@pytest.mark.parametrize("name", ["hololens_rgbd", "livingroom_synthetic"])
def test_the_error_of_recordings_is_lowest_at_the_flow_of_their_measured_depth_and_motion(name):
    data = open_dataset(f"rgbd:{REAL / name}?sources=1")
    for index in (5, len(data) // 2):
        sample = data[index]
        image, source = sample["image"][None], sample["sources"]
        flow = rigid_flow(sample["depth"][None], sample["K"], sample["source_T_target"][0])
        known = flow.isfinite().all(1, keepdim=True).expand_as(image)
        flow, step = flow.nan_to_num(), torch.tensor([1.0, 0]).view(2, 1, 1)
        task = Flow(SIZE)  # comparing does not ask for a size
        flows = (flow, torch.zeros_like(flow), -flow, flow + step, flow - step)
        true, *others = (photometric(task, image, source, f)[known].mean() for f in flows)
        assert all(1.05 * true < other for other in others)


@pytest.mark.parametrize("move", [(3, 0), (-2, 0), (0, 2), (0, -4), (2, -1)])
def test_a_translation_by_whole_pixels_is_where_the_error_is_least(move):
    across, down = move
    task, image = Flow(SIZE), smooth_image(*SIZE)
    source = image.roll((down, across), (-2, -1))
    inner = (..., slice(8, -8), slice(8, -8))  # what rolls in is not to be found

    def error(x, y):
        flow = torch.tensor([x, y], dtype=torch.float32).view(1, 2, 1, 1).expand(1, 2, *SIZE)
        return photometric(task, image, source, flow)[inner].mean().item()

    errors = {(x, y): error(x, y) for x in range(-5, 6) for y in range(-5, 6)}
    assert min(errors, key=errors.get) == move
    assert errors[move] < 1e-5


def test_no_flow_leaves_every_pixel_where_it_is():
    image = drawn(2, 3, *SIZE)
    colour, structure = Flow(SIZE).errors(image, image, torch.zeros(2, 2, *SIZE))
    assert colour.max() < 1e-5
    assert structure.max() < 1e-4
    other = drawn(2, 3, *SIZE, seed=1)
    colour, _ = Flow(SIZE).errors(image, other, torch.zeros(2, 2, *SIZE))
    torch.testing.assert_close(colour, (image - other).abs(), atol=1e-5, rtol=0)


def test_what_lies_beyond_the_border_is_read_at_the_border():
    image = drawn(1, 3, *SIZE)
    flow = torch.tensor([1000.0, 0]).view(1, 2, 1, 1).expand(1, 2, *SIZE)
    colour, _ = Flow(SIZE).errors(torch.zeros_like(image), image, flow)
    torch.testing.assert_close(colour, image[..., -1:].expand_as(colour))


@pytest.mark.parametrize("window", [1, 3])
def test_the_loss_is_its_sum_by_loops(monkeypatch, window):
    task = Flow(SIZE, colour=0.2, structure=0.7, smoothness=4.0, window=window)
    image, source = drawn(1, 3, 10, 13), drawn(1, 3, 10, 13, seed=1)
    flows = {stride: 0.4 * drawn(1, 2, 10, 13, seed=stride) - 0.2 for stride in (1, 2, 4, 8)}
    monkeypatch.setattr(Flow, "flows", lambda self, b, h, image, source: flows)
    loss, parts = task.loss(None, None, {"image": image, "sources": source[:, None]})
    image, source = image[0].double(), source[0].double()
    sums = dict.fromkeys(parts, 0.0)
    for scale, flow in enumerate(flows.values()):
        seen, weight = warped(source, flow[0].double()), 1 / 2**scale
        sums["colour"] += weight * (image - seen).abs().mean().item()
        sums["structure"] += weight * (1 - similarity(image, seen, window)).mean().item() / 2
        sums["smoothness"] += weight * slopes(flow[0].double(), image) / 3
    for name, value in sums.items():
        assert parts[name].item() == pytest.approx(value, rel=1e-4), name
    expected = 0.2 * sums["colour"] + 0.7 * sums["structure"] + 4.0 * sums["smoothness"]
    assert loss.item() == pytest.approx(expected, rel=1e-4)


def test_the_loss_is_a_third_of_that_with_sums_over_colours_and_directions(monkeypatch):
    task = Flow(SIZE)
    image, source, flow = drawn(1, 3, 10, 13), drawn(1, 3, 10, 13, seed=1), 0.4 * drawn(1, 2, 10, 13, seed=2) - 0.2
    monkeypatch.setattr(Flow, "flows", lambda self, b, h, image, source: {1: flow})
    loss, _ = task.loss(None, None, {"image": image, "sources": source[:, None]})
    colour, structure = task.errors(image, source, in_pixels(flow))
    summed = 0.15 * colour.sum(1).mean() + 0.85 * structure.sum(1).mean()
    for direction in flow.split(1, 1):
        summed = summed + 5 * edge_aware_slope(direction, image, unit=1.0)
    torch.testing.assert_close(3 * loss, summed)


def warped(source, flow):
    """Return an image (3, H, W) seen along flow (2, H, W) in shares, pixel by pixel."""
    _, height, width = source.shape
    seen = torch.empty_like(source)
    for y in range(height):
        for x in range(width):
            u = min(max(x + flow[0, y, x].item() * width, 0), width - 1)
            v = min(max(y + flow[1, y, x].item() * height, 0), height - 1)
            left, top = min(int(u), width - 2), min(int(v), height - 2)
            a, b = u - left, v - top
            upper = (1 - a) * source[:, top, left] + a * source[:, top, left + 1]
            lower = (1 - a) * source[:, top + 1, left] + a * source[:, top + 1, left + 1]
            seen[:, y, x] = (1 - b) * upper + b * lower
    return seen


def similarity(x, y, window):
    """Return SSIM of images (3, H, W) at every pixel."""
    halo = window // 2
    padded = [torch.nn.functional.pad(p[None], (halo,) * 4, mode="reflect")[0] for p in (x, y)]
    out = torch.empty_like(x)
    for row in range(x.shape[1]):
        for column in range(x.shape[2]):
            a, b = (p[:, row : row + window, column : column + window].flatten(1) for p in padded)
            covariance = ((a - a.mean(1, True)) * (b - b.mean(1, True))).mean(1)
            variances = a.var(1, correction=0) + b.var(1, correction=0)
            means = 2 * a.mean(1) * b.mean(1) + 1e-4, a.mean(1) ** 2 + b.mean(1) ** 2 + 1e-4
            out[:, row, column] = means[0] / means[1] * (2 * covariance + 9e-4) / (variances + 9e-4)
    return out


def slopes(flow, image):
    """Return the edge-aware slopes of flow (2, H, W) before an image (3, H, W), added up over its directions."""
    _, height, width = flow.shape
    total = 0.0
    for dy, dx in ((0, 1), (1, 0)):
        terms = []
        for y in range(height - dy):
            for x in range(width - dx):
                edge = (image[:, y + dy, x + dx] - image[:, y, x]).abs().mean().item()
                change = (flow[:, y + dy, x + dx] - flow[:, y, x]).abs().sum().item()
                terms.append(change * math.exp(-edge))
        total += sum(terms) / len(terms)
    return total


def test_edge_aware_slopes_add_channels_and_know_their_scale():
    image, field = drawn(2, 3, 12, 14), drawn(2, 2, 12, 14, seed=1)
    whole = edge_aware_slope(field, image)
    torch.testing.assert_close(whole, sum(edge_aware_slope(channel, image) for channel in field.split(1, 1)))
    torch.testing.assert_close(edge_aware_slope(3 * field + 7, image), 3 * whole)
    assert edge_aware_slope(torch.full_like(field, 0.3), image) == 0
    relative = field[:, :1] / field[:, :1].mean((2, 3), keepdim=True)
    torch.testing.assert_close(edge_aware_slope(relative, image), smoothness(field[:, :1], image))


def test_end_point_error_by_hand():
    truth = torch.zeros(2, 2, 2, 2)
    truth[0, :, 0, 0] = torch.tensor([3.0, 4.0])
    truth[0, 0, 0, 1] = math.nan
    truth[0, 0, 1, 0] = 100.0
    occluded = torch.zeros(2, 1, 2, 2, dtype=torch.bool)
    occluded[0, 0, 1, 0] = True
    occluded[1] = True
    errors = end_point_error(torch.zeros(2, 2, 2, 2), truth, occluded)
    assert errors[0] == 2.5  # of 5 and 0; the others are not known or not seen
    assert errors[1].isnan()


@pytest.mark.parametrize("case", ["black", "one colour", "identical", "source elsewhere", "chequered"])
def test_degenerate_images_have_finite_losses_and_gradients(case):
    torch.manual_seed(0)
    backbone = Backbone(ARCHITECTURES["resnet18"].build(size=64), size=64)
    task = Flow((64, 64))
    head = task.head(backbone)
    image = drawn(2, 3, 64, 64)
    source = drawn(2, 3, 64, 64, seed=1)
    if case in ("black", "one colour"):
        image = source = torch.full_like(image, 0.0 if case == "black" else 0.45)
    elif case == "identical":
        source = image
    elif case == "source elsewhere":
        for layer in head.to_flow.values():
            torch.nn.init.constant_(layer.bias, 1e4)
    else:
        image = (torch.arange(64) % 2).float().expand(2, 3, 64, 64)
        source = 1 - image
    loss, parts = task.loss(backbone, head, {"image": image, "sources": source[:, None]})
    loss.backward()
    gradients = [p.grad for module in (backbone, head) for p in module.parameters()]
    assert loss.isfinite()
    assert all(part.isfinite() for part in parts.values())
    assert all(g is not None and g.isfinite().all() for g in gradients)
