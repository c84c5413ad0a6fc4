"""At each pixel only the best explanation counts, and that nothing moved is one of them.

    L(u) = min( min_s pe_s(u),  min_s id_s(u) + noise ),    pe_s = pe(I, I'_s),   id_s = pe(I, I_s)

with I the target, I_s the sources as they are and I'_s as they are warped onto the target. What one source hides
another may show: hence the minimum over s and not the mean. Where leaving a source as it is explains the target
better than moving it, no depth learns: in a still video, on plain surfaces, and on what keeps its place in the
image because it moves along with the camera (the auto-mask). The noise, 1e-5 of a normal draw, decides between
sources that are left as they are and warps that are no different, in favour of either by chance.

Godard, Mac Aodha, Firman & Brostow, "Digging into Self-Supervised Monocular Depth Estimation", ICCV 2019.
"""

import torch
from torch import Tensor

NOISE = 1e-5
"""Standard deviation of what breaks ties between moved and left."""


def minimum_error(moved: Tensor, left: Tensor | None = None, select: bool = True) -> tuple[Tensor, Tensor]:
    """Return the error that counts at each pixel, and where no motion at all was the best.

    Args:
        moved: (n, S, H, W) float, errors of the warped sources.
        left: (n, S, H, W), errors of the sources as they are, noise added; `None` switches the auto-mask off.
        select: Take the minimum over the sources; otherwise their mean.

    Returns:
        The errors (n, 1, H, W), and (n, 1, H, W) bool, True where `left` won: there the error has no gradient for
        whatever moved the sources.
    """
    best = _over_sources(moved, select)
    if left is None:
        return best, torch.zeros_like(best, dtype=torch.bool)
    still = _over_sources(left, select)
    stays = still < best
    return torch.where(stays, still, best), stays


def _over_sources(errors: Tensor, select: bool) -> Tensor:
    return errors.amin(1, keepdim=True) if select else errors.mean(1, keepdim=True)
