"""A room as a camera sees it: colour, and the exact depth of every pixel's centre.

Colour is the mean of 2 x 2 rays a pixel, depth one ray through its centre: the mean of depths over an edge is
the depth of nothing that is there.
"""

import numpy as np
from numpy.typing import NDArray

from cka_probe.data.scenes.rays import Floats, camera_rays, cast
from cka_probe.data.scenes.room import Room
from cka_probe.data.scenes.shading import light_from

FINE = 2
EXPOSURE = 1.5


def intrinsics(size: tuple[int, int]) -> NDArray[np.float64]:
    """Return K (3, 3) of the scenes' camera for a picture of (height, width): NYU's field of view, centred."""
    height, width = size
    focal = 518.8579 / 640 * width
    return np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1.0]])


def render(room: Room, pose: Floats, size: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return what a camera in a room sees.

    Args:
        room: The room.
        pose: (4, 4) camera to world.
        size: (height, width) in pixels.

    Returns:
        (H, W, 3) uint8 RGB, and (H, W) float64 depth in metres along the optical axis.
    """
    K = intrinsics(size)
    depth = cast(room, pose, K, camera_rays(pose, K, size, 1, np.float64)).depth
    fine_K = K * FINE + np.array([[0, 0, 1], [0, 0, 1], [0, 0, 0]]) * (FINE - 1) / 2  # c' = s (c + 1/2) - 1/2
    fine_K[2, 2] = 1
    rays = camera_rays(pose, K, size, FINE, np.float32)
    hits = cast(room, pose, fine_K, rays)
    points = pose[:3, 3].astype(np.float32)[:, None, None] + hits.depth * rays
    rows, columns = np.indices(hits.depth.shape) % FINE
    light = light_from(room, points.reshape(3, -1), hits.solid.ravel(), (FINE * rows + columns).ravel())
    light = light.reshape(size[0], FINE, size[1], FINE, 3).mean(axis=(1, 3))
    shown = (1 - np.exp(-EXPOSURE * light)) ** (1 / 2.2)  # a shoulder as film has, then the screen's curve
    return (255 * shown + 0.5).astype(np.uint8), depth
