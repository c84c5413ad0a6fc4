"""Depth from measured depth, as in the supervised arm of Depth-to-Semantic: absolute error in metres.

    L = sum_s 1/s mean_{valid u} | D_s(u) - min(z(u), max_depth) |,    s = 1, 2, 4, 8

D_s is the depth of stride s at full size, z the measurement: dense or sparse, 0 where nothing was measured (equation 14
of Lao et al., with the decoder and the scales of Monodepth2). Measurements beyond `max_depth` count as `max_depth`, as
in the released code. That code also divides by the number of all pixels, so that an image with few measurements counts
little; `divide_by = "all"` reproduces it.

All images have one focal length and depth in metres, so a view is the whole image or, with `crop`, an unscaled box.

Lao et al., "On the Viability of Monocular Depth Pre-training for Semantic Segmentation", ECCV 2024.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from cka_probe.images.sample import Sample
from cka_probe.lab.evaluation.depth import errors_with_constant_baseline
from cka_probe.lab.losses import masked_l1
from cka_probe.lab.tasks.decoders import at_full_size
from cka_probe.lab.tasks.disparity import DisparityHead, DisparityTask
from cka_probe.lab.tasks.task import check_options
from cka_probe.lab.transforms.augment import jitter_colors, resize_or_crop
from cka_probe.models.backbone import Backbone

DIVISORS = ("valid", "all")


@dataclass(frozen=True)
class Lidar(DisparityTask):
    """Predict metres.

    Attributes:
        divide_by: "valid": average the error over the measured pixels of the batch; "all": over all of its pixels.
        color_jitter: Probability of each of three colour changes of a training view (`augment.jitter_colors`).

    All others are as in `DisparityTask`.
    """

    name: ClassVar[str] = "lidar"
    unit_of_depth: ClassVar[str] = "metres"
    needs: ClassVar[frozenset[str]] = frozenset({"image", "depth"})
    continues: ClassVar[tuple[str, ...]] = ("monodepth",)

    divide_by: str = "valid"
    color_jitter: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        checks = [
            (f"`divide_by` out of {', '.join(DIVISORS)}", repr(self.divide_by), self.divide_by in DIVISORS),
            ("`color_jitter`, a probability, in [0, 1]", self.color_jitter, 0 <= self.color_jitter <= 1),
        ]
        check_options(self.name, checks)

    def prepare(self, sample: Sample, generator: Generator, train: bool) -> Sample:
        """Return `image` (3, h, w) float32 in [0, 1] and `depth` (1, h, w) metres, 0 = not measured."""
        fields = {name: sample[name] for name in ("image", "depth")}
        cut = resize_or_crop(fields, self.size, generator if train else None, crop=self.crop, mirror=self.flip)
        if train and self.color_jitter:
            cut["image"] = jitter_colors(cut["image"], self.color_jitter, generator)
        return cut

    def loss(self, backbone: Backbone, head: DisparityHead, batch: Sample) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum over the scales, and the error of the finest, metres; NaN if nothing is measured."""
        truth = batch["depth"]
        valid, truth = truth > 0, truth.clamp(max=self.max_depth)
        share = valid.float().mean() if self.divide_by == "all" else 1.0
        errors = {}
        for stride, sigma in at_full_size(head(backbone.pyramid(batch["image"]))).items():
            errors[stride] = share * masked_l1(truth, self.range.depth(sigma), valid)
        loss = sum((error / stride for stride, error in errors.items()), start=truth.new_zeros(()))
        return loss, {"absolute": errors[1].detach().where(valid.any(), torch.nan)}

    def evaluate(self, backbone: Backbone, head: DisparityHead, batch: Sample) -> dict[str, Tensor]:
        """Return abs_rel and delta1 of each image, in metres and after median scaling, and those of a constant."""
        return errors_with_constant_baseline(self.predict(backbone, head, batch["image"]), batch["depth"], metres=True)

    def predict(self, backbone: Backbone, head: DisparityHead, images: Tensor) -> Tensor:
        """Return metres, (n, 1, h, w) float32, of images (n, 3, h, w) in [0, 1] at the focal length trained with."""
        return self.range.depth(head(backbone.pyramid(images))[1])
