"""Vocabularies and the tables between numberings."""

import itertools

import numpy as np
import pytest

from cka_probe.errors import DataError
from cka_probe.images.classes import (
    ADE150,
    CAMVID11,
    CITYSCAPES,
    CITYSCAPES_IDS,
    NYU13,
    NYU40,
    NYU40_TO_13,
    UNKNOWN,
    VOC21,
    Classes,
    _lab,
    numbered,
    palette,
    table,
)
from cka_probe.images.sample import IGNORE

VOCABULARIES = {
    "ade150": ADE150,
    "camvid11": CAMVID11,
    "cityscapes": CITYSCAPES,
    "nyu13": NYU13,
    "nyu40": NYU40,
    "voc21": VOC21,
}


@pytest.mark.parametrize("name", VOCABULARIES)
def test_a_vocabulary_has_as_many_classes_as_it_is_called_and_each_its_own_name_and_colour(name):
    classes = VOCABULARIES[name]
    assert len(classes) == int("".join(filter(str.isdigit, name)) or 19)
    assert len(set(classes.names)) == len(set(classes.colours)) == len(classes)
    assert all(0 <= value <= 255 for colour in classes.colours for value in colour)
    assert all(part == part.strip() != "" for part in classes.names)


@pytest.mark.parametrize("name", VOCABULARIES)
def test_painted_classes_can_be_told_back(name):
    classes = VOCABULARIES[name]
    labels = np.array([[*range(len(classes)), IGNORE]])
    painted = classes.paint(labels)
    assert painted.shape == (1, len(classes) + 1, 3)
    assert painted.dtype == np.uint8
    assert len({tuple(colour) for colour in painted[0].tolist()}) == len(classes) + 1


def test_painting_what_is_no_class_says_so():
    with pytest.raises(DataError, match="expected labels below 13 or 255, found 13; give its own classes"):
        NYU13.paint(np.array([[0, 13]]))
    with pytest.raises(DataError, match="expected one colour for each of 2 classes, found 1"):
        Classes(("a", "b"), ((0, 0, 0),))


def test_colours_of_the_palette_are_far_apart_and_stay_when_classes_are_added():
    assert palette(40)[:13] == palette(13)
    assert len(set(palette(1000))) == 1000
    lab = _lab(np.array(palette(40), float))
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(lab, 2)) > 25


def test_distances_are_taken_in_cielab():
    known = {(255, 255, 255): (100, 0, 0), (0, 0, 0): (0, 0, 0), (255, 0, 0): (53.24, 80.09, 67.20)}
    np.testing.assert_allclose(_lab(np.array(list(known), float)), np.array(list(known.values())), atol=0.02)


def test_the_numbers_of_city_scenes():
    assert CITYSCAPES_IDS.shape == (256,)
    names = {7: "road", 8: "sidewalk", 11: "building", 21: "vegetation", 26: "car", 31: "train", 33: "bicycle"}
    assert {number: CITYSCAPES.names[CITYSCAPES_IDS[number]] for number in names} == names
    trained = CITYSCAPES_IDS[(CITYSCAPES_IDS >= 0) & (CITYSCAPES_IDS != IGNORE)]
    assert trained.tolist() == list(range(19))  # each class once, in order
    assert set(CITYSCAPES_IDS[[0, 4, 9, 10, 29, 30, IGNORE]].tolist()) == {IGNORE}
    assert set(CITYSCAPES_IDS[34:255].tolist()) == {UNKNOWN}


def test_the_forty_classes_of_rooms_become_thirteen_by_meaning():
    same = {"bed", "books", "ceiling", "chair", "floor", "picture", "sofa", "table", "wall", "window"}
    for name in same:
        assert NYU13.names[NYU40_TO_13[NYU40.names.index(name)]] == name
    meant = {"television": "tv", "desk": "table", "blinds": "window", "floor mat": "floor", "cabinet": "furniture"}
    for name, coarse in meant.items():
        assert NYU13.names[NYU40_TO_13[NYU40.names.index(name)]] == coarse
    assert set(NYU40_TO_13[:40].tolist()) == set(range(13))
    assert NYU40_TO_13[IGNORE] == IGNORE
    assert (NYU40_TO_13[40:255] == UNKNOWN).all()


def test_voc_colours_are_the_bits_of_the_number():
    assert VOC21.colours[:4] == ((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0))
    assert VOC21.colours[8] == (64, 0, 0)
    assert VOC21.colours[VOC21.names.index("person")] == (192, 128, 128)


def test_a_table_knows_what_it_was_told_and_nothing_else():
    found = table({3: 0, 300: 1, 255: IGNORE}, 301)
    assert found.dtype == np.int64
    assert found[[3, 300, 255, 0]].tolist() == [0, 1, IGNORE, UNKNOWN]
    assert numbered(2).names == ("0", "1")
