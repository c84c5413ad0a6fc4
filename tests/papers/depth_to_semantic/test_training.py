"""The choice of a learning rate, and which weights are kept."""

import math

import pytest

from cka_probe.errors import DataError
from cka_probe.papers.depth_to_semantic.cases import Case
from cka_probe.papers.depth_to_semantic.recipes import (
    Trial,
)
from cka_probe.papers.depth_to_semantic.training import best_rate, held_out, is_compared, keeps_weights


def test_the_best_held_out_rate_is_chosen():
    nan = math.nan
    tried = {1e-3: {"miou_subset": 0.2, "miou": 0.9}, 1e-2: {"miou_subset": 0.3, "miou": 0.1}, 1.0: {}}
    rate, measure, values = best_rate(tried, "case")
    assert (rate, measure) == (1e-2, "miou_subset")
    assert values[1e-3] == 0.2
    assert math.isnan(values[1.0])
    whole = {1e-3: {"miou_subset": nan, "miou": 0.2}, 1e-2: {"miou_subset": 0.5, "miou": 0.2}}
    assert best_rate(whole, "case")[:2] == (1e-3, "miou")
    with pytest.raises(DataError, match=r"case: expected a held-out mIoU at one of the learning rates 1, found none"):
        best_rate({1.0: {}}, "case")


def test_without_held_out_images_no_rate_can_be_chosen(tmp_path):
    with pytest.raises(DataError, match=r"validation.csv, found nothing; set segment.held_out"):
        held_out(tmp_path)
    (tmp_path / "segment").mkdir()
    (tmp_path / "segment" / "validation.csv").write_text("step,miou,accuracy\n1,0.1,0\n2,0.25,0\n")
    assert held_out(tmp_path) == {"miou": 0.25}


def test_which_weights_are_kept_and_which_encoders_compared():
    base = Case("video")
    assert keeps_weights(Trial(base, 1, 0, 0))
    assert not keeps_weights(Trial(base, 1, 0, 1))
    assert not keeps_weights(Trial(Case("video", mode="frozen"), 1, 0, 0))
    assert is_compared(base)
    assert is_compared(Case("video", mode="frozen"))
    assert not is_compared(Case("video", network="deeplab"))
    assert not is_compared(Case("video", num=4))
