"""Two frames of a scene and the way from one to the other, as tensors: what tests of geometry start from."""

from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np
import torch
from torch import Tensor

from cka_probe.lab import geometry
from cka_probe.lab.scenes import SCENES, Scene, View, see


@dataclass(frozen=True)
class Story:
    """A target, a source, and which of the target's pixels the source shows, by the scene's own account.

    Attributes:
        target: The frame whose pixels are looked for, with flow.
        source: The frame they are looked for in.
        source_T_target: (4, 4).
        still: (H, W) bool, neither the sky nor on a thing that moves.
        visible: (H, W) bool, still and seen in the source between its outermost pixels.
    """

    target: View
    source: View
    source_T_target: Tensor
    still: Tensor
    visible: Tensor


def tell(scene: Scene, size: tuple[int, int], way: str = "forwards") -> Story:
    """Return the story of a scene's first two frames, or of its first stereo pair.

    Args:
        scene: What is seen.
        size: (height, width).
        way: "forwards", "backwards" in time, or "stereo", where the left image is the target.
    """
    camera, order = scene.camera, [1, 0] if way == "backwards" else [0, 1]
    poses, times = camera.poses[order], camera.times[order]
    if way == "stereo":
        poses, times = np.stack([camera.poses[0], camera.partner(camera.poses[0])]), camera.times[[0, 0]]
    scene = replace(scene, camera=replace(camera, poses=poses, times=times))
    target, source = see(scene, 0, size, flow=True), see(scene, 1, size)
    moves = np.array([False, *(any(piece.velocity) and way != "stereo" for piece in scene.pieces)])
    still = torch.from_numpy((target.depth > 0) & ~moves[target.instances])
    source_T_target = torch.from_numpy(np.linalg.inv(source.pose) @ target.pose)
    end = torch.from_numpy(target.flow).permute(2, 0, 1).double() + geometry.pixel_grid(
        *size, like=torch.zeros(1, dtype=torch.double)
    )
    inside = geometry.inside(end.reshape(1, 2, *size), size)[0, 0]
    return Story(target, source, source_T_target, still, still & inside & ~torch.from_numpy(target.occluded))


def image_of(view: View) -> Tensor:
    """Return a view's image, (1, 3, H, W) float64 in [0, 1]."""
    return torch.from_numpy(view.image / 255.0).permute(2, 0, 1)[None]


def depth_of(view: View) -> Tensor:
    """Return a view's depth, (1, 1, H, W) float64 metres."""
    return torch.from_numpy(view.depth)[None, None]


def gain(story: Story) -> float:
    """Return how many times nearer the target is to the warped source than to the source, where it is visible."""
    K = torch.from_numpy(story.target.K)
    target, source = image_of(story.target), image_of(story.source)
    warped, _, _ = geometry.warp(source, depth_of(story.target), K, story.source_T_target)
    before, after = ((image - target).abs().mean(1)[0][story.visible].mean() for image in (source, warped))
    return float(before / after)


def agreement(story: Story) -> Tensor:
    """Return `landing` where the target is visible."""
    normals = torch.from_numpy(story.source.normals).permute(2, 0, 1)[None].double()
    K = torch.from_numpy(story.target.K)
    return landing(depth_of(story.target), K, story.source_T_target, depth_of(story.source), normals)[story.visible]


def landing(depth: Tensor, K: Tensor, source_T_target: Tensor, source_depth: Tensor, source_normals: Tensor) -> Tensor:
    """Return |z / z' - 1|, (H, W): z of each of the target's points in the source, z' what the source says there.

    Between its pixels the source says it by the plane through the nearest one: `z' = z_p (n . r_p) / (n . r)` with
    the rays `r = K^-1 (u, v, 1)` there and at that pixel. Where it says nothing it is infinite.
    """
    pixels, z = geometry.project(geometry.transform(source_T_target, geometry.backproject(depth, K)), K)
    met = geometry.backproject(source_depth, K)
    normal, met = (geometry.sample_at(field, pixels, mode="nearest") for field in (source_normals, met))
    u, v = pixels.split(1, dim=1)
    rays = torch.cat([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], torch.ones_like(u)], 1)
    there = (normal * met).sum(1) / (normal * rays).sum(1)
    return torch.nan_to_num((z[:, 0] / there - 1).abs(), nan=torch.inf)[0]


def holds(story: Story, patch: int = 8, noise: float = 0.0) -> float:
    """Return the share of visible patches whose image fits best where true depth puts it.

    The rivals lie one and two pixels to the left and right, as other depths would have it in a stereo pair: where
    none fits worse, as on a blank wall, a photometric loss has nothing to hold on to. `noise` is the deviation of
    what is added to both images, in levels of 255.
    """
    K, drawn = torch.from_numpy(story.target.K), torch.Generator().manual_seed(0)
    target, source = (
        image_of(view) + noise / 255 * torch.randn(3, *view.depth.shape, generator=drawn, dtype=torch.double)
        for view in (story.target, story.source)
    )
    points = geometry.transform(story.source_T_target, geometry.backproject(depth_of(story.target), K))
    pixels, _ = geometry.project(points, K)
    seen = story.visible[None, None].double()
    errors = []
    for shift in (0, -2, -1, 1, 2):
        moved = pixels + torch.tensor([shift, 0.0], dtype=torch.double).view(1, 2, 1, 1)
        error = (geometry.sample_at(source, moved) - target).abs().mean(1, keepdim=True)
        errors.append(torch.nn.functional.avg_pool2d(error * seen, patch))
    whole = torch.nn.functional.avg_pool2d(seen, patch) > 0.8
    best = errors[0] < torch.stack(errors[1:]).amin(0)
    return float(best[whole].double().mean())


def fingerprints():
    """Return a hash of every array of a view, by kind."""
    hashes = {}
    for kind, make in SCENES.items():
        view = see(make(5, 3, 2), 0, (48, 64), partner=True, flow=True)
        arrays = [value for value in vars(view).values() if isinstance(value, np.ndarray)]
        hashes[kind] = sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()
    return hashes
