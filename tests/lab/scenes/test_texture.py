"""Patterns are colours of points: the same wherever they are asked for, uneven at every scale, and countable."""

import numpy as np
import pytest
from scipy.ndimage import label

from cka_probe.lab.scenes import patterns_indoors, patterns_outdoors
from cka_probe.lab.scenes.solids import Material
from cka_probe.lab.scenes.surface import Surface, noise, scatter, smooth
from cka_probe.lab.scenes.table import PATTERNS

FILES = (patterns_indoors, patterns_outdoors)


def wall(width, height, fine=50, size=0.25, first=(0.5, 0.4, 0.3), second=(0.2, 0.25, 0.3)):
    """Return the points of a wall, `fine` a metre, row by row, and the shape of their grid."""
    v, u = np.meshgrid(
        (np.arange(round(height * fine)) + 0.5) / fine - height / 2,
        (np.arange(round(width * fine)) + 0.5) / fine - width / 2,
        indexing="ij",
    )
    shape, u, v = u.shape, u.ravel().astype(np.float32), v.ravel().astype(np.float32)
    n = len(u)
    edge = np.stack([u / (width / 2), v / (height / 2)]).astype(np.float32)
    xyz = np.stack([u, np.full(n, 0.3, np.float32), v]) + np.float32(7.3)
    columns = (np.tile(np.float32(colour), (n, 1)) for colour in (first, second))
    return Surface(u, v, edge, xyz, *columns, np.full(n, size, np.float32)), shape


def globe(radius, fine=300):
    """Return points of a ball, row by row of height, and the shape of their grid."""
    z, azimuth = np.meshgrid(np.linspace(-0.995, 0.995, fine), np.linspace(-np.pi, np.pi, 2 * fine), indexing="ij")
    level = np.sqrt(1 - z * z)
    unit = np.stack([np.cos(azimuth) * level, np.sin(azimuth) * level, z]).reshape(3, -1).astype(np.float32)
    n = unit.shape[1]
    flat = np.tile(np.float32([0.8, 0.1, 0.1]), (n, 1)), np.tile(np.float32([0.02, 0.02, 0.3]), (n, 1))
    u, v = (azimuth.ravel() * radius).astype(np.float32), (unit[2] * radius).astype(np.float32)
    return Surface(u, v, unit[1:], unit * np.float32(radius), *flat, np.full(n, radius, np.float32)), z.shape


def some(s, here):
    return Surface(s.u[here], s.v[here], s.edge[:, here], s.xyz[:, here], s.first[here], s.second[here], s.size[here])


@pytest.mark.parametrize("name", PATTERNS)
def test_a_pattern_is_a_colour_of_each_point_by_itself(name):
    s, _ = wall(4, 3, fine=20)
    whole = PATTERNS[name](s)
    assert whole.shape == (len(s.u), 3)
    assert np.isfinite(whole).all()
    assert whole.min() > -0.3
    assert whole.max() < 2
    here = np.random.default_rng(0).permutation(len(s.u))[:500]
    np.testing.assert_allclose(PATTERNS[name](some(s, here)), whole[here], atol=1e-6)


@pytest.mark.parametrize("name", PATTERNS)
def test_no_pattern_is_quite_even_near_or_far(name):
    s, shape = wall(12, 8, fine=16, size=0.63)
    shown = PATTERNS[name](s).mean(axis=1).reshape(shape)
    coarse = shown.reshape(shape[0] // 16, 16, shape[1] // 16, 16).mean(axis=(1, 3))
    assert coarse.std() > 0.01 * shown.mean()
    assert (np.diff(shown[::2], axis=1) != 0).mean() > 0.15  # neighbours six centimetres apart


@pytest.mark.parametrize("name", PATTERNS)
def test_a_pattern_asks_for_noise_at_most_three_times(name, monkeypatch):
    calls = []
    for file in FILES:
        monkeypatch.setattr(file, "noise", lambda xyz: calls.append(1) or noise(xyz))
    PATTERNS[name](wall(2, 2, fine=10)[0])
    assert len(calls) <= (4 if name == "painting" else 3)


def test_the_table_of_patterns_misses_none():
    functions = {
        function
        for file in FILES
        for name, function in vars(file).items()
        if callable(function) and getattr(function, "__module__", "") == file.__name__ and not name.startswith("_")
    }
    assert functions == set(PATTERNS.values())
    assert all(name == function.__name__ for name, function in PATTERNS.items())
    assert Material("plain", (0.5,) * 3, (0.5,) * 3).pattern in PATTERNS


@pytest.mark.parametrize(("name", "wide"), [("windows", 0.4), ("brick_windows", 0.52)])
@pytest.mark.parametrize(("bays", "storeys"), [(4, 3), (7, 2), (1, 6)])
def test_a_wall_of_whole_bays_and_storeys_has_whole_windows(name, wide, bays, storeys):
    bay = 2.4
    s, shape = wall(bays * bay, 3.0 * storeys, size=bay, first=(1.0, 0.0, 0.0), second=(0.0, 0.0, 0.0))
    shown = PATTERNS[name](s).reshape(*shape, 3)
    red = (shown[..., 0] > 4 * shown[..., 1:].max(axis=-1)) & (shown[..., 0] > 0.05)
    openings, count = label(~red)
    large = [number for number in range(1, count + 1) if (openings == number).sum() > 200]
    assert len(large) == bays * storeys
    for number in large:
        columns = np.flatnonzero((openings == number).any(axis=0))
        assert np.ptp(columns) / 50 < (wide + 0.15) * bay


def test_lanes_are_dashed_every_seven_and_a_half_metres_and_edged():
    s, shape = wall(7.4, 45, fine=20, size=3.3, first=(0.05,) * 3, second=(0.1,) * 3)
    shown = PATTERNS["lanes"](s).mean(axis=1).reshape(shape)
    white = shown > 0.3
    middle = white[:, shape[1] // 2]
    assert (np.diff(middle.astype(int)) == 1).sum() == 6
    assert 0.3 < middle.mean() < 0.5
    left = round(0.3 * 20)
    assert white[:, left - 1 : left + 1].any(axis=1).mean() > 0.99
    assert not white[:, shape[1] // 4].any()


def test_a_football_has_twelve_patches_and_a_beach_ball_six_segments():
    s, shape = globe(0.3)
    leather = PATTERNS["football"](s).reshape(*shape, 3)
    # the grid is a map: what touches its left side goes on at its right
    dark, count = label(leather[..., 2] > 1.2 * leather[..., 0])
    across = {(a, b) for a, b in zip(dark[:, 0], dark[:, -1], strict=True) if a and b}
    assert count - len(across) == 12
    equator = PATTERNS["segments"](s).reshape(*shape, 3)[shape[0] // 2]
    kinds = np.argmin(
        [np.abs(equator - c).sum(axis=-1) for c in ((0.8, 0.1, 0.1), (0.02, 0.02, 0.3), (0.85,) * 3)], axis=0
    )
    assert (kinds[:-1] != kinds[1:]).sum() == 5
    assert set(kinds) == {0, 1, 2}


def test_lamps_are_red_behind_and_white_before():
    body, shape = wall(1.75, 0.65, fine=200, size=4.3, first=(0.0, 0.4, 0.0), second=(0.06,) * 3)
    ends = []
    for y in (-2.15, 2.15):
        xyz = np.stack([body.u, np.full_like(body.u, y), body.v]) + np.float32(7.3 * 5)
        end = Surface(body.u, body.v, body.edge, xyz, body.first, body.second, body.size)
        ends.append(PATTERNS["bodywork"](end).reshape(*shape, 3))
    rear, front = ((end[..., 0] > 0.4) & (end[..., 1] < 0.1) for end in ends)
    assert rear.mean() > 0.04
    assert not front.any()
    assert ((ends[1] > 0.7).all(axis=-1)).mean() > ((ends[0] > 0.7).all(axis=-1)).mean() + 0.04


def test_writing_has_a_margin_and_is_half_ink():
    s, _ = wall(1.2, 0.8, fine=200, size=0.05, first=(0.9,) * 3, second=(0.05,) * 3)
    ink = PATTERNS["writing"](s).mean(axis=1) < 0.4
    rim = np.abs(s.edge).max(axis=0)
    assert not ink[rim > 0.9].any()
    assert 0.12 < ink[rim < 0.85].mean() < 0.5


def test_the_sky_pales_towards_the_horizon_and_has_no_seam():
    low, shape = wall(8000, 8000, fine=0.025, size=1.0, first=(0.1, 0.2, 0.6), second=(0.8, 0.8, 0.8))
    places = np.random.default_rng(0).uniform(0, 64, (3, 200)).astype(np.float32)
    low.xyz[:] = places[:, [np.argmin(noise(places) + noise(places * np.float32(3.7)))]]  # no cloud there
    shown = PATTERNS["sky"](low).reshape(*shape, 3)
    assert (np.diff(shown[:, :, 2] / shown[:, :, 0], axis=0) > -1e-5).all()  # the higher the bluer
    np.testing.assert_allclose(shown[:, 0], shown[:, -1], rtol=0.02)


def test_noise_is_even_in_the_mean_and_repeats_after_64():
    points = np.random.default_rng(0).uniform(-500, 500, (3, 40000)).astype(np.float32)
    assert abs(noise(points).mean()) < 0.1
    assert 0.2 < noise(points).std() < 0.6
    np.testing.assert_allclose(noise(points), noise(points + 64), atol=2e-3)


def test_scattered_numbers_fill_the_unit_and_do_not_follow_their_places():
    a, b = np.indices((60, 60)).reshape(2, -1) - 30
    drawn = scatter(a.astype(np.float32), b.astype(np.float32))
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert np.histogram(drawn, 10, (0, 1))[0].min() > 200
    assert abs(np.corrcoef(drawn, a)[0, 1]) < 0.1
    np.testing.assert_array_equal(smooth(np.array([-1.0, 0.0, 0.5, 1.0, 3.0]), 0, 1), [0, 0, 0.5, 1, 1])
