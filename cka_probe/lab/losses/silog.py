"""The scale-invariant logarithmic error of depth (Eigen, Puhrsch & Fergus, NeurIPS 2014).

    d = log(depth) - log(depth predicted)          over valid pixels
    L = sqrt(mean(d^2) - variance_focus * mean(d)^2)

A factor common to all pixels moves only mean(d). With `variance_focus` 1 it costs nothing, with 0 the error is
the root mean square of d; depth fine-tuning takes 0.5 (Xie et al., CVPR 2023).
"""

import torch
from torch import Tensor


def silog(
    depth_predicted: Tensor, depth: Tensor, valid: Tensor, variance_focus: float = 0.5, eps: float = 1e-6
) -> Tensor:
    """Return the scale-invariant logarithmic error over all valid pixels of the batch.

    Args:
        depth_predicted: Any shape, float, metres.
        depth: Same shape, metres; what stands where `valid` is False is not read.
        valid: Same shape, bool.
        variance_focus: How much of a common factor is forgiven, 0 to 1.
        eps: Least depth in metres under the logarithm, and added under the root: the slope of a root at 0 is
            infinite, and a perfect fit would give NaN weights.

    Returns:
        A scalar without unit; 0, with a graph, if nothing is valid.
    """
    # `where` before the logarithm: log(0) outside the mask would give NaN gradients through 0 * inf
    one = torch.ones_like(depth_predicted)
    predicted, measured = torch.where(valid, depth_predicted, one), torch.where(valid, depth, one)
    difference = (measured.clamp(min=eps).log() - predicted.clamp(min=eps).log()) * valid
    count = valid.sum().clamp(min=1)
    mean = difference.sum() / count
    # mean(d^2) - v mean(d)^2 = mean((d - mean)^2) + (1 - v) mean(d)^2, without the cancellation
    spread = ((difference - mean) ** 2 * valid).sum() / count
    return (spread + (1 - variance_focus) * mean**2 + eps**2).sqrt() - eps
