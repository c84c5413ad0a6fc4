"""Scores: means, the file that holds them and nothing else, what a terminal shows, files that are none."""

import json

import numpy as np
import pandas as pd
import pytest

from cka_probe.errors import DataError
from cka_probe.lab.evaluation.depth import ERRORS
from cka_probe.lab.evaluation.ibims1_errors import BOUNDARIES, DIRECTED, PLANARITY
from cka_probe.lab.evaluation.scores import COUNTS, MEASURES, OUTSIDE, SHARES, Scores, describe_measure

NAMES = ["küche/rgb_00001.jpg", "office/rgb_00002.jpg", "office/rgb_00003.jpg"]


@pytest.fixture
def scores():
    table = pd.DataFrame(
        {
            "abs_rel": [0.1, 0.2, 0.6],
            "abs_rel_median": [1 / 3, np.nan, 0.1],
            "pe_plan": [2.0, 5.0, np.nan],
            "pe_orie": [10.0, 40.0, np.nan],
            "dbe_acc": np.nan,
            "planes": [3.0, 1.0, 0.0],
            "floored": [0.0, 7.0, 0.0],
        },
        index=NAMES,
    )
    model = {"reference": "a.safetensors", "hash": "ab", "stage": "depth", "task": "depth", "architecture": "resnet18"}
    data = {"source": "ibims1:ibims", "hash": "cd", "num": 3}
    settings = {
        "crop": "none",
        "cap": [0.0, None],
        "flip_test": True,
        "crops": 2,
        "scaling": "none",
        "resamples": 300,
        "seed": 1,
        "floor": 1e-3,
    }
    return Scores(table, model, data, settings, {"torch": "2.6"})


def test_means_are_over_the_images_that_have_a_value(scores):
    assert scores.means()["abs_rel"] == pytest.approx(0.3)
    assert scores.means()["abs_rel_median"] == pytest.approx((1 / 3 + 0.1) / 2)
    assert np.isnan(scores.means()["dbe_acc"])
    intervals = scores.intervals()
    assert list(intervals.columns) == ["value", "low", "high", "num"]
    assert intervals["num"].to_dict() == dict(zip(scores.table, [3, 2, 2, 2, 0, 3, 3], strict=True))
    pd.testing.assert_series_equal(intervals["value"], scores.means(), check_names=False)
    assert 0.1 <= intervals.loc["abs_rel", "low"] < 0.3 < intervals.loc["abs_rel", "high"] <= 0.6
    wide, narrow = (scores.intervals(level).loc["abs_rel"] for level in (0.95, 0.5))
    assert wide["low"] <= narrow["low"] < narrow["high"] <= wide["high"]


def test_planes_count_once_each(scores):
    assert tuple(scores.over_planes()) == pytest.approx(((3 * 2 + 5) / 4, (3 * 10 + 40) / 4))


def test_the_file_holds_everything_and_the_same_scores_give_the_same_bytes(scores, tmp_path):
    scores.save(tmp_path / "a" / "scores.json")
    again = Scores.load(tmp_path / "a" / "scores.json")
    pd.testing.assert_frame_equal(again.table, scores.table)
    for part in ("model", "data", "settings", "versions"):
        assert getattr(again, part) == getattr(scores, part)
    again.save(tmp_path / "b.json")
    assert (tmp_path / "b.json").read_bytes() == (tmp_path / "a" / "scores.json").read_bytes()
    document = json.loads((tmp_path / "b.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert document["means"]["abs_rel"]["value"] == pytest.approx(0.3)
    assert document["table"]["measures"]["pe_plan"] == [2.0, 5.0, None]
    assert document["table"]["images"] == NAMES


def test_the_csv_is_a_row_for_each_image(scores, tmp_path):
    read = pd.read_csv(scores.save(tmp_path / "scores.csv"), index_col="image")
    pd.testing.assert_frame_equal(read, scores.table, check_names=False)


def test_the_summary_names_what_was_scored_and_how(scores):
    text = scores.summary()
    assert "a.safetensors (resnet18, task depth)" in text
    assert "3 images from ibims1:ibims, no crop, not scaled" in text
    assert "over all planes, as iBims-1's authors average: pe_plan 2.75 cm, pe_orie 17.50 deg" in text
    assert "7 valid pixels were predicted below 0.001 m" in text
    rows = {line.split()[0] for line in text.splitlines() if line}
    assert {"abs_rel", "abs_rel_median", "pe_plan"} <= rows
    assert not rows & set(COUNTS)
    assert text in repr(scores)


def test_every_measure_is_described():
    assert set(MEASURES) == {*ERRORS, OUTSIDE, *BOUNDARIES, *PLANARITY, *DIRECTED, *SHARES, "cross_entropy", *COUNTS}
    assert describe_measure("rmse_median") is MEASURES["rmse"]
    assert {describe_measure(name).better for name in ("delta1", "dde_0")} == {"higher"}
    assert describe_measure("something").better == ""


def test_files_without_scores_are_one_line_errors(scores, tmp_path):
    with pytest.raises(DataError, match=r"saved as \.json or \.csv, found '\.txt'"):
        scores.save(tmp_path / "scores.txt")
    with pytest.raises(DataError, match=r"expected a scores\.json of `ckaprobe evaluate` at .*none\.json, found"):
        Scores.load(tmp_path / "none.json")
    path = scores.save(tmp_path / "scores.json")
    document = json.loads(path.read_text(encoding="utf-8"))
    for wrong in ([], document | {"format": "ckaprobe-result/1"}, {"format": document["format"]}):
        path.write_text(json.dumps(wrong))
        with pytest.raises(DataError, match="expected scores of format 'ckaprobe-scores/1', found"):
            Scores.load(path)
