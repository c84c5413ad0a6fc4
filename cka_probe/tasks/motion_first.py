"""Motion before depth: the pose network alone, in a world that is equally far everywhere.

    L = photometric L_P,   D = `start` at every pixel

Depth and motion learn from one loss, and each needs the other. While motion is wrong the flattest depth explains a
video best, and a decoder that is driven there does not come back: at 64 pixels geometric pre-training from chance then
ends in a constant. A constant is a fair first depth for rooms, so motion is found with that first, at a third of the
cost of a step; `Geometric` goes on with the pose network. Published training starts the pose network from ImageNet and
takes a hundred thousand steps instead.

All maps count here and nothing is masked: where the better of two sources explains a pixel, either direction of the
motion will do, and neither is learnt.
"""

from dataclasses import dataclass

from torch import Generator, Tensor, nn

from cka_probe.models.backbone import Backbone
from cka_probe.tasks.geometric import Geometric, GeometricHead, mean_each
from cka_probe.tasks.reconstruction import Comparing, error_maps, reconstruct
from cka_probe.tasks.task import Sample


@dataclass(frozen=True)
class MotionFirst:
    """Explain each frame by the others, as if all were equally far. The encoder is handed on as it came.

    Attributes:
        size: Height and width of the network's input, pixels; multiples of 32, at least 64.
        window: Side of SSIM's window, pixels.
        least_valid: Share of the pixels that has to be valid for a loss other than 0.
        start: The depth of everything, in the network's own unit; the decoder, which nothing teaches yet, says it too.
        min_depth: Nearest depth that the decoder can say.
        max_depth: Farthest.
        crop: How much a side is cut at most, at least 1.
    """

    size: tuple[int, int]
    window: int = 7
    least_valid: float = 1e-3
    start: float = 0.2
    min_depth: float = 0.1
    max_depth: float = 100.0
    crop: float = 1.15

    def __post_init__(self):
        _ = self.geometric  # its checks are ours

    @property
    def needs(self) -> frozenset[str]:
        """Return the fields that are read."""
        return self.geometric.needs

    @property
    def geometric(self) -> Geometric:
        """Return what this goes before."""
        return Geometric(
            self.size, min_depth=self.min_depth, max_depth=self.max_depth, start=self.start, crop=self.crop
        )

    @property
    def comparing(self) -> Comparing:
        """Return how pictures are compared."""
        return Comparing(self.window, False, False, self.least_valid, flat=self.start)

    def head(self, backbone: Backbone) -> GeometricHead:
        """Return the networks of geometric pre-training."""
        return self.geometric.head(backbone)

    def prepare(self, sample: Sample, generator: Generator, train: bool) -> Sample:
        """Return what geometric pre-training would be shown."""
        return self.geometric.prepare(sample, generator, train)

    def loss(self, backbone: Backbone, head: nn.Module, batch: Sample) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the photometric loss; every weight has a gradient, that of encoder and decoder 0."""
        photometric = reconstruct(backbone, head, batch, self.comparing).photometric
        others = (*backbone.parameters(), *head.depth.parameters())
        # processes that share gradients wait for every weight
        return photometric + 0.0 * sum(weight.sum() for weight in others), {}

    def evaluate(self, backbone: Backbone, head: nn.Module, batch: Sample) -> dict[str, Tensor]:
        """Return per picture the photometric error."""
        found = error_maps(backbone, head, batch, self.comparing)
        return {"photometric": mean_each(found.error, found.valid)}
