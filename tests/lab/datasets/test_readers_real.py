"""The readers of video on real recordings: what they hold, and that depth, K, poses and baselines tell one story.

The story is told by warping: an image taken from elsewhere, brought here by depth, camera and pose, must look like
the image taken here. Were K transposed, a pose inverted, a baseline's sign turned or a depth in other units, it
would not; the last tests do these things and see that it does not.
"""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers.paths import REAL

from cka_probe.images.datasets import open_dataset
from cka_probe.lab.datasets.fields import read_depth
from cka_probe.lab.datasets.kitti import scan_depth
from cka_probe.lab.datasets.numbers import rigid
from cka_probe.lab.geometry import warp

pytestmark = pytest.mark.skipif(not REAL.is_dir(), reason="the real recordings (../shared/data) are not here")


@pytest.mark.parametrize(
    ("spec", "count", "size", "more"),
    [
        ("rgbd:hololens_rgbd", 373, (180, 270), {"K", "depth", "world_T_target"}),
        ("rgbd:livingroom_synthetic", 60, (240, 320), {"K", "depth", "world_T_target"}),
        ("video:kitti_stereo_a", 51, (185, 613), {"K", "world_T_target"}),
        ("video:kitti_traffic", 78, (188, 621), {"K", "depth"}),
        ("video:carnd_highway", 221, (216, 384), {"K"}),
    ],
)
def test_real_videos_are_read(spec, count, size, more):
    name, _, folder = spec.partition(":")
    dataset = open_dataset(f"{name}:{REAL / folder}")
    assert len(dataset) == count
    assert dataset.gives == {"image"} | more
    for index in (0, count // 2, count - 1):
        sample = dataset[index]
        assert sample["image"].shape == (3, *size)
        assert abs(sample["K"][0, 2] - size[1] / 2) < 0.05 * size[1]
        if "depth" in more:
            measured = sample["depth"][sample["depth"] > 0]
            assert 0.5 < measured.median() < 20
            assert measured.max() < 85


def test_real_depth_of_another_camera_is_a_room_in_metres():
    depth = read_depth(REAL / "vectors_rgbd" / "tum_depth_5000_per_m.png", 1 / 5000)
    assert 1 < depth[depth > 0].median() < 4
    assert depth.max() < 10


def test_a_real_scan_falls_where_others_saw_it_fall():
    """A full scan, projected anew, is the depth map that was made of it at half the size, to the pixel.

    Whoever made those maps halved a coordinate and cut it to a whole number. Rounding does the same to a camera
    whose centre lies half a pixel before; told so, both must agree at every pixel.
    """
    folder = REAL / "kitti_traffic"
    calibration = {name: np.array(row) for name, row in json.loads((folder / "calib.json").read_text()).items()}
    P, rectify = calibration["P2"].reshape(3, 4), np.eye(4)
    rectify[:3, :3] = calibration["R0_rect"].reshape(3, 3)
    camera_T_scanner = np.eye(4)
    camera_T_scanner[:3] = calibration["Tr_velo_to_cam"].reshape(3, 4)
    camera_T_scanner = rigid(translation=np.linalg.solve(P[:, :3], P[:, 3])) @ rectify @ camera_T_scanner
    across, down = 621 / 1242, 188 / 375
    camera = {"fx": P[0, 0] * across, "fy": P[1, 1] * down}
    camera |= {"cx": P[0, 2] * across - 0.5, "cy": P[1, 2] * down - 0.5}
    for number in (0, 40):
        made = open_dataset(f"video:{folder}")[number]["depth"]
        scan, image = (folder / part / f"{number:010d}" for part in ("velodyne", "images"))
        depth = scan_depth(scan.with_suffix(".bin"), camera_T_scanner, camera, image.with_suffix(".jpg"))
        assert made.count_nonzero() > 10000
        assert ((depth > 0) == (made > 0)).float().mean() > 0.9999
        torch.testing.assert_close(depth, made, atol=1 / 256, rtol=0)


# real warps


def improvement(image, source, depth, K, source_T_target, also=True):
    """How many times smaller the photometric error over visible pixels is with the warp than without."""
    warped, _, visible = warp(source, depth, K, source_T_target)
    visible = visible & also
    before, after = ((image - shown).abs().mean(1, keepdim=True)[visible].mean() for shown in (source, warped))
    return (before / after).item()


def sample_batch(sample):
    return sample["image"][None], sample["depth"][None], sample["K"][None]


@pytest.mark.parametrize(
    ("folder", "step", "every", "least"), [("hololens_rgbd", 2, 12, 3.0), ("livingroom_synthetic", 10, 10, 5.0)]
)
@pytest.mark.parametrize("direction", [1, -1])
def test_real_depth_and_poses_bring_a_frame_to_its_neighbour(folder, step, every, least, direction):
    dataset = open_dataset(f"rgbd:{REAL / folder}?sources={direction * step}")
    found = []
    for index in range(0, len(dataset), every):
        sample = dataset[index]
        image, depth, K = sample_batch(sample)
        found.append(improvement(image, sample["sources"], depth, K, sample["source_T_target"]))
    assert np.median(found) > least


def test_what_is_told_wrongly_is_seen():
    dataset = open_dataset(f"rgbd:{REAL / 'hololens_rgbd'}?sources=2")
    right, inverted, in_other_units = [], [], []
    for index in range(0, len(dataset), 24):
        sample = dataset[index]
        image, depth, K = sample_batch(sample)
        pose = sample["source_T_target"]
        right.append(improvement(image, sample["sources"], depth, K, pose))
        inverted.append(improvement(image, sample["sources"], depth, K, torch.linalg.inv(pose)))
        in_other_units.append(improvement(image, sample["sources"], depth / 5, K, pose))
    assert np.median(right) > 3
    assert np.median(inverted) < 1.5
    assert np.median(in_other_units) < 2


def matched_depth(image, partner, K, partner_T_target, shifts=56):
    """Depth (1, 1, H, W) of a pair by plain block matching: for each pixel, of planes at fx b / 1, fx b / 2, …, the one
    that brings the partner's 9 x 9 pixels nearest to those here, and a parabola through the costs beside it."""
    step = K[0, 0, 0] * partner_T_target[0, 0, 3].abs()
    image, partner = image[:, :1], partner[:, :1]  # they are grey
    costs = []
    for pixels in range(1, shifts):
        warped, _, visible = warp(partner, torch.full_like(image, float(step / pixels)), K, partner_T_target)
        cost = torch.where(visible, (warped - image).abs(), 1.0)
        costs.append(F.avg_pool2d(F.pad(cost, (4, 4, 4, 4), mode="replicate"), 9, 1))
    costs = torch.cat(costs, 1)
    best = costs.argmin(1, keepdim=True).clamp(1, shifts - 3)
    nearer, here, further = (costs.gather(1, best + offset) for offset in (-1, 0, 1))
    offset = ((nearer - further) / (2 * (nearer - 2 * here + further)).clamp_min(1e-6)).clamp(-0.5, 0.5)
    return step / (best + 1 + offset)


def test_a_real_pair_agrees_on_which_side_the_partner_stands_and_with_the_poses():
    dataset = open_dataset(f"video:{REAL / 'kitti_stereo_a'}?sources=-1,1,s")
    stereo, wrong_side, past, future = [], [], [], []
    for index in (6, 24, 42):
        sample = dataset[index]
        image, K, sources, poses = (
            sample["image"][None],
            sample["K"][None],
            sample["sources"],
            sample["source_T_target"],
        )
        depth = matched_depth(image, sources[2:], K, poses[2:])
        stereo.append(improvement(image, sources[2:], depth, K, poses[2:]))
        other = torch.linalg.inv(poses[2:])
        if not wrong_side:
            wrong_side.append(improvement(image, sources[2:], matched_depth(image, sources[2:], K, other), K, other))
        # depth that the partner, matched on its own, agrees with within a pixel: what one camera alone sees is left out
        seen, z, visible = warp(matched_depth(sources[2:], image, K, other), depth, K, poses[2:])
        step = K[0, 0, 0] * poses[2, 0, 3].abs()
        agreed = visible & ((step / seen - step / z).abs() < 1) & (step / z > 1.5)
        assert agreed.float().mean() > 0.5
        past.append(improvement(image, sources[:1], depth, K, poses[:1], agreed))
        future.append(improvement(image, sources[1:2], depth, K, poses[1:2], agreed))
    assert min(stereo) > 3
    assert max(wrong_side) < 1.6  # matching finds the best it can on the wrong side, too
    assert np.median(past) > 2.5  # matched left to right, tried in time: by poses and baseline together
    assert np.median(future) > 2.5
