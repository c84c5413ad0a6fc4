"""Depth by way of disparity: the heads of Monodepth2 and of SC-Depth, and Monodepth2's published decoder.

Both predict a sigma in (0, 1), a share of the range of inverse depths,

    1 / depth = 1 / max_depth + (1 / min_depth - 1 / max_depth) sigma

`DisparityHead` is that of Monodepth2, with sigma at strides 1, 2, 4 and 8. A coarse sigma is upsampled bilinearly
before it is read as depth, so that every scale has to explain the image at full size: compared at its own size, a
coarse one would copy texture into depth. The tasks `monodepth` and `lidar` use the same names in it, so that one can
continue with the other's weights. `DisparityDecoder`, that of SC-Depth, gives depth at stride 1 alone.

Godard, Mac Aodha, Firman & Brostow, "Digging into Self-Supervised Monocular Depth Estimation", ICCV 2019; Bian et al.,
"Auto-Rectify Network for Unsupervised Indoor Depth Estimation", TPAMI 2022.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from cka_probe.errors import CheckpointError, RecipeError
from cka_probe.lab.tasks.decoders import (
    SCALES,
    WIDTHS,
    Maps,
    PyramidDecoder,
    SkipDecoder,
    at_scales,
    check_sides,
    output_layers,
    reflect_convolution,
    skip_maps,
)
from cka_probe.models.backbone import Backbone
from cka_probe.models.checkpoints.reading import read_contents


@dataclass(frozen=True)
class DepthRange:
    """The depths that can be said, in any unit.

    Attributes:
        nearest: Where sigma is 1; above 0.
        farthest: Where sigma is 0.
    """

    nearest: float
    farthest: float

    def depth(self, sigma: Tensor) -> Tensor:
        """Return the depth of sigmas in [0, 1], any shape.

        >>> import torch
        >>> DepthRange(0.1, 100.0).depth(torch.tensor([0.0, 0.5, 1.0]))
        tensor([100.0000,   0.1998,   0.1000])
        """
        far, near = 1 / self.farthest, 1 / self.nearest
        return 1 / (far + (near - far) * sigma)

    def sigma(self, depth: float) -> float:
        """Return the sigma of a depth between the two."""
        far, near = 1 / self.farthest, 1 / self.nearest
        return (1 / depth - far) / (near - far)

    def check(self, task: str, start: float, unit: str) -> None:
        """Check the range, and that it holds the depth that is begun with, 0 for wherever chance begins.

        Raises:
            RecipeError: It does not.
        """
        if not 0 < self.nearest < self.farthest:
            raise RecipeError(
                f"{task}: expected 0 < min_depth < max_depth, in {unit}, found {self.nearest} and {self.farthest}"
            )
        if start and not self.nearest < start < self.farthest:
            raise RecipeError(
                f"{task}: expected `start` between {self.nearest} and {self.farthest}, in {unit}, or 0 for what "
                f"untrained weights say, found {start}"
            )


class DisparityHead(nn.Module):
    """The maps of a pyramid -> sigma at each scale.

    Args:
        maps: (channels, stride) of each map, fine to coarse.
        scales: How many outputs, from the finest on; at most four.
        pose: From two images to how the camera moved, where that is learnt too.

    Attributes:
        decoder: Up to features at every scale.
        to_disparity: From there to one channel each, by stride.
        pose: As given.
    """

    def __init__(self, maps: Maps, scales: int = 4, pose: nn.Module | None = None):
        super().__init__()
        self.decoder = SkipDecoder(maps)
        self.to_disparity = output_layers(self.decoder, 1, SCALES[:scales])
        self.pose = pose

    def forward(self, pyramid: Sequence[Tensor]) -> dict[int, Tensor]:
        """Return sigma (n, 1, H / stride, W / stride) float32 in (0, 1) by stride, fine to coarse."""
        values = at_scales(self.to_disparity, self.decoder(pyramid))
        return {stride: value.sigmoid() for stride, value in values.items()}

    def begin_at(self, sigma: float) -> None:
        """Let untrained weights say about this sigma, in (0, 1), at every pixel and scale."""
        for layer in self.to_disparity.values():
            _start_at(layer, sigma)


class DisparityDecoder(PyramidDecoder):
    """The maps of a pyramid -> (n, 1, H, W) depth in (min_depth, max_depth), up to scale: DispNet's decoder.

    Unlike `SkipDecoder` it upsamples bilinearly; it has one output. Untrained weights predict the
    depth `start`: 0.2 is of the order of the motion that an untrained `PoseNet` predicts. An image moves by
    translation over depth, so if one of the two starts far off, the other cannot compensate. While the translation is
    still too small, all depths may shrink instead: in a trial they reached a `min_depth` of 0.1, the original's, within
    fifty steps. A smaller `min_depth` leaves room for that. The coarser outputs of the original are left out, as its
    loss never reads them.

    Zhou et al., CVPR 2017; Godard et al., ICCV 2019; as in Bian et al., "SC-DepthV2", TPAMI 2022.

    Args:
        maps: (channels, stride) of each map, fine to coarse; strides out of 2, 4, 8, 16 and 32, the last 32.
        min_depth: Nearest depth, in the decoder's own unit.
        max_depth: Farthest depth.
        start: Depth that untrained weights predict, between the two.
    """

    def __init__(self, maps: Maps, min_depth: float = 0.1, max_depth: float = 100.0, start: float = 0.2):
        super().__init__(maps, "bilinear")
        self.range = DepthRange(min_depth, max_depth)
        self.to_disparity = reflect_convolution(self.channels[1], 1)
        _start_at(self.to_disparity, self.range.sigma(start))

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """Return depth, (n, 1, H, W) float32, of maps (n, C, H / stride, W / stride), H and W at least 64."""
        return self.range.depth(self.to_disparity(self.features(pyramid)[1]).float().sigmoid())


def disparity_head(
    backbone: Backbone, task: str, scales: int, pose: nn.Module | None = None, sigma: float = 0.0
) -> DisparityHead:
    """Return a head for a backbone.

    Args:
        backbone: With maps at strides out of 2, 4, 8, 16 and 32.
        task: For messages.
        scales: See `DisparityHead`.
        pose: Likewise.
        sigma: To begin at; 0 leaves that to chance.

    Raises:
        RecipeError: The backbone has no such maps.
    """
    head = DisparityHead(skip_maps(backbone, task), scales, pose)
    if sigma:
        head.begin_at(sigma)
    return head


def check_shape(task: str, size: tuple[int, int], scales: int) -> None:
    """Check what the decoder asks of a task's options.

    Raises:
        RecipeError: The size does not fit, or there are no such scales.
    """
    check_sides(size, task)
    if not 1 <= scales <= len(SCALES):
        raise RecipeError(f"{task}: expected `scales` from 1 to {len(SCALES)}, found {scales}")


def _start_at(layer: nn.Module, sigma: float) -> None:
    """Set a layer's bias to the logit of a sigma."""
    nn.init.constant_(layer.get_parameter("bias"), math.log(sigma / (1 - sigma)))


DEPTH_FILE = "depth.pth"


def _layer_names() -> dict[str, str]:
    """Return the name of every layer in `DisparityHead` by its name in Monodepth2's file.

    The file keeps its layers in one list: two convolutions for each of five strides, coarse to fine, then one output
    for each of four scales, fine to coarse. Both networks compute the same.
    """
    names = {}
    for position, stride in enumerate(WIDTHS):
        names[f"decoder.{2 * position}.conv.conv"] = f"decoder.narrowing.{stride}"
        names[f"decoder.{2 * position + 1}.conv.conv"] = f"decoder.joining.{stride}"
    for position, stride in enumerate(SCALES, start=2 * len(WIDTHS)):
        names[f"decoder.{position}.conv"] = f"to_disparity.{stride}"
    return names


NAMES = {f"{old}.{part}": f"{new}.{part}" for old, new in _layer_names().items() for part in ("weight", "bias")}
"""The 28 tensors: the name in `DisparityHead` by the name in the file."""


def read_monodepth2_decoder(path: str | Path) -> dict[str, Tensor]:
    """Return the weights of a Monodepth2 decoder under the names of `DisparityHead`, float32.

    Args:
        path: `depth.pth`, or the folder it lies in.

    Returns:
        Names beginning with `decoder.` and `to_disparity.`; which widths the encoder's maps must have, the shapes
        of `decoder.` say.

    Raises:
        CheckpointError: It cannot be read, or holds other tensors.
    """
    file = Path(path) / DEPTH_FILE if Path(path).is_dir() else Path(path)
    tensors = read_contents(file).tensors
    if tensors.keys() != NAMES.keys():
        missing, more = (sorted(a - b) for a, b in ((NAMES.keys(), tensors.keys()), (tensors.keys(), NAMES.keys())))
        found = [
            f"{len(names)} {what}, the first is {names[0]}"
            for names, what in ((missing, "missing"), (more, "more"))
            if names
        ]
        raise CheckpointError(
            f"{file}: expected the {len(NAMES)} tensors of Monodepth2's depth decoder, found {'; '.join(found)}; give "
            "the folder as it was published, or encoder.pth alone"
        )
    return {NAMES[name]: tensor.float() for name, tensor in tensors.items()}
