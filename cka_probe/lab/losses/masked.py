"""What masked-image modelling asks for: the hidden pixels, in absolute error.

    L = sum(|x - x^| * M) / (C * sum(M) + eps)

with M = 1 where a pixel is hidden and C channels (Xie et al., SimMIM, CVPR 2022). Visible pixels are given to
the encoder, so they do not count.
"""

import torch.nn.functional as F
from torch import Tensor


def masked_l1(images: Tensor, reconstruction: Tensor, mask: Tensor, eps: float = 1e-5) -> Tensor:
    """Return the mean absolute error over hidden pixels.

    Args:
        images: (n, C, H, W) float, the target in whatever unit it was normalised to.
        reconstruction: (n, C, H, W) float, same unit.
        mask: (n, 1, H, W) bool, True = hidden.
        eps: Keeps a batch with nothing hidden at 0 instead of 0 / 0.

    Returns:
        A scalar in the unit of `images`.
    """
    error = (images - reconstruction).abs() * mask
    return error.sum() / (mask.sum() * images.shape[1] + eps)


def normalised_locally(images: Tensor, window: int = 47, eps: float = 1e-6) -> Tensor:
    """Return images less their local mean, over their local standard deviation.

    The optional target of SimMIM's Swin-v2 models: contrast instead of brightness. The variance is the
    unbiased one, and at the border only pixels inside the image count.

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
    # E[x^2] - E[x]^2 cancels; taking the image's own mean off first keeps the two terms small
    shifted = images - images.mean(dim=(-2, -1), keepdim=True)
    variance = local_mean(shifted**2) - local_mean(shifted) ** 2
    variance = (variance * count / (count - 1).clamp(min=1)).clamp(min=0)
    return (images - mean) / (variance + eps).sqrt()
