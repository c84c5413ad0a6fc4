"""Two depth maps of one scene have to agree, or there is neither one scale nor one geometry.

    D_diff = |z - D'| / (z + D')

z is how far a point of the target is from the source's camera, D' what the source's own depth map says there. It is
in [0, 1), has no unit, and is 0 if and only if the two agree. Its mean over the valid pixels is the geometry
consistency loss; 1 - D_diff weighs the photometric error, since what moves or hides does not agree either.

Bian et al., "Unsupervised Scale-consistent Depth Learning from Video", IJCV 2021.
"""

import torch
from torch import Tensor


def depth_difference(z: Tensor, depth: Tensor, valid: Tensor) -> Tensor:
    """Return D_diff.

    Args:
        z: (n, 1, H, W), of the target's points along the source's axis; what stands outside `valid` is not read.
        depth: (n, 1, H, W), the source's at the same points, same unit.
        valid: (n, 1, H, W) bool; a pixel with z or depth not above 0 does not count as valid.

    Returns:
        (n, 1, H, W) in [0, 1]; 0 and without gradient where not valid.
    """
    counts = valid & (z > 0) & (depth > 0)
    z, depth = torch.where(counts, z, 1.0), torch.where(counts, depth, 1.0)
    # relative to the larger: neither can overflow, and zeros are gone
    larger = torch.maximum(z, depth).detach()
    return ((z / larger - depth / larger).abs() / (z / larger + depth / larger)).clamp(0, 1)


def valid_mean(values: Tensor, valid: Tensor, least: float = 0.0) -> Tensor:
    """Return the mean over what is valid.

    Args:
        values: Any shape, finite.
        valid: Same shape, bool.
        least: Share of the pixels that has to be valid: a mean over a handful of pixels is noise.

    Returns:
        A scalar; 0, with a graph, if no more than that share is valid.
    """
    count = valid.sum()
    total = torch.where(valid, values, 0.0).sum()
    return total / count.clamp(min=1) * (count > least * valid.numel())


def valid_mean_each(values: Tensor, valid: Tensor) -> Tensor:
    """Return each image's mean over what is valid.

    Args:
        values: (n, C, H, W); what stands outside `valid` is not read.
        valid: Same shape, bool.

    Returns:
        (n,); NaN where nothing of an image is valid. Made for scores: as a loss take `valid_mean`.
    """
    return torch.where(valid, values, 0.0).sum((1, 2, 3)) / valid.sum((1, 2, 3))


def less_rotation(before: Tensor, after: Tensor, margin: float = 0.05) -> Tensor:
    """Return L_t.

    Args:
        before: (n, 3) angles, R1.
        after: (n, 3) angles, R2.
        margin: Radians that R2 has to be smaller by, in each angle.

    Returns:
        A scalar, radians; `margin` if turning changed nothing.
    """
    return (after.abs() - before.abs() + margin).clamp(min=0).mean()


def recognised_rotation(found: Tensor, applied: Tensor) -> Tensor:
    """Return L_c.

    Args:
        found: (n, 3) angles, R3.
        applied: (n, 3) angles, R3*; no gradient goes into it.

    Returns:
        A scalar, radians.
    """
    return (found - applied.detach()).abs().mean()
