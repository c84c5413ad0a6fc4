"""Render a view of a scene: its image, and the exact ground truth of every pixel centre.

Colours are the mean of 2 x 2 rays per pixel; depth, labels, normals and flow belong to one ray through its centre,
because the mean depth across an edge is the depth of no surface.
"""

import numpy as np
from numpy.typing import NDArray

from cka_probe.lab.scenes.rays import Hits, Rays, camera_rays, cast, meet
from cka_probe.lab.scenes.scene import Scene, View
from cka_probe.lab.scenes.shading import Points, light_from, on_surfaces
from cka_probe.lab.scenes.table import Floats, Table, tabulate

CENTRE = np.zeros((1, 2))
FINE = np.array([(-0.25, -0.25), (0.25, -0.25), (-0.25, 0.25), (0.25, 0.25)])
"""Offsets of rays from a pixel centre, (right, down): `CENTRE` for the ground truth, `FINE` for the image."""

EXPOSURE = 1.5
JUMP = 0.02  # minimum jump at an occluding edge, as a share of the depth
REACHED = 1e-4  # a ray that ends this share of its length before a point has reached it


def see(scene: Scene, frame: int, size: tuple[int, int], *, partner: bool = False, flow: bool = False) -> View:
    """Render frame `frame` of a scene with its ground truth.

    Args:
        scene: The scene.
        frame: Index of the pose of the camera.
        size: (height, width) in pixels.
        partner: Also render the image of the right camera.
        flow: Also compute optical flow to the next frame, if there is one.
    """
    pose, K = scene.camera.poses[frame], scene.camera.intrinsics(size)
    table = _at(scene, frame)
    rays = camera_rays(pose, K, size, np.concatenate([CENTRE, FINE]))
    hits = cast(table, pose, K, rays)  # once for all five rays of a pixel, which share most of the work
    solid, ways = hits.solid[0].ravel(), camera_rays(pose, K, size, CENTRE, float).direction.reshape(3, -1)
    depth = meet(table, solid, Rays(pose[:3, 3], ways))
    points = on_surfaces(table, pose[:3, 3:] + depth * ways, solid)
    sky = (solid == -1) & table.sky[points.face]
    normals = np.where(sky, 0, pose[:3, :3].T @ points.normal)
    plane = np.where(points.flat & ~sky, 1 + 6 * (solid % len(table.shape)) + points.face, 0)
    moved = _flow(scene, frame, size, points, sky) if flow and frame + 1 < len(scene.camera.poses) else (None, None)
    return View(
        image=_colour(scene, table, rays, hits),
        depth=np.where(sky, 0, depth).reshape(size),
        K=K,
        pose=pose,
        labels=table.label[points.face, solid].reshape(size),
        instances=(table.piece[solid] + 1).astype(np.int32).reshape(size),
        planes=plane.astype(np.int32).reshape(size),
        normals=normals.T.astype(np.float32).reshape(*size, 3),
        edges=occluding_edges(np.where(sky, np.inf, depth).reshape(size), normals.reshape(3, *size), K),
        category=scene.category,
        partner=image(scene, table, scene.camera.partner(pose), size) if partner else None,
        flow=moved[0],
        occluded=moved[1],
    )


def image(scene: Scene, table: Table, pose: Floats, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Render the image of a camera, (H, W, 3) uint8 RGB."""
    K = scene.camera.intrinsics(size)
    rays = camera_rays(pose, K, size, FINE)
    return _colour(scene, table, rays, cast(table, pose, K, rays))


def _colour(scene: Scene, table: Table, rays: Rays, hits: Hits) -> NDArray[np.uint8]:
    """Return the mean colour of the last four rays of each pixel, (H, W, 3) uint8 RGB."""
    fine, size = len(FINE), hits.t.shape[-2:]
    position = rays.origin[:, None, None, None] + hits.t[-fine:] * rays.direction[:, -fine:]
    position = position.transpose(0, 2, 3, 1).reshape(3, -1)  # all rays of a pixel one after the other
    points = on_surfaces(table, position, hits.solid[-fine:].transpose(1, 2, 0).ravel())
    light = light_from(table, scene.light, points, fine).reshape(-1, fine, 3).mean(axis=1)
    shown = (1 - np.exp(-EXPOSURE * light)) ** (1 / 2.2)  # a film-like shoulder, then display gamma
    return (255 * shown + 0.5).astype(np.uint8).reshape(*size, 3)


def _at(scene: Scene, frame: int) -> Table:
    """Return the solids of a scene at the time of a frame."""
    velocity = np.array([piece.velocity for piece in scene.pieces]).reshape(-1, 3).T
    return tabulate(scene).at(float(scene.camera.times[frame]), velocity)


def _flow(
    scene: Scene, frame: int, size: tuple[int, int], points: Points, sky: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the flow of a frame to the next, (H, W, 2) pixels, and which points are occluded or outside there.

    A ray is cast from the next camera to the new position of each point; an earlier intersection occludes the point.
    A point of the sky has only a direction.
    """
    table, pose, K = _at(scene, frame + 1), scene.camera.poses[frame + 1], scene.camera.intrinsics(size)
    time = float(scene.camera.times[frame + 1] - scene.camera.times[frame])
    here = scene.camera.poses[frame][:3, 3:]
    way = np.where(sky, points.position - here, points.position + time * table.velocity[:, points.solid] - pose[:3, 3:])
    x, y, z = pose[:3, :3].T @ way
    ahead = z > 0
    safe = np.where(ahead, z, 1)
    u, v = K[0, 0] * x / safe + K[0, 2], K[1, 1] * y / safe + K[1, 2]
    inside = ahead & (u >= -0.5) & (u < size[1] - 0.5) & (v >= -0.5) & (v < size[0] - 0.5)
    some = np.flatnonzero(inside)
    hits = cast(table, pose, K, Rays(pose[:3, 3], way[:, some]), np.stack([u[some], v[some]]))
    occluded = np.ones(len(z), bool)
    # the sky is infinitely far, behind the shell: anything much nearer than the shell occludes it
    occluded[some] = hits.t < np.where(sky[some], 0.5, 1 - REACHED)
    rows, columns = np.indices(size).reshape(2, -1)
    flow = np.where(ahead, np.stack([u - columns, v - rows]), np.nan)
    return flow.T.reshape(*size, 2).astype(np.float32), occluded.reshape(size)


def occluding_edges(depth: Floats, normals: Floats, K: Floats) -> NDArray[np.bool_]:
    """Return occluding edges: the nearer side of each jump in depth.

    Two neighbours p, q belong to one surface if the tangent plane of either passes near the other:

        q is off p's plane   iff   |z_q - z_p (n_p . r_p) / (n_p . r_q)| > 2 % of z_q,    r = K^-1 [u, v, 1]

    and there is a jump if each is off the plane of the other. So a slanted floor and a crease have none, and the rim of
    a table has one, however close the wall behind it is.

    Args:
        depth: (H, W) metres; infinite for the sky.
        normals: (3, H, W) unit normals in camera axes; 0 for the sky.
        K: (3, 3).
    """
    v, u = np.indices(depth.shape)
    rays = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones(depth.shape)])
    height = (normals * rays).sum(axis=0)  # n . r
    edges = np.zeros(depth.shape, bool)
    all_, but_last, but_first = slice(None), slice(-1), slice(1, None)
    for p, q in (((..., all_, but_last), (..., all_, but_first)), ((..., but_last, all_), (..., but_first, all_))):
        off = np.ones(depth[p].shape, bool)
        for a, b in ((p, q), (q, p)):
            across = (normals[a] * rays[b]).sum(axis=0)
            with np.errstate(divide="ignore", invalid="ignore"):
                expected = depth[a] * height[a] / across
                near = (across < 0) & np.isfinite(depth[b]) & (np.abs(depth[b] - expected) <= JUMP * depth[b])
            off &= ~near
        both_far = np.isinf(depth[p]) & np.isinf(depth[q])
        jump = off & ~both_far
        edges[p] |= jump & (depth[p] < depth[q])
        edges[q] |= jump & (depth[q] < depth[p])
    return edges
