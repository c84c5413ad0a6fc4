"""Depth changes where the image does.

    d = D / mean(D)
    L = mean |d_x| exp(-mean_c |I_x| / u) + mean |d_y| exp(-mean_c |I_y| / u)

with differences of neighbours. The mean makes it blind to the scale of depth, which otherwise would shrink to
please it; a field with a scale of its own, such as flow, is taken as it is (`edge_aware_slope`). SC-Depth takes depth
where Monodepth2 takes disparity, and images divided by their standard deviation: u = 0.225 for images in [0, 1].

Heise, Klose, Jensen & Knoll, ICCV 2013; Godard, Mac Aodha & Brostow, CVPR 2017; Bian et al., IJCV 2021.
"""

from torch import Tensor

from cka_probe.lab.losses.photometric import COLOUR_UNIT


def smoothness(depth: Tensor, image: Tensor, unit: float = COLOUR_UNIT) -> Tensor:
    """Return the edge-aware smoothness loss.

    Args:
        depth: (n, 1, H, W), above 0, any unit; H and W at least 2.
        image: (n, 3, H, W) float in [0, 1].
        unit: u, the slope of colour that counts as an edge.

    Returns:
        A scalar without unit; 0 for constant depth.
    """
    return edge_aware_slope(depth / depth.mean((2, 3), keepdim=True).clamp(min=1e-7), image, unit)


def edge_aware_slope(field: Tensor, image: Tensor, unit: float = COLOUR_UNIT) -> Tensor:
    """Return how much a field changes where its image does not.

    Args:
        field: (n, C, H, W), any unit; H and W at least 2.
        image: (n, 3, H, W) float in [0, 1].
        unit: u, the slope of colour that counts as an edge.

    Returns:
        A scalar in the field's unit: L for each of its channels, added up; 0 for a constant field.
    """
    down, across = _slopes(field)
    image_down, image_across = ((slope.mean(1, keepdim=True) / -unit).exp() for slope in _slopes(image))
    return ((down * image_down).mean() + (across * image_across).mean()) * field.shape[1]


def _slopes(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return absolute differences of neighbours, (n, C, H - 1, W) down and (n, C, H, W - 1) across."""
    return maps.diff(dim=-2).abs(), maps.diff(dim=-1).abs()
