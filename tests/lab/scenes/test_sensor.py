"""A sensor changes images and depth as it says, by its seed alone, and leaves the truth alone."""

from dataclasses import fields

import h5py
import numpy as np
import pytest

from cka_probe.errors import DataError
from cka_probe.images.datasets import open_dataset
from cka_probe.lab.scenes import SCENES, see
from cka_probe.lab.scenes.make import make_scenes
from cka_probe.lab.scenes.sensor import FARTHEST, Sensor, depth_noise, lidar_pixels
from cka_probe.lab.scenes.settings import Settings

SIZE = (96, 128)
SEED = (0, 1, 2)


@pytest.fixture(scope="module")
def room():
    return see(SCENES["rooms"](2, 0, 1), 0, SIZE, partner=True)


@pytest.fixture(scope="module")
def street():
    return see(SCENES["streets"](0, 0, 1), 0, SIZE)


def changed(view, other):
    """Return the names of the fields in which two views differ."""
    return {
        field.name
        for field in fields(view)
        if not np.array_equal(getattr(view, field.name), getattr(other, field.name))
    }


@pytest.mark.parametrize(
    ("sensor", "what"),
    [
        (Sensor(), set()),
        (Sensor(noise=1), {"image", "partner", "depth"}),
        (Sensor(holes=1), {"depth"}),
        (Sensor(lidar=32), {"depth"}),
        (Sensor(jpeg=50), {"image", "partner"}),
    ],
)
def test_only_what_is_asked_for_changes_and_the_same_seed_changes_it_alike(room, sensor, what):
    seen = sensor.through(room, SEED)
    assert changed(room, seen) == what
    assert changed(seen, sensor.through(room, SEED)) == set()
    if what and not (sensor.lidar or sensor.jpeg):  # those two have nothing of chance in them
        assert changed(seen, sensor.through(room, (0, 1, 3))) == what


def test_what_one_adds_does_not_depend_on_the_other(room):
    both, noisy, holed = (Sensor(*which).through(room, SEED) for which in ((1, 1), (1, 0), (0, 1)))
    np.testing.assert_array_equal(both.depth, np.where(holed.depth > 0, noisy.depth, 0))
    np.testing.assert_array_equal(both.image, noisy.image)


def test_noise_of_depth_grows_with_its_square(room):
    errors = np.stack([Sensor(noise=2).through(room, (0, 0, n)).depth - room.depth for n in range(60)])
    ratio = errors.std(axis=0) / (2 * depth_noise(room.depth))
    assert ratio.mean() == pytest.approx(1, abs=0.02)
    assert np.abs(errors.mean(axis=0) / depth_noise(room.depth)).max() < 1.5
    np.testing.assert_allclose(depth_noise(np.array([0.4, 2.4, 4.4])), [0.0012, 0.0088, 0.0316])


def test_noise_of_an_image_is_that_of_light(room):
    noisy = np.stack([Sensor(noise=1).through(room, (0, 0, n)).image.astype(float) for n in range(60)])
    middle = (room.image > 40) & (room.image < 200)
    variance, level = noisy.var(axis=0)[middle], room.image[middle]
    rounding = 1 / 12
    for low, high in ((40, 80), (80, 120), (120, 200)):
        here = (level >= low) & (level < high)
        assert variance[here].mean() == pytest.approx((1 + level[here] / 32).mean() + rounding, rel=0.05)


def test_holes_are_where_a_sensor_is_blind(room):
    gone = np.mean([Sensor(holes=1).through(room, (0, 0, n)).depth == 0 for n in range(40)], axis=0)
    level = room.image.mean(axis=2)
    plain = (level > 30) & (level < 220)
    assert 0.01 < gone.mean() < 0.5
    assert gone[room.edges].mean() > 0.5
    assert gone[plain & ~room.edges].mean() < gone[room.edges].mean() / 3
    assert Sensor(holes=0.2).through(room, SEED).depth.astype(bool).mean() > 1 - gone.mean()


def test_grazing_surfaces_have_holes(street):
    far = (street.labels == 0) & (street.depth > 25)  # a road far ahead is seen at less than four degrees
    near = (street.labels == 0) & (street.depth < 5)
    gone = np.mean([Sensor(holes=1).through(street, (0, 0, n)).depth == 0 for n in range(20)], axis=0)
    assert far.sum() > 20
    assert near.sum() > 20
    assert gone[far].mean() > 0.8
    assert gone[near].mean() < 0.15


def test_holes_are_patches(room):
    gone = Sensor(holes=1).through(room, SEED).depth == 0
    beside = (gone[:, 1:] & gone[:, :-1]).mean()
    assert beside > 2 * gone.mean() ** 2


def test_a_scanner_hits_rows_and_no_farther_than_it_sees(street):
    seen = Sensor(lidar=64).through(street, SEED).depth
    hit = seen > 0
    assert 0.02 < hit.mean() < 0.6
    np.testing.assert_array_equal(seen[hit], street.depth[hit])
    assert seen.max() <= FARTHEST
    K = street.K.copy()
    K[:2] *= 8  # the same field of view in finer pixels: single rows are seen
    rows = lidar_pixels(K, (SIZE[0] * 8, SIZE[1] * 8), rows=8)[:, SIZE[1] * 4 - 8 : SIZE[1] * 4 + 8].any(axis=1)
    assert 2 <= (np.diff(rows.astype(int)) == 1).sum() <= 8
    top = np.flatnonzero(rows)[0] - K[1, 2]
    assert np.degrees(np.arctan(-top / K[1, 1])) == pytest.approx(2, abs=0.1)


def test_jpeg_loses_more_at_lower_quality(room):
    losses = [np.abs(Sensor(jpeg=q).through(room, SEED).image.astype(float) - room.image).mean() for q in (95, 50, 10)]
    assert losses[0] < losses[1] < losses[2]


def test_a_set_is_seen_with_its_sensor(tmp_path):
    sensor = Sensor(noise=1, holes=1)
    root = make_scenes(tmp_path / "rooms", Settings("rooms", 1, 1, (48, 64), seed=7, test=0, sensor=sensor))
    sample = open_dataset(f"nyuv2:{root}")[0]
    view = sensor.through(see(SCENES["rooms"](7, 0, 1), 0, (48, 64)), (7, 0, 0))
    np.testing.assert_allclose(sample["depth"][0], view.depth, atol=0.00051)
    assert (sample["depth"] == 0).any()


def test_the_mat_file_has_the_truth_beside_what_was_measured(tmp_path):
    settings = Settings("rooms", 1, 1, (48, 64), seed=7, test=0, layout="nyuv2_mat", sensor=Sensor(holes=1))
    root = make_scenes(tmp_path / "rooms", settings)
    true = see(SCENES["rooms"](7, 0, 1), 0, (48, 64)).depth.astype(np.float32)
    with h5py.File(root / "nyu_depth_v2_labeled.mat") as file:
        filled, measured = file["depths"][0].T, file["rawDepths"][0].T
    np.testing.assert_array_equal(filled, true)
    np.testing.assert_array_equal(measured[measured > 0], true[measured > 0])
    assert (measured == 0).any()


@pytest.mark.parametrize(("wrong", "message"), [({"noise": -1}, "noise from 0"), ({"jpeg": 101}, "to 100, found 101")])
def test_sensors_that_are_none_say_so(wrong, message):
    with pytest.raises(DataError, match=message):
        Sensor(**wrong)
