"""Saved predictions: files, the images to show, and panels of what was scored."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.blocks import NAMES, Blocks
from helpers.blocks import checkpoint as label_checkpoint
from helpers.rooms import Rooms, checkpoint

from cka_probe.errors import DataError, UnknownNameError
from cka_probe.images.datasets import DATASETS
from cka_probe.lab.evaluation.evaluate import evaluate
from cka_probe.lab.evaluation.ibims1_errors import predicted_edges
from cka_probe.lab.evaluation.predictions import (
    check_names,
    depth_rows,
    label_rows,
    prediction_path,
    read_label_prediction,
    read_prediction,
    representative_images,
    save_prediction,
    write_manifest,
)
from cka_probe.lab.evaluation.protocol import DepthProtocol
from cka_probe.lab.evaluation.scores import Scores
from cka_probe.plotting.predictions import TRUTH

IMAGES = ["küche/rgb_00001.jpg", "office/rgb_00002.jpg", "office/rgb_00003.jpg"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return checkpoint(tmp_path_factory.mktemp("model") / "depth.safetensors")


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "segment.safetensors"
    return label_checkpoint(path, "segmentation", classes=4, network="linear", subset=(0, 2))


@pytest.fixture(autouse=True)
def rooms(monkeypatch):
    monkeypatch.setitem(DATASETS, "rooms", Rooms)


def test_saved_predictions_are_exact(tmp_path):
    depth = np.random.default_rng(0).random((5, 7)).astype(np.float32)
    path = save_prediction(tmp_path / "kept", IMAGES[0], depth)
    assert path == prediction_path(tmp_path / "kept", IMAGES[0])
    np.testing.assert_array_equal(read_prediction(tmp_path / "kept", IMAGES[0]), depth)
    first = path.read_bytes()
    assert save_prediction(tmp_path / "kept", IMAGES[0], depth).read_bytes() == first
    note = json.loads(write_manifest(tmp_path / "kept", IMAGES[:1], {"hash": "ab"}, {}).read_text(encoding="utf-8"))
    assert note["images"] == {IMAGES[0]: path.name}
    assert note["model"] == {"hash": "ab"}


def test_missing_predictions_are_one_line_errors(tmp_path):
    with pytest.raises(DataError, match=r"expected the saved prediction of 'a/b' at .*a__b\.npz, found .*--keep"):
        read_prediction(tmp_path, "a/b")
    prediction_path(tmp_path, "a").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(DataError, match="expected the saved prediction of 'a'"):
        read_prediction(tmp_path, "a")
    with pytest.raises(DataError, match="found 'a/b' and 'a__b'; rename one"):
        check_names(["a/b", "c", "a__b"])


def test_images_from_the_best_to_the_worst():
    table = pd.DataFrame({"abs_rel": [0.5, 0.1, np.nan, 0.3, 0.2, 0.4]}, index=list("abcdef"))
    scores = Scores(table, {}, {}, {}, {})
    assert representative_images(scores, 3) == ["b", "d", "a"]
    assert representative_images(scores, 9) == ["b", "e", "d", "f", "a"]
    with pytest.raises(UnknownNameError, match="no measure 'absrel'; did you mean 'abs_rel'"):
        representative_images(scores, 1, "absrel")
    with pytest.raises(DataError, match="at least one image to show, found 0"):
        representative_images(scores, 0)


@pytest.mark.parametrize("scaling", ["none", "median", "affine"])
def test_panels_show_what_was_scored(model, tmp_path, scaling):
    scores = evaluate(model, "rooms:x", device="cpu", scaling=scaling, cap=(0.5, np.inf), keep=tmp_path, num=4)
    rules = DepthProtocol.from_recorded(scores.settings)
    names = representative_images(scores, 4)
    rows = depth_rows("rooms:x", {"last": tmp_path, "again": tmp_path}, names, rules)
    assert [row.name for row in rows] == names
    for row in rows:
        valid = row.truth > 0.5
        shown = np.abs(row.predictions["last"] - row.truth)[valid] / row.truth[valid]
        assert shown.mean() == pytest.approx(scores.table.loc[row.name, "abs_rel"], rel=1e-5)
        assert row.image.dtype == np.uint8
        assert row.image.shape == (*row.truth.shape, 3)
        assert TRUTH not in row.edges
        np.testing.assert_array_equal(row.edges["last"], predicted_edges(row.predictions["again"]))


def test_images_that_cannot_be_shown_are_one_line_errors(tmp_path):
    rules = DepthProtocol(scaling="none").for_dataset("")
    with pytest.raises(UnknownNameError, match=r"no image 'rooms/9\.png'; did you mean"):
        depth_rows("rooms:x", {"a": tmp_path}, ["rooms/9.png"], rules)
    with pytest.raises(DataError, match=r"expected the saved prediction of 'rooms/0\.png'"):
        depth_rows("rooms:x", {"a": tmp_path}, ["rooms/0.png"], rules)
    save_prediction(tmp_path, "rooms/0.png", torch.ones(3, 4).numpy())
    with pytest.raises(DataError, match=r"a prediction of the image's size \(48, 80\) in .*, found \(3, 4\)"):
        depth_rows("rooms:x", {"a": tmp_path}, ["rooms/0.png"], rules)


def test_labels_are_shown_as_they_were_scored(segmenter, tmp_path):
    scores = evaluate(segmenter, Blocks((60, 90)), device="cpu", keep=tmp_path)
    names = representative_images(scores, 3)
    own = scores.table().loc[names, "miou"].to_numpy()
    assert (np.diff(own) <= 0).all()
    assert own[0] == scores.table()["miou"].max()
    panel = label_rows(Blocks((60, 90)), {"none": tmp_path}, names)
    assert [row.name for row in panel.rows] == names
    assert tuple(panel.names) == NAMES
    for row in panel.rows:
        np.testing.assert_array_equal(row.predictions["none"], read_label_prediction(tmp_path, row.name))
        assert row.truth.shape == row.image.shape[:2] == (60, 90)
    with pytest.raises(DataError, match=r"saved prediction of 'blocks/0.png' at .*, found none; run"):
        label_rows(Blocks(), {"none": tmp_path / "other"}, ["blocks/0.png"])
