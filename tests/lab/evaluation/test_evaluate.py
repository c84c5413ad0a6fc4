"""Evaluation: whole images out of windows, each dataset's rules, scores against a slow loop."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers.rooms import Rooms, checkpoint

from cka_probe.errors import CheckpointError, DataError, RecipeError
from cka_probe.images.datasets import DATASETS
from cka_probe.lab.evaluation.evaluate import evaluate
from cka_probe.lab.evaluation.predictions import read_prediction
from cka_probe.lab.evaluation.protocol import DepthProtocol, image_scores
from cka_probe.lab.evaluation.sliding_window import predict_whole, window_starts
from cka_probe.models.checkpoint import load_trained


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("model") / "depth.safetensors")


@pytest.fixture(autouse=True)
def rooms(monkeypatch):
    monkeypatch.setitem(DATASETS, "rooms", Rooms)


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
            seen = []
            for start in (0, 5):
                if start <= column < start + 8:
                    straight = image[0, :, row, column].mean() + (column - start)
                    mirrored = image[0, :, row, column].mean() + (7 - (column - start))
                    seen.append((straight + mirrored) / 2)
            expected[row, column] = sum(seen) / len(seen)
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
    seen = []
    image = torch.rand(1, 3, 16, 40)

    def predict(windows):
        seen.append(windows)
        return windows[:, :1]

    depth = predict_whole(predict, image, (8, 8), crops=0, flip_test=False)
    assert [tuple(windows.shape) for windows in seen] == [(1, 3, 8, 8)]
    assert depth.shape == (1, 1, 16, 40)
    assert seen[0].mean().item() == pytest.approx(image.mean().item(), abs=0.03)


def test_an_affine_prediction_is_the_truth_after_alignment():
    depth = 1 + 4 * torch.rand(1, 9, 12, generator=torch.Generator().manual_seed(0))
    found = {
        scaling: image_scores(0.2 * depth + 3, {"depth": depth}, DepthProtocol(scaling=scaling).for_dataset(""), "a")
        for scaling in ("none", "median", "affine")
    }
    assert found["affine"]["abs_rel"] == pytest.approx(0, abs=1e-5)
    assert min(found["none"]["abs_rel"], found["median"]["abs_rel"]) > 0.1


def test_what_predict_must_give_is_said():
    with pytest.raises(RecipeError, match=r"shape \(2, 1, 8, 8\) from the task's `predict`, found \(2, 3, 8, 8\)"):
        predict_whole(lambda windows: windows, torch.rand(1, 3, 8, 8), (8, 8))
    with pytest.raises(RecipeError, match="a number of crops, or 0 for the whole image squeezed, found -1"):
        predict_whole(lambda windows: windows, torch.rand(1, 3, 8, 8), (8, 8), crops=-1)


def slow_errors(predicted, depth, valid):
    """Some errors of one image, pixel by pixel."""
    pairs = [(p, g) for p, g, v in zip(predicted.ravel(), depth.ravel(), valid.ravel(), strict=True) if v]
    return {
        "abs_rel": sum(abs(p - g) / g for p, g in pairs) / len(pairs),
        "rmse": (sum((p - g) ** 2 for p, g in pairs) / len(pairs)) ** 0.5,
        "log10": sum(abs(np.log10(p) - np.log10(g)) for p, g in pairs) / len(pairs),
        "delta1": sum(max(p / g, g / p) < 1.25 for p, g in pairs) / len(pairs),
    }


@pytest.mark.parametrize("scaling", ["none", "median"])
def test_scores_are_means_of_each_images_own_errors(model, scaling, tmp_path):
    found = evaluate(model, Rooms(), device="cpu", scaling=scaling, cap=(0.5, 9.0), keep=tmp_path / "kept")
    rows = []
    for index in (0, 2, 3, 4, 5):
        name, depth = Rooms().describe(index), Rooms()[index]["depth"][0].double().numpy()
        predicted = read_prediction(tmp_path / "kept", name).astype(np.float64)
        assert predicted.std() > 0.01
        valid = (depth > 0.5) & (depth < 9.0)
        if scaling == "median":
            middle = (valid.sum() - 1) // 2  # the lower of two
            predicted = predicted * np.sort(depth[valid])[middle] / np.sort(predicted[valid])[middle]
        rows.append(slow_errors(predicted, depth, valid))
        assert found.table.loc[name, list(rows[-1])].to_dict() == pytest.approx(rows[-1], rel=1e-5)
    assert found.table.loc["rooms/1.png"].drop("floored").isna().all()  # nothing measured: it says nothing
    for name in rows[0]:
        assert found.means()[name] == pytest.approx(np.mean([row[name] for row in rows]), rel=1e-5)
    assert found.settings["scaling"] == scaling
    assert list(found.table.index) == [f"rooms/{index}.png" for index in range(6)]


def test_the_prediction_is_that_of_the_task_itself_and_batches_change_nothing(model, tmp_path):
    evaluate(model, Rooms(), device="cpu", crops=1, flip_test=False, batch=3, keep=tmp_path)
    trained = load_trained(model)
    with torch.inference_mode():
        image = Rooms()[4]["image"][None]
        canvas = torch.nn.functional.interpolate(image, (96, 64), mode="bilinear", antialias=True)
        views = [canvas[..., top : top + 64, :] for top in (0, 32)]
        top, bottom = (trained.task.predict(trained.backbone, trained.head, view)[0, 0] for view in views)
    whole = torch.cat([top[:32], (top[32:] + bottom[:32]) / 2, bottom[32:]])[None, None]
    expected = torch.nn.functional.interpolate(whole, (90, 60), mode="bilinear", align_corners=False)[0, 0]
    np.testing.assert_allclose(read_prediction(tmp_path, "rooms/4.png"), expected.numpy(), atol=1e-4)


def test_a_choice_of_images_follows_from_the_seed(model):
    chosen = [list(evaluate(model, Rooms(), device="cpu", num=3, seed=seed).table.index) for seed in (1, 1, 2)]
    assert chosen[0] == chosen[1] == sorted(chosen[0]) != chosen[2]


def test_each_dataset_has_its_usual_rules():
    nyuv2, ibims1, other = (DepthProtocol().for_dataset(name) for name in ("nyuv2", "ibims1", "rooms"))
    assert (nyuv2.eigen_crop, nyuv2.cap) == (True, (1e-3, 10.0))
    assert (ibims1.eigen_crop, ibims1.cap) == (False, (0.0, np.inf))
    assert (other.eigen_crop, other.cap) == (False, (1e-3, 10.0))
    assert DepthProtocol(eigen_crop=False, cap=(1, 5)).for_dataset("nyuv2").cap == (1, 5)
    assert ibims1.recorded()["cap"] == [0.0, None]


def test_predictions_not_above_zero_are_raised_and_counted():
    depth = torch.full((1, 4, 5), 2.0)
    depth[0, 0] = 0
    predicted = depth.clone()
    predicted[0, 0, 0] = predicted[0, 1, :2] = -1.0  # the first is not measured, and does not count
    rules = DepthProtocol(scaling="none").for_dataset("")
    found = image_scores(predicted, {"depth": depth}, rules, "a")
    assert found["floored"] == 2
    assert found["abs_rel"] == pytest.approx(2 * (2 - 1e-3) / 2 / 15)
    with pytest.raises(CheckpointError, match="a: expected depth above 0 to scale, found a median of -3"):
        image_scores(
            -3 * torch.ones_like(depth), {"depth": depth}, DepthProtocol(scaling="median").for_dataset(""), "a"
        )
    with pytest.raises(CheckpointError, match="a: expected a finite depth at every pixel"):
        image_scores(predicted / 0, {"depth": depth}, rules, "a")
    with pytest.raises(DataError, match=r"a: expected depth of the image's size \(3, 5\), found \(4, 5\)"):
        image_scores(predicted[:, :3], {"depth": depth}, rules, "a")
