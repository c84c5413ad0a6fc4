"""Optical flow without labels: the position of each pixel of an image in another image of the same scene.

One encoder reads both images. Its maps of the two are concatenated at each stride, and a `SkipDecoder` for twice the
channels predicts the flow at strides s = 1, 2, 4 and 8, upsampled to full size,

    f_s = 0.4 (sigmoid(z_s) - 1/2)      as a share of the image's width and height: at most a fifth of them

The source, warped by the flow, has to look like the target:

    L = sum_s 1/s [ c mean |I - I_s| + t mean (1 - SSIM(I, I_s)) / 2 + l / 3 sum_(x, y) edge-aware |grad f_s| ]

with SSIM over 3 x 3 pixels. All pixels count, also those that the source does not show; beyond its border it is sampled
at the border. Means include the three colours. The released code sums over colours, and over the two directions of
flow; with the third before the smoothness, L is a third of its loss, and the weights have the same meaning.

Weights: c, t, l = 0.15, 0.85, 5. The paper's appendix has 0.15, 0.15, 5, where the second is probably a slip for 0.85;
its released script has 0.15, 0.85, 2, and starts from ImageNet weights. Only the encoder continues to another task, as
the decoder expects two images.

Lao, Yang, Wang, Park, Lu, Wong & Soatto, "On the Viability of Monocular Depth Pre-training for Semantic Segmentation",
ECCV 2024, appendix B.3; the decoder is that of Godard et al., ICCV 2019.
"""

from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from cka_probe.errors import DataError
from cka_probe.images.sample import Sample
from cka_probe.lab.geometry import warp_by_flow
from cka_probe.lab.losses import edge_aware_slope, ssim, valid_mean_each
from cka_probe.lab.tasks.decoders import Maps, SkipDecoder, at_full_size, at_scales, maps, output_layers
from cka_probe.lab.tasks.task import check_options, check_sides
from cka_probe.lab.transforms.augment import resize_or_crop
from cka_probe.models.backbone import Backbone

SPAN = 0.4
"""Range of the flow, from left to right or from up to down, as a share of the side."""

COLOURS = 3
"""Number of colours: the factor between the sums of the released code and means."""


class FlowHead(nn.Module):
    """The maps of two images -> flow from the first to the second.

    Args:
        maps: (channels, stride) of each map of one image, fine to coarse.
    """

    def __init__(self, maps: Maps):
        super().__init__()
        self.decoder = SkipDecoder([(2 * channels, stride) for channels, stride in maps])
        self.to_flow = output_layers(self.decoder, 2)

    def forward(self, target: list[Tensor], source: list[Tensor]) -> dict[int, Tensor]:
        """Return flow (n, 2, H, W) float32, shares of width and height, by stride, fine to coarse."""
        pairs = [torch.cat(pair, 1) for pair in zip(target, source, strict=True)]
        outputs = at_scales(self.to_flow, self.decoder(pairs))
        return at_full_size({stride: SPAN * (z.sigmoid() - 0.5) for stride, z in outputs.items()})


@dataclass(frozen=True)
class Flow:
    """Find each pixel of the target in the source.

    Attributes:
        size: Height and width of the network's input, pixels; multiples of 32, at least 64.
        colour: Weight c.
        structure: Weight t.
        smoothness: Weight l.
        window: Side of SSIM's window, pixels.
        source: Index of the sample's source, from 0.
        flip: Whether training views are mirrored one time in two.
        crop: Whether a view is a box of the image at its own resolution, instead of the whole image.
        truth: Whether the data has `flow` and `occluded`, which only evaluation then reads. They lead to the next
            frame, which has to be the source (`?sources=1`).
    """

    size: tuple[int, int]
    colour: float = 0.15
    structure: float = 0.85
    smoothness: float = 5.0
    window: int = 3
    source: int = 0
    flip: bool = True
    crop: bool = False
    truth: bool = False

    def __post_init__(self):
        check_sides("flow", self.size)
        weights = (self.colour, self.structure, self.smoothness)
        checks = [
            ("weights of 0 or more", weights, min(weights) >= 0),
            ("`colour` or `structure` above 0", weights[:2], max(weights[:2]) > 0),
            ("an odd `window`", self.window, self.window >= 1 and self.window % 2 == 1),
            ("`source` of 0 or more", self.source, self.source >= 0),
        ]
        check_options("flow", checks)

    @property
    def needs(self) -> frozenset[str]:
        """Return the fields that it reads."""
        return frozenset({"image", "sources"} | ({"flow", "occluded"} if self.truth else set()))

    def head(self, backbone: Backbone) -> FlowHead:
        """Return the decoder and its outputs."""
        return FlowHead(maps(backbone))

    def prepare(self, sample: Sample, generator: Generator, train: bool) -> Sample:
        """Return `image` (3, h, w), `sources` (1, 3, h, w), in [0, 1], and with `truth` the flow in the view's pixels.

        Raises:
            DataError: There is no such source, or the image is smaller than the crop.
        """
        fields = {name: sample[name] for name in self.needs}
        if len(fields["sources"]) <= self.source:
            raise DataError(
                f"flow: expected a source with the number {self.source}, found {len(fields['sources'])} sources; "
                "name them in the data, as in ?sources=1"
            )
        fields["sources"] = fields["sources"][self.source : self.source + 1]
        return resize_or_crop(fields, self.size, generator if train else None, crop=self.crop, mirror=self.flip)

    def loss(self, backbone: Backbone, head: FlowHead, batch: Sample) -> tuple[Tensor, dict[str, Tensor]]:
        """Return L and its three parts, without their weights."""
        image, source = batch["image"], batch["sources"][:, 0]
        parts = dict.fromkeys(("colour", "structure", "smoothness"), image.new_zeros(()))
        for stride, flow in self.flows(backbone, head, image, source).items():
            colour, structure = self.errors(image, source, in_pixels(flow))
            smooth = edge_aware_slope(flow, image, unit=1.0) / COLOURS
            for name, value in zip(parts, (colour.mean(), structure.mean(), smooth), strict=True):
                parts[name] = parts[name] + value / stride
        loss = sum(getattr(self, name) * part for name, part in parts.items())
        return loss, {name: part.detach() for name, part in parts.items()}

    def evaluate(self, backbone: Backbone, head: FlowHead, batch: Sample) -> dict[str, Tensor]:
        """Return the photometric error of each image's finest flow, c colour + t structure, and that of zero flow.

        With `truth` also the end-point errors of both in pixels of the network's input, over unoccluded pixels; NaN
        without any.
        """
        image, source = batch["image"], batch["sources"][:, 0]
        predicted = self.predict_pair(backbone, head, image, source)
        values = {}
        for name, flow in (("", predicted), ("_zero", torch.zeros_like(predicted))):
            colour, structure = self.errors(image, source, flow)
            values[f"photometric{name}"] = (self.colour * colour + self.structure * structure).mean((1, 2, 3))
            if self.truth:
                values[f"epe{name}"] = end_point_error(flow, batch["flow"], batch["occluded"])
        return values

    def predict_pair(self, backbone: Backbone, head: FlowHead, images: Tensor, sources: Tensor) -> Tensor:
        """Return flow from images (n, 3, h, w) in [0, 1] to others, (n, 2, h, w) float32 pixels right and down."""
        return in_pixels(self.flows(backbone, head, images, sources)[1])

    def flows(self, backbone: Backbone, head: FlowHead, images: Tensor, sources: Tensor) -> dict[int, Tensor]:
        """Return flow (n, 2, h, w) float32, shares of width and height, by stride, fine to coarse."""
        # in one pass, so that batch norms treat both images alike
        both = [feature_map.chunk(2) for feature_map in backbone.pyramid(torch.cat([images, sources]))]
        return head([target for target, _ in both], [source for _, source in both])

    def errors(self, image: Tensor, source: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
        """Return the errors between images and their sources, warped by flow: in colour and in structure.

        Args:
            image: (n, 3, h, w) float in [0, 1].
            source: The same.
            flow: (n, 2, h, w), pixels right and down from image to source.

        Returns:
            (n, 3, h, w) each, in [0, 1].
        """
        warped, _ = warp_by_flow(source, flow)
        return (image - warped).abs(), (1 - ssim(image, warped, self.window)) / 2


def in_pixels(flow: Tensor) -> Tensor:
    """Return flow (n, 2, h, w) in pixels, from shares of width and height."""
    height, width = flow.shape[-2:]
    return flow * flow.new_tensor([width, height]).view(2, 1, 1)


def end_point_error(flow: Tensor, truth: Tensor, occluded: Tensor) -> Tensor:
    """Return the mean length of the difference between flow and ground truth.

    Args:
        flow: (n, 2, h, w), pixels.
        truth: The same; NaN = unknown.
        occluded: (n, 1, h, w) bool; these pixels are ignored.

    Returns:
        (n,) pixels; NaN where no pixel is left.
    """
    counts = truth.isfinite().all(1, keepdim=True) & ~occluded
    return valid_mean_each((flow - truth).norm(dim=1, keepdim=True), counts)
