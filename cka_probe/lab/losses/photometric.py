"""Photometric error between two images, pixel by pixel, from colour and structure.

    e = mean_c[ (1 - w) min(|I - I'| / u, 1) + w (1 - SSIM(I, I')) / 2 ],   w = 0.85

    SSIM = (2 m m' + C1)(2 s_mm' + C2) / ((m^2 + m'^2 + C1)(s^2 + s'^2 + C2)),   C1 = 0.01^2, C2 = 0.03^2

with means, variances and covariance over a square window (Wang, Bovik, Sheikh & Simoncelli, IEEE TIP 2004; for
self-supervised depth Godard, Mac Aodha & Brostow, CVPR 2017). SC-Depth uses a window of 7 x 7 (Bian et al., TPAMI
2022); on small images 3 x 3 preserves more detail.

Images are in [0, 1], as Wang's constants assume. SC-Depth instead compares (I - 0.45) / 0.225, where a mean can be 0
and the first factor of SSIM is unstable near mid-grey. Only its scale of the colour term is used here, as the unit
u = 0.225: a difference of one standard deviation or more has the maximum colour error.
"""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from cka_probe.errors import DataError

COLOUR_UNIT = 0.225
"""Unit of a difference or gradient of colour, for images in [0, 1]."""

C1, C2 = 0.01**2, 0.03**2


def ssim(x: Tensor, y: Tensor, window: int = 7) -> Tensor:
    """Return the structural similarity of two images at each pixel and in each channel.

    Args:
        x: (n, C, H, W) float in [0, 1].
        y: The same.
        window: Side of the square window in pixels, odd; the border is padded by reflection.

    Returns:
        (n, C, H, W) in [-1, 1]; 1 where the images are equal.

    Raises:
        DataError: The window is even, or half of it is not smaller than the images.
    """
    if window < 1 or window % 2 == 0 or window // 2 >= min(x.shape[-2:]):
        raise DataError(
            f"expected an odd SSIM window with a half smaller than the image's sides {tuple(x.shape[-2:])}, "
            f"found {window}; 3 and 7 are usual"
        )

    def mean(values: Tensor) -> Tensor:
        # rows, then columns: window + window additions instead of window * window
        halo = window // 2
        rows = avg_pool2d(pad(values, (halo,) * 4, mode="reflect"), (1, window), stride=1)
        return avg_pool2d(rows, (window, 1), stride=1)

    mean_x, mean_y = mean(x), mean(y)
    # rounding may make them slightly negative, by a ten-thousandth of C2
    variances = (mean(x * x) - mean_x**2) + (mean(y * y) - mean_y**2)
    covariance = mean(x * y) - mean_x * mean_y
    alike = (2 * mean_x * mean_y + C1) * (2 * covariance + C2)
    return (alike / ((mean_x**2 + mean_y**2 + C1) * (variances + C2))).clamp(-1, 1)


def photometric_error(
    image: Tensor, reconstruction: Tensor, window: int = 7, ssim_weight: float = 0.85, unit: float = COLOUR_UNIT
) -> Tensor:
    """Return the photometric error of a reconstruction at each pixel.

    Args:
        image: (n, 3, H, W) float in [0, 1].
        reconstruction: The same.
        window: Window of SSIM in pixels.
        ssim_weight: w; colour has the weight 1 - w.
        unit: u; 1 uses differences in [0, 1] unscaled.

    Returns:
        (n, 1, H, W) in [0, 1]; 0 where the images are equal.
    """
    colour = ((image - reconstruction).abs() / unit).clamp(max=1)
    structure = (1 - ssim(image, reconstruction, window)) / 2
    return ((1 - ssim_weight) * colour + ssim_weight * structure).mean(1, keepdim=True)


def smoothness(depth: Tensor, image: Tensor, unit: float = COLOUR_UNIT) -> Tensor:
    """Return the edge-aware smoothness loss.

    Args:
        depth: (n, 1, H, W), above 0, any unit; H and W at least 2.
        image: (n, 3, H, W) float in [0, 1].
        unit: u, the gradient of colour that counts as an edge.

    Returns:
        A scalar without unit; 0 for constant depth.
    """
    return edge_aware_slope(depth / depth.mean((2, 3), keepdim=True).clamp(min=1e-7), image, unit)


def edge_aware_slope(field: Tensor, image: Tensor, unit: float = COLOUR_UNIT) -> Tensor:
    """Return the mean gradient of a map, weighted down where the image has edges.

    Args:
        field: (n, C, H, W), any unit; H and W at least 2.
        image: (n, 3, H, W) float in [0, 1].
        unit: u, the gradient of colour that counts as an edge.

    Returns:
        A scalar in the unit of the map, summed over its channels; 0 for a constant map.
    """
    down, across = _slopes(field)
    image_down, image_across = ((slope.mean(1, keepdim=True) / -unit).exp() for slope in _slopes(image))
    return ((down * image_down).mean() + (across * image_across).mean()) * field.shape[1]


def _slopes(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return absolute differences of neighbours, (n, C, H - 1, W) down and (n, C, H, W - 1) across."""
    return maps.diff(dim=-2).abs(), maps.diff(dim=-1).abs()


NOISE = 1e-5
"""Standard deviation of the noise that breaks ties between warped and unwarped sources."""


def minimum_error(moved: Tensor, left: Tensor | None = None, select: bool = True) -> tuple[Tensor, Tensor]:
    """Return the error of each pixel, and the auto-mask of pixels that fit best without motion.

    Args:
        moved: (n, S, H, W) float, errors of the warped sources.
        left: (n, S, H, W), errors of the unwarped sources plus noise; None disables the auto-mask.
        select: Take the minimum over the sources, otherwise the mean.

    Returns:
        The errors (n, 1, H, W), and (n, 1, H, W) bool, True where `left` is smaller: there the error has no gradient
        with respect to depth and motion.
    """
    best = _over_sources(moved, select)
    if left is None:
        return best, torch.zeros_like(best, dtype=torch.bool)
    still = _over_sources(left, select)
    stays = still < best
    return torch.where(stays, still, best), stays


def _over_sources(errors: Tensor, select: bool) -> Tensor:
    return errors.amin(1, keepdim=True) if select else errors.mean(1, keepdim=True)
