"""Targets: what they score, errors, and that parts of an image add up."""

import re
from collections import OrderedDict

import pytest
import torch
from torch import nn

from cka_probe import grad_cam
from cka_probe.attribution.targets import TARGETS, region_mask, target_score
from cka_probe.errors import DataError, UnknownNameError

CPU = torch.device("cpu")


def dense(channels, seed=0):
    """Return a small network from images to (n, channels, H, W)."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(5, channels, 3, padding=1))


def random_images(n=2):
    return torch.rand(n, 3, 6, 8, generator=torch.Generator().manual_seed(1))


def scored(spec, output, **options):
    return target_score(spec, **options)(output)


def test_depth_is_the_sum_of_depth_with_a_channel_or_without():
    depth = torch.rand(2, 1, 3, 4)
    for output in (depth, depth[:, 0], {"predicted_depth": depth, "other": depth[0]}):
        result = scored("depth", output)
        torch.testing.assert_close(result.rows[0], depth.sum((1, 2, 3)))
        assert torch.equal(result.predictions, depth[:, 0])


@pytest.mark.parametrize(("target", "channels"), [("depth", 1), ("segmentation", 3), ("segmentation:1", 3)])
def test_maps_of_a_region_and_of_the_rest_add_up_to_the_whole(target, channels):
    network, images = dense(channels), random_images()
    box, mask = (1, 2, 3, 4), torch.zeros(6, 8, dtype=torch.bool)
    mask[1:4, 2:6] = True
    whole = grad_cam(network, images, "1", target)
    inside = grad_cam(network, images, "1", target, region=box)
    outside = grad_cam(network, images, "1", target, region=~mask)
    assert torch.equal(inside.signed, grad_cam(network, images, "1", target, region=mask).signed)
    assert torch.equal(inside.signed, grad_cam(network, images, "1", target, region=mask.expand(2, 6, 8)).signed)
    torch.testing.assert_close(inside.signed + outside.signed, whole.signed)
    torch.testing.assert_close(inside.scores + outside.scores, whole.scores)
    assert inside.signed.abs().max() > 0


def test_each_image_has_its_own_region():
    network, images = dense(1), random_images()
    masks = torch.rand(2, 6, 8) > 0.5
    both = grad_cam(network, images, "1", "depth", region=masks)
    for index in range(2):
        alone = grad_cam(network, images[index][None], "1", "depth", region=masks[index])
        torch.testing.assert_close(both.signed[index], alone.signed[0])


@pytest.mark.parametrize(
    "region",
    [torch.ones(3, 4), torch.ones(4, 3, dtype=torch.bool), (0, 0, 4, 4), (-1, 0, 2, 2), (0, 0, 0, 2)],
)
def test_a_region_of_another_size_is_an_error(region):
    with pytest.raises(DataError, match="expected a region as"):
        region_mask(region, (2, 3, 4), CPU)


def test_a_region_without_a_pixel_gives_an_empty_map():
    nothing = torch.zeros(6, 8, dtype=torch.bool)
    for target, channels in (("depth", 1), ("segmentation", 3)):
        maps = grad_cam(dense(channels), random_images(), "1", target, region=nothing)
        assert maps.scores.tolist() == [0, 0]
        assert maps.empty.tolist() == [True, True]


def test_segmentation_scores_the_largest_logit_of_each_pixel_class_by_class():
    logits = torch.tensor([[[[1.0, 5]], [[3.0, 2]], [[0.0, 0]]]])  # (1, 3, 1, 2)
    result = scored("segmentation", logits)
    assert result.classes == (0, 1)
    assert [row.tolist() for row in result.rows] == [[5.0], [3.0]]
    assert result.num_classes == 3
    assert scored("segmentation:2", logits).rows[0].tolist() == [0.0]
    assert scored("class:1", logits).rows[0].tolist() == [3.0]


def test_class_scores_the_predicted_class_or_the_one_asked_for():
    logits = torch.tensor([[1.0, 4, 2], [7.0, 4, 2]])
    assert scored("class", logits).rows[0].tolist() == [4, 7]
    assert scored("class:2", logits).rows[0].tolist() == [2, 2]
    assert scored("class", logits).predictions.tolist() == [1, 0]
    torch.testing.assert_close(scored("class", logits, log_softmax=True).rows[0], logits.log_softmax(1).amax(1))


def test_a_target_may_be_any_function_of_the_output():
    network, images = dense(2), random_images()

    def second_channel(output):
        return output[:, 1].sum((1, 2))

    maps = grad_cam(network, images, "1", second_channel)
    torch.testing.assert_close(maps.signed, grad_cam(network[:2].append(_second(network)), images, "1", "depth").signed)
    assert (maps.target, maps.predictions, maps.per_class) == ("second_channel", None, None)


def _second(network):
    """Return the last layer of a network with its second channel alone."""
    layer = nn.Conv2d(5, 1, 3, padding=1)
    layer.weight.data, layer.bias.data = network[2].weight.data[1:], network[2].bias.data[1:]
    return layer


def test_without_a_target_a_map_is_the_root_mean_square_and_has_no_score():
    network, images = dense(2), random_images()
    maps = grad_cam(network, images, "1", "none")
    torch.testing.assert_close(maps.signed, network[:2](images).square().mean(1).sqrt().detach())
    assert maps.scores.isnan().all()
    assert (maps.target, maps.predictions, maps.per_class) == ("none", None, None)


def test_an_output_of_several_tensors_is_taken_by_name():
    logits = torch.rand(2, 3, 4, 5)
    for output in (logits, [logits], OrderedDict(out=logits, aux=logits + 1), {"any": logits}):
        assert torch.equal(scored("segmentation", output).predictions, logits.argmax(1))
    for output in ({"a": logits, "b": logits}, [logits, logits], logits.long(), None):
        with pytest.raises(DataError, match="one float tensor, or several by name with out or logits among them"):
            scored("segmentation", output)


@pytest.mark.parametrize(
    ("spec", "shape", "message"),
    [
        ("segmentation", (2, 1, 4, 4), "expected logits (n, classes, H, W).*found (2, 1, 4, 4); use the target depth"),
        ("segmentation", (2, 5), "found (2, 5); use the target class"),
        ("class", (2, 5, 4, 4), "expected logits (n, classes).*found (2, 5, 4, 4); use the target segmentation"),
        ("depth", (2, 5, 4, 4), "expected depth (n, 1, H, W).*use the target segmentation"),
        ("depth", (2, 5), "use the target class"),
        ("segmentation", (2, 5, 4, 4, 4), "use the target none"),
    ],
)
def test_an_output_that_does_not_fit_the_target_is_an_error_that_names_another(spec, shape, message):
    with pytest.raises(DataError, match=".*".join(map(re.escape, message.split(".*")))):
        scored(spec, torch.rand(shape))


@pytest.mark.parametrize(
    ("spec", "options", "error", "message"),
    [
        ("segment", {}, UnknownNameError, "no target 'segment'; did you mean 'segmentation'"),
        (
            "class:",
            {},
            UnknownNameError,
            "expected a class after the colon, found 'class:'; write class:3",
        ),
        ("class:cat", {}, UnknownNameError, "expected the number of a class after the colon, from 0, found 'cat'"),
        ("depth:1", {}, DataError, "target depth: expected no class and no log-softmax"),
        ("depth", {"log_softmax": True}, DataError, "target depth: expected no class and no log-softmax"),
        ("none", {"region": (0, 0, 1, 1)}, DataError, "target none: expected no class, region or log-softmax"),
        (torch.sum, {"log_softmax": True}, DataError, "with a callable target; apply them in the callable"),
    ],
)
def test_an_invalid_target_is_an_error(spec, options, error, message):
    with pytest.raises(error, match=message):
        target_score(spec, **options)


def test_a_region_for_the_class_of_an_image_is_an_error():
    with pytest.raises(DataError, match="expected a target with a value at each pixel for a region"):
        scored("class", torch.rand(2, 3), region=(0, 0, 1, 1))
    with pytest.raises(UnknownNameError, match="no class 3: the network has 3, from 0 to 2"):
        scored("class:3", torch.rand(2, 3))


def test_every_target_has_a_score_except_none():
    assert [name for name in TARGETS if target_score(name) is None] == ["none"]
