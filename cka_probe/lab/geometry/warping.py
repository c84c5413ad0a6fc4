"""Warp an image to the view of another, by depth and pose or by flow.

The target is reconstructed: for each of its pixels, the source is sampled where the point of that pixel lies in it. So
a warped image is aligned with the target, and holes are a mask, never filled. Coordinates are normalised by W - 1 and
sampled with `align_corners=True` here only; mixing two conventions makes even the identity warp move pixels.

Jaderberg, Simonyan, Zisserman & Kavukcuoglu, "Spatial Transformer Networks", NeurIPS 2015 (differentiable
sampling); Zhou, Brown, Snavely & Lowe, "Unsupervised Learning of Depth and Ego-Motion from Video", CVPR 2017.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from cka_probe.errors import DataError
from cka_probe.lab.geometry.camera import FAR, NEAREST, backproject, check_maps, pixel_grid, project, transform

TOLERANCE = 1e-3
"""Pixels by which a point may lie beyond the outermost centres, because of rounding."""


def sample_at(field: Tensor, pixels: Tensor, mode: str = "bilinear", padding: str = "border") -> Tensor:
    """Sample a map at fractional pixels.

    Args:
        field: (n, C, H, W), any dtype; H and W at least 2.
        pixels: (n, 2, h, w), column and row in the field.
        mode: "bilinear", or "nearest" (required for integers and bool).
        padding: Values outside: "border", the nearest pixel, or "zeros".

    Returns:
        (n, C, h, w) in the dtype of the field; differentiable in the field, and in the pixels if bilinear.

    Raises:
        DataError: A shape is wrong, or integers are to be interpolated.
    """
    check_maps("pixels", pixels, 2)
    height, width = field.shape[-2:]
    if field.ndim != 4 or min(height, width) < 2:
        raise DataError(f"expected a field (n, C, H, W) of at least 2x2 pixels, found {tuple(field.shape)}")
    if mode != "nearest" and not field.is_floating_point():
        raise DataError(f"expected mode 'nearest' for a field of {field.dtype}, found {mode!r}: classes do not mix")
    grid = torch.stack([2 * pixels[:, 0] / (width - 1) - 1, 2 * pixels[:, 1] / (height - 1) - 1], -1)
    dtype = torch.promote_types(field.dtype, grid.dtype) if field.is_floating_point() else torch.float64
    read = grid_sample(field.to(dtype), grid.to(dtype), mode=mode, padding_mode=padding, align_corners=True)
    return read.to(field.dtype)


def inside(pixels: Tensor, size: Sequence[int]) -> Tensor:
    """Return which pixels lie between the outermost centres of an image.

    Args:
        pixels: (n, 2, h, w), column and row.
        size: (height, width) of the image.

    Returns:
        (n, 1, h, w) bool; NaN is outside.
    """
    check_maps("pixels", pixels, 2)
    last = pixels.new_tensor([size[1] - 1, size[0] - 1]).view(1, 2, 1, 1)
    return ((pixels >= -TOLERANCE) & (pixels <= last + TOLERANCE)).all(1, keepdim=True)


def warp(
    source: Tensor, depth: Tensor, K: Tensor, source_T_target: Tensor, source_K: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Reconstruct the target from the source by depth and pose.

    Args:
        source: (n, C, h, w) float; an image, or another map of the source.
        depth: (n, 1, H, W), depth of the target in metres; 0 = not measured.
        K: (n, 3, 3) or (3, 3), of the target.
        source_T_target: (n, 4, 4) or (4, 4); NaN = not known.
        source_K: K of the source; by default that of the target.

    Returns:
        image (n, C, H, W), with border pixels of the source where nothing is visible; z (n, 1, H, W), metres, depth of
        each point in the source's camera, 0 = not known; visible (n, 1, H, W) bool: depth and pose are known, and the
        point is in front of the source's camera and inside its image. Occlusion is not detected.

    Raises:
        DataError: The shapes do not fit.
    """
    pixels, z, known = _seen_from(depth, K, source_T_target, K if source_K is None else source_K)
    visible = known & inside(pixels, source.shape[-2:])
    return sample_at(source, pixels), z, visible


def rigid_flow(depth: Tensor, K: Tensor, source_T_target: Tensor) -> Tensor:
    """Return the optical flow from target to source if only the camera moves.

    Args:
        depth: (n, 1, H, W), depth of the target in metres; 0 = not measured.
        K: (n, 3, 3) or (3, 3), of both cameras.
        source_T_target: (n, 4, 4) or (4, 4); NaN = not known.

    Returns:
        (n, 2, H, W), pixels right and down; NaN where depth or pose is unknown, or the point is behind the
        source's camera. The flow may end outside the image.

    Raises:
        DataError: The shapes do not fit.
    """
    pixels, _, known = _seen_from(depth, K, source_T_target, K)
    return torch.where(known, pixels - pixel_grid(depth.shape[-2], depth.shape[-1], like=depth), torch.nan)


def warp_by_flow(source: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    """Reconstruct the target from the source by optical flow.

    Args:
        source: (n, C, h, w) float.
        flow: (n, 2, H, W), pixels right and down from target to source; NaN = not known.

    Returns:
        image (n, C, H, W) and visible (n, 1, H, W) bool: flow is known and ends inside the source.

    Raises:
        DataError: The shapes do not fit.
    """
    check_maps("flow", flow, 2)
    known = flow.isfinite().all(1, keepdim=True)
    pixels = pixel_grid(flow.shape[-2], flow.shape[-1], like=flow) + torch.where(known, flow, 0.0)
    pixels = torch.where(known, pixels, -FAR)
    return sample_at(source, pixels), known & inside(pixels, source.shape[-2:])


def _seen_from(depth: Tensor, K: Tensor, source_T_target: Tensor, source_K: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the pixel in the source of each point of the target, its z there, and whether both are known."""
    # unknown values are replaced before, not after: NaN times a gradient of 0 would be NaN
    placed = source_T_target.isfinite().all(-1).all(-1)[..., None, None]
    posed = torch.where(placed, source_T_target, torch.eye(4, dtype=source_T_target.dtype, device=depth.device))
    measured = (depth > 0) & depth.isfinite() & placed.reshape(-1, 1, 1, 1)
    points = backproject(torch.where(measured, depth, 1.0), K)
    pixels, z = project(transform(posed, points), source_K)
    known = measured & (z > NEAREST)
    return torch.where(known, pixels, -FAR), torch.where(measured, z, 0.0), known
