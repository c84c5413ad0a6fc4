"""How the camera moved between two pictures: a ResNet-18 on both at once, six numbers out.

    (tx, ty, tz, rx, ry, rz) = 0.01 * mean over the picture of a map with six channels
    source_T_target = [Rx(rx) Ry(ry) Rz(rz) | t],  radians; t in the unit of the depth it goes with

0.01 makes the first guess a small motion, which fits the small first depth of `DisparityDecoder`. The rectify
network is of the same build: pictures of half the size, three angles, and no 0.01.

Zhou et al., CVPR 2017; Bian et al., "SC-DepthV2", TPAMI 2022.
"""

import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d
from torchvision.transforms.v2.functional import normalize

from cka_probe.models.backbone import NORMALISATIONS


class MotionNet(nn.Module):
    """Two pictures (n, 3, H, W) each -> (n, outputs) float32.

    Args:
        outputs: 6 for a pose, 3 for a rotation.
        scale: What the outputs are multiplied by.
        halved: Whether the pictures are first brought to half their size.
    """

    def __init__(self, outputs: int = 6, scale: float = 0.01, halved: bool = False):
        super().__init__()
        self.scale, self.halved = scale, halved
        self.trunk = timm.create_model("resnet18", in_chans=6, num_classes=0, zero_init_last=False)
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
        pair = torch.cat([normalize(picture, list(mean), list(std)) for picture in (target, source)], 1)
        if self.halved:
            pair = avg_pool2d(pair, 2)
        return self.scale * self.to_motion(self.trunk.forward_features(pair)).float().mean((2, 3))


def pose_matrix(motion: Tensor) -> Tensor:
    """Return [R | t] of (tx, ty, tz, rx, ry, rz), (n, 6) -> (n, 4, 4)."""
    turned = torch.cat([rotation_matrix(motion[:, 3:]), motion[:, :3, None]], 2)
    last = motion.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(len(motion), 1, 4)
    return torch.cat([turned, last], 1)


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
