"""Inpainting: predict the whole image from one with many small holes.

Each pixel is a seed with probability d, drawn for every image from [0.001, 0.01]; a square of 7 x 7 pixels around each
seed is black in the encoder's input. Seeds lie up to half a square beyond the border too, so that each pixel, at the
border or not, is hidden with the same probability

    1 - (1 - d)^49      0.048 for d = 0.001, 0.39 for d = 0.01

The paper calls this masked autoencoding for ResNets; SimMIM and MAE hide 0.6 and 0.75, in cells (see `tasks.masked`).
A `SkipDecoder` predicts the image x_s at strides s = 1, 2, 4 and 8, between 0 and 1, upsampled to full size:

    L = sum_s w_s mean |x - x_s|,      w_s = 1 / s

over all pixels, hidden or not. The released code has w_s = (s / 8)^2, which weights the coarsest output 64 times as
much as the finest; `weighting = "coarse"` reproduces it.

Lao, Yang, Wang, Park, Lu, Wong & Soatto, "On the Viability of Monocular Depth Pre-training for Semantic Segmentation",
ECCV 2024; the holes are those of its released code. After Pathak, Krähenbühl, Donahue, Darrell & Efros, "Context
Encoders: Feature Learning by Inpainting", CVPR 2016.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.nn.functional import max_pool2d

from cka_probe.images.sample import Sample
from cka_probe.lab.losses import valid_mean_each
from cka_probe.lab.tasks.decoders import SCALES, Maps, SkipDecoder, at_full_size, at_scales, maps, output_layers
from cka_probe.lab.tasks.task import check_options, check_sides
from cka_probe.lab.transforms import uniform
from cka_probe.lab.transforms.augment import resize_or_crop
from cka_probe.models.backbone import Backbone

WEIGHTINGS = {
    "fine": {stride: 1 / stride for stride in SCALES},
    "coarse": {stride: (stride / SCALES[-1]) ** 2 for stride in SCALES},
}
"""Weight of each output, by stride: as in Monodepth2, and as in the released code."""


class InpaintingHead(nn.Module):
    """The maps of an image -> the whole image.

    Args:
        maps: (channels, stride) of each map, fine to coarse.
    """

    def __init__(self, maps: Maps):
        super().__init__()
        self.decoder = SkipDecoder(maps)
        self.to_colours = output_layers(self.decoder, 3)

    def forward(self, pyramid: Sequence[Tensor]) -> dict[int, Tensor]:
        """Return images (n, 3, H, W) float32 in (0, 1) by stride, fine to coarse."""
        outputs = at_scales(self.to_colours, self.decoder(pyramid))
        return at_full_size({stride: z.sigmoid() for stride, z in outputs.items()})


@dataclass(frozen=True)
class Inpainting:
    """Predict the whole image from one with holes.

    Attributes:
        size: Height and width of the network's input, pixels; multiples of 32, at least 64.
        density: Least and most share of seeds among the pixels.
        hole: Odd side of the square around a seed, pixels.
        weighting: In `WEIGHTINGS`.
        flip: Whether training views are mirrored one time in two.
        crop: Whether a view is a box of the image at its own resolution, instead of the whole image.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"image"})

    size: tuple[int, int]
    density: tuple[float, float] = (0.001, 0.01)
    hole: int = 7
    weighting: str = "fine"
    flip: bool = True
    crop: bool = False

    def __post_init__(self):
        check_sides("inpainting", self.size)
        least, most = self.density
        checks = [
            ("`density` = [least, most] in (0, 1)", list(self.density), 0 < least <= most < 1),
            ("an odd `hole`", self.hole, self.hole >= 1 and self.hole % 2 == 1),
            (f"`weighting` {' or '.join(WEIGHTINGS)}", self.weighting, self.weighting in WEIGHTINGS),
        ]
        check_options("inpainting", checks)

    def head(self, backbone: Backbone) -> InpaintingHead:
        """Return the decoder and its outputs."""
        return InpaintingHead(maps(backbone))

    def prepare(self, sample: Sample, generator: Generator, train: bool) -> Sample:
        """Return `image` (3, h, w) float32 in [0, 1], whole, and `mask` (1, h, w) bool, True = hidden.

        Raises:
            DataError: The image is smaller than the crop.
        """
        image = {"image": sample["image"]}
        view = resize_or_crop(image, self.size, generator if train else None, crop=self.crop, mirror=self.flip)
        return view | {"mask": self.draw_mask(generator)}

    def draw_mask(self, generator: Generator) -> Tensor:
        """Return which pixels are hidden, (1, h, w) bool."""
        density = uniform(generator, *self.density)
        height, width = (side + self.hole - 1 for side in self.size)
        seeds = torch.rand(1, height, width, generator=generator) < density
        return max_pool2d(seeds.float(), self.hole, stride=1) > 0

    def loss(self, backbone: Backbone, head: InpaintingHead, batch: Sample) -> tuple[Tensor, dict[str, Tensor]]:
        """Return L and, as its part, the mean absolute error of the finest output."""
        images, weights = batch["image"], WEIGHTINGS[self.weighting]
        outputs = self.outputs(backbone, head, batch)
        errors = {stride: (images - output).abs().mean() for stride, output in outputs.items()}
        loss = sum((weights[stride] * error for stride, error in errors.items()), start=images.new_zeros(()))
        return loss, {"finest": errors[1].detach()}

    def evaluate(self, backbone: Backbone, head: InpaintingHead, batch: Sample) -> dict[str, Tensor]:
        """Return the mean absolute error in each image's holes, that of its mean visible colour, and that outside.

        In units of an image in [0, 1]; NaN where there are no such pixels.
        """
        images, hidden = batch["image"], batch["mask"].expand_as(batch["image"])
        visible = ~hidden
        mean = (images * visible).sum((-2, -1), keepdim=True) / visible.sum((-2, -1), keepdim=True).clamp(min=1)
        error = (images - self.reconstruct(backbone, head, batch)).abs()
        return {
            "reconstruction": valid_mean_each(error, hidden),
            "mean_colour": valid_mean_each((images - mean).abs(), hidden),
            "visible": valid_mean_each(error, visible),
        }

    def reconstruct(self, backbone: Backbone, head: InpaintingHead, batch: Sample) -> Tensor:
        """Return the images as reconstructed by the model, (n, 3, h, w) float32 in (0, 1)."""
        return self.outputs(backbone, head, batch)[1]

    def outputs(self, backbone: Backbone, head: InpaintingHead, batch: Sample) -> dict[int, Tensor]:
        """Return images (n, 3, h, w) float32 in (0, 1) by stride, fine to coarse."""
        # black before the encoder's own normalisation, as 0 in [0, 1]
        return head(backbone.pyramid(batch["image"].masked_fill(batch["mask"], 0.0)))
