"""Monodepth on rendered streets: the truth explains best, mirrors keep it, what moves along is taken out."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Generator

from cka_probe.images.datasets import open_dataset
from cka_probe.lab.geometry import inverse_pose
from cka_probe.lab.losses import minimum_error
from cka_probe.lab.scenes.scene import Camera, Piece
from cka_probe.lab.scenes.solids import moved
from cka_probe.lab.scenes.street import BASELINE, FOCAL, HEIGHT, draw_street
from cka_probe.lab.scenes.street_site import ROAD
from cka_probe.lab.scenes.street_things import car
from cka_probe.lab.scenes.view import see
from cka_probe.lab.tasks.monodepth import Monodepth

SIZE = (64, 96)
UNIT = 5.4
SOURCES = {"video": slice(0, 2), "stereo": slice(2, 3), "video_stereo": slice(0, 3)}


class Known(Monodepth):
    """The task, whose views bring along poses and depth as they are, to compare with."""

    needs = frozenset({"image", "sources", "K", "source_T_target", "depth"})


@pytest.fixture(scope="module")
def streets():
    data = open_dataset("scenes:streets?num=3&frames=3&size=120x80&seed=5&sources=-1,1,s")
    return [data[i] for i in range(len(data))]


def views_of(streets, sources, *, seed=None, **options):
    """Return the task, a batch of its views, and their true depth and poses in the network's unit."""
    task = Known(SIZE, sources=sources, jitter=0.0, **options)
    views = []
    for i, sample in enumerate(streets):
        part = {name: sample[name][SOURCES[sources]] for name in ("sources", "source_T_target")}
        views.append(task.prepare(sample | part, Generator().manual_seed((seed or 0) + i), seed is not None))
    batch = {name: torch.stack([view[name] for view in views]) for name in views[0]}
    depth = torch.where(batch["depth"] > 0, batch["depth"] / UNIT, 100.0)  # the sky is as far as can be said
    poses = batch["source_T_target"].clone()
    poses[..., :3, 3] /= UNIT
    return task, batch, depth, poses


def explained(task, batch, depth, poses):
    """Return the photometric error of the best source, mean over the batch."""
    return minimum_error(task.explained(batch, depth, poses), None, task.min_select)[0].mean().item()


@pytest.mark.parametrize("sources", SOURCES)
@pytest.mark.parametrize(("seed", "options"), [(None, {}), (0, {}), (1, {}), (2, {"crop": True}), (3, {"crop": True})])
def test_true_depth_and_true_poses_explain_best_in_mirrors_and_crops_too(streets, sources, seed, options):
    task, batch, depth, poses = views_of(streets, sources, seed=seed, **options)
    factors = (0.5, 0.8, 1.0, 1.25, 2.0)
    nearer, near, best, far, farther = (explained(task, batch, factor * depth, poses) for factor in factors)
    assert nearer > near > 1.1 * best
    assert farther > far > 1.1 * best
    assert best < 0.05
    aside, turned = poses.clone(), poses.clone()
    aside[..., 0, 3] += 0.03
    c, s = np.cos(0.02), np.sin(0.02)
    turned[..., :3, :3] = torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]], dtype=torch.float32) @ poses[..., :3, :3]
    for other in (inverse_pose(poses), aside, turned, torch.eye(4).expand_as(poses)):
        assert explained(task, batch, depth, other) > 1.5 * best


def test_mirrored_pairs_have_their_partner_on_the_other_side(streets):
    seen = set()
    for seed in range(8):
        _, batch, depth, poses = views_of(streets[:1], "stereo", seed=seed)
        task, unmirrored, *_ = views_of(streets[:1], "stereo")
        mirrored = not torch.equal(batch["image"], unmirrored["image"])
        side = poses[0, 0, 0, 3].item()
        assert side == pytest.approx(0.1 if mirrored else -0.1, rel=1e-5), "a baseline of 0.54 m is 0.1 of the unit"
        wrong = poses.clone()
        wrong[..., 0, 3] *= -1
        assert explained(task, batch, depth, poses) < 0.4 * explained(task, batch, depth, wrong)
        seen.add(mirrored)
    assert seen == {False, True}


def test_what_one_neighbour_hides_the_other_shows(streets):
    task, batch, depth, poses = views_of(streets, "video")
    errors = task.explained(batch, depth, poses)
    best, mean = (minimum_error(errors, None, select)[0] for select in (True, False))
    assert (best <= mean + 1e-6).all()
    # pixels that one of the two explains badly, as it does not see them, and the other well
    split = (errors.amax(1) > 0.2) & (errors.amin(1) < 0.05)
    assert 0.005 < split.float().mean() < 0.5
    assert best[:, 0][split].mean() < 0.2 * mean[:, 0][split].mean()


def led_street(speed=6.0, frames=3):
    """Return a street with nothing on it that moves but a car ahead, as fast as the camera and straight on."""
    street = draw_street(5, 0, frames)
    times = np.arange(frames) / 10
    first = np.eye(4)
    first[:3, :3] = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # x right, y down, z forward: along the scene's y
    first[:3, 3] = (street.camera.poses[0, 0, 3], 0.0, HEIGHT)
    poses = np.tile(first, (frames, 1, 1))
    poses[:, 1, 3] += speed * times
    ahead = moved(car(np.random.default_rng(1), False), (float(first[0, 3]), 8.0, ROAD), 0.0)
    still = [piece for piece in street.pieces if not any(piece.velocity)]
    leader = Piece(tuple(ahead), "car", (0.0, speed, 0.0))
    return replace(street, pieces=(*still, leader), camera=Camera(poses, times, FOCAL, BASELINE)), len(still) + 1


def test_the_auto_mask_takes_out_a_car_that_moves_along_and_little_else():
    scene, number = led_street()
    views = [see(scene, frame, SIZE) for frame in range(3)]
    image = [torch.from_numpy(view.image).permute(2, 0, 1).float() / 255 for view in views]
    poses = [torch.from_numpy(np.linalg.inv(view.pose) @ views[1].pose).float() for view in (views[0], views[2])]
    batch = {
        "image": image[1][None],
        "sources": torch.stack([image[0], image[2]])[None],
        "K": torch.from_numpy(views[1].K).float()[None],
    }
    depth = torch.from_numpy(views[1].depth).float()[None, None]
    task = Monodepth(SIZE, unit=1.0)
    errors = task.explained(batch, torch.where(depth > 0, depth, 1000.0), torch.stack(poses)[None])
    left = minimum_error(errors, task.unmoved(batch))[1][0, 0]
    ours = torch.from_numpy(views[1].instances) == number
    near = (depth[0, 0] > 0) & (depth[0, 0] < 15) & ~ours
    assert ours.float().mean() > 0.02, "the car is to be seen"
    assert left[ours].float().mean() > 0.8
    assert left[near].float().mean() < 0.3


def test_in_a_still_video_nothing_counts(streets):
    task, batch, depth, poses = views_of(streets[:1], "video")
    batch["sources"] = batch["image"][:, None].expand(-1, 2, -1, -1, -1)
    error, left = minimum_error(task.explained(batch, depth, poses), task.unmoved(batch))
    assert error.max() == 0
    assert left.float().mean() > 0.9


def test_nearer_is_a_longer_way_in_the_image(streets):
    """The error falls from either side towards the true depth: along it a network can descend."""
    task, batch, depth, poses = views_of(streets, "stereo")
    steps = [explained(task, batch, factor * depth, poses) for factor in np.geomspace(0.6, 1.0, 5)]
    assert all(before > after for before, after in pairwise(steps))
