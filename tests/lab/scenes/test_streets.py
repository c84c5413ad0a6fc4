"""Streets: a drive as a car drives, nothing that meets anything else, and enough to see and to label."""

from collections import Counter

import numpy as np
import pytest

from cka_probe.images.classes import CITYSCAPES
from cka_probe.lab.scenes.scene import SKY
from cka_probe.lab.scenes.solids import BOX, CYLINDER, Material, Solid, box
from cka_probe.lab.scenes.street import draw_street
from cka_probe.lab.scenes.street_site import ALWAYS, KERB, Boxes, Road, Space, collide
from cka_probe.lab.scenes.view import see

GROUND = {"road", "sidewalk"}
GREY = Material("plain", (0.5,) * 3, (0.4,) * 3)


@pytest.fixture(scope="module")
def streets():
    return [draw_street(3, index, 16) for index in range(24)]


def within(solid, points):
    """Return how far (3, n) points are inside a solid as a share of its half extents, > 0 inside."""
    c, s = np.cos(solid.yaw), np.sin(solid.yaw)
    x, y, z = points - np.array(solid.centre)[:, None]
    local = np.stack([c * x + s * y, c * y - s * x, z]) / np.array(solid.half)[:, None]
    if solid.shape == BOX:
        return 1 - np.abs(local).max(axis=0)
    if solid.shape == CYLINDER:
        return 1 - np.maximum(np.hypot(local[0], local[1]), np.abs(local[2]))
    return 1 - np.linalg.norm(local, axis=0)


def samples(solid):
    """Return (3, n) points of a solid in the world: a grid in it."""
    unit = np.stack(np.meshgrid(*[np.linspace(-0.98, 0.98, 7)] * 3), axis=0).reshape(3, -1)
    if solid.shape != BOX:
        unit = unit[:, np.hypot(unit[0], unit[1]) < 0.98]
    if solid.shape not in (BOX, CYLINDER):
        unit = unit[:, np.linalg.norm(unit, axis=0) < 0.98]
    return placed(solid, unit)


def placed(solid, unit):
    """Return points of the unit cube as points of a solid in the world."""
    x, y, z = unit * np.array(solid.half)[:, None]
    c, s = np.cos(solid.yaw), np.sin(solid.yaw)
    return np.stack([c * x - s * y, s * x + c * y, z]) + np.array(solid.centre)[:, None]


def test_boxes_meet_exactly_if_they_do_at_some_time():
    rng = np.random.default_rng(0)

    def drawn(n):
        span = np.sort(rng.uniform(-1, 3, (n, 2)), axis=1)
        return Boxes(
            rng.uniform(-2.5, 2.5, (n, 3)),
            rng.uniform(0.2, 1.5, (n, 3)),
            rng.uniform(0, 6, n),
            rng.normal(0, 2, (n, 3)),
            span,
        )

    a, b, seconds = drawn(30), drawn(30), 2.0
    for boxes in (a, b):
        boxes.velocity[:, 2] = 0
    found, nearly = collide(a, b, seconds), collide(a, b, seconds, clearance=-0.05)
    unit = np.stack(np.meshgrid(*[np.linspace(-1, 1, 9)] * 3), axis=0).reshape(3, -1)
    met = np.zeros((30, 30), bool)
    for time in np.linspace(0, seconds, 41):
        for i in range(30):
            here = Solid(BOX, tuple(a.centre[i] + time * a.velocity[i]), tuple(a.half[i]), GREY, a.yaw[i])
            if not a.span[i, 0] <= time <= a.span[i, 1]:
                continue
            points = placed(here, unit)
            for j in range(30):
                if b.span[j, 0] <= time <= b.span[j, 1] and not met[i, j]:
                    there = Solid(BOX, tuple(b.centre[j] + time * b.velocity[j]), tuple(b.half[j]), GREY, b.yaw[j])
                    met[i, j] = (within(there, points) > 0).any()
    assert met.sum() > 60
    assert not (met & ~found).any()  # what samples find is found
    assert (nearly & ~met).sum() < 0.1 * met.sum()  # and hardly more than samples of a grid can miss
    assert found.mean() < 0.5


def test_boxes_that_cross_one_way_at_different_times_do_not_meet():
    still = [box((-1, 9, 0), (1, 11, 1), GREY)]
    late = Boxes.of(still, (0.0, -5.0, 0.0))
    crossing = [box((-6, -1, 0), (-4, 1, 1), GREY)]
    assert not collide(Boxes.of(crossing, (5.0, 0.0, 0.0)), late, 5.0).any()  # gone before the other comes
    assert collide(Boxes.of(crossing, (2.5, 0.0, 0.0)), late, 5.0).any()
    assert not collide(Boxes.of(crossing, (2.5, 0.0, 0.0)), late, 1.0).any()  # nor while it lasts
    assert Boxes.of(still).span[0].tolist() == list(ALWAYS)
    space = Space(late, 5.0)
    assert not space.occupy(crossing, (2.5, 0.0, 0.0))
    assert space.occupy(crossing, (5.0, 0.0, 0.0))
    assert len(space.occupied) == 2


@pytest.mark.parametrize("curvature", [0.0, 1 / 200, -1 / 300])
def test_a_road_is_as_long_as_it_says_and_straight_beyond(curvature):
    road, step = Road(curvature, 100.0), 0.01
    way = np.array([road.at(s, 0.0) for s in np.arange(-20, 150, step)])
    np.testing.assert_allclose(np.hypot(*np.diff(way[:, :2], axis=0).T), step, rtol=1e-4)
    along = np.diff(way[:, :2], axis=0) / step
    np.testing.assert_allclose(along, np.stack([-np.sin(way[:-1, 2]), np.cos(way[:-1, 2])], axis=1), atol=1e-4)
    assert way[-1, 2] == pytest.approx(100 * curvature)
    x, y, turn = road.at(70.0, 3.0)
    beside = np.array([x, y]) - road.at(70.0, 0.0)[:2]
    np.testing.assert_allclose(beside, 3 * np.array([np.cos(turn), np.sin(turn)]), atol=1e-9)
    np.testing.assert_allclose(road.ahead(70.0, 2.0)[:2], [-2 * np.sin(turn), 2 * np.cos(turn)])


def test_the_same_street_is_drawn_again_and_no_other(streets):
    again = draw_street(3, 5, 16)
    assert again.pieces == streets[5].pieces
    assert again.light == streets[5].light
    np.testing.assert_array_equal(again.camera.poses, streets[5].camera.poses)
    assert len({street.light for street in streets}) == len(streets)
    assert draw_street(4, 5, 16).pieces != again.pieces


def test_the_camera_drives_as_a_car_does(streets):
    for street in streets:
        camera = street.camera
        np.testing.assert_allclose(np.diff(camera.times), 0.1)
        speed = np.linalg.norm(np.diff(camera.poses[:, :3, 3], axis=0), axis=1) / 0.1
        assert 2.9 < speed.min() <= speed.max() < 12.3
        assert np.abs(camera.poses[:, 2, 3] - 1.65).max() < 0.02
        turned = np.einsum("nij,nik->njk", camera.poses[:-1, :3, :3], camera.poses[1:, :3, :3])
        angle = np.rad2deg(np.arccos(np.clip((np.trace(turned, axis1=1, axis2=2) - 1) / 2, -1, 1)))
        assert angle.max() < 1.5
        assert angle.max() > 0.01
        forward, course = camera.poses[:-1, :2, 2], np.diff(camera.poses[:, :2, 3], axis=0)
        assert ((forward * course).sum(axis=1) > 0.99 * np.linalg.norm(course, axis=1)).all()
        assert (camera.baseline, camera.focal) == (0.54, 0.58)


@pytest.mark.slow
def test_labels_are_cityscapes_and_every_one_names_something():
    assert len(CITYSCAPES.names) == 19
    assert [CITYSCAPES.names.index(name) for name in ("road", "sky", "car", "bicycle")] == [0, 10, 13, 18]
    drawn = Counter()
    for index in range(80):
        street = draw_street(0, index, 1)
        assert street.shell.labels == (SKY,) * 4 + ("terrain", SKY)
        labels = {solid.label or piece.label for piece in street.pieces for solid in piece.solids}
        assert labels < set(CITYSCAPES.names)
        drawn.update(labels)
    assert set(drawn) == set(CITYSCAPES.names) - {"terrain", "sky"}  # which are the shell


def test_nothing_stands_or_drives_in_anything_else_at_any_time(streets):
    for street in streets[:10]:
        pieces = [piece for piece in street.pieces if piece.label not in GROUND]
        inner = [np.concatenate([samples(solid) for solid in piece.solids], axis=1) for piece in pieces]
        low = np.array([points.min(axis=1) for points in inner])
        high = np.array([points.max(axis=1) for points in inner])
        velocity = np.array([piece.velocity for piece in pieces])
        for time in np.linspace(0, 1.6, 9):
            at, to = low + time * velocity, high + time * velocity
            for i, j in np.argwhere((at[:, None] < to[None]).all(axis=2) & (at[None] < to[:, None]).all(axis=2)):
                if i != j:
                    points = inner[i] + time * (velocity[i] - velocity[j])[:, None]
                    depth = max(within(solid, points).max() for solid in pieces[j].solids)
                    assert depth <= 0, (pieces[i].label, pieces[j].label, time)


@pytest.mark.slow
def test_nothing_is_ever_near_the_camera_or_its_partner(streets):
    around = np.stack(np.meshgrid(*[np.linspace(-1, 1, 5)] * 3), axis=0).reshape(3, -1)
    for street in streets:
        for time, pose in zip(street.camera.times, street.camera.poses, strict=True):
            eyes = np.stack([pose[:3, 3], street.camera.partner(pose)[:3, 3]], axis=1)
            near = (eyes[:, :, None] + 0.45 * around[:, None]).reshape(3, -1)
            for piece in street.pieces:
                shifted = near - time * np.array(piece.velocity)[:, None]
                assert max(within(solid, shifted).max() for solid in piece.solids) < 0, piece.label


def test_nothing_floats_and_nothing_moves_up(streets):
    for street in streets:
        slabs = [solid for piece in street.pieces if piece.label in GROUND for solid in piece.solids]
        for piece in street.pieces:
            assert piece.velocity[2] == 0
            if piece.label in GROUND:
                assert all(solid.centre[2] + solid.half[2] <= KERB + 1e-9 for solid in piece.solids)
                continue
            lowest = min(piece.solids, key=lambda solid: solid.centre[2] - solid.half[2])
            foot = np.array(lowest.centre)[:, None] * np.array([[1], [1], [0]])
            below = [
                slab.centre[2] + slab.half[2] for slab in slabs if within(slab, foot - [[0], [0], [0.02]]).max() > 0
            ]
            above = lowest.centre[2] - lowest.half[2] - max([0.0, *below])
            assert above < 0.06, (piece.label, above)


def test_cars_move_in_most_clips_and_often_with_the_camera(streets):
    moving = with_camera = towards = across = 0
    for street in streets:
        way = np.diff(street.camera.poses[[0, -1], :3, 3], axis=0)[0] / street.camera.times[-1]
        cars = [np.array(piece.velocity) for piece in street.pieces if piece.label in ("car", "truck", "bus")]
        cars = [velocity for velocity in cars if velocity.any()]
        moving += bool(cars)
        along = [velocity @ way / (way @ way) for velocity in cars]
        with_camera += any(0.85 < share < 1.15 for share in along)
        towards += any(share < -0.3 for share in along)
        across += any(abs(share) < 0.3 for share in along)
    assert moving >= 0.75 * len(streets)
    assert with_camera >= len(streets) / 3
    assert towards >= 0.3 * len(streets)
    assert across >= 1


def test_an_image_shows_eight_classes_and_no_more_solids_than_can_be_drawn(streets):
    shown, sky = [], []
    for street in streets[:12]:
        view = see(street, 0, (96, 128))
        assert set(np.unique(view.labels)) <= set(range(19))
        np.testing.assert_array_equal(view.depth == 0, view.labels == CITYSCAPES.names.index(SKY))
        seen = np.bincount(view.labels.ravel(), minlength=19)
        shown.append((seen >= 4).sum())
        sky.append(view.labels[view.labels == 10].size / view.labels.size)
        assert seen[0] > 0.1 * view.labels.size
        assert view.image[view.labels == 0].std() > 4  # the road has something to hold on to
        assert sum(len(piece.solids) for piece in street.pieces) < 220
    assert np.median(shown) >= 8
    assert min(shown) >= 5
    assert 0.02 < np.mean(sky) < 0.45
    assert np.mean([sum(len(piece.solids) for piece in street.pieces) for street in streets]) < 135
