"""How far points are from a solid."""

import numpy as np

from cka_probe.lab.scenes.solids import BOX, CYLINDER


def distance(solid, points):
    """Return how far (3, n) points are outside a solid, < 0 inside; for round sides 0 on them and to first order."""
    c, s = np.cos(solid.yaw), np.sin(solid.yaw)
    x, y, z = points - np.array(solid.centre)[:, None]
    local, half = np.stack([c * x + s * y, -s * x + c * y, z]), np.array(solid.half)[:, None]
    if solid.shape == BOX:
        beyond = np.abs(local) - half
    elif solid.shape == CYLINDER:
        around = np.hypot(*(local[:2] / half[:2]))
        beyond = np.stack([(around - 1) * half[:2].min(), np.abs(local[2]) - half[2]])
    else:
        scaled = np.sqrt(((local / half) ** 2).sum(axis=0))
        return (scaled - 1) * half.min()
    return np.linalg.norm(np.maximum(beyond, 0), axis=0) + np.minimum(beyond.max(axis=0), 0)
