"""Monodepth2's head: a share sigma in (0, 1) of the inverse depth that can be said, at strides 1, 2, 4 and 8.

    1 / depth = 1 / max_depth + (1 / min_depth - 1 / max_depth) sigma

A coarse sigma is laid bilinearly over the whole image before it is read as depth, so that every scale has to
explain the image at its full size: a coarse one that was compared at its own would copy texture into depth.
Both tasks that learn depth with this head (`monodepth`, `lidar`) keep it under the same names, so that one can go on
where another stopped.

Godard, Mac Aodha, Firman & Brostow, "Digging into Self-Supervised Monocular Depth Estimation", ICCV 2019.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from cka_probe.errors import RecipeError
from cka_probe.lab.tasks.skip_decoder import SCALES, SkipDecoder, at_scales, check_sides, output_layers, skip_maps
from cka_probe.models.backbone import Backbone


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
        found: (channels, stride) of each map, fine to coarse.
        scales: How many outputs, from the finest on; at most four.
        pose: From two images to how the camera moved, where that is learnt too.

    Attributes:
        decoder: Up to features at every scale.
        to_disparity: From there to one channel each, by stride.
        pose: As given.
    """

    def __init__(self, found: Sequence[tuple[int, int]], scales: int = 4, pose: nn.Module | None = None):
        super().__init__()
        self.decoder = SkipDecoder(found)
        self.to_disparity = output_layers(self.decoder, 1, SCALES[:scales])
        self.pose = pose

    def forward(self, pyramid: Sequence[Tensor]) -> dict[int, Tensor]:
        """Return sigma (n, 1, H / stride, W / stride) float32 in (0, 1) by stride, fine to coarse."""
        values = at_scales(self.to_disparity, self.decoder(pyramid))
        return {stride: value.sigmoid() for stride, value in values.items()}

    def begin_at(self, sigma: float) -> None:
        """Let untrained weights say about this sigma, in (0, 1), at every pixel and scale."""
        for layer in self.to_disparity.values():
            nn.init.constant_(layer.bias, math.log(sigma / (1 - sigma)))


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
