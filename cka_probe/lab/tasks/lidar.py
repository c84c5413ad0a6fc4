"""Depth from measured depth, as in the supervised arm of Depth-to-Semantic: absolute error in metres.

    L = sum_s 1/s mean_{valid u} | D_s(u) - min(z(u), max_depth) |,    s = 1, 2, 4, 8

D_s is the depth of stride s at full size, z the measurement: dense or sparse, 0 where nothing was measured (equation 14
of Lao et al., with the decoder and the scales of Monodepth2). Measurements beyond `max_depth` count as `max_depth`, as
in the released code. That code also divides by the number of all pixels, so that an image with few measurements counts
little; `divide_by = "all"` reproduces it, and `divide_by = "image"` its code for Cityscapes.

The decoder is Monodepth2's, or with `network = "deeplab"` DeepLabV3's with one output at stride 16, as for Cityscapes.

All images have one focal length and depth in metres, so a view is the whole image or, with `crop`, an unscaled box.

Lao et al., "On the Viability of Monocular Depth Pre-training for Semantic Segmentation", ECCV 2024.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from cka_probe.images.sample import Sample
from cka_probe.lab.evaluation.depth import errors_with_constant_baseline
from cka_probe.lab.losses import masked_l1
from cka_probe.lab.tasks.decoders import DEEPLAB_STRIDE, DeepLabHead, Maps, at_full_size, maps
from cka_probe.lab.tasks.disparity import DisparityTask
from cka_probe.lab.tasks.task import check_options
from cka_probe.lab.transforms.augment import resize_or_crop, vary_colors
from cka_probe.models.backbone import Backbone

DIVISORS = ("valid", "image", "all")
NETWORKS = ("skip", "deeplab")


class DeepLabDisparity(DeepLabHead):
    """The maps of a pyramid -> sigma (n, 1, H / 16, W / 16) float32 in (0, 1), by its stride."""

    def __init__(self, maps: Maps):
        super().__init__(maps, 1)

    def forward(self, pyramid: Sequence[Tensor]) -> dict[int, Tensor]:  # type: ignore[override]
        """Return sigma."""
        return {DEEPLAB_STRIDE: super().forward(pyramid).sigmoid()}


@dataclass(frozen=True)
class Lidar(DisparityTask):
    """Predict metres.

    Attributes:
        network: Decoder: "skip", Monodepth2's, or "deeplab", DeepLabV3's, for an encoder of output stride 16.
        divide_by: "valid": average the error over the measured pixels of the batch; "image": over those of each image,
            and then over images; "all": over all pixels of the batch.
        color_jitter: How much brightness, contrast and saturation of a training view vary (`augment.vary_colors`).
        jitter_probability: Of each of these changes.

    All others are as in `DisparityTask`.
    """

    name: ClassVar[str] = "lidar"
    unit_of_depth: ClassVar[str] = "metres"
    needs: ClassVar[frozenset[str]] = frozenset({"image", "depth"})

    network: str = "skip"
    divide_by: str = "valid"
    color_jitter: float = 0.0
    jitter_probability: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        checks = [
            (f"`network` out of {', '.join(NETWORKS)}", repr(self.network), self.network in NETWORKS),
            ("one of the `scales` for network 'deeplab'", self.scales, self.network == "skip" or self.scales == 1),
            (f"`divide_by` out of {', '.join(DIVISORS)}", repr(self.divide_by), self.divide_by in DIVISORS),
            ("`color_jitter` in [0, 1]", self.color_jitter, 0 <= self.color_jitter <= 1),
            ("`jitter_probability` in [0, 1]", self.jitter_probability, 0 <= self.jitter_probability <= 1),
        ]
        check_options(self.name, checks)

    @property
    def continues(self) -> tuple[str, ...]:
        """Return the tasks whose decoder it can continue with."""
        return ("monodepth",) if self.network == "skip" else ()

    @property
    def least_images(self) -> int:
        """Return the number of images at a time whose pooled values a batch norm of DeepLabV3 can compare."""
        return 2 if self.network == "deeplab" else 1

    def head(self, backbone: Backbone) -> nn.Module:  # type: ignore[override]
        """Return the decoder and its outputs."""
        return DeepLabDisparity(maps(backbone)) if self.network == "deeplab" else super().head(backbone)

    def prepare(self, sample: Sample, generator: Generator, train: bool) -> Sample:
        """Return `image` (3, h, w) float32 in [0, 1] and `depth` (1, h, w) metres, 0 = not measured."""
        fields = {name: sample[name] for name in ("image", "depth")}
        cut = resize_or_crop(fields, self.size, generator if train else None, crop=self.crop, mirror=self.flip)
        if train and self.color_jitter:
            cut["image"] = vary_colors(cut["image"], self.color_jitter, generator, self.jitter_probability)
        return cut

    def loss(self, backbone: Backbone, head: nn.Module, batch: Sample) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum over the scales, and the error of the finest, metres; NaN if nothing is measured."""
        truth = batch["depth"]
        valid, truth = truth > 0, truth.clamp(max=self.max_depth)
        sigmas = at_full_size(head(backbone.pyramid(batch["image"])))
        errors = {stride: self._error(self.range.depth(sigma), truth, valid) for stride, sigma in sigmas.items()}
        finest = min(errors)
        loss = sum((error * finest / stride for stride, error in errors.items()), start=truth.new_zeros(()))
        return loss, {"absolute": errors[finest].detach().where(valid.any(), torch.nan)}

    def _error(self, depth: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
        """Return the absolute error, divided as `divide_by` says; 0 if nothing is measured."""
        if self.divide_by == "image":
            sums = ((depth - truth).abs() * valid).sum((1, 2, 3))
            return (sums / valid.sum((1, 2, 3)).clamp(min=1)).mean()
        share = valid.float().mean() if self.divide_by == "all" else 1.0
        return share * masked_l1(truth, depth, valid)

    def evaluate(self, backbone: Backbone, head: nn.Module, batch: Sample) -> dict[str, Tensor]:
        """Return abs_rel and delta1 of each image, in metres and after median scaling, and those of a constant."""
        return errors_with_constant_baseline(self.predict(backbone, head, batch["image"]), batch["depth"], metres=True)

    def predict(self, backbone: Backbone, head: nn.Module, images: Tensor) -> Tensor:
        """Return metres, (n, 1, h, w) float32, of images (n, 3, h, w) in [0, 1] at the focal length trained with."""
        sigmas = at_full_size(head(backbone.pyramid(images)))
        return self.range.depth(sigmas[min(sigmas)])
