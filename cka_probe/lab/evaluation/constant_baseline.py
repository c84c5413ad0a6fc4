"""Errors of a depth map beside those of one depth for all pixels: did anything but the scale come out?

Everything is brought to the median of the truth, image by image, since a network that learnt from video alone
knows no metre, and predictions are then kept within the range of depths that count, as Monodepth2's evaluation does.
Where the network does know the metre, the errors without that stand beside as `NAME_metres`.
"""

import torch
from torch import Tensor

from cka_probe.lab.evaluation.depth import depth_errors, median_scaled, valid_depth

COUNTED = (1e-3, 80.0)
"""Metres between which measured depth counts: KITTI's convention."""

TOLD = ("abs_rel", "delta1")


def errors_with_constant_baseline(depth_predicted: Tensor, depth: Tensor, metres: bool = False) -> dict[str, Tensor]:
    """Return abs_rel and delta1 of predictions and of a constant.

    Args:
        depth_predicted: (n, 1, H, W), above 0; metres if `metres`, else any unit.
        depth: (n, 1, H, W) metres, 0 = not measured.
        metres: Whether the prediction is in metres, and its errors without scaling are told too.

    Returns:
        `abs_rel`, `delta1`, `abs_rel_constant`, `delta1_constant` and, in metres, `abs_rel_metres`, `delta1_metres`:
        (n,) float64 on the CPU each, NaN for an image without a depth that counts.
    """
    valid = valid_depth(depth, *COUNTED)
    told = {
        "": median_scaled(depth_predicted, depth, valid),
        "_constant": median_scaled(torch.ones_like(depth), depth, valid),
    }
    if metres:
        told["_metres"] = depth_predicted
    values = {}
    for suffix, predicted in told.items():
        errors = depth_errors(predicted.clamp(*COUNTED), depth, valid)
        values |= {f"{name}{suffix}": errors[name] for name in TOLD}
    return values
