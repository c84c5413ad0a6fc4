"""A contact sheet shows every field in colours that mean one thing, whole, named and in its proportions."""

from itertools import combinations

import matplotlib
import numpy as np
import pytest
from helpers.samples import full
from matplotlib.colors import rgb_to_hsv
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from cka_probe.errors import DataError, OutputError
from cka_probe.plotting import colouring, sheet_plan, style
from cka_probe.plotting.contact_sheet import (
    PAINTERS,
    Sheet,
    Shot,
    contact_sheet,
    contact_sheet_size,
    fitting,
    save_contact_sheet,
)
from cka_probe.plotting.sheet_plan import HEADERS

NAMES = ("road", "sky", "a rather long name of a class", "never seen")
COLOURS = ((128, 64, 128), (70, 130, 180), (220, 20, 60), (1, 2, 3))


def shots(count, *fields, height=6, width=8):
    """Samples with some of the fields, repeated to a size."""
    found = []
    for seed in range(count):
        sample = {name: value for name, value in full(seed).items() if name in fields or not fields}
        maps = {
            name: np.tile(value, (1,) * (value.ndim - 2) + (height // 6, width // 8)) if name in HEADERS else value
            for name, value in sample.items()
        }
        found.append(Shot(f"a/folder/with/a/long/name/of/a/scene/rgb_{seed:05d}.png", maps))
    return found


def sheet(found, title="nyuv2:test: 6 of 654 frames"):
    return Sheet(title, found, NAMES, COLOURS, ("kitchen", "living room"))


CASES = {
    "images": sheet(shots(20, "image")),
    "with categories": sheet(shots(9, "image", "category")),
    "one image": sheet(shots(1, "image"), title="x" * 500),
    "depth": sheet(shots(5, "image", "depth", "K")),
    "labels": sheet(shots(3, "image", "labels")),
    "everything": sheet(shots(3)),
    "tall": sheet(shots(2, "image", "depth", height=48)),
    "wide": sheet(shots(2, "image", "depth", "normals", "flow", width=64)),
    "mixed": sheet(shots(2, "image", "depth", height=48) + shots(3, "image", "labels", width=24)),
    "nothing measured": sheet([Shot("a.png", {"depth": np.zeros((1, 6, 8), np.float32)})]),
}


def drawn(made):
    """The sheet laid out as in a file."""
    with matplotlib.style.context(["default", style.FILE_STYLE]):
        figure = Figure(figsize=contact_sheet_size(made))
        ax = contact_sheet(made, figure.add_axes((0, 0, 1, 1)))
        figure.draw_without_rendering()
    return ax


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return CASES[request.param], drawn(CASES[request.param])


def texts(ax):
    return [text for text in ax.findobj(Text) if text.get_text()]


def images(ax):
    """Boxes (left, right, bottom, top) in inches of the images and maps, with their colours."""
    return [(image.get_extent(), np.asarray(image.get_array())) for image in ax.get_images()]


def test_nothing_is_cut_off_or_too_small(case):
    _, ax = case
    width, height = ax.figure.bbox.size
    for text in texts(ax):
        box = text.get_window_extent()
        assert 0 <= box.x0 <= box.x1 <= width, text
        assert 0 <= box.y0 <= box.y1 <= height, text
        assert text.get_fontsize() >= 6, text


def test_words_touch_neither_words_nor_images(case):
    _, ax = case
    boxes = [text.get_window_extent() for text in texts(ax)]
    assert not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]
    for (left, right, bottom, top), _ in images(ax):
        corners = ax.transData.transform([(left, bottom), (right, top)])
        x, y = np.sort(corners[:, 0]), np.sort(corners[:, 1])
        for box in boxes:
            apart = box.x1 <= x[0] or box.x0 >= x[1] or box.y1 <= y[0] or box.y0 >= y[1]
            assert apart, (box, x, y)


def test_every_image_is_whole_and_in_its_proportions(case):
    made, ax = case
    width, height = contact_sheet_size(made)
    boxes = []
    for (left, right, bottom, top), colours in images(ax):
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        boxes.append((left, top, right, bottom))
        if colours.shape[0] > 1:  # the bar of depth is a line of colours
            assert (right - left) / (bottom - top) == pytest.approx(colours.shape[1] / colours.shape[0], rel=1e-6)
    for a, b in combinations(boxes, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_classes_on_the_sheet_are_named_and_no_others():
    words = " ".join(text.get_text() for text in texts(drawn(CASES["labels"])))
    assert "road" in words
    assert "sky" in words
    assert "never seen" not in words
    assert "no value" not in words
    some = shots(1, "image", "labels")
    some[0].fields["labels"][0, 0] = 255
    assert "no value" in {text.get_text() for text in texts(drawn(sheet(some)))}


def test_a_category_stands_before_the_name():
    captions = [text.get_text() for text in texts(drawn(CASES["with categories"]))]
    assert sum(text.startswith("kitchen  …") for text in captions) == 5
    assert sum(text.startswith("living room  …") for text in captions) == 4


def test_what_a_sample_lacks_is_hatched():
    with_depth, without = shots(2, "image", "depth")
    without = Shot(without.name, {"image": without.fields["image"]})
    ax = drawn(sheet([with_depth, without]))
    hatched = {tuple(np.round(patch.get_xy(), 6)) for patch in ax.findobj(Rectangle) if patch.get_hatch()}
    covered = {(round(left, 6), round(top, 6)) for (left, _, _, top), _ in images(ax)}
    assert len(hatched - covered) == 2  # the panel without depth, and the key
    assert "no value" in {text.get_text() for text in texts(ax)}


def test_images_alone_stand_many_in_a_row():
    assert fitting(CASES["images"].shots[0]) == 36
    assert fitting(CASES["depth"].shots[0]) == 18
    assert fitting(CASES["everything"].shots[0]) == 6
    lefts = {round(left, 3) for (left, *_), _ in images(drawn(CASES["images"]))}
    assert len(lefts) == 6


def test_a_sheet_without_anything_to_draw_is_refused():
    for made in (sheet([]), sheet([Shot("a", {"K": np.eye(3)})])):
        with pytest.raises(DataError, match=r"expected samples with one of image, .* for a contact sheet, found none"):
            contact_sheet_size(made)


def test_every_column_has_a_painter():
    assert list(HEADERS) == list(PAINTERS)


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_the_same_sheet_gives_the_same_bytes(tmp_path, suffix):
    paths = save_contact_sheet(CASES["depth"], [tmp_path / f"{name}.{suffix}" for name in "ab"])
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with pytest.raises(OutputError, match="figures are written as png, pdf, svg"):
        save_contact_sheet(CASES["depth"], [tmp_path / "sheet.gif"])


def test_it_draws_on_its_axes_and_leaves_the_rest_alone():
    before = dict(matplotlib.rcParams)
    figure = Figure(figsize=(10, 5))
    ax, other = figure.subplots(1, 2)
    assert contact_sheet(CASES["depth"], ax) is ax
    assert not other.has_data()
    assert figure.axes == [ax, other]
    assert dict(matplotlib.rcParams) == before


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
        found = sheet_plan.ticks(near, far)
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
