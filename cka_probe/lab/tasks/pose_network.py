"""The motion of the camera between two images: a ResNet-18 on both at once, six numbers out.

    (tx, ty, tz, rx, ry, rz) = 0.01 * mean over the image of a map with six channels
    source_T_target = [Rx(rx) Ry(ry) Rz(rz) | t],  radians; t in the unit of the depth it goes with

The factor 0.01 makes the first prediction a small motion, which fits the small first depth of `DisparityDecoder`. The
rectify network has the same architecture: images of half the size, three angles, no factor. Monodepth2 takes the last
three numbers as a rotation vector (`axis_angle_matrix`).

Zhou et al., CVPR 2017; Godard et al., ICCV 2019; Bian et al., "SC-DepthV2", TPAMI 2022.
"""

from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d
from torchvision.transforms.v2.functional import normalize

from cka_probe.models.backbone import NORMALISATIONS


class PoseNet(nn.Module):
    """Two images (n, 3, H, W) each -> (n, outputs) float32.

    Args:
        outputs: 6 for a pose, 3 for a rotation.
        scale: Factor of the outputs.
        halved: Whether to halve the size of the images first.
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
