"""Sliding windows: whole images from windows, against a slow loop."""

from itertools import pairwise

import pytest
import torch

from cka_probe.errors import RecipeError
from cka_probe.lab.evaluation.sliding_window import predict_whole, window_starts


def test_windows_reach_from_end_to_end_without_gaps():
    assert window_starts(640, 480, 2) == [0, 160]  # the published two crops of NYUv2
    assert window_starts(480, 480, 2) == [0]
    for length, window, crops in ((1242, 375, 2), (641, 64, 1), (65, 64, 5)):
        starts = window_starts(length, window, crops)
        assert (starts[0], starts[-1]) == (0, length - window)
        assert all(after - before <= window for before, after in pairwise(starts))


@pytest.mark.parametrize("shape", [(48, 64), (64, 48), (48, 48), (48, 144)])
@pytest.mark.parametrize("flip_test", [True, False])
@pytest.mark.parametrize("feathered", [True, False])
def test_a_network_that_looks_at_each_pixel_alone_sees_no_windows(shape, flip_test, feathered):
    images = torch.rand(2, 3, *shape)
    depth = predict_whole(
        lambda windows: windows[:, :1] * 5, images, (48, 48), flip_test=flip_test, feathered=feathered
    )
    torch.testing.assert_close(depth, 5 * images[:, :1])


def test_whole_by_a_loop():
    def predict(windows):  # knows its place: no two windows agree on a pixel
        place = torch.arange(8.0).repeat(len(windows), 1, 8, 1)
        return windows.mean(1, keepdim=True) + place

    image = torch.rand(1, 3, 8, 13)
    expected = torch.zeros(8, 13)
    for row in range(8):
        for column in range(13):
            inputs = []
            for start in (0, 5):
                if start <= column < start + 8:
                    straight = image[0, :, row, column].mean() + (column - start)
                    mirrored = image[0, :, row, column].mean() + (7 - (column - start))
                    inputs.append((straight + mirrored) / 2)
            expected[row, column] = sum(inputs) / len(inputs)
    torch.testing.assert_close(predict_whole(predict, image, (8, 8))[0, 0], expected)
    straight = predict_whole(predict, image, (8, 8), flip_test=False)[0, 0]
    assert (straight - expected).abs().max() > 1


def test_depth_of_a_plane_survives_the_way_there_and_back():
    ramp = torch.linspace(0, 1, 90).view(1, 1, 1, 90).expand(1, 3, 60, 90)
    depth = predict_whole(lambda windows: windows[:, :1], ramp, (32, 32))
    assert depth.shape == (1, 1, 60, 90)
    assert (depth - ramp[:, :1])[..., 3:-3].abs().max() < 0.005


def test_feathered_windows_leave_no_seam():
    def predict(windows):  # off by 1 m in every second window
        return windows[:, :1] + torch.arange(len(windows)).view(-1, 1, 1, 1)

    for shape, along in (((32, 48), -1), ((48, 32), -2)):
        step = {
            feathered: predict_whole(
                predict, torch.zeros(1, 3, *shape), (32, 32), flip_test=False, feathered=feathered
            ).diff(dim=along)
            for feathered in (True, False)
        }
        assert step[False].max() == 0.5  # from one window to the mean of two, and on to the other
        assert step[True].max() < 0.1
        assert step[True].sum(along).unique().tolist() == pytest.approx([1.0])  # from the first's to the second's


def test_squeezed_whole_a_network_sees_every_pixel_once():
    inputs = []
    image = torch.rand(1, 3, 16, 40)

    def predict(windows):
        inputs.append(windows)
        return windows[:, :1]

    depth = predict_whole(predict, image, (8, 8), crops=0, flip_test=False)
    assert [tuple(windows.shape) for windows in inputs] == [(1, 3, 8, 8)]
    assert depth.shape == (1, 1, 16, 40)
    assert inputs[0].mean().item() == pytest.approx(image.mean().item(), abs=0.03)


def test_a_wrong_prediction_or_number_of_crops_is_an_error():
    with pytest.raises(RecipeError, match=r"shape \(2, 1, 8, 8\) from the task's `predict`, found \(2, 3, 8, 8\)"):
        predict_whole(lambda windows: windows, torch.rand(1, 3, 8, 8), (8, 8))
    with pytest.raises(RecipeError, match="a number of crops, or 0 for the whole image squeezed, found -1"):
        predict_whole(lambda windows: windows, torch.rand(1, 3, 8, 8), (8, 8), crops=-1)
