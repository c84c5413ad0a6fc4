"""Surface normals from depth: the cross product of the changes of points down and across the image.

    n ~ (dP/dv) x (dP/du),   P(u, v) = d(u, v) K^-1 (u, v, 1)

with Sobel differences, as in SC-DepthV3 (Sun et al., TPAMI 2023), but pointing towards the camera. Differences of
points of a plane lie in that plane, whatever their weights, so normals of planes are exact except at the border of the
image, where the outermost points are repeated. Normals are invariant to the scale of depth, but not to a shift.
"""

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d, normalize, pad

from cka_probe.errors import DataError
from cka_probe.lab.geometry.camera import backproject, check_maps


def normals_from_depth(depth: Tensor, K: Tensor) -> Tensor:
    """Return the surface normal at each pixel.

    Args:
        depth: (n, 1, H, W), metres or any other unit; 0 = not measured. H and W at least 2.
        K: (n, 3, 3), or (3, 3) for all.

    Returns:
        (n, 3, H, W): unit length, in camera axes, towards the camera; (0, 0, 0) where the pixel or one of its eight
        neighbours was not measured.

    Raises:
        DataError: A shape is wrong.
    """
    check_maps("depth", depth, 1)
    if min(depth.shape[-2:]) < 2:
        raise DataError(f"expected depth of at least 2x2 pixels for normals, found {tuple(depth.shape)}")
    measured = (depth > 0) & depth.isfinite()
    points = backproject(torch.where(measured, depth, 1.0), K)
    # normals have no unit: relative to the mean depth, no vector is too short to be normalised
    points = points / points[:, 2:].detach().mean((2, 3), keepdim=True)
    down, across = sobel(points)
    normals = normalize(torch.linalg.cross(down, across, dim=1), dim=1)
    away = (normals * points).sum(1, keepdim=True) > 0
    near_hole = max_pool2d((~measured).to(depth.dtype), 3, 1, 1) > 0
    return torch.where(near_hole, 0.0, torch.where(away, -normals, normals))


def sobel(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return Sobel differences down and across, (n, C, H, W) each; not by a convolution, which may use TF32."""
    maps = pad(maps, (1, 1, 1, 1), mode="replicate")
    rows = maps[..., 2:, :] - maps[..., :-2, :]
    columns = maps[..., 2:] - maps[..., :-2]
    down = rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]
    across = columns[..., :-2, :] + 2 * columns[..., 1:-1, :] + columns[..., 2:, :]
    return down, across
