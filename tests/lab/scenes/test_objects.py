"""Objects: each class as often as any other, large and whole in the middle, told by its shape and not by colour."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from cka_probe.images.sample import IGNORE
from cka_probe.lab.scenes.objects import FRONT_VIEWS, OBJECTS, draw_object
from cka_probe.lab.scenes.scene import Lamps, Sun
from cka_probe.lab.scenes.solids import BOX, ELLIPSOID, bounds
from cka_probe.lab.scenes.street_site import Boxes, collide
from cka_probe.lab.scenes.view import see

COUNT = len(OBJECTS)


@pytest.fixture(scope="module")
def scenes():
    return [draw_object(7, index, 6) for index in range(COUNT)]


def test_every_class_comes_once_in_each_lap_and_in_another_order():
    assert COUNT >= 20
    laps = [[draw_object(1, lap * COUNT + turn, 1).category for turn in range(COUNT)] for lap in range(2)]
    for lap in laps:
        assert Counter(lap) == dict.fromkeys(OBJECTS, 1)
    assert laps[0] != laps[1]
    assert set(FRONT_VIEWS) <= set(OBJECTS)


def test_the_same_object_is_drawn_again_and_no_other(scenes):
    again = draw_object(7, 11, 6)
    assert again.pieces == scenes[11].pieces
    assert again.light == scenes[11].light
    assert again.shell == scenes[11].shell
    np.testing.assert_array_equal(again.camera.poses, scenes[11].camera.poses)
    assert draw_object(8, 11, 6).pieces != again.pieces


def test_only_the_object_has_a_label(scenes):
    for scene in scenes:
        assert scene.kind == "objects"
        assert scene.classes == tuple(OBJECTS)
        assert [piece.label for piece in scene.pieces] == [scene.category] + [""] * (len(scene.pieces) - 1)
        assert not any(solid.label for piece in scene.pieces for solid in piece.solids)
        assert set(scene.shell.labels) == {""}
    view = see(scenes[0], 0, (32, 32))
    assert set(np.unique(view.labels)) == {scenes[0].classes.index(scenes[0].category), IGNORE}
    np.testing.assert_array_equal(view.labels != IGNORE, view.instances == 1)


@pytest.mark.slow
def test_the_object_is_large_and_whole_and_in_the_middle(scenes):
    shares = []
    for scene in scenes:
        mask = see(scene, 0, (72, 96)).instances == 1
        alone = see(replace(scene, pieces=scene.pieces[:1]), 0, (72, 96)).instances == 1
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        high, wide = np.ptp(rows) / 72, np.ptp(columns) / 96
        assert max(high, wide) > 0.5, scene.category
        assert mask.sum() > 0.97 * alone.sum(), scene.category  # nothing stands before it
        assert abs(rows.mean() / 71 - 0.5) < 0.2, scene.category
        assert abs(columns.mean() / 95 - 0.5) < 0.2, scene.category
        shares.append(high * wide)
    assert np.median(shares) > 0.25


def test_things_stand_on_what_carries_them_and_in_nothing_else(scenes):
    for scene in scenes:
        thing, *others = scene.pieces
        assert bounds(thing.solids)[0][2] > -1e-9
        top = bounds(thing.solids)[0][2]
        assert 0.39 < max(np.subtract(*bounds(thing.solids)[::-1])) < 1.01
        for piece in others:
            low = bounds(piece.solids)[0][2]
            assert min(abs(low - top), abs(low)) < 1e-9
        boxes = [Boxes.of(piece.solids) for piece in scene.pieces]
        for i, one in enumerate(boxes):
            for other in boxes[:i]:
                assert not collide(one, other, 1.0, clearance=-1e-6).any(), scene.category


def test_no_two_faces_lie_in_one_place(scenes):
    for scene in scenes:
        for piece in scene.pieces:
            flat = [solid for solid in piece.solids if solid.shape != ELLIPSOID]
            for i, a in enumerate(flat):
                for b in flat[:i]:
                    apart = np.hypot(*np.subtract(a.centre[:2], b.centre[:2]))
                    over = apart < min(a.half[:2]) + min(b.half[:2]) - 1e-3
                    tops = abs(a.centre[2] + a.half[2] - b.centre[2] - b.half[2])
                    assert not over or tops > 2e-4 or a.material == b.material, (scene.category, a, b)


def test_the_camera_goes_a_little_around_inside_the_room(scenes):
    for scene in scenes:
        poses, low, high = scene.camera.poses, np.array(scene.shell.low), np.array(scene.shell.high)
        places = poses[:, :3, 3]
        assert ((places > low + 0.12) & (places < high - 0.3)).all()
        steps = np.linalg.norm(np.diff(places, axis=0), axis=1)
        assert ((steps > 0.005) & (steps < 0.15)).all()
        eyes = np.concatenate([places, [scene.camera.partner(pose)[:3, 3] for pose in poses]])
        for piece in scene.pieces:
            for solid in piece.solids:
                c, s = np.cos(solid.yaw), np.sin(solid.yaw)
                x, y, z = (eyes - solid.centre).T
                beyond = np.abs([c * x + s * y, c * y - s * x, z]) - np.array(solid.half)[:, None]
                assert np.linalg.norm(np.maximum(beyond, 0), axis=0).min() > 0.1, scene.category


def test_a_long_clip_swings_back_before_it_meets_what_is_about():
    scene = draw_object(7, 3, 120)
    back = scene.camera.poses[:, :2, 2]
    turned = np.rad2deg(np.unwrap(np.arctan2(back[:, 1], back[:, 0])))
    assert np.ptp(turned) < 45
    assert np.abs(np.diff(turned)).max() < 3.5


def test_light_and_surroundings_differ(scenes):
    assert Counter(type(scene.light) for scene in scenes).keys() == {Lamps, Sun}
    assert len({scene.shell for scene in scenes}) == COUNT
    tops = {round(bounds(scene.pieces[0].solids)[0][2], 3) for scene in scenes}
    assert 0.0 in tops
    assert len(tops) > 10
    assert {solid.shape for scene in scenes for solid in scene.pieces[0].solids} >= {BOX, ELLIPSOID}


@pytest.mark.slow
def test_colour_alone_does_not_tell_the_class():
    colours, names = [], []
    for index in range(3 * COUNT):
        scene = draw_object(2, index, 1)
        view = see(scene, 0, (18, 24))
        colours.append(view.image[view.instances == 1].mean(axis=0))
        names.append(scene.category)
    colours, names = np.array(colours), np.array(names)
    away = np.linalg.norm(colours[:, None] - colours[None], axis=2) + 1e9 * np.eye(len(names))
    told = (names[away.argmin(axis=1)] == names).mean()
    assert told < 0.2
