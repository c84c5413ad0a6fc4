"""A label panel shows classes in their vocabulary's colours, and what is wrong where it is."""

import numpy as np
import pytest
from helpers.pages import check_page, check_same_bytes, drawn, words
from matplotlib.patches import Rectangle

from cka_probe.errors import DataError, UnknownNameError
from cka_probe.images.classes import CITYSCAPES, NYU40
from cka_probe.plotting.label_panel import (
    SAID_WRONG,
    UNLABELLED,
    WRONG,
    LabelPanel,
    LabelRow,
    label_panel,
    label_panel_size,
    save_label_panel,
    share_wrong,
)

MODELS = ("no pre-training", "depth from video", "optical flow")


def row(seed, models=MODELS, shape=(12, 16), *, classes=8, ignored=0.1, wrong=0.3, image_shape=None):
    random = np.random.default_rng(seed)
    truth = random.integers(0, classes, shape)
    image = random.integers(0, 256, (*(image_shape or shape), 3), dtype=np.uint8)
    other = {name: random.integers(0, classes, shape) for name in models}
    predictions = {name: np.where(random.random(shape) < wrong, other[name], truth) for name in models}
    truth = np.where(random.random(shape) < ignored, 255, truth)
    return LabelRow(f"a/long/name/of/a/street/aachen_{seed:06d}_000019.png", image, truth, predictions)


def panel(rows, parts=("labels", "wrong"), vocabulary=CITYSCAPES):
    return LabelPanel(rows, vocabulary.names, np.array(vocabulary.colours), parts)


CASES = {
    "three models": panel([row(0), row(1), row(2)]),
    "one model": panel([row(0, ("MP",))]),
    "labels alone": panel([row(0)], ("labels",)),
    "wrong alone": panel([row(0)], ("wrong",)),
    "six models": panel([row(0, tuple("abcdef"))]),
    "shapes": panel([row(0), row(1, shape=(16, 12))]),
    "coarser than the image": panel([row(0, image_shape=(36, 48)), row(1, image_shape=(7, 9))]),
    "all classes of NYU": panel([row(0, shape=(40, 60), classes=40)], vocabulary=NYU40),
    "no label": panel([row(0, ignored=2.0)]),
    "all labelled": panel([row(0, ignored=0.0)]),
}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return CASES[request.param], drawn(label_panel, label_panel_size, CASES[request.param])


def images(ax, shown):
    """The colours of each row's columns."""
    count = 2 + len(shown.rows[0].predictions) * len(shown.parts)
    found = [image.get_array() for image in ax.images]
    return [found[start : start + count] for start in range(0, count * len(shown.rows), count)]


def test_nothing_is_cut_off_too_small_or_over_something_else(case):
    check_page(case[1])


@pytest.mark.parametrize("zoom", [1.0, 1.5, 2.5])
def test_it_is_the_same_page_at_every_size(zoom):
    check_page(drawn(label_panel, label_panel_size, CASES["three models"], zoom=zoom))


def test_truth_and_predictions_have_their_classes_colours(case):
    shown, ax = case
    for line, found in zip(shown.rows, images(ax, shown), strict=True):
        np.testing.assert_allclose(found[0][..., :3], line.image / 255)
        labelled = line.truth != 255
        np.testing.assert_array_equal(found[1][..., 3] > 0, labelled)
        np.testing.assert_allclose(found[1][labelled][:, :3], shown.colours[line.truth[labelled]] / 255)
        if "labels" in shown.parts:
            for place, model in enumerate(shown.rows[0].predictions):
                colours = found[2 + place * len(shown.parts)]
                np.testing.assert_allclose(colours[..., :3], shown.colours[line.predictions[model]] / 255)


def test_what_is_wrong_is_where_it_is_and_is_counted(case):
    shown, ax = case
    if "wrong" not in shown.parts:
        return
    at = list(shown.parts).index("wrong")
    for line, found in zip(shown.rows, images(ax, shown), strict=True):
        for place, (_, predicted) in enumerate(line.predictions.items()):
            colours = found[2 + place * len(shown.parts) + at]
            labelled, wrong = line.truth != 255, (line.truth != 255) & (line.truth != predicted)
            np.testing.assert_array_equal(colours[..., 3] > 0, labelled)
            is_orange = np.isclose(colours[..., :3], np.array(WRONG) / 255).all(-1) & labelled
            np.testing.assert_array_equal(is_orange, wrong)
            if labelled.any():
                assert f"{100 * wrong.sum() / labelled.sum():.1f} %" in words(ax)


def test_the_legend_names_the_classes_that_are_there_and_no_others(case):
    shown, ax = case
    there = {
        number for line in shown.rows for found in (line.truth, *line.predictions.values()) for number in found.flat
    }
    said = set(words(ax))
    expected = {shown.names[number] for number in there - {255}}
    assert expected <= said
    assert not said & (set(shown.names) - expected)
    assert (SAID_WRONG in said) == ("wrong" in shown.parts)
    assert (UNLABELLED in said) == (255 in there)
    hatched = [patch for patch in ax.patches if isinstance(patch, Rectangle) and patch.get_hatch()]
    assert bool(hatched) == (255 in there)


def test_the_share_that_is_wrong_is_of_what_is_labelled():
    truth = np.array([[0, 1, 255, 255], [1, 1, 1, 0]])
    assert share_wrong(np.array([[0, 0, 0, 0], [1, 1, 0, 0]]), truth) == pytest.approx(2 / 6)
    assert np.isnan(share_wrong(truth, np.full_like(truth, 255)))


def test_what_cannot_be_drawn_is_said():
    good = row(0)
    with pytest.raises(DataError, match="at least one image, one model and one part"):
        label_panel_size(panel([]))
    with pytest.raises(DataError, match=r"expected labels of no pre-training, .* found MP"):
        label_panel_size(panel([good, row(1, ("MP",))]))
    with pytest.raises(DataError, match=r"MP is \(3, 4\) and the truth \(12, 16\); resize"):
        label_panel_size(panel([LabelRow("a", good.image, good.truth, {"MP": np.ones((3, 4), int)})]))
    with pytest.raises(DataError, match="expected MP below 19, or 255, found 30"):
        label_panel_size(panel([LabelRow("a", good.image, good.truth, {"MP": np.full((12, 16), 30)})]))
    with pytest.raises(DataError, match=r"a colour for each of 19 classes, found \(3, 3\)"):
        label_panel_size(LabelPanel([good], CITYSCAPES.names, np.zeros((3, 3), int)))
    with pytest.raises(UnknownNameError, match="no part of a label panel 'label'; did you mean 'labels'"):
        label_panel_size(panel([good], ("label",)))


def test_same_bytes(tmp_path):
    check_same_bytes(save_label_panel, CASES["one model"], tmp_path)
