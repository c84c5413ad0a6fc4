"""What makes a network turn one image until only translation is left between it and another.

With R1 the rotation found between target and source, the source turned by R1, and R2 what is then still found:

    L_t = mean max(|R2| - |R1| + margin, 0)        turning has to leave less to turn
    L_c = mean |R3 - R3*|                          a rotation that was applied is recognised

R3* is one that the network itself applied, or a drawn one where its own is too small to learn from or too large to
be trusted; see `tasks.geometric`. Angles are in radians.

Bian et al., "Auto-Rectify Network for Unsupervised Indoor Depth Estimation", TPAMI 2022 (SC-DepthV2).
"""

from torch import Tensor


def less_rotation(before: Tensor, after: Tensor, margin: float = 0.05) -> Tensor:
    """Return L_t.

    Args:
        before: (n, 3) angles, R1.
        after: (n, 3) angles, R2.
        margin: Radians that R2 has to be smaller by, in each angle.

    Returns:
        A scalar, radians; `margin` if turning changed nothing.
    """
    return (after.abs() - before.abs() + margin).clamp(min=0).mean()


def recognised_rotation(found: Tensor, applied: Tensor) -> Tensor:
    """Return L_c.

    Args:
        found: (n, 3) angles, R3.
        applied: (n, 3) angles, R3*; no gradient goes into it.

    Returns:
        A scalar, radians.
    """
    return (found - applied.detach()).abs().mean()
