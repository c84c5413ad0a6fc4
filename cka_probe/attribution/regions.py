"""Which pixels of a prediction count: a mask, a box, or all of them."""

import torch
from torch import Tensor

from cka_probe.errors import DataError

Region = Tensor | tuple[int, int, int, int] | None
"""A bool mask (n, H, W) or (H, W) at the size of the prediction; a box (top, left, height, width) in pixels of it, the
same for all images; or `None` for everything."""


def region_mask(region: Region, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Return a region as a mask.

    Args:
        region: See `Region`.
        shape: (n, H, W) of the prediction.
        device: Where the mask is to be.

    Returns:
        (n, H, W) bool.

    Raises:
        DataError: The region has another size, or is empty or not inside the image.
    """
    n, height, width = shape
    if region is None:
        return torch.ones(shape, dtype=torch.bool, device=device)
    if isinstance(region, Tensor):
        if region.dtype != torch.bool or tuple(region.shape) not in ((n, height, width), (height, width)):
            raise DataError(
                f"expected a region as bool mask {(n, height, width)} or {(height, width)}, the size of the "
                f"prediction, found {region.dtype} {tuple(region.shape)}; scale it to the nearest pixel"
            )
        return region.to(device).expand(n, height, width)
    top, left, high, wide = region
    if min(top, left) < 0 or min(high, wide) < 1 or top + high > height or left + wide > width:
        raise DataError(
            f"expected a region as box (top, left, height, width) inside a prediction of {height} rows and {width} "
            f"columns, found {tuple(region)}"
        )
    mask = torch.zeros(shape, dtype=torch.bool, device=device)
    mask[:, top : top + high, left : left + wide] = True
    return mask
