"""Losses of depth up to scale and shift, for ground truth whose unit and zero are unknown.

    x~ = (x - median(x)) / mean |x - median(x)|              standardised, over the valid pixels of one image
    R  = p~ - g~                                             `alignment="median"`
    R  = s p + t - g~,   (s, t) = argmin sum (s p + t - g~)^2     `alignment="least_squares"`

    affine_invariant   L = 1 / (2 M) sum of the (1 - trim) M smallest |R|,           M valid pixels
    gradient_matching  L = sum_k 1 / M_k sum |dR_k / du| + |dR_k / dv|,              R_k: every 2^k-th pixel of R

The ground truth g is standardised under both alignments, so the loss has no unit. Both losses are means over the
images whose ground truth varies. The first is equal for p and a p + b with a > 0; the second places edges of depth
where the ground truth has them. Least squares also allows a < 0 and would accept disparity as depth; the median does
not, and is less sensitive to outliers. Trimming omits pixels at which the ground truth may be wrong.

Ranftl et al., "Towards Robust Monocular Depth Estimation: Mixing Datasets for Zero-shot Cross-dataset Transfer",
TPAMI 2020, equations 4 to 11, which use disparity.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from cka_probe import registry

ROUNDING = 1e-6
"""Values that differ by less than this share of the largest are constant up to float32 rounding."""


def affine_invariant(
    predicted: Tensor, depth: Tensor, valid: Tensor, *, alignment: str = "median", trim: float = 0.0
) -> Tensor:
    """Return half the mean absolute error after removing scale and shift from both maps.

    Args:
        predicted: (n, 1, H, W) float, any unit; larger is farther.
        depth: (n, 1, H, W) float, any unit.
        valid: (n, 1, H, W) bool; other pixels are ignored.
        alignment: A name in `ALIGNMENTS`.
        trim: Share of the valid pixels of an image, those with the largest errors, that is omitted.

    Returns:
        A scalar without unit, float32; 0, with a graph, if the ground truth of no image varies.

    Raises:
        UnknownNameError: There is no such alignment.
    """
    residual, counted = residuals(predicted, depth, valid, alignment)
    count = valid.flatten(1).sum(1, keepdim=True)
    ordered = residual.abs().flatten(1).masked_fill(~valid.flatten(1), torch.inf).sort(dim=1).values
    rank = torch.arange(ordered.shape[1], device=ordered.device)
    smallest = rank < ((1 - trim) * count).round()
    return _mean_over(counted, torch.where(smallest, ordered, 0).sum(1) / (2 * count[:, 0].clamp(min=1)))


def gradient_matching(
    predicted: Tensor, depth: Tensor, valid: Tensor, *, alignment: str = "median", scales: int = 4
) -> Tensor:
    """Return the mean change of the error from pixel to pixel, summed over scales.

    Args:
        predicted: (n, 1, H, W) float, any unit; larger is farther.
        depth: (n, 1, H, W) float, any unit.
        valid: (n, 1, H, W) bool; a difference counts if both of its pixels are valid.
        alignment: A name in `ALIGNMENTS`.
        scales: Number of scales; each has half the height and width of the previous one.

    Returns:
        A scalar without unit, float32; 0, with a graph, if the ground truth of no image varies.

    Raises:
        UnknownNameError: There is no such alignment.
    """
    residual, counted = residuals(predicted, depth, valid, alignment)
    total = residual.new_zeros(len(residual))
    for step in (2**scale for scale in range(scales)):
        error, measured = residual[..., ::step, ::step], valid[..., ::step, ::step]
        across = (error[..., 1:] - error[..., :-1]).abs() * (measured[..., 1:] & measured[..., :-1])
        down = (error[..., 1:, :] - error[..., :-1, :]).abs() * (measured[..., 1:, :] & measured[..., :-1, :])
        count = measured.flatten(1).sum(1).clamp(min=1)
        total = total + (across.flatten(1).sum(1) + down.flatten(1).sum(1)) / count
    return _mean_over(counted, total)


def residuals(predicted: Tensor, depth: Tensor, valid: Tensor, alignment: str) -> tuple[Tensor, Tensor]:
    """Return the error without unit, and which images count.

    Returns:
        (n, 1, H, W) float32, 0 where not valid; (n,) bool, whether the ground truth varies.
    """
    align = registry.get(ALIGNMENTS, alignment, "alignment")
    truth = standardised(depth, valid)
    predicted = torch.where(valid, predicted.float(), 0)  # NaN outside would reach the gradient as 0 * NaN
    counted = (truth != 0).flatten(1).any(1)
    return torch.where(valid, align(predicted, truth, valid) - truth, 0), counted


def standardised(depth: Tensor, valid: Tensor) -> Tensor:
    """Subtract the median of each image and divide by the mean absolute deviation from it.

    Args:
        depth: (n, 1, H, W) float, any unit.
        valid: (n, 1, H, W) bool.

    Returns:
        (n, 1, H, W) float32 without unit, 0 where not valid. If the depth of an image is constant, only its median
        is subtracted.
    """
    flat, inside = depth.float().flatten(1), valid.flatten(1)
    flat = torch.where(inside, flat, 0)
    centred = torch.where(inside, flat - _median(flat, inside), 0)
    deviation = centred.abs().sum(1, keepdim=True) / inside.sum(1, keepdim=True).clamp(min=1)
    varies = deviation > ROUNDING * flat.detach().abs().amax(1, keepdim=True)
    # `where` before the division: its gradient by a deviation of 0 would be NaN
    spread = centred / torch.where(varies, deviation, 1)
    # a constant prediction is 0 up to rounding, but keeps a gradient so that training can leave it
    return torch.where(varies, spread, centred - centred.detach()).view(depth.shape)


def least_squares_aligned(predicted: Tensor, depth: Tensor, valid: Tensor, *, positive: bool = False) -> Tensor:
    """Return s p + t with the scale and shift that fit each image best to the ground truth by least squares.

        s = cov(p, g) / var(p),   t = mean(g) - s mean(p)

    Args:
        predicted: (n, 1, H, W) float, any unit.
        depth: (n, 1, H, W) float.
        valid: (n, 1, H, W) bool; the pixels that are fitted.
        positive: Clamp the scale at 0: a prediction with near and far reversed becomes the mean of the ground
            truth.

    Returns:
        (n, 1, H, W) in the unit of `depth`, at all pixels; float64 if either map is, otherwise float32. A constant
        prediction becomes the mean of the ground truth, an image without valid pixels 0.
    """
    dtype = torch.promote_types(torch.promote_types(predicted.dtype, depth.dtype), torch.float32)
    p, g, inside = predicted.to(dtype).flatten(1), depth.to(dtype).flatten(1), valid.flatten(1)
    largest = torch.where(inside, p, 0).detach().abs().amax(1, keepdim=True)
    p = p / torch.where(largest > 0, largest, 1)  # float32 cannot hold the squares of 1e-20 or 1e20
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
    """Return the standardised prediction."""
    del truth
    return standardised(predicted, valid)


ALIGNMENTS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "median": _by_median,
    "least_squares": least_squares_aligned,
}
"""Alignments of a prediction to the standardised ground truth, by name."""


def _median(flat: Tensor, inside: Tensor) -> Tensor:
    """Return the lower median (as torch.median) of the valid values of each row, (n, 1); 0 if there are none."""
    ordered = flat.masked_fill(~inside, torch.inf).sort(dim=1).values
    count = inside.sum(1, keepdim=True)
    middle = ordered.gather(1, (count - 1).clamp(min=0) // 2)
    return torch.where(count > 0, middle, 0)


def _mean_over(counted: Tensor, values: Tensor) -> Tensor:
    """Return the mean of (n,) values over the images that count."""
    return torch.where(counted, values, 0).sum() / counted.sum().clamp(min=1)


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
        normals: (n, 3, H, W) float, unit length, towards the camera, (0, 0, 0) where not known; from the predicted
            depth.
        pseudo_normals: Same shape and axes, from the pseudo-depth.

    Returns:
        A scalar without unit, 0 to 2 / sqrt(3); 0, with a graph, if no pixel has both.
    """
    known = known_normals(normals) & known_normals(pseudo_normals)
    difference = (normals - pseudo_normals).abs().mean(1, keepdim=True)
    return torch.where(known, difference, 0.0).sum() / known.sum().clamp(min=1)
