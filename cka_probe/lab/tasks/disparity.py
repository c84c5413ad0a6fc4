"""Depth by way of disparity: the heads of Monodepth2 and of SC-Depth, and Monodepth2's published decoder.

Both predict a sigma in (0, 1), a share of the range of inverse depths,

    1 / depth = 1 / max_depth + (1 / min_depth - 1 / max_depth) sigma

`DisparityHead` is that of Monodepth2, with sigma at strides 1, 2, 4 and 8. A coarse sigma is upsampled bilinearly
before it is converted to depth, so that every scale has to explain the image at full size: compared at its own size, a
coarse one would copy texture into depth. The tasks `monodepth` and `lidar` share its names, so that one can continue
with the other's weights. `DisparityDecoder`, that of SC-Depth, predicts depth at stride 1 only.

Godard, Mac Aodha, Firman & Brostow, "Digging into Self-Supervised Monocular Depth Estimation", ICCV 2019; Bian et al.,
"Auto-Rectify Network for Unsupervised Indoor Depth Estimation", TPAMI 2022.

`PoseNet` predicts the motion of the camera between two images: a ResNet-18 on both at once, six numbers out.

    (tx, ty, tz, rx, ry, rz) = 0.01 * mean over the image of a map with six channels
    source_T_target = [Rx(rx) Ry(ry) Rz(rz) | t],  radians; t in the unit of the depth it goes with

The factor 0.01 makes the first prediction a small motion, which fits the small first depth of `DisparityDecoder`. The
rectify network has the same architecture: images of half the size, three angles, no factor. Monodepth2 takes the last
three numbers as a rotation vector (`axis_angle_matrix`).

Zhou et al., CVPR 2017; Godard et al., ICCV 2019; Bian et al., "SC-DepthV2", TPAMI 2022.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d
from torchvision.transforms.v2.functional import normalize

from cka_probe.errors import CheckpointError
from cka_probe.lab.tasks.decoders import (
    SCALES,
    WIDTHS,
    Maps,
    SkipDecoder,
    at_scales,
    maps,
    output_layers,
    reflect_convolution,
)
from cka_probe.lab.tasks.task import check_options, check_sides
from cka_probe.models.backbone import NORMALISATIONS, Backbone
from cka_probe.models.checkpoints.reading import read_contents
from cka_probe.models.load import load


@dataclass(frozen=True)
class DepthRange:
    """The range of depths that a decoder can predict, in any unit.

    Attributes:
        nearest: Depth where sigma is 1; above 0.
        farthest: Depth where sigma is 0.
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
        """Return the sigma of a depth in the range."""
        far, near = 1 / self.farthest, 1 / self.nearest
        return (1 / depth - far) / (near - far)


class DisparityHead(nn.Module):
    """The maps of a pyramid -> sigma at each scale.

    Args:
        maps: (channels, stride) of each map, fine to coarse.
        scales: Number of outputs, from the finest on; at most four.
        pose: From two images to the motion of the camera, where that is learned too.
        start: Sigma that untrained weights predict, in (0, 1); 0 keeps their random prediction.

    Attributes:
        decoder: Features at every scale.
        to_disparity: From features to one channel, by stride.
    """

    def __init__(self, maps: Maps, scales: int = 4, pose: nn.Module | None = None, start: float = 0.0):
        super().__init__()
        self.decoder = SkipDecoder(maps)
        self.to_disparity = output_layers(self.decoder, 1, SCALES[:scales])
        self.pose = pose
        if start:
            for layer in self.to_disparity.values():
                _start_at(layer, start)

    def forward(self, pyramid: Sequence[Tensor]) -> dict[int, Tensor]:
        """Return sigma (n, 1, H / stride, W / stride) float32 in (0, 1) by stride, fine to coarse."""
        values = at_scales(self.to_disparity, self.decoder(pyramid))
        return {stride: value.sigmoid() for stride, value in values.items()}


@dataclass(frozen=True)
class DisparityTask:
    """Options and head that `Lidar` and `Monodepth` share.

    Attributes:
        size: Height and width of the network's input, pixels; multiples of 32, at least 64.
        min_depth: Nearest depth that can be predicted, in metres or, from video, in the network's own unit.
        max_depth: Farthest.
        scales: Number of scales to train, from the finest on.
        start: Depth that untrained weights predict; 0 keeps their random prediction, about 0.2 with Monodepth2's range.
        crop: Show random boxes of the network's size at the image's own resolution, instead of whole images.
        flip: Whether one view in two is mirrored.
    """

    name: ClassVar[str]
    unit_of_depth: ClassVar[str]
    carries: ClassVar[tuple[str, ...]] = ("decoder.", "to_disparity.")

    size: tuple[int, int]
    min_depth: float = 0.1
    max_depth: float = 100.0
    scales: int = 4
    start: float = 0.0
    crop: bool = False
    flip: bool = True

    def __post_init__(self):
        check_sides(self.name, self.size)
        near, far, unit = self.min_depth, self.max_depth, self.unit_of_depth
        checks = [
            (f"`scales` from 1 to {len(SCALES)}", self.scales, 1 <= self.scales <= len(SCALES)),
            (f"0 < min_depth < max_depth, in {unit}", f"{near} and {far}", 0 < near < far),
            (
                f"`start` between {near} and {far}, in {unit}, or 0 for the prediction of untrained weights",
                self.start,
                not self.start or near < self.start < far,
            ),
        ]
        check_options(self.name, checks)

    @property
    def range(self) -> DepthRange:
        """Return the depths that can be predicted."""
        return DepthRange(self.min_depth, self.max_depth)

    def head(self, backbone: Backbone) -> DisparityHead:
        """Return decoder, output layers and, if poses are learned, the pose network."""
        start = self.range.sigma(self.start) if self.start else 0.0
        return DisparityHead(maps(backbone), self.scales, self.pose_network(), start)

    def pose_network(self) -> nn.Module | None:
        """Return the pose network; `None` where no poses are learned."""
        return None


class DisparityDecoder(SkipDecoder):
    """The maps of a pyramid -> (n, 1, H, W) depth in (min_depth, max_depth), up to scale: DispNet's decoder.

    In contrast to `SkipDecoder` it upsamples bilinearly and has one output. Untrained weights predict the depth
    `start`; 0.2 is of the order of the motion that an untrained `PoseNet` predicts. An image moves by translation over
    depth: if one of the two starts far off, the other cannot compensate. While the translation is still too small, all
    depths may shrink instead: in a trial they reached a `min_depth` of 0.1, the original's, within fifty steps. A
    smaller `min_depth` leaves room for that. The coarser outputs of the original are omitted, as its loss never reads
    them.

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

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:  # type: ignore[override]
        """Return depth, (n, 1, H, W) float32, of maps (n, C, H / stride, W / stride), H and W at least 64."""
        return self.range.depth(self.to_disparity(super().forward(pyramid)[1]).float().sigmoid())


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
        Tensors named `decoder.…` and `to_disparity.…`; the shapes of `decoder.…` follow from the widths of the
        encoder's maps.

    Raises:
        CheckpointError: The file cannot be read, or contains other tensors.
    """
    file = Path(path) / DEPTH_FILE if Path(path).is_dir() else Path(path)
    tensors = read_contents(file).tensors
    missing, unexpected = sorted(NAMES.keys() - tensors.keys()), sorted(tensors.keys() - NAMES.keys())
    if missing or unexpected:
        counts = ((missing, "missing"), (unexpected, "unexpected"))
        difference = [f"{len(names)} {what}, the first is {names[0]}" for names, what in counts if names]
        raise CheckpointError(
            f"{file}: expected the {len(NAMES)} tensors of Monodepth2's depth decoder, found {'; '.join(difference)}; "
            "give the folder as it was published, or encoder.pth alone"
        )
    return {NAMES[name]: tensor.float() for name, tensor in tensors.items()}


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


def published_trunks(reference: str, networks: Iterable[str]) -> dict[str, Tensor]:
    """Return weights that pose networks can begin with: those of a ResNet-18 that was trained on single images.

    As in Monodepth2, the first convolution has the weights of each color for both images, halved, so that two equal
    images give what one gave.

    Args:
        reference: Of a ResNet-18, as `load` takes it: a file, `timm:resnet18.tv_in1k`; "" for none.
        networks: Names of pose networks in a head.

    Returns:
        Tensors by their name in the head, float32; {} without a reference.

    Raises:
        CheckpointError: It cannot be loaded, or is another network.
    """
    if not reference:
        return {}
    weights = load(reference, arch="resnet18").model.state_dict()
    with torch.device("meta"):
        trunk = PoseNet().trunk.state_dict()
    first = weights.get("conv1.weight", torch.empty(0))
    weights["conv1.weight"] = torch.cat([first, first], 1) / 2 if first.ndim == 4 else first
    if wrong := [name for name in trunk if name not in weights or weights[name].shape != trunk[name].shape]:
        raise CheckpointError(
            f"pose_weights: expected a ResNet-18 of 3 channels, found other weights of {wrong[0]} in {reference}; give "
            "a file of one, or timm:resnet18.tv_in1k"
        )
    return {f"{network}.trunk.{name}": weights[name] for network in networks for name in trunk}
