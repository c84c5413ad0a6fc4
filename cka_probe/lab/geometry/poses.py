"""Rotations and poses from the numbers that a network predicts: Euler angles or rotation vectors.

For small angles the two agree. Products are written out, since a matrix product might be computed in TF32.
"""

from collections.abc import Callable

import torch
from torch import Tensor

SMALL_TURN = 1e-2
"""Radians below which sine and cosine are replaced by their series, whose next terms are below 1e-10."""


def rotation_matrix(angles: Tensor) -> Tensor:
    """Return Rx Ry Rz, (n, 3, 3), of (rx, ry, rz) in radians, (n, 3)."""
    (sx, sy, sz), (cx, cy, cz) = angles.sin().unbind(1), angles.cos().unbind(1)
    rows = [
        [cy * cz, -cy * sz, sy],
        [cx * sz + sx * sy * cz, cx * cz - sx * sy * sz, -sx * cy],
        [sx * sz - cx * sy * cz, sx * cz + cx * sy * sz, cx * cy],
    ]
    return torch.stack([torch.stack(row, 1) for row in rows], 1)


def axis_angle_matrix(turn: Tensor) -> Tensor:
    """Return the rotation by |turn| radians about turn / |turn|, (n, 3, 3), of turns (n, 3); the identity for 0.

    R = I + sin(a) / a [turn] + (1 - cos(a)) / a^2 [turn]^2 (Rodrigues), with the series of both factors where a is
    small, so that the gradient at 0 is finite.
    """
    squared = (turn * turn).sum(1)
    small = squared < SMALL_TURN**2
    a = torch.where(small, 1.0, squared).sqrt()
    once = torch.where(small, 1 - squared / 6, a.sin() / a)[:, None, None]
    twice = torch.where(small, 0.5 - squared / 24, 2 * (a / 2).sin() ** 2 / a**2)[:, None, None]
    x, y, z = turn.unbind(1)
    zero = torch.zeros_like(x)
    rows = [[zero, -z, y], [z, zero, -x], [-y, x, zero]]
    across = torch.stack([torch.stack(row, 1) for row in rows], 1)
    # [turn]^2 = turn turn^T - |turn|^2 I
    eye = torch.eye(3, dtype=turn.dtype, device=turn.device)
    square = turn[:, :, None] * turn[:, None, :] - squared[:, None, None] * eye
    return eye + once * across + twice * square


def pose_matrix(motion: Tensor, rotation: Callable[[Tensor], Tensor] = rotation_matrix) -> Tensor:
    """Return [R | t] of (tx, ty, tz, rx, ry, rz), (n, 6) -> (n, 4, 4).

    Args:
        motion: Translation and turn.
        rotation: Makes matrices (n, 3, 3) of turns (n, 3).
    """
    turned = torch.cat([rotation(motion[:, 3:]), motion[:, :3, None]], 2)
    last = motion.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(len(motion), 1, 4)
    return torch.cat([turned, last], 1)
