"""The scale-invariant logarithmic error of depth (Eigen, Puhrsch & Fergus, NeurIPS 2014).

    d = log(depth) - log(depth predicted)          over valid pixels
    L = sqrt(mean(d^2) - variance_focus * mean(d)^2)

A factor common to all pixels changes only mean(d). With `variance_focus=1` the error ignores it, with 0 it is the root
mean square of d; Xie et al. (CVPR 2023) fine-tune on depth with 0.5.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def silog(
    depth_predicted: Tensor, depth: Tensor, valid: Tensor, variance_focus: float = 0.5, eps: float = 1e-6
) -> Tensor:
    """Return the scale-invariant logarithmic error over all valid pixels of the batch.

    Args:
        depth_predicted: Any shape, float, metres.
        depth: Same shape, metres; ignored where `valid` is False.
        valid: Same shape, bool.
        variance_focus: Invariance to a common factor, from 0 (none) to 1 (full).
        eps: Minimum depth in metres in the logarithm; also added in the root, whose gradient is infinite at 0, so
            that a perfect fit would give NaN weights.

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


def masked_l1(images: Tensor, reconstruction: Tensor, mask: Tensor, eps: float = 1e-5) -> Tensor:
    """Return the mean absolute error over hidden pixels.

    Args:
        images: (n, C, H, W) float, the target in any unit.
        reconstruction: (n, C, H, W) float, same unit.
        mask: (n, 1, H, W) bool, True = hidden.
        eps: Makes the loss 0, not 0 / 0, if nothing is hidden.

    Returns:
        A scalar in the unit of `images`.
    """
    error = (images - reconstruction).abs() * mask
    return error.sum() / (mask.sum() * images.shape[1] + eps)


def normalised_locally(images: Tensor, window: int = 47, eps: float = 1e-6) -> Tensor:
    """Subtract the local mean of images and divide by their local standard deviation.

    The optional target of SimMIM for Swin-v2: contrast instead of brightness. The variance is unbiased, and at the
    border only pixels inside the image count.

    Args:
        images: (n, C, H, W) float32.
        window: Odd side of the square window, in pixels.
        eps: Added to the variance.

    Returns:
        (n, C, H, W) float32, without unit.
    """
    halo = window // 2

    def local_mean(values: Tensor) -> Tensor:
        return F.avg_pool2d(values, window, stride=1, padding=halo, count_include_pad=False)

    inside = F.avg_pool2d(images.new_ones(1, 1, *images.shape[-2:]), window, stride=1, padding=halo)
    count = (inside * window**2).round()
    mean = local_mean(images)
    # E[x^2] - E[x]^2 cancels; subtracting the mean of the image first keeps both terms small
    shifted = images - images.mean(dim=(-2, -1), keepdim=True)
    variance = local_mean(shifted**2) - local_mean(shifted) ** 2
    variance = (variance * count / (count - 1).clamp(min=1)).clamp(min=0)
    return (images - mean) / (variance + eps).sqrt()
