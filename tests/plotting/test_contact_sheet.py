"""A contact sheet shows every field in colours that mean one thing, whole, named and in its proportions."""

from itertools import combinations

import numpy as np
import pytest
from helpers.figures_of_images import COLOURS, sheet, tiles
from helpers.pages import check_legible, each, sheet_of, words
from matplotlib.colors import rgb_to_hsv

from cka_probe.errors import DataError
from cka_probe.plotting import colouring
from cka_probe.plotting.contact_sheet import (
    SampleTile,
    fitting,
)
from cka_probe.plotting.image_grid import metre_ticks

CASES = {
    "images": sheet(tiles(20, "image")),
    "with categories": sheet(tiles(9, "image", "category")),
    "one image": sheet(tiles(1, "image"), title="x" * 500),
    "depth": sheet(tiles(5, "image", "depth", "K")),
    "labels": sheet(tiles(3, "image", "labels")),
    "everything": sheet(tiles(3)),
    "tall": sheet(tiles(2, "image", "depth", height=48)),
    "wide": sheet(tiles(2, "image", "depth", "normals", "flow", "edges", width=64)),
    "mixed": sheet(tiles(2, "image", "depth", height=48) + tiles(3, "image", "labels", width=24)),
    "nothing measured": sheet([SampleTile("a.png", {"depth": np.zeros((1, 6, 8), np.float32)})]),
}


@pytest.fixture(scope="module", params=each(CASES))
def case(request):
    return CASES[request.param], sheet_of(CASES[request.param])


def test_nothing_is_cut_off_too_small_or_over_something_else(case):
    check_legible(case[1], least=6.0)


def test_every_image_is_whole_and_in_its_proportions(case):
    for ax in case[1].axes:
        for image in ax.images:
            left, right, bottom, top = image.get_extent()
            corners = ax.transData.transform([(left, bottom), (right, top)])
            across, down = np.abs(corners[1] - corners[0])
            box = ax.get_window_extent().padded(1.0)
            assert all(box.contains(*corner) for corner in corners)
            rows, columns = np.asarray(image.get_array()).shape[:2]
            assert down / across == pytest.approx(rows / columns, rel=0.03)


def test_classes_on_the_sheet_are_named_and_no_others():
    legend = " ".join(words(sheet_of(CASES["labels"])))
    assert "road" in legend
    assert "sky" in legend
    assert "never seen" not in legend
    assert "no value" not in legend
    some = tiles(1, "image", "labels")
    some[0].fields["labels"][0, 0] = 255
    assert "no value" in words(sheet_of(sheet(some)))


def test_a_category_stands_before_the_name():
    captions = words(sheet_of(CASES["with categories"]))
    assert sum(text.startswith("kitchen  …") for text in captions) == 5
    assert sum(text.startswith("living room  …") for text in captions) == 4


def test_what_a_sample_lacks_is_hatched():
    with_depth, without = tiles(2, "image", "depth")
    without = SampleTile(without.name, {"image": without.fields["image"]})
    page = sheet_of(sheet([with_depth, without]))
    empty = [ax for ax in page.axes if not ax.images and any(patch.get_hatch() for patch in ax.patches)]
    assert len(empty) == 1
    assert "no value" in words(page)


@pytest.mark.slow
def test_images_alone_stand_many_in_a_row():
    assert fitting(CASES["images"].tiles[0]) == 36
    assert fitting(CASES["depth"].tiles[0]) == 18
    assert fitting(CASES["everything"].tiles[0]) == 6
    page = sheet_of(CASES["images"])
    assert len({round(ax.get_position().x0, 3) for ax in page.axes if ax.images}) == 6


def test_a_sheet_without_anything_to_draw_is_refused():
    for samples in ([], [SampleTile("a", {"K": np.eye(3)})]):
        with pytest.raises(DataError, match=r"expected samples with one of image, .* for a contact sheet, found none"):
            sheet(samples)


# colours


def light(rgba):
    return rgba[..., :3] @ [0.2126, 0.7152, 0.0722]


def test_nearer_is_lighter_and_not_measured_is_transparent():
    depth = np.array([[[1, 1.5, 2, 4, 8, 0]]], np.float32)
    colours = colouring.inverse_depth(depth, 1, 8)
    assert (np.diff(light(colours)[0, :5]) < 0).all()
    assert (colours[0, :5, 3] == 1).all()
    assert (colours[0, 5] == 0).all()


def test_the_bar_says_what_the_map_shows():
    for near, far in ((0.7, 9.3), (2.7, 80), (1, 1.3)):
        found = metre_ticks(near, far)
        assert found
        for metres, share in found:
            on_bar = 1 / (1 / near + share * (1 / far - 1 / near))
            assert on_bar == pytest.approx(metres)
        assert (np.diff([share for _, share in found]) > 0.08).all()
        assert near <= found[0][0] <= found[-1][0] <= far


def test_few_points_are_enlarged_and_the_nearer_stands_in_front():
    depth = np.zeros((1, 9, 9), np.float32)
    depth[0, 4, 3], depth[0, 4, 5] = 2, 8
    colours = colouring.inverse_depth(depth, 2, 8)
    assert colours[..., 3].sum() == 15
    assert (colours[4, 4] == colours[4, 3]).all()
    dense = np.ones((1, 9, 9), np.float32)
    dense[0, 4, 4] = 0
    assert colouring.inverse_depth(dense, 1, 2)[..., 3].sum() == 80  # a hole stays a hole


def test_flow_has_a_hue_for_each_direction_and_no_colour_where_nothing_moves():
    flow = np.array([[[1, 0, -1, 0, 0, np.nan]], [[0, 1, 0, -1, 0, np.nan]]], np.float32)
    colours = colouring.motion(flow, 1)
    hues = rgb_to_hsv(colours[0, :4, :3])[:, 0]
    np.testing.assert_allclose(hues, [0, 0.25, 0.5, 0.75], atol=1e-6)
    assert np.ptp(colours[0, 4, :3]) == 0
    assert colours[0, 5, 3] == 0


def test_a_normal_to_the_camera_is_blue_one_to_the_right_red_and_one_upwards_green():
    normals = np.array([[1, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 0]], np.float32)[:, None]
    colours = colouring.directions(normals)[0]
    assert colours[:3, :3].argmax(1).tolist() == [0, 1, 2]
    assert colours[3, 3] == 0


def test_classes_have_their_own_colours_and_ignored_pixels_none():
    colours = colouring.classes(np.array([[0, 2, 255, 77]]), np.array(COLOURS, float))
    np.testing.assert_allclose(colours[0, :2, :3] * 255, [COLOURS[0], COLOURS[2]])
    assert colours[0, :, 3].tolist() == [1, 1, 0, 0]


def test_neighbouring_numbers_are_told_apart_and_none_is_transparent():
    colours = colouring.pieces(np.arange(9)[None])[0]
    assert colours[0, 3] == 0
    assert min(np.abs(a - b).sum() for a, b in combinations(colours[1:], 2)) > 0.15
    planes = np.zeros((3, 1, 4), int)
    planes[0, 0, 1] = planes[1, 0, 2] = planes[2, 0, 3] = 1  # wall 1, table 1 and floor 1 are three planes
    assert len({tuple(colour) for colour in colouring.planes(planes)[0]}) == 4


def test_a_large_image_becomes_means_and_a_large_map_stays_itself():
    image = np.random.default_rng(0).random((3, 40, 60))
    np.testing.assert_allclose(
        colouring.reduced(image, 30, smooth=True)[:, 0, 0], image[:, :2, :2].mean((1, 2)), rtol=1e-12
    )
    labels = np.random.default_rng(0).integers(0, 9, (40, 60)) * 7
    assert np.isin(colouring.reduced(labels, 20, smooth=False), labels).all()
    assert colouring.reduced(image, 60, smooth=True) is image
