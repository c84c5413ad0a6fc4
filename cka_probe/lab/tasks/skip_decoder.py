"""From the feature maps of a backbone to an image-like output at full size: the decoder of Monodepth2.

From the coarsest map up, at each of five strides: a convolution, twice the size by repeating, the backbone's map of
that stride laid beside it where there is one (a Swin has none at stride 2), a convolution. Convolutions are 3 x 3,
mirror at the border and end in ELU; there is no batch norm. What comes out at strides 8, 4, 2 and 1 are features;
what they mean (disparity, flow, colours, classes) is said by one more convolution each, `output_layers`, which belongs
to the task. So that a task can take over this part from another, every head keeps it under the name `decoder`.

Godard, Mac Aodha, Firman & Brostow, "Digging into Self-Supervised Monocular Depth Estimation", ICCV 2019.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import elu, interpolate

from cka_probe.errors import RecipeError
from cka_probe.lab.tasks.decoders import maps
from cka_probe.models.backbone import Backbone

WIDTHS = {32: 256, 16: 128, 8: 64, 4: 32, 2: 16}
"""Channels after leaving each stride."""

SCALES = (1, 2, 4, 8)
"""Strides of the outputs, fine to coarse."""


class SkipDecoder(nn.Module):
    """The maps of a pyramid -> features at strides 1, 2, 4 and 8, with 16, 32, 64 and 128 channels.

    Args:
        maps: (channels, stride) of each map, fine to coarse; strides out of 2, 4, 8, 16 and 32, the last 32.

    Attributes:
        channels: Of each output, by stride.
    """

    def __init__(self, maps: Sequence[tuple[int, int]]):
        super().__init__()
        self.strides = tuple(stride for _, stride in maps)
        self.channels = {stride // 2: width for stride, width in WIDTHS.items() if stride // 2 in SCALES}
        beside = {stride: channels for channels, stride in maps}
        before = beside[32]
        self.narrowing, self.joining = nn.ModuleDict(), nn.ModuleDict()
        for stride, width in WIDTHS.items():
            self.narrowing[str(stride)] = mirrored_convolution(before, width)
            self.joining[str(stride)] = mirrored_convolution(width + beside.get(stride // 2, 0), width)
            before = width

    def forward(self, pyramid: Sequence[Tensor]) -> dict[int, Tensor]:
        """Return features (n, channels, H / stride, W / stride) by stride, fine to coarse.

        Args:
            pyramid: Maps (n, C, H / stride, W / stride), fine to coarse; H and W multiples of 32, at least 64.
        """
        beside = dict(zip(self.strides, pyramid, strict=True))
        x, outputs = beside[32], {}
        for stride in WIDTHS:
            x = interpolate(elu(self.narrowing[str(stride)](x)), scale_factor=2, mode="nearest")
            if stride // 2 in beside:
                x = torch.cat([x, beside[stride // 2]], 1)
            x = elu(self.joining[str(stride)](x))
            if stride // 2 in SCALES:
                outputs[stride // 2] = x
        return dict(reversed(outputs.items()))


def output_layers(decoder: SkipDecoder, outputs: int, scales: Sequence[int] = SCALES) -> nn.ModuleDict:
    """Return a convolution from the decoder's features to `outputs` channels for each of some scales, by stride."""
    return nn.ModuleDict({str(stride): mirrored_convolution(decoder.channels[stride], outputs) for stride in scales})


def at_scales(layers: nn.ModuleDict, features: dict[int, Tensor]) -> dict[int, Tensor]:
    """Return what `output_layers` make of the decoder's features, float32, by stride, fine to coarse."""
    return {int(stride): layer(features[int(stride)]).float() for stride, layer in layers.items()}


def at_full_size(outputs: dict[int, Tensor]) -> dict[int, Tensor]:
    """Return outputs (n, C, H / stride, W / stride) of each stride between their pixels, (n, C, H, W), by stride."""
    return {
        stride: output
        if stride == 1
        else interpolate(output, scale_factor=stride, mode="bilinear", align_corners=False)
        for stride, output in outputs.items()
    }


def check_sides(size: tuple[int, int], task: str) -> None:
    """Check that a network's input is one whose maps `SkipDecoder` can read.

    Args:
        size: Height and width of the input, pixels.
        task: What messages call the task.

    Raises:
        RecipeError: A side is no multiple of 32, or below 64.
    """
    if any(side < 64 or side % 32 for side in size):
        raise RecipeError(f"{task}: expected sides that are multiples of 32, at least 64, found {size[0]} x {size[1]}")


def skip_maps(backbone: Backbone, task: str) -> list[tuple[int, int]]:
    """Return (channels, stride) of each map of an encoder that `SkipDecoder` can read.

    Args:
        backbone: The encoder.
        task: What messages call the task.

    Raises:
        RecipeError: The encoder has no such maps.
    """
    found = maps(backbone)
    check_maps(found, task)
    return found


def check_maps(found: Sequence[tuple[int, int]], task: str) -> None:
    """Raise unless `SkipDecoder` can read maps of these (channels, stride); arguments and errors as of `skip_maps`."""
    strides = [stride for _, stride in found]
    if strides[-1] != 32 or len(set(strides)) < len(strides) or not set(strides) <= WIDTHS.keys():
        raise RecipeError(
            f"{task}: expected an encoder with maps at strides out of {', '.join(map(str, sorted(WIDTHS)))}, each once "
            f"and the last 32, found {strides}; train a Swin, or a ResNet of output_stride=32"
        )


def mirrored_convolution(before: int, after: int) -> nn.Conv2d:
    """Return a 3 x 3 convolution that mirrors at the border: zeros there would be read as a place of their own."""
    return nn.Conv2d(before, after, 3, padding=1, padding_mode="reflect")
