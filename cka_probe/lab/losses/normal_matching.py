"""Normal matching: surfaces of the predicted depth turned as those of the pseudo-depth are.

    L = mean over pixels of mean_c |n_c - n*_c|

with n the normals of the predicted depth and n* those of the pseudo-depth, both made with the same K, both
towards the camera, over the pixels where both exist (Sun et al., "SC-DepthV3", TPAMI 2023; there over all pixels).

What it is blind to: a normal does not change when its depth is scaled, so neither the scale of the prediction nor
that of the pseudo-depth counts. A shift does count. A pseudo-depth is known up to scale *and* shift, and the
normals of a shifted depth are those of another, bent scene: with a false shift the loss is not least at the truth.
That is why the papers weigh it low.
"""

import torch
from torch import Tensor


def known_normals(normals: Tensor) -> Tensor:
    """Return where there is a normal.

    Args:
        normals: (n, 3, H, W), (0, 0, 0) where not known.

    Returns:
        (n, 1, H, W) bool.
    """
    return (normals != 0).any(1, keepdim=True)


def normal_matching(normals: Tensor, pseudo_normals: Tensor) -> Tensor:
    """Return the mean absolute difference of normals, over the pixels of the batch where both are known.

    Args:
        normals: (n, 3, H, W) float, unit length, towards the camera, (0, 0, 0) where not known; of the predicted
            depth.
        pseudo_normals: Same shape and axes, of the pseudo-depth.

    Returns:
        A scalar without unit, 0 to 2 / sqrt(3); 0, with a graph, if both are known nowhere.
    """
    known = known_normals(normals) & known_normals(pseudo_normals)
    difference = (normals - pseudo_normals).abs().mean(1, keepdim=True)
    return torch.where(known, difference, 0.0).sum() / known.sum().clamp(min=1)
