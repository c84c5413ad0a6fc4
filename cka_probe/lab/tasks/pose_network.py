"""The motion of the camera between two images: a ResNet-18 on both at once, six numbers out.

    (tx, ty, tz, rx, ry, rz) = 0.01 * mean over the image of a map with six channels
    source_T_target = [Rx(rx) Ry(ry) Rz(rz) | t],  radians; t in the unit of the depth it goes with

The factor 0.01 makes the first prediction a small motion, which fits the small first depth of `DisparityDecoder`. The
rectify network has the same architecture: images of half the size, three angles, no factor.

Monodepth2 reads the last three numbers as an axis of rotation whose length is the angle: `axis_angle_matrix`. For small
angles the two agree.

Zhou et al., CVPR 2017; Godard et al., ICCV 2019; Bian et al., "SC-DepthV2", TPAMI 2022.
"""

from collections.abc import Callable
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d
from torchvision.transforms.v2.functional import normalize

from cka_probe.models.backbone import NORMALISATIONS

SMALL_TURN = 1e-2
"""Radians below which sine and cosine are replaced by their series, whose next terms are below 1e-10."""


class PoseNet(nn.Module):
    """Two images (n, 3, H, W) each -> (n, outputs) float32.

    Args:
        outputs: 6 for a pose, 3 for a rotation.
        scale: What the outputs are multiplied by.
        halved: Whether the images are first brought to half their size.
    """

    def __init__(self, outputs: int = 6, scale: float = 0.01, halved: bool = False):
        super().__init__()
        self.scale, self.halved = scale, halved
        self.trunk: Any = timm.create_model("resnet18", in_chans=6, num_classes=0, zero_init_last=False)
        self.to_motion = nn.Sequential(
            nn.Conv2d(512, 256, 1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, outputs, 1),
        )

    def forward(self, target: Tensor, source: Tensor) -> Tensor:
        """Return the motion from target to source.

        Args:
            target: (n, 3, H, W) float32 RGB in [0, 1].
            source: The same.
        """
        mean, std = NORMALISATIONS["sc_depth"]
        pair = torch.cat([normalize(image, list(mean), list(std)) for image in (target, source)], 1)
        if self.halved:
            pair = avg_pool2d(pair, 2)
        return self.scale * self.to_motion(self.trunk.forward_features(pair)).float().mean((2, 3))


def rotation_matrix(angles: Tensor) -> Tensor:
    """Return Rx Ry Rz, (n, 3, 3), of (rx, ry, rz) in radians, (n, 3).

    Written out, as a matrix product might be done in TF32.
    """
    (sx, sy, sz), (cx, cy, cz) = angles.sin().unbind(1), angles.cos().unbind(1)
    rows = [
        [cy * cz, -cy * sz, sy],
        [cx * sz + sx * sy * cz, cx * cz - sx * sy * sz, -sx * cy],
        [sx * sz - cx * sy * cz, sx * cz + cx * sy * sz, cx * cy],
    ]
    return torch.stack([torch.stack(row, 1) for row in rows], 1)


def axis_angle_matrix(turn: Tensor) -> Tensor:
    """Return the rotation by |turn| radians about turn / |turn|, (n, 3, 3), of turns (n, 3); the identity for 0.

    R = I + sin(a) / a [turn] + (1 - cos(a)) / a^2 [turn]^2 (Rodrigues), with the series of both factors where a is
    small, so that the gradient at no turn is finite.
    """
    squared = (turn * turn).sum(1)
    small = squared < SMALL_TURN**2
    a = torch.where(small, 1.0, squared).sqrt()
    once = torch.where(small, 1 - squared / 6, a.sin() / a)[:, None, None]
    twice = torch.where(small, 0.5 - squared / 24, 2 * (a / 2).sin() ** 2 / a**2)[:, None, None]
    x, y, z = turn.unbind(1)
    zero = torch.zeros_like(x)
    rows = [[zero, -z, y], [z, zero, -x], [-y, x, zero]]
    across = torch.stack([torch.stack(row, 1) for row in rows], 1)
    # [turn]^2 = turn turn^T - |turn|^2 I, written out as a matrix product might be done in TF32
    eye = torch.eye(3, dtype=turn.dtype, device=turn.device)
    square = turn[:, :, None] * turn[:, None, :] - squared[:, None, None] * eye
    return eye + once * across + twice * square


def pose_matrix(motion: Tensor, rotation: Callable[[Tensor], Tensor] = rotation_matrix) -> Tensor:
    """Return [R | t] of (tx, ty, tz, rx, ry, rz), (n, 6) -> (n, 4, 4).

    Args:
        motion: Translation and turn.
        rotation: Makes matrices (n, 3, 3) of turns (n, 3).
    """
    turned = torch.cat([rotation(motion[:, 3:]), motion[:, :3, None]], 2)
    last = motion.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(len(motion), 1, 4)
    return torch.cat([turned, last], 1)
