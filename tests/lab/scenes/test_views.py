"""A frame of a scene and its neighbour tell one story: depth, pose, flow, normals, planes and edges agree."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.paths import ROOT
from helpers.stories import agreement, depth_of, fingerprints, gain, holds, tell

from cka_probe.lab import geometry
from cka_probe.lab.scenes import SCENES, see
from cka_probe.lab.scenes.view import occluding_edges

SIZE = (96, 128)
FINER = {"rooms": SIZE, "streets": (192, 640), "objects": (320, 320)}
"""Pixels at which each kind's images are fine enough for its steps: of streets those papers learn depth from."""
WAYS = ("forwards", "backwards", "stereo")
each_kind = pytest.mark.parametrize("kind", SCENES)


def scenes(kind, number=3, frames=2):
    return [SCENES[kind](11, index, frames) for index in range(number)]


@each_kind
@pytest.mark.parametrize("way", WAYS)
def test_points_of_one_frame_land_on_the_depth_of_the_other(kind, way):
    wrong = torch.cat([agreement(tell(scene, SIZE, way)) for scene in scenes(kind, 4)])
    assert len(wrong) > 4 * SIZE[0] * SIZE[1] * 0.4
    assert (wrong < 0.01).double().mean() > 0.97
    assert wrong.median() < 1e-6


@pytest.mark.slow
@each_kind
@pytest.mark.parametrize("way", WAYS)
def test_warping_by_true_depth_and_pose_explains_the_image_the_better_the_finer_it_is(kind, way):
    height, width = FINER[kind]
    coarse, fine = (
        np.mean([gain(tell(scene, size, way)) for scene in scenes(kind, 2)])
        for size in ((height // 2, width // 2), (height, width))
    )
    assert fine > 4
    assert fine > 1.2 * coarse


@each_kind
def test_a_photometric_loss_has_something_to_hold_on_to_nearly_everywhere(kind):
    shares = [holds(tell(scene, SIZE, "stereo"), noise=1.0) for scene in scenes(kind, 4)]
    assert np.mean(shares) > 0.8


@each_kind
@pytest.mark.parametrize("way", WAYS)
def test_flow_is_that_of_depth_and_pose_where_nothing_moves(kind, way):
    for scene in scenes(kind, 2):
        story = tell(scene, SIZE, way)
        K, depth = torch.from_numpy(story.target.K), depth_of(story.target)
        rigid = geometry.rigid_flow(depth, K, story.source_T_target)[0].permute(1, 2, 0)
        stored = torch.from_numpy(story.target.flow)
        assert story.still.double().mean() > 0.3
        known = story.still & stored.isfinite().all(-1)
        torch.testing.assert_close(stored[known], rigid[known].float(), atol=1e-3, rtol=1e-4)
        sky = torch.from_numpy(story.target.depth == 0)
        far = geometry.rigid_flow(torch.full_like(depth, 1e7), K, story.source_T_target)[0].permute(1, 2, 0)
        torch.testing.assert_close(stored[sky], far[sky].float(), atol=1e-3, rtol=1e-4)


@each_kind
def test_a_plane_is_flat_and_has_its_normal(kind):
    for scene in scenes(kind, 2):
        view = see(scene, 0, SIZE)
        points = geometry.backproject(depth_of(view), torch.from_numpy(view.K))[0].permute(1, 2, 0).numpy()
        large = [plane for plane in np.unique(view.planes) if plane and (view.planes == plane).sum() > 20]
        assert len(large) > 4
        for plane in large:
            here = view.planes == plane
            normal = view.normals[here][0].astype(float)
            assert np.ptp(view.normals[here], axis=0).max() < 1e-6
            off = points[here] @ normal
            assert np.ptp(off) < 1e-5 * max(1.0, np.abs(points[here]).max())


@each_kind
def test_normals_are_those_of_depth(kind):
    for scene in scenes(kind, 2):
        view = see(scene, 0, SIZE)
        known = view.depth > 0
        assert np.linalg.norm(view.normals[known], axis=-1) == pytest.approx(1, abs=1e-5)
        assert not view.normals[~known].any()
        measured = geometry.normals_from_depth(depth_of(view), torch.from_numpy(view.K))[0].permute(1, 2, 0).numpy()
        inner = np.zeros(SIZE, bool)
        same = [view.planes[1 + dy : 95 + dy, 1 + dx : 127 + dx] for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        inner[1:-1, 1:-1] = np.all([s == same[4] for s in same], axis=0) & (same[4] > 0)
        assert inner.mean() > 0.2
        angle = np.rad2deg(np.arccos(np.clip((measured * view.normals).sum(-1)[inner], -1, 1)))
        assert angle.max() < 0.5


@each_kind
def test_edges_lie_on_steps_of_depth_and_no_great_step_is_without(kind):
    for scene in scenes(kind, 3):
        view = see(scene, 0, SIZE)
        depth = np.where(view.depth > 0, view.depth, np.inf)
        deepest = np.max([np.roll(depth, shift, axis) for axis in (0, 1) for shift in (-1, 1)], axis=0)
        inner = np.zeros(SIZE, bool)
        inner[1:-1, 1:-1] = True
        assert 0.005 < view.edges.mean() < 0.3
        assert (deepest > depth)[view.edges & inner].all()
        for axis in (0, 1):
            after = np.roll(depth, -1, axis)
            both = np.minimum(depth, after)
            with np.errstate(invalid="ignore"):
                step = np.maximum(depth, after) / both > 1.4
            alike = (view.normals * np.roll(view.normals, -1, axis)).sum(-1) > 0.99  # a floor at a slant is no step
            step &= ~alike & inner & np.roll(inner, -1, axis)
            assert (view.edges | np.roll(view.edges, -1, axis))[step].mean() > 0.99


def test_a_step_smaller_than_two_per_cent_is_none_and_neither_is_a_slope():
    K = np.array([[100.0, 0, 31.5], [0, 100, 23.5], [0, 0, 1]])
    facing = np.zeros((3, 48, 64))
    facing[2] = -1
    for step, found in ((1.015, 0), (1.03, 48)):
        depth = np.full((48, 64), 2.0)
        depth[:, 32:] *= step
        edges = occluding_edges(depth, facing, K)
        assert edges.sum() == found
        assert not edges[:, 32:].any()
    v, u = np.indices((48, 64))
    rays = np.stack([(u - 31.5) / 100, (v - 23.5) / 100, np.ones((48, 64))])
    slanted = np.broadcast_to(np.array([0.0, -0.97, -0.243])[:, None, None], facing.shape)
    depth = -0.3 / (slanted * rays).sum(axis=0)
    assert depth.min() > 0
    assert (depth[:-1] / depth[1:]).max() > 1.2
    assert not occluding_edges(depth, slanted, K).any()


@each_kind
def test_what_is_hidden_in_the_next_frame_is_behind_something_there(kind):
    hidden, seen = [], []
    for scene in scenes(kind, 3):
        story = tell(scene, (192, 256))
        K = torch.from_numpy(story.target.K)
        points = geometry.transform(story.source_T_target, geometry.backproject(depth_of(story.target), K))
        pixels, z = geometry.project(points, K)
        there = geometry.sample_at(depth_of(story.source), pixels, mode="nearest")
        before = ((there > 0) & (there < 0.98 * z))[0, 0]
        inside = geometry.inside(pixels, (192, 256))[0, 0] & story.still
        hidden.append(before[inside & torch.from_numpy(story.target.occluded)])
        seen.append(before[story.visible])
    assert (
        torch.cat(hidden).double().mean() > 0.7
    )  # the rest hides behind what is thinner than a pixel, or nearly touches
    assert torch.cat(seen).double().mean() < 0.03


@each_kind
def test_labels_instances_and_planes_are_of_the_scene(kind):
    for scene in scenes(kind, 3):
        view = see(scene, 0, SIZE)
        assert set(np.unique(view.labels)) <= {*range(len(scene.classes)), 255}
        assert view.instances.max() <= len(scene.pieces)
        assert len(np.unique(view.instances)) > 3
        labels = [scene.classes.index(piece.label) if piece.label else 255 for piece in scene.pieces]
        plain = [n for n, piece in enumerate(scene.pieces) if not any(solid.label for solid in piece.solids)]
        for number in plain:
            assert set(np.unique(view.labels[view.instances == number + 1])) <= {labels[number]}


@each_kind
def test_a_number_of_a_plane_means_the_same_in_every_frame(kind):
    scene = scenes(kind, 1)[0]
    first, second = (see(scene, frame, SIZE) for frame in (0, 1))
    for plane in set(np.unique(first.planes)) & set(np.unique(second.planes)) - {0}:
        a, b = ((v.pose[:3, :3] @ v.normals[v.planes == plane][0]) for v in (first, second))
        np.testing.assert_allclose(a, b, atol=1e-5)


@each_kind
def test_the_partner_is_what_a_camera_at_its_place_sees(kind):
    scene = scenes(kind, 1)[0]
    pair = see(scene, 0, SIZE, partner=True)
    beside = scene.camera.partner(scene.camera.poses[0])
    moved = replace(scene, camera=replace(scene.camera, poses=beside[None], times=scene.camera.times[:1]))
    np.testing.assert_array_equal(pair.partner, see(moved, 0, SIZE).image)
    way = np.linalg.inv(beside) @ pair.pose
    np.testing.assert_allclose(way[:3, 3], [-scene.camera.baseline, 0, 0], atol=1e-12)


@each_kind
def test_a_seed_and_an_index_make_one_scene_and_others_another(kind):
    make = SCENES[kind]
    first, again = (see(make(5, 3, 2), 1, SIZE, flow=False) for _ in range(2))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.depth, again.depth)
    for other in (make(5, 4, 2), make(6, 3, 2)):
        assert np.abs(see(other, 1, SIZE).image.astype(int) - first.image).mean() > 5


@pytest.mark.slow
def test_another_process_sees_the_same():
    code = "import json; from helpers.stories import fingerprints; print(json.dumps(fingerprints()))"
    seed = {"PYTHONHASHSEED": "123"}  # sets and hashes in another order
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | seed | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])},
        capture_output=True,
        check=True,
    )
    assert json.loads(run.stdout) == fingerprints()
