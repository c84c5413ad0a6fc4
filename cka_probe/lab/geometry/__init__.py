"""Where a pixel of one image lies in another: cameras, poses, warping, flow and normals, differentiable.

    u_source ~ K_source [source_T_target] d(u) K^-1 (u, 1)

All functions take batches, any device, float32 or float64, and use no matrix product, so that neither TF32 nor
autocast makes a coordinate coarser than it was. A camera's axes are x right, y down, z forward; `a_T_b` takes
coordinates of b to coordinates of a; pixel centres are whole numbers, the first (0, 0), the last (W - 1, H - 1).
A point that is not in front of a camera, a depth that was not measured (0) and a pose that is not known (NaN) are
never visible, and no gradient becomes NaN for their sake.

Hartley & Zisserman, "Multiple View Geometry in Computer Vision", 2nd ed. 2004, chapters 6 and 9.
"""

from cka_probe.lab.geometry.camera import (
    backproject,
    cropped_K,
    flipped_K,
    flipped_pose,
    inverse_pose,
    pixel_grid,
    project,
    scaled_K,
    transform,
)
from cka_probe.lab.geometry.normals import normals_from_depth
from cka_probe.lab.geometry.poses import axis_angle_matrix, pose_matrix, rotation_matrix
from cka_probe.lab.geometry.warping import inside, rigid_flow, sample_at, warp, warp_by_flow

__all__ = [
    "axis_angle_matrix",
    "backproject",
    "cropped_K",
    "flipped_K",
    "flipped_pose",
    "inside",
    "inverse_pose",
    "normals_from_depth",
    "pixel_grid",
    "pose_matrix",
    "project",
    "rigid_flow",
    "rotation_matrix",
    "sample_at",
    "scaled_K",
    "transform",
    "warp",
    "warp_by_flow",
]
