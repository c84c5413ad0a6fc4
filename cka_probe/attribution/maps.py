"""What Grad-CAM gives: a map for each image, as it is computed and as it is shown."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import interpolate

from cka_probe.errors import DataError


@dataclass(frozen=True, eq=False)
class Maps:
    """Grad-CAM maps of a batch of images at one layer; all tensors are on the CPU.

    Attributes:
        layer: Dotted path of the layer in the encoder; `head.` before one of the head.
        target: What was scored, as it was asked for.
        signed: (n, h, w) float32, sum_c alpha_c A_c before the ReLU, at the layer's resolution. For the target `none`
            the root mean square of the activation over its channels.
        per_class: (n, K, h, w) float32, of the target `segmentation` alone: the map of each class's score, 0 for a
            class that is not predicted. Their sum over K is `signed`.
        scores: (n,) float32, the target's value; NaN for the target `none`.
        predictions: Of segmentation, labels (n, H, W) int64; of depth, depth (n, H, W) float32; of classification,
            classes (n,) int64; else `None`. H and W are those of what the network puts out.
        size: (height, width) of the images as the network saw them.
    """

    layer: str
    target: str
    signed: Tensor
    per_class: Tensor | None
    scores: Tensor
    predictions: Tensor | None
    size: tuple[int, int]

    @property
    def empty(self) -> Tensor:
        """(n,) bool: whether an image's map is nowhere positive, so that the ReLU leaves nothing of it.

        That is no fault: at this layer nothing speaks for the score more than against it, or nothing there reaches the
        score at all, as the cells of a vision transformer after its last attention, where the class token alone is
        read. Such a map is shown as 0.
        """
        return (self.signed <= 0).flatten(1).all(1)

    def shown(self, size: tuple[int, int] | None = None) -> Tensor:
        """Return the maps for the eye: ReLU, bilinear (corners not aligned), each from 0 to 1.

        Args:
            size: (height, width); by default that of the images.

        Returns:
            (n, H, W) float32 in [0, 1], least 0 and greatest 1 in each image. A map that is `empty`, or the same
            everywhere, is 0: nothing in it stands out.

        Raises:
            DataError: The size is none.
        """
        wanted = self.size if size is None else tuple(size)
        if len(wanted) != 2 or min(wanted) < 1:
            raise DataError(f"expected a size as (height, width) in pixels, found {size}")
        positive = self.signed.clamp_min(0)[:, None]
        return _stretched(interpolate(positive, wanted, mode="bilinear", align_corners=False)[:, 0])


ROUNDING = 1e-6
"""Share of a map's greatest value below which its differences are the interpolation's rounding."""


def _stretched(maps: Tensor) -> Tensor:
    """Return (n, H, W) maps from 0 to 1 each; 0 where a map is the same everywhere."""
    least, greatest = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    varies = greatest - least > ROUNDING * greatest
    return ((maps - least) / (greatest - least).where(varies, 1) * varies).clamp(0, 1)
