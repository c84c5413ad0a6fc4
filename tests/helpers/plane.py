"""A textured plane seen by three cameras, with every field of a sample exact: what transforms are tested on."""

import functools
import math

import torch

from cka_probe.lab.geometry import backproject, flipped_pose, rigid_flow, transform, warp

H, W = 60, 84
K = torch.tensor([[70.0, 0, 38.2], [0, 66, 31.7], [0, 0, 1]])
NORMAL, DISTANCE = torch.tensor([0.25, -0.15, 1.0]), 3.0
"""The plane in the world's axes: NORMAL . p = DISTANCE."""


def pose(x, y, z, turn):
    c, s = math.cos(turn), math.sin(turn)
    return torch.tensor([[c, 0, s, x], [0, 1, 0, y], [-s, 0, c, z], [0, 0, 0, 1]])


WORLD_T_TARGET = pose(0.1, -0.05, 0.0, 0.05)
WORLD_T_SOURCES = torch.stack([pose(0.25, 0.0, 0.2, 0.02), pose(-0.2, -0.05, 0.0, 0.05)])


def plane(world_T_camera, camera=K, size=(H, W)):
    """Return depth (1, H, W) and scene points (3, H, W) of what a camera sees, exactly."""
    rays = backproject(torch.ones(1, 1, *size), camera)
    turned = transform(torch.cat([world_T_camera[:, :3], torch.tensor([[0.0], [0], [0], [1]])], 1), rays)
    ahead = DISTANCE - NORMAL @ world_T_camera[:3, 3]
    depth = ahead / (turned * NORMAL.view(1, 3, 1, 1)).sum(1, keepdim=True)
    return depth[0], transform(world_T_camera, backproject(depth, camera))[0]


def texture(points):
    """Return an image (3, H, W) of waves on the plane, none shorter than some ten pixels."""
    x, y, _ = points
    waves = [torch.sin(7 * x + 2 * y + 1), torch.sin(3 * x - 8 * y), torch.sin(6 * x + 6 * y) * torch.cos(2 * y)]
    return 0.5 + 0.4 * torch.stack(waves)


def tiles(points):
    """Return classes (H, W) of a chequered plane, 0 to 4."""
    return ((points[0] / 0.4).floor().long() + 2 * (points[1] / 0.5).floor().long()) % 5


@functools.cache
def scene():
    depth, points = plane(WORLD_T_TARGET)
    source_T_target = torch.linalg.inv(WORLD_T_SOURCES) @ WORLD_T_TARGET
    labels = tiles(points)
    edges = labels.diff(dim=1, append=labels[:, -1:]) != 0
    turned = WORLD_T_TARGET[:3, :3].T @ -NORMAL / NORMAL.norm()
    return {
        "image": texture(points),
        "depth": depth,
        "pseudo_depth": 0.5 * depth,
        "K": K,
        "world_T_target": WORLD_T_TARGET,
        "sources": torch.stack([texture(plane(world_T_source)[1]) for world_T_source in WORLD_T_SOURCES]),
        "source_T_target": source_T_target,
        "flow": rigid_flow(depth[None], K, source_T_target[0])[0],
        "occluded": ~warp(torch.zeros(1, 1, H, W), depth[None], K, source_T_target[0])[2][0],
        "labels": labels,
        "instances": labels + 1,
        "planes": torch.stack([labels + 1, labels + 2, labels + 3]),
        "normals": turned.view(3, 1, 1).expand(3, H, W).contiguous(),
        "edges": edges[None],
        "valid": torch.ones(1, H, W, dtype=torch.bool),
        "category": torch.tensor(3),
    }


def mirrored(view):
    """Return whether a view is mirrored: its normals say so."""
    known = view["normals"].abs().sum(0) > 0
    return (view["normals"][0][known] * scene()["normals"][0, 0, 0] < 0).all().item()


def seen(view):
    """Return exact depth (1, h, w) and scene points (3, h, w) of what the view's own K and pose say it sees."""
    size = view["image"].shape[-2:]
    if not mirrored(view):
        return plane(view["world_T_target"], view["K"], size)
    K = view["K"].clone()
    K[0, 2] = size[1] - 1 - K[0, 2]  # the camera that would have seen it before the mirror
    depth, points = plane(flipped_pose(view["world_T_target"]), K, size)
    return depth.flip(-1), points.flip(-1)
