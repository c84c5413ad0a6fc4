"""Decoders: from the last feature map of a backbone to pixels.

`PixelDecoder` is SimMIM's, a single 1 x 1 convolution and a pixel shuffle: what the encoder does not know, no
decoder makes up. `DepthDecoder` is the light one of Xie et al., "Revealing the Dark Secrets of Masked Image
Modeling" (CVPR 2023): all of the result is to come from the encoder. It is theirs layer for layer, but for the
constant that their convolution adds before its batch norm, which takes it off again.
"""

from itertools import pairwise

from torch import Tensor, nn

from cka_probe.errors import RecipeError
from cka_probe.models.backbone import Backbone


def last_map(backbone: Backbone) -> tuple[int, int]:
    """Return (channels, stride) of a backbone's last feature map; raises as `maps` does."""
    return maps(backbone)[-1]


def maps(backbone: Backbone) -> list[tuple[int, int]]:
    """Return (channels, stride) of each map of a backbone's `pyramid`, fine to coarse.

    Raises:
        RecipeError: The encoder does not say, as timm's convolutional and hierarchical ones do.
    """
    described = getattr(backbone.model, "feature_info", None)
    if not described:
        raise RecipeError(
            f"expected an encoder with feature maps (timm's `feature_info`), found {backbone.origin.architecture!r}; "
            "train a Swin or a ResNet"
        )
    return [(described_map["num_chs"], described_map["reduction"]) for described_map in described]


class PixelDecoder(nn.Sequential):
    """(n, channels, H / stride, W / stride) -> (n, 3, H, W), linear."""

    def __init__(self, channels: int, stride: int):
        super().__init__(nn.Conv2d(channels, 3 * stride**2, kernel_size=1), nn.PixelShuffle(stride))


class DepthDecoder(nn.Module):
    """(n, channels, H / 32, W / 32) -> (n, 1, H, W) metres in (0, max_depth).

    Args:
        channels: Of the last feature map.
        width: Channels after the deconvolutions.
        max_depth: Metres.
        narrow: Channels of the three deconvolutions.
    """

    def __init__(self, channels: int, width: int, max_depth: float, narrow: int = 32):
        super().__init__()
        self.max_depth = max_depth
        ups = [channels, narrow, narrow, narrow]
        self.deconvolutions = nn.Sequential(
            *(
                nn.Sequential(
                    nn.ConvTranspose2d(before, after, 2, stride=2, bias=False), nn.BatchNorm2d(after), nn.ReLU()
                )
                for before, after in pairwise(ups)
            )
        )
        self.widening = nn.Sequential(
            nn.Conv2d(narrow, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.upsampling = nn.Sequential(*(nn.Upsample(scale_factor=2, mode="bilinear") for _ in range(2)))
        self.to_depth = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 1, 3, padding=1)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                # so small that every pixel starts at half of max_depth
                nn.init.normal_(module.weight, std=1e-3)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, feature_map: Tensor) -> Tensor:
        """Return depth in metres, (n, 1, H, W) float32."""
        wide = self.upsampling(self.widening(self.deconvolutions(feature_map)))
        return self.max_depth * self.to_depth(wide).float().sigmoid()
