"""What depth fine-tuning may vary: bands of depth in the image, other colours, boxes at the stored scale."""

from itertools import pairwise
from statistics import mean

import pytest
import torch
from torch import Generator

from cka_probe.errors import DataError, RecipeError, UnknownNameError
from cka_probe.lab.tasks.depth import Depth
from cka_probe.lab.transforms import native
from cka_probe.lab.transforms.augment import cut_depth, jitter_colors, vary_colors

SIZE = (64, 64)


def draw_sample(seed=0, height=70, width=90):
    generator = Generator().manual_seed(seed)
    image = torch.rand(3, height, width, generator=generator)
    return {"image": image, "depth": 0.5 + 9 * torch.rand(1, height, width, generator=generator)}


def test_a_band_of_columns_shows_the_depth_and_all_else_the_image():
    sample = draw_sample()
    for seed in range(20):
        generator, again = Generator().manual_seed(seed), Generator().manual_seed(seed)
        cut = cut_depth(sample["image"], sample["depth"], 10.0, generator)
        a, b = torch.rand(2, generator=again, dtype=torch.float64).tolist()
        left, wide = int(a * 90), int(max((90 - a * 90) * b * 0.75, 1))
        for column in range(90):
            for row in (0, 33, 69):
                inside = left <= column < left + wide
                expected = sample["depth"][0, row, column] / 10 if inside else sample["image"][:, row, column]
                assert torch.equal(cut[:, row, column], expected.expand(3)), (seed, row, column)


def test_bands_are_at_least_a_column_and_never_reach_beyond_what_is_right_of_them():
    image, depth = torch.zeros(3, 1, 100), torch.full((1, 1, 100), 5.0)
    widths, starts = [], []
    for seed in range(400):
        cut = cut_depth(image, depth, 10.0, Generator().manual_seed(seed))[0, 0]
        columns = cut.nonzero().flatten().tolist()
        assert all(b == a + 1 for a, b in pairwise(columns))
        assert 1 <= len(columns) <= max(1, 0.75 * (100 - columns[0]))
        widths.append(len(columns)), starts.append(columns[0])
    assert mean(starts) == pytest.approx(49.5, abs=5)
    assert mean(widths) == pytest.approx(0.75 * 100 / 4, abs=2.5)  # two independent halves


def test_what_was_not_measured_is_black_and_what_is_too_far_white():
    depth = torch.tensor([[[0.0, 4.0, 30.0]]]).expand(1, 4, 3)
    for seed in range(50):
        cut = cut_depth(torch.full((3, 4, 3), 0.25), depth, 8.0, Generator().manual_seed(seed))
        shown = [set(cut[:, :, column].flatten().tolist()) for column in range(3)]
        assert all(there in ({0.25}, {black}) for there, black in zip(shown, (0.0, 0.5, 1.0), strict=True))


def test_bands_come_as_often_as_asked_and_leave_the_truth_alone():
    image, depth = torch.zeros(3, 64, 64), torch.full((1, 64, 64), 5.0)
    sample = {"image": image, "depth": depth}
    views = [Depth(SIZE, cut_depth=0.25).prepare(sample, Generator().manual_seed(i), True) for i in range(400)]
    assert mean(float(view["image"].any()) for view in views) == pytest.approx(0.25, abs=0.07)
    assert all(torch.equal(view["depth"], depth) for view in views)
    assert not image.any()
    assert not Depth(SIZE, cut_depth=1.0, color_jitter=1.0).prepare(sample, Generator(), False)["image"].any()


def test_a_band_lies_where_its_depth_lies_also_in_a_mirrored_scaled_view():
    columns = (0.5 + 9 * torch.arange(128.0) / 128).expand(1, 96, 128)
    for seed in range(10):
        sample = {"image": torch.full((3, 96, 128), 1.0), "depth": columns}
        view = Depth(SIZE, cut_depth=1.0).prepare(sample, Generator().manual_seed(seed), True)
        inside = (view["image"][0] != 1.0)[0]
        for _ in range(2):  # the ends of the band are mixed with what is beside it
            inside = inside & inside.roll(1) & inside.roll(-1)
        shown, true = 10 * view["image"][0, 32, inside], view["depth"][0, 32, inside]
        torch.testing.assert_close(shown, true, atol=0.12, rtol=0)


def test_other_colours_are_three_changes_that_come_or_not():
    image = draw_sample()["image"]
    assert torch.equal(jitter_colors(image, 0.0, Generator()), image)
    still = [torch.equal(jitter_colors(image, 0.5, Generator().manual_seed(i)), image) for i in range(200)]
    assert mean(map(float, still)) == pytest.approx(1 / 8, abs=0.07)
    first, second = Generator().manual_seed(3), Generator().manual_seed(3)
    jitter_colors(image, 0.0, first), jitter_colors(image, 1.0, second)
    assert torch.equal(first.get_state(), second.get_state())
    changed = jitter_colors(image, 1.0, Generator().manual_seed(1))
    assert 0 <= changed.min() <= changed.max() <= 1
    assert 0.01 < (changed - image).abs().mean() < 0.25


def test_each_change_of_colour_has_its_own_chance():
    image = torch.rand(3, 6, 8, generator=Generator().manual_seed(1))
    looks = [vary_colors(image, 0.2, Generator().manual_seed(seed), 0.5) for seed in range(80)]
    same = sum(torch.equal(look, image) for look in looks)
    assert same == pytest.approx(80 / 8, abs=8), "none of three changes"
    for seed in range(80):
        assert not torch.equal(vary_colors(image, 0.2, Generator().manual_seed(seed)), image)
    brightest = max(look.max() for look in looks)
    assert brightest <= 1


def test_what_is_off_draws_nothing():
    sample = draw_sample()
    first, second = Generator().manual_seed(0), Generator().manual_seed(0)
    plain = Depth(SIZE).prepare(sample, first, True)
    down, across, flip = torch.rand(3, generator=second, dtype=torch.float64).tolist()
    assert torch.equal(first.get_state(), second.get_state())
    assert 0 <= down < 1
    assert 0 <= across < 1
    again = Depth(SIZE, crop="largest", cut_depth=0.0, color_jitter=0.0).prepare(
        sample, Generator().manual_seed(0), True
    )
    assert torch.equal(plain["image"], again["image"])
    assert isinstance(flip, float)


def test_native_views_are_cut_and_never_scaled():
    sample = draw_sample()
    windows = sample["depth"][0].unfold(0, 64, 1).unfold(1, 64, 1)
    for seed in range(6):
        view = Depth(SIZE, crop="native").prepare(sample, Generator().manual_seed(seed), True)
        shown = view["depth"][0]
        assert any(torch.equal(shown, w) or torch.equal(shown, w.flip(-1)) for w in windows.flatten(0, 1))
        assert set(view["image"].unique().tolist()) <= set(sample["image"].unique().tolist())
    middle = Depth(SIZE, crop="native").prepare(sample, Generator(), False)
    assert torch.equal(middle["image"], sample["image"][:, 3:67, 13:77])
    assert native(480, 640, (480, 480), 0.3, 0.5) == (0, 80, 480, 480)


def test_at_the_paper_size_both_boxes_are_the_same():
    sample = draw_sample(0, 480, 640)
    first, second = (
        Depth((480, 480), crop=crop).prepare(sample, Generator().manual_seed(1), True) for crop in ("largest", "native")
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_what_cannot_be_is_said():
    with pytest.raises(DataError, match=r"at least 64x64 pixels .*, found 90x50; take a smaller size, or the largest"):
        Depth(SIZE, crop="native").prepare(draw_sample(0, 50, 90), Generator(), True)
    with pytest.raises(UnknownNameError, match="no crop 'nativ'; did you mean 'native'"):
        Depth(SIZE, crop="nativ")
    for name in ("cut_depth", "color_jitter"):
        with pytest.raises(RecipeError, match=rf"depth: expected `{name}`, a probability, in \[0, 1\], found 1\.5"):
            Depth(SIZE, **{name: 1.5})
