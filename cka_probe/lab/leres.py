"""LeReS, whose depth is the pseudo-depth of SC-DepthV3: its network, and its released files.

Yin et al., "Learning to Recover 3D Scene Shape from a Single Image" (CVPR 2021): a ResNet-50 or ResNeXt-101 (32x8d),
and a decoder that fuses its maps from coarse to fine and predicts depth up to scale and shift at the size of the
input. A released file (`res50.pth`, `res101.pth`) is a dict with the weights under `depth_model`; the networks of
shift and focal length next to them are not read.

As released, images are scaled to 448 x 448 without antialiasing, and depth is scaled back in the same way.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from cka_probe.errors import CheckpointError
from cka_probe.models.backbone import IMAGENET_MEAN, IMAGENET_STD
from cka_probe.models.devices import full_float32

SIZE = 448
"""Pixels of the sides of its input."""

ENCODERS = {"layer3.22.": "resnext101_32x8d", "layer3.5.": "resnet50"}
"""Encoders by a block that the others before them lack."""

ENCODER, DECODER = "encoder_modules.encoder.", "decoder_modules."
"""Names of the parts in a file."""

WIDTH, TOP_WIDTH = 256, 512
"""Channels of the decoder, and of its block on the coarsest map."""


def convolution(before: int, after: int) -> nn.Conv2d:
    """Return a 3 x 3 convolution that keeps the size."""
    return nn.Conv2d(before, after, 3, padding=1)


def double(x: Tensor) -> Tensor:
    """Return a map at twice the size."""
    return interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)


class TransferBlock(nn.Module):
    """A convolution and a residual block.

    The shortcut is of the activation after the ReLU: in the released code the first ReLU of the branch works in place,
    on what is added to the branch.
    """

    def __init__(self, before: int, after: int):
        super().__init__()
        self.conv1 = convolution(before, after)
        branch = (convolution(after, after), nn.BatchNorm2d(after), nn.ReLU(), convolution(after, after))
        self.conv_branch = nn.Sequential(nn.ReLU(), *branch)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same size."""
        x = self.conv1(x).relu()
        return (x + self.conv_branch(x)).relu()


class FusionBlock(nn.Module):
    """A map of the encoder added to the coarser features, at twice the size."""

    def __init__(self, before: int):
        super().__init__()
        self.ftb1 = TransferBlock(before, WIDTH)
        self.ftb2 = TransferBlock(WIDTH, WIDTH)

    def forward(self, feature_map: Tensor, features: Tensor) -> Tensor:
        """Return features at twice the size."""
        return double(self.ftb2(self.ftb1(feature_map) + features))


class Output(nn.Module):
    """Two convolutions from features to depth."""

    def __init__(self) -> None:
        super().__init__()
        layers = (convolution(WIDTH, WIDTH // 2), nn.BatchNorm2d(WIDTH // 2), nn.ReLU(), convolution(WIDTH // 2, 1))
        self.adapt_conv = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """Return depth at twice the size."""
        return double(self.adapt_conv(features))


class Decoder(nn.Module):
    """Maps at strides 4, 8, 16 and 32 -> depth (n, 1, H, W)."""

    def __init__(self, channels: Sequence[int]):
        super().__init__()
        self.conv = TransferBlock(channels[3], TOP_WIDTH)
        self.conv1 = convolution(TOP_WIDTH, WIDTH)
        self.ffm2, self.ffm1, self.ffm0 = (FusionBlock(channels[number]) for number in (2, 1, 0))
        self.outconv = Output()

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Return depth up to scale and shift."""
        features = double(self.conv1(self.conv(maps[3])))
        for block, feature_map in ((self.ffm2, maps[2]), (self.ffm1, maps[1]), (self.ffm0, maps[0])):
            features = block(feature_map, features)
        depth: Tensor = self.outconv(features)
        return depth


class LeReS(nn.Module):
    """Normalised images (n, 3, H, W), sides multiples of 32 -> depth (n, 1, H, W), larger = farther.

    Args:
        architecture: In `ENCODERS`.
    """

    def __init__(self, architecture: str):
        super().__init__()
        self.architecture = architecture
        options: dict[str, Any] = {"features_only": True, "out_indices": (1, 2, 3, 4)}
        encoder: Any = timm.create_model(architecture, pretrained=False, **options)
        self.encoder = encoder
        self.decoder = Decoder(encoder.feature_info.channels())

    def forward(self, images: Tensor) -> Tensor:
        """Return depth up to scale and shift."""
        return self.decoder(self.encoder(images))

    @torch.inference_mode()
    def predict(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Return the depth (H, W) float32, on the CPU, of images (3, H, W) in [0, 1] of any size."""
        device = next(self.parameters()).device
        inputs = torch.cat([_scaled(image[None], (SIZE, SIZE)) for image in images]).to(device)
        mean, std = (inputs.new_tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
        with full_float32(device):
            depths = self((inputs - mean) / std).float().cpu()
        return [_scaled(depth[None], image.shape[-2:])[0, 0] for depth, image in zip(depths, images, strict=True)]


def _scaled(x: Tensor, size: Sequence[int]) -> Tensor:
    return interpolate(x, tuple(size), mode="bilinear", align_corners=False)


def is_leres(names: Mapping[str, Tensor]) -> bool:
    """Return whether tensors, by name, are those of a released file."""
    return any(ENCODER in name for name in names) and any(f"{DECODER}ffm0.ftb1." in name for name in names)


def load_leres(tensors: Mapping[str, Tensor], path: object) -> LeReS:
    """Return the network of a released file, in evaluation mode.

    Args:
        tensors: Of the file, by name.
        path: Of the file, for messages.

    Raises:
        CheckpointError: It has other weights than the network.
    """
    state: dict[str, Tensor] = {}
    for part, name in ((ENCODER, "encoder."), (DECODER, "decoder.")):
        state |= {name + key.split(part, 1)[1]: value for key, value in tensors.items() if part in key}
    architecture = next((name for block, name in ENCODERS.items() if any(block in key for key in state)), "")
    if not architecture:
        raise CheckpointError(
            f"{path}: expected LeReS with {' or '.join(ENCODERS.values())}, found another encoder; give res50.pth or "
            "res101.pth"
        )
    with torch.device("meta"):
        model = LeReS(architecture)
    try:
        model.load_state_dict(state, assign=True)
    except RuntimeError as error:
        lines = " ".join(str(error).split())
        raise CheckpointError(
            f"{path}: expected the weights of LeReS with {architecture}, found others ({lines[:200]} …); download it "
            "again"
        ) from error
    return model.requires_grad_(False).eval()
