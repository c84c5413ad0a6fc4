"""How well a depth map fits the measured one: the usual eight errors and silog in two versions, per image.

Over the valid pixels of an image, with p predicted and g measured, in metres (Eigen et al. 2014):

    abs_rel  mean |p - g| / g                 rmse      sqrt(mean (p - g)^2)
    sq_rel   mean (p - g)^2 / g               rmse_log  sqrt(mean (ln p - ln g)^2)
    log10    mean |log10 p - log10 g|         delta_i   fraction with max(p / g, g / p) < 1.25^i
    silog    sqrt(mean d^2 - 0.5 mean(d)^2), d = ln p - ln g
    silog_bts  100 sqrt(mean d^2 - mean(d)^2), as in BTS and AdaBins

A dataset's number is the mean of the per-image values, not an error over all its pixels: the two differ, and
published tables mean the first.

`errors_with_constant_baseline` adds the errors of a constant depth, which show whether a network learnt more than the
scale. Both are scaled to the median of the ground truth, image by image, since a network trained on video alone has no
metric scale, and clamped to the range of depths that count, as in Monodepth2's evaluation. For a network with metric
scale, the errors without scaling are added as `NAME_metres`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from cka_probe import registry

Box = tuple[int, int, int, int]
"""Rows from, to, columns from, to."""


def _nyuv2_box(height: int, width: int) -> Box:
    """Return rows 45 to 471 and columns 41 to 601 of 480 x 640, in proportion."""
    return round(45 * height / 480), round(471 * height / 480), round(41 * width / 640), round(601 * width / 640)


def _kitti_box(height: int, width: int) -> Box:
    """Return the published shares of rows and columns: rows 124 to 342, columns 44 to 1197 of 375 x 1242."""
    rows = int(0.3324324 * height), int(0.91351351 * height)
    return *rows, int(0.0359477 * width), int(0.96405229 * width)


def _garg_box(height: int, width: int) -> Box:
    """Return the published shares of rows and columns: rows 153 to 371, columns 44 to 1197 of 375 x 1242."""
    rows = int(0.40810811 * height), int(0.99189189 * height)
    return *rows, int(0.03594771 * width), int(0.96405229 * width)


CROPS: dict[str, Callable[[int, int], Box]] = {
    "none": lambda height, width: (0, height, 0, width),
    "eigen_nyuv2": _nyuv2_box,
    "eigen_kitti": _kitti_box,
    "garg": _garg_box,
}
"""Boxes of an image (height, width) that are evaluated by convention: those of Eigen et al. 2014 on NYUv2 and on KITTI,
and that of Garg et al. 2016 on KITTI."""
KITTI_RANGE = (1e-3, 80.0)
"""Metres between which measured depth counts on KITTI."""


def _log_ratio(p: Tensor, g: Tensor) -> Tensor:
    return p.log() - g.log()


def _share_within(p: Tensor, g: Tensor, factor: float) -> Tensor:
    return (torch.maximum(p / g, g / p) < factor).double().mean()


def _variance(d: Tensor, shift: float) -> Tensor:
    """Return mean d^2 - shift mean(d)^2."""
    return ((d**2).mean() - shift * d.mean() ** 2).clamp(min=0)


ERRORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "abs_rel": lambda p, g: ((p - g).abs() / g).mean(),
    "sq_rel": lambda p, g: ((p - g) ** 2 / g).mean(),
    "rmse": lambda p, g: ((p - g) ** 2).mean().sqrt(),
    "rmse_log": lambda p, g: (_log_ratio(p, g) ** 2).mean().sqrt(),
    "log10": lambda p, g: (p.log10() - g.log10()).abs().mean(),
    "delta1": lambda p, g: _share_within(p, g, 1.25),
    "delta2": lambda p, g: _share_within(p, g, 1.25**2),
    "delta3": lambda p, g: _share_within(p, g, 1.25**3),
    "silog": lambda p, g: _variance(_log_ratio(p, g), 0.5).sqrt(),
    "silog_bts": lambda p, g: 100 * _variance(_log_ratio(p, g), 1.0).sqrt(),
}
"""Errors over lists of valid predicted and measured depths, float64, by name."""


def valid_depth(depth: Tensor, low: float = 1e-3, high: float = 10.0, crop: str = "none") -> Tensor:
    """Return the pixels that count.

    Args:
        depth: (..., H, W) metres, 0 = not measured.
        low: Metres, exclusive.
        high: Metres, exclusive.
        crop: The box that counts, a name in `CROPS`.

    Returns:
        (..., H, W) bool.

    Raises:
        UnknownNameError: There is no such box.
    """
    box = registry.get(CROPS, crop, "crop")
    valid = (depth > low) & (depth < high)
    if crop != "none":
        top, bottom, left, right = box(*depth.shape[-2:])
        inside = torch.zeros_like(valid)
        inside[..., top:bottom, left:right] = True
        valid &= inside
    return valid


def outside_rows(depth: Tensor, crop: str) -> Tensor:
    """Return the pixels (..., H, W), bool, in the rows above and below a box.

    >>> outside_rows(torch.zeros(480, 640), "eigen_nyuv2").any(1).sum().item()
    54
    """
    top, bottom, _, _ = registry.get(CROPS, crop, "crop")(*depth.shape[-2:])
    outside = torch.ones_like(depth, dtype=torch.bool)
    outside[..., top:bottom, :] = False
    return outside


def depth_errors(depth_predicted: Tensor, depth: Tensor, valid: Tensor) -> dict[str, Tensor]:
    """Return every error of `ERRORS`, per image.

    Args:
        depth_predicted: (n, 1, H, W) metres, above 0.
        depth: (n, 1, H, W) metres.
        valid: (n, 1, H, W) bool.

    Returns:
        Name to (n,) float64 on the CPU; metres for rmse and sq_rel, no unit for the others; NaN for an image without
        a valid pixel.
    """
    pairs = [
        (predicted[inside].cpu().double(), measured[inside].cpu().double())
        for predicted, measured, inside in zip(depth_predicted, depth, valid, strict=True)
    ]
    return {name: torch.stack([error(*pair) for pair in pairs]) for name, error in ERRORS.items()}


def median(values: Tensor) -> Tensor:
    """Return the median of (n,) values, the mean of the middle two if n is even; `torch.median` is the lower of these.

    >>> median(torch.tensor([9.0, 1.0]))
    tensor(5.)
    """
    ordered = values.sort().values
    return (ordered[(len(values) - 1) // 2] + ordered[len(values) // 2]) / 2


def median_scaled(depth_predicted: Tensor, depth: Tensor, valid: Tensor) -> Tensor:
    """Return predictions times median(depth) / median(prediction) per image, for models without metric scale.

    Args:
        depth_predicted: (n, 1, H, W), any unit.
        depth: (n, 1, H, W) metres.
        valid: (n, 1, H, W) bool.

    Returns:
        (n, 1, H, W) metres.
    """
    factors = [
        median(measured[inside]) / median(predicted[inside]) if inside.any() else predicted.new_tensor(1.0)
        for predicted, measured, inside in zip(depth_predicted, depth, valid, strict=True)
    ]
    return depth_predicted * torch.stack(factors).view(-1, 1, 1, 1)


def errors_with_constant_baseline(depth_predicted: Tensor, depth: Tensor, metres: bool = False) -> dict[str, Tensor]:
    """Return abs_rel and delta1 of predictions and of a constant.

    Args:
        depth_predicted: (n, 1, H, W), above 0; metres if `metres`, else any unit.
        depth: (n, 1, H, W) metres, 0 = not measured.
        metres: Whether the prediction is in metres, and to add its errors without scaling.

    Returns:
        `abs_rel`, `delta1`, `abs_rel_constant`, `delta1_constant` and, in metres, `abs_rel_metres`, `delta1_metres`:
        (n,) float64 on the CPU each, NaN for an image without a depth that counts.
    """
    valid = valid_depth(depth, *KITTI_RANGE)
    versions = {
        "": median_scaled(depth_predicted, depth, valid),
        "_constant": median_scaled(torch.ones_like(depth), depth, valid),
    }
    if metres:
        versions["_metres"] = depth_predicted
    values: dict[str, Tensor] = {}
    for suffix, predicted in versions.items():
        errors = depth_errors(predicted.clamp(*KITTI_RANGE), depth, valid)
        values |= {f"{name}{suffix}": errors[name] for name in ("abs_rel", "delta1")}
    return values
