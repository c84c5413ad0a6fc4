"""Rooms are furnished, differ, and leave the camera its way."""

from itertools import pairwise

import numpy as np
import pytest
from helpers.solids import distance

from cka_probe.images.classes import NYU13
from cka_probe.lab.scenes import see
from cka_probe.lab.scenes.room import CATEGORIES, draw_room


def solids_of(scene):
    return [solid for piece in scene.pieces for solid in piece.solids]


def stands_in(room):
    return [any(piece.label == label for piece in room.pieces) for label in ("bed", "sofa", "table")]


def test_rooms_differ_and_are_furnished():
    rooms = [draw_room(0, index, 1) for index in range(30)]
    assert {room.category for room in rooms} == set(CATEGORIES) == {"bedroom", "dining_room", "living_room", "kitchen"}
    assert len({room.shell.high for room in rooms}) == 30
    assert np.median([len(solids_of(room)) for room in rooms]) > 40


def test_a_category_is_told_by_what_stands_in_it():
    rooms = [draw_room(2, index, 1) for index in range(60)]
    share = {
        category: np.mean([stands_in(room) for room in rooms if room.category == category], axis=0)
        for category in CATEGORIES
    }
    assert share["bedroom"][0] == 1
    assert max(share[category][0] for category in CATEGORIES if category != "bedroom") == 0
    assert share["living_room"][1] > 0.9
    assert share["dining_room"][2] > 0.7


def test_most_of_nyus_13_classes_are_seen():
    seen = np.zeros(256, bool)
    for index in range(20):
        seen[np.unique(see(draw_room(0, index, 1), 0, (48, 64)).labels)] = True
    assert not seen[len(NYU13) :].any()
    assert seen.sum() >= 12


@pytest.mark.parametrize("index", range(4))
def test_a_hand_carries_the_camera_through_free_space(index):
    room = draw_room(4, index, 12)
    poses = room.camera.poses
    steps = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)
    assert ((steps > 0.05) & (steps < 0.15)).all()
    turned = [np.trace(a[:3, :3].T @ b[:3, :3]) for a, b in pairwise(poses)]
    degrees = np.rad2deg(np.arccos(np.clip((np.array(turned) - 1) / 2, -1, 1)))
    assert degrees.max() < 3
    assert degrees.mean() > 0.2
    assert min(distance(solid, poses[:, :3, 3].T).min() for solid in solids_of(room)) > 0.1
    np.testing.assert_allclose(
        poses[:, :3, :3] @ poses[:, :3, :3].transpose(0, 2, 1), np.eye(3)[None].repeat(12, 0), atol=1e-12
    )
    assert np.linalg.det(poses[0, :3, :3]) == pytest.approx(1)
