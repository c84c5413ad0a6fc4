"""Depth up to scale and shift: what may be asked of a network when nobody knows the unit or where zero is.

    x~ = (x - median(x)) / mean |x - median(x)|              standardised, over the valid pixels of one image
    R  = p~ - g~                                             `alignment="median"`
    R  = s p + t - g~,   (s, t) = argmin sum (s p + t - g~)^2     `alignment="least_squares"`

    affine_invariant   L = 1 / (2 M) sum of the (1 - trim) M smallest |R|,           M valid pixels
    gradient_matching  L = sum_k 1 / M_k sum |dR_k / du| + |dR_k / dv|,              R_k: every 2^k-th pixel of R

The truth g is standardised under either alignment, so the loss has no unit. Both are means over the images that
can say something: those in which the truth varies. The first is the same for p and a p + b, a > 0; the second makes
edges of depth fall where they are in the truth. Least squares also forgives a < 0 and would take disparity for
depth; the median does not, and outliers of the truth move it less. Trimming leaves out what the truth may have
wrong.

Ranftl et al., "Towards Robust Monocular Depth Estimation: Mixing Datasets for Zero-shot Cross-dataset Transfer",
TPAMI 2020, equations 4 to 11, there on disparity.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from cka_probe import registry

ROUNDING = 1e-6
"""A spread below this share of the largest number is float32's rounding, and no shape."""


def affine_invariant(
    predicted: Tensor, depth: Tensor, valid: Tensor, *, alignment: str = "median", trim: float = 0.0
) -> Tensor:
    """Return the mean absolute error, halved, after both maps lost scale and shift.

    Args:
        predicted: (n, 1, H, W) float, any unit; larger is farther.
        depth: (n, 1, H, W) float, any unit.
        valid: (n, 1, H, W) bool; neither map is read elsewhere.
        alignment: A name in `ALIGNMENTS`.
        trim: Share of an image's valid pixels, those of the largest errors, that are left out.

    Returns:
        A scalar without unit, float32; 0, with a graph, if no image says anything.

    Raises:
        UnknownNameError: There is no such alignment.
    """
    residual, telling = residuals(predicted, depth, valid, alignment)
    count = valid.flatten(1).sum(1, keepdim=True)
    ordered = residual.abs().flatten(1).masked_fill(~valid.flatten(1), torch.inf).sort(dim=1).values
    rank = torch.arange(ordered.shape[1], device=ordered.device)
    kept = rank < ((1 - trim) * count).round()
    return _mean_over(telling, torch.where(kept, ordered, 0).sum(1) / (2 * count[:, 0].clamp(min=1)))


def gradient_matching(
    predicted: Tensor, depth: Tensor, valid: Tensor, *, alignment: str = "median", scales: int = 4
) -> Tensor:
    """Return how much the error changes from pixel to pixel, summed over scales.

    Args:
        predicted: (n, 1, H, W) float, any unit; larger is farther.
        depth: (n, 1, H, W) float, any unit.
        valid: (n, 1, H, W) bool; a difference counts where both its pixels are.
        alignment: A name in `ALIGNMENTS`.
        scales: How many; each has half of the pixels of the one before, a side.

    Returns:
        A scalar without unit, float32; 0, with a graph, if no image says anything.

    Raises:
        UnknownNameError: There is no such alignment.
    """
    residual, telling = residuals(predicted, depth, valid, alignment)
    total = residual.new_zeros(len(residual))
    for step in (2**scale for scale in range(scales)):
        error, there = residual[..., ::step, ::step], valid[..., ::step, ::step]
        across = (error[..., 1:] - error[..., :-1]).abs() * (there[..., 1:] & there[..., :-1])
        down = (error[..., 1:, :] - error[..., :-1, :]).abs() * (there[..., 1:, :] & there[..., :-1, :])
        count = there.flatten(1).sum(1).clamp(min=1)
        total = total + (across.flatten(1).sum(1) + down.flatten(1).sum(1)) / count
    return _mean_over(telling, total)


def residuals(predicted: Tensor, depth: Tensor, valid: Tensor, alignment: str) -> tuple[Tensor, Tensor]:
    """Return the error without unit, and of which images it says anything.

    Returns:
        (n, 1, H, W) float32, 0 where not valid; (n,) bool, whether the truth varies.
    """
    align = registry.get(ALIGNMENTS, alignment, "alignment")
    truth = standardised(depth, valid)
    predicted = torch.where(valid, predicted.float(), 0)  # a NaN outside would reach the scale's gradient as 0 * NaN
    telling = (truth != 0).flatten(1).any(1)
    return torch.where(valid, align(predicted, truth, valid) - truth, 0), telling


def standardised(depth: Tensor, valid: Tensor) -> Tensor:
    """Return depth less its median, over its mean absolute deviation from it, image by image.

    Args:
        depth: (n, 1, H, W) float, any unit.
        valid: (n, 1, H, W) bool.

    Returns:
        (n, 1, H, W) float32 without unit, 0 where not valid. Where an image's depth does not vary there is nothing
        to divide by: only the median is taken off.
    """
    flat, inside = depth.float().flatten(1), valid.flatten(1)
    flat = torch.where(inside, flat, 0)
    centred = torch.where(inside, flat - _median(flat, inside), 0)
    deviation = centred.abs().sum(1, keepdim=True) / inside.sum(1, keepdim=True).clamp(min=1)
    varies = deviation > ROUNDING * flat.detach().abs().amax(1, keepdim=True)
    # `where` before the division: its gradient by a deviation of 0 would be NaN
    spread = centred / torch.where(varies, deviation, 1)
    # what does not vary is rounding; its values are taken away, its gradient is left to lead out of there
    return torch.where(varies, spread, centred - centred.detach()).view(depth.shape)


def least_squares_aligned(predicted: Tensor, depth: Tensor, valid: Tensor, *, positive: bool = False) -> Tensor:
    """Return s p + t with the scale and shift that bring a prediction nearest to the truth, image by image.

        s = cov(p, g) / var(p),   t = mean(g) - s mean(p)

    Args:
        predicted: (n, 1, H, W) float, any unit.
        depth: (n, 1, H, W) float.
        valid: (n, 1, H, W) bool; which pixels are fitted.
        positive: Take no scale below 0: of a prediction that has near and far the wrong way round nothing remains
            but the mean of the truth.

    Returns:
        (n, 1, H, W) in the unit of `depth`, float32 or, if either map is, float64; everywhere, not only where valid.
        A prediction that does not vary gives the mean of the truth, an image without valid pixels 0.
    """
    dtype = torch.promote_types(torch.promote_types(predicted.dtype, depth.dtype), torch.float32)
    p, g, inside = predicted.to(dtype).flatten(1), depth.to(dtype).flatten(1), valid.flatten(1)
    largest = torch.where(inside, p, 0).detach().abs().amax(1, keepdim=True)
    p = p / torch.where(largest > 0, largest, 1)  # squares of 1e-20 or 1e20 are no float32
    count = inside.sum(1, keepdim=True).clamp(min=1)
    mean_p, mean_g = (torch.where(inside, x, 0).sum(1, keepdim=True) / count for x in (p, g))
    centred_p, centred_g = (torch.where(inside, x - mean, 0) for x, mean in ((p, mean_p), (g, mean_g)))
    variance = (centred_p**2).sum(1, keepdim=True)
    varies = variance > count * ROUNDING**2
    scale = torch.where(varies, (centred_p * centred_g).sum(1, keepdim=True) / torch.where(varies, variance, 1), 0)
    if positive:
        scale = scale.clamp(min=0)
    return (scale * (p - mean_p) + mean_g).view(predicted.shape)


def _by_median(predicted: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Return the prediction as the truth already is: standardised."""
    del truth
    return standardised(predicted, valid)


ALIGNMENTS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "median": _by_median,
    "least_squares": least_squares_aligned,
}
"""How a prediction is brought to the standardised truth."""


def _median(flat: Tensor, inside: Tensor) -> Tensor:
    """Return the lower median of each row's values that are inside, (n, 1); 0 of none, as torch.median counts."""
    ordered = flat.masked_fill(~inside, torch.inf).sort(dim=1).values
    count = inside.sum(1, keepdim=True)
    middle = ordered.gather(1, (count - 1).clamp(min=0) // 2)
    return torch.where(count > 0, middle, 0)


def _mean_over(telling: Tensor, values: Tensor) -> Tensor:
    """Return the mean of (n,) values of the images that say something."""
    return torch.where(telling, values, 0).sum() / telling.sum().clamp(min=1)


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
