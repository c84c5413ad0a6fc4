"""A label panel shows classes in their vocabulary's colours, and what is wrong where it is."""

import numpy as np
import pytest
from helpers.figures_of_images import EIGHT, LONG_NAMES
from helpers.figures_of_images import label_panel as panel
from helpers.figures_of_images import label_row as row
from helpers.pages import check_legible, each, images, sheet_of, words

from cka_probe.errors import DataError, UnknownNameError
from cka_probe.images.classes import CITYSCAPES, NYU40
from cka_probe.plotting.predictions import (
    UNLABELLED,
    WRONG,
    WRONG_KEY,
    LabelPanel,
    PredictionRow,
    share_wrong,
)

MODELS = ("no pre-training", "depth from video", "optical flow")


CASES = {
    "three models": panel([row(0), row(1), row(2)]),
    "one model": panel([row(0, ("MP",))]),
    "labels alone": panel([row(0)], ("labels",)),
    "wrong alone": panel([row(0, ignored=0.0)], ("wrong",)),
    "eight models": panel([row(0, EIGHT, classes=19)]),
    "long names": panel([row(0, LONG_NAMES)]),
    "shapes": panel([row(0), row(1, shape=(16, 12))]),
    "coarser than the image": panel([row(0, image_shape=(36, 48)), row(1, image_shape=(7, 9))]),
    "all classes of NYU": panel([row(0, shape=(40, 60), classes=40)], vocabulary=NYU40),
    "no label": panel([row(0, ignored=2.0)]),
}


@pytest.fixture(scope="module", params=each(CASES))
def case(request):
    return CASES[request.param], sheet_of(CASES[request.param])


def columns(shown):
    return 2 + len(shown.rows[0].predictions) * len(shown.parts)


def test_nothing_is_cut_off_too_small_or_over_something_else(case):
    check_legible(case[1], least=6.0)


def test_truth_and_predictions_have_their_classes_colours(case):
    shown, sheet = case
    for line, found in zip(shown.rows, images(sheet, columns(shown)), strict=True):
        np.testing.assert_allclose(found[0][..., :3], line.image / 255)
        labelled = line.truth != 255
        np.testing.assert_array_equal(found[1][..., 3] > 0, labelled)
        np.testing.assert_allclose(found[1][labelled][:, :3], shown.colours[line.truth[labelled]] / 255)
        if "labels" in shown.parts:
            for place, model in enumerate(shown.rows[0].predictions):
                colours = found[2 + place * len(shown.parts)]
                np.testing.assert_allclose(colours[..., :3], shown.colours[line.predictions[model]] / 255)


def test_what_is_wrong_is_where_it_is_and_is_counted(case):
    shown, sheet = case
    if "wrong" not in shown.parts:
        return
    at = list(shown.parts).index("wrong")
    for line, found in zip(shown.rows, images(sheet, columns(shown)), strict=True):
        for place, (_, predicted) in enumerate(line.predictions.items()):
            colours = found[2 + place * len(shown.parts) + at]
            labelled, wrong = line.truth != 255, (line.truth != 255) & (line.truth != predicted)
            np.testing.assert_array_equal(colours[..., 3] > 0, labelled)
            is_orange = np.isclose(colours[..., :3], np.array(WRONG) / 255).all(-1) & labelled
            np.testing.assert_array_equal(is_orange, wrong)
            if labelled.any():
                assert f"{100 * wrong.sum() / labelled.sum():.1f} %" in words(sheet)


def test_the_legend_names_the_classes_that_are_there_and_no_others(case):
    shown, sheet = case
    there = {
        number for line in shown.rows for found in (line.truth, *line.predictions.values()) for number in found.flat
    }
    said = set(words(sheet))
    expected = {shown.names[number] for number in there - {255}}
    assert expected <= said
    assert not said & (set(shown.names) - expected)
    assert (WRONG_KEY in said) == ("wrong" in shown.parts)
    assert (UNLABELLED in said) == (255 in there)
    hatched = [patch for ax in sheet.axes for patch in ax.patches if patch.get_hatch()]
    assert bool(hatched) == (255 in there)


def test_the_share_that_is_wrong_is_of_what_is_labelled():
    truth = np.array([[0, 1, 255, 255], [1, 1, 1, 0]])
    assert share_wrong(np.array([[0, 0, 0, 0], [1, 1, 0, 0]]), truth) == pytest.approx(2 / 6)
    assert np.isnan(share_wrong(truth, np.full_like(truth, 255)))


def test_what_cannot_be_drawn_is_said():
    good = row(0)
    with pytest.raises(DataError, match="at least one image, one model and one part"):
        panel([])
    with pytest.raises(DataError, match=r"expected predictions of no pre-training, .* found MP"):
        panel([good, row(1, ("MP",))])
    with pytest.raises(DataError, match=r"MP is \(3, 4\) and the truth \(12, 16\); resize"):
        panel([PredictionRow("a", good.image, good.truth, {"MP": np.ones((3, 4), int)})])
    with pytest.raises(DataError, match="expected MP below 19, or 255, found 30"):
        panel([PredictionRow("a", good.image, good.truth, {"MP": np.full((12, 16), 30)})])
    with pytest.raises(DataError, match=r"a colour for each of 19 classes, found \(3, 3\)"):
        LabelPanel([good], CITYSCAPES.names, np.zeros((3, 3), int))
    with pytest.raises(UnknownNameError, match="no part of a label panel 'label'; did you mean 'labels'"):
        panel([good], ("label",))
