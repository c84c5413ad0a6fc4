"""A panel of Grad-CAM maps: every map is there in its own colours, zero is said, and nothing is cut or too small."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.pages import check_legible, each, images, sheet_of, texts, words
from matplotlib import colormaps

from cka_probe.errors import DataError, UnknownNameError
from cka_probe.images.classes import CITYSCAPES
from cka_probe.plotting.cam_panel import (
    MAPS,
    SIGNED,
    ZERO,
    CamColumn,
    CamPanel,
    overlaid,
)
from cka_probe.plotting.predictions import UNLABELLED

MODELS = ("no pre-training", "procedural object classification", "depth from video")
FOOTNOTE = "AP: average precision of the map's steepness for label boundaries within 1 px, in brackets that of chance."


def column(seed, models=MODELS, shape=(16, 24), predicts="labels", **more):
    random = np.random.default_rng(seed)
    maps = {name: random.random(shape) for name in models}
    predicted = {
        "labels": lambda: random.integers(0, 8, shape),
        "depth": lambda: 1 + 9 * random.random(shape),
        "category": lambda: str(random.choice(["a teapot", "a very long name of a class that has no room", "cube"])),
    }
    predictions = {name: predicted[predicts]() for name in models} if predicts else {}
    truth = predicted[predicts]() if predicts else None
    image = random.integers(0, 256, (*shape, 3), dtype=np.uint8)
    name = f"a/long/name/of/a/street/aachen_{seed:06d}_000019.png"
    notes = dict.fromkeys(models, f"AP 0.{seed}1 (0.20)")
    return CamColumn(name, image, maps, truth, predictions, **{"notes": notes} | more)


def panel(columns, predicts="labels", **more):
    names, colours = (
        (CITYSCAPES.names, np.array(CITYSCAPES.colours)) if predicts == "labels" else ((), np.zeros((0, 3)))
    )
    return CamPanel(columns, predicts, names, colours, **{"footnote": FOOTNOTE} | more)


def zero(one, models):
    return replace(one, maps=one.maps | {model: np.zeros_like(one.maps[model]) for model in models})


def with_signed(one):
    return replace(one, signed={name: 2 * shown - 1 for name, shown in one.maps.items()})


def over_images(one):
    return replace(one, backgrounds=dict.fromkeys(one.maps, one.image))


def test_a_map_over_an_image_is_clear_where_it_is_0_and_coloured_where_it_is_1():
    image = np.random.default_rng(0).integers(0, 256, (2, 2, 3), dtype=np.uint8)
    colours = overlaid(np.array([[0.0, 1.0], [0.25, 0.0]]), image)
    grey = (image / 255) @ [0.299, 0.587, 0.114]
    for index, opacity in {(0, 0): 0.0, (0, 1): 0.7, (1, 0): 0.35, (1, 1): 0.0}.items():
        colour = colormaps[MAPS]({(0, 1): 1.0, (1, 0): 0.25}.get(index, 0.0))[:3]
        np.testing.assert_allclose(colours[index][:3], opacity * np.array(colour) + (1 - opacity) * grey[index])
    np.testing.assert_array_equal(overlaid(np.zeros((2, 2)), image), colormaps[MAPS](np.zeros((2, 2))))


def with_classes(one, names):
    return replace(one, class_maps={model: dict.fromkeys(names, one.maps[model][::-1]) for model in one.maps})


IGNORED = replace(column(3), truth=np.where(np.indices((16, 24)).sum(0) % 5 == 0, 255, 1))
CASES = {
    "four images": panel([column(i) for i in range(4)]),
    "one image of one network": panel([column(0, ("MP",))]),
    "zero, some truth": panel([replace(zero(column(0), MODELS), truth=None), zero(column(1), MODELS[1:2])]),
    "before the ReLU, classes": panel(
        [with_signed(with_classes(column(i), ("car", "road"))) for i in range(2)], classes=("car", "road")
    ),
    "many images": panel([column(i, MODELS[:1]) for i in range(9)]),
    "many networks": panel([column(i, tuple(f"network_{n}~kitti~skip~all" for n in range(8))) for i in range(2)]),
    "depth of flat images": panel([column(i, shape=(10, 34), predicts="depth") for i in range(3)], "depth"),
    "class of tall images": panel([column(i, shape=(30, 12), predicts="category") for i in range(4)], "category"),
    "nothing predicted": panel([column(i, predicts="", notes={}) for i in range(3)], "", footnote=""),
    "ignored": panel([IGNORED]),
    "over images, no truth": panel(
        [replace(over_images(zero(column(i), MODELS[1 : 2 - i])), truth=None) for i in range(2)]
    ),
}


@pytest.fixture(scope="module", params=each(CASES))
def case(request):
    return CASES[request.param], sheet_of(CASES[request.param])


def test_nothing_is_cut_off_too_small_or_over_something_else(case):
    check_legible(case[1], least=6.0)


def test_every_map_is_drawn_in_its_own_colours(case):
    shown, sheet = case
    (found,) = images(sheet, 10**6)
    for one in shown.columns:
        for name, own in one.maps.items():
            assert any(np.array_equal(array, overlaid(own, one.backgrounds.get(name))) for array in found)
        for own in one.signed.values():
            assert any(np.array_equal(array, colormaps[SIGNED]((own + 1) / 2)) for array in found)
        assert any(np.allclose(array[..., :3], one.image / 255) for array in found if array.shape[2] == 4)


def test_zero_maps_and_no_others_are_said_to_be_zero(case):
    shown, sheet = case
    zero = sum(not own.any() for one in shown.columns for own in one.maps.values())
    assert words(sheet).count(ZERO) == zero


def test_rows_and_networks_are_named_and_notes_stand_above_maps(case):
    shown, sheet = case
    said = words(sheet)
    maps = len(shown.columns[0].maps)
    assert said.count("map") == maps
    assert said.count("truth") == any(one.truth is not None for one in shown.columns)
    for name in shown.classes:
        assert said.count(f"map of {name}") == maps
    for one in shown.columns:
        for note in one.notes.values():
            assert note in said
    bold = " ".join(text.get_text() for text in texts(sheet) if text.get_weight() == "bold")
    assert all(part in bold for name in shown.columns[0].maps for part in name.split(" ") if "~" not in part)


def test_the_keys_say_what_is_on_the_page(case):
    shown, sheet = case
    said = words(sheet)
    over = " over its image" if shown.columns[0].backgrounds else ""
    assert f"map{over}, each on its own scale" in said
    assert ("before the ReLU, each on its own" in said) == bool(shown.columns[0].signed)
    assert ("depth, each over its own range" in said) == (shown.predicts == "depth")
    assert (UNLABELLED in said) == (shown is CASES["ignored"])
    if shown.predicts == "labels":
        there = {
            number
            for one in shown.columns
            for found in (one.truth, *one.predictions.values())
            if found is not None
            for number in np.unique(found)
        }
        assert {shown.names[number] for number in there - {255}} <= set(said)


def test_pages_are_no_wider_than_a_page_unless_panels_would_show_nothing(case):
    shown, sheet = case
    assert shown.width <= 7.2 or len(shown.columns) > 7
    assert sheet.get_figheight() <= 9.8 or shown.width <= max(1.1 + 0.8 * len(shown.columns), 3.5)


def test_what_cannot_be_drawn_is_said():
    good = column(0)
    with pytest.raises(DataError, match="at least one image and one network"):
        panel([])
    with pytest.raises(DataError, match=r"expected maps of no pre-training, .*, found MP; give all"):
        panel([good, column(1, ("MP",))])
    with pytest.raises(DataError, match=r"expected predictions of .*, found none; give all"):
        panel([replace(good, predictions={})])
    with pytest.raises(DataError, match=r"expected maps of car of .*, found none"):
        panel([good], classes=("car",))
    with pytest.raises(DataError, match=r"expected maps before the ReLU of .*, found none"):
        panel([with_signed(good), column(1)])
    with pytest.raises(UnknownNameError, match="no class 'cart'; did you mean 'car'"):
        panel([good], classes=("cart",))
    with pytest.raises(UnknownNameError, match="no kind of prediction 'label'; did you mean 'labels'"):
        replace(panel([good]), predicts="label")
    with pytest.raises(DataError, match=r"expected maps \(height, width\) in \[0, 1\], found another; scale"):
        panel([replace(good, maps={name: 2 + own for name, own in good.maps.items()})])
    with pytest.raises(DataError, match=r"expected images below maps of .*, found none"):
        panel([over_images(good), column(1)])
    with pytest.raises(DataError, match=r"expected an image of \(8, 24\) below a map of \(16, 24\)"):
        panel([replace(good, backgrounds=dict.fromkeys(MODELS, good.image[:8]))])
    with pytest.raises(DataError, match="expected labels below 19, or 255, found 30"):
        panel([replace(good, truth=np.full((16, 24), 30))])
    with pytest.raises(DataError, match=r"a colour for each of 19 classes, found \(3, 3\)"):
        replace(panel([good]), colours=np.zeros((3, 3)))
