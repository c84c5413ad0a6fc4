"""Rays end on what is there and nothing is before it; light falls where nothing stands in its way."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.solids import distance

from cka_probe.lab.scenes import SCENES, rays, see, shading, view
from cka_probe.lab.scenes.rays import Rays, camera_rays, cast
from cka_probe.lab.scenes.scene import Camera, Lamps, Piece, Scene, Shell, Sun
from cka_probe.lab.scenes.shading import light_from, on_surfaces
from cka_probe.lab.scenes.solids import BOX, CYLINDER, ELLIPSOID, Material, Solid, box
from cka_probe.lab.scenes.table import tabulate

SIZE = (48, 64)
GREY = Material("plain", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
each_kind = pytest.mark.parametrize("kind", SCENES)


def at_start(scene):
    """Return all solids where they are when the camera is at its first pose."""
    time = scene.camera.times[0]
    return [
        replace(solid, centre=tuple(np.add(solid.centre, time * np.array(piece.velocity))))
        for piece in scene.pieces
        for solid in piece.solids
    ]


def room_with(*solids, light=None, size=(4.0, 4.0, 2.5)):
    """Return a grey room with some solids, each a piece of its own, seen from its middle along y."""
    pose = np.array([[1, 0, 0, 2.0], [0, 0, 1, 0.2], [0, -1, 0, 1.2], [0, 0, 0, 1]])
    shell = Shell((0.0, 0.0, 0.0), size, (GREY,) * 6, ("wall",) * 6)
    pieces = tuple(Piece((solid,), "thing") for solid in solids)
    light = light or Lamps((2.0, 2.0, 2.3))
    return Scene("rooms", "cell", ("wall", "thing"), shell, pieces, light, Camera(pose[None], np.zeros(1)))


@each_kind
@pytest.mark.parametrize("index", range(3))
def test_every_pixel_of_depth_lies_on_a_surface_and_nothing_is_before_it(kind, index):
    scene = SCENES[kind](1, index, 1)
    view, solids = see(scene, 0, SIZE), at_start(scene)
    v, u = np.indices(SIZE)
    ways = np.stack([(u - view.K[0, 2]) / view.K[0, 0], (v - view.K[1, 2]) / view.K[1, 1], np.ones(SIZE)])
    met = view.depth.ravel() > 0
    points = (view.pose[:3, :3] @ (ways * view.depth).reshape(3, -1) + view.pose[:3, 3:])[:, met]
    low, high = (np.array(corner)[:, None] for corner in (scene.shell.low, scene.shell.high))
    to_shell = np.minimum(points - low, high - points).min(axis=0)
    nearest = np.min([to_shell, *(np.abs(distance(solid, points)) for solid in solids)], axis=0)
    assert nearest.max() < 1e-5
    assert to_shell.min() > -1e-5
    for share in (0.05, 0.3, 0.6, 0.9, 0.97, 0.995, 1.0):
        between = view.pose[:3, 3:] + share * (points - view.pose[:3, 3:])
        assert min(distance(solid, between).min() for solid in solids) > -1e-5


def test_depth_is_along_the_axis_and_not_along_the_ray():
    scene = room_with()
    view = see(scene, 0, SIZE)
    facing = view.depth[20:28]
    np.testing.assert_allclose(facing[:, [10, 31, 53]], 3.8, atol=1e-12)  # the wall y = 4 from y = 0.2


@pytest.mark.parametrize("shape", [BOX, CYLINDER, ELLIPSOID])
@pytest.mark.parametrize("yaw", [0.0, 0.4, np.pi / 2, -np.pi / 2, np.pi, 2.0])
def test_a_ray_enters_and_leaves_on_the_surface(shape, yaw):
    solid = Solid(shape, (2.0, 2.0, 1.0), (0.9, 0.3, 0.5), GREY, yaw)
    table = tabulate(room_with(solid))
    rng = np.random.default_rng(0)
    aims = np.array(solid.centre)[:, None] + rng.uniform(-0.15, 0.15, (3, 200))
    origin = np.array([0.3, 0.2, 1.9])
    enter, leave = rays.span(table, 0, Rays(origin, aims - origin[:, None]))
    for t in (enter, leave):
        assert np.abs(distance(solid, origin[:, None] + t * (aims - origin[:, None]))).max() < 1e-9
    assert (enter < 1).all()
    assert (leave > 1).all()
    away = Rays(origin, np.array([[0.0], [-1.0], [0.1]]))
    enter, leave = rays.span(table, 0, away)
    assert not ((enter < leave) & (leave > 0)).any()


def faces(solid):
    """Return (turn, axis, side, place, low, high) of each face of a box, in axes turned by yaw less right angles."""
    quarter = round(solid.yaw / (np.pi / 2))
    turn = solid.yaw - quarter * np.pi / 2
    c, s = np.cos(turn), np.sin(turn)
    x, y, z = solid.centre
    centre = np.array([c * x + s * y, c * y - s * x, z])
    half = np.array(solid.half)[[1, 0, 2] if quarter % 2 else [0, 1, 2]]
    for axis in range(3):
        others = [other for other in range(3) if other != axis]
        for side in (-1, 1):
            spread = (centre - half)[others], (centre + half)[others]
            yield round(turn, 6), axis, side, centre[axis] + side * half[axis], *spread


@each_kind
def test_no_two_faces_lie_in_one_place(kind):
    """Which of two is seen would be a matter of rounding. On the shell none is seen, and bottoms rest on things."""
    for index in range(12):
        scene = SCENES[kind](7, index, 1)
        planes, ends = {}, (scene.shell.low, scene.shell.high)
        for piece in scene.pieces:
            for solid in piece.solids:
                for turn, axis, side, place, low, high in faces(solid) if solid.shape == BOX else ():
                    if (axis, side) == (2, -1) or (not turn and abs(place - ends[side > 0][axis]) < 1e-3):
                        continue
                    for other, other_low, other_high in planes.get((turn, axis, side, round(place, 4)), ()):
                        meet = np.minimum(high, other_high) - np.maximum(low, other_low)
                        assert meet.min() < 1e-3, (index, piece.label, axis, side, place, solid, other)
                    planes.setdefault((turn, axis, side, round(place, 4)), []).append((solid, low, high))


def test_the_four_rays_of_a_pixel_lie_around_its_centre():
    scene = SCENES["rooms"](0, 0, 1)
    pose, K = scene.camera.poses[0], scene.camera.intrinsics(SIZE)
    centre, fine = (camera_rays(pose, K, SIZE, each, np.float64).direction for each in (view.CENTRE, view.FINE))
    np.testing.assert_allclose(fine.mean(axis=1, keepdims=True), centre, atol=1e-12)
    halfway = (centre[..., 1:] - centre[..., :-1]) / 2
    np.testing.assert_allclose((fine[:, 1] - fine[:, 0])[:, None, :, 1:], halfway, atol=1e-12)


@each_kind
@pytest.mark.parametrize("index", range(4))
def test_looking_only_where_a_solid_can_be_loses_nothing(kind, index, monkeypatch):
    scene = SCENES[kind](5, index, 2)
    quickly = see(scene, 0, SIZE, flow=True)

    def everywhere(table, pose, K, shape):
        window = (0, *shape[:1], 0, *shape[1:]) if shape else (-np.inf, np.inf, -np.inf, np.inf)
        return [(number, window) for number in range(len(table.solids))]

    monkeypatch.setattr(rays, "_windows", everywhere)
    everything = lambda balls, place, _: np.repeat(np.isfinite(balls[:, 3:]), place.shape[1], axis=1)  # noqa: E731
    monkeypatch.setattr(shading, "_passing", everything)
    slowly = see(scene, 0, SIZE, flow=True)
    np.testing.assert_array_equal(quickly.depth, slowly.depth)
    np.testing.assert_array_equal(quickly.occluded, slowly.occluded)
    np.testing.assert_array_equal(quickly.image, slowly.image)


@each_kind
def test_following_two_rays_of_a_pixel_to_the_light_is_as_good_as_four(kind, monkeypatch):
    scene = SCENES[kind](5, 1, 2)
    quickly = see(scene, 0, (96, 128)).image.astype(int)
    every = lambda table, points, to_light, lit, _: shading._hidden(table, points, to_light, np.flatnonzero(lit))  # noqa: E731
    monkeypatch.setattr(shading, "_shaded", every)
    difference = np.abs(see(scene, 0, (96, 128)).image.astype(int) - quickly).max(axis=-1)
    assert difference.mean() < 0.15
    assert (difference > 8).mean() < 0.01


def light_at(scene, *spots):
    """Return how much light the floor sends out at some places, of one ray a pixel."""
    table = tabulate(scene)
    place = np.array(spots, np.float32).T
    points = on_surfaces(table, place, np.full(len(spots), -1))
    return light_from(table, scene.light, points, 1).mean(axis=1)


def test_it_is_darker_below_a_table_than_beside_it():
    board = box((1.5, 1.5, 0.7), (2.5, 2.5, 0.74), GREY)
    spots = ((2.0, 2.0, 0.0), (0.6, 2.0, 0.0))
    lit, shaded = (light_at(room_with(replace(board, shadow=shadow)), *spots) for shadow in (False, True))
    assert shaded[0] < 0.7 * lit[0]
    assert shaded[1] == lit[1]


def test_the_sun_throws_shadows_away_from_it():
    wall = box((1.9, 0.0, 0.0), (2.1, 4.0, 1.0), GREY)
    sun = Sun((np.sqrt(0.5), 0.0, np.sqrt(0.5)), (1.0, 1.0, 1.0), (0.3, 0.3, 0.3))
    west, east = light_at(room_with(wall, light=sun), (1.5, 2.0, 0.0), (2.5, 2.0, 0.0))
    assert west < 0.5 * east


@each_kind
def test_colour_does_not_depend_on_the_camera(kind):
    scene = SCENES[kind](0, 1, 2)
    pose, K = scene.camera.poses[0], scene.camera.intrinsics(SIZE)
    looks = camera_rays(pose, K, SIZE, view.CENTRE)
    table = tabulate(scene)
    hits = cast(table, pose, K, looks)
    place = (looks.origin[:, None, None, None] + hits.t * looks.direction).reshape(3, -1)
    order = np.random.default_rng(0).permutation(place.shape[1])
    once = light_from(table, scene.light, on_surfaces(table, place, hits.solid.ravel()), 1)
    again = light_from(table, scene.light, on_surfaces(table, place[:, order], hits.solid.ravel()[order]), 1)
    assert once.min() >= 0
    np.testing.assert_allclose(once[order], again, rtol=2e-3, atol=2e-3)
