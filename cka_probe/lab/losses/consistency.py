"""Losses of geometric consistency between depth maps of one scene, and of rotations.

    D_diff = |z - D'| / (z + D')

z is the depth of a point of the target in the camera of the source, D' the depth that the source predicts there.
D_diff is in [0, 1), has no unit, and is 0 if and only if they agree. Its mean over the valid pixels is the geometry
consistency loss; 1 - D_diff weights the photometric error, because moving and occluded points do not agree either.

Bian et al., "Unsupervised Scale-consistent Depth Learning from Video", IJCV 2021.
"""

import torch
from torch import Tensor


def depth_difference(z: Tensor, depth: Tensor, valid: Tensor) -> Tensor:
    """Return D_diff.

    Args:
        z: (n, 1, H, W), depth of the points of the target in the source's camera; ignored outside `valid`.
        depth: (n, 1, H, W), depth that the source predicts at the same points, same unit.
        valid: (n, 1, H, W) bool; a pixel with z or depth not above 0 does not count as valid.

    Returns:
        (n, 1, H, W) in [0, 1]; 0 and without gradient where not valid.
    """
    counts = valid & (z > 0) & (depth > 0)
    z, depth = torch.where(counts, z, 1.0), torch.where(counts, depth, 1.0)
    # relative to the larger, so that neither overflows
    larger = torch.maximum(z, depth).detach()
    return ((z / larger - depth / larger).abs() / (z / larger + depth / larger)).clamp(0, 1)


def valid_mean(values: Tensor, valid: Tensor, least: float = 0.0) -> Tensor:
    """Return the mean of the valid values.

    Args:
        values: Any shape, finite.
        valid: Same shape, bool.
        least: Share of the pixels that must be valid, because a mean over a few pixels is noise.

    Returns:
        A scalar; 0, with a graph, if not more than that share is valid.
    """
    count = valid.sum()
    total = torch.where(valid, values, 0.0).sum()
    return total / count.clamp(min=1) * (count > least * valid.numel())


def valid_mean_each(values: Tensor, valid: Tensor) -> Tensor:
    """Return the mean of the valid values of each image.

    Args:
        values: (n, C, H, W); ignored outside `valid`.
        valid: Same shape, bool.

    Returns:
        (n,); NaN for an image without valid values. Use it for scores, and `valid_mean` for losses.
    """
    return torch.where(valid, values, 0.0).sum((1, 2, 3)) / valid.sum((1, 2, 3))


def less_rotation(before: Tensor, after: Tensor, margin: float = 0.05) -> Tensor:
    """Return L_t = mean max(0, |R2| - |R1| + margin), which asks for less rotation after than before.

    Args:
        before: (n, 3) angles R1, radians.
        after: (n, 3) angles R2, radians.
        margin: Radians by which each angle of R2 has to be smaller.

    Returns:
        A scalar, radians; `margin` if both are equal.
    """
    return (after.abs() - before.abs() + margin).clamp(min=0).mean()


def recognised_rotation(predicted: Tensor, applied: Tensor) -> Tensor:
    """Return L_c = mean |R3 - R3*|, which asks to recognise a rotation that was applied.

    Args:
        predicted: (n, 3) angles R3, radians.
        applied: (n, 3) angles R3*, radians; detached.

    Returns:
        A scalar, radians.
    """
    return (predicted - applied.detach()).abs().mean()
