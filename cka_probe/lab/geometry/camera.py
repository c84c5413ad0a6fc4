"""The pinhole camera: pixels to points and back, and K and poses of resized, cropped and mirrored images.

    K = [[fx, s, cx], [0, fy, cy], [0, 0, 1]]      (u, v, 1) = K (x, y, z) / z

Resizing preserves the border of an image, which is half a pixel before the first centre: with s = W' / W, f' = s f and
c' = s (c + 1/2) - 1/2. A mirrored image has c' = W - 1 - c and shows a mirrored scene: with F = diag(-1, 1, 1, 1) every
pose T becomes F T F.
"""

import torch
from torch import Tensor

from cka_probe.errors import DataError

NEAREST = 1e-6
"""Points with z below this (in the unit of depth) are not in front of the camera."""

FAR = 1e6
"""Pixel coordinates are clamped to +-FAR; points not in front of the camera have (-FAR, -FAR)."""


def pixel_grid(height: int, width: int, like: Tensor | None = None) -> Tensor:
    """Return the pixel centres.

    Args:
        height: H.
        width: W.
        like: A tensor with the dtype and device; by default float32 on the CPU.

    Returns:
        (1, 2, H, W): channel 0 is the column, 0 to W - 1, channel 1 the row, 0 to H - 1.

    >>> pixel_grid(2, 3)[0, :, 1, 2]
    tensor([2., 1.])
    """
    how = {"dtype": torch.float32} if like is None else {"dtype": like.dtype, "device": like.device}
    rows, columns = torch.arange(height, **how), torch.arange(width, **how)
    return torch.stack([columns.expand(height, width), rows[:, None].expand(height, width)])[None]


def backproject(depth: Tensor, K: Tensor) -> Tensor:
    """Return the 3D point of each pixel.

    Args:
        depth: (n, 1, H, W), metres along the optical axis.
        K: (n, 3, 3), or (3, 3) for all.

    Returns:
        (n, 3, H, W), metres in camera axes; (0, 0, 0) where depth is 0.

    Raises:
        DataError: A shape is wrong.
    """
    check_maps("depth", depth, 1)
    fx, fy, s, cx, cy = _entries(K, depth)
    u, v = pixel_grid(depth.shape[-2], depth.shape[-1], like=depth).split(1, 1)
    y = (v - cy) / fy
    x = (u - cx - s * y) / fx
    return torch.cat([x * depth, y * depth, depth], 1)


def transform(T: Tensor, points: Tensor) -> Tensor:
    """Transform points from the axes of b to those of a.

    Args:
        T: `a_T_b`, (n, 4, 4), or (4, 4) for all; rotation and translation.
        points: (n, 3, H, W), in the axes of b.

    Returns:
        (n, 3, H, W), in the axes of a.

    Raises:
        DataError: A shape is wrong.
    """
    check_maps("points", points, 3)
    T = _matrices("a pose", T, 4, points)[..., :3, :, None, None]
    x, y, z = points.split(1, 1)
    return T[:, :, 0] * x + T[:, :, 1] * y + T[:, :, 2] * z + T[:, :, 3]


def project(points: Tensor, K: Tensor) -> tuple[Tensor, Tensor]:
    """Project points to pixels.

    Args:
        points: (n, 3, H, W), in camera axes.
        K: (n, 3, 3), or (3, 3) for all.

    Returns:
        pixels (n, 2, H, W), column and row, within +-`FAR`, and z (n, 1, H, W). Points not in front of the camera (z
        at most `NEAREST`, or NaN) are far outside the image and have no gradient.

    Raises:
        DataError: A shape is wrong.
    """
    check_maps("points", points, 3)
    fx, fy, s, cx, cy = _entries(K, points)
    x, y, z = points.split(1, 1)
    front = z > NEAREST
    # `where` before the division too: 0 * inf would make the gradient NaN
    x, y, divisor = (torch.where(front, value, other) for value, other in ((x, 0.0), (y, 0.0), (z, 1.0)))
    x, y = x / divisor, y / divisor
    pixels = torch.cat([fx * x + s * y + cx, fy * y + cy], 1)
    return torch.where(front, pixels, -FAR).clamp(-FAR, FAR), z


def scaled_K(K: Tensor, size: tuple[int, int], to: tuple[int, int]) -> Tensor:
    """Return K of an image after a resize.

    Args:
        K: (..., 3, 3).
        size: (height, width) before.
        to: (height, width) after.

    >>> scaled_K(torch.tensor([[100.0, 0, 31.5], [0, 100, 23.5], [0, 0, 1]]), (48, 64), (24, 32))[0]
    tensor([50.0000,  0.0000, 15.5000])
    """
    down, across = to[0] / size[0], to[1] / size[1]
    factor = K.new_tensor([[across], [down], [1.0]])
    shift = K.new_tensor([[0, 0, (across - 1) / 2], [0, 0, (down - 1) / 2], [0, 0, 0]])
    return K * factor + shift


def cropped_K(K: Tensor, top: float, left: float) -> Tensor:
    """Return K of an image without its first `top` rows and `left` columns (padded, where negative).

    Args:
        K: (..., 3, 3).
        top: Rows.
        left: Columns.
    """
    return K - K.new_tensor([[0, 0, left], [0, 0, top], [0, 0, 0]])


def flipped_K(K: Tensor, width: int) -> Tensor:
    """Return K of an image mirrored left to right.

    Args:
        K: (..., 3, 3).
        width: Width of the image in pixels.
    """
    sign = K.new_tensor([[1, -1, -1], [1, 1, 1], [1, 1, 1]])
    return K * sign + K.new_tensor([[0, 0, width - 1], [0, 0, 0], [0, 0, 0]])


def inverse_pose(T: Tensor) -> Tensor:
    """Return b_T_a of a_T_b, a rotation and a translation: [R | t] becomes [R^T | -R^T t].

    Args:
        T: (..., 4, 4).
    """
    turned = T[..., :3, :3].mT
    back = -(turned * T[..., None, :3, 3]).sum(-1, keepdim=True)
    return torch.cat([torch.cat([turned, back], -1), T[..., 3:, :]], -2)


def flipped_pose(T: Tensor) -> Tensor:
    """Return a pose in the mirrored scene, F T F with F = diag(-1, 1, 1, 1).

    Args:
        T: (..., 4, 4); from camera to camera, or from camera to world.
    """
    mirror = T.new_tensor([-1, 1, 1, 1])
    return T * mirror * mirror[:, None]


def check_maps(what: str, maps: Tensor, channels: int) -> None:
    """Check that a tensor has shape (n, channels, H, W).

    Raises:
        DataError: It has not.
    """
    if maps.ndim != 4 or maps.shape[1] != channels:
        raise DataError(
            f"expected {what} of shape (n, {channels}, H, W), found {tuple(maps.shape)}; "
            "add a batch axis, also for a single image"
        )


def _matrices(what: str, matrix: Tensor, side: int, maps: Tensor) -> Tensor:
    """Return matrices (n or 1, side, side) in the dtype of the maps (n, ...) they belong to."""
    if matrix.shape[-2:] != (side, side) or matrix.ndim > 3 or matrix.shape[:-2] not in ((), (1,), maps.shape[:1]):
        raise DataError(
            f"expected {what} of shape ({maps.shape[0]}, {side}, {side}) or ({side}, {side}), "
            f"found {tuple(matrix.shape)}; one for each of the {maps.shape[0]} images, or one for all"
        )
    return matrix.to(maps.dtype).reshape(-1, side, side)


def _entries(K: Tensor, maps: Tensor) -> tuple[Tensor, ...]:
    """Return fx, fy, s, cx, cy of K, each (n or 1, 1, 1, 1)."""
    K = _matrices("K", K, 3, maps)
    return tuple(K[:, row, column, None, None, None] for row, column in ((0, 0), (1, 1), (0, 1), (0, 2), (1, 2)))
