"""From the feature maps of a backbone to depth up to scale: DispNet's decoder.

From the coarsest map up, at each stride: a convolution, twice the size, the backbone's map of that stride laid
beside it, a convolution. A Swin has no map at stride 2, so nothing is laid beside there; a ResNet's stem has one.
The last convolution gives inverse depth,

    1 / depth = 1 / max_depth + (1 / min_depth - 1 / max_depth) sigmoid(z)

and z starts where depth is `start`: 0.2, of the same order as the motion an untrained `PoseNet` proposes. What
moves in the image is translation over depth; if one of the two is far off at the start, the other cannot make up
for it. While translation is still too small, depth can shrink instead, for all pixels alike: in a trial it arrived at
`min_depth` 0.1, that of the original, within fifty steps. A nearer `min_depth` leaves it room, and starts from the same
place. The coarser outputs of the original are left out:
its loss never reads them.

Zhou et al., CVPR 2017; Godard et al., ICCV 2019; as in Bian et al., "SC-DepthV2", TPAMI 2022.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import elu, interpolate

WIDTHS = {32: 256, 16: 128, 8: 64, 4: 32, 2: 16}
"""Channels after leaving each stride."""


class DisparityDecoder(nn.Module):
    """The maps of a pyramid -> (n, 1, H, W) depth in (min_depth, max_depth), up to scale.

    Args:
        maps: (channels, stride) of each map, fine to coarse; strides out of 2, 4, 8, 16 and 32, the last 32.
        min_depth: Nearest, in the decoder's own unit.
        max_depth: Farthest.
        start: What untrained weights say, between the two.
    """

    def __init__(
        self, maps: Sequence[tuple[int, int]], min_depth: float = 0.1, max_depth: float = 100.0, start: float = 0.2
    ):
        super().__init__()
        self.nearest, self.farthest = 1 / min_depth, 1 / max_depth  # as inverse depth
        self.strides = tuple(stride for _, stride in maps)
        beside = {stride: channels for channels, stride in maps}
        before = beside[32]
        self.narrowing, self.joining = nn.ModuleDict(), nn.ModuleDict()
        for stride, width in WIDTHS.items():
            self.narrowing[str(stride)] = _convolution(before, width)
            self.joining[str(stride)] = _convolution(width + beside.get(stride // 2, 0), width)
            before = width
        self.to_disparity = _convolution(before, 1)
        share = (1 / start - self.farthest) / (self.nearest - self.farthest)
        nn.init.constant_(self.to_disparity.bias, math.log(share / (1 - share)))

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """Return depth, (n, 1, H, W) float32, of maps (n, C, H / stride, W / stride), H and W at least 64."""
        beside = dict(zip(self.strides, pyramid, strict=True))
        x = beside[32]
        for stride in WIDTHS:
            x = interpolate(elu(self.narrowing[str(stride)](x)), scale_factor=2, mode="bilinear", align_corners=False)
            if stride // 2 in beside:
                x = torch.cat([x, beside[stride // 2]], 1)
            x = elu(self.joining[str(stride)](x))
        disparity = self.farthest + (self.nearest - self.farthest) * self.to_disparity(x).float().sigmoid()
        return 1 / disparity


def _convolution(before: int, after: int) -> nn.Conv2d:
    """Return a 3 x 3 convolution that mirrors at the border: zeros there would be read as depth's."""
    return nn.Conv2d(before, after, 3, padding=1, padding_mode="reflect")
