"""Protocols: defaults of datasets, settings of a result, the scores of one image."""

import numpy as np
import pytest
import torch

from cka_probe.errors import CheckpointError, DataError, UnknownNameError
from cka_probe.lab.evaluation.protocol import DepthProtocol, image_scores


def test_each_dataset_has_its_usual_rules():
    nyuv2, ibims1, other = (DepthProtocol().for_dataset(name) for name in ("nyuv2", "ibims1", "rooms"))
    assert (nyuv2.crop, nyuv2.cap) == ("eigen_nyuv2", (1e-3, 10.0))
    assert (ibims1.crop, ibims1.cap) == ("none", (0.0, np.inf))
    assert (other.crop, other.cap) == ("none", (1e-3, 10.0))
    assert DepthProtocol(crop="none", cap=(1, 5)).for_dataset("nyuv2").cap == (1, 5)
    assert ibims1.recorded()["cap"] == [0.0, None]


def test_an_affine_prediction_is_the_truth_after_alignment():
    depth = 1 + 4 * torch.rand(1, 9, 12, generator=torch.Generator().manual_seed(0))
    scores = {
        scaling: image_scores(0.2 * depth + 3, {"depth": depth}, DepthProtocol(scaling=scaling).for_dataset(""), "a")
        for scaling in ("none", "median", "affine")
    }
    assert scores["affine"]["abs_rel"] == pytest.approx(0, abs=1e-5)
    assert min(scores["none"]["abs_rel"], scores["median"]["abs_rel"]) > 0.1


def test_predictions_not_above_zero_are_raised_and_counted():
    depth = torch.full((1, 4, 5), 2.0)
    depth[0, 0] = 0
    predicted = depth.clone()
    predicted[0, 0, 0] = predicted[0, 1, :2] = -1.0  # the first is not measured, and does not count
    rules = DepthProtocol(scaling="none").for_dataset("")
    scores = image_scores(predicted, {"depth": depth}, rules, "a")
    assert scores["floored"] == 2
    assert scores["abs_rel"] == pytest.approx(2 * (2 - 1e-3) / 2 / 15)
    with pytest.raises(CheckpointError, match="a: expected depth above 0 to scale, found a median of -3"):
        image_scores(
            -3 * torch.ones_like(depth), {"depth": depth}, DepthProtocol(scaling="median").for_dataset(""), "a"
        )
    with pytest.raises(CheckpointError, match="a: expected a finite depth at every pixel"):
        image_scores(predicted / 0, {"depth": depth}, rules, "a")
    with pytest.raises(DataError, match=r"a: expected depth of the image's size \(3, 5\), found \(4, 5\)"):
        image_scores(predicted[:, :3], {"depth": depth}, rules, "a")


def test_the_crop_of_eigen_is_that_of_the_dataset():
    assert DepthProtocol(crop="eigen").for_dataset("kitti").crop == "eigen_kitti"
    assert DepthProtocol(crop="eigen").for_dataset("nyuv2").crop == "eigen_nyuv2"
    with pytest.raises(DataError, match="expected eigen_nyuv2 or eigen_kitti as crop for ibims1, found eigen"):
        DepthProtocol(crop="eigen").for_dataset("ibims1")
    with pytest.raises(UnknownNameError, match="no crop 'grag'; did you mean 'garg'"):
        DepthProtocol(crop="grag")


def test_the_error_outside_a_crop_is_over_the_rows_above_and_below_it():
    depth, predicted = torch.full((1, 48, 64), 2.0), torch.full((1, 48, 64), 2.0)
    predicted[:, :4] = 3.0  # above the box, which begins at row 4
    predicted[:, 4:, :2] = 9.0  # to its left
    depth[:, 47] = 0.0  # not measured
    scores = image_scores(predicted, {"depth": depth}, DepthProtocol(scaling="none").for_dataset("nyuv2"), "a")
    assert scores["abs_rel"] == 0
    assert scores["abs_rel_outside"] == pytest.approx(0.5)
    uncropped = image_scores(predicted, {"depth": depth}, DepthProtocol(scaling="none").for_dataset(""), "a")
    assert "abs_rel_outside" not in uncropped


def test_rules_come_back_from_a_result():
    rules = DepthProtocol(crop="garg", cap=(0.5, np.inf), scaling="median", crops=3, canny=(0.15, 0.3), num=7)
    assert DepthProtocol.from_recorded(rules.recorded()) == rules
