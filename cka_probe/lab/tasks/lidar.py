"""Depth from measured depth, as the supervised arm of Depth-to-Semantic has it: absolute error in metres.

    L = sum_s 1/s mean_{valid u} | D_s(u) - min(z(u), max_depth) |,    s = 1, 2, 4, 8

D_s is the depth of stride s laid over the whole image, z what was measured: dense or sparse, 0 where nothing was
(equation 14 of Lao et al., with the decoder and the scales of Monodepth2). What was measured farther than
`max_depth` counts as that far, as in the released code, which also divides by all pixels, measured or not: then a
image with few points counts little. `divide_by = "all"` does that.

Everything in an image is seen at one focal length and known in metres, so a view is the whole image or, with
`crop`, a box that is not scaled.

Lao et al., "On the Viability of Monocular Depth Pre-training for Semantic Segmentation", ECCV 2024.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Generator, Tensor

from cka_probe.errors import RecipeError
from cka_probe.images.sample import Sample
from cka_probe.lab.evaluation.depth import errors_with_constant_baseline
from cka_probe.lab.losses import masked_l1
from cka_probe.lab.tasks.augment import jitter_colors, resize_or_crop
from cka_probe.lab.tasks.decoders import at_full_size
from cka_probe.lab.tasks.disparity import DepthRange, DisparityHead, check_shape, disparity_head
from cka_probe.models.backbone import Backbone

DIVISORS = ("valid", "all")


@dataclass(frozen=True)
class Lidar:
    """Predict metres.

    Attributes:
        size: Height and width of the network's input, pixels; multiples of 32, at least 64.
        min_depth: Nearest depth that can be said, metres.
        max_depth: Farthest, and what farther measurements count as.
        scales: How many are trained, from the finest on.
        divide_by: Pixels that the error is a mean over: those of the batch that were measured, "valid", or "all".
        start: Depth that untrained weights say, metres; 0 leaves it to chance.
        crop: Show random boxes of the network's size at the image's own resolution, instead of whole images.
        color_jitter: Probability of each of three changes of colour of a training view (`augmenting.jitter_colors`).
        flip: Whether one view in two is mirrored.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"image", "depth"})
    continues: ClassVar[tuple[str, ...]] = ("monodepth",)
    carries: ClassVar[tuple[str, ...]] = ("decoder.", "to_disparity.")

    size: tuple[int, int]
    min_depth: float = 0.1
    max_depth: float = 100.0
    scales: int = 4
    divide_by: str = "valid"
    start: float = 0.0
    crop: bool = False
    color_jitter: float = 0.0
    flip: bool = True

    def __post_init__(self):
        check_shape("lidar", self.size, self.scales)
        self.range.check("lidar", self.start, "metres")
        if self.divide_by not in DIVISORS:
            raise RecipeError(f"lidar: expected `divide_by` out of {', '.join(DIVISORS)}, found {self.divide_by!r}")
        if not 0 <= self.color_jitter <= 1:
            raise RecipeError(f"lidar: expected `color_jitter`, a probability, in [0, 1], found {self.color_jitter}")

    @property
    def range(self) -> DepthRange:
        """Return the depths that can be said, metres."""
        return DepthRange(self.min_depth, self.max_depth)

    def head(self, backbone: Backbone) -> DisparityHead:
        """Return decoder and output layers."""
        sigma = self.range.sigma(self.start) if self.start else 0.0
        return disparity_head(backbone, "lidar", self.scales, sigma=sigma)

    def prepare(self, sample: Sample, generator: Generator, train: bool) -> Sample:
        """Return `image` (3, h, w) float32 in [0, 1] and `depth` (1, h, w) metres, 0 = not measured."""
        fields = {name: sample[name] for name in ("image", "depth")}
        cut = resize_or_crop(fields, self.size, generator if train else None, crop=self.crop, mirror=self.flip)
        if train and self.color_jitter:
            cut["image"] = jitter_colors(cut["image"], self.color_jitter, generator)
        return cut

    def loss(self, backbone: Backbone, head: DisparityHead, batch: Sample) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum over the scales, and the finest one's error, metres."""
        truth = batch["depth"]
        valid, truth = truth > 0, truth.clamp(max=self.max_depth)
        share = valid.float().mean() if self.divide_by == "all" else 1.0
        errors = {}
        for stride, sigma in at_full_size(head(backbone.pyramid(batch["image"]))).items():
            errors[stride] = share * masked_l1(truth, self.range.depth(sigma), valid)
        loss = sum((error / stride for stride, error in errors.items()), start=truth.new_zeros(()))
        return loss, {"absolute": errors[1].detach()}

    def evaluate(self, backbone: Backbone, head: DisparityHead, batch: Sample) -> dict[str, Tensor]:
        """Return per image abs_rel and delta1, after median scaling, in metres, and of a constant beside them."""
        return errors_with_constant_baseline(self.predict(backbone, head, batch["image"]), batch["depth"], metres=True)

    def predict(self, backbone: Backbone, head: DisparityHead, images: Tensor) -> Tensor:
        """Return metres, (n, 1, h, w) float32, of images (n, 3, h, w) in [0, 1] at the focal length trained with."""
        return self.range.depth(head(backbone.pyramid(images))[1])
