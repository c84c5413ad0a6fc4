"""Attributions: means, paired differences, what is left out, files; and names of checkpoints."""

import json

import numpy as np
import pandas as pd
import pytest
from helpers.attributions import IMAGES, attributions, rows

from cka_probe.attribution.alignment import ZERO
from cka_probe.attribution.attributions import AVERAGED, COLUMNS, CONTROLS, FORMAT, Attributions
from cka_probe.comparison.names import distinct_names
from cka_probe.errors import DataError, UnknownNameError
from cka_probe.similarity.resampling import bootstrap_interval


@pytest.fixture(scope="module")
def result():
    return attributions(rows("none", 0), rows("depth", 1, zero=(0, 5)), rows("other", 2))


def test_means_are_over_the_images_that_have_a_value(result):
    row = result.mean("depth", "ap")
    own_rows = result.of("depth")["ap"].dropna()
    assert (row["value"], row["num"]) == (pytest.approx(own_rows.mean()), 10)
    low, high = bootstrap_interval(own_rows.to_numpy()[:, None], resamples=200)
    assert row["low"] < row["value"] < row["high"]
    assert (row["low"], row["high"]) == (pytest.approx(low[0], abs=0.05), pytest.approx(high[0], abs=0.05))
    table = result.intervals().set_index(["checkpoint", "measure"])
    assert table.loc["depth", "ap"].to_dict() == row
    assert len(table) == 3 * len(AVERAGED)
    assert table.loc[("depth", "zero"), "value"] == pytest.approx(2 / 12)


def test_differences_are_paired_and_turn_their_sign(result):
    forth, back = result.difference("none", "depth"), result.difference("depth", "none")
    pairs = (result.of("none")["ap"] - result.of("depth")["ap"]).dropna()
    assert (forth["value"], forth["num"]) == (pytest.approx(pairs.mean()), 10)
    assert (back["value"], back["low"], back["high"]) == pytest.approx((-forth["value"], -forth["high"], -forth["low"]))
    same = result.difference("none", "none")
    assert (same["value"], same["low"], same["high"]) == (0, 0, 0)


def test_a_shift_of_every_image_is_found_without_width():
    one = rows("none", 3)
    other = one.assign(checkpoint="depth", ap=one["ap"] + 0.25)
    row = attributions(one, other).difference("depth", "none")
    assert [row[end] for end in ("value", "low", "high")] == pytest.approx([0.25] * 3)


def test_each_is_held_against_chance_and_its_own_controls(result):
    table = result.differences().set_index(["first", "second", "measure"])
    own_rows = result.of("other")
    assert table.loc[("other", "chance", "ap"), "value"] == pytest.approx((own_rows["ap"] - own_rows["chance"]).mean())
    edges = table.loc[("other", CONTROLS["edges"], "correlation"), "value"]
    assert edges == pytest.approx((own_rows["correlation"] - own_rows["correlation_edges"]).mean())
    assert ("other", "chance", "correlation") not in table.index
    assert len(table) == 3 * (2 + 2 * 4) + 3 * 4
    signed = table.loc[("depth", CONTROLS["image"], "ap_signed"), "num"]
    assert signed == IMAGES  # before its ReLU a map is not zero


def test_the_summary_says_in_words_what_is_above_chance_and_what_its_controls_do_better():
    above, below = rows("above", 0), rows("below", 1)
    for table, lead in ((above, 0.3), (below, -0.05)):
        table["ap"] = table["chance"] + lead
        table["ap_image"] = table["ap"] + 0.1
        table["ap_edges"] = table["ap"] + np.where(np.arange(IMAGES) % 2, 0.2, -0.2)
    text = attributions(above, below).summary()
    assert "Maps of above find label boundaries better than chance (+0.300 [+0.300, +0.300]), worse than the" in text
    assert "Maps of below find label boundaries worse than chance (-0.050 [-0.050, -0.050])" in text
    assert "not surely different from the image's edges (+0.000 [" in text.replace("-0.000", "+0.000")


def test_checkpoints_that_see_other_pixels_or_too_few_are_told(result):
    table = rows("fine", 0)
    table["ceiling"] = table["chance"] + 0.5
    coarse = rows("coarse", 0)
    coarse["ceiling"] = coarse["chance"] + 0.02
    both = attributions(table, coarse)
    (only,) = both.warnings()
    assert only.startswith("The layer of coarse is too coarse to follow boundaries: at its 48 x 32 pixels the true")
    both.models["coarse"].update(view="middle", layer_size=[2, 2])
    pixels, sizes, _ = both.warnings()
    assert pixels.startswith("Not of the same pixels (fine: the whole image at 96 x 64 pixels; coarse: the middle of")
    assert sizes.startswith("Maps of different size (fine: 48 x 32; coarse: 2 x 2): a finer map")
    assert pixels in both.summary()


def test_the_summary_says_what_is_in_no_mean(result):
    text = result.summary()
    assert "depth: 2 of 12 maps are zero everywhere, and in no mean" in text
    assert "tolerance\n1 px" in text
    assert f"{result.mean('none', 'ap')['value']:.3f} [" in text
    assert result.warnings() == []
    bare = attributions(rows("none", 0, labels=False), labels=False)
    assert bare.warnings() == []
    assert bare.summary().endswith("No alignment with label boundaries: the data have no labels.")
    assert np.isnan(bare.intervals().set_index("measure").loc["ap", "value"])
    assert repr(bare).startswith("<Attributions of 1 checkpoints over 12 images>")


def test_what_was_written_is_read_and_has_the_same_bytes(result, tmp_path):
    path = result.save(tmp_path / "a.json")
    again = Attributions.load(path)
    pd.testing.assert_frame_equal(again.table, result.table)
    assert (again.models, again.data, again.settings) == (result.models, result.data, result.settings)
    assert again.save(tmp_path / "b.json").read_bytes() == path.read_bytes()
    document = json.loads(path.read_text("utf-8"))
    assert document["format"] == FORMAT
    assert document["table"]["ap"][IMAGES] is None  # NaN, which JSON does not know
    table = pd.read_csv(
        result.save(tmp_path / "a.csv"), keep_default_na=False, dtype=dict.fromkeys(("predicted", "undefined"), str)
    )
    assert list(table.columns) == list(COLUMNS)
    assert table["undefined"][IMAGES] == ZERO


def test_what_is_no_attribution_is_said(result, tmp_path):
    with pytest.raises(DataError, match=r"attributions are saved as .json or .csv, found '.txt'"):
        result.save(tmp_path / "a.txt")
    with pytest.raises(DataError, match=r"expected a gradcam.json of `ckaprobe gradcam` at .*, found"):
        Attributions.load(tmp_path / "none.json")
    (tmp_path / "other.json").write_text('{"format": "ckaprobe-scores/1"}')
    with pytest.raises(
        DataError, match="expected attributions of format 'ckaprobe-attributions/1', found 'ckaprobe-sc"
    ):
        Attributions.load(tmp_path / "other.json")
    document = json.loads(result.save(tmp_path / "a.json").read_text("utf-8"))
    del document["table"]["ap"]
    (tmp_path / "a.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match=r"expected a table of checkpoint, image, .*; run the command again"):
        Attributions.load(tmp_path / "a.json")


def test_rows_that_do_not_belong_together_are_refused(result):
    with pytest.raises(DataError, match=r"expected columns checkpoint, .*, found checkpoint, image"):
        Attributions(result.table[["checkpoint", "image"]], result.models, result.data, result.settings, {})
    with pytest.raises(DataError, match=r"same images for each of none, depth, found 12 of none, 11 of depth"):
        attributions(rows("none", 0), rows("depth", 1).iloc[1:])
    with pytest.raises(DataError, match="expected other names of checkpoints than chance, which are controls"):
        attributions(rows("chance", 0))
    with pytest.raises(UnknownNameError, match="no checkpoint 'dept'; did you mean 'depth'"):
        result.difference("none", "dept")
    with pytest.raises(UnknownNameError, match="no measure 'app'; did you mean 'ap'"):
        result.mean("none", "app")


@pytest.mark.parametrize(
    ("references", "names"),
    [
        (["a/b/segment.safetensors"], ["segment"]),
        (["t/none/3/x.safetensors", "t/video/3/x.safetensors"], ["none", "video"]),
        (["none/a.safetensors", "video/b.safetensors"], ["a", "b"]),
        (["t/none/1.safetensors", "t/none/2.safetensors", "t/video/1.safetensors"], ["none/1", "none/2", "video/1"]),
        (["timm:resnet18", "random:resnet18"], ["timm:resnet18", "random:resnet18"]),
        (["a.safetensors", "a.safetensors"], ["a.safetensors", "a.safetensors"]),
    ],
)
def test_checkpoints_are_called_by_what_differs(references, names):
    assert distinct_names(references) == names
