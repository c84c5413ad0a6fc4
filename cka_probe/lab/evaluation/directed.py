"""Is what is near predicted near? The directed depth error of iBims-1.

A plane parallel to the image, 3 m away, parts near from far (a pixel at 3 m is near):

    dde_0  share of pixels on the right side
    dde_m  share predicted near that are far
    dde_p  share predicted far that are near

Koch et al., "Evaluation of CNN-based Single-Image Depth Estimation Methods", ECCV workshops 2018.
"""

from torch import Tensor

DIRECTED = ("dde_0", "dde_m", "dde_p")
AT = 3.0
"""Metres."""


def directed_errors(depth_predicted: Tensor, depth: Tensor, valid: Tensor, at: float = AT) -> dict[str, float]:
    """Return every error of `DIRECTED` of one image.

    Args:
        depth_predicted: Any shape, metres.
        depth: Same shape, metres.
        valid: Same shape, bool.
        at: Metres.

    Returns:
        Name to share, the three of them 1 in all; NaN if nothing is valid.
    """
    near, truly_near = depth_predicted[valid] <= at, depth[valid] <= at
    shares = ((near == truly_near), (near & ~truly_near), (~near & truly_near))
    return {name: share.double().mean().item() for name, share in zip(DIRECTED, shares, strict=True)}
