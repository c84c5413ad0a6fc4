"""Geometry closes on itself: identities, compositions, planes, mirrors, gradients."""

import math

import pytest
import torch
from torch import Generator

from cka_probe.errors import DataError
from cka_probe.lab.geometry import (
    backproject,
    cropped_K,
    flipped_K,
    flipped_pose,
    inside,
    normals_from_depth,
    pixel_grid,
    project,
    rigid_flow,
    sample_at,
    scaled_K,
    transform,
    warp,
    warp_by_flow,
)

H, W = 12, 17
K = torch.tensor([[20.0, 0, 7.3], [0, 22, 5.9], [0, 0, 1]], dtype=torch.float64)


def drawn(*shape, low=0.0, high=1.0, seed=0):
    return low + (high - low) * torch.rand(*shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


def pose(x=0.0, y=0.0, z=0.0, around_y=0.0, around_x=0.0):
    (c, s), (e, f) = ((math.cos(a), math.sin(a)) for a in (around_y, around_x))
    turn = torch.tensor([[c, 0, s], [0, 1, 0], [-s, 0, c]]) @ torch.tensor([[1.0, 0, 0], [0, e, -f], [0, f, e]])
    T = torch.eye(4, dtype=torch.float64)
    T[:3, :3], T[:3, 3] = turn, torch.tensor([x, y, z])
    return T


def plane_depth(normal, distance, size=(H, W), camera=K):
    """Depth of the points with normal . p = distance."""
    rays = backproject(torch.ones(1, 1, *size, dtype=torch.float64), camera)
    return distance / (rays * torch.tensor(normal, dtype=torch.float64).view(1, 3, 1, 1)).sum(1, keepdim=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [(12, 17), (2, 2), (96, 128)])
def test_the_identity_warp_is_the_identity(dtype, size):
    source, depth = drawn(3, 3, *size).to(dtype), drawn(3, 1, *size, low=0.3, high=9, seed=1).to(dtype)
    image, z, visible = warp(source, depth, K.to(dtype), torch.eye(4, dtype=dtype))
    exact = 1e-12 if dtype == torch.float64 else 3e-5  # 128 pixels in float32: a coordinate is good to 1e-5
    torch.testing.assert_close(image, source, atol=exact, rtol=0)
    torch.testing.assert_close(z, depth)
    assert visible.all()


def test_projecting_what_was_backprojected_gives_the_grid():
    skewed = K.clone()
    skewed[0, 1] = 1.7
    cameras = torch.stack([K, skewed])
    depth = drawn(2, 1, H, W, low=0.1, high=50)
    pixels, z = project(backproject(depth, cameras), cameras)
    torch.testing.assert_close(pixels, pixel_grid(H, W, like=depth).expand(2, 2, H, W))
    torch.testing.assert_close(z, depth)


def test_poses_compose_and_each_image_has_its_own():
    first, second = pose(0.1, 0.2, 0.3, 0.4), pose(-0.3, 0.1, 0, -0.2, 0.1)
    points = drawn(2, 3, H, W, low=-3, high=3)
    torch.testing.assert_close(transform(second, transform(first, points)), transform(second @ first, points))
    torch.testing.assert_close(
        transform(torch.stack([first, second]), points),
        torch.cat([transform(first, points[:1]), transform(second, points[1:])]),
    )
    torch.testing.assert_close(transform(torch.linalg.inv(first), transform(first, points)), points)


def test_a_sideways_step_moves_a_wall_by_focal_length_times_step_over_depth():
    wall = torch.full((1, 1, H, W), 4.0, dtype=torch.float64)
    flow = rigid_flow(wall, K, pose(x=0.4, y=-0.2))
    torch.testing.assert_close(flow[:, 0], torch.full_like(flow[:, 0], 20 * 0.4 / 4))
    torch.testing.assert_close(flow[:, 1], torch.full_like(flow[:, 1], -22 * 0.2 / 4))
    source = pixel_grid(H, W, like=wall)
    image, z, visible = warp(source, wall, K, pose(x=0.4, y=-0.2))
    assert visible.sum() == (H - 2) * (W - 2)  # 2 columns, 1.1 rows
    assert z.eq(4).all()
    torch.testing.assert_close(image[visible.expand_as(image)], (source + flow)[visible.expand_as(source)])


def test_a_step_forward_moves_a_wall_away_from_the_principal_point():
    wall = torch.full((1, 1, H, W), 4.0, dtype=torch.float64)
    centre = torch.tensor([7.3, 5.9], dtype=torch.float64).view(1, 2, 1, 1)
    expected = (pixel_grid(H, W, like=wall) - centre) * (4 / 3 - 1)
    torch.testing.assert_close(rigid_flow(wall, K, pose(z=-1.0)), expected)


def test_flow_there_and_back_cancels():
    T, normal = pose(0.2, -0.1, 0.1, 0.05, -0.03), (0.3, -0.2, 1.0)
    depth = plane_depth(normal, 3.0)
    there = rigid_flow(depth, K, T)
    back = torch.linalg.inv(T)  # the plane n . p = d in the other camera's axes: (R n) . p = d + (R n) . t
    turned = T[:3, :3] @ torch.tensor(normal, dtype=torch.float64)
    other = plane_depth(turned.tolist(), 3.0 + (turned @ T[:3, 3]).item(), size=(60, 80))
    read, visible = warp_by_flow(rigid_flow(other, K, back), there)
    ends_at = pixel_grid(H, W, like=depth) + there
    assert visible.any()
    torch.testing.assert_close(
        torch.where(visible, (there + read), 0.0), torch.zeros_like(there), atol=3e-3, rtol=0
    )  # read between pixels, and flow is not linear
    assert torch.equal(visible, inside(ends_at, (60, 80)))


def test_warping_by_flow_is_warping_by_depth():
    source, depth, T = drawn(2, 3, H, W), drawn(2, 1, H, W, low=2, high=5, seed=1), pose(0.1, 0, 0.1, 0.02)
    depth[0, 0, 3, 4] = 0
    image, _, visible = warp(source, depth, K, T)
    by_flow, flown = warp_by_flow(source, rigid_flow(depth, K, T))
    assert torch.equal(visible, flown)
    assert not visible[0, 0, 3, 4]
    torch.testing.assert_close(image, by_flow)


def test_flips_commute_with_everything():
    source, depth, T = drawn(1, 3, H, W), drawn(1, 1, H, W, low=2, high=5, seed=1), pose(0.2, -0.1, 0.1, 0.03, 0.02)
    camera, mirrored = flipped_K(K, W), flipped_pose(T)
    image, z, visible = warp(source, depth, K, T)
    other, other_z, other_visible = warp(source.flip(-1), depth.flip(-1), camera, mirrored)
    torch.testing.assert_close(other.flip(-1), image)
    torch.testing.assert_close(other_z.flip(-1), z)
    assert torch.equal(other_visible.flip(-1), visible)
    sign = torch.tensor([-1.0, 1.0]).view(1, 2, 1, 1)
    torch.testing.assert_close(rigid_flow(depth.flip(-1), camera, mirrored).flip(-1) * sign, rigid_flow(depth, K, T))
    torch.testing.assert_close(flipped_K(camera, W), K)
    torch.testing.assert_close(flipped_pose(flipped_pose(T)), T)


def test_resized_and_cut_cameras_see_the_same_point_at_the_same_place():
    points = drawn(1, 3, H, W, low=1, high=3)
    pixels, _ = project(points, K)
    resized, _ = project(points, scaled_K(K, (H, W), (3 * H, 2 * W)))
    factor = torch.tensor([2.0, 3.0], dtype=torch.float64).view(1, 2, 1, 1)
    torch.testing.assert_close(resized + 0.5, factor * (pixels + 0.5))  # distances from the border scale
    cut, _ = project(points, cropped_K(K, top=4, left=-3))
    torch.testing.assert_close(cut, pixels - torch.tensor([-3.0, 4.0], dtype=torch.float64).view(1, 2, 1, 1))


@pytest.mark.parametrize("normal", [(0, 0, 1), (0.5, 0.2, 1), (-0.9, 0.4, 0.7), (0, 1, 0.3)])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_normals_of_a_plane_are_the_planes_up_to_the_border(normal, scale):
    depth = plane_depth(normal, 2.0)
    measured = depth > 0
    depth = torch.where(measured, depth * scale, 0.0)
    normals = normals_from_depth(depth, K)
    expected = -torch.tensor(normal, dtype=torch.float64) / math.sqrt(sum(part**2 for part in normal))
    known = normals.abs().sum(1) > 0
    assert known.any()
    assert known.all() == measured.all()
    torch.testing.assert_close(normals.permute(0, 2, 3, 1)[known], expected.expand(int(known.sum()), 3))


def test_normals_of_anything_are_unit_and_towards_the_camera_and_zero_beside_holes():
    depth = drawn(2, 1, H, W, low=1, high=5)
    depth[0, 0, 5, 6] = 0
    normals = normals_from_depth(depth, K)
    zero = normals.eq(0).all(1)
    assert zero.sum() == 9
    assert zero[0, 4:7, 5:8].all()
    torch.testing.assert_close(normals.norm(dim=1)[~zero], torch.ones(2 * H * W - 9, dtype=torch.float64))
    assert ((normals * backproject(depth, K)).sum(1)[~zero] <= 0).all()


def test_gradients_are_those_of_finite_differences():
    source, depth = drawn(1, 2, 4, 5).requires_grad_(), drawn(1, 1, 4, 5, low=2, high=3, seed=1).requires_grad_()
    T = pose(0.05, 0.02, 0.03, 0.02)[None].requires_grad_()
    camera = torch.tensor([[[5.0, 0.1, 2.1], [0, 6, 1.4], [0, 0, 1]]], dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda *given: warp(*given)[:2], (source, depth, camera, T))
    assert torch.autograd.gradcheck(rigid_flow, (depth, camera, T))
    assert torch.autograd.gradcheck(normals_from_depth, (depth, camera))
    assert torch.autograd.gradcheck(lambda s, d: warp_by_flow(s, 0.1 + 0.2 * d.expand(1, 2, 4, 5))[0], (source, depth))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_cannot_be_seen_is_invisible_and_its_gradients_are_finite(dtype):
    depth = torch.full((5, 1, H, W), 2.0, dtype=dtype)
    depth[0], depth[1, 0, 0, 0], depth[2, 0, 0, :3] = 0, 0, torch.tensor([torch.nan, torch.inf, -1])
    poses = torch.stack([pose(z=3), pose(z=-1.9), pose(z=0.1), pose(z=-2), pose(z=-5, x=1)]).to(dtype)
    poses = torch.cat([poses[:4], poses[4:]]).requires_grad_()
    depth.requires_grad_()
    image, z, visible = warp(drawn(5, 3, H, W).to(dtype), depth, K.to(dtype), poses)
    flow = rigid_flow(depth, K.to(dtype), poses)
    assert visible.flatten(1).sum(1).tolist()[0] == 0  # nothing measured, although the camera steps back
    assert visible.flatten(1).sum(1).tolist()[3:] == [0, 0]  # in the camera, behind it
    assert visible[2].sum() > 0
    assert not visible[2, 0, 0, :3].any()
    assert flow[[0, 3, 4]].isnan().all()
    known = flow.isfinite()
    (image.sum() + z.nan_to_num().sum() + flow[known].sum() + normals_from_depth(depth, K.to(dtype)).sum()).backward()
    assert depth.grad.isfinite().all()
    assert poses.grad.isfinite().all()


def test_an_unknown_pose_shows_nothing():
    depth = torch.full((1, 1, H, W), 2.0).requires_grad_()
    unknown = torch.full((1, 4, 4), torch.nan)
    image, _, visible = warp(torch.ones(1, 3, H, W), depth, K.float(), unknown)
    assert not visible.any()
    assert rigid_flow(depth, K.float(), unknown).isnan().all()
    image.sum().backward()
    assert depth.grad.isfinite().all()


def test_autocast_makes_no_coordinate_coarser():
    source, depth = drawn(1, 3, 96, 128).float(), drawn(1, 1, 96, 128, low=2, high=5).float()
    camera, T = scaled_K(K.float(), (H, W), (96, 128)), pose(0.1, 0, 0.1, 0.03).float()
    plain = (*warp(source, depth, camera, T), normals_from_depth(depth, camera))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = (*warp(source, depth, camera, T), normals_from_depth(depth, camera))
    assert all(torch.equal(a, b) for a, b in zip(plain, cast, strict=True))


def test_classes_are_read_and_never_mixed():
    labels = torch.arange(H * W).view(1, 1, H, W)
    shifted = pixel_grid(H, W) + torch.tensor([0.4, -0.4]).view(1, 2, 1, 1)
    assert torch.equal(sample_at(labels, shifted, mode="nearest"), labels)
    assert torch.equal(sample_at(labels > 5, shifted, mode="nearest"), labels > 5)
    assert sample_at(labels, shifted + 100, mode="nearest", padding="zeros").eq(0).all()
    with pytest.raises(DataError, match="classes do not mix"):
        sample_at(labels, shifted)


def test_half_precision_images_are_read_at_full_precision_coordinates():
    image = drawn(1, 3, 96, 128).to(torch.bfloat16)
    read = sample_at(image, pixel_grid(96, 128))
    assert read.dtype == torch.bfloat16
    torch.testing.assert_close(read, image)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: backproject(torch.ones(1, H, W), K), r"expected depth of shape \(n, 1, H, W\), found \(1, 12, 17\)"),
        (
            lambda: backproject(torch.ones(2, 1, H, W), K.expand(3, 3, 3)),
            r"expected K of shape \(2, 3, 3\) or",
        ),
        (lambda: transform(torch.eye(3), torch.ones(1, 3, H, W)), r"expected a pose of shape \(1, 4, 4\)"),
        (lambda: project(torch.ones(1, 2, H, W), K), r"expected points of shape \(n, 3, H, W\)"),
        (lambda: warp_by_flow(torch.ones(1, 1, H, W), torch.ones(1, 1, H, W)), r"expected flow of shape"),
        (lambda: sample_at(torch.ones(1, 1, 1, 5), torch.zeros(1, 2, 3, 3)), "at least 2x2 pixels"),
        (lambda: normals_from_depth(torch.ones(1, 1, 1, 5), K), "at least 2x2 pixels"),
    ],
)
def test_shapes_that_do_not_fit_are_named(build, message):
    with pytest.raises(DataError, match=message):
        build()


def test_nothing_is_made_on_another_device():
    """On `meta` every operation checks its devices and computes nothing; a GPU is not needed for it."""
    given = {"device": "meta"}
    source, depth = torch.ones(2, 3, H, W, **given), torch.ones(2, 1, H, W, **given)
    camera, T = K.float().to("meta"), torch.eye(4, **given)
    outputs = [*warp(source, depth, camera, T), rigid_flow(depth, camera, T), normals_from_depth(depth, camera)]
    outputs += warp_by_flow(source, torch.ones(2, 2, H, W, **given))
    outputs += [scaled_K(camera, (H, W), (5, 7)), cropped_K(camera, 1, 2), flipped_K(camera, W), flipped_pose(T)]
    assert {output.device.type for output in outputs} == {"meta"}
